//! What documents decide, case by case: the cases are files of `tests/data/decisions`, each sound YAML with what is expected
//! in its comments. Whatever `check` finds of a case stands there too, so that nothing is found that is not so and nothing
//! is silent.
//!
//! A case begins with `# === name`. In it stand
//! - `# ? http://host:port/path name=value… => answer`: a request (also `https://`; `sni=` names another server name, and
//!   `sni=` alone none, `to=` the address, `method=` the method) and what becomes of it (see [`answer`]);
//!   With ` @10.0.0.1:80,…` behind it, which endpoints may be chosen;
//! - `# ! severity code document field`: a finding, in the order of `check`;
//! - `# + services a b/team`: a Service on port 80 with an endpoint for each name, in a namespace;
//! - `# + certificate name host`: a Secret of the gateway's namespace with a certificate;
//! - `# + gateway`, `route`, `tls`, `tcp`, `rule`: a Gateway, VirtualService or DestinationRule in short (see [`made`]);
//! - `# @ namespace=… label=value…`: which gateway it is, where it is not the usual one.

#[path = "decisions/case.rs"]
mod case;
#[path = "decisions/made.rs"]
mod made;
#[path = "decisions/told.rs"]
mod told;

use std::path::Path;

use case::Case;

/// Runs the cases of a file; all that is not as expected is told at once, as lines that could stand in the file.
fn hold(file: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/decisions").join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let cases = Case::all(&text);
    let only = std::env::var("CASE").unwrap_or_default();
    let wrong: Vec<String> =
        cases.iter().filter(|case| case.name.contains(&only)).filter_map(told::difference).collect();
    assert!(wrong.is_empty(), "{} of {} cases of {file}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

macro_rules! files {
    ($($test:ident: $file:literal,)+) => {
        $(#[test]
        fn $test() {
            hold($file);
        })+

        /// No file is forgotten.
        #[test]
        fn every_file_is_held() {
            let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/decisions");
            let mut files: Vec<String> = std::fs::read_dir(directory)
                .expect("the cases")
                .map(|entry| entry.expect("a file").file_name().to_string_lossy().into_owned())
                .collect();
            files.sort();
            assert_eq!(files, [$($file),+]);
        }
    };
}

files! {
    delegates_have_their_places: "delegates.yaml",
    destinations_lead_to_clusters_and_their_rules: "destinations.yaml",
    slips_are_told_of: "documents.yaml",
    gateways_are_selected_and_merged: "gateways.yaml",
    servers_and_virtual_services_meet_on_hosts: "hosts.yaml",
    bytes_have_rules_of_their_own: "l4.yaml",
    the_gateways_own_service_says_where_it_listens: "ports.yaml",
    services_and_entries_have_endpoints: "registry.yaml",
    a_client_hello_chooses_a_server: "tls.yaml",
}
