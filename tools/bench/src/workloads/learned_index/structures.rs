/*!
What is searched: sorted rows in memory, as the standard library and the textbooks have them, and as the engine does.
*/

use super::machine::{self, prefetch};
use crate::failure::Failure;
use omendb_engine::io::vec_in_huge_pages;
use omendb_engine::model::{IndexChoice, IndexKind, LearnedMap};
use std::collections::BTreeMap;

/// Keys of a batch.
pub(super) const BATCH: usize = 32;

/// One of them, and what it took to make.
pub(super) struct Structure {
    name: &'static str,
    pub(super) search: Box<dyn Search>,
    build_nanos: f64,
    /// Whether this is the one that [`LearnedMap`] picks for itself.
    picked: bool,
}

/// A search of sorted rows.
pub(super) trait Search {
    /// Takes each probe, the next one only when the one before has its answer; gives how many answers were wrong.
    fn single(&self, probes: &[i64], answers: &[Option<u64>], zero: u64) -> u64;

    /// Takes the probes in batches of [`BATCH`]; gives how many answers were wrong.
    fn batched(&self, probes: &[i64], answers: &[Option<u64>]) -> u64;

    /// Bytes in memory.
    fn bytes(&self) -> usize;

    /// In a few words.
    fn about(&self) -> String;
}

impl Structure {
    /// All of them over the same rows, BTreeMap first.
    pub(super) fn all(rows: &[(i64, u64)]) -> Result<Vec<Structure>, Failure> {
        let mut all = vec![
            Structure::of("BTreeMap", || Ok(Tree(rows.iter().copied().collect())))?,
            Structure::of("binary search", || Ok(Sorted::new(rows)))?,
            Structure::of("Eytzinger", || Ok(Eytzinger::new(rows)))?,
            Structure::of("S+-tree", || Ok(LearnedMap::new(rows, IndexChoice::Fences)?))?,
            Structure::of("model", || Ok(LearnedMap::new(rows, IndexChoice::Model)?))?,
        ];
        let picks = LearnedMap::new(rows, IndexChoice::Auto)?.stats().kind;
        let picked = if picks == IndexKind::Model { "model" } else { "S+-tree" };
        all.iter_mut().for_each(|structure| structure.picked = structure.name == picked);
        Ok(all)
    }

    fn of<S: Search + 'static>(
        name: &'static str,
        make: impl FnOnce() -> Result<S, Failure>,
    ) -> Result<Structure, Failure> {
        let (search, build_nanos) = machine::timed(make);
        Ok(Structure { name, search: Box::new(search?), build_nanos, picked: false })
    }

    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    pub(super) fn is_picked(&self) -> bool {
        self.picked
    }

    pub(super) fn bytes(&self) -> usize {
        self.search.bytes()
    }

    pub(super) fn build_nanos(&self) -> f64 {
        self.build_nanos
    }

    pub(super) fn about(&self) -> String {
        self.search.about()
    }
}

/// Each probe waits for the answer before it: `zero` is 0, which the compiler does not know.
#[inline(always)]
fn one_by_one(probes: &[i64], answers: &[Option<u64>], zero: u64, get: impl Fn(i64) -> Option<u64>) -> u64 {
    let (mut wrong, mut before) = (0, 0);
    for (probe, answer) in probes.iter().zip(answers) {
        let found = get(probe.wrapping_add((before & zero).cast_signed()));
        before = found.unwrap_or(1);
        wrong += u64::from(found != *answer);
    }
    wrong
}

/// Answers of a batch against what they must be.
fn wrong_of(found: &[Option<u64>], answers: &[Option<u64>]) -> u64 {
    found.iter().zip(answers).map(|(found, answer)| u64::from(found != answer)).sum()
}

/// The standard library's B-tree. It knows no batches; its lookups do not wait for each other.
struct Tree(BTreeMap<i64, u64>);

impl Search for Tree {
    fn single(&self, probes: &[i64], answers: &[Option<u64>], zero: u64) -> u64 {
        one_by_one(probes, answers, zero, |key| self.0.get(&key).copied())
    }

    fn batched(&self, probes: &[i64], answers: &[Option<u64>]) -> u64 {
        let pairs = probes.iter().zip(answers);
        pairs.map(|(probe, answer)| u64::from(self.0.get(probe).copied() != *answer)).sum()
    }

