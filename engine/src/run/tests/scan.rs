//! Scans.

use super::support::*;
use crate::cache::Cache;
use crate::key::{Key, KeyRange};
use crate::run::*;
use crate::types::*;
use std::ops::Bound;
use std::sync::Arc;

fn bound(table: &Table, random: &mut Random) -> Bound<Key> {
    let row = &table.rows[random.below(table.rows.len())];
    let mut key = row.key.clone();
    match random.below(6) {
        0 => return Bound::Unbounded,
        1 => key.truncate(key.len() / 2),
        2 => key.push(1),
        3 => {
            let last = key.len() - 1;
            key[last] = key[last].wrapping_add(1);
        }
        _ => {}
    }
    if random.chance(50) { Bound::Included(key.into()) } else { Bound::Excluded(key.into()) }
}

/// Scans random ranges with random projections, both ways, and compares with the plain rows.
fn check(table: &Table, run: &Arc<Run>, rounds: usize, random: &mut Random) {
    for _ in 0..rounds {
        let range = KeyRange { start: bound(table, random), end: bound(table, random) };
        let mut projection: Vec<_> = table.schema.columns.iter().copied().filter(|_| random.chance(40)).collect();
        if random.chance(20) {
            projection.push((ColumnId::SEQ, ColumnType::Int64));
        }
        if random.chance(20) {
            projection.push((ColumnId::KIND, ColumnType::Boolean));
        }
        if random.chance(20) {
            projection.push((ColumnId(999), ColumnType::Text));
        }
        let (with_keys, reverse) = (random.chance(50), random.chance(50));
        let mut expected: Vec<&Row> = table.rows.iter().filter(|row| range.contains(&row.key)).collect();
        if reverse {
            expected.reverse();
        }
        let first_rows = [0, 1, 20, 300, SCAN_ROWS_MAX][random.below(5)];
        let all = RunScanOptions::all(range, projection.clone());
        let options = RunScanOptions { with_keys, reverse, first_rows, ..all };
        let mut scan = run.scan(options.clone());
        let rows = collect(&mut scan, &projection);
        assert_eq!(rows.len(), expected.len(), "{options:?}");
        assert_eq!(scan.metrics().rows as usize, rows.len());
        for (row, expected) in rows.iter().zip(expected) {
            assert_eq!((row.seq, row.tombstone), (expected.seq, expected.tombstone));
            assert!(!with_keys || row.key == expected.key);
            for ((id, _), value) in projection.iter().zip(&row.values) {
                let wanted = match *id {
                    ColumnId::SEQ => Value::Int(expected.seq as i64),
                    ColumnId::KIND => Value::Boolean(expected.tombstone),
                    id => table.schema.position(id).map_or(Value::Null, |place| expected.values[place].clone()),
                };
                assert!(same(value, &wanted), "{value:?} {wanted:?}");
            }
        }
    }
}

#[test]
fn random_ranges_equal_the_plain_rows() {
    let random = &mut Random(20);
    let keys: [&[ColumnType]; 4] = [
        &[ColumnType::Int64],
        &[ColumnType::Text],
        &[ColumnType::Int16, ColumnType::Timestamp],
        &[ColumnType::Text, ColumnType::Float64],
    ];
    for key in keys {
        for (layout, slice_rows) in [(Layout::Row, Some(16)), (Layout::Column, Some(16)), (Layout::Column, None)] {
            let table = table(schema(key, &TYPES[..9]), 1500, MIXED, random);
            let io = files();
            let meta = write(&io, 1, &table, options(layout, slice_rows, 0), random);
            check(&table, &open(&io, &meta), 30, random);
            // Nothing stays in this cache.
            let run = Run::open(&io, dir(), meta, &Cache::new(0)).unwrap();
            check(&table, &run, 5, random);
        }
    }
}

#[test]
fn long_scans_cross_tiles_both_ways() {
    let random = &mut Random(21);
    for kinds in [PLAIN, MIXED] {
        let table =
            table(schema(&[ColumnType::Int64], &[ColumnType::Float64, ColumnType::Text]), 30_000, kinds, random);
        for layout in [Layout::Row, Layout::Column] {
            let io = files();
            let meta = write(&io, 1, &table, options(layout, None, 1), random);
            check(&table, &open(&io, &meta), 6, random);
            let run = Run::open(&io, dir(), meta, &Cache::new(0)).unwrap();
            check(&table, &run, 6, random);
        }
    }
}

#[test]
fn who_wants_few_rows_gets_no_more_though_a_slice_has_them() {
    let random = &mut Random(23);
    let table = table(schema(&[ColumnType::Int64], &[ColumnType::Text]), 3000, PLAIN, random);
    let io = files();
    let meta = write(&io, 1, &table, options(Layout::Column, Some(16), 0), random);
    let run = open(&io, &meta);
    for reverse in [false, true] {
        let mut scan =
            run.scan(RunScanOptions { with_keys: false, reverse, first_rows: 20, ..everything(&table.schema.columns) });
        assert_eq!(scan.next().unwrap().unwrap().len(), 20);
        assert_eq!(scan.metrics().slices_read, 2);
        // Who asks on is given more at a time; a slice that was given in parts was read once.
        assert!(std::iter::from_fn(|| scan.next().unwrap()).count() < 10);
        assert_eq!(scan.metrics().rows, 3000);
        assert_eq!(scan.metrics().slices_read, 3000u64.div_ceil(16));
    }
}

#[test]
fn a_range_beside_the_run_touches_no_file() {
    let random = &mut Random(22);
    let table = table(schema(&[ColumnType::Int64], &[]), 100, PLAIN, random);
    let io = files();
    let meta = write(&io, 1, &table, RunOptions::default(), random);
    let run = open(&io, &meta);
    io.remove_file(&file_path(dir(), RunId(1))).unwrap();
    let key = table.schema.key.encode(&[Value::Int(1_000_000)]).unwrap();
    let range = KeyRange { start: Bound::Included(key.clone()), end: Bound::Unbounded };
    let options = RunScanOptions { with_keys: false, ..RunScanOptions::all(range, vec![]) };
    assert!(run.scan(options.clone()).next().unwrap().is_none());
    assert!(run.find(key.as_ref()).unwrap().is_none());
    let mut scan = run.scan(RunScanOptions { range: KeyRange::all(), ..options });
    assert!(scan.next().is_err());
    assert!(scan.next().unwrap().is_none());
}

#[test]
fn a_long_scan_leaves_a_small_cache_alone() {
    let random = &mut Random(23);
    let table = table(schema(&[ColumnType::Int64], &[ColumnType::Uuid]), 40_000, PLAIN, random);
    let io = files();
    let meta = write(&io, 1, &table, options(Layout::Column, Some(128), 0), random);
    let cache = Cache::new(64 << 10);
    let run = Run::open(&io, dir(), meta, &cache).unwrap();
    let options = RunScanOptions { with_keys: false, ..everything(&table.schema.columns) };
    run.find(&table.rows[0].key).unwrap();
    let evictions = cache.stats().evictions;
    assert_eq!(collect(&mut run.scan(options), &table.schema.columns).len(), table.rows.len());
    assert_eq!(cache.stats().evictions, evictions);
    assert!(cache.stats().bytes <= 64 << 10);
}
