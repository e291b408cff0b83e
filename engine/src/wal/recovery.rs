/*!
What a log says when it is opened: its segments are surveyed, their frames read in order, their records handed out.

The rules, which [`super`] explains:

- A frame counts only if all of it is as written, it stands where it was written, and it follows the frame before it.
- A frame of another epoch than its segment's does not count, for the stream or as a proof: it is what the file held when it was
  another segment's.
- The stream of a segment ends where the next segment begins, whatever else stands in the file: a torn tail that was cut
  once never comes back.
- At the first frame that does not count, a search through all that follows decides: a valid frame whose watermark lies
  beyond the gap, or a later segment that begins beyond it, proves that durable bytes are damaged. Else it is the torn
  tail of a crash, and the stream ends there.
*/

use super::frame::{BLOCK, BLOCK_BYTES, FRAME_HEADER_BYTES, Frame, FrameRead, HeaderBlock, SegmentHeader};
use super::record::{Assembler, length};
use super::segment::number_of;
use super::{Known, Lsn, Replay};
use crate::error::{Error, ErrorKind, Place, Result};
use crate::io::{Buffer, Completion, EntryKind, File, IoRef, Op, OpenMode};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes that are read at once.
const READ_BYTES: usize = 1024 * 1024;

/// A segment file that was found.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) number: u64,
    pub(super) path: PathBuf,
    /// `None` where the first block is no header: prepared and never used, torn, or damaged.
    header: Option<(SegmentHeader, u32)>,
    reader: Reader,
}

impl Found {
    fn start(&self) -> Option<Lsn> {
        self.header.map(|(header, _)| header.start)
    }
}

/// Opens all segments in `dir`, in order, and reads their headers.
pub(super) fn survey(io: &IoRef, dir: &Path, database_id: &[u8; 16]) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    // Names alone: beside the segments there may be ten thousand runs.
    for name in io.names(dir)? {
        let Some(number) = number_of(&name) else { continue };
        let path = dir.join(&name);
        if io.exists(&path)? == Some(EntryKind::File) {
            found.push(look(io, number, path, database_id)?);
        }
    }
    found.sort_by_key(|segment| segment.number);
    let starts: Vec<_> = found.iter().filter_map(|segment| Some((segment.start()?, &segment.path))).collect();
    for ((before, _), (after, path)) in starts.iter().zip(starts.iter().skip(1)) {
        if after < before {
            return Err(Error::corruption("a log segment begins before the one that precedes it").at(*path, 0));
        }
    }
    Ok(found)
}

fn look(io: &IoRef, number: u64, path: PathBuf, database_id: &[u8; 16]) -> Result<Found> {
    let file = io.open_direct(&path, OpenMode::Read)?;
    let header = match SegmentHeader::decode(&file.read_at(0, BLOCK_BYTES)?) {
        HeaderBlock::Bad => None,
        HeaderBlock::Valid(header, crc) => Some((header, crc)),
        HeaderBlock::Newer(version) => {
            let sentence =
                format!("the log has format {version}, which a newer release wrote; open it with that release");
            return Err(Error::new(ErrorKind::NewerFormat, sentence).at(path, 0));
        }
    };
    match header {
        Some((header, _)) if header.database_id != *database_id => {
            Err(Error::corruption("the log segment belongs to another database").at(path, 0))
        }
        Some((header, _)) if header.number != number => {
            let sentence = format!("the file holds log segment {}, not the one it is named for", header.number);
            Err(Error::corruption(sentence).at(path, 0))
        }
        header => Ok(Found { number, path, header, reader: Reader::new(file)? }),
    }
}

/// A segment that the stream lies in.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) path: PathBuf,
    pub(super) start: Lsn,
    /// Bytes of the file.
    pub(super) bytes: u64,
    file: Arc<dyn File>,
    /// The header's checksum.
    crc: u32,
}

