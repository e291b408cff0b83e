//! What holds of a slice index, against a plain binary search over the slices' first keys.

use super::simd::Simd;
use super::*;
use crate::key::tests::Rng;
use crate::key::{KeySchema, KeyShape};
use crate::types::{ColumnType, Value};

const INT: KeyShape = KeyShape::Int;
const PAIR: KeyShape = KeyShape::Series { prefix_fixed_width: Some(8) };
const CHOICES: [IndexChoice; 3] = [IndexChoice::Auto, IndexChoice::Model, IndexChoice::Fences];

/// A named set of keys.
pub(super) struct Data {
    pub(super) name: String,
    pub(super) shape: KeyShape,
    pub(super) keys: Vec<Vec<u8>>,
}

fn data(name: impl Into<String>, shape: KeyShape, mut keys: Vec<Vec<u8>>) -> Data {
    keys.sort();
    keys.dedup();
    Data { name: name.into(), shape, keys }
}

fn ints(name: &str, values: impl IntoIterator<Item = i64>) -> Data {
    let schema = KeySchema::new(vec![(ColumnType::Int64, false)]).unwrap();
    assert_eq!(schema.shape(), INT);
    let key = |value| schema.encode(&[Value::Int(value)]).unwrap().into_bytes();
    data(name, INT, values.into_iter().map(key).collect())
}

/// Keys of (series, time): `series` says which are in it, `times` gives the times of one.
fn series(name: impl Into<String>, ids: impl IntoIterator<Item = Value>, mut times: impl FnMut() -> Vec<i64>) -> Data {
    let ids: Vec<_> = ids.into_iter().collect();
    let ty = if matches!(ids[0], Value::Text(_)) { ColumnType::Text } else { ColumnType::Int64 };
    let schema = KeySchema::new(vec![(ty, false), (ColumnType::Timestamp, false)]).unwrap();
    let mut keys = Vec::new();
    for id in ids {
        for time in times() {
            keys.push(schema.encode(&[id.clone(), Value::Int(time)]).unwrap().into_bytes());
        }
    }
    data(name, schema.shape(), keys)
}

fn walk(rng: &mut Rng, count: usize, mut step: impl FnMut(&mut Rng) -> i64) -> Vec<i64> {
    let next = |at: &mut i64, _| {
        let here = *at;
        *at = at.wrapping_add(step(rng));
        Some(here)
    };
    (0..count).scan(0, next).collect()
}

fn lognormal(rng: &mut Rng) -> i64 {
    let normal: f64 = (0..12).map(|_| rng.next() as f64 / u64::MAX as f64).sum::<f64>() - 6.0;
    ((normal * 2.0).exp() * 1e9) as i64
}

/// One-column keys of every temper.
pub(super) fn number_sets(rng: &mut Rng, n: usize) -> Vec<Data> {
    let burst = |rng: &mut Rng| if rng.below(100) == 0 { 60_000_000_000 } else { 1 + rng.below(900) as i64 };
    let outliers = [i64::MAX, i64::MAX - 1, 1 << 61, -(1 << 61), i64::MIN];
    vec![
        ints("sequential", 0..n as i64),
        ints("steps of a second", (0..n as i64).map(|i| 1_700_000_000_000_000 + i * 1_000_000)),
        ints("bursty", walk(rng, n, burst)),
        ints("bursty nanoseconds", walk(rng, n, burst).into_iter().map(|t| 1_700_000_000_000_000_000 + t)),
        ints("interleaved tenants", (0..n as i64).map(|i| (i % 10) << 40 | (i / 10 * 7))),
        ints("uniform", (0..n).map(|_| rng.next() as i64)),
        ints("lognormal", (0..n).map(|_| lognormal(rng))),
        ints("around 2^62", (0..n as i64).map(|i| (1 << 62) + i)),
        ints("negative", walk(rng, n, |rng| -(1 + rng.below(1000) as i64))),
        ints("dense with outliers", (0..n as i64).chain(outliers)),
        ints("stairs", (0..n as i64).map(|i| ((i / 50) << 30) + i % 50)),
        ints("exponential gaps", (0..n as u64).map(|i| ((1_u64 << (i % 62)) + (i / 62)) as i64)),
        ints("whole range", (0..n as u64).map(|i| (i * (u64::MAX / n as u64)) as i64).chain([i64::MIN, i64::MAX])),
    ]
}

