/*!
The write-ahead log: what was committed and does not yet lie in a run.

Its users see a *stream* of bytes that only grows; a position in it is a log sequence number, [`Lsn`]. A record is its
length (u32) and its bytes, in the stream one after the other; [`Wal::append`] gives the position behind it. Frames carry
the stream to the disk in pieces, wherever they fall:

```text
    stream     │len│record  │len│record                        │len│record │ …
               │            │                                  │           │
    frames     ├─ frame ─────────┤├─ frame ─────────────┤ ├─ frame ─────────┤
    segments   ├─ wal-00000001.log ─────────────────────┤ ├─ wal-00000002.log ─ …
```

# Format, version 1

All numbers are little-endian. A segment file is a header block and frames, each a multiple of 4,096 bytes:

```text
    segment header, 4,096 bytes                     frame, 64 bytes and payload, filled up with zeros
     0  u32  CRC32C of all that follows              0  u32  CRC32C of all that follows, filling included
     4  [4]  "OMWS"                                  4  [4]  "OMWF"
     8  u32  format version                          8 [16]  database id
    12  u32  flags: 1 = fresh, 2 = reused           24  u64  epoch of the segment
    16 [16]  database id                            32  u64  offset of this frame in the file
    32  u64  segment number                         40  u64  stream position of the payload
    40  u64  epoch, random                          48  u64  watermark: the stream was durable up to here
    48  u64  stream position of the first byte      56  u32  CRC of the frame before, or of the header
    56       zeros                                  60  u32  payload bytes, at most 1 MiB − 64
                                                    64       payload: bytes of the stream
```

So a frame that is stale, misplaced, of another file or of another database never passes. That matters daily: a released segment's
file becomes a later segment, with another number and epoch, and what it held stands behind the new frames until these reach it
(`segment` says how). "Reused" says so, for whoever wants to tell such bytes from a write that was cut short. A frame without payload only
carries a watermark; one is written by a clean close and after 100 ms of rest.

# What it promises

- *Durability.* [`Wal::sync_to`] comes back once all up to its position is on the device. Threads write and sync for each
  other (group commit), several writes being in flight while an earlier one is synced (`writer`). [`Wal::commit`] waits as the
  [`SyncMode`] says.
- *A failed write or sync poisons the log*: what the device holds is unknown then, and a second sync that succeeds would
  prove nothing. Everything not yet durable stays so, further records are refused with `Poisoned`; reopening decides.
- *A full disk does not.* Space is there, zeroed and synced, before a record is accepted, so `DiskFull` comes from
  [`Wal::append`], with nothing half-written, and goes away when there is room. Spare segments are used, or given up, before that.
- *Recovery tells a torn tail from damage.* At the first frame that does not hold, a later valid frame whose watermark
  lies beyond it, or a later segment, proves that it was durable: an error with file and offset, and nothing is cut. Else
  the stream ends there. So does a position that the owner knows to have been durable, and asks for at the open. The one
  case that can't be told: damage to durable frames after all of these.
- *A tail that was cut never comes back.* New records go to a new segment, which begins where the stream was cut. From
  then on that segment's start ends the old one, whatever its file holds or seems to hold. It is marked fresh, so that
  a record cut in half before it does not go on in it.
- *What recovery handed out stays.* Bytes that no watermark covers may be in the operating system's memory only, even
  such as a failed sync left there, which a new sync would skip. Recovery writes them once more and syncs, before
  anything relies on them.

A segment is synced completely before the next one is begun, so each header proves all before it. Segments double in
size from 1 MiB to the configured size: small databases stay small and open fast. With commits of a few rows that are synced one by one
a log is mostly [air](Wal::airy_before), since a frame is a block at least; then they stay small, too ([`SEGMENT_BYTES_AIRY`]).

Positions below the one that was [released](Wal::release_before) may be missing. The last segment always stays, because
it knows the position. Of the others [`SPARES_MAX`] are kept to be used again; they go with a close, and with the next open.
*/

mod filling;
mod frame;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
pub(crate) mod inspect;
mod record;
mod recovery;
mod segment;
#[cfg(test)]
mod tests;
mod writer;

use crate::error::{Error, ErrorKind, Place, Result};
use crate::io::sync::{Condvar, Mutex};
use crate::io::{File, IoRef, OpenMode};
use crate::lease::{Leases, Numbered};
use frame::{BLOCK, FRAME_BYTES_MAX, FRAME_HEADER_BYTES};
use record::length;
use recovery::{Found, Kept, Outcome};
use segment::{Ready, Spare};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use writer::{Stages, Writer};

