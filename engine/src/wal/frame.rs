/*!
Segment headers and frames as bytes, and back. The format is drawn in [`super`].

Decoders take bytes and trust none: a length is bounded before it is used, and nothing counts before the checksum holds.
*/

use super::Lsn;
use super::filling::with_zeros;
use crate::io::Buffer;

/// Frames begin and end at multiples of this: a page of the device and of direct I/O.
pub(super) const BLOCK_BYTES: usize = 4096;
/// [`BLOCK_BYTES`] as a file offset.
pub(super) const BLOCK: u64 = 4096;

/// Bytes before a frame's payload.
pub(super) const FRAME_HEADER_BYTES: usize = 64;

/// Bytes of one frame at most, so that a reader needs one buffer of this size and no more.
pub(super) const FRAME_BYTES_MAX: usize = 1024 * 1024;

/// Payload of one frame at most.
pub(super) const FRAME_PAYLOAD_MAX: usize = FRAME_BYTES_MAX - FRAME_HEADER_BYTES;

/// Version of this format, in every segment's header. A later one may change all but the header block's size, checksum,
/// magic and version, which stay where they are for ever: so an old release can tell a newer log from a damaged one.
pub(super) const FORMAT_VERSION: u32 = 1;

const HEADER_MAGIC: [u8; 4] = *b"OMWS";
const FRAME_MAGIC: [u8; 4] = *b"OMWF";
const FLAG_FRESH: u32 = 1;
const FLAG_REUSED: u32 = 2;

/// What a segment says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) database_id: [u8; 16],
    /// The number in its file's name.
    pub(super) number: u64,
    /// Random: bytes left over from any other file never pass for this segment's.
    pub(super) epoch: u64,
    /// Stream position of its first payload byte. All before it was durable when the segment was begun.
    pub(super) start: Lsn,
    /// Begun by an open, not by a rotation: a record that was cut short before it never goes on in it.
    pub(super) fresh: bool,
    /// Its file was another segment's before, frames of which may stand behind its own.
    pub(super) reused: bool,
}

/// What a segment's first block turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum HeaderBlock {
    /// A header, and its checksum, to which the first frame is chained.
    Valid(SegmentHeader, u32),
    /// A header of a later release, with its format version.
    Newer(u32),
    /// Nothing that was ever completely written.
    Bad,
}

impl SegmentHeader {
    /// Appends the header's block to `out` and gives its checksum.
    pub(super) fn encode(&self, out: &mut Buffer) -> u32 {
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&HEADER_MAGIC);
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        let flag = |set: bool, flag: u32| if set { flag } else { 0 };
        out.extend_from_slice(&(flag(self.fresh, FLAG_FRESH) | flag(self.reused, FLAG_REUSED)).to_le_bytes());
        out.extend_from_slice(&self.database_id);
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&self.epoch.to_le_bytes());
        out.extend_from_slice(&self.start.to_le_bytes());
        finish(out, start)
    }

    /// Reads a segment's first block.
    pub(super) fn decode(block: &[u8]) -> HeaderBlock {
        HeaderBlock::read(block).unwrap_or(HeaderBlock::Bad)
    }
}

impl HeaderBlock {
    fn read(block: &[u8]) -> Option<HeaderBlock> {
        let block = block.get(..BLOCK_BYTES)?;
        let crc = checked(block, HEADER_MAGIC)?;
        let version = u32::from_le_bytes(field(block, 8)?);
        if version > FORMAT_VERSION {
            return Some(HeaderBlock::Newer(version));
        }
        let flags = u32::from_le_bytes(field(block, 12)?);
        let header = SegmentHeader {
            fresh: flags & FLAG_FRESH != 0,
            reused: flags & FLAG_REUSED != 0,
            database_id: field(block, 16)?,
            number: u64::from_le_bytes(field(block, 32)?),
            epoch: u64::from_le_bytes(field(block, 40)?),
            start: u64::from_le_bytes(field(block, 48)?),
        };
        Some(HeaderBlock::Valid(header, crc))
    }
}