    /// Nodes have room for 11 rows; a leaf takes 192 bytes, a node with its 12 edges 288, and the allocator 16 more for each.
    fn bytes(&self) -> usize {
        let leaves = self.0.len().div_ceil(12);
        leaves * (192 + 16) + leaves.div_ceil(11) * (288 + 16)
    }

    fn about(&self) -> String {
        "std::collections".into()
    }
}

/// Keys in one array and values in another, searched without branches.
struct Sorted {
    keys: Vec<i64>,
    values: Vec<u64>,
}

impl Sorted {
    fn new(rows: &[(i64, u64)]) -> Sorted {
        let (mut keys, mut values) = (vec_in_huge_pages(rows.len()), vec_in_huge_pages(rows.len()));
        keys.extend(rows.iter().map(|row| row.0));
        values.extend(rows.iter().map(|row| row.1));
        Sorted { keys, values }
    }

    #[inline(always)]
    fn at(&self, place: usize) -> i64 {
        self.keys.get(place).copied().unwrap_or(i64::MAX)
    }

    #[inline(always)]
    fn value(&self, place: usize, key: i64) -> Option<u64> {
        self.keys.get(place).filter(|found| **found == key)?;
        self.values.get(place).copied()
    }

    #[inline(always)]
    fn get(&self, key: i64) -> Option<u64> {
        let (mut base, mut left) = (0, self.keys.len());
        while left > 1 {
            let half = left / 2;
            // The compiler makes a conditional move of it.
            base = std::hint::select_unpredictable(self.at(base + half) <= key, base + half, base);
            left -= half;
        }
        self.value(base, key)
    }
}

impl Search for Sorted {
    fn single(&self, probes: &[i64], answers: &[Option<u64>], zero: u64) -> u64 {
        one_by_one(probes, answers, zero, |key| self.get(key))
    }

    fn batched(&self, probes: &[i64], answers: &[Option<u64>]) -> u64 {
        let mut wrong = 0;
        for (probes, answers) in probes.chunks(BATCH).zip(answers.chunks(BATCH)) {
            let (mut bases, mut left) = ([0; BATCH], self.keys.len());
            while left > 1 {
                let half = left / 2;
                left -= half;
                for (base, key) in bases.iter_mut().zip(probes) {
                    *base = std::hint::select_unpredictable(self.at(*base + half) <= *key, *base + half, *base);
                    prefetch(&self.keys, *base + left / 2);
                }
            }
            bases.iter().for_each(|base| prefetch(&self.values, *base));
            let mut found = [None; BATCH];
            for ((found, base), key) in found.iter_mut().zip(bases).zip(probes) {
                *found = self.value(base, *key);
            }
            wrong += wrong_of(&found, answers);
        }
        wrong
    }

    fn bytes(&self) -> usize {
        self.keys.capacity() * 8 + self.values.capacity() * 8
    }

    fn about(&self) -> String {
        "branch-free".into()
    }
}

/// Keys in Eytzinger order, values beside them in the same order.
struct Eytzinger {
    /// The root is at 1.
    keys: Vec<i64>,
    values: Vec<u64>,
}

impl Eytzinger {
    fn new(rows: &[(i64, u64)]) -> Eytzinger {
        let (mut keys, mut values) = (vec_in_huge_pages(rows.len() + 1), vec_in_huge_pages(rows.len() + 1));
        keys.resize(rows.len() + 1, 0);
        values.resize(rows.len() + 1, 0);
        let mut made = Eytzinger { keys, values };
        made.fill(1, &mut rows.iter());
        made
    }

    fn fill(&mut self, place: usize, rows: &mut std::slice::Iter<'_, (i64, u64)>) {
        if place < self.keys.len() {
            self.fill(2 * place, rows);
            if let (Some(key), Some(value), Some(row)) =
                (self.keys.get_mut(place), self.values.get_mut(place), rows.next())
            {
                (*key, *value) = *row;
            }
            self.fill(2 * place + 1, rows);
        }
    }

    /// The value, where a walk has ended at `place`. A one bit of it is a turn to the right, behind a key that is ≤ the one that
    /// is searched for: the last such turn was at the greatest of these.
    #[inline(always)]
    fn value(&self, place: usize, key: i64) -> Option<u64> {
        let turn = place >> (place.trailing_zeros() + 1);
        self.keys.get(turn).filter(|found| turn > 0 && **found == key)?;
        self.values.get(turn).copied()
    }