/// A position in the log's stream, in bytes. Once the bytes before it are durable they never change.
pub type Lsn = u64;

/// Bytes of one record. Transactions larger than a memtable go to runs and leave only a note here.
pub const RECORD_BYTES_MAX: usize = 512 * 1024 * 1024;

/// Bytes of one segment at least: a header and three frames.
pub const SEGMENT_BYTES_MIN: u64 = 4 * BLOCK;

/// Bytes of one segment at most: what recovery may have to search for a proof of damage.
pub const SEGMENT_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// Bytes of the first segment after an open.
const SEGMENT_BYTES_FIRST: u64 = 1024 * 1024;

/// Bytes of a segment at most while the log is mostly air.
const SEGMENT_BYTES_AIRY: u64 = 16 * 1024 * 1024;

/// Released segments that are kept to be used again: what one flush releases of a log that is in a steady state.
const SPARES_MAX: usize = 2;

/// A spare is used where it has at least this part of the bytes that a new segment would have. Smaller ones go.
const SPARE_PART_MIN: u64 = 4;

/// Bytes of records that wait to be written; who comes then has to write first. Bounds memory when the disk is slow.
const PENDING_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Bytes of records that are gathered before they are written, when nobody waits for a sync.
const GATHER_BYTES: usize = 256 * 1024;

/// How much later than it promises a log that is synced at intervals may be before commits wait for it: a device that is slow for
/// a moment stops nobody, one that stays behind stops all.
const LAG_MAX: Duration = Duration::from_secs(1);

/// How long the log must rest before it writes a watermark.
const REST: Duration = Duration::from_millis(100);

/// How long the log must rest before it gives the space of its spares back.
const LONG_REST: Duration = Duration::from_secs(2);

/// When a commit counts as done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncMode {
    /// When its record is durable.
    Always,
    /// At once; its record is durable this much later, and as much more as the sync takes that begins then. Where that would be
    /// more than a second, commits wait. A crash, of the process too, loses what came meanwhile. The syncs are those of
    /// [`Wal::tick`].
    Interval(Duration),
    /// At once; its record is written when the next [`Wal::tick`] comes, and durable when the system likes.
    None,
}

/// How a log is to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalOptions {
    /// Bytes of a segment, from [`SEGMENT_BYTES_MIN`] to [`SEGMENT_BYTES_MAX`]; cut to whole blocks.
    pub segment_bytes: u64,
    /// When a commit counts as done.
    pub sync: SyncMode,
}

impl Default for WalOptions {
    fn default() -> Self {
        WalOptions { segment_bytes: 64 * 1024 * 1024, sync: SyncMode::Always }
    }
}

/// What is known of a log before it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Known {
    /// Records that end here or before are not needed: 0, or a position that [`Wal::append`] gave.
    pub from: Lsn,
    /// The log was durable up to here at least: ending before is damage.
    pub durable_to: Lsn,
}

impl From<Lsn> for Known {
    fn from(from: Lsn) -> Known {
        Known { from, durable_to: 0 }
    }
}

/// What opening a log found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replay {
    /// Records that were handed out.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Where the stream ends, and new records begin.
    pub end: Lsn,
    /// Where a torn tail was cut: what a crash left behind of a write that nobody was told of.
    pub torn: Option<Place>,
    /// Above the number of every segment file that was there.
    pub next_segment: u64,
}

/// What a reader process got; see [`open_read_only`].
#[derive(Debug)]
pub enum ReadOnly {
    /// All records up to `Replay::end`.
    Complete(Replay),
    /// The log does not fit the position it was read from. A writer may have released segments or gone on writing
    /// meanwhile: forget the records, read the manifest again, and try again. If that does not help, the error tells of
    /// true damage.
    Overtaken(Error),
}

