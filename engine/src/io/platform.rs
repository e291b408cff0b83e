/*!
Which back end a database in a directory gets.

`uring` where the system lets it, else `posix`, which works everywhere: containers whose seccomp profile forbids io_uring,
kernels that are too old or have it switched off, too little lockable memory. Then [`Io::notice`] says so, and why, in one
sentence, which the database's statistics carry on and programs show; the engine itself prints nothing. What may differ from file to
file, as direct I/O does between file systems, `uring` decides when it opens one.

The environment variable [`VARIABLE`] overrides: `posix` never tries io_uring, and `uring` makes its absence an error.
*/

use super::posix::posix_because;
use super::{IoRef, posix};
use crate::error::{Error, Result};

/// Names the back end to use: `auto`, `uring` or `posix`.
const VARIABLE: &str = "OMENDB_IO";

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    Auto,
    Uring,
    Posix,
}

/// The operating system's files, through the best back end that it lets us use.
///
/// # Errors
/// `InvalidArgument` where the environment variable `OMENDB_IO` names a back end that is not known, or not to be had.
pub fn platform() -> Result<IoRef> {
    choose(wish(std::env::var_os(VARIABLE).map(|value| value.to_string_lossy().into_owned()).as_deref())?, probe)
}

fn wish(variable: Option<&str>) -> Result<Wish> {
    match variable {
        None | Some("" | "auto") => Ok(Wish::Auto),
        Some("uring") => Ok(Wish::Uring),
        Some("posix") => Ok(Wish::Posix),
        Some(other) => Err(Error::invalid(format!("{VARIABLE} is '{other}'; it may be auto, uring or posix"))),
    }
}

/// `probe` gives the better back end, or the reason why it is not to be had.
fn choose(wish: Wish, probe: impl FnOnce() -> Result<IoRef, String>) -> Result<IoRef> {
    if wish == Wish::Posix {
        return Ok(posix());
    }
    match probe() {
        Ok(io) => Ok(io),
        Err(reason) if wish == Wish::Uring => {
            Err(Error::invalid(format!("{VARIABLE} asks for io_uring, which is not to be had: {reason}")))
        }
        Err(reason) => {
            Ok(posix_because(format!("io_uring is not to be had ({reason}); files go through blocking system calls")))
        }
    }
}

/// Bytes of memory that the machine has, or that this process's group may take where that is less; `None` where the system
/// does not say.
#[expect(clippy::disallowed_methods, reason = "a part of the back end that meets the operating system")]
pub fn machine_memory_bytes() -> Option<u64> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let total = read("/proc/meminfo").as_deref().and_then(total_of);
    let groups = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let limits = groups.into_iter().filter_map(|path| read(path)?.trim().parse().ok());
    limits.chain(total).min()
}

/// What `/proc/meminfo` says in its line `MemTotal: … kB`.
fn total_of(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(target_os = "linux")]
fn probe() -> Result<IoRef, String> {
    super::uring()
}

#[cfg(not(target_os = "linux"))]
fn probe() -> Result<IoRef, String> {
    Err("only Linux has it".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn refused() -> Result<IoRef, String> {
        Err("io_uring_setup: Operation not permitted".to_owned())
    }

    #[test]
    fn the_machines_memory_is_read_from_the_system() {
        assert_eq!(total_of("MemTotal:       24576000 kB\nMemFree: 1 kB\n"), Some(24_576_000 * 1024));
        assert_eq!(total_of("MemFree: 1 kB\n"), None);
        assert_eq!(total_of("MemTotal: many kB\n"), None);
        assert!(!cfg!(target_os = "linux") || machine_memory_bytes().is_some_and(|bytes| bytes > 1 << 20));
    }

    #[test]
    fn a_refusal_falls_back_with_a_notice() {
        let io = choose(Wish::Auto, refused).unwrap();
        assert_eq!(io.name(), "posix");
        let notice = io.notice().unwrap();
        assert!(notice.contains("io_uring_setup: Operation not permitted"), "{notice}");
    }

    #[test]
    fn a_refusal_of_what_was_demanded_is_an_error() {
        let error = choose(Wish::Uring, refused).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.message().contains("Operation not permitted"), "{error}");
    }

    #[test]
    fn posix_can_be_forced_and_is_no_cause_for_a_notice() {
        let io = choose(Wish::Posix, || Err("must not be tried".to_owned())).unwrap();
        assert_eq!((io.name(), io.notice()), ("posix", None));
    }

    #[test]
    fn a_wish_that_nobody_knows_is_refused() {
        assert_eq!(wish(None).unwrap(), Wish::Auto);
        assert_eq!(wish(Some("")).unwrap(), Wish::Auto);
        assert_eq!(wish(Some("uring")).unwrap(), Wish::Uring);
        assert_eq!(wish(Some("posix")).unwrap(), Wish::Posix);
        assert_eq!(wish(Some("io_uring")).unwrap_err().kind(), ErrorKind::InvalidArgument);
    }
}
