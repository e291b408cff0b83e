/*!
Rows of a transaction while they are few.

Most transactions write their rows in key order, or can be made to, and read none of them back: a plain list does for these. It
becomes a memtable when a row does not come behind all others, or somebody wants to read.
*/

use crate::io::sync::Mutex;
use crate::key::KeyRange;
use crate::memtable::{self, Entry, Kind};
use crate::scan::tree::Mem;
use crate::types::Seq;
use std::sync::Arc;

/// See the module.
#[derive(Debug)]
pub(super) struct Buffer {
    /// Behind a lock because a snapshot makes the memtable that it reads.
    rows: Mutex<Rows>,
}

#[derive(Debug, Default)]
struct Rows {
    /// One version of each key, ascending. Empty once there is a memtable.
    ascending: Vec<Entry>,
    /// Bytes that these would take in a memtable.
    bytes: usize,
    mem: Option<Arc<Mem>>,
}

impl Rows {
    fn list(&mut self) -> &Arc<Mem> {
        let ascending = std::mem::take(&mut self.ascending);
        self.mem.get_or_insert_with(|| {
            let mem = Mem::new(0);
            ascending.into_iter().for_each(|entry| mem.table.insert_entry(entry));
            mem
        })
    }
}

impl Buffer {
    pub(super) fn new() -> Self {
        Buffer { rows: Mutex::default() }
    }

    pub(super) fn is_empty(&self) -> bool {
        let rows = self.rows.lock();
        rows.mem.as_ref().map_or(rows.ascending.is_empty(), |mem| mem.table.is_empty())
    }

    /// Bytes of memory that the rows take in a memtable, about.
    pub(super) fn bytes(&self) -> usize {
        let rows = self.rows.lock();
        rows.mem.as_ref().map_or(rows.bytes, |mem| mem.table.bytes())
    }

    /// Adds a version. Of two of one key, the one with the higher number is the newer; with equal numbers the later one replaces
    /// the earlier.
    pub(super) fn push(&mut self, key: &[u8], seq: Seq, kind: Kind, row: &[u8]) {
        let rows = self.rows.get_mut();
        if rows.mem.is_none() && rows.ascending.last().is_none_or(|last| last.key() < key) {
            rows.ascending.push(Entry::new(key, seq, kind, row));
            rows.bytes += memtable::version_bytes(key.len() + row.len());
        } else {
            rows.list().table.insert(key, seq, kind, row);
        }
    }

    /// The newest version of `key`.
    pub(super) fn latest(&self, key: &[u8]) -> Option<Entry> {
        let rows = self.rows.lock();
        if let Some(mem) = &rows.mem {
            return mem.table.latest(key);
        }
        let last = rows.ascending.last().filter(|last| last.key() >= key)?;
        match last.key() == key {
            true => Some(last.clone()),
            false => {
                let place = rows.ascending.binary_search_by(|entry| entry.key().cmp(key)).ok()?;
                rows.ascending.get(place).cloned()
            }
        }
    }

    /// All of it, to be read. What is pushed later appears in it too.
    pub(super) fn mem(&self) -> Arc<Mem> {
        Arc::clone(self.rows.lock().list())
    }

    /// Takes out the newest version of each key, in key order.
    pub(super) fn take(&mut self) -> Vec<Entry> {
        let rows = std::mem::take(self.rows.get_mut());
        match rows.mem {
            Some(mem) => mem.table.range(&KeyRange::all(), Seq::MAX, false).collect(),
            None => rows.ascending,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(keys: &[u8]) -> Buffer {
        let mut buffer = Buffer::new();
        for (seq, key) in (1..).zip(keys) {
            buffer.push(&[*key], seq, Kind::Put, &[seq as u8]);
        }
        buffer
    }

    fn taken(buffer: &mut Buffer) -> Vec<(u8, Seq)> {
        buffer.take().iter().map(|entry| (entry.key()[0], entry.seq())).collect()
    }

    #[test]
    fn the_newest_of_each_key_comes_in_key_order_whatever_was_pushed_first() {
        for (keys, expected) in [
            (&[][..], &[][..]),
            (&[3], &[(3, 1)]),
            (&[1, 2, 3], &[(1, 1), (2, 2), (3, 3)]),
            (&[1, 1], &[(1, 2)]),
            (&[2, 1, 2, 3], &[(1, 2), (2, 3), (3, 4)]),
        ] {
            let mut buffer = filled(keys);
            assert_eq!(buffer.is_empty(), keys.is_empty());
            for key in 0..5 {
                let newest = expected.iter().find(|(other, _)| *other == key).map(|(_, seq)| *seq);
                assert_eq!(buffer.latest(&[key]).map(|entry| entry.seq()), newest, "key {key} of {keys:?}");
            }
            assert_eq!(taken(&mut buffer), expected, "{keys:?}");
            assert!(buffer.is_empty());
        }
    }

    #[test]
    fn a_list_and_a_memtable_of_the_same_rows_count_the_same_bytes() {
        let mut buffer = filled(&[1, 2]);
        let before = buffer.bytes();
        let mem = buffer.mem();
        assert_eq!(buffer.bytes(), before);
        buffer.push(&[9], 7, Kind::Tombstone, &[]);
        assert_eq!(mem.table.rows(), 3, "a reader's memtable is the transaction's");
        assert_eq!(taken(&mut buffer), [(1, 1), (2, 2), (9, 7)]);
    }
}
