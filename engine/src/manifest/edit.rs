/*!
Edits as bytes: fields one after the other, each a tag byte and what [`super`] draws behind it.
*/

use super::state::{Edit, ErasedRange, LoadRecord, RunEntry};
use crate::bytes::{Input, put_prefixed};
use crate::error::{Error, ErrorKind, Result};
use crate::key::{BOUND_BYTES_MAX, decode_range, encode_bound};
use crate::limits::KEY_BYTES_MAX;
use crate::run::meta::RunMeta;
use crate::types::{RunId, StorageId};

const ADD_RUN: u8 = 1;
const REMOVE_RUN: u8 = 2;
const MOVE_RUN: u8 = 3;
const DROP_STORAGE: u8 = 4;
const NEXT_RUN_ID: u8 = 5;
const LAST_SEQ: u8 = 6;
const WAL_RELEASED_TO: u8 = 7;
const NEXT_ROW_ID: u8 = 8;
const LOAD: u8 = 9;
const FLUSHED_SEQ: u8 = 10;
const ADD_ERASED: u8 = 11;
const REMOVE_ERASED: u8 = 12;
const WAL_DURABLE_TO: u8 = 13;

/// Bytes of a run's description: two keys and some numbers.
const RUN_META_BYTES_MAX: usize = 2 * KEY_BYTES_MAX + 1024;

/// Bytes of a load's source and of its options.
pub const LOAD_TEXT_BYTES_MAX: usize = 64 * 1024;

impl Edit {
    /// Appends it as bytes; nothing for an edit that changes nothing.
    ///
    /// # Errors
    /// `LimitExceeded` for a load whose source or options pass [`LOAD_TEXT_BYTES_MAX`].
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<()> {
        for id in &self.remove_runs {
            put_numbers(out, REMOVE_RUN, &[id.0]);
        }
        for storage in &self.drop_storages {
            put_numbers(out, DROP_STORAGE, &[storage.0]);
        }
        for (storage, entry) in &self.add_runs {
            put_run(out, *storage, entry);
        }
        for (id, level) in &self.move_runs {
            put_numbers(out, MOVE_RUN, &[id.0]);
            out.push(*level);
        }
        for (tag, ranges) in [(REMOVE_ERASED, &self.remove_erased), (ADD_ERASED, &self.add_erased)] {
            for (storage, erased) in ranges {
                put_erased(out, tag, *storage, erased);
            }
        }
        let numbers = [
            (NEXT_RUN_ID, self.next_run_id),
            (LAST_SEQ, self.last_seq),
            (WAL_RELEASED_TO, self.wal_released_to),
            (WAL_DURABLE_TO, self.wal_durable_to),
        ];
        for (tag, number) in numbers {
            if let Some(number) = number {
                put_numbers(out, tag, &[number]);
            }
        }
        for (storage, next) in &self.next_row_ids {
            put_numbers(out, NEXT_ROW_ID, &[storage.0, *next]);
        }
        for (storage, seq) in &self.flushed_seqs {
            put_numbers(out, FLUSHED_SEQ, &[storage.0, *seq]);
        }
        for (storage, load) in &self.loads {
            put_load(out, *storage, load)?;
        }
        Ok(())
    }

    /// Reads what [`Edit::encode`] wrote. Errors: `Corruption`; `NewerFormat` from a run's description.
    pub fn decode(bytes: &[u8]) -> Result<Edit> {
        let mut fields = Input::new(bytes, "an edit of the manifest");
        let mut edit = Edit::default();
        while fields.left() > 0 {
            match fields.byte()? {
                ADD_RUN => edit.add_runs.push(take_run(&mut fields)?),
                REMOVE_RUN => edit.remove_runs.push(RunId(fields.u64()?)),
                MOVE_RUN => edit.move_runs.push((RunId(fields.u64()?), fields.byte()?)),
                DROP_STORAGE => edit.drop_storages.push(StorageId(fields.u64()?)),
                NEXT_RUN_ID => edit.next_run_id = Some(fields.u64()?),
                LAST_SEQ => edit.last_seq = Some(fields.u64()?),
                WAL_RELEASED_TO => edit.wal_released_to = Some(fields.u64()?),
                WAL_DURABLE_TO => edit.wal_durable_to = Some(fields.u64()?),
                NEXT_ROW_ID => edit.next_row_ids.push((StorageId(fields.u64()?), fields.u64()?)),
                FLUSHED_SEQ => edit.flushed_seqs.push((StorageId(fields.u64()?), fields.u64()?)),
                LOAD => edit.loads.push(take_load(&mut fields)?),
                ADD_ERASED => edit.add_erased.push(take_erased(&mut fields)?),
                REMOVE_ERASED => edit.remove_erased.push(take_erased(&mut fields)?),
                tag => return Err(Error::corruption(format!("an edit has a field of unknown kind {tag}"))),
            }
        }
        Ok(edit)
    }
}

