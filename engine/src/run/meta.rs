/*!
What is known of a run without opening its file: the manifest keeps it, so that opening a database touches no run.

```text
    RunMeta, version 1; numbers little-endian
     0  u8   version
     1  u64  id              9  u64  random id      17  u64  rows        25  u64  tombstones   33  u64  file bytes
    41  u64  footer offset  49  u64  footer bytes   57  u64  lowest seq  65  u64  highest seq
    73  u8   layout: 0 row, 1 column
    74  u32  bytes of the lowest key, the key; u32 bytes of the highest key, the key
```

A later version appends fields; lengths are stated around it, so an old reader sees that there is more and refuses.
*/

use super::Layout;
use crate::bytes::{Input, put_prefixed};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::KEY_BYTES_MAX;
use crate::types::{RunId, Seq};

const VERSION: u8 = 1;

/// What the manifest knows of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunMeta {
    /// Its id, which names its file.
    pub id: RunId,
    /// A random number that its checksums are bound to.
    pub random_id: u64,
    /// Rows in it, tombstones included.
    pub rows: u64,
    /// Tombstones in it.
    pub tombstones: u64,
    /// Bytes of its file.
    pub bytes: u64,
    /// Where its footer begins.
    pub footer_offset: u64,
    /// Bytes of its footer.
    pub footer_bytes: u64,
    /// The shape of its tiles.
    pub layout: Layout,
    /// Its lowest key.
    pub min_key: Vec<u8>,
    /// Its highest key.
    pub max_key: Vec<u8>,
    /// The lowest sequence number in it.
    pub min_seq: Seq,
    /// The highest sequence number in it.
    pub max_seq: Seq,
}

impl RunMeta {
    /// Appends it as bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        for number in [
            self.id.0,
            self.random_id,
            self.rows,
            self.tombstones,
            self.bytes,
            self.footer_offset,
            self.footer_bytes,
            self.min_seq,
            self.max_seq,
        ] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.push(self.layout.code());
        put_prefixed(out, &self.min_key);
        put_prefixed(out, &self.max_key);
    }

    /// Reads what [`RunMeta::encode`] wrote; all of `bytes`.
    ///
    /// # Errors
    /// `NewerFormat` for a later version, `Corruption` for anything that can't have been written.
    pub fn decode(bytes: &[u8]) -> Result<RunMeta> {
        let mut fields = Input::new(bytes, "a run's description");
        let version = fields.byte()?;
        if version > VERSION {
            let sentence = format!("a run's description has version {version}; open the database with a newer release");
            return Err(Error::new(ErrorKind::NewerFormat, sentence));
        }
        if version == 0 {
            return Err(Error::corruption("a run's description has version 0, which there never was"));
        }
        let meta = RunMeta {
            id: RunId(fields.u64()?),
            random_id: fields.u64()?,
            rows: fields.u64()?,
            tombstones: fields.u64()?,
            bytes: fields.u64()?,
            footer_offset: fields.u64()?,
            footer_bytes: fields.u64()?,
            min_seq: fields.u64()?,
            max_seq: fields.u64()?,
            layout: Layout::of_code(fields.byte()?.into())?,
            min_key: fields.prefixed(KEY_BYTES_MAX)?.to_vec(),
            max_key: fields.prefixed(KEY_BYTES_MAX)?.to_vec(),
        };
        fields.end()?;
        let plausible = meta.tombstones <= meta.rows && meta.min_seq <= meta.max_seq && meta.min_key <= meta.max_key;
        if !plausible {
            return Err(Error::corruption("a run's description contradicts itself"));
        }
        Ok(meta)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta() -> RunMeta {
        RunMeta {
            id: RunId(7),
            random_id: u64::MAX,
            rows: 100,
            tombstones: 3,
            bytes: 1 << 40,
            footer_offset: 12,
            footer_bytes: 34,
            layout: Layout::Column,
            min_key: vec![],
            max_key: vec![255; 20],
            min_seq: 5,
            max_seq: 9,
        }
    }

    #[test]
    fn it_comes_back_as_it_was() {
        let mut bytes = Vec::new();
        meta().encode(&mut bytes);
        assert_eq!(RunMeta::decode(&bytes).unwrap(), meta());
    }

    #[test]
    fn cut_lengthened_newer_and_absurd_bytes_are_refused() {
        let mut bytes = Vec::new();
        meta().encode(&mut bytes);
        for len in 0..bytes.len() {
            assert_eq!(RunMeta::decode(&bytes[..len]).unwrap_err().kind(), ErrorKind::Corruption);
        }
        bytes.push(0);
        assert_eq!(RunMeta::decode(&bytes).unwrap_err().kind(), ErrorKind::Corruption);
        bytes.pop();
        bytes[73..77].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(RunMeta::decode(&bytes).unwrap_err().kind(), ErrorKind::Corruption);
        bytes[0] = 2;
        assert_eq!(RunMeta::decode(&bytes).unwrap_err().kind(), ErrorKind::NewerFormat);
        bytes[0] = 0;
        assert_eq!(RunMeta::decode(&bytes).unwrap_err().kind(), ErrorKind::Corruption);
    }
}
