/*!
The log as a checker reads it: every frame, changing nothing.

[`inspect`] reads it as an open would, and stops where an open would stop. [`sweep`] looks at every block of every segment
instead, and names each stretch where no frame holds and a later one does; it is for a log that does not open.
*/

use super::frame::{BLOCK, FrameRead, HeaderBlock, SegmentHeader};
use super::record::length;
use super::recovery::{self, Reader};
use super::{Known, Lsn, Replay};
use crate::error::{Error, Result};
use crate::io::{EntryKind, IoRef, OpenMode};
use std::path::{Path, PathBuf};

/// What reading a log from end to end found.
#[derive(Debug)]
pub(crate) struct Inspection {
    /// Files that the stream lies in.
    pub(crate) segments: u64,
    /// Their frames.
    pub(crate) frames: u64,
    pub(crate) replay: Replay,
    /// Segment files that nothing needs.
    pub(crate) unused: Vec<PathBuf>,
}

/// Reads the log and hands out its records as `Wal::open` does.
///
/// # Errors
/// As `Wal::open`.
pub(crate) fn inspect(
    io: &IoRef,
    dir: &Path,
    database_id: &[u8; 16],
    known: Known,
    apply: &mut dyn FnMut(Lsn, &[u8]) -> Result<()>,
) -> Result<Inspection> {
    let outcome = recovery::replay(recovery::survey(io, dir, database_id)?, known, apply)?;
    outcome.check_unchanged()?;
    Ok(Inspection {
        segments: length(outcome.kept.len()),
        frames: outcome.frames,
        replay: outcome.replay,
        unused: outcome.released.into_iter().chain(outcome.dead).collect(),
    })
}

/// Frames that hold, and all places where one should be and none is.
#[derive(Debug, Default)]
pub(crate) struct Sweep {
    pub(crate) segments: u64,
    pub(crate) frames: u64,
    pub(crate) damage: Vec<Error>,
    from: Lsn,
}

/// Looks at every block of every segment. `from`: as in [`Known::from`]; in a segment without a header, frames that end there or before
/// are those of the segment that its file was before. Errors: of listing the directory.
pub(crate) fn sweep(io: &IoRef, dir: &Path, database_id: &[u8; 16], from: Lsn) -> Result<Sweep> {
    let mut sweep = Sweep { from, ..Sweep::default() };
    for entry in io.list(dir)? {
        let Some(number) = super::segment::number_of(&entry.name).filter(|_| entry.kind == EntryKind::File) else {
            continue;
        };
        sweep.segments += 1;
        let path = dir.join(&entry.name);
        if let Err(error) = sweep.segment(io, &path, number, database_id) {
            sweep.damage.push(error.at(&path, None));
        }
    }
    Ok(sweep)
}

impl Sweep {
    fn segment(&mut self, io: &IoRef, path: &Path, number: u64, database_id: &[u8; 16]) -> Result<()> {
        let mut reader = Reader::new(io.open(path, OpenMode::Read)?)?;
        let header = match SegmentHeader::decode(reader.get(0, super::frame::BLOCK_BYTES)?) {
            HeaderBlock::Valid(header, _) => Some(header),
            HeaderBlock::Bad | HeaderBlock::Newer(_) => None,
        };
        if header.is_some_and(|header| header.number != number || header.database_id != *database_id) {
            return Err(Error::corruption("the log segment is not the one it is named for").at(path, 0));
        }
        let from = self.from;
        let belongs = |read: &FrameRead, at: u64| {
            let ours = read.frame.offset == at && read.frame.database_id == *database_id;
            let end = read.frame.lsn.saturating_add(length(read.payload_bytes));
            ours && header.map_or(end > from, |header| header.epoch == read.frame.epoch)
        };
        let (mut at, mut gap) = (BLOCK, header.is_none().then_some(0));
        while reader.reaches(at) {
            match reader.frame(at)?.filter(|read| belongs(read, at)) {
                Some(read) => {
                    if let Some(from) = gap.take() {
                        let sentence = format!("nothing holds here up to offset {at}, where a frame does");
                        self.damage.push(Error::corruption(sentence).at(path, from));
                    }
                    self.frames += 1;
                    at += length(read.bytes());
                }
                None => {
                    gap.get_or_insert(at);
                    at += BLOCK;
                }
            }
        }
        Ok(())
    }
}
