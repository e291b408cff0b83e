/*!
A manifest file and `CURRENT` as bytes, and back. The formats are drawn in [`super`].
*/

use super::state::{Edit, State};
use crate::error::{Error, ErrorKind, Result};
use std::ops::Range;

/// Version of the manifest's format: 2 knows deleted ranges, and is 1 otherwise.
pub(super) const FORMAT_VERSION: u32 = 2;

/// Version of `CURRENT`.
const CURRENT_VERSION: u32 = 1;

/// Bytes of a manifest file at most: the state of a million runs with long keys.
pub(super) const FILE_BYTES_MAX: usize = 1024 * 1024 * 1024;

pub(super) const HEADER_BYTES: usize = 64;
const HEADER_MAGIC: [u8; 8] = *b"OMENMANI";
const EDIT_HEADER_BYTES: usize = 24;
const EDIT_MAGIC: [u8; 4] = *b"OMED";
const ALIGN: usize = 8;

/// An edit's seal lies at a multiple of this, so that no damage to one block takes both.
pub(super) const BLOCK: u64 = 4096;
const BLOCK_BYTES: usize = 4096;

/// Where the seal of an edit that ends at `edit_end` lies.
pub(super) fn seal_offset(edit_end: u64) -> u64 {
    edit_end.next_multiple_of(BLOCK)
}

/// Where it ends, and the next edit begins.
pub(super) fn seal_end(edit_end: u64) -> u64 {
    const SEAL_BYTES: u64 = 24;
    seal_offset(edit_end) + SEAL_BYTES
}

/// What a manifest file says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) database_id: [u8; 16],
    /// The number in its name.
    pub(super) number: u64,
    /// Bytes that the file has, from when it was begun.
    pub(super) bytes: u64,
}

impl Header {
    /// The header as bytes, and its checksum, which edits are bound to.
    pub(super) fn encode(&self) -> (Vec<u8>, u32) {
        let mut out = vec![0; 4];
        out.extend_from_slice(&HEADER_MAGIC);
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        out.extend_from_slice(&self.database_id);
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&self.bytes.to_le_bytes());
        out.resize(HEADER_BYTES, 0);
        let crc = finish(&mut out);
        (out, crc)
    }

    fn decode(file: &[u8]) -> Result<(Header, u32)> {
        let bytes = file.get(..HEADER_BYTES).ok_or_else(|| Error::corruption("the manifest is cut short"))?;
        let magic = field::<8>(bytes, 4) == Some(HEADER_MAGIC);
        let crc = checked(bytes).filter(|_| magic);
        let crc = crc.ok_or_else(|| Error::corruption("the manifest's header is damaged"))?;
        refuse_newer("the manifest", number32(bytes, 12), FORMAT_VERSION)?;
        let header = Header {
            database_id: field(bytes, 16).unwrap_or_default(),
            number: field(bytes, 32).map_or(0, u64::from_le_bytes),
            bytes: field(bytes, 40).map_or(0, u64::from_le_bytes),
        };
        Ok((header, crc))
    }
}

/// An edit as the bytes to write at `offset` of the file whose header has the checksum `header_crc`. An edit that
/// changes nothing is the seal.
pub(super) fn encode_edit(edit: &Edit, offset: u64, header_crc: u32) -> Result<Vec<u8>> {
    let mut out = vec![0; 4];
    out.extend_from_slice(&EDIT_MAGIC);
    out.extend_from_slice(&offset.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&header_crc.to_le_bytes());
    edit.encode(&mut out)?;
    let len = out.len() - EDIT_HEADER_BYTES;
    let too_long = || {
        let sentence = format!("an edit of the manifest has {len} bytes; at most {FILE_BYTES_MAX} there can be");
        Error::new(ErrorKind::LimitExceeded, sentence)
    };
    let stored = u32::try_from(len).ok().filter(|_| len < FILE_BYTES_MAX).ok_or_else(too_long)?;
    if let Some(place) = out.get_mut(16..20) {
        place.copy_from_slice(&stored.to_le_bytes());
    }
    out.resize(out.len().next_multiple_of(ALIGN), 0);
    finish(&mut out);
    Ok(out)
}

/// What a manifest file holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Contents {
    pub(super) header: Header,
    pub(super) header_crc: u32,
    pub(super) state: State,
    /// Edits, the first one among them.
    pub(super) edits: u64,
    /// Bytes that count.
    pub(super) end: usize,
    /// Whether the last edit has its seal: it was durable, and nothing behind was acknowledged.
    pub(super) sealed: bool,
    /// Bytes between an edit and its seal that are not zero: nothing ever writes there.
    pub(super) stains: Vec<usize>,
}