/// A frame without its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) database_id: [u8; 16],
    pub(super) epoch: u64,
    /// Where it begins in its segment's file.
    pub(super) offset: u64,
    /// Stream position of its first payload byte.
    pub(super) lsn: Lsn,
    /// All of the stream before this was durable when the frame was submitted.
    pub(super) watermark: Lsn,
    /// The checksum of the frame before it, or of the segment's header.
    pub(super) previous: u32,
}

/// A frame that was read: its checksum holds, and it stands where it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameRead {
    pub(super) frame: Frame,
    pub(super) crc: u32,
    /// Payload bytes, which follow the frame's header.
    pub(super) payload_bytes: usize,
}

impl FrameRead {
    /// Bytes it takes in the file.
    pub(super) fn bytes(&self) -> usize {
        frame_bytes(self.payload_bytes)
    }
}

/// Bytes of a frame with this much payload.
pub(super) fn frame_bytes(payload_bytes: usize) -> usize {
    (FRAME_HEADER_BYTES + payload_bytes).next_multiple_of(BLOCK_BYTES)
}

impl Frame {
    /// Appends the frame with `payload` (at most [`FRAME_PAYLOAD_MAX`]) to `out` and gives its checksum.
    pub(super) fn encode(&self, payload: &[u8], out: &mut Buffer) -> u32 {
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&FRAME_MAGIC);
        out.extend_from_slice(&self.database_id);
        out.extend_from_slice(&self.epoch.to_le_bytes());
        out.extend_from_slice(&self.offset.to_le_bytes());
        out.extend_from_slice(&self.lsn.to_le_bytes());
        out.extend_from_slice(&self.watermark.to_le_bytes());
        out.extend_from_slice(&self.previous.to_le_bytes());
        out.extend_from_slice(&u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes());
        out.extend_from_slice(payload);
        finish(out, start)
    }

    /// How many bytes the frame that begins with `bytes` says it takes; `None` if no frame begins here.
    pub(super) fn peek(bytes: &[u8]) -> Option<usize> {
        if field(bytes, 4)? != FRAME_MAGIC {
            return None;
        }
        let payload = usize::try_from(u32::from_le_bytes(field(bytes, 60)?)).ok()?;
        (payload <= FRAME_PAYLOAD_MAX).then(|| frame_bytes(payload))
    }

    /// Whether `bytes` begin with what is left of a frame that was written to follow the frame before: any of the fields that bind it
    /// to its place is the right one, which no frame of an earlier segment in the same file has.
    pub(super) fn was_to_follow(bytes: &[u8], epoch: u64, lsn: Lsn, previous: u32) -> bool {
        let u64_at = |at| field(bytes, at).map(u64::from_le_bytes);
        u64_at(24) == Some(epoch)
            || u64_at(40) == Some(lsn)
            || field(bytes, 56).map(u32::from_le_bytes) == Some(previous)
    }

    /// Reads the frame that is `bytes`, all of them.
    pub(super) fn decode(bytes: &[u8]) -> Option<FrameRead> {
        if Frame::peek(bytes)? != bytes.len() {
            return None;
        }
        let crc = checked(bytes, FRAME_MAGIC)?;
        let frame = Frame {
            database_id: field(bytes, 8)?,
            epoch: u64::from_le_bytes(field(bytes, 24)?),
            offset: u64::from_le_bytes(field(bytes, 32)?),
            lsn: u64::from_le_bytes(field(bytes, 40)?),
            watermark: u64::from_le_bytes(field(bytes, 48)?),
            previous: u32::from_le_bytes(field(bytes, 56)?),
        };
        let payload_bytes = usize::try_from(u32::from_le_bytes(field(bytes, 60)?)).ok()?;
        frame.lsn.checked_add(u64::try_from(payload_bytes).ok()?)?;
        (frame.watermark <= frame.lsn).then_some(FrameRead { frame, crc, payload_bytes })
    }
}

