//! Lookups.

use super::support::*;
use crate::cache::Cache;
use crate::column::value_at;
use crate::error::ErrorKind;
use crate::key::KeyRange;
use crate::model::IndexChoice;
use crate::run::*;
use crate::types::*;
use std::sync::Arc;

/// Writes the table, then finds and reads every row, and misses keys that are not there.
fn check(table: &Table, options: RunOptions, random: &mut Random) -> Arc<Run> {
    let io = files();
    let meta = write(&io, 1, table, options, random);
    assert_eq!(meta.rows as usize, table.rows.len());
    assert_eq!(meta.tombstones as usize, table.rows.iter().filter(|row| row.tombstone).count());
    assert_eq!(meta.min_key, table.rows[0].key);
    assert_eq!(meta.max_key, table.rows.last().unwrap().key);
    let run = open(&io, &meta);
    let (mut values, mut once) = (Vec::new(), Vec::new());
    let step = (table.rows.len() / 3000).max(1);
    for row in table.rows.iter().step_by(step) {
        let found = run.find(&row.key).unwrap().unwrap_or_else(|| panic!("{:?} is lost", row.key));
        assert_eq!((found.seq, found.tombstone), (Some(row.seq), row.tombstone));
        values.clear();
        run.read_row(&found, &table.schema.columns, &mut values).unwrap();
        assert!(values.iter().zip(&row.values).all(|(a, b)| same(a, b)), "{values:?} {:?}", row.values);
        // At once, over whatever values were there: those of the row before, first to last.
        once.reverse();
        let wanted = |seq| Wanted { columns: &table.schema.columns, seq };
        assert_eq!(run.get(&row.key, wanted(true), &mut once).unwrap(), Some(found));
        let numberless = run.get(&row.key, wanted(false), &mut once).unwrap();
        assert_eq!(numberless, Some(Found { seq: None, ..found }));
        assert!(row.tombstone || once.iter().zip(&row.values).all(|(a, b)| same(a, b)), "{once:?} {:?}", row.values);
        for absent in neighbours(&row.key) {
            let there = table.rows.binary_search_by(|row| row.key.as_slice().cmp(&absent)).is_ok();
            assert_eq!(run.find(&absent).unwrap().is_some(), there);
            assert_eq!(run.get(&absent, Wanted::NUMBER, &mut Vec::new()).unwrap().is_some(), there);
        }
    }
    let stats = run.index_stats().unwrap();
    assert_eq!((stats.breaches, stats.index.slices), (0, run.slices().unwrap()));
    assert_eq!(run.verify().unwrap(), []);
    run
}

/// Keys just beside a key, whole and cut short.
fn neighbours(key: &[u8]) -> Vec<Vec<u8>> {
    let (mut up, mut down, mut longer) = (key.to_vec(), key.to_vec(), key.to_vec());
    let last = key.len() - 1;
    up[last] = up[last].wrapping_add(1);
    down[last] = down[last].wrapping_sub(1);
    longer.push(0);
    vec![up, down, longer, key[..last].to_vec()]
}

#[test]
fn rows_of_all_types_come_back_in_both_layouts() {
    let random = &mut Random(1);
    for layout in [Layout::Row, Layout::Column] {
        for kinds in [PLAIN, MIXED] {
            let table = table(schema(&[ColumnType::Int64], &TYPES), 700, kinds, random);
            check(&table, options(layout, None, 0), random);
            check(&table, options(layout, Some(8), 2), random);
        }
    }
}

#[test]
fn keys_of_every_orderable_type_are_found() {
    let random = &mut Random(2);
    for ty in TYPES.into_iter().filter(|ty| ty.is_orderable()) {
        let table = table(schema(&[ty], &[ColumnType::Text]), 600, MIXED, random);
        check(&table, options(Layout::Row, Some(4), 0), random);
        check(&table, options(Layout::Column, Some(16), 0), random);
    }
}

#[test]
fn composite_keys_are_found() {
    let random = &mut Random(3);
    let keys: [&[ColumnType]; 5] = [
        &[ColumnType::Int64, ColumnType::Int64],
        &[ColumnType::Int16, ColumnType::Date, ColumnType::Timestamp],
        &[ColumnType::Text, ColumnType::Int64],
        &[ColumnType::Int32, ColumnType::Text, ColumnType::Boolean],
        &[ColumnType::Float64, DECIMAL, ColumnType::Bytes, ColumnType::Interval],
    ];
    for key in keys {
        let table = table(schema(key, &[ColumnType::Float64]), 3000, MIXED, random);
        check(&table, options(Layout::Row, Some(16), 0), random);
        check(&table, options(Layout::Column, None, 1), random);
    }
}

