/*!
What was typed in earlier sessions: `$OMENDB_HISTORY`, else `$XDG_STATE_HOME/omendb/history`, else
`~/.local/state/omendb/history`. An empty `$OMENDB_HISTORY` means none. Only its owner may read the file.
*/

use reedline::{FileBackedHistory, History};
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};

/// Submissions that are remembered.
const ENTRIES_MAX: usize = 10_000;

/// The history; `None` when there is to be none. The error is for a note: the shell works without.
pub(super) fn open() -> Result<Option<Box<dyn History>>, String> {
    let Some(path) = path() else { return Ok(None) };
    let failed = |e: &dyn std::fmt::Display| format!("no history: cannot use {}: {e}", path.display());
    make(&path).map_err(|e| failed(&e))?;
    let history = FileBackedHistory::with_file(ENTRIES_MAX, path.clone()).map_err(|e| failed(&e))?;
    Ok(Some(Box::new(history)))
}

fn path() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("OMENDB_HISTORY") {
        return (!path.is_empty()).then(|| path.into());
    }
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))?;
    Some(base.join("omendb").join("history"))
}

/// Makes the file, so that its mode is ours to choose.
fn make(path: &Path) -> std::io::Result<()> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(|_| ())
}