pub(super) fn series_sets(rng: &mut Rng, n: usize, counts: &[usize]) -> Vec<Data> {
    let mut sets = Vec::new();
    for &count in counts {
        let rows = n / count;
        let regular = || (0..rows.max(1) as i64).map(|i| 1_700_000_000_000_000 + i * 1_000_000).collect();
        sets.push(series(format!("{count} dense series"), (0..count as i64).map(Value::Int), regular));
        let mut own = Rng(rng.next());
        let ids: Vec<_> = (0..count).map(|_| Value::Int(rng.next() as i64)).collect();
        let jitter = || {
            let rows = own.below(2 * rows.max(1) as u64) as usize;
            walk(&mut own, rows, |rng| 1 + rng.below(2_000_000) as i64)
        };
        sets.push(series(format!("{count} sparse series"), ids, jitter));
        let mut own = Rng(rng.next());
        let names: Vec<_> = (0..count).map(|i| Value::Text(format!("host-{}/metric-{}", i / 7, i % 7))).collect();
        let steps = || walk(&mut own, rows.max(1), |rng| 1 + rng.below(9) as i64);
        sets.push(series(format!("{count} named series"), names, steps));
    }
    let mut own = Rng(rng.next());
    let anywhere = || (0..n / 20).map(|_| own.next() as i64).collect();
    sets.push(series("times too wide for a head", (0..20).map(Value::Int), anywhere));
    let mut own = Rng(rng.next());
    let odd = ["", "a", "a\0", "a\0b", "aa", "\u{10FFFF}"].map(|name| Value::Text(name.into()));
    sets.push(series("names with zeros", odd, || walk(&mut own, n / 6, |rng| 1 + rng.below(99) as i64)));
    sets
}

pub(super) fn byte_sets(rng: &mut Rng, n: usize) -> Vec<Data> {
    let mut uuid = |_| [rng.next().to_be_bytes(), rng.next().to_be_bytes()].concat();
    let uuids = (0..n).map(&mut uuid).collect();
    let names = (0..n).map(|i| format!("runs/{}/metrics/{}/step-{}", i % 37, i % 11, i).into_bytes()).collect();
    let short = (0..n).map(|_| (0..rng.below(4)).map(|_| rng.next() as u8).collect()).collect();
    let pairs = (0..n).map(|i| [((i / 100) as u64).to_be_bytes(), rng.next().to_be_bytes()].concat()).collect();
    vec![
        data("uuids", KeyShape::Bytes, uuids),
        data("long names", KeyShape::Bytes, names),
        data("short strings", KeyShape::Bytes, short),
        data("equal prefixes", PAIR, pairs),
        // Keys that are not of the shape that was promised must be found too.
        data(
            "numbers with strangers",
            INT,
            (0..n as u64).map(|i| i.to_be_bytes()[..5 + i as usize % 4].to_vec()).collect(),
        ),
        data(
            "series with strangers",
            PAIR,
            (0..n as u64).map(|i| i.to_be_bytes()[..5 + i as usize % 4].to_vec()).collect(),
        ),
    ]
}

/// The slices of some keys, with sizes of 1 to `rows`.
fn cut(rng: &mut Rng, keys: &[Vec<u8>], rows: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut slices = Vec::new();
    let mut rest = keys;
    while !rest.is_empty() {
        let len = (if rng.below(8) == 0 { 1 + rng.below(rows as u64) as usize } else { rows }).min(rest.len());
        slices.push((rest[0].clone(), rest[len - 1].clone()));
        rest = &rest[len..];
    }
    slices
}

fn build(shape: KeyShape, choice: IndexChoice, slices: &[(Vec<u8>, Vec<u8>)]) -> (Vec<u8>, IndexStats) {
    let mut builder = IndexBuilder::new(shape, choice);
    slices.iter().for_each(|(first, last)| builder.push(first, last));
    builder.finish().unwrap()
}

