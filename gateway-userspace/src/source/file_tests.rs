//! Files and directories as sources: what is read, and what is kept when a file breaks.

use std::fs;
use std::path::PathBuf;

use super::*;

fn gateway(name: &str, port: u32) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: {name}}}\nspec:\n  servers:\n  - port: \
         {{number: {port}, name: http, protocol: HTTP}}\n    hosts: [\"*\"]\n"
    )
}

/// Names of the Gateways in force and the numbers of their ports.
type Ports = Vec<(String, u32)>;

fn ports(loaded: &Loaded) -> Ports {
    let of = |gateway: &crate::api::Gateway| gateway.servers[0].port.as_ref().map_or(0, |port| port.number);
    loaded.objects.gateways.iter().map(|gateway| (gateway.name().to_string(), of(&gateway.spec))).collect()
}

fn codes(loaded: &Loaded) -> Vec<&'static str> {
    loaded.diagnostics.iter().map(|found| found.code.as_str()).collect()
}

/// Writes one state of a file after the other, and tells what is in force and reported after each.
fn states(states: &[String]) -> Vec<(Ports, Vec<&'static str>)> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("a.yaml");
    let mut source = FileSource::new(vec![directory.path().to_owned()], "default");
    let mut seen = Vec::new();
    for state in states {
        fs::write(&file, state).unwrap();
        let loaded = source.load();
        seen.push((ports(&loaded), codes(&loaded)));
    }
    seen
}

fn named(pairs: &[(&str, u32)]) -> Ports {
    pairs.iter().map(|(name, port)| ((*name).to_owned(), *port)).collect()
}

#[test]
fn the_last_sound_state_of_a_broken_document_stays_in_force() {
    let both = |a: &str, b: &str| format!("{a}---\n{b}");
    let seen = states(&[
        both(&gateway("a", 80), &gateway("b", 81)),
        // No YAML, but its name can be told.
        both(&gateway("a", 80).replace("  servers:", "\tservers:"), &gateway("b", 82)),
        // Against the rules of its kind.
        both(&gateway("a", 0), &gateway("b", 83)),
        // Nothing can be told of it.
        both("kind: [\n", &gateway("b", 84)),
        // Mended.
        both(&gateway("a", 90), &gateway("b", 85)),
        // Removed.
        gateway("b", 86),
    ]);
    assert_eq!(
        seen,
        [
            (named(&[("a", 80), ("b", 81)]), vec![]),
            (named(&[("a", 80), ("b", 82)]), vec!["SLU0001", "SLU0008"]),
            (named(&[("a", 80), ("b", 83)]), vec!["IST0106", "SLU0008"]),
            (named(&[("a", 80), ("b", 84)]), vec!["SLU0001", "SLU0008"]),
            (named(&[("a", 90), ("b", 85)]), vec![]),
            (named(&[("b", 86)]), vec![]),
        ]
    );
}

#[test]
fn a_named_document_that_is_not_sound_hides_no_other() {
    let policy = "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p}\n";
    let seen = states(&[
        format!("{}{policy}---\n{}", gateway("a", 80), gateway("b", 0)),
        format!("{policy}---\n{}", gateway("b", 0)),
    ]);
    assert_eq!(seen[0].0, named(&[("a", 80)]));
    assert_eq!(seen[1].0, named(&[]));
}

#[test]
fn a_document_that_was_never_sound_is_not_in_force() {
    assert_eq!(states(&[gateway("a", 0)]), [(vec![], vec!["IST0106"])]);
}

#[test]
fn a_deleted_file_takes_its_documents_along() {
    let directory = tempfile::tempdir().unwrap();
    let (a, b) = (directory.path().join("a.yaml"), directory.path().join("b.yaml"));
    fs::write(&a, gateway("a", 80)).unwrap();
    fs::write(&b, gateway("b", 81)).unwrap();
    let mut source = FileSource::new(vec![a.clone(), b.clone()], "default");
    assert_eq!(ports(&source.load()), named(&[("a", 80), ("b", 81)]));
    fs::remove_file(&a).unwrap();
    let loaded = source.load();
    assert_eq!((ports(&loaded), codes(&loaded)), (named(&[("b", 81)]), vec!["SLU0007"]));
}