/// The write-ahead log, open for writing.
#[derive(Debug)]
pub struct Wal {
    io: IoRef,
    dir: PathBuf,
    leases: Arc<Leases>,
    database_id: [u8; 16],
    options: WalOptions,
    state: Mutex<State>,
    /// Told when more is durable, and, one who waits, when there is work that nobody does.
    more_durable: Condvar,
    /// Told whenever the writer comes back, a write has landed, space was made, or the log was poisoned.
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    /// Records not yet written: the stream from `appended - pending.len()` to `appended`.
    pending: Vec<u8>,
    /// Memory for the next of them, while what was pending is laid out.
    emptied: Vec<u8>,
    /// Frame bytes that what the writer has taken may need at most.
    reserved: u64,
    /// Frame bytes that there is space for, `reserved` not deducted.
    room: u64,
    appended: Lsn,
    durable: Lsn,
    /// Where the last watermark that was written stands.
    watermark: Lsn,
    /// `None` while a thread is at work with it.
    writer: Option<Writer>,
    /// Behind it: what is in flight, written, and being synced.
    stages: Stages,
    /// Segments prepared for the writer.
    ready: VecDeque<Ready>,
    /// Whether a thread is preparing a segment.
    preparing: bool,
    next_number: u64,
    next_bytes: u64,
    /// Segments that the stream lies in, oldest first.
    segments: VecDeque<Segment>,
    /// Released segments to be used again, [`SPARES_MAX`] at most.
    spares: Vec<Spare>,
    /// Why the log takes no more records.
    poison: Option<String>,
    closed: bool,
    last_append_nanos: u64,
    last_sync_nanos: u64,
    /// Since when, at the earliest, there are records that are not durable, if there are any.
    behind_since_nanos: u64,
}

/// A segment that the stream lies in.
#[derive(Debug)]
struct Segment {
    path: PathBuf,
    start: Lsn,
    /// Bytes of the file.
    bytes: u64,
    /// Bytes of these that its header and frames take.
    used: u64,
}

impl From<Kept> for Segment {
    fn from(kept: Kept) -> Segment {
        Segment { path: kept.path, start: kept.start, bytes: kept.bytes, used: kept.bytes }
    }
}

impl State {
    fn usable(&self) -> Result<()> {
        if let Some(cause) = &self.poison {
            let sentence =
                format!("the log takes no more records since a write or sync failed ({cause}); reopen the database");
            return Err(Error::new(ErrorKind::Poisoned, sentence));
        }
        if self.closed {
            return Err(Error::invalid("the log is closed"));
        }
        Ok(())
    }

    fn poison(&mut self, error: &Error) {
        if !mutant!(LogPoisonForgotten) {
            self.poison.get_or_insert_with(|| error.to_string());
        }
    }

    /// Takes released segments as spares, and gives those that are too many: the smallest.
    fn keep_spares(&mut self, more: impl Iterator<Item = Spare>) -> Vec<Spare> {
        if self.closed {
            return more.collect();
        }
        self.spares.extend(more);
        self.spares.sort_by_key(|spare| std::cmp::Reverse(spare.bytes));
        self.spares.split_off(SPARES_MAX.min(self.spares.len()))
    }

    /// The largest spare, if it serves in place of a new segment of `wanted` bytes, of which `least` are necessary.
    fn take_spare(&mut self, wanted: u64, least: u64) -> Option<Spare> {
        let serves = |spare: &Spare| spare.bytes >= least.max(wanted / SPARE_PART_MIN);
        self.spares.first().is_some_and(serves).then(|| self.spares.remove(0))
    }

    /// Whether the files of the log are mostly air.
    fn is_airy(&self) -> bool {
        let used = self.segments.iter().map(|segment| segment.used).sum::<u64>();
        let stream = self.segments.front().map_or(0, |first| self.appended.saturating_sub(first.start));
        used / 2 > stream
    }

    /// Whether there is space for `more` bytes of the stream behind those that are pending, which go in one piece.
    fn has_room(&self, more: usize) -> bool {
        self.room >= self.reserved.saturating_add(frame_bytes_at_most(self.pending.len().saturating_add(more)))
    }
}

impl Wal {
    /// Opens the log of a database (in an existing directory, which may have no log yet) and hands each record that ends after
    /// [`Known::from`] to `replay`, in order, with the position behind it. Segments that a lease keeps outlive their release.
    ///
    /// # Errors
    /// `Corruption` with file and offset where durable records are damaged or missing; `NewerFormat`; `InvalidArgument`
    /// for a segment size out of bounds; what `replay` returned.
    pub fn open(
        leases: &Arc<Leases>,
        database_id: [u8; 16],
        options: WalOptions,
        known: impl Into<Known>,
        replay: &mut dyn FnMut(Lsn, &[u8]) -> Result<()>,
    ) -> Result<(Wal, Replay)> {
        let (io, dir) = (leases.io(), leases.dir());
        let options = checked(options)?;
        let outcome = recovery::replay(recovery::survey(io, dir, &database_id)?, known.into(), replay)?;
        settle(leases, &outcome)?;
        let end = outcome.replay.end;
        let now = io.monotonic_nanos();
        let state = State {
            pending: Vec::new(),
            emptied: Vec::new(),
            reserved: 0,
            room: 0,
            appended: end,
            durable: end,
            watermark: end,
            writer: Some(Writer::new(end)),
            stages: Stages::new(end),
            ready: VecDeque::new(),
            preparing: false,
            next_number: outcome.next_number,
            next_bytes: SEGMENT_BYTES_FIRST.min(options.segment_bytes),
            segments: outcome.kept.into_iter().map(Segment::from).collect(),
            spares: Vec::new(),
            poison: None,
            closed: false,
            last_append_nanos: now,
            last_sync_nanos: now,
            behind_since_nanos: now,
        };
        let wal = Wal {
            io: io.clone(),
            dir: dir.to_owned(),
            leases: Arc::clone(leases),
            database_id,
            options,
            state: Mutex::new(state),
            more_durable: Condvar::new(),
            changed: Condvar::new(),
        };
        Ok((wal, outcome.replay))
    }