impl Kept {
    /// Whether the file is still the segment that was read: who makes another one of it begins with the header.
    fn is_unchanged(&self) -> Result<bool> {
        let header = SegmentHeader::decode(&self.file.read_at(0, BLOCK_BYTES)?);
        Ok(matches!(header, HeaderBlock::Valid(_, crc) if crc == self.crc))
    }
}

/// What was found out by reading a log.
#[derive(Debug)]
pub(super) struct Outcome {
    /// Segments that the stream lies in, by number.
    pub(super) kept: Vec<Kept>,
    /// Files whose records are all released.
    pub(super) released: Vec<PathBuf>,
    /// Files without records: prepared and never used, or torn at their very beginning.
    pub(super) dead: Vec<PathBuf>,
    /// What may be in the operating system's memory only: a file, and the bytes from … to.
    pub(super) unproved: Option<(PathBuf, u64, u64)>,
    /// One above the highest number that any file has.
    pub(super) next_number: u64,
    /// Frames that were read.
    pub(super) frames: u64,
    pub(super) replay: Replay,
}

impl Outcome {
    /// That no writer has made another segment of a file while it was read, for who reads beside one and holds no lease.
    ///
    /// # Errors
    /// `Corruption`, as where such a file was met in the middle of the change.
    pub(super) fn check_unchanged(&self) -> Result<()> {
        for kept in &self.kept {
            if !kept.is_unchanged()? {
                let sentence = "the log segment was released and made another one while it was read";
                return Err(Error::corruption(sentence).at(&kept.path, 0));
            }
        }
        Ok(())
    }
}

/// Reads the stream and hands each complete record that ends after `from` to `apply`, with the position behind it.
/// [`Known::from`] is 0 or the end of a record.
pub(super) fn replay(
    mut found: Vec<Found>,
    known: Known,
    apply: &mut dyn FnMut(Lsn, &[u8]) -> Result<()>,
) -> Result<Outcome> {
    let from = known.from;
    let next_number = found.last().map_or(1, |last| last.number.saturating_add(1));
    let first = found.iter().rposition(|segment| segment.start().is_some_and(|start| start <= from));
    check_beginning(&found, first, from)?;

    let needed = found.split_off(first.unwrap_or(0));
    let released: Vec<PathBuf> = found.into_iter().map(|segment| segment.path).collect();
    let (mut kept, mut dead) = (Vec::new(), Vec::new());
    let mut pass = Pass::new(from, apply);
    let mut segments = VecDeque::from(needed);
    while let Some(mut segment) = segments.pop_front() {
        if mutant!(ReplayStopsEarly) && !kept.is_empty() {
            break;
        }
        let limit = segments.iter().find_map(Found::start).unwrap_or(Lsn::MAX);
        match segment.header {
            None => {
                pass.refuse_if_proved(&mut segment, 0, None)?;
                pass.stopped = Some(Place { file: segment.path.clone(), offset: Some(0) });
                dead.push(segment.path);
            }
            Some((header, crc)) => {
                pass.read_segment(&mut segment, &header, crc, limit)?;
                let bytes = segment.reader.len;
                kept.push(Kept { path: segment.path, start: header.start, bytes, file: segment.reader.file, crc });
            }
        }
    }
    pass.refuse_if_short(known.durable_to)?;
    let (unproved, frames) = (pass.unproved(), pass.frames);
    // Without syncs the log may end before what the caller has stored elsewhere already.
    let replay = Replay { end: pass.needed_from(), next_segment: next_number, ..pass.result };
    Ok(Outcome { kept, released, dead, next_number, frames, unproved, replay })
}

/// That the log reaches back to `from`.
fn check_beginning(found: &[Found], first: Option<usize>, from: Lsn) -> Result<()> {
    if first.is_some() {
        return Ok(());
    }
    match found.iter().find(|segment| segment.start().is_some()) {
        Some(segment) => {
            let start = segment.start().unwrap_or_default();
            let sentence =
                format!("the log begins at position {start}, but is needed from {from}: a segment is missing");
            Err(Error::corruption(sentence).at(&segment.path, 0))
        }
        None if found.is_empty() && from > 0 => {
            Err(Error::corruption(format!("the log is needed from position {from}, but has no segment")))
        }
        None => Ok(()),
    }
}

