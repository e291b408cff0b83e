//! Filters: no key is forgotten, absent keys are told without reading, and runs without one are read as ever.

use super::support::*;
use crate::cache::Cache;
use crate::io::{Buffer, IoRef, OpenMode};
use crate::run::*;
use crate::types::*;
use std::sync::Arc;

fn filtered(layout: Layout, slice_rows: Option<usize>, threads: usize) -> RunOptions {
    RunOptions { filter: true, ..options(layout, slice_rows, threads) }
}

/// A run of the even numbers below twice `count`, and a cache of its own.
fn evens(io: &IoRef, count: i64, options: RunOptions) -> (Arc<Run>, Arc<Cache>, RunSchema) {
    let schema = schema(&[ColumnType::Int64], &[ColumnType::Int64]);
    let table = Table { schema: schema.clone(), rows: Vec::new() };
    let mut writer = RunWriter::create(io, dir(), RunId(1), &schema, options).unwrap();
    let numbers: Vec<i64> = (0..count).collect();
    for chunk in numbers.chunks(10_000) {
        let row = |n: &i64| {
            let values = vec![Value::Int(n * 2), Value::Int(n % 7)];
            Row { key: schema.key.encode(&values[..1]).unwrap().into_bytes(), seq: 7, tombstone: false, values }
        };
        writer.write(&batch(&table, &chunk.iter().map(row).collect::<Vec<_>>())).unwrap();
    }
    let meta = writer.finish().unwrap();
    let cache = Cache::new(64 << 20);
    (Run::open(io, dir(), meta, &cache).unwrap(), cache, schema)
}

fn key(schema: &RunSchema, n: i64) -> Vec<u8> {
    schema.key.encode(&[Value::Int(n)]).unwrap().into_bytes()
}

#[test]
fn every_key_is_found_with_and_without_the_filter_in_the_cache() {
    let random = &mut Random(60);
    for (layout, kinds) in [(Layout::Row, MIXED), (Layout::Column, MIXED), (Layout::Column, PLAIN)] {
        for key in [&[ColumnType::Text][..], &[ColumnType::Int64, ColumnType::Date], &[ColumnType::Uuid]] {
            let table = table(schema(key, &[ColumnType::Text]), 3000, kinds, random);
            let io = files();
            let meta = write(&io, 1, &table, filtered(layout, Some(16), random.below(3)), random);
            let run = open(&io, &meta);
            assert_eq!(run.filter_stats().unwrap().keys, meta.rows);
            // Twice: the first round brings the filter in, the second asks it.
            for _ in 0..2 {
                for row in &table.rows {
                    let found = run.find(&row.key).unwrap().unwrap_or_else(|| panic!("{:?} is lost", row.key));
                    assert_eq!((found.seq, found.tombstone), (Some(row.seq), row.tombstone));
                }
            }
            assert_eq!(run.filter_stats().unwrap().cached_bytes, run.filter_stats().unwrap().bytes);
            let keys: Vec<&[u8]> = table.rows.iter().map(|row| row.key.as_slice()).collect();
            for run in [&run, &open(&io, &meta)] {
                for _ in 0..2 {
                    let (found, _) = run.get_many(&keys, Wanted::NUMBER).unwrap();
                    assert!(found.iter().all(Option::is_some));
                }
            }
            assert_eq!(run.verify().unwrap(), []);
        }
    }
}

