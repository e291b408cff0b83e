/*!
The file that says what a directory is: `OMENDB`, text that a person can read.

```text
    OmenDB database
    format 1
    id 00112233445566778899aabbccddeeff
    crc 1a2b3c4d                            CRC-32C of the lines before
```

It is written last when a database is made, so a directory that has it has everything else too.
*/

use crate::error::{Error, ErrorKind, Result};
use crate::io::{Buffer, IoRef, OpenMode};
use std::path::Path;

/// Its name.
pub(crate) const FILE: &str = "OMENDB";
/// Its name until it is complete.
pub(crate) const FILE_UNFINISHED: &str = "OMENDB.new";
/// The format of a database directory that this release writes and reads.
pub const FORMAT_VERSION: u64 = 1;
const TITLE: &str = "OmenDB database";
/// More than any identity file has.
const BYTES_MAX: usize = 4096;

fn text(id: [u8; 16]) -> String {
    let hex = u128::from_be_bytes(id);
    let body = format!("{TITLE}\nformat {FORMAT_VERSION}\nid {hex:032x}\n");
    let crc = crc32c::crc32c(body.as_bytes());
    format!("{body}crc {crc:08x}\n")
}

/// Writes the file, and makes it durable.
pub(crate) fn write(io: &IoRef, dir: &Path, id: [u8; 16]) -> Result<()> {
    let unfinished = dir.join(FILE_UNFINISHED);
    let file = io.open(&unfinished, OpenMode::Create)?;
    file.set_len(0)?;
    file.write_all_at(0, Buffer::from_slice(text(id).as_bytes()))?;
    file.sync_all()?;
    io.rename(&unfinished, &dir.join(FILE))?;
    io.sync_dir(dir)
}

/// Reads the file and gives the database's id.
///
/// # Errors
/// `NotADatabase` where the file says something else, `NewerFormat`, `Corruption`.
pub(crate) fn read(io: &IoRef, dir: &Path) -> Result<[u8; 16]> {
    let path = dir.join(FILE);
    let bytes = io.open(&path, OpenMode::Read)?.read_at(0, BYTES_MAX)?;
    parse(&bytes).map_err(|error| error.at(path, None))
}

fn parse(bytes: &[u8]) -> Result<[u8; 16]> {
    let foreign = || Error::new(ErrorKind::NotADatabase, "the file OMENDB is not one of this program's");
    let text = std::str::from_utf8(bytes).map_err(|_| foreign())?;
    let mut lines = text.lines();
    if lines.next() != Some(TITLE) {
        return Err(foreign());
    }
    let format = lines.next().and_then(|line| line.strip_prefix("format ")).and_then(|n| n.parse::<u64>().ok());
    match format {
        Some(FORMAT_VERSION) => {}
        Some(newer) if newer > FORMAT_VERSION => {
            let message = format!("the database has format {newer}; this release knows formats up to {FORMAT_VERSION}");
            return Err(Error::new(ErrorKind::NewerFormat, message));
        }
        _ => return Err(Error::corruption("the database's format number is damaged")),
    }
    let id = lines.next().and_then(|line| line.strip_prefix("id ")).and_then(|hex| u128::from_str_radix(hex, 16).ok());
    let id = id.map(u128::to_be_bytes).ok_or_else(|| Error::corruption("the database's id is damaged"))?;
    match text == self::text(id) {
        true => Ok(id),
        false => Err(Error::corruption("the file OMENDB is damaged")),
    }
}

/// Reads bytes as they are and with their checksum set right.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(bytes: &[u8]) {
    let _ = parse(bytes);
    if let Some((body, _)) = std::str::from_utf8(bytes).ok().and_then(|text| text.rsplit_once("crc ")) {
        let _ = parse(format!("{body}crc {:08x}\n", crc32c::crc32c(body.as_bytes())).as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        let id = *b"0123456789abcdef";
        let whole = text(id);
        assert_eq!(parse(whole.as_bytes()).unwrap(), id);
        let kind = |text: &str| parse(text.as_bytes()).unwrap_err().kind();
        assert_eq!(kind("hello"), ErrorKind::NotADatabase);
        assert_eq!(kind(&whole.replace("format 1", "format 2")), ErrorKind::NewerFormat);
        assert_eq!(kind(&whole.replace("id 3", "id 4")), ErrorKind::Corruption);
        assert_eq!(kind(&whole[..whole.len() - 1]), ErrorKind::Corruption);
    }
}
