/*!
Leases: what lets a reader process read on while a writer replaces the files under it.

A reader makes a file in the directory `leases`, `lease-<process id>-<random, 16 hex digits>`, and holds its lock (flock) for as
long as it reads; the lock goes with the process, however that ends. The file is one line of text; its last word is the CRC32C of
what precedes it, without the space between:

```text
    omendb-lease 1 process 4242 runs 123 segments 7 manifests 9 8e12c0aa
```

Every run, segment of the log and manifest whose number is *lower* than the one named stays. Numbers are never reused, so these are
the files of the state that the reader opened, and perhaps a few more that were being made meanwhile. A locked file that says
anything else, or something that this release does not know, keeps everything: so does a lease at its beginning, before its
reader knows what it needs.

# Why no file goes that a reader needs

```text
    writer                                     reader
    publishes the state without the file       takes its lease, on everything
    looks for leases                           reads the live state
    removes the file, if no lease keeps it     says what it needs
```

If the writer's look misses the lease, the lease was taken after the look, and so after the state without the file was published:
that state, or a later one, is what the reader finds. A writer therefore looks anew for every file it removes ([`Leases::remove`]) or uses again ([`Leases::free`]).

A lease that is not locked is what a dead reader has left. The writer removes it, *holding its lock*: a reader that has just
made the file and not yet locked it fails to lock it, or finds that it has no name any more, and makes another.

What a lease keeps is removed on the first later occasion: with the next file that goes, by the look that the log's thread takes every
second, when the database is closed, or when it is opened for writing the next time.

# What it promises

- A writer that can't tell whether a lease is alive takes it for alive, and never fails for it.
- No file of a lease needs to be durable: after a crash of the system nobody holds it.

It knows neither what is in the files, nor what they are called.
*/

use crate::error::{Error, ErrorKind, Result};
use crate::io::sync::Mutex;
use crate::io::{Buffer, EntryKind, IoRef, Lock, OpenMode};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The directory of leases, in the database's own. Made by the first reader.
pub(crate) const LEASE_DIR: &str = "leases";

/// What their names begin with.
const PREFIX: &str = "lease-";

/// Version of the text.
const VERSION: &str = "1";

/// Bytes of the text at most; it has about 90.
const TEXT_BYTES_MAX: usize = 256;

/// How often a reader makes another lease because a writer took the one before it for a dead one's.
const TAKE_ATTEMPTS_MAX: usize = 20;

/// A file that readers may need, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Numbered {
    /// A run, by its id.
    Run(u64),
    /// A segment of the log.
    Segment(u64),
    /// A manifest.
    Manifest(u64),
}

/// What a lease keeps: the files of which the number is lower.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) runs: u64,
    pub(crate) segments: u64,
    pub(crate) manifests: u64,
}

impl Bounds {
    const EVERYTHING: Bounds = Bounds { runs: u64::MAX, segments: u64::MAX, manifests: u64::MAX };

    fn keeps(&self, file: Numbered) -> bool {
        match file {
            Numbered::Run(number) => number < self.runs,
            Numbered::Segment(number) => number < self.segments,
            Numbered::Manifest(number) => number < self.manifests,
        }
    }

    fn encode(&self, process_id: u32) -> String {
        let Bounds { runs, segments, manifests } = self;
        let line = format!(
            "omendb-lease {VERSION} process {process_id} runs {runs} segments {segments} manifests {manifests}"
        );
        format!("{line} {:08x}\n", crc32c::crc32c(line.as_bytes()))
    }

    /// What the text says, if it is whole and of a version that is known.
    fn decode(text: &[u8]) -> Option<Bounds> {
        let (line, crc) = std::str::from_utf8(text).ok()?.strip_suffix('\n')?.rsplit_once(' ')?;
        if format!("{:08x}", crc32c::crc32c(line.as_bytes())) != crc {
            return None;
        }
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            ["omendb-lease", VERSION, "process", _, "runs", runs, "segments", segments, "manifests", manifests] => {
                let number = |word: &str| word.parse().ok();
                Some(Bounds { runs: number(runs)?, segments: number(segments)?, manifests: number(manifests)? })
            }
            _ => None,
        }
    }
}

/// A reader's lease. Dropping it lets go.
#[derive(Debug)]
pub(crate) struct Lease {
    io: IoRef,
    path: PathBuf,
    /// Let go when the file has no name any more.
    _lock: Box<dyn Lock>,
}

