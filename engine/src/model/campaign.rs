//! Millions of lookups, each held against the slice that it must name: ten million in an ordinary test run, as many as the
//! environment variable `OMENDB_LOOKUPS` says otherwise (ten billion: `OMENDB_LOOKUPS=10_000_000_000 cargo test --release -p omendb-engine --lib model::campaign`).
//!
//! Keys that are in slices, absent keys inside slices, and keys in the gaps between them are looked up, in batches and alone, with
//! all instructions that the processor has. The plain sorted slices know the answer: keys are made from a slice, so none is searched for.

use super::simd::Simd;
use super::stree::BATCH;
use super::tests::{Data, byte_sets, number_sets, series_sets};
use super::{IndexBuilder, IndexChoice, IndexKind, SliceIndex};
use crate::key::tests::Rng;

const LOOKUPS: u64 = 10_000_000;
/// Keys of a set: some ten thousand slices, more than the fewest for which a model is thought of.
const KEYS: usize = 120_000;
/// Rows of a slice.
const ROWS: usize = 5;
/// Of so many batches, one is looked up key by key as well.
const BATCHES_PER_SINGLE: u64 = 4;

struct Case {
    name: String,
    /// First and last keys of slices.
    slices: Vec<(Vec<u8>, Vec<u8>)>,
    index: SliceIndex,
}

fn cases(data: &Data, seed: u64) -> Vec<Case> {
    let bounds = |rows: &[Vec<u8>]| (rows[0].clone(), rows[rows.len() - 1].clone());
    let slices: Vec<_> = data.keys.chunks(ROWS).map(bounds).collect();
    let mut cases = Vec::new();
    for choice in [IndexChoice::Model, IndexChoice::Fences] {
        let mut builder = IndexBuilder::new(data.shape, choice);
        slices.iter().for_each(|(first, last)| builder.push(first, last));
        let (bytes, stats) = builder.finish().unwrap();
        // Strings have one index, whatever is asked for.
        if cases.iter().any(|case: &Case| case.index.stats().kind == stats.kind) {
            continue;
        }
        let index = SliceIndex::open(&bytes).unwrap();
        let kinds = Simd::available();
        let name = |simd: &Simd| format!("seed {seed}, {}, {}, {}", data.name, stats.kind, simd.name());
        let case = |simd| Case { name: name(&simd), slices: slices.clone(), index: index.searched_with(simd) };
        cases.extend(kinds.into_iter().map(case));
    }
    cases
}

/// Writes a key that is not less than the slice's first one, and less than the next slice's.
fn draw(rng: &mut Rng, slices: &[(Vec<u8>, Vec<u8>)], slice: usize, key: &mut Vec<u8>) {
    let (first, last) = &slices[slice];
    let next = slices.get(slice + 1).map(|next| next.0.as_slice());
    key.clear();
    match rng.below(8) {
        0 => key.extend(first),
        1 => key.extend(last),
        // Just behind a key: in the slice or in the gap behind it.
        2 => {
            key.extend(last);
            key.push(0);
        }
        3 => {
            key.extend(first);
            key.push(0);
        }
        4 => between(rng, last, next.unwrap_or(&[255; 40]), key),
        _ => between(rng, first, last, key),
    }
    if next.is_some_and(|next| key.as_slice() >= next) {
        key.clear();
        key.extend(first);
    }
}

/// Writes a key between two: where they have one length, a number between what they say behind their common start.
fn between(rng: &mut Rng, low: &[u8], high: &[u8], key: &mut Vec<u8>) {
    let same = low.iter().zip(high).take_while(|(a, b)| a == b).count();
    let tail = |bytes: &[u8]| Some(u64::from_be_bytes(*bytes.get(same..)?.first_chunk()?));
    let short =
        |bytes: &[u8]| (bytes.len() == low.len()).then(|| bytes.last_chunk().map(|b| u64::from_be_bytes(*b)))?;
    key.extend(low);
    let (from, to, at) = match (tail(low), tail(high)) {
        (Some(from), Some(to)) => (from, to, same),
        _ if same + 8 > low.len() && low.len() >= 8 => match (short(low), short(high)) {
            (Some(from), Some(to)) => (from, to, low.len() - 8),
            _ => return,
        },
        _ => return,
    };
    let number = from + rng.below((to - from).saturating_add(1));
    key[at..at + 8].copy_from_slice(&number.to_be_bytes());
    if key.as_slice() < low {
        key.copy_from_slice(low);
    }
}

/// Looks up so many keys.
fn run(case: &Case, lookups: u64, rng: &mut Rng) {
    let Case { name, slices, index } = case;
    let exact = !matches!(index.stats().kind, IndexKind::Model | IndexKind::Separators);
    let mut keys = vec![Vec::new(); BATCH];
    let mut from = [0; BATCH];
    let mut found = Vec::new();
    for batch in 0..lookups.div_ceil(BATCH as u64) {
        for (key, slice) in keys.iter_mut().zip(&mut from) {
            *slice = rng.below(slices.len() as u64) as usize;
            draw(rng, slices, *slice, key);
        }
        let keys: [&[u8]; BATCH] = std::array::from_fn(|place| keys[place].as_slice());
        index.find_batch(&keys, &mut found);
        if batch % BATCHES_PER_SINGLE == 0 {
            let alone = keys.map(|key| index.find(key));
            assert_eq!(found, alone, "{name}: {keys:?}");
        }
        for ((key, slice), found) in keys.iter().zip(from).zip(&found) {
            let may_be_next = !exact && *key > slices[slice].1.as_slice() && slice + 1 < slices.len();
            let right = *found == slice || may_be_next && *found == slice + 1;
            assert!(right, "{name}: {key:?} is in slice {slice}, not in {found}");
        }
    }
}

#[test]
fn ten_million_lookups_name_the_right_slice() {
    let asked = std::env::var("OMENDB_LOOKUPS").ok().map(|text| text.replace('_', ""));
    let lookups = asked.map_or(LOOKUPS, |text| text.parse().expect("OMENDB_LOOKUPS is a number"));
    let mut done = 0;
    // A round has new keys; long campaigns have many rounds.
    let rounds = (lookups / 1_000_000_000).clamp(1, 10);
    for seed in 0..rounds {
        let mut rng = Rng(seed ^ 0xCAFE);
        let mut sets = number_sets(&mut rng, KEYS);
        sets.extend(series_sets(&mut rng, KEYS, &[10, 4000]));
        sets.extend(byte_sets(&mut rng, KEYS / 4));
        let share = lookups.div_ceil(rounds * sets.len() as u64);
        for data in &sets {
            let cases = cases(data, seed);
            for case in &cases {
                let lookups = share.div_ceil(cases.len() as u64);
                run(case, lookups, &mut rng);
                done += lookups.div_ceil(BATCH as u64) * BATCH as u64;
            }
        }
    }
    println!("{done} lookups, none wrong");
    assert!(done >= lookups);
}
