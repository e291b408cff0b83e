//! The log's decoders for `crate::fuzzing`.

use super::frame::{BLOCK_BYTES, Frame, SegmentHeader};

/// A header and a frame from the same bytes, as they are and with their checksum set right.
pub(crate) fn frame(bytes: &[u8]) {
    let mut sealed = bytes.to_vec();
    sealed.resize(bytes.len().next_multiple_of(BLOCK_BYTES), 0);
    seal(&mut sealed);
    for bytes in [bytes, &sealed] {
        let _ = SegmentHeader::decode(bytes);
        let said = Frame::peek(bytes);
        if let Some(read) = Frame::decode(bytes) {
            assert_eq!(said, Some(bytes.len()), "a frame is not as long as it says");
            assert!(read.bytes() == bytes.len() && read.payload_bytes <= bytes.len());
        }
    }
}

/// A segment with the checksums, places and predecessors of its frames set right.
pub(crate) fn sealed(bytes: &[u8]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    out.resize(bytes.len().next_multiple_of(BLOCK_BYTES), 0);
    let (mut at, mut len, mut previous) = (0, BLOCK_BYTES, None::<u32>);
    while let Some(part) = out.get_mut(at..at + len) {
        if let Some(previous) = previous {
            put(part, 32, &super::length(at).to_le_bytes());
            put(part, 56, &previous.to_le_bytes());
        }
        previous = Some(seal(part));
        at += len;
        len = out.get(at..).and_then(Frame::peek).unwrap_or(BLOCK_BYTES);
    }
    out
}

fn seal(bytes: &mut [u8]) -> u32 {
    let crc = bytes.get(4..).map_or(0, crc32c::crc32c);
    put(bytes, 0, &crc.to_le_bytes());
    crc
}

fn put(bytes: &mut [u8], at: usize, field: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + field.len()) {
        place.copy_from_slice(field);
    }
}

/// A header and a frame, as their encoders write them.
#[cfg(test)]
pub(crate) fn seeds(record: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    use super::frame::BLOCK;
    use crate::io::Buffer;
    let (database_id, epoch) = ([7; 16], 9);
    let mut header = Buffer::new();
    let previous = SegmentHeader { database_id, number: 1, epoch, start: 0, fresh: true, reused: false };
    let previous = previous.encode(&mut header);
    let mut frame = Buffer::new();
    Frame { database_id, epoch, offset: BLOCK, lsn: 0, watermark: 0, previous }.encode(record, &mut frame);
    vec![("header", header.to_vec()), ("frame", frame.to_vec())]
}