/// Fills up to a whole block and writes the checksum of all that follows it into the first four bytes.
fn finish(out: &mut Buffer, start: usize) -> u32 {
    let (end, filled) = (out.len(), out.len().next_multiple_of(BLOCK_BYTES));
    let crc = with_zeros(out.get(start + 4..).map_or(0, crc32c::crc32c), filled - end);
    out.resize(filled, 0);
    if let Some(place) = out.get_mut(start..start + 4) {
        place.copy_from_slice(&crc.to_le_bytes());
    }
    crc
}

/// The checksum in the first four bytes, if it holds and `magic` follows.
fn checked(bytes: &[u8], magic: [u8; 4]) -> Option<u32> {
    let crc = u32::from_le_bytes(field(bytes, 0)?);
    let holds = crc32c::crc32c(bytes.get(4..)?) == crc || mutant!(DropLogChecksum);
    let matches = field(bytes, 4)? == magic && holds;
    matches.then_some(crc)
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk::<N>().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> SegmentHeader {
        SegmentHeader { database_id: [7; 16], number: 3, epoch: 0xE0C4, start: 1 << 40, fresh: true, reused: false }
    }

    fn frame() -> Frame {
        Frame { database_id: [7; 16], epoch: 0xE0C4, offset: 8192, lsn: 99, watermark: 98, previous: 5 }
    }

    #[test]
    fn headers_and_frames_come_back_as_they_were() {
        let mut out = Buffer::new();
        let crc = header().encode(&mut out);
        assert_eq!(out.len(), BLOCK_BYTES);
        assert_eq!(SegmentHeader::decode(&out), HeaderBlock::Valid(header(), crc));
        for (fresh, reused) in [(false, false), (false, true), (true, true)] {
            let header = SegmentHeader { fresh, reused, ..header() };
            let mut out = Buffer::new();
            let crc = header.encode(&mut out);
            assert_eq!(SegmentHeader::decode(&out), HeaderBlock::Valid(header, crc));
        }
        for payload_bytes in [0, 1, 4032, 4033, FRAME_PAYLOAD_MAX] {
            let payload = vec![0xAB; payload_bytes];
            let mut out = Buffer::new();
            let crc = frame().encode(&payload, &mut out);
            assert_eq!(out.len(), frame_bytes(payload_bytes));
            assert!(out.len() <= FRAME_BYTES_MAX);
            assert_eq!(Frame::decode(&out), Some(FrameRead { frame: frame(), crc, payload_bytes }));
        }
    }

    #[test]
    fn every_flipped_bit_is_seen() {
        let mut block = Buffer::new();
        header().encode(&mut block);
        let mut bytes = Buffer::new();
        frame().encode(b"payload", &mut bytes);
        for at in 0..BLOCK_BYTES {
            let bit = 1 << (at % 8);
            block[at] ^= bit;
            assert_eq!(SegmentHeader::decode(&block), HeaderBlock::Bad, "byte {at}");
            block[at] ^= bit;
            bytes[at] ^= bit;
            assert_eq!(Frame::decode(&bytes), None, "byte {at}");
            bytes[at] ^= bit;
        }
    }

    #[test]
    fn a_later_format_is_named_as_such() {
        let mut block = Buffer::new();
        header().encode(&mut block);
        block[8..12].copy_from_slice(&9u32.to_le_bytes());
        let crc = crc32c::crc32c(&block[4..]);
        block[..4].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(SegmentHeader::decode(&block), HeaderBlock::Newer(9));
    }

    #[test]
    fn arbitrary_and_short_bytes_are_refused() {
        let mut bytes = Buffer::new();
        frame().encode(&[1; 5000], &mut bytes);
        for len in 0..bytes.len() {
            assert_eq!(Frame::decode(&bytes[..len]), None);
        }
        assert_eq!(SegmentHeader::decode(&[0; 100]), HeaderBlock::Bad);
        let mut huge = bytes[..BLOCK_BYTES].to_vec();
        huge[60..64].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(Frame::peek(&huge), None);
    }
}
