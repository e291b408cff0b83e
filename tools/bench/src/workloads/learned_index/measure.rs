/*!
Rounds that alternate: every structure once a round, so that what else the machine does meets all of them alike. Times are the
thread's own, not the clock's: what other programs take of the processor is left out, what they take of caches is not.
*/

use super::keys::Workload;
use super::machine;
use super::structures::Structure;
use crate::failure::Failure;
use crate::settings::Settings;
use std::hint::black_box;

/// Rounds that count; one more before them warms up.
pub(super) const ROUNDS: usize = 7;

/// A median and its range.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Spread {
    pub(super) least: f64,
    pub(super) median: f64,
    pub(super) most: f64,
}

impl Spread {
    pub(super) fn of(figures: &[f64]) -> Spread {
        let mut sorted = figures.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |place: usize| sorted.get(place).copied().unwrap_or_default();
        Spread { least: at(0), median: at(sorted.len() / 2), most: at(sorted.len().saturating_sub(1)) }
    }

    /// Of a / b, round by round.
    pub(super) fn of_ratios(a: &[f64], b: &[f64]) -> Spread {
        Spread::of(&a.iter().zip(b).map(|(a, b)| a / b).collect::<Vec<_>>())
    }
}

/// Nanoseconds a lookup of one structure.
#[derive(Debug, Clone, Default)]
pub(super) struct Figures {
    pub(super) single: Spread,
    pub(super) batched: Spread,
    pub(super) single_rounds: Vec<f64>,
    pub(super) batched_rounds: Vec<f64>,
}

/// Measures all structures with a workload's probes.
///
/// # Errors
/// A wrong answer; Ctrl-C.
pub(super) fn compare(
    structures: &[Structure],
    workload: &Workload,
    settings: &Settings,
) -> Result<Vec<Figures>, Failure> {
    let mut figures = vec![Figures::default(); structures.len()];
    for round in 0..=ROUNDS {
        for (structure, figures) in structures.iter().zip(&mut figures) {
            settings.stop_if_interrupted()?;
            let (probes, answers) = (black_box(&workload.probes[..]), &workload.answers[..]);
            let batched = timed(structure, probes.len(), || structure.search.batched(probes, answers))?;
            let single = timed(structure, probes.len(), || structure.search.single(probes, answers, black_box(0)))?;
            if round > 0 {
                figures.batched_rounds.push(batched);
                figures.single_rounds.push(single);
            }
        }
    }
    for figures in &mut figures {
        figures.single = Spread::of(&figures.single_rounds);
        figures.batched = Spread::of(&figures.batched_rounds);
    }
    Ok(figures)
}

/// Nanoseconds of each of so many lookups, none of which may be wrong.
fn timed(structure: &Structure, lookups: usize, search: impl FnOnce() -> u64) -> Result<f64, Failure> {
    let (wrong, nanos) = machine::timed(|| black_box(search()));
    match wrong {
        0 => Ok(nanos / lookups as f64),
        wrong => Err(Failure::Wrong(format!("{}: {wrong} of {lookups} lookups", structure.name()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_least_median_and_most() {
        assert_eq!(Spread::of(&[5.0, 1.0, 3.0]), Spread { least: 1.0, median: 3.0, most: 5.0 });
        assert_eq!(
            Spread::of_ratios(&[4.0, 9.0, 2.0], &[2.0, 3.0, 2.0]),
            Spread { least: 1.0, median: 2.0, most: 3.0 }
        );
        assert_eq!(Spread::of(&[]), Spread::default());
    }
}