/// Reads a whole manifest file.
///
/// # Errors
/// `Corruption`, placed at its offset by the caller through the second part; `NewerFormat`.
pub(super) fn read(file: &[u8]) -> Result<Contents, (Error, usize)> {
    let (header, header_crc) = Header::decode(file).map_err(|error| (error, 0))?;
    if u64::try_from(file.len()).ok() != Some(header.bytes) {
        let sentence = format!("the manifest has {} bytes, and was written with {}", file.len(), header.bytes);
        return Err((Error::corruption(sentence), file.len()));
    }
    let (state, stains) = (State::default(), Vec::new());
    let mut contents = Contents { header, header_crc, state, edits: 0, end: HEADER_BYTES, sealed: false, stains };
    while let Some((payload, size)) = edit_at(file, contents.end, header_crc) {
        let payload = file.get(payload).unwrap_or_default();
        let applied = Edit::decode(payload).and_then(|edit| contents.state.apply(edit));
        applied.map_err(|error| (as_damage(error), contents.end))?;
        contents.edits += 1;
        contents.end += size;
        contents.sealed = contents.take_seal(file);
        if !contents.sealed {
            break;
        }
    }
    if contents.edits == 0 {
        return Err((Error::corruption("the manifest's first edit is damaged"), HEADER_BYTES));
    }
    match find_edit(file, contents.end + ALIGN, header_crc) {
        None => Ok(contents),
        Some(later) => {
            let sentence = format!("the manifest is damaged: the edit here does not hold, one at offset {later} does");
            Err((Error::corruption(sentence), contents.end))
        }
    }
}

impl Contents {
    /// Where the seal of the edit that was read last lies.
    fn seal_place(&self) -> usize {
        self.end.next_multiple_of(BLOCK_BYTES)
    }

    /// From where on a crash may have left bytes: of a seal, or of another edit.
    pub(super) fn unproven(&self) -> usize {
        if self.sealed { self.end } else { self.seal_place() }
    }

    /// Goes on behind the seal of the edit that was read last, if it has one.
    fn take_seal(&mut self, file: &[u8]) -> bool {
        let at = self.seal_place();
        self.stains.extend(first_stain(file, self.end..at));
        match edit_at(file, at, self.header_crc) {
            Some((payload, size)) if payload.is_empty() => {
                self.end = at + size;
                true
            }
            _ => false,
        }
    }
}

/// The first byte of a range that is not zero.
pub(super) fn first_stain(file: &[u8], range: Range<usize>) -> Option<usize> {
    let at = file.get(range.clone())?.iter().position(|byte| *byte != 0)?;
    Some(range.start + at)
}

/// An edit that was written but can't be applied is damage, unless it is of a newer format.
fn as_damage(error: Error) -> Error {
    match error.kind() {
        ErrorKind::Corruption | ErrorKind::NewerFormat => error,
        _ => Error::corruption(error.message()),
    }
}

/// Where the payload of the edit at `offset` lies, and all its bytes, if it holds.
fn edit_at(file: &[u8], offset: usize, header_crc: u32) -> Option<(Range<usize>, usize)> {
    let bytes = file.get(offset..)?;
    if field::<4>(bytes, 4)? != EDIT_MAGIC || number32(bytes, 20) != header_crc {
        return None;
    }
    if field(bytes, 8).map(u64::from_le_bytes) != u64::try_from(offset).ok() {
        return None;
    }
    let len = usize::try_from(number32(bytes, 16)).ok()?;
    let size = EDIT_HEADER_BYTES.checked_add(len)?.checked_next_multiple_of(ALIGN)?;
    checked(bytes.get(..size)?)?;
    let payload = offset + EDIT_HEADER_BYTES;
    Some((payload..payload + len, size))
}

/// The first offset at or behind `from` where an edit holds. Gives up, and takes it for found, where forged lengths
/// would make the search take for ever.
fn find_edit(file: &[u8], from: usize, header_crc: u32) -> Option<usize> {
    let mut budget = file.len().saturating_mul(8);
    for offset in (from..file.len()).step_by(ALIGN) {
        let bytes = file.get(offset..).unwrap_or_default();
        if field::<4>(bytes, 4) != Some(EDIT_MAGIC) {
            continue;
        }
        let len = usize::try_from(number32(bytes, 16)).unwrap_or(usize::MAX);
        if len > bytes.len() {
            // It would end behind the file: none holds here, and nothing has to be read to know it.
            continue;
        }
        budget = budget.saturating_sub(len);
        if budget == 0 || edit_at(file, offset, header_crc).is_some() {
            return Some(offset);
        }
    }
    None
}