/// Keys at, just below and just above `key`, some too short or too long for any schema.
fn around(key: &[u8]) -> Vec<Vec<u8>> {
    let mut probes = vec![key.to_vec(), [key, &[0]].concat(), [key, &[255; 9]].concat(), [key, &[0; 3]].concat()];
    for kept in [1, 3, 8, 9, 12] {
        probes.extend(key.len().checked_sub(kept).map(|len| key[..len].to_vec()));
    }
    for end in [key.len(), key.len().saturating_sub(8)] {
        for up in [true, false] {
            let mut other = key.to_vec();
            for byte in other[..end].iter_mut().rev() {
                *byte = if up { byte.wrapping_add(1) } else { byte.wrapping_sub(1) };
                if *byte != if up { 0 } else { 255 } {
                    break;
                }
            }
            probes.push(other);
        }
    }
    probes
}

fn extremes() -> Vec<Vec<u8>> {
    [0, 1, 7, 8, 9, 15, 16, 17, 40].iter().flat_map(|len| [vec![0; *len], vec![255; *len], vec![128; *len]]).collect()
}

fn probes(rng: &mut Rng, data: &Data, slices: &[(Vec<u8>, Vec<u8>)]) -> Vec<Vec<u8>> {
    let mut probes = extremes();
    let every = 1 + slices.len() / 400;
    for (first, last) in slices.iter().step_by(every) {
        probes.extend(around(first));
        probes.extend(around(last));
    }
    for _ in 0..1000 {
        let mut key = rng.pick(&data.keys).clone();
        probes.push(key.clone());
        if !key.is_empty() {
            let at = rng.below(key.len() as u64) as usize;
            key[at] = rng.next() as u8;
        }
        probes.push(key);
    }
    probes
}

/// Checks the promise of the module's words for one key.
fn check(index: &SliceIndex, slices: &[(Vec<u8>, Vec<u8>)], key: &[u8], context: &str) {
    let found = index.find(key);
    let exact = slices.partition_point(|(first, _)| first.as_slice() <= key).saturating_sub(1);
    let in_gap = slices.get(exact + 1).is_some() && key > slices[exact].1.as_slice();
    let may_be_next = in_gap && matches!(index.stats().kind, IndexKind::Model | IndexKind::Separators);
    assert!(found == exact || may_be_next && found == exact + 1, "{context}: {key:?} in {found}, not {exact}");
    assert_eq!(index.predict(key).slice, found, "{context}: {key:?}");
}

fn check_everything(seed: u64, data: &Data, rows: usize) {
    let mut rng = Rng(seed ^ 0x5EED);
    let slices = cut(&mut rng, &data.keys, rows);
    let mut probes = probes(&mut rng, data, &slices);
    for choice in CHOICES {
        let (bytes, stats) = build(data.shape, choice, &slices);
        let index = SliceIndex::open(&bytes).unwrap();
        let context = format!("seed {seed}, {}, {} slices, {choice:?}, {}", data.name, slices.len(), stats.kind);
        assert_eq!((index.stats(), index.slices(), stats.bytes), (&stats, slices.len(), bytes.len()), "{context}");
        probes.iter().for_each(|key| check(&index, &slices, key, &context));
        let refs: Vec<_> = probes.iter().map(Vec::as_slice).collect();
        let mut batch = vec![9];
        index.find_batch(&refs, &mut batch);
        assert!(batch.iter().copied().eq(refs.iter().map(|key| index.find(key))), "{context}: batched");
        for simd in Simd::available() {
            let index = index.searched_with(simd);
            let mut other = Vec::new();
            index.find_batch(&refs, &mut other);
            assert_eq!(other, batch, "{context}: {}, batched", simd.name());
            assert!(batch.iter().copied().eq(refs.iter().map(|key| index.find(key))), "{context}: {}", simd.name());
        }
        probes.sort();
        assert!(probes.is_sorted_by_key(|key| index.find(key)), "{context}: not monotone");
    }
}

#[test]
fn numbers_are_found_in_their_slices() {
    for seed in 0..3 {
        let mut rng = Rng(seed);
        for data in number_sets(&mut rng, 20_000) {
            check_everything(seed, &data, [4, 32, 1][seed as usize]);
        }
    }
}

