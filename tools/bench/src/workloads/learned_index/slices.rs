/*!
The slice index of a run, model and fences side by side: bytes, time to build and prove, time to name a slice.

Slices have 64 rows; only their first and last keys are made, for only these reach an index. Each lookup is of a key inside a
slice, present or absent, and must name that slice.

The rough sets are multiplicative cascades: numbers that cluster on every scale, as identifiers and places on a map do. How
unequal a cascade divides decides how many lines it takes. `osm` and `fb` are set so that a greedy cone of 2 slices comes to about as
many lines a slice as the optimal fit of 128 rows takes on the data sets of these names, 200 M keys each, with 64 rows a slice (Wongkham et
al., "Are Updatable Learned Indexes Ready?", PVLDB 15, 2022: 162,512 and 256,255 lines, which is 0.052 and 0.082).
*/

use super::machine;
use super::measure::{ROUNDS, Spread};
use super::{range, rounded};
use crate::failure::Failure;
use crate::result::TableOfFigures;
use crate::settings::Settings;
use crate::workloads::note;
use omendb_engine::io::random::Random;
use omendb_engine::key::KeyShape;
use omendb_engine::model::{IndexBuilder, IndexChoice, IndexStats, SliceIndex};
use serde_json::Value;
use std::hint::black_box;

/// Slices of most sets: 20 M rows.
const MANY: usize = 312_500;
/// Slices of a set whose fences fit a processor's second-level cache: 1 M rows.
const FEW: usize = 15_625;
/// Rows of a slice.
const ROWS: usize = 64;
/// Slices of a series.
const SLICES_OF_A_SERIES: usize = 30;
/// Lookups of one measurement.
const LOOKUPS: usize = 1 << 18;
/// Keys that are handed over together.
const BATCH: usize = 32;

/// How unequally the cascades divide: the larger part's share is spread evenly from one half up to this.
const OSM: f64 = 0.80;
const FB: f64 = 0.86;

/// First and last keys of slices.
struct Slices {
    name: String,
    shape: KeyShape,
    /// Bytes of a key.
    width: usize,
    firsts: Vec<u8>,
    lasts: Vec<u8>,
}

impl Slices {
    fn new(name: &str, shape: KeyShape, width: usize) -> Slices {
        Slices { name: name.into(), shape, width, firsts: Vec::new(), lasts: Vec::new() }
    }

    /// Of keys that are numbers and ascend.
    fn of_numbers(name: &str, slices: usize, keys: &mut dyn Iterator<Item = i64>) -> Slices {
        let mut made = Slices::new(name, KeyShape::Int, 8);
        made.fill(slices, keys, &|key| (key.cast_unsigned() ^ 1 << 63).to_be_bytes().to_vec());
        made
    }

    /// Takes [`ROWS`] keys for each slice.
    fn fill(&mut self, slices: usize, keys: &mut dyn Iterator<Item = i64>, encode: &dyn Fn(i64) -> Vec<u8>) {
        for _ in 0..slices {
            let Some(first) = keys.next() else { return };
            let rest = &mut *keys;
            let last = rest.take(ROWS - 1).last().unwrap_or(first);
            self.firsts.extend(encode(first));
            self.lasts.extend(encode(last));
        }
    }

    fn len(&self) -> usize {
        self.firsts.len() / self.width
    }

    fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.firsts.chunks_exact(self.width).zip(self.lasts.chunks_exact(self.width))
    }

    fn builder(&self, choice: IndexChoice) -> IndexBuilder {
        let mut builder = IndexBuilder::new(self.shape, choice);
        self.iter().for_each(|(first, last)| builder.push(first, last));
        builder
    }

    /// Lines of a greedy cone of 2 slices, in floating point: how rough the keys are.
    fn roughness(&self) -> f64 {
        let heads: Vec<u64> = self.firsts.chunks_exact(self.width).map(tail).collect();
        let (mut lines, mut at) = (0, 0);
        while let Some(origin) = heads.get(at) {
            let (mut low, mut high, mut place) = (0.0_f64, f64::INFINITY, 1);
            while let Some(distance) = heads.get(at + place).and_then(|head| head.checked_sub(*origin)) {
                let (height, distance) = (place as f64, distance as f64);
                let narrower = (low.max((height - 2.0) / distance), high.min((height + 2.0) / distance));
                if narrower.0 > narrower.1 {
                    break;
                }
                ((low, high), place) = (narrower, place + 1);
            }
            (lines, at) = (lines + 1, at + place);
        }
        f64::from(lines) / self.len().max(1) as f64
    }
}

