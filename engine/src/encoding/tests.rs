/*!
The encodings against a plain model: whatever is encoded comes back bit for bit, by value, by range and by list, and
damaged bytes give an error or other values, never a panic.
*/

use super::*;
use crate::column::{ColumnSink, value_at};
use crate::types::{ColumnType, Value};
use arrow::array::{Array, ArrayRef};
use arrow::datatypes::IntervalMonthDayNano;

const TYPES: [ColumnType; 18] = [
    ColumnType::Boolean,
    ColumnType::Int16,
    ColumnType::Int32,
    ColumnType::Int64,
    ColumnType::Float32,
    ColumnType::Float64,
    ColumnType::Decimal { precision: 12, scale: 2 },
    ColumnType::Decimal { precision: 38, scale: 10 },
    ColumnType::Text,
    ColumnType::Bytes,
    ColumnType::Date,
    ColumnType::Time,
    ColumnType::Timestamp,
    ColumnType::TimestampTz,
    ColumnType::Interval,
    ColumnType::Uuid,
    ColumnType::Json,
    ColumnType::Text,
];

/// A seeded source of numbers (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        distinct::hash_number(self.0)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// What the numbers of a generated column look like; text and bytes are made of them too.
const SHAPES: usize = 14;

fn numbers(shape: usize, rows: usize, random: &mut Random) -> Vec<i64> {
    let start = random.next() as i64 >> random.below(60);
    let step = random.next() as i64 >> (20 + random.below(44));
    let mut walk = start;
    (0..rows as i64)
        .map(|i| match shape {
            0 => start,
            1 => start.wrapping_add(i.wrapping_mul(step)),
            2 => start.wrapping_add(i.wrapping_mul(step)).wrapping_add(random.below(50) as i64),
            3 => random.next() as i64,
            4 => [i64::MIN, i64::MAX][i as usize % 2],
            5 => random.below(7) as i64 * 1_000_003_000_007,
            6 => i % 100,
            7 => i / 37,
            8 => {
                if random.below(40) == 0 {
                    random.next() as i64
                } else {
                    random.below(200) as i64
                }
            }
            9 => {
                walk = walk.wrapping_add(random.below(1000) as i64);
                walk
            }
            10 => [0, -1, 1, i64::MIN, i64::MAX, i64::MIN + 1, 255, -256][random.below(8) as usize],
            11 => start.wrapping_add(random.below(5_000) as i64 * 60_000_000),
            12 => random.next() as i64 & !0xff,
            _ => random.below(100_000) as i64 - 50_000,
        })
        .collect()
}

fn text(n: i64, shape: usize, random: &mut Random) -> String {
    match shape {
        0 => "always the same text".into(),
        1 => format!("run-{n:08}"),
        2 => format!("https://example.org/items/{}/details?page={}", n % 1000, n % 7),
        3 => (0..3).map(|i| (b'A' + (n.unsigned_abs() >> (8 * i)) as u8 % 26) as char).collect(),
        4 => String::new(),
        5 => {
            ["", "a", "é", "日本語", "twelve bytes", "thirteen byte", "😀😀😀😀"][n.unsigned_abs() as usize % 7].into()
        }
        6 => format!("ключ {n} значение"),
        7 if random.below(300) == 0 => "x€".repeat(16 * 1024),
        _ => {
            let length = random.below(40);
            (0..length).filter_map(|_| char::from_u32(random.below(0x2ff) as u32)).collect()
        }
    }
}

fn float(n: i64, shape: usize, random: &mut Random) -> f64 {
    match shape {
        0 => 0.1,
        1 => n as f64 / 10_000.0,
        2 => (n % 100_000) as f64 / 1000.0,
        3 => f64::from_bits(random.next()),
        4 => [f64::MAX, f64::MIN][n.unsigned_abs() as usize % 2],
        5 => [0.001, 1e-5, 3.0e-4, 1.0 / 3.0][n.unsigned_abs() as usize % 4],
        6 => f64::from((n as f32).sin()),
        7 => [f64::NAN, f64::from_bits(0xfff8_dead_beef_0001), -0.0, 0.0, f64::INFINITY, f64::NEG_INFINITY, 5e-324]
            [random.below(7) as usize],
        8 if random.below(50) == 0 => [f64::NAN, -0.0, f64::MIN_POSITIVE / 8.0][random.below(3) as usize],
        8 => random.below(1000) as f64 / 100.0,
        9 => random.below(1 << 40) as f64 * 1e9,
        10 => (random.below(2_000_001) as f64 - 1e6) / 1e6,
        _ => (n as f64).sqrt(),
    }
}