#[test]
fn series_are_found_in_their_slices() {
    for seed in 0..3 {
        let mut rng = Rng(seed);
        let counts: &[usize] = if seed == 0 { &[10, 1000, 100_000] } else { &[1, 10, 1000] };
        for data in series_sets(&mut rng, 20_000, counts) {
            check_everything(seed, &data, [4, 32, 1][seed as usize]);
        }
    }
}

#[test]
fn byte_strings_are_found_in_their_slices() {
    for seed in 0..3 {
        let mut rng = Rng(seed);
        for data in byte_sets(&mut rng, 10_000) {
            check_everything(seed, &data, [4, 32, 1][seed as usize]);
        }
    }
}

#[test]
fn runs_of_few_slices_are_searched_whole() {
    for seed in 0..20 {
        let mut rng = Rng(seed);
        let n = 1 + rng.below(40) as usize;
        let mut sets = number_sets(&mut rng, n);
        sets.extend(series_sets(&mut rng, n, &[1, 2, 10]));
        sets.extend(byte_sets(&mut rng, n));
        for data in sets.iter_mut().filter(|data| !data.keys.is_empty()) {
            data.keys.truncate(n.max(1));
            let rows = 1 + rng.below(n as u64) as usize;
            check_everything(seed, data, rows);
        }
    }
}

#[test]
fn an_empty_run_has_an_index_too() {
    for shape in [INT, PAIR, KeyShape::Series { prefix_fixed_width: None }, KeyShape::Bytes] {
        for choice in CHOICES {
            let (bytes, _) = build(shape, choice, &[]);
            let index = SliceIndex::open(&bytes).unwrap();
            assert_eq!(index.slices(), 0);
            assert!(extremes().iter().all(|key| index.find(key) == 0 && index.predict(key).slice == 0));
            let mut out = Vec::new();
            index.find_batch(&[b"", &[255; 30]], &mut out);
            assert_eq!(out, [0, 0]);
        }
    }
}

#[test]
fn the_model_is_taken_where_it_is_small_and_fences_elsewhere() {
    let mut rng = Rng(5);
    let chosen = |data: &Data, rows| {
        let slices: Vec<_> =
            data.keys.chunks(rows).map(|rows| (rows[0].clone(), rows[rows.len() - 1].clone())).collect();
        build(data.shape, IndexChoice::Auto, &slices).1
    };
    let sequential = ints("sequential", 0..70_000);
    let stats = chosen(&sequential, 4);
    assert_eq!((stats.kind, stats.reason, stats.segments), (IndexKind::Model, Reason::ModelIsSmaller, 1));
    assert!(stats.bytes_per_slice < 2.01 && stats.exceptions == 0, "{stats:?}");
    let few = chosen(&sequential, 64);
    assert_eq!(few.reason, Reason::FewSlices);
    assert_ne!(few.kind, IndexKind::Model);

    let uniform = ints("uniform", (0..200_000).map(|_| rng.next() as i64));
    let stats = chosen(&uniform, 8);
    assert_eq!(stats.kind, IndexKind::Model, "{stats:?}");

    let rough = ints("pairs cut apart", (0..40_000).map(|i: i64| (((i + 1) / 2) << 45) + i % 2));
    let stats = chosen(&rough, 2);
    assert_eq!(stats.kind, IndexKind::STree, "{stats:?}");
    assert!(matches!(stats.reason, Reason::ModelIsLarge | Reason::ManyExceptions), "{stats:?}");

    let steps = || (0..100).collect();
    let stats = chosen(&series("runs and steps", (0..1000).map(Value::Int), steps), 4);
    assert_eq!((stats.kind, stats.prefixes, stats.segments), (IndexKind::Model, 1000, 1), "{stats:?}");

    let names = byte_sets(&mut rng, 40_000).remove(1);
    let stats = chosen(&names, 2);
    assert_eq!((stats.kind, stats.reason), (IndexKind::Separators, Reason::KeyHasNoHead));
}

#[test]
fn a_model_that_is_asked_for_is_built_where_keys_have_heads() {
    let built = |data: &Data| build(data.shape, IndexChoice::Model, &cut(&mut Rng(1), &data.keys, 8)).1;
    for data in number_sets(&mut Rng(1), 1000) {
        assert_eq!((built(&data).kind, built(&data).reason), (IndexKind::Model, Reason::Asked), "{}", data.name);
    }
    for data in byte_sets(&mut Rng(1), 1000).iter().take(3) {
        assert_eq!((built(data).kind, built(data).reason), (IndexKind::Separators, Reason::KeyHasNoHead));
    }
}

