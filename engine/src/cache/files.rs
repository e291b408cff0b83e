/*!
Open files of runs: at most [`RUN_FILES_MAX`] of a database at a time, however many runs it has, so that a process with the usual
1,024 descriptors can read ten thousand.

A [`Handle`] is opened at its first use. When there are too many, the one that was opened first and not used since its last
turn is closed (a clock, as page caches have it), and opened again when it is needed: so the file must keep its name for as long as
anybody may read it. Whoever is just reading keeps a closed one to the end of the read. What [`Handle::hold`] opened
stays open, and is not counted.
*/

use crate::error::Result;
use crate::io::sync::Mutex;
use crate::io::{File, IoRef, OpenMode};
use crate::limits::RUN_FILES_MAX;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

/// The files of a database's runs that are open.
#[derive(Debug)]
pub(crate) struct OpenFiles {
    files_max: usize,
    /// Those that may be closed, the next to be looked at first. Some are gone with their runs.
    turns: Mutex<VecDeque<Weak<Handle>>>,
}

impl OpenFiles {
    pub(super) fn new() -> Arc<OpenFiles> {
        OpenFiles::limited(RUN_FILES_MAX)
    }

    fn limited(files_max: usize) -> Arc<OpenFiles> {
        Arc::new(OpenFiles { files_max, turns: Mutex::default() })
    }

    /// The file at `path`, which is not opened yet.
    pub(crate) fn handle(self: &Arc<Self>, io: &IoRef, path: PathBuf) -> Arc<Handle> {
        Arc::new(Handle {
            files: Arc::clone(self),
            io: Arc::clone(io),
            path,
            open: Mutex::new(None),
            used: AtomicBool::new(false),
            held: AtomicBool::new(false),
        })
    }

    /// Counts a file that was just opened, and closes others where there are too many.
    fn opened(&self, handle: &Arc<Handle>) {
        let mut closed = Vec::new();
        let mut turns = self.turns.lock();
        turns.push_back(Arc::downgrade(handle));
        while turns.len() > self.files_max {
            let Some(next) = turns.pop_front().and_then(|next| next.upgrade()) else { continue };
            if next.held.load(Ordering::Acquire) {
                continue;
            }
            match next.used.swap(false, Ordering::AcqRel) {
                true => turns.push_back(Arc::downgrade(&next)),
                false => closed.push(next.open.lock().take()),
            }
        }
        drop(turns);
        // Outside of the lock: closing is a system call.
        drop(closed);
    }
}

/// A run's file, open or not.
#[derive(Debug)]
pub(crate) struct Handle {
    files: Arc<OpenFiles>,
    io: IoRef,
    path: PathBuf,
    open: Mutex<Option<Arc<dyn File>>>,
    /// Whether it was used since its last turn.
    used: AtomicBool,
    held: AtomicBool,
}

impl Handle {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The file, opened if need be.
    ///
    /// # Errors
    /// Of opening it.
    pub(crate) fn get(self: &Arc<Self>) -> Result<Arc<dyn File>> {
        let mut open = self.open.lock();
        if let Some(file) = &*open {
            self.used.store(true, Ordering::Release);
            return Ok(Arc::clone(file));
        }
        let file = self.io.open_direct(&self.path, OpenMode::Read)?;
        *open = Some(Arc::clone(&file));
        drop(open);
        self.files.opened(self);
        Ok(file)
    }

    /// Opens the file for good.
    ///
    /// # Errors
    /// Of opening it.
    pub(crate) fn hold(self: &Arc<Self>) -> Result<()> {
        self.held.store(true, Ordering::Release);
        self.get().map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::{self, Buffer};

    fn handles(files_max: usize, count: u8) -> (Arc<OpenFiles>, Vec<Arc<Handle>>) {
        let io = io::memory();
        let files = OpenFiles::limited(files_max);
        let make = |number: u8| {
            let path = PathBuf::from(format!("/run-{number}"));
            let file = io.open_direct(&path, OpenMode::CreateNew).unwrap();
            file.write_all_at(0, Buffer::from_slice(&[number; io::BUFFER_ALIGN])).unwrap();
            files.handle(&io, path)
        };
        (Arc::clone(&files), (0..count).map(make).collect())
    }

    fn open(handles: &[Arc<Handle>]) -> Vec<usize> {
        let is_open = |handle: &Arc<Handle>| handle.open.lock().is_some();
        handles.iter().enumerate().filter(|(_, handle)| is_open(handle)).map(|(number, _)| number).collect()
    }

    fn check(handle: &Arc<Handle>, number: usize) {
        assert_eq!(handle.get().unwrap().read_at(7, 1).unwrap()[..], [number as u8]);
    }

    #[test]
    fn no_more_than_so_many_are_open_and_all_can_be_read() {
        let (files, handles) = handles(4, 20);
        for _ in 0..3 {
            for (number, handle) in handles.iter().enumerate() {
                check(handle, number);
                assert!(open(&handles).len() <= 4 && files.turns.lock().len() <= 4);
            }
        }
    }

    #[test]
    fn what_is_used_stays_open() {
        let (_, handles) = handles(4, 20);
        check(&handles[0], 0);
        for (number, handle) in handles.iter().enumerate().skip(1) {
            check(&handles[0], 0);
            check(handle, number);
            assert!(open(&handles).contains(&0), "{:?}", open(&handles));
        }
    }

    #[test]
    fn what_is_held_stays_open_and_counts_for_nothing() {
        let (_, handles) = handles(3, 20);
        handles[..10].iter().for_each(|handle| handle.hold().unwrap());
        for (number, handle) in handles.iter().enumerate().skip(10) {
            check(handle, number);
        }
        assert_eq!(open(&handles), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 17, 18, 19]);
    }

    #[test]
    fn a_file_that_is_closed_while_it_is_read_is_read_to_the_end() {
        let (_, handles) = handles(1, 3);
        let file = handles[0].get().unwrap();
        check(&handles[1], 1);
        assert_eq!(open(&handles), [1]);
        assert_eq!(file.read_at(7, 1).unwrap()[..], [0]);
    }

    #[test]
    fn runs_that_are_gone_take_no_place_for_long() {
        let (files, mut handles) = handles(4, 20);
        handles.iter().for_each(|handle| drop(handle.get().unwrap()));
        handles.truncate(10);
        handles.iter().enumerate().for_each(|(number, handle)| check(handle, number));
        assert_eq!((open(&handles).len(), files.turns.lock().len()), (4, 4));
    }
}