fn put_numbers(out: &mut Vec<u8>, tag: u8, numbers: &[u64]) {
    out.push(tag);
    for number in numbers {
        out.extend_from_slice(&number.to_le_bytes());
    }
}

fn put_run(out: &mut Vec<u8>, storage: StorageId, entry: &RunEntry) {
    put_numbers(out, ADD_RUN, &[storage.0]);
    out.push(entry.level);
    out.push(u8::from(entry.fixed_seq.is_some()));
    out.extend(entry.fixed_seq.into_iter().flat_map(u64::to_le_bytes));
    let mut meta = Vec::new();
    entry.meta.encode(&mut meta);
    put_prefixed(out, &meta);
}

fn take_run(fields: &mut Input<'_>) -> Result<(StorageId, RunEntry)> {
    let storage = StorageId(fields.u64()?);
    let level = fields.byte()?;
    let fixed_seq = match fields.byte()? {
        0 => None,
        1 => Some(fields.u64()?),
        _ => return Err(Error::corruption("a run neither has a fixed sequence number nor has none")),
    };
    let meta = RunMeta::decode(fields.prefixed(RUN_META_BYTES_MAX)?)?;
    Ok((storage, RunEntry { level, meta, fixed_seq }))
}

fn put_erased(out: &mut Vec<u8>, tag: u8, storage: StorageId, erased: &ErasedRange) {
    put_numbers(out, tag, &[storage.0, erased.seq]);
    put_prefixed(out, &encode_bound(&erased.range.start));
    put_prefixed(out, &encode_bound(&erased.range.end));
}

fn take_erased(fields: &mut Input<'_>) -> Result<(StorageId, ErasedRange)> {
    let (storage, seq) = (StorageId(fields.u64()?), fields.u64()?);
    let range = decode_range(fields.prefixed(BOUND_BYTES_MAX)?, fields.prefixed(BOUND_BYTES_MAX)?)?;
    Ok((storage, ErasedRange { seq, range }))
}

fn put_load(out: &mut Vec<u8>, storage: StorageId, load: &LoadRecord) -> Result<()> {
    put_numbers(out, LOAD, &[storage.0]);
    out.extend_from_slice(&load.content_hash);
    for text in [&load.source, &load.options] {
        if text.len() > LOAD_TEXT_BYTES_MAX {
            let sentence = format!("a load's source and options have at most {LOAD_TEXT_BYTES_MAX} bytes each");
            return Err(Error::new(ErrorKind::LimitExceeded, sentence));
        }
        put_prefixed(out, text.as_bytes());
    }
    out.extend_from_slice(&load.rows.to_le_bytes());
    out.extend_from_slice(&load.unix_micros.to_le_bytes());
    Ok(())
}

fn take_load(fields: &mut Input<'_>) -> Result<(StorageId, LoadRecord)> {
    let storage = StorageId(fields.u64()?);
    let content_hash = fields.array()?;
    let source = take_text(fields)?;
    let options = take_text(fields)?;
    Ok((storage, LoadRecord { content_hash, source, options, rows: fields.u64()?, unix_micros: fields.i64()? }))
}

fn take_text(fields: &mut Input<'_>) -> Result<String> {
    let bytes = fields.prefixed(LOAD_TEXT_BYTES_MAX)?;
    String::from_utf8(bytes.to_vec()).map_err(|_| Error::corruption("a load's text is not UTF-8"))
}
