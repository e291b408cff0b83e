/*!
How the stream gets to the device: in stages that overlap, each led by one of the threads that wait for it.

```text
    append ──► pending ──► laid out as frames ──► in flight ──► written ──► durable
                          └─ by one at a time ─┘  └─ several ─┘         └─ one sync at a time ─┘
```

Whoever finds records pending takes the writer, lays them out as frames, lets the writer go and writes the frames itself;
meanwhile the next thread does so with what has come since. Whoever finds frames written and no sync at work syncs, for all
that was written when it began. So one batch is laid out while another is being written and a third is being synced.

Frames may land in any order. Only the contiguous part counts as written; a sync covers no other, and so nothing is durable
before all that lies before it. One sync at a time, because the system tells of a failure only one of those that run at
once: the others would take for durable what was lost.

# When to write

Who is alone writes durably in one step, which is one call of the system, and where the device can write through its cache one request
to it, in place of two.

What is small gathers while a write is in flight: of one batch's records and another's in one frame, the second come at no
cost. What has gathered [`FLIGHT_BYTES`] goes at once. While a sync is at work, small batches go too if fewer threads wait than
the machine can run twice over; else they gather, because then each wake-up costs more than the sync's time.

That is how it was measured with durable commits of one small row on two cores: to overlap always made four writers faster, and
sixteen slower than never to overlap.

A segment is begun, and sealed, when nothing is in flight and all before it is durable.
*/

use super::frame::{BLOCK, FRAME_PAYLOAD_MAX, SegmentHeader};
use super::record::length;
use super::segment::{Active, Frames, Ready, Spare};
use super::{GATHER_BYTES, Lsn, SEGMENT_BYTES_AIRY, Segment, State, Wal, frame_bytes_at_most};
use crate::error::{Error, ErrorKind, Result};
use crate::io::sync::MutexGuard;
use crate::io::{Buffer, File, thread};
use std::collections::VecDeque;
use std::sync::Arc;

/// Writes in flight at most; what comes then gathers for the next one.
const FLIGHTS_MAX: usize = 4;

/// Bytes of records that are worth a write of their own while another is in flight.
const FLIGHT_BYTES: usize = 32 * 1024;

/// Memory of records that were laid out which is kept for those that come next: as much as the records of an interval or two need.
/// Else what gathers would be copied at each doubling, while a commit waits.
const EMPTIED_BYTES_MAX: usize = 16 * GATHER_BYTES;

/// Lays out frames; whoever holds it is the only one who does.
#[derive(Debug)]
pub(super) struct Writer {
    active: Option<Active>,
    /// Where what was laid out ends.
    laid: Lsn,
    /// The stream was durable up to here when the writer was taken.
    durable: Lsn,
    /// The highest watermark that was laid out.
    watermark: Lsn,
    /// Whether the next segment is the first since the open.
    fresh: bool,
}

impl Writer {
    /// Goes on at `end`, in a segment yet to begin.
    pub(super) fn new(end: Lsn) -> Writer {
        Writer { active: None, laid: end, durable: end, watermark: end, fresh: true }
    }

    /// Bytes of frames that the segment has space for.
    pub(super) fn room(&self) -> u64 {
        self.active.as_ref().map_or(0, Active::room)
    }

    pub(super) fn is_half_full(&self) -> bool {
        self.active.as_ref().is_some_and(Active::is_half_full)
    }

    /// Says in a frame of its own that all is durable, which it must be.
    fn note_watermark(&mut self) -> Result<()> {
        let Some(active) = self.active.as_mut().filter(|_| self.watermark < self.laid) else { return Ok(()) };
        if let Some(frames) = active.lay_watermark(self.laid, Buffer::new()) {
            frames.write()?;
            active.file().sync_data()?;
            self.watermark = self.laid;
        }
        Ok(())
    }

    /// Ends the segment, all of which must be durable: says so in a last frame, and gives unused space back.
    fn seal(&mut self) -> Result<()> {
        self.note_watermark()?;
        self.active.take().map_or(Ok(()), Active::cut)
    }
}