    /// Adds a record and gives the position behind it. It is not durable yet.
    ///
    /// # Errors
    /// `DiskFull` where there is no space for it, `Poisoned`, `LimitExceeded` for more than [`RECORD_BYTES_MAX`] bytes:
    /// the record is not in the log then, and never will be.
    pub fn append(&self, record: &[u8]) -> Result<Lsn> {
        if record.len() > RECORD_BYTES_MAX {
            let sentence = format!("a log record of {} bytes passes the limit of {RECORD_BYTES_MAX}", record.len());
            return Err(Error::new(ErrorKind::LimitExceeded, sentence));
        }
        let bytes = record::PREFIX_BYTES + record.len();
        let mut state = self.state.lock();
        loop {
            state.usable()?;
            if !state.pending.is_empty() && state.pending.len() + record.len() > PENDING_BYTES_MAX {
                state = self.write_out(state)?;
            } else if !state.has_room(bytes) {
                state = self.make_room(state, frame_bytes_at_most(bytes))?;
            } else {
                break;
            }
        }
        record::push(&mut state.pending, record)?;
        state.last_append_nanos = self.io.monotonic_nanos();
        if state.durable == state.appended {
            state.behind_since_nanos = state.last_append_nanos;
        }
        state.appended += length(bytes);
        Ok(state.appended)
    }

    /// Waits until all of the stream before `lsn` is durable.
    ///
    /// # Errors
    /// The failure of the write or sync, for the thread that ran it; `Poisoned` for the others. Whether the records
    /// survive is decided when the log is opened again.
    pub fn sync_to(&self, lsn: Lsn) -> Result<()> {
        let state = self.state.lock();
        if lsn > state.appended {
            return Err(Error::invalid(format!("the log ends at {}, before position {lsn}", state.appended)));
        }
        self.reach(state, lsn).map(drop)
    }

    /// Waits for the record that ends at `lsn` as long as the [`SyncMode`] promises. Errors as [`Wal::sync_to`].
    pub fn commit(&self, lsn: Lsn) -> Result<()> {
        match self.options.sync {
            SyncMode::Always => self.sync_to(lsn),
            SyncMode::Interval(interval) if self.lags(&self.state.lock(), interval) => self.sync_to(lsn),
            SyncMode::Interval(_) | SyncMode::None => self.state.lock().usable(),
        }
    }

    /// Does what is due and no commit waits for: syncs after an interval, writes what has gathered, writes a watermark after a
    /// rest, prepares the next segment, and removes spare ones after a long rest. To be called every few milliseconds by a background
    /// thread.
    pub fn tick(&self) -> Result<()> {
        let mut state = self.state.lock();
        if state.closed || state.poison.is_some() || state.writer.is_none() {
            return Ok(());
        }
        match self.options.sync {
            SyncMode::Interval(interval) if state.durable < state.appended && self.is_due(&state, interval) => {
                let appended = state.appended;
                state = self.reach(state, appended)?;
            }
            SyncMode::Interval(_) if state.pending.len() >= GATHER_BYTES => state = self.write_out(state)?,
            SyncMode::None if !state.pending.is_empty() => state = self.write_out(state)?,
            _ if self.is_resting(&state) => state = self.rest(state)?,
            _ => {}
        }
        let is_long = !state.spares.is_empty() && self.has_passed(LONG_REST, state.last_append_nanos);
        self.prepare_ahead(state)?;
        if is_long {
            // What can't be removed now is when the log is opened again.
            let _ = self.give_up_spares();
        }
        Ok(())
    }

