/*!
The workspaces beside the main one, `benches/micro`, `benches/peers` and `engine/fuzz`, build the engine with lock files of their own, and nobody builds
them in an ordinary run. So this holds their lock files against what the engine depends on: one that is behind would stop
`cargo build --locked` on a fresh machine.
*/

#![allow(clippy::panic, clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The names in all `dependencies` sections of the engine's manifest, those of tests and build scripts apart.
fn depended_on() -> BTreeSet<String> {
    let manifest = read("engine/Cargo.toml");
    let mut inside = false;
    let mut names = BTreeSet::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            let section = line.trim_matches(['[', ']']);
            inside = section == "dependencies" || section.ends_with(".dependencies");
        } else if let Some(name) = line.split(['.', ' ', '=']).next().filter(|name| inside && !name.is_empty())
            && !name.starts_with('#')
        {
            names.insert(name.to_owned());
        }
    }
    names
}

/// What a lock file says that the engine depends on.
fn locked(path: &str) -> BTreeSet<String> {
    let lock = read(path);
    let (_, entry) = lock.split_once("name = \"omendb-engine\"").unwrap();
    let (_, list) = entry.split_once("dependencies = [").unwrap();
    let (list, _) = list.split_once(']').unwrap();
    let names = list.split(',').map(|name| name.trim().trim_matches('"'));
    names.filter_map(|name| name.split(' ').next()).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

#[test]
fn lock_files_of_other_workspaces_know_what_the_engine_depends_on() {
    let expected = depended_on();
    assert!(expected.contains("arrow") && expected.contains("io-uring"), "{expected:?}");
    for path in ["benches/micro/Cargo.lock", "benches/peers/Cargo.lock", "engine/fuzz/Cargo.lock"] {
        assert_eq!(locked(path), expected, "{path} is behind: run `cargo update --workspace` beside it");
    }
}