/// The stages behind the writer.
#[derive(Debug)]
pub(super) struct Stages {
    /// Writes in flight, in the order of the stream: where each ends, and whether it has landed.
    flights: VecDeque<(Lsn, bool)>,
    /// All before it was written.
    written: Lsn,
    syncing: bool,
    /// Threads that wait for more to be durable, and how many of them may wait while a small batch is written during a sync.
    waiting: usize,
    waiting_max: usize,
    /// Threads that wait for any change.
    watchers: usize,
    /// The segment that what is written and not durable lies in.
    file: Option<Arc<dyn File>>,
    /// Memory for frames, to be used again.
    buffers: Vec<Buffer>,
}

impl Stages {
    pub(super) fn new(end: Lsn) -> Stages {
        Stages {
            flights: VecDeque::new(),
            written: end,
            syncing: false,
            waiting: 0,
            waiting_max: 2 * thread::parallelism(),
            watchers: 0,
            file: None,
            buffers: Vec::new(),
        }
    }

    /// The write that ends at `end` is done.
    fn land(&mut self, end: Lsn) {
        if let Some(flight) = self.flights.iter_mut().find(|flight| flight.0 == end) {
            flight.1 = true;
        }
        let first_landed = |flights: &VecDeque<(Lsn, bool)>| flights.front().copied().filter(|flight| flight.1);
        while let Some((end, _)) = first_landed(&self.flights) {
            self.written = end;
            self.flights.pop_front();
        }
    }
}

/// What is wanted of pending records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Goal {
    Written,
    Durable,
}

type Guard<'a> = MutexGuard<'a, State>;

impl Wal {
    /// Waits until all before `lsn` is durable, and does meanwhile what there is to do, for whomever.
    pub(super) fn reach<'a>(&'a self, mut state: Guard<'a>, lsn: Lsn) -> Result<Guard<'a>> {
        while state.durable < lsn {
            state.usable()?;
            state = if state.can_sync() {
                self.pass_on(state.can_write());
                self.sync_written(state)?
            } else if state.can_write() {
                self.write_pending(state, Goal::Durable)?
            } else {
                state.stages.waiting += 1;
                state = self.more_durable.wait(state);
                state.stages.waiting -= 1;
                state
            };
        }
        self.pass_on(state.can_write() || state.can_sync());
        Ok(state)
    }

    /// Wakes one of those who wait in [`Wal::reach`] where there is `work` that this thread does not do itself.
    fn pass_on(&self, work: bool) {
        if work {
            self.more_durable.notify_one();
        }
    }

    /// Waits for any change.
    fn wait_for_change<'a>(&'a self, mut state: Guard<'a>) -> Guard<'a> {
        state.stages.watchers += 1;
        state = self.changed.wait(state);
        state.stages.watchers -= 1;
        state
    }

    /// Tells those who wait for any change.
    fn tell_watchers(&self, state: &State) {
        if state.stages.watchers > 0 {
            self.changed.notify_all();
        }
    }

    /// Writes what is pending for a thread that does not wait for it to be durable, and leaves the rest to those who do.
    pub(super) fn write_out<'a>(&'a self, state: Guard<'a>) -> Result<Guard<'a>> {
        let state = self.write_pending(state, Goal::Written)?;
        self.pass_on(state.can_write() || state.can_sync());
        Ok(state)
    }

