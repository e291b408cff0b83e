/*!
Takes out of the samples of two programs what the machine was doing meanwhile.

Each interval has, beside a measure, what a walk with the yardstick took ([`crate::yardstick`]). Where walks take longer, so does much else,
to a degree that depends on what it is: a lookup in memory about as much, a sync on the device hardly. That degree follows from the samples
of both programs: it is the slope of the measure's logarithm over the walk's, within each program (a *control variate*; Deng, Xu, Kohavi
and Walker, "Improving the sensitivity of online controlled experiments by utilizing pre-experiment data", 2013). Each sample is then put to what it
would have been with the usual walk of all runs. Within each program, since a slope over both would take a part of their difference for
the machine's.

A program that makes the machine itself slower, by filling its memory's lanes, say, is flattered by this. What the walks took is shown for that reason.
*/

/// A measure in one interval, and what a walk with the yardstick took meanwhile.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Reading {
    pub(crate) value: f64,
    /// None in results of programs that had no yardstick.
    pub(crate) walk: Option<f64>,
}

/// How a measure may follow the machine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Follows {
    /// It is a time: longer where walks are longer, at most as much longer as they.
    Up,
    /// It is a rate: less where walks are longer, at most as much less.
    Down,
    /// It has nothing to do with time.
    Not,
}

/// The values of both programs' runs as they would have been with the same walk throughout. As they are, where a reading has no walk.
pub(crate) fn without_machine(
    a: &[Vec<Reading>],
    b: &[Vec<Reading>],
    follows: Follows,
) -> (Vec<Vec<f64>>, Vec<Vec<f64>>) {
    let of = |runs: &[Vec<Reading>], change: &dyn Fn(&Reading) -> f64| {
        runs.iter().map(|run| run.iter().map(change).collect()).collect()
    };
    let all = || a.iter().chain(b).flatten();
    let is_known = |reading: &Reading| reading.value > 0.0 && reading.walk.is_some_and(|walk| walk > 0.0);
    if follows == Follows::Not || !all().all(is_known) {
        let plain = |reading: &Reading| reading.value;
        return (of(a, &plain), of(b, &plain));
    }
    let slope = match (slope(&[logarithms(a), logarithms(b)]), follows) {
        (slope, Follows::Up) => slope.clamp(0.0, 1.0),
        (slope, _) => slope.clamp(-1.0, 0.0),
    };
    let walks: Vec<f64> = all().filter_map(|reading| reading.walk).map(f64::ln).collect();
    let usual = mean(&walks);
    let put = |reading: &Reading| match reading.walk {
        Some(walk) => reading.value * (slope * (usual - walk.ln())).exp(),
        None => reading.value,
    };
    (of(a, &put), of(b, &put))
}

/// Walk and value of each reading of a program.
fn logarithms(runs: &[Vec<Reading>]) -> Vec<(f64, f64)> {
    let pair = |reading: &Reading| Some((reading.walk?.ln(), reading.value.ln()));
    runs.iter().flatten().filter_map(pair).collect()
}

/// The slope of the second over the first, by least squares, where each group has a level of its own.
fn slope(groups: &[Vec<(f64, f64)>]) -> f64 {
    let (mut both, mut own) = (0.0, 0.0);
    for group in groups {
        let x_mean = mean(&group.iter().map(|(x, _)| *x).collect::<Vec<_>>());
        let y_mean = mean(&group.iter().map(|(_, y)| *y).collect::<Vec<_>>());
        for (x, y) in group {
            both += (x - x_mean) * (y - y_mean);
            own += (x - x_mean) * (x - x_mean);
        }
    }
    if own > 0.0 { both / own } else { 0.0 }
}

fn mean(numbers: &[f64]) -> f64 {
    if numbers.is_empty() { 0.0 } else { numbers.iter().sum::<f64>() / numbers.len() as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run of a program whose measure is `level` with a walk of 1, and goes with a power of the walk.
    fn run(level: f64, power: f64, walks: &[f64]) -> Vec<Reading> {
        walks.iter().map(|walk| Reading { value: level * walk.powf(power), walk: Some(*walk) }).collect()
    }

    fn is_about(values: &[f64], expected: f64) -> bool {
        values.iter().all(|value| (value / expected - 1.0).abs() < 1e-9)
    }

    #[test]
    fn what_differs_with_the_walk_is_the_machines_and_the_rest_the_programs() {
        // One program had a slow machine, the other a fast one.
        let (slow, fast) = ([2.0, 2.5, 3.0, 2.0], [1.0, 1.5, 1.0, 1.2]);
        let usual = mean(&slow.iter().chain(&fast).copied().map(f64::ln).collect::<Vec<_>>()).exp();
        for (power, follows) in [(1.0, Follows::Up), (0.4, Follows::Up), (0.0, Follows::Up), (-0.7, Follows::Down)] {
            let (a, b) = without_machine(&[run(10.0, power, &slow)], &[run(11.0, power, &fast)], follows);
            assert!(is_about(&a[0], 10.0 * usual.powf(power)), "{power}: {a:?}");
            assert!(is_about(&b[0], 11.0 * usual.powf(power)), "{power}: {b:?}");
        }
    }

    #[test]
    fn nothing_follows_the_machine_more_than_the_walk_nor_the_other_way_round() {
        let walks = [1.0, 2.0, 1.0, 2.0];
        let (a, _) = without_machine(&[run(1.0, 3.0, &walks)], &[run(1.0, 3.0, &walks)], Follows::Up);
        assert!((a[0][1] / a[0][0] - 4.0).abs() < 1e-9, "{a:?}");
        for (power, follows) in [(-1.0, Follows::Up), (1.0, Follows::Down), (1.0, Follows::Not)] {
            let (a, _) = without_machine(&[run(1.0, power, &walks)], &[run(1.0, power, &walks)], follows);
            assert!((a[0][1] / a[0][0] - 2f64.powf(power)).abs() < 1e-9, "{power}: {a:?}");
        }
    }

    #[test]
    fn readings_without_a_walk_are_left_as_they_are() {
        let mut without = run(3.0, 1.0, &[1.0, 2.0]);
        without[0].walk = None;
        let with = run(3.0, 1.0, &[1.0, 2.0]);
        assert_eq!(without_machine(&[without], &[with], Follows::Up), (vec![vec![3.0, 6.0]], vec![vec![3.0, 6.0]]));
        assert_eq!(without_machine(&[], &[], Follows::Up), (vec![], vec![]));
    }
}