/// The last 8 bytes of a key as a number.
fn tail(key: &[u8]) -> u64 {
    key.last_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// Uniform in (0, 1].
fn fraction(random: &mut Random) -> f64 {
    ((random.next_u64() >> 11) + 1) as f64 / (1_u64 << 53) as f64
}

/// Numbers from `start` on, each so much after the one before.
fn steps(start: i64, mut step: impl FnMut() -> i64) -> impl Iterator<Item = i64> {
    let mut at = start;
    std::iter::from_fn(move || {
        let here = at;
        at = at.checked_add(step().max(1))?;
        Some(here)
    })
}

fn small(bound: u64, random: &mut Random) -> i64 {
    i64::try_from(random.below(bound)).unwrap_or(0)
}

/// The gaps of keys that are uniform, with this mean.
#[expect(clippy::cast_possible_truncation, reason = "a cast of a float saturates")]
fn uniform_gap(mean: f64, random: &mut Random) -> i64 {
    (-fraction(random).ln() * mean) as i64
}

/// So many numbers between two, which cluster on every scale: a share of them goes to each half, and so on.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast of a float saturates")]
fn cascade(count: usize, low: i64, high: i64, share_max: f64, random: &mut Random, out: &mut Vec<i64>) {
    let width = high.saturating_sub(low);
    if count == 0 || width <= 0 {
        return;
    }
    if count == 1 || width == 1 {
        out.push(low + small(width.unsigned_abs(), random));
        return;
    }
    let share = 0.5 + fraction(random) * (share_max - 0.5);
    let share = if random.chance(1, 2) { share } else { 1.0 - share };
    let left = ((count as f64 * share) as usize).min(count);
    let middle = low + width / 2;
    cascade(left, low, middle, share_max, random, out);
    cascade(count - left, middle, high, share_max, random, out);
}

fn cascaded(name: &str, slices: usize, share_max: f64, random: &mut Random) -> Slices {
    let mut keys = Vec::with_capacity(slices * ROWS);
    cascade(slices * ROWS, i64::MIN / 2, i64::MAX / 2, share_max, random, &mut keys);
    keys.dedup();
    Slices::of_numbers(name, keys.len() / ROWS, &mut keys.into_iter())
}

/// Series of one width of prefix, with a cadence of about a second each.
fn series(name: &str, shape: KeyShape, width: usize, prefix: impl Fn(usize) -> Vec<u8>, random: &mut Random) -> Slices {
    let mut made = Slices::new(name, shape, width);
    for number in 0..MANY / SLICES_OF_A_SERIES {
        let prefix = prefix(number);
        let mut times = steps(1_700_000_000_000_000, || 900_000 + small(200_000, random));
        made.fill(SLICES_OF_A_SERIES, &mut times, &|time| {
            [&prefix[..], &(time.cast_unsigned() ^ 1 << 63).to_be_bytes()].concat()
        });
    }
    made
}

/// All sets, one after the other: their keys need not be there at the same time.
fn set(number: usize, random: &mut Random) -> Option<Slices> {
    let second = 1_700_000_000_000_000;
    let uniform = |slices: usize| 9.0e18 / (slices * ROWS) as f64;
    Some(match number {
        0 => Slices::of_numbers("timestamps, jitter", MANY, &mut steps(second, || 900_000 + small(200_000, random))),
        1 => {
            let burst = || if random.chance(1, 100) { 60_000_000_000 } else { 1 + small(900, random) };
            Slices::of_numbers("bursty nanoseconds", MANY, &mut steps(second * 1000, burst))
        }
        2 => {
            let pair = KeyShape::Series { prefix_fixed_width: Some(8) };
            let prefix = |number: usize| (number as u64 ^ 1 << 63).to_be_bytes().to_vec();
            series("(series, time), 30 slices each", pair, 16, prefix, random)
        }
        3 => {
            let named = KeyShape::Series { prefix_fixed_width: None };
            let prefix = |number: usize| format!("run-{:06}/loss\0\0", number * 7).into_bytes();
            series("(name, step), 30 slices each", named, 25, prefix, random)
        }
        4 => {
            let gaps = || uniform_gap(uniform(MANY), random);
            Slices::of_numbers("uniform", MANY, &mut steps(i64::MIN / 2, gaps))
        }
        5 => cascaded("rough, as osm", MANY, OSM, random),
        6 => cascaded("rough, as fb", MANY, FB, random),
        7 => {
            let stairs = |i: i64| ((i / 50) << 30) + i % 50;
            Slices::of_numbers("adversarial stairs", MANY, &mut (0..).map(stairs))
        }
        8 => {
            // Each is twice the one before, up to 2^38, and so on from there.
            let mut doubled = 0_u32;
            let gaps = || {
                doubled = (doubled + 1) % 38;
                1_i64 << doubled
            };
            Slices::of_numbers("exponential gaps", MANY, &mut steps(0, gaps))
        }
        9 => Slices::of_numbers("timestamps, jitter", FEW, &mut steps(second, || 900_000 + small(200_000, random))),
        10 => {
            let gaps = || uniform_gap(uniform(FEW), random);
            Slices::of_numbers("uniform", FEW, &mut steps(i64::MIN / 2, gaps))
        }
        _ => return None,
    })
}

/// Lookups: keys side by side, and the slice of each.
struct Lookups {
    keys: Vec<u8>,
    width: usize,
    slices: Vec<usize>,
}

impl Lookups {
    /// Of keys inside slices, most of them absent ones.
    fn new(slices: &Slices, random: &mut Random) -> Lookups {
        let mut made = Lookups { keys: Vec::new(), width: slices.width, slices: Vec::new() };
        for _ in 0..LOOKUPS {
            let slice = random.index(slices.len());
            let at = slice * slices.width..(slice + 1) * slices.width;
            let (first, last) = (slices.firsts.get(at.clone()), slices.lasts.get(at));
            let (Some(first), Some(last)) = (first, last) else { continue };
            // The last 8 bytes are all that differs within a slice.
            let (low, high) = (tail(first), tail(last));
            let inside = low + random.below((high - low).saturating_add(1));
            made.keys.extend(first.iter().take(slices.width - 8));
            made.keys.extend(inside.to_be_bytes());
            made.slices.push(slice);
        }
        made
    }

    /// Each waits for the one before it. How many name a wrong slice.
    fn single(&self, index: &SliceIndex, zero: usize) -> usize {
        let (mut wrong, mut before) = (0, 0);
        for (number, slice) in self.slices.iter().enumerate() {
            let start = number * self.width + (before & zero);
            let key = self.keys.get(start..start + self.width).unwrap_or_default();
            before = index.find(key);
            wrong += usize::from(before != *slice);
        }
        wrong
    }

    fn batched(&self, index: &SliceIndex) -> usize {
        let (mut wrong, mut found) = (0, Vec::with_capacity(BATCH));
        let mut keys: Vec<&[u8]> = Vec::with_capacity(BATCH);
        for (batch, slices) in self.keys.chunks(BATCH * self.width).zip(self.slices.chunks(BATCH)) {
            keys.clear();
            keys.extend(batch.chunks_exact(self.width));
            index.find_batch(&keys, &mut found);
            wrong += found.iter().zip(slices).map(|(found, slice)| usize::from(found != slice)).sum::<usize>();
        }
        wrong
    }
}

/// Figures of one index.
struct Measured {
    choice: IndexChoice,
    stats: IndexStats,
    index: SliceIndex,
    build: Vec<f64>,
    single: Vec<f64>,
    batched: Vec<f64>,
}

/// The table.
///
/// # Errors
/// A lookup that names a wrong slice; Ctrl-C.
pub(super) fn table(settings: &Settings) -> Result<TableOfFigures, Failure> {
    let columns = [
        "keys",
        "slices",
        "lines a slice",
        "asked for",
        "index",
        "why",
        "bytes a slice",
        "in memory",
        "lines",
        "exceptions",
        "ε",
        "build ns a slice",
        "range",
        "single ns",
        "range",
        "batched ns",
        "range",
    ];
    let mut table = TableOfFigures {
        title: "The slice index of a run".into(),
        columns: columns.map(str::to_owned).into(),
        rows: Vec::new(),
        notes: vec![
            format!(
                "Slices of {ROWS} rows. lines a slice: of a greedy cone of 2 slices over the keys' last 8 bytes, which is how rough \
                 they are. build: from the first key to bytes that are proved and opened."
            ),
            format!(
                "Lookups are keys inside slices, present and absent; each named its slice. Medians and ranges of {ROUNDS} \
                 alternating rounds."
            ),
        ],
    };
    let mut random = Random::new(settings.seed);
    for number in 0.. {
        settings.stop_if_interrupted()?;
        let Some(slices) = set(number, &mut random) else { break };
        note(settings, &format!("slice index: {}", slices.name));
        let roughness = slices.roughness();
        for measured in measure(&slices, &mut random)? {
            table.rows.push(row(&slices, roughness, &measured));
        }
    }
    Ok(table)
}

fn row(slices: &Slices, roughness: f64, measured: &Measured) -> Vec<Value> {
    let (stats, count) = (&measured.stats, slices.len() as f64);
    let (build, single, batched) =
        (Spread::of(&measured.build), Spread::of(&measured.single), Spread::of(&measured.batched));
    let asked = match measured.choice {
        IndexChoice::Auto => "auto",
        IndexChoice::Model => "model",
        IndexChoice::Fences => "fences",
    };
    vec![
        slices.name.clone().into(),
        slices.len().into(),
        format!("{roughness:.4}").into(),
        asked.into(),
        stats.kind.to_string().into(),
        stats.reason.to_string().into(),
        rounded(stats.bytes_per_slice),
        rounded(measured.index.memory_bytes() as f64 / count),
        stats.segments.into(),
        stats.exceptions.into(),
        stats.epsilon.into(),
        rounded(build.median),
        range(build),
        rounded(single.median),
        range(single),
        rounded(batched.median),
        range(batched),
    ]
}

fn measure(slices: &Slices, random: &mut Random) -> Result<Vec<Measured>, Failure> {
    let lookups = Lookups::new(slices, random);
    let mut all = Vec::new();
    for choice in [IndexChoice::Model, IndexChoice::Fences, IndexChoice::Auto] {
        let (bytes, stats) = slices.builder(choice).finish()?;
        let index = SliceIndex::open(&bytes)?;
        all.push(Measured { choice, stats, index, build: vec![], single: vec![], batched: vec![] });
    }
    for round in 0..=ROUNDS {
        for measured in &mut all {
            let (built, nanos) = machine::timed(|| black_box(slices.builder(measured.choice).finish()));
            built?;
            let build = nanos / slices.len() as f64;
            let batched = timed(slices, &lookups, || lookups.batched(&measured.index))?;
            let single = timed(slices, &lookups, || lookups.single(&measured.index, black_box(0)))?;
            if round > 0 {
                measured.build.push(build);
                measured.single.push(single);
                measured.batched.push(batched);
            }
        }
    }
    Ok(all)
}

fn timed(slices: &Slices, lookups: &Lookups, search: impl FnOnce() -> usize) -> Result<f64, Failure> {
    let (wrong, nanos) = machine::timed(|| black_box(search()));
    match wrong {
        0 => Ok(nanos / lookups.slices.len() as f64),
        wrong => Err(Failure::Wrong(format!("{}: {wrong} of {LOOKUPS} lookups name a wrong slice", slices.name))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_slices_ascend() {
        let mut random = Random::new(1);
        for slices in [
            cascaded("c", 200, OSM, &mut random),
            Slices::of_numbers("s", 200, &mut steps(5, || 1 + small(9, &mut Random::new(2)))),
        ] {
            let bounds: Vec<&[u8]> = slices.iter().flat_map(|(first, last)| [first, last]).collect();
            assert!(bounds.is_sorted_by(|a, b| a < b) && slices.len() > 150, "{}", slices.name);
        }
    }

    #[test]
    fn lookups_name_their_slices() {
        let mut random = Random::new(3);
        let slices = cascaded("c", 400, FB, &mut random);
        let lookups = Lookups::new(&slices, &mut random);
        for choice in [IndexChoice::Model, IndexChoice::Fences] {
            let index = SliceIndex::open(&slices.builder(choice).finish().unwrap().0).unwrap();
            assert_eq!((lookups.single(&index, 0), lookups.batched(&index)), (0, 0));
        }
    }

    #[test]
    fn a_straight_line_is_not_rough_and_a_cascade_is() {
        let straight = Slices::of_numbers("s", 500, &mut steps(0, || 10));
        assert!(straight.roughness() < 0.003);
        assert!(cascaded("c", 500, FB, &mut Random::new(1)).roughness() > 0.01);
    }
}
