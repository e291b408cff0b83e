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

/// Ticks of a second in `/proc`.
const TICKS: f64 = 100.0;

/// What processes have cost so far: this one, and others that work for it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    /// Bytes that were written to the device.
    pub(crate) bytes: u64,
    /// Processor time of all threads, in seconds.
    pub(crate) cpu_s: f64,
}

impl Cost {
    /// Up to now. Processes that their parent has waited for count with it; of this one only itself counts.
    pub(crate) fn now(others: &[u32]) -> Result<Cost> {
        let mut cost = Cost { bytes: written_bytes()?, cpu_s: processor_seconds()? };
        for process in others {
            // One may go while it is looked at.
            let proc = format!("/proc/{process}");
            let (Ok(bytes), Ok(times)) = (written_bytes_of(&proc), times_of(&proc)) else { continue };
            cost.bytes += bytes;
            cost.cpu_s += times.iter().sum::<f64>();
        }
        Ok(cost)
    }
}

fn field(path: &str, name: &str) -> Result<u64> {
    let text = std::fs::read_to_string(path)?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let number = line.and_then(|rest| rest.split_whitespace().next());
    Ok(number.ok_or_else(|| format!("{path} has no {name}"))?.parse()?)
}

/// Bytes that this process has caused to be written to the device so far: what was written to files, less what was deleted
/// before it got to the device.
pub(crate) fn written_bytes() -> Result<u64> {
    written_bytes_of("/proc/self")
}

fn written_bytes_of(proc: &str) -> Result<u64> {
    let io = format!("{proc}/io");
    Ok(field(&io, "write_bytes")?.saturating_sub(field(&io, "cancelled_write_bytes")?))
}

/// Bytes that the device of a directory has been given so far, by whomever; None where the directory is on none that the kernel counts.
///
/// What the kernel says of a process is more than that where a file is overwritten in place: a page cache of large folios counts a whole one,
/// up to a MiB, for each small write to it, though it writes only the blocks that were changed.
pub(crate) fn device_written_bytes(dir: &Path) -> Result<Option<u64>> {
    let device = std::fs::metadata(dir)?.dev();
    let path = format!("/sys/dev/block/{}:{}/stat", libc::major(device), libc::minor(device));
    let Ok(text) = std::fs::read_to_string(path) else { return Ok(None) };
    // Sectors written, of 512 bytes whatever the device's are, are the seventh.
    text.split_whitespace().nth(6).map(|sectors| Ok(sectors.parse::<u64>()? * STAT_BLOCK)).transpose()
}

/// The most memory that this process had.
pub(crate) fn peak_memory_bytes() -> Result<u64> {
    Ok(field("/proc/self/status", "VmHWM")? << 10)
}

/// Processor time of all threads so far, in seconds.
pub(crate) fn processor_seconds() -> Result<f64> {
    Ok(times_of("/proc/self")?.iter().take(2).sum())
}

/// Words of a process's `stat` from the third on: its name, which may have anything in it, ends with the last bracket.
fn stat(proc: &str) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(format!("{proc}/stat"))?;
    let rest = text.rsplit_once(')').map(|(_, rest)| rest).unwrap_or_default();
    Ok(rest.split_whitespace().map(str::to_owned).collect())
}

/// User and system time of a process, and of its children that it has waited for, in seconds: the 14th to 17th word.
fn times_of(proc: &str) -> Result<Vec<f64>> {
    stat(proc)?.iter().skip(11).take(4).map(|ticks| Ok(ticks.parse::<f64>()? / TICKS)).collect()
}

/// The processes that a process has started.
pub(crate) fn children_of(parent: u32) -> Vec<u32> {
    let parent = parent.to_string();
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let processes = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_child = |process: &u32| stat(&format!("/proc/{process}")).is_ok_and(|words| words.get(1) == Some(&parent));
    processes.filter(is_child).collect()
}

/// Keeps this process, and those that it starts from now on, on so many of the cores that it has.
pub(crate) fn keep_to(cores: usize) -> Result<()> {
    // SAFETY: a set of cores is plain numbers, for which zero is the empty set; both calls get its size and touch nothing else.
    let code = unsafe {
        let mut allowed: libc::cpu_set_t = std::mem::zeroed();
        let size = size_of::<libc::cpu_set_t>();
        let mut code = libc::sched_getaffinity(0, size, &raw mut allowed);
        let mut kept: libc::cpu_set_t = std::mem::zeroed();
        let all = usize::try_from(libc::CPU_SETSIZE)?;
        (0..all)
            .filter(|core| libc::CPU_ISSET(*core, &allowed))
            .take(cores)
            .for_each(|core| libc::CPU_SET(core, &mut kept));
        if code == 0 {
            code = libc::sched_setaffinity(0, size, &raw const kept);
        }
        code
    };
    match code {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error().into()),
    }
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
