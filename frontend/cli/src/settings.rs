/*!
Settings: flag > environment (`OMENDB_*`) > `omendb.toml` in the database directory > the user's `config.toml`.

clap reads the first two; this file reads the others and lays them under. A file with a key that nobody knows is an
error that names it: a setting that is accepted works.
*/

use crate::size;
use clap::Args;
use omendb_sql::{OpenOptions, SyncMode};
use serde::Deserialize;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The name of the file in a database directory.
pub const DATABASE_FILE: &str = "omendb.toml";

/// Settings that all programs which open a database share.
#[derive(Debug, Clone, Default, Args)]
pub struct DatabaseArgs {
    /// When a commit is acknowledged: "always" (on the device), "none", or a time such as "100ms"
    #[arg(long, env = "OMENDB_SYNC", value_name = "MODE", help_heading = "Database")]
    pub sync: Option<String>,
    /// Memory for all of the database: cache, statements, loads, merges; for example 1GiB
    #[arg(long, env = "OMENDB_MEMORY", value_name = "SIZE", help_heading = "Database")]
    pub memory: Option<String>,
    /// Memory for the cache of run blocks at most, for example 256MiB
    #[arg(long, env = "OMENDB_CACHE", value_name = "SIZE", help_heading = "Database")]
    pub cache: Option<String>,
}

/// What a settings file may say.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileSettings {
    /// As `--sync`.
    pub sync: Option<String>,
    /// As `--memory`.
    pub memory: Option<String>,
    /// As `--cache`.
    pub cache: Option<String>,
    /// As `--color`.
    pub color: Option<String>,
    /// The shell's `--format`.
    pub format: Option<String>,
    /// Seconds (or text such as "30s") that a statement may take; `statement_timeout` of each session.
    pub statement_timeout: Option<String>,
    /// The program that shows long results, in place of `$PAGER`.
    pub pager: Option<String>,
}

/// What is wrong with a setting, and where it was said.
#[derive(Debug)]
pub struct SettingsError(String);

impl SettingsError {
    /// A sentence that names the setting.
    pub fn new(sentence: impl Into<String>) -> SettingsError {
        SettingsError(sentence.into())
    }
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SettingsError {}

impl FileSettings {
    /// Both files, the database's over the user's. A file that is absent says nothing.
    ///
    /// # Errors
    /// A file that cannot be read, is not TOML, or has an unknown key.
    pub fn load(database: Option<&Path>) -> Result<FileSettings, SettingsError> {
        let user = match user_file() {
            Some(path) => FileSettings::read(&path)?,
            None => FileSettings::default(),
        };
        match database {
            Some(dir) => Ok(FileSettings::read(&dir.join(DATABASE_FILE))?.over(user)),
            None => Ok(user),
        }
    }

    fn read(path: &Path) -> Result<FileSettings, SettingsError> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
                return Ok(FileSettings::default());
            }
            Err(e) => return Err(SettingsError(format!("cannot read {}: {e}", path.display()))),
        };
        toml::from_str(&text).map_err(|e| SettingsError(format!("{}: {}", path.display(), e.to_string().trim_end())))
    }

    fn over(self, under: FileSettings) -> FileSettings {
        FileSettings {
            sync: self.sync.or(under.sync),
            memory: self.memory.or(under.memory),
            cache: self.cache.or(under.cache),
            color: self.color.or(under.color),
            format: self.format.or(under.format),
            statement_timeout: self.statement_timeout.or(under.statement_timeout),
            pager: self.pager.or(under.pager),
        }
    }
}

/// `$XDG_CONFIG_HOME/omendb/config.toml`, or `~/.config/omendb/config.toml`.
fn user_file() -> Option<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    let base = absolute("XDG_CONFIG_HOME").or_else(|| absolute("HOME").map(|home| home.join(".config")))?;
    Some(base.join("omendb").join("config.toml"))
}

impl DatabaseArgs {
    /// The options to open `dir` with: flags and environment over `files`.
    ///
    /// # Errors
    /// A value that makes no sense, with its setting's name.
    pub fn open_options(&self, dir: Option<PathBuf>, files: &FileSettings) -> Result<OpenOptions, SettingsError> {
        let mut options = OpenOptions { dir, ..OpenOptions::default() };
        let named = |name: &str, e: String| SettingsError(format!("{name}: {e}"));
        if let Some(sync) = self.sync.as_ref().or(files.sync.as_ref()) {
            options.sync = sync_mode(sync).map_err(|e| named("sync", e))?;
        }
        if let Some(memory) = self.memory.as_ref().or(files.memory.as_ref()) {
            options.memory_bytes = Some(bytes(memory).map_err(|e| named("memory", e))?);
        }
        if let Some(cache) = self.cache.as_ref().or(files.cache.as_ref()) {
            options.cache_bytes = Some(bytes(cache).map_err(|e| named("cache", e))?);
        }
        Ok(options)
    }
}

/// Bytes as this machine counts them.
///
/// # Errors
/// A sentence that says what would be right.
pub fn bytes(text: &str) -> Result<usize, String> {
    usize::try_from(size::parse(text)?).map_err(|_| format!("{text} is more than this machine can address"))
}

fn sync_mode(text: &str) -> Result<SyncMode, String> {
    match text {
        "always" => Ok(SyncMode::Always),
        "none" => Ok(SyncMode::None),
        _ => {
            let millis = text.strip_suffix("ms").and_then(|n| n.trim().parse::<u64>().ok()).filter(|n| *n > 0);
            let millis = millis
                .ok_or_else(|| format!("{text:?} is none of \"always\", \"none\", or a time such as \"100ms\""))?;
            Ok(SyncMode::Interval(Duration::from_millis(millis)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_wins_over_the_databases_file() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(DATABASE_FILE), "memory = \"2GiB\"\nsync = \"100ms\"\n").unwrap();
        let files = FileSettings::read(&dir.path().join(DATABASE_FILE)).unwrap();
        let args = DatabaseArgs { memory: Some("1GiB".into()), ..DatabaseArgs::default() };
        let options = args.open_options(None, &files).unwrap();
        assert_eq!(options.memory_bytes, Some(1 << 30));
        assert_eq!(options.sync, SyncMode::Interval(Duration::from_millis(100)));
    }

    #[test]
    fn an_unknown_key_is_an_error_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(DATABASE_FILE), "memroy = \"2GiB\"\n").unwrap();
        let error = FileSettings::load(Some(dir.path())).unwrap_err().to_string();
        assert!(error.contains("memroy") && error.contains(DATABASE_FILE), "{error}");
    }

    #[test]
    fn senseless_values_are_errors_that_name_the_setting() {
        let args = DatabaseArgs { sync: Some("sometimes".into()), ..DatabaseArgs::default() };
        let error = args.open_options(None, &FileSettings::default()).unwrap_err().to_string();
        assert!(error.starts_with("sync: \"sometimes\""), "{error}");
    }
}
