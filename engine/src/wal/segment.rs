/*!
Segment files from the writer's side: prepared, written, sealed.

A segment is prepared before it is needed: created, given its full size in zeros, and synced together with its
directory entry. From then on writing in it needs no space, and changes no metadata where commits wait for it, so a full disk shows itself when a
segment is prepared, when nothing is half-written yet, and never in the middle of a frame.

Or it is made of a [`Spare`], a released segment, whose space is there and written already: two syncs instead of as many zeros
as there will be frames. Its header is overwritten with zeros first, durably; then the file gets its new number. So there is no
moment, whatever a crash leaves of these steps, at which it passes for a segment with records: under its old name it lies before the
position that the log is needed from, with or without its header, and under its new one it has none until its first frame is written.

```text
    in use ──► released ──► spare ──► without a header ──► renamed ──► ready ──► in use
     wal-7.log                                         sync        sync      wal-12.log, a new epoch
```

What stands behind the new frames are frames of the old epoch, whose watermarks say less than what was released: to recovery
they are as good as zeros.

The last block of a segment is kept for a frame without payload, so that there is always a place to say how far the log was
durable when it was closed, or came to rest.

[`Active`] lays frames out and says where they go; who writes them, and when, is [`super::writer`]'s.
*/

use super::frame::{
    BLOCK, BLOCK_BYTES, FRAME_BYTES_MAX, FRAME_HEADER_BYTES, FRAME_PAYLOAD_MAX, Frame, SegmentHeader, frame_bytes,
};
use super::record::length;
use super::{Lsn, SyncMode};
use crate::error::Result;
use crate::io::{Buffer, File, IoRef, OpenMode};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A segment whose space is there and which has no header and no frame of its own.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) number: u64,
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
    /// Whether frames of an earlier segment may be in it.
    pub(super) reused: bool,
    file: Arc<dyn File>,
}

/// A released segment's file that nobody needs any more.
#[derive(Debug)]
pub(super) struct Spare {
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
}

impl Ready {
    /// Creates the file of segment `number` with `bytes` bytes, durably. What is left of a failure is removed.
    ///
    /// Where every commit waits for its sync the zeros are written; else their space is only set aside, because a sync now and then
    /// may well change metadata too.
    pub(super) fn prepare(io: &IoRef, dir: &Path, number: u64, bytes: u64, sync: SyncMode) -> Result<Ready> {
        let path = dir.join(file_name(number));
        let prepare = || {
            let file = io.open_direct(&path, OpenMode::CreateNew)?;
            match sync {
                SyncMode::Always => file.allocate(bytes)?,
                SyncMode::Interval(_) | SyncMode::None => file.reserve(bytes)?,
            }
            file.sync_all()?;
            if !mutant!(SkipSegmentDirSync) {
                io.sync_dir(dir)?;
            }
            Ok(file)
        };
        match prepare() {
            Ok(file) => Ok(Ready { number, path, bytes, reused: false, file }),
            Err(error) => {
                // Best effort: a file without a header means nothing to recovery, which removes it.
                let _ = io.remove_file(&path);
                Err(error)
            }
        }
    }

    /// Makes segment `number` of a file that has its space already. After a failure the file is removed, as well as it can be: to
    /// recovery it means nothing under either name.
    pub(super) fn reuse(io: &IoRef, dir: &Path, number: u64, spare: &Spare) -> Result<Ready> {
        let path = dir.join(file_name(number));
        let rename = || {
            if !mutant!(ReusedHeaderKept) {
                let file = io.open_direct(&spare.path, OpenMode::ReadWrite)?;
                file.write_all_at(0, Buffer::zeroed(BLOCK_BYTES))?;
                file.sync_data()?;
            }
            io.rename(&spare.path, &path)?;
            if !mutant!(SkipSegmentDirSync) {
                io.sync_dir(dir)?;
            }
            io.open_direct(&path, OpenMode::ReadWrite)
        };
        match rename() {
            Ok(file) => Ok(Ready { number, path, bytes: spare.bytes, reused: true, file }),
            Err(error) => {
                let _ = io.remove_file(&spare.path);
                let _ = io.remove_file(&path);
                Err(error)
            }
        }
    }

    /// Bytes of frames it will take at least, wherever they are cut at its end.
    pub(super) fn room(&self) -> u64 {
        self.bytes.saturating_sub(3 * BLOCK)
    }
}

/// The name of segment `number`'s file.
pub(super) fn file_name(number: u64) -> String {
    format!("wal-{number:08}.log")
}

/// The number in a segment's file name; `None` for any other file.
pub(super) fn number_of(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("wal-")?.strip_suffix(".log")?;
    let number = digits.parse().ok()?;
    (file_name(number) == name).then_some(number)
}

