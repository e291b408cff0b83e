/*!
Cold runs: before each operation nothing of the database's files lies in memory, and the kernel's own counts say that the operation
read the device.

Before an operation the database's cache is emptied, the kernel is told to drop the pages that it has of the runs' files
(`posix_fadvise`), and asked whether it did (`mincore`). Around the operation it is asked how many bytes this process had read
from devices (`read_bytes` in `/proc/self/io`). A run where pages stay, as on a file system in memory, or where an operation has read nothing
from the device, is refused: it would be a warm one under another name.

What an open database keeps of its runs beside the cache stays: indexes, and where vectors lie. And what the host of a virtual machine
keeps in its memory no guest can see.

One client works at a time: what one has read another would find, and the kernel does not say who read what.
*/

use crate::environment::Environment;
use crate::failure::Failure;
use omendb_engine::Error;
use omendb_engine::db::Db;
use pages::{drop_pages, pages_in_memory};
use std::fs::File;
use std::path::{Path, PathBuf};

/// What the names of the runs' files begin with.
const RUN_PREFIX: &str = "run-";

/// Where the kernel counts.
const COUNTS: &str = "/proc/self/io";

/// Sees to it that operations are cold.
pub(crate) struct Cold {
    db: Db,
    dir: PathBuf,
    /// Names of the operations.
    operations: Vec<String>,
}

/// A cold operation under way.
pub(crate) struct Begun<'a> {
    cold: &'a Cold,
    /// What had been read from devices before it.
    before: u64,
}

impl Cold {
    /// For a database with all its rows in runs.
    ///
    /// # Errors
    /// That it can't be made sure that reads are cold, and why.
    pub(crate) fn new(db: Db, operations: Vec<String>) -> Result<Cold, Failure> {
        let dir = db.dir().ok_or_else(|| Failure::Cold("the database lies in memory".into()))?.to_owned();
        let cold = Cold { db, dir, operations };
        if cold.db.stats()?.memtable_bytes > 0 {
            return Err(Error::internal("rows lie in memtables where all should be in runs").into());
        }
        device_bytes()?;
        cold.begin()?;
        Ok(cold)
    }

    /// Makes the next operation cold.
    ///
    /// # Errors
    /// That it can't be, and why.
    pub(crate) fn begin(&self) -> Result<Begun<'_>, Failure> {
        self.forget()?;
        Ok(Begun { cold: self, before: device_bytes()? })
    }

    /// Empties the cache, and has the kernel drop what it has of the runs.
    fn forget(&self) -> Result<(), Failure> {
        self.db.clear_cache();
        let entries = std::fs::read_dir(&self.dir).map_err(|e| Failure::file("list", &self.dir, e))?;
        for entry in entries {
            let entry = entry.map_err(|e| Failure::file("list", &self.dir, e))?;
            if !entry.file_name().to_string_lossy().starts_with(RUN_PREFIX) {
                continue;
            }
            let path = entry.path();
            let file = File::open(&path).map_err(|e| Failure::file("open", &path, e))?;
            drop_pages(&file).map_err(|e| Failure::file("drop the pages of", &path, e))?;
            let stay =
                pages_in_memory(&file).map_err(|e| Failure::file("look which pages are in memory of", &path, e))?;
            if stay > 0 {
                return Err(Failure::Cold(self.staying(&path, stay)));
            }
        }
        Ok(())
    }

    fn staying(&self, path: &Path, pages: usize) -> String {
        let filesystem = Environment::look(Some(&self.dir)).filesystem;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let why = match filesystem.starts_with("tmpfs") || filesystem.starts_with("ramfs") {
            true => format!("its file system keeps files in memory ({filesystem})"),
            false => {
                format!("somebody else is reading or writing it, or its file system ({filesystem}) does not let go")
            }
        };
        format!("the system keeps {pages} pages of \"{name}\" in memory though it was told to drop them: {why}")
    }
}

impl Begun<'_> {
    /// Bytes that were read from devices for it, which has ended.
    ///
    /// # Errors
    /// That there were none: the answer came from memory.
    pub(crate) fn read(self, operation: usize) -> Result<u64, Failure> {
        match device_bytes()?.saturating_sub(self.before) {
            0 => {
                let name = self.cold.operations.get(operation).map_or("", String::as_str);
                Err(Failure::Cold(format!("\"{name}\" has read nothing from the device: its answer came from memory")))
            }
            bytes => Ok(bytes),
        }
    }
}

/// Bytes that this process has had read from devices so far.
fn device_bytes() -> Result<u64, Failure> {
    let text = std::fs::read_to_string(COUNTS)
        .map_err(|e| Failure::Cold(format!("the system does not say what was read from devices: {COUNTS}: {e}")))?;
    read_bytes(&text).ok_or_else(|| {
        Failure::Cold(format!("the system does not say what was read from devices: {COUNTS} has no read_bytes"))
    })
}

fn read_bytes(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("read_bytes:")).and_then(|number| number.trim().parse().ok())
}

/// What the kernel has of a file in memory.
#[cfg(target_os = "linux")]
mod pages {
    use std::fs::File;
    use std::io::{Error, Result};
    use std::os::fd::AsRawFd;

    /// Tells it to have nothing.
    pub(super) fn drop_pages(file: &File) -> Result<()> {
        // SAFETY: the descriptor is open for the time of the call, which reads and writes no memory of ours.
        match unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) } {
            0 => Ok(()),
            code => Err(Error::from_raw_os_error(code)),
        }
    }

    /// How many pages it has.
    pub(super) fn pages_in_memory(file: &File) -> Result<usize> {
        let len = usize::try_from(file.metadata()?.len()).map_err(Error::other)?;
        if len == 0 {
            return Ok(0);
        }
        // SAFETY: asks for a number.
        let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).map_err(Error::other)?;
        let mut pages = vec![0u8; len.div_ceil(page.max(1))];
        // SAFETY: a new mapping at a place of the system's choice, of a file that is open; nothing is ever read through it.
        let map =
            unsafe { libc::mmap(std::ptr::null_mut(), len, libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd(), 0) };
        if map == libc::MAP_FAILED {
            return Err(Error::last_os_error());
        }
        // SAFETY: the mapping is `len` bytes long, and `pages` has a byte for each page of it.
        let asked = match unsafe { libc::mincore(map, len, pages.as_mut_ptr()) } {
            0 => Ok(()),
            _ => Err(Error::last_os_error()),
        };
        // SAFETY: the mapping was made above, and nobody else knows of it.
        unsafe { libc::munmap(map, len) };
        asked.map(|()| pages.iter().filter(|page| **page & 1 == 1).count())
    }
}

/// Others do not count reads either, so that nobody comes here.
#[cfg(not(target_os = "linux"))]
mod pages {
    use std::fs::File;
    use std::io::{ErrorKind, Result};

    pub(super) fn drop_pages(_file: &File) -> Result<()> {
        Err(ErrorKind::Unsupported.into())
    }

    pub(super) fn pages_in_memory(_file: &File) -> Result<usize> {
        Err(ErrorKind::Unsupported.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn the_kernels_count_is_found_among_others() {
        assert_eq!(read_bytes("rchar: 7\nwchar: 0\nread_bytes: 4096\nwrite_bytes: 1\n"), Some(4096));
        assert_eq!(read_bytes("rchar: 7\n"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn pages_that_were_just_written_are_seen() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[7; 10_000]).unwrap();
        assert!(pages_in_memory(&file).unwrap() > 0);
        assert_eq!(pages_in_memory(&tempfile::tempfile().unwrap()).unwrap(), 0);
    }
}