fn value(ty: ColumnType, n: i64, shape: usize, random: &mut Random) -> Value {
    let wide = i128::from(n) << 64 | i128::from(random.next());
    match ty {
        ColumnType::Boolean => Value::Boolean(n & 1 == 1),
        ColumnType::Int16 => Value::Int((n as i16).into()),
        ColumnType::Int32 | ColumnType::Date => Value::Int((n as i32).into()),
        ColumnType::Int64 | ColumnType::Time | ColumnType::Timestamp | ColumnType::TimestampTz => Value::Int(n),
        ColumnType::Float32 if shape == 3 => Value::Float32(f32::from_bits(random.next() as u32)),
        ColumnType::Float32 => Value::Float32(float(n, shape, random) as f32),
        ColumnType::Float64 => Value::Float64(float(n, shape, random)),
        ColumnType::Decimal { precision: 12, .. } => Value::Decimal((n % 1_000_000_000_000).into()),
        ColumnType::Decimal { .. } if shape == 4 => {
            Value::Decimal([10i128.pow(38) - 1, 1 - 10i128.pow(38)][n as usize & 1])
        }
        ColumnType::Decimal { .. } => Value::Decimal(wide % 10i128.pow(38)),
        ColumnType::Text | ColumnType::Json => Value::Text(text(n, shape, random)),
        ColumnType::Bytes if shape == 3 => {
            Value::Bytes(random.next().to_le_bytes()[..random.below(9) as usize].to_vec())
        }
        ColumnType::Bytes => Value::Bytes(text(n, shape, random).into_bytes()),
        ColumnType::Interval => Value::Interval(IntervalMonthDayNano::new(n as i32, (n >> 40) as i32, n)),
        ColumnType::Uuid if shape == 1 => {
            Value::Uuid((0x0190_0000_0000_7000_8000_0000_0000_0000u128 + u128::from(n as u64)).to_be_bytes())
        }
        ColumnType::Uuid => Value::Uuid(wide.to_be_bytes()),
    }
}

fn column(ty: ColumnType, shape: usize, rows: usize, nulls: u64, random: &mut Random) -> Vec<Value> {
    let numbers = numbers(shape, rows, random);
    numbers
        .into_iter()
        .map(|n| if random.below(100) < nulls { Value::Null } else { value(ty, n, shape, random) })
        .collect()
}

fn array(ty: ColumnType, values: &[Value]) -> ArrayRef {
    let mut sink = ColumnSink::new(ty, values.len());
    values.iter().for_each(|v| sink.append(v).unwrap());
    sink.finish()
}

/// Bit for bit, unlike `==`.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Float64(a), Value::Float64(b)) => a.to_bits() == b.to_bits(),
        (Value::Float32(a), Value::Float32(b)) => a.to_bits() == b.to_bits(),
        _ => a == b,
    }
}

#[track_caller]
fn assert_rows(array: &dyn Array, ty: ColumnType, want: impl ExactSizeIterator<Item = Value>) {
    assert_eq!(array.data_type(), &ty.arrow());
    array.to_data().validate_full().unwrap();
    assert_eq!(array.len(), want.len());
    for (row, want) in want.enumerate() {
        let got = value_at(array, row, ty).unwrap();
        assert!(same(&got, &want), "row {row} of {ty:?}: {got:?} is not {want:?}");
    }
}