    /// Writes what is pending, unless another does before this thread's turn comes. Nothing is synced, but where a segment
    /// is begun, or where it shall be and nobody else has anything at work.
    fn write_pending<'a>(&'a self, state: Guard<'a>, goal: Goal) -> Result<Guard<'a>> {
        let (mut writer, mut state) = self.take_writer(state)?;
        if state.pending.is_empty() {
            state.writer = Some(writer);
            return Ok(state);
        }
        let (batch, reserved) = state.take_pending();
        let buffer = state.stages.buffers.pop().unwrap_or_default();
        let durably = goal == Goal::Durable && state.is_alone() && batch.len() <= FRAME_PAYLOAD_MAX;
        drop(state);

        let laid = self.lay(&mut writer, &batch, buffer);

        let mut state = self.state.lock();
        let end = writer.laid;
        state.take_back(writer, reserved, batch);
        let frames = match laid {
            Ok(Some(frames)) => frames,
            Ok(None) => return Ok(state),
            Err(error) => return self.failed(state, error),
        };
        state.stages.flights.push_back((end, false));
        self.tell_watchers(&state);
        self.pass_on(state.can_write());
        drop(state);

        let begun = durably.then(|| self.io.monotonic_nanos());
        let landed = if durably && !mutant!(SkipLogSync) { frames.write_durably() } else { frames.write() };
        let sync = begun.map(|begun| (begun, self.io.monotonic_nanos()));

        let mut state = self.state.lock();
        match landed {
            Ok(buffer) => state.stages.buffers.push(buffer),
            Err(error) => return self.failed(state, error),
        }
        state.stages.land(end);
        if let Some((begun, ended)) = sync {
            self.note_durable(&mut state, end, begun, ended);
        }
        self.tell_watchers(&state);
        Ok(state)
    }

    /// All before `lsn` is durable, by a sync that began and ended at these times.
    fn note_durable(&self, state: &mut State, lsn: Lsn, begun: u64, ended: u64) {
        state.durable = state.durable.max(lsn);
        state.last_sync_nanos = ended;
        // What came since it began is all that can be missing, but for what was waiting to be written then.
        state.behind_since_nanos = begun;
        self.more_durable.notify_all();
    }

    /// Makes what was written durable. No other sync may be at work.
    fn sync_written<'a>(&'a self, mut state: Guard<'a>) -> Result<Guard<'a>> {
        state.stages.syncing = true;
        let (written, file) = (state.stages.written, state.stages.file.clone());
        drop(state);
        let begun = self.io.monotonic_nanos();

        let synced = match file.filter(|_| !mutant!(SkipLogSync)) {
            Some(file) => file.sync_data(),
            None => Ok(()),
        };
        let now = self.io.monotonic_nanos();

        let mut state = self.state.lock();
        state.stages.syncing = false;
        if let Err(error) = synced {
            return self.failed(state, error);
        }
        self.note_durable(&mut state, written, begun, now);
        self.tell_watchers(&state);
        Ok(state)
    }

    /// Writes what is pending, makes all durable, and has `finish` end the work before any other record is written.
    fn settle<'a>(&'a self, state: Guard<'a>, finish: fn(&mut Writer) -> Result<()>) -> Result<Guard<'a>> {
        let (mut writer, mut state) = self.take_writer(state)?;
        let (batch, reserved) = state.take_pending();
        drop(state);

        let mut write = || {
            if let Some(frames) = self.lay(&mut writer, &batch, Buffer::new())? {
                frames.write()?;
            }
            self.harden(&mut writer)?;
            finish(&mut writer)
        };
        let settled = write();

        let mut state = self.state.lock();
        state.take_back(writer, reserved, batch);
        if let Err(error) = settled {
            return self.failed(state, error);
        }
        self.tell_watchers(&state);
        self.pass_on(state.can_write());
        Ok(state)
    }

    /// Makes all durable and says so in a frame of its own.
    pub(super) fn rest<'a>(&'a self, state: Guard<'a>) -> Result<Guard<'a>> {
        self.settle(state, Writer::note_watermark)
    }

    /// Makes all durable and ends the segment.
    pub(super) fn seal<'a>(&'a self, state: Guard<'a>) -> Result<Guard<'a>> {
        self.settle(state, Writer::seal)
    }