impl Lease {
    /// Takes a lease on everything in the database in `dir`.
    ///
    /// # Errors
    /// `Io` or `DiskFull` where the directory can't be written to.
    pub(crate) fn take(io: &IoRef, dir: &Path) -> Result<Lease> {
        let leases = dir.join(LEASE_DIR);
        io.create_dir_all(&leases)?;
        for _ in 0..TAKE_ATTEMPTS_MAX {
            let path = leases.join(format!("{PREFIX}{}-{:016x}", io.process_id(), io.random_u64()));
            let lease = match io.lock(&path) {
                Ok(lock) => Lease { io: Arc::clone(io), path, _lock: lock },
                Err(error) if error.kind() == ErrorKind::Locked => continue,
                Err(error) => return Err(error),
            };
            if io.exists(&lease.path)?.is_some() {
                // The space for the text is taken here, where a full disk does no harm.
                lease.keep(Bounds::EVERYTHING)?;
                return Ok(lease);
            }
        }
        let sentence = format!("a lease was removed {TAKE_ATTEMPTS_MAX} times before it could be locked");
        Err(Error::new(ErrorKind::Io, sentence).at(leases, None))
    }

    /// Says what is needed from now on; numbers of the state that was read under this lease.
    pub(crate) fn keep(&self, bounds: Bounds) -> Result<()> {
        let text = bounds.encode(self.io.process_id());
        let file = self.io.open(&self.path, OpenMode::ReadWrite)?;
        // A writer that reads meanwhile finds no checksum, and keeps everything.
        file.write_all_at(0, Buffer::from_slice(text.as_bytes()))?;
        file.set_len(u64::try_from(text.len()).unwrap_or(u64::MAX))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // One that stays is removed by the writer.
        let _ = self.io.remove_file(&self.path);
    }
}

/// Files to be removed once no lease keeps them.
type Waiting = BTreeMap<PathBuf, Numbered>;

/// What an open database knows of leases: a writer, what it has not removed for their sake; a reader, its own.
#[derive(Debug)]
pub struct Leases {
    io: IoRef,
    dir: PathBuf,
    leases: PathBuf,
    /// Files that nothing names and some lease keeps.
    waiting: Mutex<Waiting>,
    /// Held for as long as anything is read.
    own: Option<Lease>,
}

impl Leases {
    /// Those on the database in `dir`, for its writer.
    pub fn new(io: &IoRef, dir: &Path) -> Arc<Leases> {
        Leases::with(io, dir, None)
    }

    /// For a reader that holds a lease, or holds its files open instead.
    pub(crate) fn with(io: &IoRef, dir: &Path, own: Option<Lease>) -> Arc<Leases> {
        let (io, dir, leases) = (Arc::clone(io), dir.to_owned(), dir.join(LEASE_DIR));
        Arc::new(Leases { io, dir, leases, waiting: Mutex::default(), own })
    }

    pub(crate) fn io(&self) -> &IoRef {
        &self.io
    }

