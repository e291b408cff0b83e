//! What holds of keys, against a plain model: comparing the values.

use super::*;
use crate::column::ColumnSink;
use crate::error::ErrorKind;
use crate::limits::KEY_BYTES_MAX;
use crate::types::{ColumnType, Value};
use arrow::array::ArrayRef;
use arrow::datatypes::IntervalMonthDayNano;
use std::cmp::Ordering;

/// SplitMix64: a seed gives the same numbers everywhere.
pub(crate) struct Rng(pub u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub(crate) fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len() as u64) as usize]
    }
}

pub(crate) const TYPES: [ColumnType; 15] = [
    ColumnType::Boolean,
    ColumnType::Int16,
    ColumnType::Int32,
    ColumnType::Int64,
    ColumnType::Float32,
    ColumnType::Float64,
    ColumnType::Decimal { precision: 38, scale: 4 },
    ColumnType::Text,
    ColumnType::Bytes,
    ColumnType::Date,
    ColumnType::Time,
    ColumnType::Timestamp,
    ColumnType::TimestampTz,
    ColumnType::Interval,
    ColumnType::Uuid,
];

fn random_bytes(rng: &mut Rng) -> Vec<u8> {
    (0..rng.below(6)).map(|_| *rng.pick(&[0, 0, 1, b'a', 0xFE, 0xFF])).collect()
}

fn random_float(rng: &mut Rng) -> f64 {
    let special =
        [0.0, -0.0, f64::NAN, -f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MIN_POSITIVE, 1.0, -1.0, 5e-324];
    if rng.below(2) == 0 { *rng.pick(&special) } else { f64::from_bits(rng.next()) }
}

pub(crate) fn random_value(rng: &mut Rng, ty: ColumnType) -> Value {
    let int = |rng: &mut Rng, min: i64, max: i64| match rng.below(4) {
        0 => *rng.pick(&[min, max, -1, 0, 1]),
        1 => rng.below(5) as i64 - 2,
        _ => (rng.next() as i64).clamp(min, max),
    };
    match ty {
        ColumnType::Boolean => Value::Boolean(rng.below(2) == 0),
        ColumnType::Int16 => Value::Int(int(rng, i16::MIN.into(), i16::MAX.into())),
        ColumnType::Int32 | ColumnType::Date => Value::Int(int(rng, i32::MIN.into(), i32::MAX.into())),
        ColumnType::Float32 => Value::Float32(random_float(rng) as f32),
        ColumnType::Float64 => Value::Float64(random_float(rng)),
        ColumnType::Decimal { .. } => {
            Value::Decimal(i128::from(int(rng, i64::MIN, i64::MAX)) * i128::from(rng.below(3)))
        }
        ColumnType::Text | ColumnType::Json => {
            Value::Text((0..rng.below(6)).map(|_| *rng.pick(&['\0', 'a', 'b', 'ÿ', '\u{10FFFF}'])).collect())
        }
        ColumnType::Bytes => Value::Bytes(random_bytes(rng)),
        ColumnType::Interval => {
            let small = |rng: &mut Rng| rng.below(70) as i32 - 35;
            let nanos = *rng.pick(&[0, 1, -1, 86_400_000_000_000, -86_400_000_000_000, i64::MIN, i64::MAX]);
            match rng.below(4) {
                0 => Value::Interval(IntervalMonthDayNano::new(rng.next() as i32, rng.next() as i32, nanos)),
                1 => {
                    let end = *rng.pick(&[i32::MIN, i32::MAX]);
                    Value::Interval(IntervalMonthDayNano::new(end, end, nanos))
                }
                _ => Value::Interval(IntervalMonthDayNano::new(small(rng), small(rng), nanos)),
            }
        }
        ColumnType::Uuid => {
            let mut uuid = [0; 16];
            uuid[0] = rng.below(3) as u8;
            uuid[15] = rng.below(3) as u8;
            Value::Uuid(uuid)
        }
        _ => Value::Int(int(rng, i64::MIN, i64::MAX)),
    }
}