    fn take_writer<'a>(&'a self, mut state: Guard<'a>) -> Result<(Writer, Guard<'a>)> {
        loop {
            state.usable()?;
            if state.stages.flights.len() < FLIGHTS_MAX
                && let Some(mut writer) = state.writer.take()
            {
                writer.durable = state.durable;
                return Ok((writer, state));
            }
            state = self.wait_for_change(state);
        }
    }

    /// Lays `stream` out, over as many frames and segments as it takes, and gives the last frame, which is still to be
    /// written; those before it are.
    fn lay(&self, writer: &mut Writer, mut stream: &[u8], mut buffer: Buffer) -> Result<Option<Frames>> {
        let mut last: Option<Frames> = None;
        while !stream.is_empty() {
            if let Some(frames) = last.take() {
                buffer = frames.write()?;
            }
            match &mut writer.active {
                Some(active) if !active.is_full() => {
                    let watermark = if mutant!(WatermarkTooHigh) { writer.laid } else { writer.durable };
                    let (frames, taken) = active.lay(writer.laid, watermark, stream, std::mem::take(&mut buffer));
                    writer.watermark = writer.durable;
                    writer.laid += length(taken);
                    stream = stream.get(taken..).unwrap_or_default();
                    last = Some(frames);
                }
                _ => self.begin_segment(writer)?,
            }
        }
        Ok(last)
    }

    /// Goes on in the next prepared segment.
    fn begin_segment(&self, writer: &mut Writer) -> Result<()> {
        if !mutant!(SegmentBegunUnsynced) {
            self.harden(writer)?;
        }
        let mut state = self.state.lock();
        let ready = state.ready.pop_front().ok_or_else(|| Error::internal("the log has no segment prepared"))?;
        let (path, bytes) = (ready.path.clone(), ready.bytes);
        state.segments.push_back(Segment { path, start: writer.laid, bytes, used: 0 });
        let header = SegmentHeader {
            database_id: self.database_id,
            number: ready.number,
            epoch: self.io.random_u64(),
            start: writer.laid,
            fresh: std::mem::replace(&mut writer.fresh, false),
            reused: ready.reused,
        };
        let active = Active::begin(ready, header);
        state.stages.file = Some(Arc::clone(active.file()));
        writer.active = Some(active);
        Ok(())
    }

    /// Waits for what is in flight and makes all that was laid out durable: what the holder of the writer laid out itself
    /// must be written.
    fn harden(&self, writer: &mut Writer) -> Result<()> {
        let mut state = self.state.lock();
        while !state.stages.flights.is_empty() || state.stages.syncing {
            state.usable()?;
            state = self.wait_for_change(state);
        }
        state.usable()?;
        state.stages.written = writer.laid;
        if state.durable < writer.laid {
            drop(self.sync_written(state)?);
        }
        writer.durable = writer.laid;
        Ok(())
    }

    /// Takes no more records, and tells everybody.
    fn failed<'a>(&'a self, mut state: Guard<'a>, error: Error) -> Result<Guard<'a>> {
        state.poison(&error);
        self.more_durable.notify_all();
        self.tell_watchers(&state);
        Err(error)
    }

    /// Prepares one more segment, or waits while another thread does.
    pub(super) fn make_room<'a>(&'a self, mut state: Guard<'a>, need: u64) -> Result<Guard<'a>> {
        if state.preparing {
            return Ok(self.wait_for_change(state));
        }
        let least = need.saturating_add(3 * BLOCK).min(self.options.segment_bytes);
        let wanted = state.next_bytes.max(least);
        let spare = state.take_spare(wanted, least);
        let number = state.next_number;
        state.next_number = number.saturating_add(1);
        state.preparing = true;
        drop(state);

        // On a disk that is nearly full, what is left will do.
        let least = if need > 0 { least } else { wanted };
        let result = match spare {
            Some(spare) => self.reuse(number, &spare, wanted, least),
            None => self.prepare(number, wanted, least),
        };

        let mut state = self.state.lock();
        state.preparing = false;
        self.tell_watchers(&state);
        match result {
            Ok(ready) => {
                state.room += ready.room();
                if !ready.reused {
                    let most = if state.is_airy() { SEGMENT_BYTES_AIRY.max(wanted) } else { u64::MAX };
                    state.next_bytes = wanted.saturating_mul(2).min(most).min(self.options.segment_bytes);
                }
                state.ready.push_back(ready);
                Ok(state)
            }
            Err(error) => {
                // Nothing was half-written; but a sync that failed for another reason than space is a failed sync.
                match error.kind() {
                    ErrorKind::DiskFull => Err(error),
                    _ => self.failed(state, error),
                }
            }
        }
    }

    /// Segment `number` in new space, `wanted` bytes of it or, on a disk that is full, what is to be had down to `least`, with the
    /// space of the spares.
    fn prepare(&self, number: u64, wanted: u64, least: u64) -> Result<Ready> {
        let prepare = |bytes: u64| Ready::prepare(&self.io, &self.dir, number, bytes, self.options.sync);
        let or = |result: Result<Ready>, bytes: u64| match result {
            Err(error) if error.kind() == ErrorKind::DiskFull && bytes < wanted => prepare(bytes),
            result => result,
        };
        match or(prepare(wanted), least) {
            Err(error) if error.kind() == ErrorKind::DiskFull && self.give_up_spares()? => prepare(least),
            result => result,
        }
    }

    /// Segment `number` in the space of a spare one.
    fn reuse(&self, number: u64, spare: &Spare, wanted: u64, least: u64) -> Result<Ready> {
        match Ready::reuse(&self.io, &self.dir, number, spare) {
            // The directory itself may want more space.
            Err(error) if error.kind() == ErrorKind::DiskFull => self.prepare(number, wanted, least),
            result => result,
        }
    }

    /// Prepares the next segment when the one in use is half full.
    pub(super) fn prepare_ahead(&self, state: Guard<'_>) -> Result<()> {
        if state.preparing || !state.ready.is_empty() || !state.writer.as_ref().is_some_and(Writer::is_half_full) {
            return Ok(());
        }
        match self.make_room(state, 0) {
            // Whoever needs the space will hear of it.
            Err(error) if error.kind() == ErrorKind::DiskFull => Ok(()),
            result => result.map(drop),
        }
    }
}