#[test]
fn explain_shows_the_way_to_the_slice() {
    let bursty = &number_sets(&mut Rng(2), 20_000)[2];
    let slices = cut(&mut Rng(2), &bursty.keys, 8);
    let (bytes, stats) = build(INT, IndexChoice::Model, &slices);
    let index = SliceIndex::open(&bytes).unwrap();
    assert!(stats.segments > 1 && stats.epsilon > 0);
    for (slice, (first, _)) in slices.iter().enumerate() {
        let prediction = index.predict(first);
        assert_eq!((prediction.kind, prediction.slice), (IndexKind::Model, slice));
        assert!(prediction.segment.unwrap() < stats.segments);
        assert!(prediction.predicted.abs_diff(slice) <= stats.epsilon + 1, "{prediction:?}");
    }
    let fences = SliceIndex::open(&build(INT, IndexChoice::Fences, &slices).0).unwrap();
    let prediction = fences.predict(&slices[3].0);
    assert_eq!((prediction.kind, prediction.segment, prediction.predicted), (fences.stats().kind, None, 3));
    assert!(matches!(prediction.kind, IndexKind::Eytzinger | IndexKind::STree));
}

#[test]
fn keys_that_are_told_apart_only_by_exceptions_are_found() {
    // Pairs of neighbours far apart: no line can tell the end of one slice from the start of the next.
    let keys = (0..2000_i64).flat_map(|i| [i * (1 << 50) + (i % 7), i * (1 << 50) + (i % 7) + 1]);
    let data = ints("pairs", keys);
    let slices: Vec<_> = std::iter::once(&data.keys[..1])
        .chain(data.keys[1..].chunks(2))
        .map(|rows| (rows[0].clone(), rows[rows.len() - 1].clone()))
        .collect();
    let (bytes, stats) = build(INT, IndexChoice::Model, &slices);
    let index = SliceIndex::open(&bytes).unwrap();
    assert_eq!(stats.kind, IndexKind::Model);
    assert!(stats.exceptions > 1000, "{stats:?}");
    assert!(index.predict(&slices[1000].0).exception);
    for key in slices.iter().flat_map(|(first, last)| [around(first), around(last)]).flatten() {
        check(&index, &slices, &key, "pairs");
    }
}

#[test]
fn slices_out_of_order_are_refused() {
    let key = |n: u64| n.to_be_bytes();
    for slices in [vec![(5, 6), (6, 7)], vec![(5, 4)], vec![(5, 6), (1, 2)]] {
        let mut builder = IndexBuilder::new(INT, IndexChoice::Auto);
        slices.iter().for_each(|(first, last)| builder.push(&key(*first), &key(*last)));
        assert_eq!(builder.finish().unwrap_err().kind(), ErrorKind::InvalidArgument, "{slices:?}");
    }
}

/// The same bytes with a checksum that holds, so that the checks behind it are reached.
fn resealed(bytes: &[u8]) -> Vec<u8> {
    let body = &bytes[..bytes.len().saturating_sub(4)];
    [body, &crc32c::crc32c(body).to_le_bytes()].concat()
}