    /// Makes everything durable and ends the current segment before it is full. Gives the position at which the next one begins.
    #[cfg(test)]
    fn rotate(&self) -> Result<Lsn> {
        Ok(self.seal(self.state.lock())?.durable)
    }

    /// Lets go of the segments that lie before `lsn` completely, except for the last one: those that a lease keeps stay until it ends, some
    /// are kept to be used again, the others are removed. That `lsn` is all that is needed must be durable.
    pub fn release_before(&self, lsn: Lsn) -> Result<()> {
        let mut released = Vec::new();
        {
            let mut state = self.state.lock();
            while state.segments.get(1).is_some_and(|next| next.start <= lsn) {
                released.extend(state.segments.pop_front());
            }
        }
        if released.is_empty() {
            return Ok(());
        }
        let free = self.leases.free(released.iter().filter_map(|segment| numbered(segment.path.clone())));
        let spares = released.into_iter().filter(|segment| free.contains(&segment.path));
        let useless =
            self.state.lock().keep_spares(spares.map(|segment| Spare { path: segment.path, bytes: segment.bytes }));
        self.remove_spares(&useless)
    }

    /// Removes the files of spares that nothing names any more.
    fn remove_spares(&self, spares: &[Spare]) -> Result<()> {
        spares.iter().try_for_each(|spare| self.io.remove_file(&spare.path))?;
        match spares.is_empty() {
            true => Ok(()),
            false => self.io.sync_dir(&self.dir),
        }
    }

    /// Gives the space of spare segments back: for whoever finds the disk full, and after a long rest. Gives whether there was any.
    pub fn give_up_spares(&self) -> Result<bool> {
        let spares = std::mem::take(&mut self.state.lock().spares);
        self.remove_spares(&spares).map(|()| !spares.is_empty())
    }

    /// Where the files of the log would begin if they had about `air` bytes, and not more, beside the stream's own: whoever needs a
    /// record before that keeps more. The newest segment stays, whatever it has.
    pub fn airy_before(&self, air: u64) -> Lsn {
        let state = self.state.lock();
        let (mut used, mut begin) = (0_u64, None);
        for segment in state.segments.iter().rev() {
            used = used.saturating_add(segment.used);
            if used.saturating_sub(state.appended.saturating_sub(segment.start)) > air {
                return begin.unwrap_or(segment.start);
            }
            begin = Some(segment.start);
        }
        0
    }

    /// Makes everything durable and writes the last watermark. No record is taken afterwards. A log that is dropped
    /// without a close is as one whose process was killed: what was not synced may be lost.
    pub fn close(&self) -> Result<()> {
        let mut state = self.state.lock();
        if state.closed {
            return Ok(());
        }
        state = self.seal(state)?;
        while !state.pending.is_empty() {
            state = self.seal(state)?;
        }
        state.closed = true;
        let unused = std::mem::take(&mut state.ready).into_iter().map(|ready| ready.path);
        let spares = std::mem::take(&mut state.spares).into_iter().map(|spare| spare.path);
        for path in unused.chain(spares) {
            // Recovery removes it too, should this fail.
            let _ = self.io.remove_file(&path);
        }
        Ok(())
    }

    /// Whether there are records that counted as done and are not durable.
    pub fn owes(&self) -> bool {
        let state = self.state.lock();
        self.options.sync != SyncMode::Always && state.durable < state.appended
    }

    /// The position behind the last record that was appended.
    pub fn appended(&self) -> Lsn {
        self.state.lock().appended
    }

    /// The position up to which the stream is durable.
    pub fn durable(&self) -> Lsn {
        self.state.lock().durable
    }

    /// Bytes of the stream from the first segment's start on: what a release could free, about.
    pub fn retained_bytes(&self) -> u64 {
        let state = self.state.lock();
        state.segments.front().map_or(0, |first| state.appended.saturating_sub(first.start))
    }

    /// Segment files that hold records.
    pub fn segments(&self) -> usize {
        self.state.lock().segments.len()
    }

    fn is_due(&self, state: &State, interval: Duration) -> bool {
        self.has_passed(interval, state.last_sync_nanos)
    }

    /// Whether what is not durable yet should have been long ago.
    fn lags(&self, state: &State, interval: Duration) -> bool {
        state.durable < state.appended && self.has_passed(interval + LAG_MAX, state.behind_since_nanos)
    }

