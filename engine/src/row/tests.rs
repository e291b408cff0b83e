//! What holds of rows: what goes in comes out, and damage is an error.

use super::*;
use crate::column::ColumnSink;
use crate::key::tests::{Rng, TYPES, arrays, random_value};
use arrow::array::ArrayRef;

type Columns = Vec<(ColumnId, ColumnType)>;

fn random_columns(rng: &mut Rng) -> Columns {
    let types: Vec<_> = TYPES.iter().copied().chain([ColumnType::Json]).collect();
    let mut id = 15;
    (0..rng.below(20))
        .map(|_| {
            id += 1 + rng.below(3) as u32 * rng.below(100) as u32;
            (ColumnId(id), *rng.pick(&types))
        })
        .collect()
}

fn random_row(rng: &mut Rng, columns: &Columns) -> Vec<Value> {
    let value = |rng: &mut Rng, ty| if rng.below(4) == 0 { Value::Null } else { random_value(rng, ty) };
    columns.iter().map(|(_, ty)| value(rng, *ty)).collect()
}

fn encode(columns: &Columns, row: &[Value]) -> Vec<u8> {
    let mut out = vec![99];
    encode_row(&mut out, columns.iter().zip(row).map(|((id, ty), value)| (*id, *ty, value))).unwrap();
    assert_eq!(out.remove(0), 99, "what was in the buffer stays");
    out
}

/// Values as their spelling, in which NaN equals itself and −0 differs from 0.
fn spelled(values: &[Value]) -> Vec<String> {
    values.iter().map(|value| format!("{value:?}")).collect()
}

fn for_many_tables(check: impl Fn(u64, &mut Rng, &Columns, &[Vec<Value>])) {
    for seed in 0..200 {
        let mut rng = Rng(seed);
        let columns = random_columns(&mut rng);
        let rows: Vec<_> = (0..10).map(|_| random_row(&mut rng, &columns)).collect();
        check(seed, &mut rng, &columns, &rows);
    }
}

fn batch(columns: &Columns, rows: &[Vec<Value>]) -> Vec<ArrayRef> {
    arrays(&columns.iter().map(|(_, ty)| (*ty, true)).collect::<Vec<_>>(), rows)
}

#[test]
fn a_row_reads_back_value_by_value() {
    for_many_tables(|seed, _, columns, rows| {
        for row in rows {
            let bytes = encode(columns, row);
            let reader = RowReader::open(&bytes).unwrap();
            let values: Vec<_> = columns.iter().map(|(id, ty)| reader.value(*id, *ty).unwrap()).collect();
            assert_eq!(spelled(&values), spelled(row), "seed {seed}");
            assert_eq!(reader.value(ColumnId(5), ColumnType::Int64).unwrap(), Value::Null);
            assert_eq!(reader.value(ColumnId(u32::MAX), ColumnType::Text).unwrap(), Value::Null);
        }
    });
}

#[test]
fn a_row_appends_any_projection_to_sinks() {
    for_many_tables(|seed, rng, columns, rows| {
        let mut projection: Vec<usize> = (0..columns.len()).filter(|_| rng.below(3) > 0).collect();
        if rng.below(2) == 0 {
            projection.reverse();
        }
        let wanted: Columns =
            projection.iter().map(|i| columns[*i]).chain([(ColumnId(1 << 30), ColumnType::Date)]).collect();
        let mut sinks: Vec<_> = wanted.iter().map(|(_, ty)| ColumnSink::new(*ty, rows.len())).collect();
        for row in rows {
            let bytes = encode(columns, row);
            RowReader::open(&bytes).unwrap().append_to(&wanted, &mut sinks).unwrap();
        }
        let projected: Vec<Vec<Value>> =
            rows.iter().map(|row| projection.iter().map(|i| row[*i].clone()).chain([Value::Null]).collect()).collect();
        let found: Vec<_> = sinks.into_iter().map(ColumnSink::finish).collect();
        let expected = batch(&wanted, &projected);
        assert_eq!(format!("{found:?}"), format!("{expected:?}"), "seed {seed}");
    });
}