fn check(ty: ColumnType, values: &[Value], random: &mut Random) -> Encoding {
    let array = array(ty, values);
    assert_rows(&array, ty, values.iter().cloned());
    let mut bytes = vec![7, 7, 7];
    let encoding = encode(&array, 0..values.len(), ty, &mut bytes).unwrap();
    let vector = Vector::open(&bytes[3..], ty).unwrap();
    assert_eq!(vector.encoding(), encoding);
    assert_eq!(vector.len(), values.len());
    assert_eq!(vector.null_count(), values.iter().filter(|v| **v == Value::Null).count());
    for (row, want) in values.iter().enumerate() {
        let got = vector.value(row).unwrap();
        assert!(same(&got, want), "row {row} of {ty:?} as {encoding}: {got:?} is not {want:?}");
        assert_eq!(vector.is_null(row), *want == Value::Null);
        if let Value::Int(n) = want {
            assert_eq!(vector.int(row).unwrap(), Some(*n));
        }
    }
    let start = random.below(values.len() as u64) as usize;
    let end = start + random.below((values.len() - start) as u64 + 1) as usize;
    let picks: Vec<u32> = (0..random.below(20)).map(|_| random.below(values.len() as u64) as u32).collect();
    let mut sink = ColumnSink::new(ty, 0);
    vector.decode(0..values.len(), &mut sink).unwrap();
    vector.decode(start..end, &mut sink).unwrap();
    vector.gather(&picks, &mut sink).unwrap();
    let order = (0..values.len()).chain(start..end).chain(picks.iter().map(|p| *p as usize));
    let want: Vec<Value> = order.map(|row| values[row].clone()).collect();
    assert_rows(&sink.finish(), ty, want.into_iter());
    encoding
}

#[test]
fn every_type_shape_and_null_rate_comes_back_bit_for_bit() {
    let mut random = Random(1);
    for ty in TYPES {
        for shape in 0..SHAPES {
            for (rows, nulls) in
                [(1024, 0), (1, 0), (2, 0), (9, 0), (100, 30), (1024, 5), (700, 95), (64, 100), (1, 100)]
            {
                let values = column(ty, shape, rows, nulls, &mut random);
                check(ty, &values, &mut random);
            }
        }
    }
}

#[test]
fn a_part_of_a_sliced_array_comes_back() {
    let mut random = Random(2);
    for ty in TYPES {
        let values = column(ty, 11, 600, 20, &mut random);
        let array = array(ty, &values).slice(37, 500);
        let mut bytes = Vec::new();
        encode(&array, 101..301, ty, &mut bytes).unwrap();
        let mut sink = ColumnSink::new(ty, 0);
        Vector::open(&bytes, ty).unwrap().decode(0..200, &mut sink).unwrap();
        sink.append_array(&array, 5..105).unwrap();
        sink.append_nulls(2);
        let want: Vec<Value> =
            values[138..338].iter().chain(&values[42..142]).cloned().chain([Value::Null, Value::Null]).collect();
        assert_eq!(sink.len(), 302);
        assert_rows(&sink.finish(), ty, want.into_iter());
    }
}

#[test]
fn an_empty_sink_ends_as_an_empty_column_of_its_type() {
    for ty in TYPES {
        let sink = ColumnSink::new(ty, 0);
        assert!(sink.is_empty());
        assert_rows(&sink.finish(), ty, std::iter::empty());
    }
}

#[test]
fn nonsensical_requests_are_refused_and_leave_everything_as_it_was() {
    let ty = ColumnType::Int64;
    let values = array(ty, &[Value::Int(1), Value::Int(2)]);
    let mut bytes = vec![9];
    assert!(encode(&values, 0..0, ty, &mut bytes).is_err());
    assert!(encode(&values, 0..3, ty, &mut bytes).is_err());
    assert!(encode(&values, 0..2, ColumnType::Text, &mut bytes).is_err());
    assert_eq!(bytes, [9]);
    encode(&values, 0..2, ty, &mut bytes).unwrap();
    let vector = Vector::open(&bytes[1..], ty).unwrap();
    let mut sink = ColumnSink::new(ty, 0);
    let reversed = std::ops::Range { start: 2, end: 1 };
    assert!(vector.value(2).is_err() && vector.int(2).is_err());
    assert!(vector.decode(1..3, &mut sink).is_err() && vector.decode(reversed, &mut sink).is_err());
    assert!(vector.gather(&[0, 2], &mut sink).is_err());
    assert!(vector.decode(0..2, &mut ColumnSink::new(ColumnType::Time, 0)).is_err());
    assert_eq!(sink.len(), 0);
}