#[test]
fn damage_at_any_byte_is_an_error_and_never_a_panic() {
    let mut rng = Rng(9);
    let mut sets = series_sets(&mut rng, 150, &[1, 10, 100]);
    sets.extend(byte_sets(&mut rng, 150));
    sets.push(number_sets(&mut rng, 300).swap_remove(2));
    sets.push(number_sets(&mut rng, 300).swap_remove(11));
    for data in &sets {
        let keys = &data.keys[..data.keys.len().min(150)];
        let slices = cut(&mut rng, keys, 3);
        let probes: Vec<_> = slices.iter().step_by(5).flat_map(|(first, _)| around(first)).chain(extremes()).collect();
        let refs: Vec<_> = probes.iter().map(Vec::as_slice).collect();
        for choice in [IndexChoice::Model, IndexChoice::Fences] {
            let (good, _) = build(data.shape, choice, &slices);
            for at in 0..good.len() {
                let mut bad = good.clone();
                bad[at] ^= 1 << rng.below(8);
                assert_eq!(SliceIndex::open(&bad).unwrap_err().kind(), ErrorKind::Corruption, "{} {at}", data.name);
                assert!(SliceIndex::open(&good[..at]).is_err());
                bad[at] = *rng.pick(&[0, 1, 127, 128, 254, 255]);
                for bad in [resealed(&bad), resealed(&good[..at])] {
                    let Ok(index) = SliceIndex::open(&bad) else { continue };
                    let mut out = Vec::new();
                    index.find_batch(&refs, &mut out);
                    assert!(out.iter().all(|slice| *slice < index.slices().max(1)), "{} {at}", data.name);
                    refs.iter().for_each(|key| assert_eq!(index.predict(key).slice, index.find(key)));
                }
            }
        }
    }
}

#[test]
fn a_newer_version_is_named_as_such() {
    let (mut bytes, _) = build(INT, IndexChoice::Auto, &[(vec![0; 8], vec![1; 8])]);
    bytes[0] = INDEX_VERSION + 1;
    assert_eq!(SliceIndex::open(&resealed(&bytes)).unwrap_err().kind(), ErrorKind::NewerFormat);
}

mod properties {
    //! Every encoding of the index over keys and cuts that nobody thought of, against plain sorted slices.

    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    /// Numbers of all sizes: close together, far apart, at both ends.
    fn numbers() -> impl Strategy<Value = Vec<u64>> {
        let number = (any::<u64>(), 0..64_u32, any::<bool>()).prop_map(|(x, shift, flip)| {
            let small = x >> shift;
            if flip { !small } else { small }
        });
        vec(number, 1..300)
    }

    /// Slices of these sizes, in turn.
    fn cut_by(keys: &[Vec<u8>], sizes: &[usize]) -> Vec<(Vec<u8>, Vec<u8>)> {
        let (mut slices, mut rest) = (Vec::new(), keys);
        for size in sizes.iter().cycle() {
            let (slice, after) = rest.split_at((*size).min(rest.len()));
            let (Some(first), Some(last)) = (slice.first(), slice.last()) else { break };
            slices.push((first.clone(), last.clone()));
            rest = after;
        }
        slices
    }

    fn hold(data: &Data, sizes: &[usize]) {
        let slices = cut_by(&data.keys, sizes);
        let probes: Vec<_> = data.keys.iter().flat_map(|key| around(key)).chain(extremes()).collect();
        let refs: Vec<_> = probes.iter().map(Vec::as_slice).collect();
        for choice in CHOICES {
            let index = SliceIndex::open(&build(data.shape, choice, &slices).0).unwrap();
            for simd in Simd::available() {
                let index = index.searched_with(simd);
                let context = format!("{choice:?}, {}, {}", index.stats().kind, simd.name());
                let mut batch = Vec::new();
                index.find_batch(&refs, &mut batch);
                for (key, found) in refs.iter().zip(batch) {
                    check(&index, &slices, key, &context);
                    assert_eq!(found, index.find(key), "{context}: {key:?}");
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]

        #[test]
        fn numbers_hold(keys in numbers(), sizes in vec(1..9_usize, 1..5)) {
            hold(&data("numbers", INT, keys.iter().map(|key| key.to_be_bytes().to_vec()).collect()), &sizes);
        }

        #[test]
        fn pairs_hold(ids in numbers(), times in numbers(), few in 1..20_usize, sizes in vec(1..9_usize, 1..5)) {
            let pair = |(place, time): (usize, &u64)| [ids[place % ids.len().min(few)].to_be_bytes(), time.to_be_bytes()].concat();
            hold(&data("pairs", PAIR, times.iter().enumerate().map(pair).collect()), &sizes);
        }

        #[test]
        fn strings_hold(keys in vec("[ab]{0,3}(run-)?[0-9a\u{0}]{0,4}", 1..200), sizes in vec(1..9_usize, 1..5)) {
            hold(&data("strings", KeyShape::Bytes, keys.into_iter().map(String::into_bytes).collect()), &sizes);
        }
    }
}
