//! Pruning by slice statistics.

use super::support::*;
use crate::run::predicate::compare;
use crate::run::*;
use crate::types::*;
use std::cmp::Ordering;
use std::collections::BTreeSet;

/// Whether a value passes, by the words of [`Test`].
fn passes(test: &Test, value: &Value) -> bool {
    let compared = |op: CompareOp, constant: &Value| {
        compare(value, constant).is_some_and(|order| match op {
            CompareOp::Eq => order == Ordering::Equal,
            CompareOp::Lt => order == Ordering::Less,
            CompareOp::LtEq => order != Ordering::Greater,
            CompareOp::Gt => order == Ordering::Greater,
            CompareOp::GtEq => order != Ordering::Less,
        })
    };
    match test {
        Test::Compare(op, constant) => compared(*op, constant),
        Test::In(constants) => constants.iter().any(|constant| compared(CompareOp::Eq, constant)),
        Test::IsNull => *value == Value::Null,
        Test::IsNotNull => *value != Value::Null,
        Test::NullOrAtLeast(constant) => *value == Value::Null || compared(CompareOp::GtEq, constant),
    }
}

fn test_of(ty: ColumnType, random: &mut Random) -> Test {
    let op = [CompareOp::Eq, CompareOp::Lt, CompareOp::LtEq, CompareOp::Gt, CompareOp::GtEq][random.below(5)];
    match random.below(10) {
        0 => Test::IsNull,
        1 => Test::IsNotNull,
        2 => Test::In((0..3).map(|_| value(ty, random)).collect()),
        3 => Test::NullOrAtLeast(value(ty, random)),
        _ => Test::Compare(op, value(ty, random)),
    }
}

#[test]
fn no_row_that_passes_is_pruned_whatever_the_type() {
    let random = &mut Random(30);
    let mut pruned = 0;
    for layout in [Layout::Row, Layout::Column] {
        for kinds in [PLAIN, MIXED, Kinds { nulls: 97, ..MIXED }] {
            let table = table(schema(&[ColumnType::Int64], &TYPES), 600, kinds, random);
            let io = files();
            let meta = write(&io, 1, &table, options(layout, Some(2), 0), random);
            let run = open(&io, &meta);
            for _ in 0..150 {
                let count = 1 + random.below(2);
                let predicates: Vec<ColumnPredicate> = (0..count)
                    .map(|_| {
                        let (column, ty) = table.schema.columns[random.below(table.schema.columns.len())];
                        ColumnPredicate { column, test: test_of(ty, random) }
                    })
                    .collect();
                let passing = |row: &&Row| {
                    let value = |id: ColumnId| &row.values[table.schema.position(id).unwrap()];
                    predicates.iter().all(|predicate| passes(&predicate.test, value(predicate.column)))
                };
                let reverse = random.chance(50);
                let mut scan = run.scan(RunScanOptions {
                    predicates: predicates.clone(),
                    prune: true,
                    reverse,
                    ..everything(&[])
                });
                let keys: BTreeSet<Vec<u8>> = collect(&mut scan, &[]).into_iter().map(|row| row.key).collect();
                for row in table.rows.iter().filter(passing) {
                    assert!(keys.contains(&row.key), "{predicates:?} lost {:?}", row.values);
                }
                let metrics = scan.metrics();
                assert_eq!((metrics.slices_read + metrics.slices_pruned) as usize, run.slices().unwrap());
                pruned += metrics.slices_pruned;
            }
        }
    }
    assert!(pruned > 10_000, "{pruned}");
}

#[test]
fn pruning_is_only_done_when_asked_for() {
    let random = &mut Random(31);
    let table = table(schema(&[ColumnType::Int64], &[]), 500, PLAIN, random);
    let io = files();
    let meta = write(&io, 1, &table, options(Layout::Column, Some(8), 0), random);
    let run = open(&io, &meta);
    let impossible = ColumnPredicate { column: ColumnId(16), test: Test::Compare(CompareOp::Lt, Value::Int(-5)) };
    let absent = ColumnPredicate { column: ColumnId(99), test: Test::IsNotNull };
    for (prune, predicates, rows) in [
        (false, vec![impossible.clone()], 500),
        (true, vec![], 500),
        (true, vec![impossible], 0),
        (true, vec![absent.clone()], 0),
        (true, vec![ColumnPredicate { test: Test::IsNull, ..absent }], 500),
    ] {
        let options = RunScanOptions { with_keys: false, predicates, prune, ..everything(&[]) };
        assert_eq!(collect(&mut run.scan(options), &[]).len(), rows);
    }
}

#[test]
fn statistics_are_exact_where_they_say_so() {
    let random = &mut Random(32);
    let table = table(schema(&[ColumnType::Int64], &TYPES), 400, MIXED, random);
    let io = files();
    let meta = write(&io, 1, &table, options(Layout::Column, Some(16), 0), random);
    let run = open(&io, &meta);
    for (slice, rows) in table.rows.chunks(16).enumerate() {
        for (place, (id, ty)) in table.schema.columns.iter().enumerate() {
            let stats = run.slice_stats(slice, *id).unwrap().unwrap();
            let values: Vec<&Value> =
                rows.iter().map(|row| &row.values[place]).filter(|value| **value != Value::Null).collect();
            assert_eq!((stats.rows as usize, stats.nulls as usize), (rows.len(), rows.len() - values.len()));
            if stats.min_exact
                && let Some(min) = &stats.min
            {
                assert!(values.iter().any(|value| same(value, min)), "{ty:?} {min:?}");
            }
            if let (ColumnType::Int32, false) = (ty, values.is_empty()) {
                let sum: i128 =
                    values.iter().map(|value| if let Value::Int(int) = value { i128::from(*int) } else { 0 }).sum();
                assert_eq!(stats.sum, Some(Value::Decimal(sum)));
            }
        }
    }
}