/// One reading of a log.
struct Pass<'a> {
    from: Lsn,
    apply: &'a mut dyn FnMut(Lsn, &[u8]) -> Result<()>,
    assembler: Assembler,
    /// Where the stream stopped before the end of a segment, for the error if that proves to be damage.
    stopped: Option<Place>,
    last: Option<LastSegment>,
    frames: u64,
    result: Replay,
}

/// What is known of the segment that was read last.
struct LastSegment {
    path: PathBuf,
    /// The highest watermark in it, at least its start.
    watermark: Lsn,
    /// Frames that no watermark covers: offset and the position behind them.
    uncovered: VecDeque<(u64, Lsn)>,
    end_offset: u64,
}

impl<'a> Pass<'a> {
    fn new(from: Lsn, apply: &'a mut dyn FnMut(Lsn, &[u8]) -> Result<()>) -> Self {
        let result = Replay { records: 0, bytes: 0, end: from, torn: None, next_segment: 0 };
        Pass { from, apply, assembler: Assembler::default(), stopped: None, last: None, frames: 0, result }
    }

    fn read_segment(&mut self, segment: &mut Found, header: &SegmentHeader, crc: u32, limit: Lsn) -> Result<()> {
        if self.last.is_none() {
            self.result.end = header.start;
        }
        if header.start > self.result.end {
            let (end, start) = (self.result.end, header.start);
            let sentence = format!("durable log records between positions {end} and {start} are damaged or missing");
            let place = self.stopped.take().unwrap_or(Place { file: segment.path.clone(), offset: Some(0) });
            return Err(Error::corruption(sentence).at(place.file, place.offset));
        }
        if header.fresh && !mutant!(CutTailRevived) {
            self.assembler.reset();
        }
        self.stopped = None;
        self.result.torn = None;
        self.last = Some(LastSegment {
            path: segment.path.clone(),
            watermark: header.start,
            uncovered: VecDeque::new(),
            end_offset: BLOCK,
        });
        self.read_frames(segment, header, crc, limit)
    }

    fn read_frames(&mut self, segment: &mut Found, header: &SegmentHeader, crc: u32, limit: Lsn) -> Result<()> {
        let mut offset = BLOCK;
        let mut previous = crc;
        while self.result.end < limit {
            let follows = |read: &FrameRead, end: Lsn| {
                let frame = read.frame;
                let placed = frame.offset == offset && frame.epoch == header.epoch;
                placed && frame.database_id == header.database_id && frame.previous == previous && frame.lsn == end
            };
            let mut read = segment.reader.frame(offset)?.filter(|read| follows(read, self.result.end));
            if read.is_none() {
                read = self.second_look(segment, offset, header, previous, limit, &follows)?;
            }
            let Some(read) = read else { return Ok(()) };
            self.take(segment, offset, &read, limit)?;
            offset += length(read.bytes());
            previous = read.crc;
        }
        Ok(())
    }

    /// At a frame that does not count: damage is an error, a torn tail is `None`. A writer may be at work while a
    /// reader process reads, so what looks like damage is read once more.
    fn second_look(
        &mut self,
        segment: &mut Found,
        offset: u64,
        header: &SegmentHeader,
        previous: u32,
        limit: Lsn,
        follows: &dyn Fn(&FrameRead, Lsn) -> bool,
    ) -> Result<Option<FrameRead>> {
        let proof = self.refuse_if_proved(segment, offset, Some(header));
        if proof.is_err() {
            segment.reader.forget();
            let again = segment.reader.frame(offset)?.filter(|read| follows(read, self.result.end));
            return if again.is_some() { Ok(again) } else { proof.map(|()| None) };
        }
        let place = Place { file: segment.path.clone(), offset: Some(offset) };
        if is_torn(segment.reader.get(offset, BLOCK_BYTES)?, header, self.result.end, previous) {
            self.result.torn = Some(place.clone());
        }
        if limit < Lsn::MAX {
            self.stopped = Some(place);
        }
        Ok(None)
    }