/// A file with what its checksums, its length and its edits' places should be, for `crate::fuzzing`.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn sealed(file: &[u8]) -> Vec<u8> {
    let put = |out: &mut [u8], at: usize, field: &[u8]| {
        if let Some(place) = out.get_mut(at..at + field.len()) {
            place.copy_from_slice(field);
        }
    };
    let mut out = file.to_vec();
    put(&mut out, 40, &u64::try_from(file.len()).unwrap_or(u64::MAX).to_le_bytes());
    let header_crc = out.get_mut(..HEADER_BYTES).map_or(0, finish);
    for at in (HEADER_BYTES..out.len()).step_by(ALIGN) {
        if out.get(at + 4..at + 8) != Some(&EDIT_MAGIC) {
            continue;
        }
        let len = usize::try_from(out.get(at..).map_or(0, |edit| number32(edit, 16))).unwrap_or(0);
        put(&mut out, at + 8, &u64::try_from(at).unwrap_or(u64::MAX).to_le_bytes());
        put(&mut out, at + 20, &header_crc.to_le_bytes());
        let end = at.saturating_add(EDIT_HEADER_BYTES).saturating_add(len).next_multiple_of(ALIGN);
        if let Some(edit) = out.get_mut(at..end) {
            finish(edit);
        }
    }
    out
}

/// `CURRENT`: which manifest file is live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Current {
    pub(super) database_id: [u8; 16],
    pub(super) number: u64,
}

impl Current {
    /// The file's text.
    pub(super) fn encode(&self) -> String {
        let id: String = self.database_id.iter().map(|byte| format!("{byte:02x}")).collect();
        let line = format!("omendb {CURRENT_VERSION} {} {id}", file_name(self.number));
        format!("{line} {:08x}\n", crc32c::crc32c(line.as_bytes()))
    }

    /// Reads the file's text.
    pub(super) fn decode(text: &[u8]) -> Result<Current> {
        let damaged = || Error::corruption("CURRENT, which names the manifest, is damaged");
        let text = std::str::from_utf8(text).map_err(|_| damaged())?;
        let (line, crc) = text.strip_suffix('\n').and_then(|text| text.rsplit_once(' ')).ok_or_else(damaged)?;
        if format!("{:08x}", crc32c::crc32c(line.as_bytes())) != crc {
            return Err(damaged());
        }
        let mut words = line.split(' ');
        let mut word = || words.next().unwrap_or_default();
        let (magic, version, name, id) = (word(), word(), word(), word());
        if magic != "omendb" {
            return Err(damaged());
        }
        refuse_newer("the database", version.parse().map_err(|_| damaged())?, CURRENT_VERSION)?;
        let number = number_of(name).ok_or_else(damaged)?;
        let id = u128::from_str_radix(id, 16).map_err(|_| damaged())?;
        Ok(Current { database_id: id.to_be_bytes(), number })
    }
}

/// The name of manifest `number`'s file.
pub(super) fn file_name(number: u64) -> String {
    format!("manifest-{number:08}")
}

/// The number in a manifest's file name; `None` for any other file.
pub(super) fn number_of(name: &str) -> Option<u64> {
    let number = name.strip_prefix("manifest-")?.parse().ok()?;
    (file_name(number) == name).then_some(number)
}

fn refuse_newer(what: &str, version: u32, known: u32) -> Result<()> {
    if version > known {
        let sentence = format!("{what} has format {version}, this release knows {known}; use a newer release");
        return Err(Error::new(ErrorKind::NewerFormat, sentence));
    }
    Ok(())
}

fn finish(out: &mut [u8]) -> u32 {
    let crc = out.get(4..).map_or(0, crc32c::crc32c);
    if let Some(place) = out.first_chunk_mut::<4>() {
        *place = crc.to_le_bytes();
    }
    crc
}

/// The checksum in the first four bytes, if it is that of the rest.
fn checked(bytes: &[u8]) -> Option<u32> {
    let (crc, rest) = bytes.split_first_chunk::<4>()?;
    let crc = u32::from_le_bytes(*crc);
    (crc32c::crc32c(rest) == crc || mutant!(DropManifestChecksum)).then_some(crc)
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk::<N>().copied()
}

fn number32(bytes: &[u8], at: usize) -> u32 {
    field(bytes, at).map_or(0, u32::from_le_bytes)
}