    /// The database's directory.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn own(&self) -> Option<&Lease> {
        self.own.as_ref()
    }

    /// Removes files that nothing names any more, durably, or that nothing ever named; those that a lease keeps, later. Gives
    /// whether any went.
    ///
    /// # Errors
    /// Of the first file that could not be removed; those behind it stay.
    pub(crate) fn remove(&self, files: impl IntoIterator<Item = (Numbered, PathBuf)>) -> Result<bool> {
        let free = self.free(files);
        free.iter().try_for_each(|path| self.io.remove_file(path))?;
        Ok(!free.is_empty())
    }

    /// Of files as [`Leases::remove`] takes them those that no lease keeps, which their owner may remove or make another use of, now
    /// or later: whoever takes a lease from now on finds a state without them. The others go once no lease keeps them any more: so one
    /// that waited for that since an earlier call, and goes now, is not among those given.
    pub(crate) fn free(&self, files: impl IntoIterator<Item = (Numbered, PathBuf)>) -> Vec<PathBuf> {
        let mut waiting = self.waiting.lock();
        let live = self.live();
        let is_kept = |file: Numbered| live.iter().any(|bounds| bounds.keeps(file));
        let gone = self.remove_waiting(&mut waiting, is_kept);
        let mut free = Vec::new();
        for (file, path) in files {
            if is_kept(file) {
                waiting.insert(path, file);
            } else if !gone.contains_key(&path) {
                free.push(path);
            }
        }
        free
    }

    /// Removes what no lease keeps any more.
    pub(crate) fn sweep(&self) {
        let mut waiting = self.waiting.lock();
        if !waiting.is_empty() {
            let live = self.live();
            self.remove_waiting(&mut waiting, |file| live.iter().any(|bounds| bounds.keeps(file)));
        }
    }

    /// Removes those that are not kept any more, and gives them.
    fn remove_waiting(&self, waiting: &mut Waiting, is_kept: impl Fn(Numbered) -> bool) -> Waiting {
        let (stay, gone) = std::mem::take(waiting).into_iter().partition(|(_, file)| is_kept(*file));
        *waiting = stay;
        for path in Waiting::keys(&gone) {
            // What can't be removed now, the next opening tries again.
            let _ = self.io.remove_file(path);
        }
        gone
    }

    /// What living readers need. Removes what dead ones have left.
    fn live(&self) -> Vec<Bounds> {
        match self.io.exists(&self.leases) {
            Ok(Some(EntryKind::Dir)) => {}
            Ok(_) => return Vec::new(),
            Err(_) => return vec![Bounds::EVERYTHING],
        }
        let Ok(names) = self.io.names(&self.leases) else { return vec![Bounds::EVERYTHING] };
        let paths = names.iter().filter(|name| name.starts_with(PREFIX)).map(|name| self.leases.join(name));
        paths.filter_map(|path| self.look(&path)).collect()
    }

    /// What one lease keeps; `None` if nobody holds it.
    fn look(&self, path: &Path) -> Option<Bounds> {
        match self.io.lock_existing(path) {
            Ok(None) => None,
            Ok(Some(lock)) => {
                // Under its lock, so that nobody takes it meanwhile.
                let _ = self.io.remove_file(path);
                drop(lock);
                None
            }
            Err(_) => Some(self.read(path).unwrap_or(Bounds::EVERYTHING)),
        }
    }

    fn read(&self, path: &Path) -> Option<Bounds> {
        let file = self.io.open(path, OpenMode::Read).ok()?;
        Bounds::decode(&file.read_at(0, TEXT_BYTES_MAX).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io;

    const BOUNDS: Bounds = Bounds { runs: 5, segments: 3, manifests: 9 };

    fn dir() -> &'static Path {
        Path::new("/db")
    }

    fn with_file(io: &IoRef, name: &str) -> PathBuf {
        io.create_dir_all(dir()).unwrap();
        let path = dir().join(name);
        io.open(&path, OpenMode::Create).unwrap();
        path
    }

    fn is_there(io: &IoRef, path: &Path) -> bool {
        io.exists(path).unwrap().is_some()
    }

    fn leases(io: &IoRef) -> Vec<String> {
        io.names(&dir().join(LEASE_DIR)).unwrap()
    }

    #[test]
    fn the_text_says_what_stays_and_damage_says_nothing() {
        let text = BOUNDS.encode(4242);
        assert!(text.starts_with("omendb-lease 1 process 4242 runs 5 segments 3 manifests 9 "), "{text}");
        assert_eq!(Bounds::decode(text.as_bytes()), Some(BOUNDS));
        assert_eq!(Bounds::decode(Bounds::EVERYTHING.encode(u32::MAX).as_bytes()), Some(Bounds::EVERYTHING));
        assert!(Bounds::EVERYTHING.encode(u32::MAX).len() <= TEXT_BYTES_MAX);
        for at in 0..text.len() {
            let mut damaged = text.clone().into_bytes();
            damaged[at] ^= 1;
            assert_eq!(Bounds::decode(&damaged), None, "byte {at}");
            assert_eq!(Bounds::decode(&text.as_bytes()[..at]), None, "cut to {at}");
        }
        let line = "omendb-lease 2 process 1 runs 1 segments 1 manifests 1";
        let newer = format!("{line} {:08x}\n", crc32c::crc32c(line.as_bytes()));
        assert_eq!(Bounds::decode(newer.as_bytes()), None, "a newer release's");
    }

    #[test]
    fn files_below_the_numbers_wait_for_the_reader() {
        let io = io::memory();
        let all = Leases::new(&io, dir());
        let (low, high) = (with_file(&io, "run-4.omen"), with_file(&io, "run-5.omen"));
        let lease = Lease::take(&io, dir()).unwrap();
        assert!(!all.remove([(Numbered::Run(5), high.clone())]).unwrap(), "a lease at its beginning keeps everything");
        lease.keep(BOUNDS).unwrap();
        assert!(!all.remove([(Numbered::Run(4), low.clone())]).unwrap());
        assert!(is_there(&io, &low) && !is_there(&io, &high), "what waited goes with the next");
        let second = Lease::take(&io, dir()).unwrap();
        second.keep(Bounds { runs: 100, ..BOUNDS }).unwrap();
        drop(lease);
        all.sweep();
        assert!(is_there(&io, &low), "the other one keeps it too");
        drop(second);
        all.sweep();
        assert!(!is_there(&io, &low));
        assert!(leases(&io).is_empty());
    }

    #[test]
    fn a_file_named_again_when_it_may_go_keeps_no_other_from_going() {
        let io = io::memory();
        let all = Leases::new(&io, dir());
        let files = [7, 8].map(|number| (Numbered::Manifest(number), with_file(&io, &format!("manifest-{number:08}"))));
        let lease = Lease::take(&io, dir()).unwrap();
        lease.keep(Bounds { manifests: 8, ..BOUNDS }).unwrap();
        assert!(!all.remove(files.iter().take(1).cloned()).unwrap(), "it waits");
        drop(lease);
        all.remove(files.clone()).unwrap();
        assert!(files.iter().all(|(_, path)| !is_there(&io, path)));
    }

    #[test]
    fn every_sort_of_file_has_its_own_numbers() {
        for (file, kept) in [
            (Numbered::Run(4), true),
            (Numbered::Run(5), false),
            (Numbered::Segment(2), true),
            (Numbered::Segment(3), false),
            (Numbered::Manifest(8), true),
            (Numbered::Manifest(9), false),
        ] {
            assert_eq!(BOUNDS.keeps(file), kept, "{file:?}");
        }
    }

    #[test]
    fn what_a_dead_reader_left_keeps_nothing_and_goes() {
        let io = io::memory();
        let path = with_file(&io, "run-1.omen");
        let lease = Lease::take(&io, dir()).unwrap();
        lease.keep(BOUNDS).unwrap();
        let dead = dir().join(LEASE_DIR).join("lease-77-0000000000000001");
        io.open(&dead, OpenMode::CreateNew).unwrap();
        io.open(&dir().join(LEASE_DIR).join("notes.txt"), OpenMode::CreateNew).unwrap();
        let all = Leases::new(&io, dir());
        assert!(!all.remove([(Numbered::Run(1), path.clone())]).unwrap());
        assert_eq!(leases(&io).len(), 2, "the living one, and what is no lease");
        assert!(!is_there(&io, &dead));
        drop(lease);
        assert!(all.remove([]).is_ok() && !is_there(&io, &path));
    }

    #[test]
    fn a_lease_that_says_nothing_known_keeps_everything() {
        let io = io::memory();
        let path = with_file(&io, "run-1.omen");
        io.create_dir_all(&dir().join(LEASE_DIR)).unwrap();
        let held = io.lock(&dir().join(LEASE_DIR).join("lease-of-a-later-release")).unwrap();
        let all = Leases::new(&io, dir());
        assert!(!all.remove([(Numbered::Run(1), path.clone())]).unwrap());
        drop(held);
        all.sweep();
        assert!(!is_there(&io, &path));
    }

    #[test]
    fn a_lease_that_cannot_be_looked_at_is_alive() {
        use crate::io::sim::{Fault, FaultKind, Operation, SimDisk};
        for operation in [Operation::Look, Operation::Open, Operation::Read] {
            let disk = SimDisk::new(1);
            let io = disk.io();
            let path = with_file(&io, "run-7.omen");
            let lease = Lease::take(&io, dir()).unwrap();
            lease.keep(BOUNDS).unwrap();
            let all = Leases::new(&io, dir());
            disk.inject(Fault::new(FaultKind::Io).on(operation).path_with(LEASE_DIR).sticky());
            assert!(!all.remove([(Numbered::Run(7), path.clone())]).unwrap(), "{operation:?}");
            disk.clear_faults();
            all.sweep();
            assert!(!is_there(&io, &path), "run 7 is none of its reader's");
        }
    }
}