#[test]
fn a_document_that_is_there_twice_is_an_error_and_the_first_stays() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("a.yaml"), gateway("a", 80)).unwrap();
    fs::write(directory.path().join("b.yml"), gateway("a", 81)).unwrap();
    let loaded = FileSource::new(vec![directory.path().to_owned()], "default").load();
    assert_eq!((ports(&loaded), codes(&loaded)), (named(&[("a", 80)]), vec!["SLU0006"]));
    let first = loaded.diagnostics[0].related[0].position.as_ref().unwrap();
    assert!(first.file.ends_with("a.yaml"), "{first:?}");
}

#[test]
fn a_mounted_config_map_is_read_once_and_hidden_files_are_not() {
    let directory = tempfile::tempdir().unwrap();
    let at = |path: &str| directory.path().join(path);
    fs::create_dir_all(at("..2024")).unwrap();
    fs::write(at("..2024/a.yaml"), gateway("a", 80)).unwrap();
    std::os::unix::fs::symlink("..2024", at("..data")).unwrap();
    std::os::unix::fs::symlink("..data/a.yaml", at("a.yaml")).unwrap();
    fs::write(at(".a.yaml.swp"), "x").unwrap();
    fs::write(at("README.md"), "x").unwrap();
    fs::create_dir_all(at("sub/dir")).unwrap();
    fs::write(at("sub/dir/b.yaml"), gateway("b", 81)).unwrap();
    std::os::unix::fs::symlink("..", at("sub/loop")).unwrap();
    let loaded = FileSource::new(vec![directory.path().to_owned(), at("a.yaml")], "default").load();
    assert_eq!((ports(&loaded), codes(&loaded)), (named(&[("a", 80), ("b", 81)]), vec![]));
}

#[test]
fn what_cannot_be_read_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let at = |path: &str| directory.path().join(path);
    fs::write(at("large.yaml"), vec![b'#'; MAX_FILE as usize + 1]).unwrap();
    fs::write(at("latin.yaml"), b"a: 1\nb: \xe9\n").unwrap();
    let paths: Vec<PathBuf> = ["large.yaml", "latin.yaml", "none.yaml"].iter().map(|name| at(name)).collect();
    let loaded = FileSource::new(paths, "default").load();
    let words = ["larger than 4 MiB", "not UTF-8 text (line 2)", "No such file"];
    assert_eq!(loaded.diagnostics.len(), words.len());
    for (found, words) in loaded.diagnostics.iter().zip(words) {
        assert!(found.message.contains(words), "{}", found.message);
    }
}

#[test]
fn a_list_holds_documents() {
    let item = gateway("a", 80).trim_end().replace('\n', "\n  ");
    let list = format!("apiVersion: v1\nkind: List\nitems:\n- {item}\n");
    assert_eq!(states(&[list]), [(named(&[("a", 80)]), vec![])]);
}

#[test]
fn a_document_stays_the_same_object_while_its_lines_say_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("a.yaml");
    let mut source = FileSource::new(vec![file.clone()], "default");
    let mut load = |parts: [(&str, u32); 3]| {
        let text: Vec<String> = parts.iter().map(|(name, port)| gateway(name, *port)).collect();
        fs::write(&file, text.join("---\n")).unwrap();
        let gateways = source.load().objects.gateways;
        ["a", "b", "c"].map(|name| gateways.iter().find(|gateway| &**gateway.name() == name).cloned())
    };
    let stays = |one: &Option<_>, other: &Option<_>| match (one, other) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        _ => false,
    };
    let first = load([("a", 80), ("b", 81), ("c", 82)]);
    // Longer, on as many lines.
    let second = load([("a", 80), ("b", 8100), ("c", 82)]);
    assert_eq!([0, 1, 2].map(|at| stays(&first[at], &second[at])), [true, false, true]);
    let third = load([("a", 80), ("c", 82), ("b", 8100)]);
    assert_eq!([0, 1, 2].map(|at| stays(&second[at], &third[at])), [true, false, false], "other lines");
}