    /// Fails if a valid frame behind `offset` proves that the bytes at the end of the stream were durable.
    fn refuse_if_proved(&mut self, segment: &mut Found, offset: u64, header: Option<&SegmentHeader>) -> Result<()> {
        let mut at = offset + BLOCK;
        while segment.reader.reaches(at) {
            if let Some(read) = segment.reader.frame(at)?
                && read.frame.offset == at
                && read.frame.watermark > self.needed_from()
                && !mutant!(WatermarkIgnored)
                && header.is_none_or(|header| {
                    read.frame.epoch == header.epoch && read.frame.database_id == header.database_id
                })
            {
                let sentence = format!(
                    "the log is damaged: the frame here does not hold, and the one at offset {at} proves that it was \
                     durable once"
                );
                return Err(Error::corruption(sentence).at(&segment.path, offset));
            }
            at += BLOCK;
        }
        Ok(())
    }

    /// Fails if the stream ends before a position up to which it was durable.
    fn refuse_if_short(&mut self, durable_to: Lsn) -> Result<()> {
        let end = self.needed_from();
        if end >= durable_to || mutant!(EndOfLogForgotten) {
            return Ok(());
        }
        let sentence = format!(
            "the log ends at position {end}, but was durable up to {durable_to}: its end is damaged or was cut off"
        );
        let tail = self.last.as_ref().map(|last| Place { file: last.path.clone(), offset: Some(last.end_offset) });
        let error = Error::corruption(sentence);
        Err(match self.result.torn.take().or(self.stopped.take()).or(tail) {
            Some(place) => error.at(place.file, place.offset),
            None => error,
        })
    }

    /// Takes a frame's payload into the stream, up to `limit`.
    fn take(&mut self, segment: &mut Found, offset: u64, read: &FrameRead, limit: Lsn) -> Result<()> {
        let payload = segment.reader.get(offset + length(FRAME_HEADER_BYTES), read.payload_bytes)?;
        let end = self.result.end;
        let inside = usize::try_from(limit - end).unwrap_or(usize::MAX);
        let payload = payload.get(..inside).unwrap_or(payload);
        let known = usize::try_from(self.from.saturating_sub(end)).unwrap_or(usize::MAX);
        let new = payload.get(known..).unwrap_or_default();

        let result = &mut self.result;
        let apply = &mut self.apply;
        let mut count = |lsn: Lsn, record: &[u8]| {
            result.records += 1;
            result.bytes += length(record.len());
            apply(lsn, record)
        };
        let place = |error: Error| error.at(&segment.path, offset);
        self.assembler.feed(end.max(self.from), new, &mut count).map_err(place)?;
        self.result.end = end + length(payload.len());
        self.frames += 1;

        if let Some(last) = &mut self.last {
            last.note(offset, read, self.result.end);
        }
        Ok(())
    }

    /// The position from which on the log has something to say that is not known yet.
    fn needed_from(&self) -> Lsn {
        self.result.end.max(self.from)
    }

    fn unproved(&self) -> Option<(PathBuf, u64, u64)> {
        let last = self.last.as_ref()?;
        let (offset, _) = *last.uncovered.front()?;
        // The first frame was written together with the header.
        let from = if offset == BLOCK { 0 } else { offset };
        Some((last.path.clone(), from, last.end_offset))
    }
}

/// Whether a block where no frame holds has something of one: a write that was cut short, as far as that can be told from zeros, or from
/// what the file held when it was another segment's.
fn is_torn(block: &[u8], header: &SegmentHeader, end: Lsn, previous: u32) -> bool {
    match header.reused {
        true => Frame::was_to_follow(block, header.epoch, end, previous),
        false => block.iter().any(|byte| *byte != 0),
    }
}