impl State {
    /// Whether there is something to write, and may be written now.
    fn can_write(&self) -> bool {
        let stages = &self.stages;
        let alone = stages.flights.is_empty() && (!stages.syncing || stages.waiting <= stages.waiting_max);
        let large = stages.flights.len() < FLIGHTS_MAX && self.pending.len() >= FLIGHT_BYTES;
        !self.pending.is_empty() && self.writer.is_some() && (alone || large)
    }

    /// Whether all that was laid out is durable and no other thread waits for what is not. Then one frame of what is pending may be
    /// written durably in one step: no bytes before it need a sync, and nobody gains from a write while it is synced. (More than one
    /// frame it becomes only where a segment ends, which is synced.)
    fn is_alone(&self) -> bool {
        let stages = &self.stages;
        stages.flights.is_empty() && !stages.syncing && stages.waiting == 0 && self.durable == stages.written
    }

    /// Whether there is something to sync, and may be synced now.
    fn can_sync(&self) -> bool {
        self.durable < self.stages.written && !self.stages.syncing
    }

    /// Takes what is pending, to be laid out; and the space that is set aside for it.
    fn take_pending(&mut self) -> (Vec<u8>, u64) {
        let batch = std::mem::replace(&mut self.pending, std::mem::take(&mut self.emptied));
        let reserved = frame_bytes_at_most(batch.len());
        self.reserved += reserved;
        (batch, reserved)
    }

    /// Takes the writer back, with the memory of what it laid out; `reserved` is the space that was set aside for that.
    fn take_back(&mut self, writer: Writer, reserved: u64, batch: Vec<u8>) {
        self.reserved = self.reserved.saturating_sub(reserved);
        let ready: u64 = self.ready.iter().map(Ready::room).sum();
        self.room = ready + writer.room();
        self.watermark = writer.watermark;
        if let (Some(active), Some(newest)) = (&writer.active, self.segments.back_mut()) {
            newest.used = active.used();
        }
        if batch.capacity() <= EMPTIED_BYTES_MAX {
            self.emptied = batch;
            self.emptied.clear();
        }
        self.writer = Some(writer);
    }
}
