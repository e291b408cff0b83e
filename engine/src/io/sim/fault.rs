/*!
Which operations of a simulated disk fail, and how.
*/

use crate::io::random::Random;
use std::path::Path;

/// What an operation of a disk does; also what [`Fault::on`] can be limited to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Opens or creates a file, or takes its lock.
    Open,
    /// Reads from a file.
    Read,
    /// Writes to a file.
    Write,
    /// Syncs a file.
    Sync,
    /// Changes or asks for a file's length.
    Length,
    /// Writes zeros up to a length.
    Allocate,
    /// Creates a directory.
    CreateDir,
    /// Lists a directory or looks a name up.
    Look,
    /// Renames.
    Rename,
    /// Removes a file or directory.
    Remove,
    /// Syncs a directory.
    SyncDir,
}

impl Operation {
    /// Its number in the trace.
    pub(super) fn code(self) -> u64 {
        match self {
            Operation::Open => 1,
            Operation::Read => 2,
            Operation::Write => 3,
            Operation::Sync => 4,
            Operation::Length => 5,
            Operation::Allocate => 6,
            Operation::CreateDir => 7,
            Operation::Look => 8,
            Operation::Rename => 9,
            Operation::Remove => 10,
            Operation::SyncDir => 11,
        }
    }
}

/// How an operation fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// EIO. A write may have written a part; a sync leaves some of what was pending durable, and the rest never will
    /// be, whatever a later sync says.
    Io,
    /// ENOSPC; nothing is written.
    DiskFull,
    /// A read or write transfers only a part, and succeeds. On other operations, EIO.
    Short,
    /// EINTR: the back end tries again, as [`crate::io`] promises, so it only costs time.
    Interrupted,
    /// A read gives, or a write stores, one bit otherwise. Nobody is told. Other operations are as ever.
    Flip,
    /// A read gives, or a write lands on, a block near the one that was meant. Nobody is told. Other operations are as
    /// ever.
    Misdirected,
    /// A write is acknowledged and never happens, so that what was there before stays: a stale block. Other operations
    /// are as ever.
    Lost,
}

/// An instruction to a disk to fail operations.
#[derive(Debug, Clone)]
pub struct Fault {
    kind: FaultKind,
    operation: Option<Operation>,
    path_part: String,
    /// Matching operations that succeed first.
    after: u64,
    sticky: bool,
    /// In how many of 1,000 cases it applies where it is due.
    of_1000: u64,
    /// The first operation of the disk that may match.
    from: u64,
    /// Matching operations so far.
    seen: u64,
}

impl Fault {
    /// Fails the next operation, whatever it is, once.
    pub fn new(kind: FaultKind) -> Self {
        Fault {
            kind,
            operation: None,
            path_part: String::new(),
            after: 0,
            sticky: false,
            of_1000: 1000,
            from: 0,
            seen: 0,
        }
    }

    /// Only operations of this sort.
    #[must_use]
    pub fn on(mut self, operation: Operation) -> Self {
        self.operation = Some(operation);
        self
    }

    /// Only operations on paths with `part` in them.
    #[must_use]
    pub fn path_with(mut self, part: impl Into<String>) -> Self {
        self.path_part = part.into();
        self
    }

    /// Not before the n-th operation that matches, counted from 1 and from the fault's injection.
    #[must_use]
    pub fn nth(mut self, n: u64) -> Self {
        self.after = n.saturating_sub(1);
        self
    }

    /// Not before the n-th operation of the disk, of whatever sort, counted from 1 and the disk's beginning.
    #[must_use]
    pub fn not_before(mut self, operation: u64) -> Self {
        self.from = operation;
        self
    }

    /// All matching operations from then on, instead of one.
    #[must_use]
    pub fn sticky(mut self) -> Self {
        self.sticky = true;
        self
    }

    /// Matching operations with this probability, in thousandths, instead of one or all.
    #[must_use]
    pub fn rate(mut self, of_1000: u64) -> Self {
        self.sticky = true;
        self.of_1000 = of_1000;
        self
    }

    /// Counts an operation if it matches; how it fails, if it does.
    pub(super) fn meet(
        &mut self,
        number: u64,
        operation: Operation,
        path: &Path,
        random: &mut Random,
    ) -> Option<FaultKind> {
        let matches = number >= self.from
            && self.operation.is_none_or(|wanted| wanted == operation)
            && (self.path_part.is_empty() || path.to_string_lossy().contains(&self.path_part));
        if !matches {
            return None;
        }
        self.seen += 1;
        let due = self.seen > self.after && (self.sticky || self.seen == self.after + 1);
        (due && (self.of_1000 >= 1000 || random.chance(self.of_1000, 1000))).then_some(self.kind)
    }
}

impl FaultKind {
    /// Whether the operation goes wrong without an error.
    pub(super) fn is_silent(self) -> bool {
        matches!(self, FaultKind::Interrupted | FaultKind::Flip | FaultKind::Misdirected | FaultKind::Lost)
    }

    /// The operating system's error for it.
    pub(super) fn cause(self) -> std::io::Error {
        std::io::Error::from_raw_os_error(match self {
            FaultKind::DiskFull => libc::ENOSPC,
            FaultKind::Interrupted => libc::EINTR,
            _ => libc::EIO,
        })
    }
}