fn interval_nanos(v: IntervalMonthDayNano) -> i128 {
    (i128::from(v.months) * 30 + i128::from(v.days)) * 86_400_000_000_000 + i128::from(v.nanoseconds)
}

/// The order that SQL gives two values of one column, NULL last.
fn order(a: &Value, b: &Value) -> Ordering {
    let float = |a: f64, b: f64| match (a.is_nan(), b.is_nan()) {
        (false, false) => a.partial_cmp(&b).unwrap(),
        (a, b) => a.cmp(&b),
    };
    match (a, b) {
        (Value::Null, Value::Null) => Ordering::Equal,
        (Value::Null, _) => Ordering::Greater,
        (_, Value::Null) => Ordering::Less,
        (Value::Boolean(a), Value::Boolean(b)) => a.cmp(b),
        (Value::Int(a), Value::Int(b)) => a.cmp(b),
        (Value::Float32(a), Value::Float32(b)) => float((*a).into(), (*b).into()),
        (Value::Float64(a), Value::Float64(b)) => float(*a, *b),
        (Value::Decimal(a), Value::Decimal(b)) => a.cmp(b),
        (Value::Text(a), Value::Text(b)) => a.as_bytes().cmp(b.as_bytes()),
        (Value::Bytes(a), Value::Bytes(b)) => a.cmp(b),
        (Value::Interval(a), Value::Interval(b)) => interval_nanos(*a).cmp(&interval_nanos(*b)),
        (Value::Uuid(a), Value::Uuid(b)) => a.cmp(b),
        (a, b) => panic!("{a:?} and {b:?} are not of one column"),
    }
}

fn order_rows(a: &[Value], b: &[Value]) -> Ordering {
    a.iter().zip(b).map(|(a, b)| order(a, b)).find(|o| o.is_ne()).unwrap_or(Ordering::Equal)
}

fn random_columns(rng: &mut Rng) -> Vec<(ColumnType, bool)> {
    (0..1 + rng.below(4)).map(|_| (*rng.pick(&TYPES), rng.below(3) == 0)).collect()
}

fn random_row(rng: &mut Rng, columns: &[(ColumnType, bool)]) -> Vec<Value> {
    let value = |rng: &mut Rng, (ty, nullable): (ColumnType, bool)| {
        if nullable && rng.below(4) == 0 { Value::Null } else { random_value(rng, ty) }
    };
    columns.iter().map(|column| value(rng, *column)).collect()
}

/// Schemas of every single type first, then random composites, each with rows.
fn for_many_schemas(check: impl Fn(u64, &KeySchema, &[(ColumnType, bool)], &[Vec<Value>])) {
    for seed in 0..200 {
        let mut rng = Rng(seed);
        let columns = match TYPES.get(seed as usize / 2) {
            Some(ty) => vec![(*ty, seed % 2 == 1)],
            None => random_columns(&mut rng),
        };
        let schema = KeySchema::new(columns.clone()).unwrap();
        let rows: Vec<_> = (0..40).map(|_| random_row(&mut rng, &columns)).collect();
        check(seed, &schema, &columns, &rows);
    }
}

pub(crate) fn arrays(columns: &[(ColumnType, bool)], rows: &[Vec<Value>]) -> Vec<ArrayRef> {
    let column = |i: usize, ty| {
        let mut sink = ColumnSink::new(ty, rows.len());
        rows.iter().for_each(|row| sink.append(&row[i]).unwrap());
        sink.finish()
    };
    columns.iter().enumerate().map(|(i, (ty, _))| column(i, *ty)).collect()
}