impl LastSegment {
    fn note(&mut self, offset: u64, read: &FrameRead, end: Lsn) {
        self.watermark = self.watermark.max(read.frame.watermark);
        self.uncovered.push_back((offset, end));
        self.end_offset = offset + length(read.bytes());
        while self.uncovered.front().is_some_and(|(_, end)| *end <= self.watermark) {
            self.uncovered.pop_front();
        }
    }
}

/// Reads a segment file, mostly from its beginning to its end: what comes next is on its way while this is looked at.
#[derive(Debug)]
pub(super) struct Reader {
    file: Arc<dyn File>,
    /// Bytes of the file when it was opened: a segment never grows.
    len: u64,
    buffer: Buffer,
    buffer_at: u64,
    /// What was asked for behind the buffer, and where that begins.
    ahead: Option<(u64, Completion)>,
}

impl Reader {
    pub(super) fn new(file: Arc<dyn File>) -> Result<Self> {
        let len = file.len()?;
        Ok(Reader { file, len, buffer: Buffer::new(), buffer_at: 0, ahead: None })
    }

    /// Forgets what was read.
    fn forget(&mut self) {
        self.buffer = Buffer::new();
        self.ahead = None;
    }

    /// Makes the buffer begin at `offset`, with `len` bytes at least; these the file has.
    fn fill(&mut self, offset: u64, len: usize) -> Result<()> {
        let mut bytes = Buffer::from_slice(self.rest(offset));
        let end = |bytes: &Buffer| offset.saturating_add(length(bytes.len()));
        if let Some((_, ahead)) = self.ahead.take_if(|(at, _)| *at == end(&bytes)) {
            let read = ahead.wait()?.buffer.unwrap_or_default();
            bytes.extend_from_slice(&read);
        }
        // What came back short, or is read for the first time.
        if bytes.len() < len {
            let left = usize::try_from(self.len.saturating_sub(end(&bytes))).unwrap_or(usize::MAX);
            let more = self.file.read_at(end(&bytes), (len - bytes.len()).max(READ_BYTES).min(left))?;
            bytes.extend_from_slice(&more);
        }
        let next = end(&bytes);
        let left = usize::try_from(self.len.saturating_sub(next)).unwrap_or(usize::MAX);
        if left > 0 && bytes.len() >= READ_BYTES {
            let buffer = Buffer::for_read(next, READ_BYTES.min(left));
            self.ahead = Some((next, self.file.submit(Op::Read { offset: next, buffer })));
        }
        (self.buffer, self.buffer_at) = (bytes, offset);
        Ok(())
    }

    /// `len` bytes at `offset`; fewer only at the end of the file.
    pub(super) fn get(&mut self, offset: u64, len: usize) -> Result<&[u8]> {
        let left = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX);
        let len = len.min(left);
        if self.rest(offset).len() < len {
            self.fill(offset, len)?;
        }
        let rest = self.rest(offset);
        Ok(rest.get(..len).unwrap_or(rest))
    }

    /// The bytes that are in the buffer from `offset` on.
    fn rest(&self, offset: u64) -> &[u8] {
        let skip = offset.checked_sub(self.buffer_at).and_then(|skip| usize::try_from(skip).ok());
        skip.and_then(|skip| self.buffer.get(skip..)).unwrap_or_default()
    }

    /// Whether the file has a byte at `offset`.
    pub(super) fn reaches(&self, offset: u64) -> bool {
        offset < self.len
    }

    /// The frame at `offset`, if its checksum holds.
    pub(super) fn frame(&mut self, offset: u64) -> Result<Option<FrameRead>> {
        let Some(bytes) = Frame::peek(self.get(offset, FRAME_HEADER_BYTES)?) else { return Ok(None) };
        Ok(Frame::decode(self.get(offset, bytes)?))
    }
}