/// Reads everything that can be read, whatever comes of it.
fn read_all(bytes: &[u8], ty: ColumnType) {
    let Ok(vector) = Vector::open(bytes, ty) else { return };
    assert!(vector.len() <= SLICE_ROWS_MAX);
    let mut sink = ColumnSink::new(ty, 0);
    let before = vector.decode(0..vector.len(), &mut sink).map_or(0, |()| vector.len());
    assert_eq!(sink.len(), before);
    let middle = vector.len() / 2;
    let _ = vector.decode(middle..vector.len(), &mut sink);
    let _ = vector.gather(&[0, middle as u32, vector.len() as u32 - 1], &mut sink);
    for row in [0, middle, vector.len() - 1] {
        let _ = vector.value(row);
        let _ = vector.int(row);
    }
    let array = sink.finish();
    array.to_data().validate_full().unwrap();
}

#[test]
fn a_vector_cut_short_anywhere_is_corruption() {
    let mut random = Random(3);
    for ty in TYPES {
        for shape in (0..SHAPES).filter(|shape| *shape != 7) {
            let values = column(ty, shape, 70, if shape % 2 == 0 { 10 } else { 0 }, &mut random);
            let mut bytes = Vec::new();
            encode(&array(ty, &values), 0..values.len(), ty, &mut bytes).unwrap();
            for length in 0..bytes.len() {
                let error = Vector::open(&bytes[..length], ty).unwrap_err();
                assert_eq!(error.kind(), crate::ErrorKind::Corruption);
            }
            bytes.push(0);
            assert!(Vector::open(&bytes, ty).is_err());
        }
    }
}

#[test]
fn a_damaged_byte_never_panics() {
    let mut random = Random(4);
    for ty in TYPES {
        for shape in (0..SHAPES).filter(|shape| *shape != 7) {
            let values = column(ty, shape, 130, if shape % 3 == 0 { 10 } else { 0 }, &mut random);
            let mut bytes = Vec::new();
            encode(&array(ty, &values), 0..values.len(), ty, &mut bytes).unwrap();
            for at in 0..bytes.len().min(400) {
                for damage in [0xff, 1 << random.below(8), random.next() as u8 | 1] {
                    bytes[at] ^= damage;
                    read_all(&bytes, ty);
                    bytes[at] ^= damage;
                }
            }
        }
    }
}

#[test]
fn random_bytes_never_panic() {
    let mut random = Random(5);
    for _ in 0..20_000 {
        let ty = TYPES[random.below(18) as usize];
        let mut bytes: Vec<u8> = (0..random.below(90)).map(|_| random.next() as u8).collect();
        if let Some([_, high, ..]) = bytes.get_mut(..) {
            *high = (*high & 0x07) | (random.below(5) as u8) << 3;
        }
        read_all(&bytes, ty);
    }
}

/// Bytes that one column of `values` takes, slice by slice.
fn size(ty: ColumnType, values: &[Value]) -> usize {
    let array = array(ty, values);
    let mut bytes = Vec::new();
    for start in (0..values.len()).step_by(SLICE_ROWS_MAX) {
        encode(&array, start..values.len().min(start + SLICE_ROWS_MAX), ty, &mut bytes).unwrap();
    }
    bytes.len()
}

