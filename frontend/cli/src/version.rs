/*!
What `--version` says: the version, the git revision it was built from, and the format it writes.
*/

/// "0.1.0 (git 0123456789ab, format 1)".
pub fn version() -> &'static str {
    static TEXT: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    TEXT.get_or_init(|| {
        let format = omendb_sql::FORMAT_VERSION;
        format!("{} (git {}, format {format})", env!("CARGO_PKG_VERSION"), git_revision())
    })
}

/// The git revision that this was built from, twelve digits; "unknown" outside a checkout.
pub fn git_revision() -> &'static str {
    env!("OMENDB_GIT_REVISION")
}
