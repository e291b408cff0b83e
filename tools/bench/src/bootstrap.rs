/*!
How sure a ratio of two medians is: a block bootstrap.

Samples of neighbouring intervals are alike: a merge goes on for seconds. To draw them one by one would make an interval of
confidence that is too narrow, and a difference out of noise. So stretches of neighbours are drawn, the end being followed by the
beginning (the circular block bootstrap of Politis and Romano, 1992), three times as long as samples stay alike. Of several runs, runs
are drawn first and then stretches of each: what differs between runs of the same program is in the interval then.

A few stretches know little of how much stretches differ, and a bootstrap of them is too sure of itself. So the interval is widened as
Student's is against the normal one, with a degree of freedom fewer than there are stretches.
*/

use omendb_engine::io::random::Random;

/// Replicates: enough that the outermost thousandth of them on each side is some five.
const REPLICATES: usize = 5_000;

/// Of how many samples that are alike a stretch is made: it must be longer than they are, or what they have in common is lost.
const ALIKE_FACTOR: usize = 3;

/// Stretches of a run at least.
const BLOCKS_MIN: usize = 4;

/// The same of differences: what neighbours have in common both runs mostly have, and it is gone. Of four stretches the interval would be three times
/// as wide as it need be.
const BLOCKS_OF_DIFFERENCES_MIN: usize = 10;

/// Samples of a run at least, for there to be an answer.
pub(crate) const SAMPLES_MIN: usize = 12;

/// A ratio and how sure it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Ratio {
    /// Of the medians: the second over the first.
    pub(crate) ratio: f64,
    /// It lies from here, with the confidence that was asked for,
    pub(crate) low: f64,
    /// to here.
    pub(crate) high: f64,
}

/// The ratio of `b`'s median to `a`'s, each of one or more runs, with the confidence 1 − `doubt`. `None` where a run has fewer than
/// [`SAMPLES_MIN`] samples, or a median is 0.
pub(crate) fn ratio(a: &[Vec<f64>], b: &[Vec<f64>], doubt: f64, random: &mut Random) -> Option<Ratio> {
    ratio_of(a, b, doubt, random, (REPLICATES, BLOCKS_MIN))
}

/// The same where `b` has differences between intervals of two runs, from the same number throughout in `a`.
pub(crate) fn ratio_of_differences(a: &[Vec<f64>], b: &[Vec<f64>], doubt: f64, random: &mut Random) -> Option<Ratio> {
    ratio_of(a, b, doubt, random, (REPLICATES, BLOCKS_OF_DIFFERENCES_MIN))
}

fn ratio_of(
    a: &[Vec<f64>],
    b: &[Vec<f64>],
    doubt: f64,
    random: &mut Random,
    (replicates, blocks_min): (usize, usize),
) -> Option<Ratio> {
    let enough = |runs: &[Vec<f64>]| !runs.is_empty() && runs.iter().all(|run| run.len() >= SAMPLES_MIN);
    if !enough(a) || !enough(b) {
        return None;
    }
    let (block_a, block_b) = (block_len(a, blocks_min), block_len(b, blocks_min));
    let (mut drawn_a, mut drawn_b) = (Vec::new(), Vec::new());
    let mut ratios = Vec::with_capacity(replicates);
    for _ in 0..replicates {
        draw(a, block_a, random, &mut drawn_a);
        draw(b, block_b, random, &mut drawn_b);
        ratios.push(quotient(median(&mut drawn_b)?, median(&mut drawn_a)?)?);
    }
    ratios.sort_by(f64::total_cmp);
    let tail = doubt / 2.0;
    let ratio = quotient(median_of(b)?, median_of(a)?)?;
    let wider = widening(blocks(a, block_a).min(blocks(b, block_b)), tail);
    // Ratios are as far apart as their logarithms. The middle of the replicates may lie beside the ratio; the interval holds both.
    let around = |end: f64| (ratio.ln() + (end.ln() - ratio.ln()) * wider).exp();
    let (low, high) = (around(quantile(&ratios, tail)?), around(quantile(&ratios, 1.0 - tail)?));
    Some(Ratio { ratio, low: low.min(ratio), high: high.max(ratio) })
}

