//! A node's part of the machine's control groups, in each hierarchy that is mounted: version 1 has several, version 2 one.

use std::fs;
use std::path::PathBuf;

use super::warden::Warden;

/// Makes a group of that name everywhere, which goes with the warden.
pub(super) fn make(name: &str, warden: &mut Warden) {
    for hierarchy in hierarchies() {
        let group = hierarchy.join(name);
        fs::create_dir(&group).unwrap_or_else(|error| panic!("{}: {error}", group.display()));
        // Processes that were killed leave their groups when they have ended, a moment later.
        warden.undo(&format!(
            "for turn in $(seq 200); do find {0} -depth -type d -exec rmdir {{}} + 2>/dev/null; \
             [ -d {0} ] || break; sleep 0.05; done; [ ! -d {0} ] || echo {0} is left >&2",
            group.display()
        ));
        // In version 1 a group has no processors until it is given some.
        for setting in ["cpuset.cpus", "cpuset.mems"] {
            if let Ok(all) = fs::read_to_string(hierarchy.join(setting)) {
                fs::write(group.join(setting), all).expect(setting);
            }
        }
    }
}

fn hierarchies() -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").expect("mounts");
    let hierarchy = |line: &str| {
        let mut words = line.split(' ').skip(1);
        let place = words.next()?;
        words.next()?.starts_with("cgroup").then(|| place.into())
    };
    mounts.lines().filter_map(hierarchy).collect()
}