#[test]
fn absent_keys_are_told_and_counted() {
    let io = files();
    for many in [false, true] {
        let (run, cache, schema) = evens(&io, 20_000, filtered(Layout::Column, None, 0));
        let absent: Vec<Vec<u8>> = (0..19_999).map(|n| key(&schema, n * 2 + 1)).collect();
        let ask = || match many {
            false => absent.iter().for_each(|key| assert_eq!(run.find(key).unwrap(), None)),
            true => {
                let keys: Vec<&[u8]> = absent.iter().map(Vec::as_slice).collect();
                let (found, _) = run.get_many(&keys, Wanted::NUMBER).unwrap();
                assert!(found.len() == keys.len() && found.iter().all(Option::is_none));
            }
        };
        // The first ones bring the filter in.
        ask();
        let before = cache.stats();
        ask();
        let after = cache.stats();
        let probes = after.filter_probes - before.filter_probes;
        let (refused, errors) =
            (after.filter_refusals - before.filter_refusals, after.filter_errors - before.filter_errors);
        assert_eq!((probes, refused + errors), (19_999, 19_999));
        let share = errors as f64 / probes as f64;
        assert!((0.002..0.006).contains(&share), "{share} of absent keys pass");
        assert_eq!(after.hits - before.hits, probes + errors * 2 - errors, "a refused key costs one look");
        io.remove_file(&file_path(dir(), RunId(1))).unwrap();
    }
}

#[test]
fn a_filter_in_blocks_is_brought_in_block_by_block() {
    let io = files();
    let (run, cache, schema) = evens(&io, 150_000, filtered(Layout::Column, Some(1024), 2));
    let stats = run.filter_stats().unwrap();
    let bits = stats.bytes as f64 * 8.0 / stats.keys as f64;
    assert!(stats.keys == 150_000 && bits < 9.1, "{bits} bits a key");
    assert_eq!(run.find(&key(&schema, 101)).unwrap(), None);
    let first = run.filter_stats().unwrap().cached_bytes;
    assert!(first > 60_000 && first < stats.bytes / 2, "one of three blocks");
    for n in (0..150_000).step_by(7) {
        assert!(run.find(&key(&schema, n * 2)).unwrap().is_some(), "{n}");
    }
    assert_eq!(run.filter_stats().unwrap().cached_bytes, stats.bytes);
    assert!((0..149_999).filter(|n| run.find(&key(&schema, n * 2 + 1)).unwrap().is_some()).count() == 0);
    assert!(cache.stats().filter_refusals > 149_000);
    assert_eq!(run.verify().unwrap(), []);
}

#[test]
fn a_cold_lookup_waits_once_and_brings_the_filter_along() {
    let io = files();
    let (run, cache, schema) = evens(&io, 10_000, filtered(Layout::Row, None, 0));
    run.slices().unwrap();
    let (absent, there) = (key(&schema, 5001), key(&schema, 16_000));
    assert_eq!(run.find(&absent).unwrap(), None);
    assert_eq!(cache.stats().misses, 0, "all was there when the lookup looked");
    assert_eq!(run.filter_stats().unwrap().cached_bytes, run.filter_stats().unwrap().bytes);
    // Elsewhere in the run: told without a slice.
    let (hits, bytes) = (cache.stats().hits, cache.stats().bytes);
    assert_eq!(run.find(&key(&schema, 12_345)).unwrap(), None);
    assert_eq!((cache.stats().hits - hits, cache.stats().bytes), (1, bytes));
    assert!(run.find(&there).unwrap().is_some());
    // Where the budget is small beside it, it stays where it is.
    let small = Run::open(&io, dir(), run.meta().clone(), &Cache::new(100 << 10)).unwrap();
    assert_eq!(small.find(&absent).unwrap(), None);
    assert_eq!(small.filter_stats().unwrap().cached_bytes, 0);
}

#[test]
fn where_the_rows_are_cached_a_vain_lookup_brings_the_filter_in() {
    let io = files();
    let (run, _, schema) = evens(&io, 1000, filtered(Layout::Column, None, 0));
    assert_eq!(collect(&mut run.scan(everything(&schema.columns)), &schema.columns).len(), 1000);
    assert!(run.find(&key(&schema, 100)).unwrap().is_some());
    assert_eq!(run.filter_stats().unwrap().cached_bytes, 0, "nothing was wanted of it");
    assert_eq!(run.find(&key(&schema, 101)).unwrap(), None);
    assert!(run.filter_stats().unwrap().cached_bytes > 0);
}

