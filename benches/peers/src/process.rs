/*!
What the kernel knows of a process and its files: bytes written, processor time, memory, blocks on disk. Every measurement runs
in a process of its own, so that these are one system's alone and a kill kills one.
*/

use crate::systems::Result;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Bytes of a block as `stat` counts them, whatever the file system's are.
const STAT_BLOCK: u64 = 512;

fn field(path: &str, name: &str) -> Result<u64> {
    let text = std::fs::read_to_string(path)?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let number = line.and_then(|rest| rest.split_whitespace().next());
    Ok(number.ok_or_else(|| format!("{path} has no {name}"))?.parse()?)
}

/// Bytes that this process has caused to be written to the device so far: what was written to files, less what was deleted
/// before it got to the device.
pub(crate) fn written_bytes() -> Result<u64> {
    let written = field("/proc/self/io", "write_bytes")?;
    Ok(written.saturating_sub(field("/proc/self/io", "cancelled_write_bytes")?))
}

/// The most memory that this process had.
pub(crate) fn peak_memory_bytes() -> Result<u64> {
    Ok(field("/proc/self/status", "VmHWM")? << 10)
}

/// Processor time of all threads so far, in seconds.
pub(crate) fn processor_seconds() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/self/stat")?;
    // The name, which may have anything in it, ends with the last bracket; user and system time are the 14th and 15th.
    let rest = text.rsplit_once(')').map(|(_, rest)| rest).unwrap_or_default();
    let mut ticks = 0.0;
    for time in rest.split_whitespace().skip(11).take(2) {
        ticks += time.parse::<f64>()?;
    }
    Ok(ticks / 100.0)
}

/// Calls `with` for each file in a directory and below.
fn walk(dir: &Path, with: &mut dyn FnMut(&Path, &std::fs::Metadata) -> Result<()>) -> Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        // A file may go while it is looked at.
        let Ok(meta) = entry.metadata() else { continue };
        match meta.is_dir() {
            true => walk(&entry.path(), with)?,
            false => with(&entry.path(), &meta)?,
        }
    }
    Ok(())
}

/// Bytes that a directory takes on disk: of blocks, not of lengths, so that a hole is nothing and what is reserved counts.
pub(crate) fn disk_bytes(dir: &Path) -> Result<u64> {
    let mut bytes = 0;
    walk(dir, &mut |_, meta| {
        bytes += meta.blocks() * STAT_BLOCK;
        Ok(())
    })?;
    Ok(bytes)
}

/// Has the kernel forget what it has of a directory's files in memory: the next to read them reads the device.
pub(crate) fn forget_pages(dir: &Path) -> Result<()> {
    walk(dir, &mut |path, _| {
        let file = File::open(path)?;
        file.sync_all()?;
        // SAFETY: the descriptor is open for the time of the call, which reads and writes no memory of ours.
        let code = unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
        match code {
            0 => Ok(()),
            code => Err(std::io::Error::from_raw_os_error(code).into()),
        }
    })
}