#[test]
fn a_batch_encodes_to_the_bytes_of_its_rows_whatever_the_order_of_columns() {
    for_many_tables(|seed, _, columns, rows| {
        let arrays = batch(columns, rows);
        let shuffled: (Columns, Vec<ArrayRef>) = columns.iter().copied().zip(arrays).rev().unzip();
        let encoder = BatchRows::new(&shuffled.0, &shuffled.1, rows.len()).unwrap();
        for (number, row) in rows.iter().enumerate().filter(|_| !columns.is_empty()) {
            let mut bytes = Vec::new();
            encoder.encode(number, &mut bytes).unwrap();
            assert_eq!(bytes, encode(columns, row), "seed {seed}");
        }
        assert_eq!(encoder.encode(rows.len(), &mut Vec::new()).unwrap_err().kind(), ErrorKind::InvalidArgument);
    });
}

#[test]
fn the_bytes_are_those_of_version_1() {
    let columns = vec![
        (ColumnId(16), ColumnType::Int64),
        (ColumnId(17), ColumnType::Text),
        (ColumnId(200), ColumnType::Boolean),
        (ColumnId(201), ColumnType::Interval),
    ];
    let interval = Value::Interval(IntervalMonthDayNano::new(1, -1, 2));
    let row = [Value::Int(-65), Value::Null, Value::Boolean(true), interval];
    let hex: String = encode(&columns, &row).iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(hex, "01|10038101|c80102|c9010701000000ffffffff0200000000000000".replace('|', ""));
}

#[test]
fn damaged_rows_are_an_error_and_never_a_panic() {
    for_many_tables(|seed, rng, columns, rows| {
        for row in rows {
            let good = encode(columns, row);
            let mut wanted = columns.clone();
            wanted.reverse();
            for _ in 0..50 {
                let mut bad = good.clone();
                bad.truncate(bad.len() - rng.below(bad.len() as u64 / 4 + 1) as usize);
                if let Some(byte) = bad.get_mut(rng.below(good.len() as u64) as usize) {
                    *byte = rng.next() as u8;
                }
                let Ok(reader) = RowReader::open(&bad) else { continue };
                let mut sinks: Vec<_> = wanted.iter().map(|(_, ty)| ColumnSink::new(*ty, 1)).collect();
                if let Err(e) = reader.append_to(&wanted, &mut sinks) {
                    assert_eq!(e.kind(), ErrorKind::Corruption, "seed {seed}: {e}");
                }
            }
        }
    });
    for bad in
        [&[][..], &[0], &[1, 16], &[1, 16, 8, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1], &[1, 16, 1, 16, 1]]
    {
        assert_eq!(RowReader::open(bad).unwrap_err().kind(), ErrorKind::Corruption, "{bad:?}");
    }
    assert_eq!(RowReader::open(&[2]).unwrap_err().kind(), ErrorKind::NewerFormat);
}

#[test]
fn what_a_row_cannot_hold_is_refused_and_leaves_no_trace() {
    let int = |id: u32, value| (ColumnId(id), ColumnType::Int16, value);
    let (one, large, text) = (Value::Int(1), Value::Int(1 << 20), Value::Text("x".into()));
    for row in [vec![int(17, &one), int(16, &one)], vec![int(16, &one), int(17, &large)], vec![int(16, &text)]] {
        let mut out = vec![7];
        assert_eq!(encode_row(&mut out, row.into_iter()).unwrap_err().kind(), ErrorKind::InvalidArgument);
        assert_eq!(out, [7]);
    }
    let long = Value::Bytes(vec![0; VALUE_BYTES_MAX + 1]);
    let mut out = vec![7];
    let row = [(ColumnId(16), ColumnType::Bytes, &long)];
    assert_eq!(encode_row(&mut out, row.into_iter()).unwrap_err().kind(), ErrorKind::LimitExceeded);
    assert_eq!(out, [7]);
}