#[test]
fn runs_without_filters_are_as_they_were() {
    let random = &mut Random(61);
    let table = table(schema(&[ColumnType::Int64], &[ColumnType::Text]), 2000, MIXED, random);
    let io = files();
    let without = write(&io, 1, &table, options(Layout::Column, None, 0), random);
    let with = write(&io, 2, &table, filtered(Layout::Column, None, 0), random);
    assert_eq!(open(&io, &without).filter_stats().unwrap(), RunFilterStats::default());
    let filter = open(&io, &with).filter_stats().unwrap();
    let directory = with.footer_bytes - without.footer_bytes;
    assert_eq!(with.bytes, without.bytes + filter.bytes + directory);
    assert!(directory < 10);
}

#[test]
fn a_damaged_block_is_passed_by_and_the_check_names_it() {
    let io = files();
    let (run, _, schema) = evens(&io, 3000, filtered(Layout::Column, Some(64), 0));
    let block = {
        let loaded = run.loaded().unwrap();
        loaded.footer.sections.iter().find(|section| section.kind == super::super::format::SectionKind::Filter).copied()
    };
    let block = block.unwrap();
    let file = io.open(&file_path(dir(), RunId(1)), OpenMode::ReadWrite).unwrap();
    for at in [block.offset, block.offset + 9, block.offset + block.bytes - 1] {
        let good = file.read_exact_at(at, 1).unwrap()[0];
        file.write_all_at(at, Buffer::from_slice(&[good ^ 4])).unwrap();
        let run = open(&io, run.meta());
        for n in 0..3000 {
            assert!(run.find(&key(&schema, 2 * n)).unwrap().is_some());
            assert_eq!(run.find(&key(&schema, 2 * n + 1)).unwrap(), None);
        }
        assert_eq!(run.filter_stats().unwrap().cached_bytes, 0);
        let findings = run.verify().unwrap();
        assert!(findings.iter().any(|finding| finding.offset == Some(block.offset)), "{findings:?}");
        file.write_all_at(at, Buffer::from_slice(&[good])).unwrap();
        assert_eq!(open(&io, run.meta()).verify().unwrap(), []);
    }
}

#[test]
fn a_filter_that_lacks_a_key_or_is_another_ones_is_found_by_the_check() {
    use crate::model::filter;
    let io = files();
    let (run, _, schema) = evens(&io, 3000, filtered(Layout::Column, Some(64), 0));
    let loaded = run.loaded().unwrap();
    let block = *loaded.footer.sections.iter().find(|s| s.kind == super::super::format::SectionKind::Filter).unwrap();
    let file = io.open(&file_path(dir(), RunId(1)), OpenMode::ReadWrite).unwrap();
    let good = file.read_exact_at(block.offset, block.bytes as usize).unwrap().to_vec();
    let put = |payload: &[u8]| {
        assert_eq!(payload.len() + 4, good.len());
        let crc = super::super::format::frame_crc(loaded.random, block.offset, &[payload]);
        let frame = [&crc.to_le_bytes()[..], payload].concat();
        file.write_all_at(block.offset, Buffer::from_slice(&frame)).unwrap();
        open(&io, run.meta()).verify().unwrap()
    };
    assert_eq!(put(&good[4..]), []);
    let of = |numbers: std::ops::Range<i64>| {
        let mut hashes: Vec<u64> = numbers.map(|n| filter::hash(&key(&schema, n * 2))).collect();
        [&[0, 0][..], &filter::build(&mut hashes, RunId(1).0.rotate_left(32))].concat()
    };
    assert_eq!(of(0..3000), good[4..], "as the writer made it");
    let findings = put(&of(1..3001));
    assert!(findings[0].message.contains("a key of the run is not in it"), "{findings:?}");
    // Nothing of this length can have a guard too many and be a filter; the guard's own bytes are changed instead.
    let mut guarded = good[4..].to_vec();
    guarded.splice(..2, [1, 0, 0]);
    guarded.pop();
    assert_ne!(put(&guarded), []);
    assert_eq!(put(&good[4..]), []);
}
