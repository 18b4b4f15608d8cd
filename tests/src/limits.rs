//! Open files that a process may have: as many as the machine lets us, for us and for what we start.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// More is not asked for: tables of some programs are as long as their limit.
const ENOUGH: u64 = 131_072;

/// Raises the limit as far as it goes, once, and returns it. What is started afterwards has it too.
pub fn descriptors() -> u64 {
    let raise = |hard: u64| {
        let limit = Rlimit { current: Some(hard), maximum: Some(hard) };
        setrlimit(Resource::Nofile, limit).is_ok().then_some(hard)
    };
    let now = getrlimit(Resource::Nofile);
    let allowed = now.maximum.unwrap_or(ENOUGH);
    if now.current.is_none_or(|current| current >= ENOUGH) {
        return ENOUGH;
    }
    // Beyond the hard limit only with CAP_SYS_RESOURCE.
    raise(ENOUGH.max(allowed)).or_else(|| raise(allowed)).or(now.current).unwrap_or(allowed).min(ENOUGH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_in_force() {
        let said = descriptors();
        let now = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        assert!(said <= now, "{said} {now}");
        assert!(said > 0);
    }
}