#[test]
fn the_order_of_keys_is_the_order_of_values() {
    for_many_schemas(|seed, schema, _, rows| {
        let keys: Vec<_> = rows.iter().map(|row| schema.encode(row).unwrap()).collect();
        for (a, row_a) in keys.iter().zip(rows) {
            for (b, row_b) in keys.iter().zip(rows) {
                assert_eq!(a.cmp(b), order_rows(row_a, row_b), "seed {seed}: {row_a:?} and {row_b:?}");
            }
        }
    });
}

#[test]
fn a_decoded_key_has_equal_values_and_encodes_to_itself() {
    for_many_schemas(|seed, schema, _, rows| {
        for row in rows {
            let key = schema.encode(row).unwrap();
            let decoded = schema.decode(key.as_bytes()).unwrap();
            assert!(order_rows(row, &decoded).is_eq(), "seed {seed}: {row:?} became {decoded:?}");
            assert_eq!(schema.encode(&decoded).unwrap(), key, "seed {seed}: {row:?}");
        }
    });
}

#[test]
fn a_batch_encodes_to_the_keys_of_its_rows() {
    for_many_schemas(|seed, schema, columns, rows| {
        let batch = schema.encode_arrays(&arrays(columns, rows)).unwrap();
        let single: Vec<_> = rows.iter().map(|row| schema.encode(row).unwrap()).collect();
        assert_eq!(batch.len(), rows.len());
        assert!(batch.iter().eq(single.iter().map(Key::as_bytes)), "seed {seed}: {columns:?}");
        if let Some(width) = schema.fixed_width() {
            assert!(single.iter().all(|key| key.as_bytes().len() == width), "seed {seed}");
        }
    });
}

#[test]
fn sliced_arrays_encode_as_their_rows() {
    let columns = [(ColumnType::Text, true), (ColumnType::Boolean, false), (ColumnType::Uuid, true)];
    let schema = KeySchema::new(columns.to_vec()).unwrap();
    let mut rng = Rng(7);
    let rows: Vec<_> = (0..30).map(|_| random_row(&mut rng, &columns)).collect();
    let sliced: Vec<_> = arrays(&columns, &rows).iter().map(|array| array.slice(11, 9)).collect();
    let batch = schema.encode_arrays(&sliced).unwrap();
    assert!(
        batch.iter().eq(rows[11..20]
            .iter()
            .map(|row| schema.encode(row).unwrap())
            .collect::<Vec<_>>()
            .iter()
            .map(Key::as_bytes))
    );
}

#[test]
fn one_month_is_thirty_days_and_minus_zero_is_zero() {
    let schema = KeySchema::new(vec![(ColumnType::Interval, false), (ColumnType::Float64, false)]).unwrap();
    let a = schema.encode(&[Value::Interval(IntervalMonthDayNano::new(1, 0, 0)), Value::Float64(-0.0)]).unwrap();
    let b = schema.encode(&[Value::Interval(IntervalMonthDayNano::new(0, 30, 0)), Value::Float64(0.0)]).unwrap();
    assert_eq!(a, b);
    let canonical = vec![Value::Interval(IntervalMonthDayNano::new(1, 0, 0)), Value::Float64(0.0)];
    assert_eq!(schema.decode(b.as_bytes()).unwrap(), canonical);
}

#[test]
fn the_bytes_are_those_of_version_1() {
    let schema = KeySchema::new(vec![
        (ColumnType::Int32, false),
        (ColumnType::Text, true),
        (ColumnType::Text, true),
        (ColumnType::Float32, false),
        (ColumnType::Decimal { precision: 5, scale: 2 }, false),
    ])
    .unwrap();
    let row = [Value::Int(-2), Value::Null, Value::Text("a\0b".into()), Value::Float32(1.0), Value::Decimal(-1)];
    let hex: String = schema.encode(&row).unwrap().as_bytes().iter().map(|b| format!("{b:02x}")).collect();
    let expected = "7ffffffffffffffe|02|016100ff620000|bff0000000000000|7fffffffffffffffffffffffffffffff";
    assert_eq!(hex, expected.replace('|', ""));
    assert_eq!(ENCODING_VERSION, 1);
}