#[test]
fn slices_and_tiles_may_end_anywhere() {
    let random = &mut Random(4);
    for count in [1, 2, 1023, 1024, 1025, 8191, 8192, 8193, 16_384, 20_000] {
        let table = table(schema(&[ColumnType::Int64], &[ColumnType::Int64]), count, PLAIN, random);
        check(&table, options(Layout::Column, None, 1), random);
        check(&table, options(Layout::Column, Some(64), 2), random);
        check(&table, options(Layout::Row, None, 0), random);
    }
}

#[test]
fn a_hidden_row_id_is_a_key_like_others() {
    let random = &mut Random(5);
    let definition = TableDef {
        id: TableId(1),
        storage: StorageId(1),
        name: "t".into(),
        columns: vec![ColumnDef {
            id: ColumnId(16),
            name: "a".into(),
            ty: ColumnType::Text,
            nullable: true,
            collation: Collation::C,
            attributes: Attributes::new(),
        }],
        key: vec![],
        ttl: None,
        runs: crate::types::RunChoices::default(),
        attributes: Attributes::new(),
    };
    let schema = RunSchema::of(&definition).unwrap();
    assert_eq!(schema.column_ids(), [ColumnId::ROW_ID, ColumnId(16)]);
    let table = table(schema, 2000, MIXED, random);
    check(&table, options(Layout::Column, None, 0), random);
}