#[test]
fn training_metrics_take_under_seven_bytes_a_row() {
    let mut random = Random(6);
    let rows = 20_000;
    let (mut run, mut step, mut ts, mut loss, mut acc, mut lr) = (vec![], vec![], vec![], vec![], vec![], vec![]);
    let mut clock = 1_700_000_000_000_000i64;
    for i in 0..rows {
        let (r, s) = (i / 1000, i % 1000);
        if s == 0 {
            clock += 3_600_000_000;
        }
        clock += 250_000 + random.below(2000) as i64;
        run.push(Value::Int(r));
        step.push(Value::Int(s * 10));
        ts.push(Value::Int(clock));
        let noise = random.below(10_000) as f64 / 1e5;
        loss.push(Value::Float64(((2.5 * (-s as f64 / 300.0).exp() + noise) * 1e4).round() / 1e4));
        acc.push(Value::Float64(((s as f64 / 1100.0 + noise / 10.0) * 1e4).round() / 1e4));
        lr.push(Value::Float64([0.001, 0.0005, 0.00025][s as usize / 400]));
    }
    let sizes = [
        size(ColumnType::Int64, &run),
        size(ColumnType::Int64, &step),
        size(ColumnType::Timestamp, &ts),
        size(ColumnType::Float64, &loss),
        size(ColumnType::Float64, &acc),
        size(ColumnType::Float64, &lr),
    ];
    let per_row: Vec<f64> = sizes.iter().map(|s| *s as f64 / rows as f64).collect();
    assert!(per_row[0] < 0.05 && per_row[1] < 0.05 && per_row[5] < 0.05, "{per_row:?}");
    assert!(per_row.iter().sum::<f64>() < 6.7, "{per_row:?}");
}

#[test]
fn codes_and_counted_ids_cost_what_they_say_not_their_letters() {
    let mut random = Random(7);
    let airports: Vec<String> = (0..300).map(|_| text(random.next() as i64 >> 1, 3, &mut Random(0))).collect();
    let rows = 8 * SLICE_ROWS_MAX as u64;
    let of = |f: &mut dyn FnMut(u64) -> String| (0..rows).map(|i| Value::Text(f(i))).collect::<Vec<_>>();
    let per_row = |values: &[Value]| size(ColumnType::Text, values) as f64 / rows as f64;
    let skewed = of(&mut |_| airports[(random.below(300) * random.below(300) / 300) as usize].clone());
    assert!(per_row(&skewed) < 1.5, "{}", per_row(&skewed));
    assert!(per_row(&of(&mut |i| format!("user-{i:08}"))) < 0.05);
    assert!(per_row(&of(&mut |_| format!("{:032x}", random.next()))) < 8.2);
    assert!(per_row(&of(&mut |_| "the same for all".into())) < 0.05);
    let spoken = of(&mut |_| {
        ["the quick", "brown fox", "jumps over the", "lazy dog"].map(|w| w.repeat(random.below(3) as usize)).concat()
    });
    assert!(per_row(&spoken) < 8.0, "{}", per_row(&spoken));
}

#[test]
fn an_encoder_that_has_seen_other_text_writes_vectors_that_decode_alone() {
    let mut random = Random(8);
    let ty = ColumnType::Text;
    let mut encoder = Encoder::new(ty);
    for round in 0..60 {
        let shape = [2, 6, 11, 8, 2, 7][round / 10];
        let values = column(ty, shape, 300, 3, &mut random);
        let mut bytes = Vec::new();
        let encoding = encoder.encode(&array(ty, &values), 0..300, &mut bytes).unwrap();
        let vector = Vector::open(&bytes, ty).unwrap();
        assert_eq!(vector.encoding(), encoding);
        let mut sink = ColumnSink::new(ty, 300);
        vector.decode(0..300, &mut sink).unwrap();
        assert_rows(&sink.finish(), ty, values.into_iter());
    }
}

#[test]
fn what_all_steps_have_in_common_takes_no_space() {
    let mut random = Random(7);
    let minutes: Vec<i64> = (0..1024).map(|_| 978_307_200_000_000 + random.below(1000) as i64 * 60_000_000).collect();
    let array: ArrayRef = std::sync::Arc::new(arrow::array::TimestampMicrosecondArray::from(minutes.clone()));
    let mut bytes = Vec::new();
    encode(&array, 0..1024, ColumnType::Timestamp, &mut bytes).unwrap();
    assert!(bytes.len() < 1024 * 10 / 8 + 40, "{} bytes", bytes.len());
    let vector = Vector::open(&bytes, ColumnType::Timestamp).unwrap();
    for (row, minute) in minutes.iter().enumerate() {
        assert_eq!(vector.value(row).unwrap(), Value::Int(*minute));
    }
}

/// A point read opens a vector for each column and moves it about.
#[test]
fn an_open_vector_is_small() {
    assert!(size_of::<Vector<'_>>() <= 168, "{}", size_of::<Vector<'_>>());
}