/// Frames laid out for one write: bytes, and where in the segment's file they go.
#[derive(Debug)]
pub(super) struct Frames {
    pub(super) file: Arc<dyn File>,
    pub(super) offset: u64,
    pub(super) bytes: Buffer,
}

impl Frames {
    /// Writes them, and gives their memory back. Nothing is synced.
    pub(super) fn write(self) -> Result<Buffer> {
        self.file.write_all_at(self.offset, self.bytes)
    }

    /// Writes them, makes them durable, and gives their memory back.
    pub(super) fn write_durably(self) -> Result<Buffer> {
        self.file.write_durably_at(self.offset, self.bytes)
    }
}

/// The segment that is being written.
#[derive(Debug)]
pub(super) struct Active {
    file: Arc<dyn File>,
    bytes: u64,
    header: SegmentHeader,
    header_laid: bool,
    /// Where the next frame begins.
    offset: u64,
    /// Checksum of the frame before it.
    crc: u32,
}

impl Active {
    /// Begins to use a prepared segment. Its header goes together with its first frame.
    pub(super) fn begin(ready: Ready, header: SegmentHeader) -> Active {
        Active { file: ready.file, bytes: ready.bytes, header, header_laid: false, offset: BLOCK, crc: 0 }
    }

    pub(super) fn file(&self) -> &Arc<dyn File> {
        &self.file
    }

    /// Bytes of its header and frames.
    pub(super) fn used(&self) -> u64 {
        self.offset
    }

    /// Bytes that frames with a payload may take.
    fn left(&self) -> u64 {
        self.bytes.saturating_sub(BLOCK).saturating_sub(self.offset)
    }

    /// Bytes of frames it will take at least, wherever they are cut at its end.
    pub(super) fn room(&self) -> u64 {
        self.left().saturating_sub(BLOCK)
    }

    /// Whether no frame with a payload fits any more.
    pub(super) fn is_full(&self) -> bool {
        self.left() < BLOCK
    }

    /// Whether more than half of it is used.
    pub(super) fn is_half_full(&self) -> bool {
        self.offset > self.bytes / 2
    }

    /// Lays out a frame with as much of `stream`, which begins at `lsn`, as there is space for, and the header before it if
    /// that was not yet; gives the bytes taken too. The memory is `buffer`'s.
    pub(super) fn lay(&mut self, lsn: Lsn, watermark: Lsn, stream: &[u8], buffer: Buffer) -> (Frames, usize) {
        let space = usize::try_from(self.left()).unwrap_or(FRAME_BYTES_MAX).min(FRAME_BYTES_MAX);
        let payload_max = space.saturating_sub(FRAME_HEADER_BYTES).min(FRAME_PAYLOAD_MAX);
        let (payload, _) = stream.split_at_checked(payload_max).unwrap_or((stream, &[]));
        (self.lay_whole(lsn, watermark, payload, buffer), payload.len())
    }

    /// Lays out a frame that only says that all before `lsn` is durable; `None` where there is no space, because another such
    /// frame stands at the segment's end already.
    pub(super) fn lay_watermark(&mut self, lsn: Lsn, buffer: Buffer) -> Option<Frames> {
        let fits = self.bytes.saturating_sub(self.offset) >= BLOCK;
        fits.then(|| self.lay_whole(lsn, lsn, &[], buffer))
    }

    fn lay_whole(&mut self, lsn: Lsn, watermark: Lsn, payload: &[u8], mut bytes: Buffer) -> Frames {
        bytes.clear();
        let mut offset = self.offset;
        if !self.header_laid {
            self.crc = self.header.encode(&mut bytes);
            offset -= length(BLOCK_BYTES);
        }
        let frame = Frame {
            database_id: self.header.database_id,
            epoch: self.header.epoch,
            offset: self.offset,
            lsn,
            watermark,
            previous: self.crc,
        };
        self.crc = frame.encode(payload, &mut bytes);
        self.header_laid = true;
        self.offset += length(frame_bytes(payload.len()));
        Frames { file: Arc::clone(&self.file), offset, bytes }
    }

    /// Gives unused space at its end back, for good.
    pub(super) fn cut(self) -> Result<()> {
        if self.offset < self.bytes {
            self.file.set_len(self.offset)?;
            self.file.sync_all()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_and_numbers_belong_together() {
        for number in [0, 1, 99_999_999, 100_000_000, u64::MAX] {
            assert_eq!(number_of(&file_name(number)), Some(number));
        }
        for name in ["wal-1.log", "wal-.log", "wal-00000001.log.tmp", "wal-+0000001.log", "manifest-00000001"] {
            assert_eq!(number_of(name), None, "{name}");
        }
    }
}