#[test]
fn large_values_end_tiles_early() {
    let random = &mut Random(6);
    let mut table = table(schema(&[ColumnType::Int64], &[ColumnType::Bytes, ColumnType::Int64]), 3000, PLAIN, random);
    for row in table.rows.iter_mut().skip(1500).step_by(90) {
        row.values[1] = Value::Bytes((0..3_000_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect());
    }
    for layout in [Layout::Row, Layout::Column] {
        let run = check(&table, options(layout, None, 0), random);
        let mut scan = run.scan(RunScanOptions { reverse: true, ..everything(&[table.schema.columns[2]]) });
        let rows = collect(&mut scan, &[table.schema.columns[2]]);
        assert!(rows.iter().rev().zip(&table.rows).all(|(a, b)| a.key == b.key && a.values[0] == b.values[2]));
        assert_eq!(rows.len(), table.rows.len());
    }
}

/// Series of so many rows each, `(series, step)` with a value.
fn series(lengths: &[usize]) -> Table {
    let schema = schema(&[ColumnType::Int64, ColumnType::Int64], &[ColumnType::Float64]);
    let steps = lengths.iter().zip(0i64..).flat_map(|(length, series)| (0..*length as i64).map(move |at| (series, at)));
    let row = |(series, step): (i64, i64)| {
        let key = [Value::Int(series), Value::Int(step)];
        Row {
            key: schema.key.encode(&key).unwrap().into_bytes(),
            seq: 7,
            tombstone: false,
            values: key.into_iter().chain([Value::Float64(step as f64 / 8.0)]).collect(),
        }
    };
    let rows = steps.map(row).collect();
    Table { schema, rows }
}

/// A tile ends where a series of several slices does: so no slice has rows of two, and an aggregate by series needs no rows.
#[test]
fn series_of_several_slices_share_none_and_short_ones_do() {
    let random = &mut Random(31);
    let slices = |lengths: &[usize], layout, threads: usize, random: &mut Random| -> Vec<u64> {
        let table = series(lengths);
        let run = check(&table, options(layout, Some(16), threads), random);
        let of = |series: usize| {
            let prefix = table.schema.key.encode_prefix(&[Value::Int(series as i64)]).unwrap();
            let mut scan = run.scan(RunScanOptions { range: KeyRange::prefix(&prefix), ..everything(&[]) });
            let rows: usize = std::iter::from_fn(|| scan.next().unwrap()).map(|batch| batch.len()).sum();
            assert_eq!(rows, lengths[series]);
            scan.metrics().slices_read
        };
        (0..lengths.len()).map(of).collect()
    };
    // Tiles of column shape have 512 slices of 16 rows.
    let long = [4100usize, 5000, 8192, 20_000, 4097];
    for threads in [0, 2] {
        let alone: Vec<u64> = long.iter().map(|rows| rows.div_ceil(16) as u64).collect();
        assert_eq!(slices(&long, Layout::Column, threads, random), alone);
    }
    let shared = slices(&[5; 400], Layout::Column, 0, random);
    assert!(shared.iter().sum::<u64>() > 400, "{shared:?}");
}

#[test]
fn a_column_that_the_run_does_not_have_is_null() {
    let random = &mut Random(7);
    let table = table(schema(&[ColumnType::Int64], &[ColumnType::Text]), 100, PLAIN, random);
    let io = files();
    let meta = write(&io, 1, &table, RunOptions::default(), random);
    let run = open(&io, &meta);
    let found = run.find(&table.rows[50].key).unwrap().unwrap();
    let projection = [(ColumnId(99), ColumnType::Uuid), table.schema.columns[1], (ColumnId::SEQ, ColumnType::Int64)];
    let mut values = Vec::new();
    run.read_row(&found, &projection, &mut values).unwrap();
    assert_eq!(values, [Value::Null, table.rows[50].values[1].clone(), Value::Int(7)]);
    let wanted = Wanted { columns: &projection, seq: false };
    let (_, columns) = run.get_many(&[&table.rows[50].key], wanted).unwrap();
    let cells = columns.iter().zip(&projection).map(|(column, (_, ty))| value_at(column, 0, *ty).unwrap());
    assert_eq!(cells.collect::<Vec<_>>(), values);
    assert_eq!(run.slice_stats(0, ColumnId(99)).unwrap(), None);
    let wrong = run.read_row(&found, &[(ColumnId(16), ColumnType::Text)], &mut values);
    assert_eq!(wrong.unwrap_err().kind(), ErrorKind::Internal);
}

#[test]
fn every_choice_of_index_finds_the_same() {
    let random = &mut Random(13);
    let keys: [&[ColumnType]; 4] = [
        &[ColumnType::Int64],
        &[ColumnType::Int16, ColumnType::Timestamp],
        &[ColumnType::Text, ColumnType::Int64],
        &[ColumnType::Text],
    ];
    for key in keys {
        for index in [IndexChoice::Model, IndexChoice::Fences] {
            let table = table(schema(key, &[ColumnType::Int32]), 4000, MIXED, random);
            let options = RunOptions { index, ..options(Layout::Column, Some(4), 0) };
            let run = check(&table, options, random);
            assert!(!run.index_stats().unwrap().residuals.is_empty());
        }
    }
}

#[test]
fn a_lookup_sent_to_a_wrong_slice_still_finds_its_row_and_is_counted() {
    let random = &mut Random(14);
    let table = table(schema(&[ColumnType::Text, ColumnType::Int64], &[ColumnType::Int32]), 300, PLAIN, random);
    let io = files();
    let meta = write(&io, 1, &table, options(Layout::Row, Some(8), 0), random);
    let run = open(&io, &meta);
    let loaded = run.loaded().unwrap();
    let slices = run.slices().unwrap();
    let pin = run.cache().pin();
    for row in table.rows.iter().step_by(7) {
        let right = run.find(&row.key).unwrap().unwrap();
        let absent = neighbours(&row.key).into_iter().find(|key| run.find(key).unwrap().is_none()).unwrap();
        for wrong in (0..slices).chain([usize::from(u16::MAX)]) {
            assert_eq!(run.find_from(loaded, &row.key, wrong, &pin).unwrap(), Some(right));
            assert_eq!(run.find_from(loaded, &absent, wrong, &pin).unwrap(), None);
        }
    }
    assert!(run.index_stats().unwrap().breaches > 1000);
    assert_ne!(run.verify().unwrap(), []);
}

#[test]
fn many_keys_are_found_at_once() {
    let random = &mut Random(8);
    let table = table(schema(&[ColumnType::Int64, ColumnType::Int64], &[ColumnType::Text]), 5000, MIXED, random);
    let io = files();
    let meta = write(&io, 1, &table, options(Layout::Column, Some(32), 0), random);
    let run = open(&io, &meta);
    let mut keys: Vec<Vec<u8>> = table.rows.iter().map(|row| row.key.clone()).collect();
    keys.extend(table.rows.iter().flat_map(|row| neighbours(&row.key)));
    let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
    let (found, _) = run.get_many(&keys, Wanted::NUMBER).unwrap();
    assert!(keys.iter().zip(&found).all(|(key, found)| run.find(key).unwrap() == *found));
}

/// Of a tile in columns a lookup reads its slice's frames; once it has read a quarter of a chunk in that way, the chunk.
#[test]
fn a_cold_lookup_reads_its_slice_and_not_its_tile() {
    let random = &mut Random(21);
    let table = table(schema(&[ColumnType::Int64], &[ColumnType::Uuid, ColumnType::Int64]), 9000, PLAIN, random);
    let io = files();
    let meta = write(&io, 1, &table, options(Layout::Column, Some(256), 0), random);
    let wanted = Wanted { columns: &table.schema.columns, seq: true };
    for many in [false, true] {
        let cache = Cache::new(64 << 20);
        let run = Run::open(&io, dir(), meta.clone(), &cache).unwrap();
        let look_up = |rows: &[usize]| {
            let keys: Vec<&[u8]> = rows.iter().map(|row| table.rows[*row].key.as_slice()).collect();
            let all = match many {
                true => run.get_many(&keys, wanted).unwrap().0,
                false => keys.iter().map(|key| run.get(key, wanted, &mut Vec::new()).unwrap()).collect(),
            };
            for (row, found) in rows.iter().zip(all) {
                let (found, expected, mut values) = (found.unwrap(), &table.rows[*row], Vec::new());
                run.read_row(&found, wanted.columns, &mut values).unwrap();
                assert!(values.iter().zip(&expected.values).all(|(a, b)| same(a, b)));
            }
        };
        look_up(&[10]);
        let before = cache.stats().bytes;
        look_up(&[5000]);
        let slice = cache.stats().bytes - before;
        // One of 36 slices, whose smallest chunks are read whole.
        assert!((1..meta.bytes / 12).contains(&slice), "{slice} bytes of {}", meta.bytes);
        look_up(&[5001, 4990]);
        assert!(cache.stats().bytes - before < 2 * slice + 1000, "nothing twice");
        let rows: Vec<usize> = (0..9000).step_by(100).collect();
        look_up(&rows);
        let all = cache.stats().bytes;
        assert!(all < meta.bytes + 4096, "{all} bytes of {}", meta.bytes);
        let misses = cache.stats().misses;
        look_up(&rows);
        assert_eq!((cache.stats().bytes, cache.stats().misses), (all, misses), "all is there");
    }
}

/// What a group of keys was brought it finds, though the cache has let go of it already.
#[test]
fn a_batch_that_is_larger_than_the_cache_reads_nothing_twice() {
    let random = &mut Random(22);
    let table = table(schema(&[ColumnType::Int64], &[ColumnType::Uuid, ColumnType::Int64]), 9000, PLAIN, random);
    let io = files();
    let meta = write(&io, 1, &table, options(Layout::Row, Some(16), 0), random);
    let cache = Cache::new(8 << 10);
    let run = Run::open(&io, dir(), meta.clone(), &cache).unwrap();
    let rows: Vec<usize> = (0..9000).step_by(20).collect();
    let keys: Vec<&[u8]> = rows.iter().map(|row| table.rows[*row].key.as_slice()).collect();
    let (found, columns) = run.get_many(&keys, Wanted { columns: &table.schema.columns, seq: true }).unwrap();
    assert_eq!(found.iter().flatten().count(), rows.len());
    for (at, row) in rows.iter().enumerate() {
        for ((column, (_, ty)), value) in columns.iter().zip(&table.schema.columns).zip(&table.rows[*row].values) {
            assert!(same(&value_at(column.as_ref(), at, *ty).unwrap(), value));
        }
    }
    let stats = cache.stats();
    assert!(stats.misses > 50, "what was brought had left the cache: {stats:?}");
    assert!(stats.evictions <= 450, "no tile came twice: {stats:?}");
}

#[test]
fn many_rows_are_read_as_they_are_read_one_by_one() {
    let random = &mut Random(18);
    for layout in [Layout::Row, Layout::Column] {
        let mut table = table(schema(&[ColumnType::Int64], &TYPES), 900, MIXED, random);
        table.schema.columns.push((ColumnId(99), ColumnType::Uuid));
        let projection = table.schema.columns.clone();
        table.schema.columns.pop();
        let io = files();
        let meta = write(&io, 1, &table, options(layout, Some(16), 0), random);
        let run = open(&io, &meta);
        for _ in 0..20 {
            // Some together in a slice, some alone, some twice, in any order.
            let picks: Vec<usize> = (0..random.below(60)).map(|_| random.below(900)).collect();
            let near = picks.iter().flat_map(|pick| (*pick..900).take(picks.len() % 5));
            let all: Vec<usize> = near.chain(picks.iter().copied()).collect();
            let keys: Vec<&[u8]> = all.iter().map(|row| table.rows[*row].key.as_slice()).collect();
            let (found, columns) = run.get_many(&keys, Wanted { columns: &projection, seq: true }).unwrap();
            assert!(keys.iter().zip(&found).all(|(key, found)| run.find(key).unwrap() == *found));
            for (at, found) in found.iter().flatten().filter(|found| !found.tombstone).enumerate() {
                let mut values = Vec::new();
                run.read_row(found, &projection, &mut values).unwrap();
                for ((column, (_, ty)), value) in columns.iter().zip(&projection).zip(&values) {
                    assert!(same(&value_at(column.as_ref(), at, *ty).unwrap(), value));
                }
            }
        }
    }
}

#[test]
fn a_run_with_one_sequence_number_stores_none() {
    let random = &mut Random(9);
    let table =
        table(schema(&[ColumnType::Int64], &[ColumnType::Int64]), 4000, Kinds { one_seq: false, ..PLAIN }, random);
    let io = files();
    let many = write(&io, 1, &table, RunOptions::default(), random);
    let fixed = write(&io, 2, &table, RunOptions { fixed_seq: Some(42), ..RunOptions::default() }, random);
    assert!(fixed.bytes < many.bytes);
    assert_eq!((fixed.min_seq, fixed.max_seq), (42, 42));
    assert_eq!(open(&io, &fixed).find(&table.rows[9].key).unwrap().unwrap().seq, Some(42));
}

#[test]
fn keys_out_of_order_are_refused_and_no_file_is_left() {
    let random = &mut Random(10);
    let table = table(schema(&[ColumnType::Int64], &[ColumnType::Int64]), 100, PLAIN, random);
    let io = files();
    for wrong in [vec![1, 0], vec![0, 0]] {
        let rows: Vec<Row> = wrong.iter().map(|at: &usize| table.rows[*at].clone()).collect();
        let mut writer = RunWriter::create(&io, dir(), RunId(1), &table.schema, RunOptions::default()).unwrap();
        assert_eq!(writer.write(&batch(&table, &rows)).unwrap_err().kind(), ErrorKind::Internal);
        drop(writer);
        let mut writer = RunWriter::create(&io, dir(), RunId(1), &table.schema, RunOptions::default()).unwrap();
        writer.write(&batch(&table, &rows[..1])).unwrap();
        assert_eq!(writer.write(&batch(&table, &rows[1..])).unwrap_err().kind(), ErrorKind::Internal);
        drop(writer);
        assert!(io.list(dir()).unwrap().is_empty());
    }
    let writer = RunWriter::create(&io, dir(), RunId(1), &table.schema, RunOptions::default()).unwrap();
    assert_eq!(writer.finish().unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert!(io.list(dir()).unwrap().is_empty());
}

#[test]
fn threads_change_nothing_about_the_rows() {
    let random = &mut Random(11);
    let table = table(schema(&[ColumnType::Int64], &[ColumnType::Text, ColumnType::Float64]), 40_000, MIXED, random);
    let io = files();
    let alone = write(&io, 1, &table, options(Layout::Column, None, 0), random);
    let helped = write(&io, 2, &table, options(Layout::Column, None, 3), random);
    assert_eq!(alone.bytes, helped.bytes);
    assert_eq!(open(&io, &helped).verify().unwrap(), []);
}

#[test]
fn lookups_go_through_the_cache_and_survive_a_tiny_one() {
    let random = &mut Random(12);
    let table = table(schema(&[ColumnType::Int64], &[ColumnType::Text]), 20_000, PLAIN, random);
    let io = files();
    let meta = write(&io, 1, &table, options(Layout::Column, Some(64), 0), random);
    let cache = Cache::new(1 << 20);
    let run = Run::open(&io, dir(), meta.clone(), &cache).unwrap();
    run.find(&table.rows[0].key).unwrap().unwrap();
    let misses = cache.stats().misses;
    assert!(run.find(&table.rows[1].key).unwrap().is_some());
    assert_eq!(cache.stats().misses, misses);
    drop(run);
    assert_eq!(cache.stats().bytes, 0);
    let run = Run::open(&io, dir(), meta, &Cache::new(0)).unwrap();
    assert!(table.rows.iter().step_by(500).all(|row| run.find(&row.key).unwrap().is_some()));
}

#[test]
fn file_names_are_those_of_runs_only() {
    assert_eq!(parse_file_name(&file_name(RunId(17))), Some(RunId(17)));
    for other in ["run-.omen", "run-1", "run-01.omen", "run--1.omen", "wal-1.omen", "run-1.omen.tmp"] {
        assert_eq!(parse_file_name(other), None, "{other}");
    }
}