#[test]
fn damaged_keys_are_corruption_and_never_a_panic() {
    for_many_schemas(|seed, schema, _, rows| {
        let mut rng = Rng(seed ^ 0xDEAD);
        for row in rows {
            let good = schema.encode(row).unwrap().into_bytes();
            for cut in 0..good.len() {
                assert_eq!(schema.decode(&good[..cut]).unwrap_err().kind(), ErrorKind::Corruption, "seed {seed}");
            }
            let longer = [good.as_slice(), &[0]].concat();
            assert_eq!(schema.decode(&longer).unwrap_err().kind(), ErrorKind::Corruption, "seed {seed}");
            let mut bad = good.clone();
            let at = rng.below(bad.len() as u64) as usize;
            bad[at] ^= 1 << rng.below(8);
            match schema.decode(&bad) {
                Ok(values) => assert_eq!(values.len(), row.len()),
                Err(e) => assert_eq!(e.kind(), ErrorKind::Corruption, "seed {seed}"),
            }
            let _ = schema.decode(&random_bytes(&mut rng));
        }
    });
}

#[test]
fn null_in_a_column_without_null_is_refused() {
    let columns = [(ColumnType::Int64, false), (ColumnType::Text, true)];
    let schema = KeySchema::new(columns.to_vec()).unwrap();
    let row = vec![Value::Null, Value::Null];
    assert_eq!(schema.encode(&row).unwrap_err().kind(), ErrorKind::NullViolation);
    let batch = schema.encode_arrays(&arrays(&columns, &[row]));
    assert_eq!(batch.unwrap_err().kind(), ErrorKind::NullViolation);
}

#[test]
fn a_key_may_have_key_bytes_max_bytes_and_no_more() {
    let columns = [(ColumnType::Text, false)];
    let schema = KeySchema::new(columns.to_vec()).unwrap();
    let row = |len: usize| vec![Value::Text("x".repeat(len))];
    assert_eq!(schema.encode(&row(KEY_BYTES_MAX - 2)).unwrap().as_bytes().len(), KEY_BYTES_MAX);
    assert!(schema.encode_arrays(&arrays(&columns, &[row(KEY_BYTES_MAX - 2)])).is_ok());
    assert_eq!(schema.encode(&row(KEY_BYTES_MAX - 1)).unwrap_err().kind(), ErrorKind::LimitExceeded);
    let batch = schema.encode_arrays(&arrays(&columns, &[row(1), row(KEY_BYTES_MAX - 1)]));
    assert_eq!(batch.unwrap_err().kind(), ErrorKind::LimitExceeded);
}