/// How many stretches the samples of all runs make.
fn blocks(runs: &[Vec<f64>], block: usize) -> f64 {
    runs.iter().map(|run| run.len() as f64 / block as f64).sum()
}

/// By how much Student's interval is wider than the normal one, for means of so many stretches: the expansion of Cornish and Fisher,
/// and the bias of a variance of so few.
fn widening(blocks: f64, tail: f64) -> f64 {
    let freedom = (blocks - 1.0).max(1.0);
    let z2 = normal_quantile(tail).powi(2);
    let student = 1.0 + (z2 + 1.0) / (4.0 * freedom) + (5.0 * z2 * z2 + 16.0 * z2 + 3.0) / (96.0 * freedom * freedom);
    student * (1.0 + 1.0 / freedom).sqrt()
}

/// How many deviations from the middle a normal distribution has `tail` beyond it; good to three digits (Hastings, "Approximations for
/// digital computers", 1955; Abramowitz and Stegun 26.2.23).
fn normal_quantile(tail: f64) -> f64 {
    let t = (-2.0 * tail.clamp(1e-12, 0.5).ln()).sqrt();
    t - (2.515_517 + t * (0.802_853 + t * 0.010_328)) / (1.0 + t * (1.432_788 + t * (0.189_269 + t * 0.001_308)))
}

fn quotient(b: f64, a: f64) -> Option<f64> {
    (a > 0.0 && b > 0.0).then(|| b / a)
}

/// The median of all samples of all runs.
pub(crate) fn median_of(runs: &[Vec<f64>]) -> Option<f64> {
    median(&mut runs.iter().flatten().copied().collect::<Vec<_>>())
}

/// The median; of an even number the lower one, so that it is always one of them. Changes their order.
pub(crate) fn median(samples: &mut [f64]) -> Option<f64> {
    let middle = samples.len().checked_sub(1)? / 2;
    Some(*samples.select_nth_unstable_by(middle, f64::total_cmp).1)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a length is an index")]
fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    sorted.get(((last as f64 * share).round() as usize).min(last)).copied()
}

/// Fills `out` with as many samples as the runs have, drawn from them.
fn draw(runs: &[Vec<f64>], block: usize, random: &mut Random, out: &mut Vec<f64>) {
    out.clear();
    for _ in 0..runs.len() {
        let Some(run) = runs.get(random.index(runs.len())) else { continue };
        let end = out.len() + run.len();
        while out.len() < end {
            let from = random.index(run.len());
            let len = block.min(end - out.len());
            let tail = run.get(from..(from + len).min(run.len())).unwrap_or_default();
            out.extend_from_slice(tail);
            out.extend_from_slice(run.get(..len.saturating_sub(tail.len())).unwrap_or_default());
        }
    }
}

/// How many neighbours are drawn together: some times as many as are alike, at least the cube root of all.
fn block_len(runs: &[Vec<f64>], blocks_min: usize) -> usize {
    let len = runs.iter().map(Vec::len).min().unwrap_or(1);
    // At a distance of 1 none are alike.
    let alike = runs.iter().map(|run| correlated(run)).max().unwrap_or(1) - 1;
    (ALIKE_FACTOR * alike).max(cube_root(len)).min(len / blocks_min).max(1)
}

fn cube_root(n: usize) -> usize {
    (1..).find(|root: &usize| root.saturating_pow(3) >= n).unwrap_or(1)
}