    /// Whether all is durable for a while and no watermark says so yet.
    fn is_resting(&self, state: &State) -> bool {
        let quiet = state.durable == state.appended && state.watermark < state.durable;
        quiet && state.has_room(1) && self.has_passed(REST, state.last_append_nanos)
    }

    fn has_passed(&self, span: Duration, since_nanos: u64) -> bool {
        let passed = self.io.monotonic_nanos().saturating_sub(since_nanos);
        u128::from(passed) >= span.as_nanos()
    }
}

/// Reads the log in `dir` without changing anything, while another process may be writing it. Otherwise as [`Wal::open`].
///
/// # Errors
/// What `replay` returned, `NewerFormat`, `Io`. Damage comes as [`ReadOnly::Overtaken`], because a writer at work can look
/// the same.
pub fn open_read_only(
    io: &IoRef,
    dir: &Path,
    database_id: [u8; 16],
    known: impl Into<Known>,
    replay: &mut dyn FnMut(Lsn, &[u8]) -> Result<()>,
) -> Result<ReadOnly> {
    let mut refused = false;
    let mut watched = |lsn: Lsn, record: &[u8]| replay(lsn, record).inspect_err(|_| refused = true);
    let survey = recovery::survey(io, dir, &database_id);
    let result = survey.and_then(|found: Vec<Found>| recovery::replay(found, known.into(), &mut watched));
    match result.and_then(|outcome| outcome.check_unchanged().map(|()| outcome)) {
        Ok(outcome) => Ok(ReadOnly::Complete(outcome.replay)),
        Err(error) if !refused && (error.kind() == ErrorKind::Corruption || is_gone(io, &error)) => {
            Ok(ReadOnly::Overtaken(error))
        }
        Err(error) => Err(error),
    }
}

/// Whether a file of this name is a segment of the log.
pub(crate) fn is_file_name(name: &str) -> bool {
    segment::number_of(name).is_some()
}

/// Whether the error is that of a file which is not there any more.
fn is_gone(io: &IoRef, error: &Error) -> bool {
    error.place().is_some_and(|place| matches!(io.exists(&place.file), Ok(None)))
}

fn checked(options: WalOptions) -> Result<WalOptions> {
    if !(SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&options.segment_bytes) {
        return Err(Error::invalid(format!(
            "a log segment has {SEGMENT_BYTES_MIN} to {SEGMENT_BYTES_MAX} bytes, not {}",
            options.segment_bytes
        )));
    }
    Ok(WalOptions { segment_bytes: options.segment_bytes / BLOCK * BLOCK, ..options })
}

/// Bytes of frames that `bytes` of the stream take at most, whatever they are written together with: the worst is a
/// frame for each block. What being cut at a segment's end costs is left out of [`Ready::room`] instead.
fn frame_bytes_at_most(bytes: usize) -> u64 {
    let payload = BLOCK - length(FRAME_HEADER_BYTES);
    length(bytes).div_ceil(payload).saturating_mul(BLOCK)
}

/// After recovery: makes durable what was handed out, and removes what nothing needs.
fn settle(leases: &Leases, outcome: &Outcome) -> Result<()> {
    let io = leases.io();
    if let Some((path, from, to)) = outcome.unproved.as_ref().filter(|_| !mutant!(RecoveredLogNotHardened)) {
        let file = io.open_direct(path, OpenMode::ReadWrite)?;
        write_again(file.as_ref(), *from, *to)?;
        file.sync_all()?;
    }
    for path in &outcome.dead {
        io.remove_file(path)?;
    }
    let mut some = !outcome.dead.is_empty();
    if !outcome.released.is_empty() {
        some |= leases.remove(outcome.released.iter().cloned().filter_map(numbered))?;
    }
    if some {
        io.sync_dir(leases.dir())?;
    }
    Ok(())
}

/// A segment's file as leases know it.
fn numbered(path: PathBuf) -> Option<(Numbered, PathBuf)> {
    let number = segment::number_of(&path.file_name()?.to_string_lossy())?;
    Some((Numbered::Segment(number), path))
}

/// Writes the bytes of a file from … to over themselves. A sync alone would not do: after a failed sync the system may
/// hold bytes that it takes for written and that the device does not have.
fn write_again(file: &dyn File, from: u64, to: u64) -> Result<()> {
    let mut at = from;
    while at < to {
        let len = usize::try_from(to - at).unwrap_or(usize::MAX).min(FRAME_BYTES_MAX);
        let bytes = file.read_exact_at(at, len)?;
        at += length(file.write_all_at(at, bytes)?.len());
    }
    Ok(())
}
