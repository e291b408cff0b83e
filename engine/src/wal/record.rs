/*!
Records in the stream: each is its length (u32, little-endian) and its bytes, one after the other. A record may lie in
any number of frames and segments; [`Assembler`] puts it together again.
*/

use super::{Lsn, RECORD_BYTES_MAX};
use crate::error::{Error, Result};

/// Bytes before each record.
pub(super) const PREFIX_BYTES: usize = 4;

/// Appends a record to the stream.
pub(super) fn push(stream: &mut Vec<u8>, record: &[u8]) -> Result<()> {
    let len = u32::try_from(record.len()).map_err(|_| Error::internal("a log record is longer than 2^32 bytes"))?;
    stream.extend_from_slice(&len.to_le_bytes());
    stream.extend_from_slice(record);
    Ok(())
}

/// Puts records together from pieces of the stream that come in order.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    /// Prefix and bytes of a record that is not complete yet.
    partial: Vec<u8>,
}

impl Assembler {
    /// Forgets a record that was begun.
    pub(super) fn reset(&mut self) {
        self.partial.clear();
    }

    /// Takes the piece of the stream that begins at `position`, and hands each record it completes to `apply`, with
    /// the position behind it.
    pub(super) fn feed(
        &mut self,
        mut position: Lsn,
        mut piece: &[u8],
        apply: &mut dyn FnMut(Lsn, &[u8]) -> Result<()>,
    ) -> Result<()> {
        while !piece.is_empty() {
            let wanted = wanted(&self.partial)?;
            if self.partial.is_empty() && wanted == PREFIX_BYTES {
                // The usual case: the whole record lies in this piece and needs no copy.
                if let Some((record, rest)) = whole(piece)? {
                    position += length(PREFIX_BYTES + record.len());
                    apply(position, record)?;
                    piece = rest;
                    continue;
                }
            }
            let (head, rest) = piece.split_at_checked(wanted - self.partial.len()).unwrap_or((piece, &[]));
            self.partial.extend_from_slice(head);
            position += length(head.len());
            piece = rest;
            if self.partial.len() >= PREFIX_BYTES
                && let Some((record, _)) = whole(&self.partial)?
            {
                apply(position, record)?;
                self.partial.clear();
            }
        }
        Ok(())
    }
}

/// Bytes that `partial` must have before the next step can be taken.
fn wanted(partial: &[u8]) -> Result<usize> {
    match partial.first_chunk::<PREFIX_BYTES>() {
        None => Ok(PREFIX_BYTES),
        Some(prefix) => Ok(PREFIX_BYTES + record_length(*prefix)?),
    }
}

/// The record that `bytes` begin with and what follows it, if all of it is there.
fn whole(bytes: &[u8]) -> Result<Option<(&[u8], &[u8])>> {
    let Some((prefix, rest)) = bytes.split_first_chunk::<PREFIX_BYTES>() else { return Ok(None) };
    Ok(rest.split_at_checked(record_length(*prefix)?))
}

fn record_length(prefix: [u8; PREFIX_BYTES]) -> Result<usize> {
    let len = u32::from_le_bytes(prefix);
    usize::try_from(len).ok().filter(|len| *len <= RECORD_BYTES_MAX).ok_or_else(|| {
        Error::corruption(format!(
            "a log record says it has {len} bytes, more than the {RECORD_BYTES_MAX} there can be"
        ))
    })
}

/// A length in memory as a distance in the stream.
pub(super) fn length(bytes: usize) -> Lsn {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_however_the_stream_is_cut() {
        let records: Vec<Vec<u8>> =
            [0usize, 1, 3, 4, 5, 0, 100, 7].iter().zip(1u8..).map(|(len, byte)| vec![byte; *len]).collect();
        let mut stream = Vec::new();
        let mut ends = Vec::new();
        for record in &records {
            push(&mut stream, record).unwrap();
            ends.push(1000 + length(stream.len()));
        }
        for piece_bytes in 1..=stream.len() {
            let mut assembler = Assembler::default();
            let mut got = Vec::new();
            let mut at = 1000;
            for piece in stream.chunks(piece_bytes) {
                let mut apply = |lsn: Lsn, record: &[u8]| {
                    got.push((lsn, record.to_vec()));
                    Ok(())
                };
                assembler.feed(at, piece, &mut apply).unwrap();
                at += length(piece.len());
            }
            assert_eq!(got, ends.iter().copied().zip(records.iter().cloned()).collect::<Vec<_>>());
        }
    }

    #[test]
    fn an_absurd_length_is_an_error_before_anything_is_allocated() {
        let error = Assembler::default().feed(0, &[0xFF; 64], &mut |_, _| Ok(())).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::Corruption);
    }
}
