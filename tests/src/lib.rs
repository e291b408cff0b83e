/*!
What the end-to-end tests share: where the samples lie, answers as text, and how two answers compare.
*/

pub mod answer;
pub mod workload;

use std::path::PathBuf;

/// The repository's root.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The samples that the repository carries.
pub fn samples() -> PathBuf {
    root().join("samples")
}

/// The full data files, where this machine has them: beside the repository, in `shared/data`.
pub fn full_data() -> Option<PathBuf> {
    let dir = root().join("../shared/data");
    dir.join("flights-3m.parquet").exists().then_some(dir)
}