/// The first distance at which samples are not noticeably correlated any more.
fn correlated(run: &[f64]) -> usize {
    let n = run.len() as f64;
    let mean = run.iter().sum::<f64>() / n;
    let off: Vec<f64> = run.iter().map(|x| x - mean).collect();
    let variance: f64 = off.iter().map(|x| x * x).sum();
    let noticeable = |lag: usize| {
        let covariance: f64 = off.iter().zip(off.iter().skip(lag)).map(|(x, y)| x * y).sum();
        covariance > variance * 2.0 / n.sqrt()
    };
    (1..run.len()).find(|lag| !noticeable(*lag)).unwrap_or(run.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Samples around `level` that are `spread` wide and alike their neighbours to the degree `alike`.
    fn samples(level: f64, spread: f64, alike: f64, len: usize, random: &mut Random) -> Vec<f64> {
        let mut off = 0.0;
        let mut next = || {
            let uniform = random.below(1 << 30) as f64 / f64::from(1 << 30) * 2.0 - 1.0;
            off = alike * off + (1.0 - alike * alike).sqrt() * uniform;
            level * (1.0 + spread * off)
        };
        (0..len).map(|_| next()).collect()
    }

    /// Of `trials` comparisons, how many found a difference.
    fn found(trials: u64, b_level: f64, spread: f64, alike: f64, len: usize) -> u64 {
        let differs = |seed: u64| {
            let mut random = Random::new(seed);
            let a = [samples(100.0, spread, alike, len, &mut random)];
            let b = [samples(b_level, spread, alike, len, &mut random)];
            let ratio = ratio_of(&a, &b, 0.05, &mut random, (1000, BLOCKS_MIN)).unwrap();
            u64::from(ratio.low > 1.0 || ratio.high < 1.0)
        };
        (0..trials).map(differs).sum()
    }

    #[test]
    fn equal_programs_are_seldom_told_apart() {
        // Meant are 5 % of 100. How much samples are alike is itself a guess, so there are a few more where they are.
        let alone = found(100, 100.0, 0.1, 0.0, 60);
        let alike = found(100, 100.0, 0.1, 0.6, 60);
        assert!(alone <= 8 && alike <= 12, "{alone} and {alike} of 100");
    }

    #[test]
    fn five_in_a_hundred_are_told_apart_within_sixty_samples() {
        let found = found(40, 105.0, 0.05, 0.3, 60);
        assert!(found >= 38, "{found} of 40");
    }

    #[test]
    fn what_differs_between_runs_widens_the_interval() {
        let mut random = Random::new(1);
        let mut run = |level: f64| samples(level, 0.01, 0.0, 60, &mut random);
        let (one, other) = (vec![run(100.0), run(106.0), run(103.0)], vec![run(104.0), run(101.0), run(107.0)]);
        let several = ratio(&one, &other, 0.05, &mut Random::new(2)).unwrap();
        assert!(several.low < 1.0 && several.high > 1.0, "{several:?}");
        let single = ratio(&one[..1], &other[..1], 0.05, &mut Random::new(2)).unwrap();
        assert!(single.low > 1.03, "{single:?}");
    }

    #[test]
    fn the_answer_follows_from_the_seed_and_few_samples_give_none() {
        let mut random = Random::new(3);
        let a = [samples(1.0, 0.1, 0.5, 30, &mut random)];
        let b = [samples(1.1, 0.1, 0.5, 30, &mut random)];
        let again = |seed| ratio(&a, &b, 0.05, &mut Random::new(seed)).unwrap();
        assert_eq!(again(7), again(7));
        let short = [a[0][..SAMPLES_MIN - 1].to_vec()];
        assert_eq!(ratio(&short, &b, 0.05, &mut random), None);
        assert_eq!(ratio(&[vec![0.0; 30]], &b, 0.05, &mut random), None);
        assert_eq!(ratio(&[], &b, 0.05, &mut random), None);
    }

    #[test]
    fn an_interval_of_few_stretches_is_as_much_wider_as_students() {
        for (tail, z) in [(0.025, 1.960), (0.005, 2.576), (0.001, 3.090)] {
            assert!((normal_quantile(tail) - z).abs() < 1e-3, "{tail}");
        }
        // Student's 2.145 for 14 degrees of freedom against 1.960, and the bias of 15.
        assert!((widening(15.0, 0.025) - 2.145 / 1.960 * (15.0f64 / 14.0).sqrt()).abs() < 1e-3);
    }

    #[test]
    fn medians_are_one_of_the_numbers() {
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&mut [4.0, 1.0, 3.0, 2.0]), Some(2.0));
        assert_eq!(median(&mut []), None);
    }
}
