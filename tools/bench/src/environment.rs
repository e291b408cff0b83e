/*!
The machine that a run was on, as far as the system tells.
*/

use serde::{Deserialize, Serialize};
use std::path::Path;

/// What figures depend on, and no setting says.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Environment {
    /// The processor's name.
    pub(crate) cpu: String,
    /// Processors that this process may use.
    pub(crate) cores: usize,
    /// Bytes of memory.
    pub(crate) memory_bytes: u64,
    /// The operating system and its kernel.
    pub(crate) kernel: String,
    /// The database's file system: its type and where it comes from.
    pub(crate) filesystem: String,
    /// "release", or "debug" for a program that was built without optimisation.
    pub(crate) build: String,
}

impl Environment {
    /// Of this machine, and the file system that `dir` is on.
    pub(crate) fn look(dir: Option<&Path>) -> Environment {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let unknown = || "unknown".to_owned();
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let kibibytes = field(&read("/proc/meminfo"), "MemTotal").unwrap_or_default();
        let kibibytes: u64 = kibibytes.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0);
        let release = read("/proc/sys/kernel/osrelease");
        let mounts = read("/proc/self/mountinfo");
        let dir = dir.and_then(|dir| std::fs::canonicalize(dir).ok());
        Environment {
            cpu: field(&read("/proc/cpuinfo"), "model name").unwrap_or_else(unknown),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: kibibytes * 1024,
            kernel: format!("{} {}", std::env::consts::OS, release.trim()).trim_end().to_owned(),
            filesystem: dir.and_then(|dir| filesystem(&mounts, &dir)).unwrap_or_else(unknown),
            build: if cfg!(debug_assertions) { "debug" } else { "release" }.to_owned(),
        }
    }
}

/// Type and source of the file system that a path is on, out of `/proc/self/mountinfo`: the last one of those mounted deepest.
fn filesystem(mounts: &str, path: &Path) -> Option<String> {
    let mount = |line: &str| {
        let (before, after) = line.split_once(" - ")?;
        // The system writes a space in a name as \040.
        let point = before.split(' ').nth(4)?.replace("\\040", " ");
        let mut rest = after.split(' ');
        let (kind, source) = (rest.next()?.to_owned(), rest.next()?.to_owned());
        path.starts_with(&point).then_some((Path::new(&point).components().count(), format!("{kind} on {source}")))
    };
    mounts.lines().filter_map(mount).max_by_key(|(depth, _)| *depth).map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deepest_mount_counts_and_of_several_there_the_last() {
        let mounts = "22 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n\
            23 22 0:5 / /tmp rw shared:1 - tmpfs tmpfs rw\n\
            24 22 0:6 / /mnt/a\\040b rw - xfs /dev/vdb rw\n\
            25 22 0:7 / /tmp rw - btrfs /dev/vdc rw\n";
        let of = |path: &str| filesystem(mounts, Path::new(path)).unwrap();
        assert_eq!(of("/home/x"), "ext4 on /dev/vda");
        assert_eq!(of("/tmp/x"), "btrfs on /dev/vdc");
        assert_eq!(of("/tmpx"), "ext4 on /dev/vda");
        assert_eq!(of("/mnt/a b/db"), "xfs on /dev/vdb");
    }
}