#[test]
fn what_does_not_fit_the_columns_is_refused() {
    assert_eq!(KeySchema::new(vec![]).unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(KeySchema::new(vec![(ColumnType::Json, false)]).unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(KeySchema::new(vec![(ColumnType::Date, false); 33]).unwrap_err().kind(), ErrorKind::LimitExceeded);
    let schema = KeySchema::new(vec![(ColumnType::Int16, false)]).unwrap();
    for row in [vec![Value::Int(40_000)], vec![Value::Text("1".into())], vec![], vec![Value::Int(1), Value::Int(1)]] {
        assert_eq!(schema.encode(&row).unwrap_err().kind(), ErrorKind::InvalidArgument, "{row:?}");
    }
    let wrong = arrays(&[(ColumnType::Int64, false)], &[vec![Value::Int(1)]]);
    assert_eq!(schema.encode_arrays(&wrong).unwrap_err().kind(), ErrorKind::InvalidArgument);
    let decimal = KeySchema::new(vec![(ColumnType::Decimal { precision: 9, scale: 2 }, false)]).unwrap();
    let wrong = arrays(&[(ColumnType::Decimal { precision: 9, scale: 3 }, false)], &[vec![Value::Decimal(1)]]);
    assert_eq!(decimal.encode_arrays(&wrong).unwrap_err().kind(), ErrorKind::InvalidArgument);
}

#[test]
fn a_prefix_range_holds_exactly_the_keys_that_it_should() {
    for_many_schemas(|seed, schema, columns, rows| {
        let mut rng = Rng(seed ^ 0xBEEF);
        for _ in 0..20 {
            let equal = rng.below(columns.len() as u64) as usize;
            let template = rng.pick(rows).clone();
            let (low, high) = (rng.pick(rows)[equal].clone(), rng.pick(rows)[equal].clone());
            let bound = |kind, value| match kind {
                0 => Bound::Unbounded,
                1 => Bound::Included(value),
                _ => Bound::Excluded(value),
            };
            let (lower, upper) = (bound(rng.below(3), &low), bound(rng.below(3), &high));
            let range = schema.prefix_range(&template[..equal], lower, upper).unwrap();
            for row in rows {
                let after = match lower {
                    Bound::Unbounded => true,
                    Bound::Included(v) => order(&row[equal], v).is_ge(),
                    Bound::Excluded(v) => order(&row[equal], v).is_gt(),
                };
                let before = match upper {
                    Bound::Unbounded => true,
                    Bound::Included(v) => order(&row[equal], v).is_le(),
                    Bound::Excluded(v) => order(&row[equal], v).is_lt(),
                };
                let expected = order_rows(&row[..equal], &template[..equal]).is_eq() && after && before;
                let key = schema.encode(row).unwrap();
                assert_eq!(range.contains(key.as_bytes()), expected, "seed {seed}: {row:?} in {lower:?} {upper:?}");
                assert!(!(expected && range.is_empty()), "seed {seed}");
            }
        }
        let whole = schema.prefix_range(&rows[0], Bound::Unbounded, Bound::Unbounded).unwrap();
        for row in rows {
            let key = schema.encode(row).unwrap();
            assert_eq!(whole.contains(key.as_bytes()), order_rows(row, &rows[0]).is_eq(), "seed {seed}");
        }
        let one = Value::Int(1);
        assert!(schema.prefix_range(&rows[0], Bound::Included(&one), Bound::Unbounded).is_err());
    });
}

#[test]
fn a_bound_may_lie_outside_its_column() {
    let schema = KeySchema::new(vec![(ColumnType::Int16, false), (ColumnType::Float32, false)]).unwrap();
    let far = Value::Int(1 << 40);
    let key = schema.encode(&[Value::Int(32_767), Value::Float32(0.5)]).unwrap();
    assert!(schema.prefix_range(&[], Bound::Unbounded, Bound::Excluded(&far)).unwrap().contains(key.as_bytes()));
    assert!(!schema.prefix_range(&[], Bound::Included(&far), Bound::Unbounded).unwrap().contains(key.as_bytes()));
    let between = Value::Float64(0.499_999_999_999);
    let range = schema.prefix_range(&[Value::Int(32_767)], Bound::Excluded(&between), Bound::Unbounded).unwrap();
    assert!(range.contains(key.as_bytes()));
}

#[test]
fn the_successor_follows_everything_with_the_prefix() {
    assert_eq!(successor(&[1, 2]), Some(vec![1, 3]));
    assert_eq!(successor(&[1, 255, 255]), Some(vec![2]));
    assert_eq!(successor(&[255]), None);
    assert_eq!(successor(&[]), None);
    assert!(KeyRange::prefix(&[255]).contains(&[255, 255, 255]));
    assert!(!KeyRange::prefix(&[255]).contains(&[254, 255]));
    assert_eq!(KeyRange::prefix(&[]), KeyRange::all());
}

fn random_range(rng: &mut Rng) -> KeyRange {
    let bound = |rng: &mut Rng| {
        let key = Key::from(random_bytes(rng));
        match rng.below(3) {
            0 => Bound::Unbounded,
            1 => Bound::Included(key),
            _ => Bound::Excluded(key),
        }
    };
    KeyRange { start: bound(rng), end: bound(rng) }
}

#[test]
fn an_intersection_holds_what_both_ranges_hold() {
    let mut rng = Rng(11);
    for round in 0..2000 {
        let (a, b) = (random_range(&mut rng), random_range(&mut rng));
        let both = a.intersect(&b);
        for _ in 0..10 {
            let key = random_bytes(&mut rng);
            let expected = a.contains(&key) && b.contains(&key);
            assert_eq!(both.contains(&key), expected, "round {round}: {a:?} {b:?} {key:?}");
            assert!(!(a.contains(&key) && a.is_empty()), "round {round}: {a:?} {key:?}");
        }
    }
    let point = KeyRange::point(Key::from(vec![1]));
    assert!(point.contains(&[1]) && !point.contains(&[1, 0]) && !point.is_empty());
    assert!(KeyRange::empty().is_empty() && !KeyRange::all().is_empty());
}

#[test]
fn shapes_say_what_an_index_may_assume() {
    let shape = |columns: &[(ColumnType, bool)]| KeySchema::new(columns.to_vec()).unwrap().shape();
    use ColumnType::{Boolean, Int16, Int64, Text, Timestamp, Uuid};
    assert_eq!(shape(&[(Int16, false)]), KeyShape::Int);
    assert_eq!(shape(&[(Int64, true)]), KeyShape::Bytes);
    assert_eq!(shape(&[(Uuid, false)]), KeyShape::Bytes);
    assert_eq!(shape(&[(Int64, false), (Timestamp, false)]), KeyShape::Series { prefix_fixed_width: Some(8) });
    assert_eq!(shape(&[(Text, false), (Timestamp, false)]), KeyShape::Series { prefix_fixed_width: None });
    assert_eq!(shape(&[(Boolean, true), (Timestamp, false)]), KeyShape::Series { prefix_fixed_width: None });
    assert_eq!(shape(&[(Int64, false), (Text, false)]), KeyShape::Bytes);
}

#[test]
fn encoded_keys_slice_take_and_grow_like_a_list_of_keys() {
    let mut rng = Rng(3);
    for round in 0..200 {
        let width = (round % 2 == 0).then_some(8);
        let mut keys = EncodedKeys::with_capacity(width, 4);
        let mut plain: Vec<Vec<u8>> = Vec::new();
        for _ in 0..rng.below(20) {
            let key = if rng.below(10) > 0 { rng.below(9).to_be_bytes().to_vec() } else { random_bytes(&mut rng) };
            keys.push(&key);
            plain.push(key);
        }
        assert!(keys.iter().eq(plain.iter().map(Vec::as_slice)), "round {round}");
        assert_eq!((keys.first(), keys.last()), (plain.first().map(Vec::as_slice), plain.last().map(Vec::as_slice)));
        assert_eq!(keys.is_sorted(), plain.is_sorted(), "round {round}");
        assert_eq!(keys.is_strictly_sorted(), plain.is_sorted_by(|a, b| a < b), "round {round}");
        let middle = plain.len() / 2;
        assert!(keys.slice(middle..plain.len()).iter().eq(plain[middle..].iter().map(Vec::as_slice)));
        let rows: Vec<u32> = (0..plain.len() as u32).rev().collect();
        assert!(keys.take(&rows).iter().eq(plain.iter().rev().map(Vec::as_slice)));
        let mut sorted = plain.clone();
        sorted.sort();
        let mut sorted_keys = keys.slice(0..0);
        sorted.iter().for_each(|key| sorted_keys.push(key));
        let probe = rng.below(9).to_be_bytes();
        let expected = sorted.partition_point(|key| key.as_slice() < &probe[..]);
        assert_eq!(sorted_keys.partition_point(|key| key < &probe[..]), expected, "round {round}");
        keys.clear();
        assert!(keys.is_empty());
    }
}