    #[inline(always)]
    fn get(&self, key: i64) -> Option<u64> {
        let mut place = 1;
        while let Some(node) = self.keys.get(place) {
            prefetch(&self.keys, place * 8);
            place = 2 * place + usize::from(*node <= key);
        }
        self.value(place, key)
    }
}

impl Search for Eytzinger {
    fn single(&self, probes: &[i64], answers: &[Option<u64>], zero: u64) -> u64 {
        one_by_one(probes, answers, zero, |key| self.get(key))
    }

    fn batched(&self, probes: &[i64], answers: &[Option<u64>]) -> u64 {
        // All levels but the last are full.
        let levels = self.keys.len().ilog2();
        let mut wrong = 0;
        for (probes, answers) in probes.chunks(BATCH).zip(answers.chunks(BATCH)) {
            let mut places = [1; BATCH];
            for _ in 0..levels {
                for (place, key) in places.iter_mut().zip(probes) {
                    let right = self.keys.get(*place).is_some_and(|node| node <= key);
                    *place = 2 * *place + usize::from(right);
                    prefetch(&self.keys, *place);
                }
            }
            let mut found = [None; BATCH];
            for (place, key) in places.iter_mut().zip(probes) {
                if let Some(node) = self.keys.get(*place) {
                    *place = 2 * *place + usize::from(node <= key);
                }
                prefetch(&self.values, *place >> (place.trailing_zeros() + 1));
            }
            for ((found, place), key) in found.iter_mut().zip(places).zip(probes) {
                *found = self.value(place, *key);
            }
            wrong += wrong_of(&found, answers);
        }
        wrong
    }

    fn bytes(&self) -> usize {
        self.keys.capacity() * 8 + self.values.capacity() * 8
    }

    fn about(&self) -> String {
        "branch-free".into()
    }
}

impl Search for LearnedMap {
    fn single(&self, probes: &[i64], answers: &[Option<u64>], zero: u64) -> u64 {
        one_by_one(probes, answers, zero, |key| self.get(key))
    }

    fn batched(&self, probes: &[i64], answers: &[Option<u64>]) -> u64 {
        let (mut wrong, mut found) = (0, Vec::with_capacity(BATCH));
        for (probes, answers) in probes.chunks(BATCH).zip(answers.chunks(BATCH)) {
            self.get_batch(probes, &mut found);
            wrong += wrong_of(&found, answers);
        }
        wrong
    }

    fn bytes(&self) -> usize {
        self.memory_bytes()
    }

    fn about(&self) -> String {
        let stats = self.stats();
        match stats.kind {
            IndexKind::Model => format!(
                "{} lines, {} exceptions over {} slices{}; {}",
                stats.segments,
                stats.exceptions,
                stats.slices,
                if stats.names_half { ", names halves" } else { "" },
                stats.instructions
            ),
            _ => format!("over {} slices of 8 rows; {}", stats.slices, stats.instructions),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::keys::{Distribution, Workload};
    use super::*;

    #[test]
    fn every_structure_has_the_right_answers() {
        for distribution in Distribution::ALL {
            for count in [1000, 1023, 1024, 5000] {
                let workload = Workload::new(distribution, count, 5);
                for structure in Structure::all(&workload.rows).unwrap() {
                    let (probes, answers) = (&workload.probes[..20_000], &workload.answers[..20_000]);
                    let wrong =
                        (structure.search.single(probes, answers, 0), structure.search.batched(probes, answers));
                    assert_eq!(wrong, (0, 0), "{distribution:?}, {count}, {}", structure.name());
                    assert!(structure.bytes() >= workload.rows.len() * 16, "{}", structure.name());
                }
            }
        }
    }

    #[test]
    fn wrong_answers_are_counted() {
        let workload = Workload::new(Distribution::Uniform, 1000, 5);
        let mut answers = workload.answers.clone();
        answers[3] = Some(77);
        answers[4] = answers[4].map_or(Some(1), |_| None);
        for structure in Structure::all(&workload.rows).unwrap() {
            assert_eq!(structure.search.single(&workload.probes, &answers, 0), 2);
            assert_eq!(structure.search.batched(&workload.probes, &answers), 2);
        }
    }
}
