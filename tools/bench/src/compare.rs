/*!
`compare`: two results, measure by measure.

What is compared are medians of samples: of the operations a second in each interval of the run, of each operation's percentiles in
each interval, and, of cold runs, of the bytes that an operation has read from the device. What the machine was doing is taken out first ([`crate::machine`]): the
ratio is that of two programs on one machine at one time, and not quite that of the medians beside it. It comes with an interval of
confidence ([`crate::bootstrap`]). Many measures are looked at at once, so each is
held to a confidence such that *all* of them together are wrong in one of twenty comparisons of equal programs (Bonferroni); a
difference smaller than the threshold is none, however sure it is.

Each operation's median is also looked at beside the other operations of its interval ([`crate::beside`]), which tells a slower operation from a
slower machine far better than its own times do.

A percentile is judged only where an interval has a few operations beyond it. Others are shown.
*/

use crate::args::CompareArgs;
use crate::beside::{self, Interval, agrees};
use crate::bootstrap::{Ratio, SAMPLES_MIN, median_of, ratio, ratio_of_differences};
use crate::failure::Failure;
use crate::latency::{Quantiles, show};
use crate::machine::{Follows, Reading, without_machine};
use crate::result::{OperationSample, RunResult, Sample};
use crate::run::print;
use crate::table;
use omendb_cli::report::say;
use omendb_cli::{Colour, Exit, size};
use omendb_engine::io::random::Random;
use serde_json::json;
use std::path::Path;

/// How often one of all measures may be found different though nothing differs.
const DOUBT: f64 = 0.05;

/// Operations of an interval that lie beyond a percentile at least.
const BEYOND_MIN: f64 = 5.0;

/// Operations of an interval, for their median to be set beside others: that of fewer differs too much from interval to interval.
const BESIDE_MIN: f64 = 60.0;

/// A percentile's name, its place, and where a sample has it.
type Percentile = (&'static str, f64, fn(&Quantiles) -> u64);

/// The percentiles that are compared.
const PERCENTILES: [Percentile; 4] =
    [("p50", 0.5, |q| q.p50), ("p90", 0.9, |q| q.p90), ("p99", 0.99, |q| q.p99), ("p99.9", 0.999, |q| q.p999)];

/// What is compared.
struct Measure {
    name: String,
    unit: Unit,
    /// Samples of each run.
    a: Vec<Vec<Reading>>,
    b: Vec<Vec<Reading>>,
    judged: Judging,
}

#[derive(Clone, Copy, PartialEq)]
enum Judging {
    Yes,
    /// Beside the other operations: if the operation's own times, whose ratio this is, agree.
    Beside(f64),
    /// There is not enough of it in each interval.
    TooFew,
    /// It is the machine's.
    Machine,
}

#[derive(Clone, Copy, PartialEq)]
enum Unit {
    /// Operations a second: more is better.
    Rate,
    /// Nanoseconds: less is better.
    Nanos,
    /// Less is better.
    Bytes,
}

impl Unit {
    fn follows(self) -> Follows {
        match self {
            Unit::Rate => Follows::Down,
            Unit::Nanos => Follows::Up,
            Unit::Bytes => Follows::Not,
        }
    }
}

/// What is said of a measure.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Verdict {
    /// The interval spans 1, or the difference is below the threshold.
    Same,
    Better,
    Worse,
    /// Too few samples, or too few operations in each.
    TooFew,
    /// It is none of the program's.
    Machine,
}

/// Compares what the arguments name.
pub(crate) fn compare(args: &CompareArgs, colour: Colour) -> Result<Exit, Failure> {
    if !args.files.len().is_multiple_of(2) {
        return Err(Failure::Usage(
            "results come in pairs: A.json B.json, and perhaps more runs of each: A2.json B2.json".into(),
        ));
    }
    let mut a = Vec::new();
    let mut b = Vec::new();
    for pair in args.files.chunks(2) {
        for (side, path) in [&mut a, &mut b].into_iter().zip(pair) {
            side.push(valid(path)?);
        }
    }
    notes(&a, &b).iter().for_each(|note| say(&format!("{} {note}", colour.note("note:"))));
    let measures = measures(&a, &b)?;
    let rows = judged(&measures, args);
    match args.json {
        true => print(&json_text(&rows))?,
        false => print(&text(&rows, colour))?,
    }
    if rows.iter().all(|(_, _, verdict)| matches!(verdict, Verdict::TooFew | Verdict::Machine)) {
        let message = format!("nothing can be told: a run needs {SAMPLES_MIN} intervals at least. Run longer.");
        return Err(Failure::File(message));
    }
    let is_worse = rows.iter().any(|(_, _, verdict)| *verdict == Verdict::Worse);
    Ok(if is_worse { Exit::Regression } else { Exit::Done })
}

/// A result that is a measurement.
fn valid(path: &Path) -> Result<RunResult, Failure> {
    let result = RunResult::read(path)?;
    if let Some(why) = &result.failure {
        return Err(Failure::file("compare", path, format!("the run has failed: {why}")));
    }
    if result.samples.is_empty() {
        return Err(Failure::file(
            "compare",
            path,
            "it has no samples over time; only workloads run by clients are compared",
        ));
    }
    Ok(result)
}

/// What a reader should know of how the runs differ.
fn notes(a: &[RunResult], b: &[RunResult]) -> Vec<String> {
    let mut notes = Vec::new();
    let all = || a.iter().chain(b);
    let differ = |what: &str, of: &dyn Fn(&RunResult) -> String| {
        let mut seen: Vec<String> = Vec::new();
        all().map(of).for_each(|value| {
            if !seen.contains(&value) {
                seen.push(value)
            }
        });
        (seen.len() > 1).then(|| format!("{what} differ: {}", seen.join(" | ")))
    };
    let settings = |result: &RunResult| serde_json::to_string(&result.settings).unwrap_or_default();
    notes.extend(differ("the settings", &settings));
    notes.extend(differ("the workload's parameters", &|r| serde_json::to_string(&r.parameters).unwrap_or_default()));
    notes.extend(differ("the machines", &|r| {
        let e = &r.environment;
        format!("{}, {} cores, {}, {}", e.cpu, e.cores, e.kernel, e.filesystem)
    }));
    if all().any(|result| result.environment.build == "debug") {
        notes.push("a program was built without optimisation; its figures say little".into());
    }
    if all().any(|result| result.yardstick.is_none()) {
        notes.push("a result has no yardstick, so what the machine was doing is in the ratios; make it again".into());
    }
    if a.len() == 1 {
        notes.push(
            "one run of each: what differs between runs of one program is not in the intervals; more runs, alternating, are \
             compared with `compare A.json B.json A2.json B2.json …`"
                .into(),
        );
    }
    notes
}

fn measures(a: &[RunResult], b: &[RunResult]) -> Result<Vec<Measure>, Failure> {
    let names = |result: &RunResult| result.operations.iter().map(|o| o.name.clone()).collect::<Vec<_>>();
    let (Some(first), Some(_)) = (a.first(), b.first()) else {
        return Err(Failure::Usage("there is nothing to compare".into()));
    };
    if let Some(other) = a.iter().chain(b).find(|r| r.workload != first.workload || names(r) != names(first)) {
        let message =
            format!("runs of different workloads, {} and {}, are not compared", first.workload, other.workload);
        return Err(Failure::File(message));
    }
    let is_rated = a.iter().chain(b).all(|result| result.settings.rate.is_some());
    let walks = |results: &[RunResult]| results.iter().map(walks).collect();
    let throughputs = |results: &[RunResult]| results.iter().map(throughput).collect();
    let yardstick = "the machine: a walk with the yardstick".to_owned();
    let mut measures = vec![
        Measure { name: yardstick, unit: Unit::Nanos, a: walks(a), b: walks(b), judged: Judging::Machine },
        Measure {
            name: "operations/s".into(),
            unit: Unit::Rate,
            a: throughputs(a),
            b: throughputs(b),
            judged: Judging::Yes,
        },
    ];
    for (place, name) in names(first).iter().enumerate() {
        for (percentile, quantile, of) in PERCENTILES {
            let beyond = |results: &[RunResult]| results.iter().all(|result| is_enough(result, place, quantile));
            let judged = if beyond(a) && beyond(b) { Judging::Yes } else { Judging::TooFew };
            let mut add = |name: String, times: fn(&OperationSample) -> Option<&Quantiles>| {
                let samples =
                    |results: &[RunResult]| results.iter().map(|r| percentiles(r, place, times, of)).collect();
                measures.push(Measure { name, unit: Unit::Nanos, a: samples(a), b: samples(b), judged });
            };
            add(format!("{name} {percentile}"), |sample| Some(&sample.service));
            if is_rated {
                add(format!("{name} {percentile} from when due"), |sample| sample.response.as_ref());
            }
        }
        let samples = |results: &[RunResult]| results.iter().map(|result| device_bytes(result, place)).collect();
        let name = format!("{name} device bytes");
        measures.push(Measure { name, unit: Unit::Bytes, a: samples(a), b: samples(b), judged: Judging::Yes });
    }
    measures.extend(beside_others(&measures, names(first).as_slice(), a, b));
    measures.retain(|measure| median(&measure.a).is_some() && median(&measure.b).is_some());
    Ok(measures)
}

/// The name of the measure of an operation's median.
fn median_name(operation: &str) -> String {
    format!("{operation} p50")
}

/// The median times of those operations that have enough of them and do not commit, each beside the others ([`crate::beside`]).
fn beside_others(measures: &[Measure], names: &[String], a: &[RunResult], b: &[RunResult]) -> Vec<Measure> {
    // The ratio of its own times, of an operation whose median is judged.
    let own = |name: &String| {
        let own = measures.iter().find(|measure| measure.name == median_name(name))?;
        (own.judged == Judging::Yes).then_some(median(&own.b)? / median(&own.a)?)
    };
    let own: Vec<Option<f64>> = names.iter().map(own).collect();
    let interval = |sample: &Sample| -> Interval {
        let time = |(operation, own): (&OperationSample, &Option<f64>)| {
            (operation.count > 0 && own.is_some()).then_some(operation.service.p50 as f64)
        };
        sample.operations.iter().zip(&own).map(time).collect()
    };
    let runs = |results: &[RunResult]| -> Vec<Vec<Interval>> {
        results.iter().map(|result| result.whole_samples().map(interval).collect()).collect()
    };
    let (runs_a, runs_b) = (runs(a), runs(b));
    let commits = |place: usize| {
        let of = |result: &RunResult| result.operations.get(place).and_then(|operation| operation.commits);
        a.iter().chain(b).any(|result| of(result) != Some(false))
    };
    let measure = |(place, name): (usize, &String)| {
        if commits(place) || !a.iter().chain(b).all(|result| usual_count(result, place) >= BESIDE_MIN) {
            return None;
        }
        let ratio = own.get(place).copied().flatten()?;
        let (a, b) = beside::beside(place, &runs_a, &runs_b)?;
        let name = format!("{} beside the others", median_name(name));
        Some(Measure { name, unit: Unit::Nanos, a, b, judged: Judging::Beside(ratio) })
    };
    names.iter().enumerate().filter_map(measure).collect()
}

/// The median of all samples of all runs.
fn median(runs: &[Vec<Reading>]) -> Option<f64> {
    median_of(&runs.iter().map(|run| run.iter().map(|reading| reading.value).collect()).collect::<Vec<_>>())
}

/// What a walk with the yardstick took in an interval.
fn walk(sample: &Sample) -> Option<f64> {
    sample.yardstick.map(|walk| walk.p50 as f64)
}

fn walks(result: &RunResult) -> Vec<Reading> {
    result.whole_samples().filter_map(walk).map(|value| Reading { value, walk: None }).collect()
}

fn throughput(result: &RunResult) -> Vec<Reading> {
    let count = |sample: &Sample| sample.operations.iter().map(|operation| operation.count).sum::<u64>();
    let of = |sample| Reading { value: count(sample) as f64 / sample.seconds, walk: walk(sample) };
    result.whole_samples().map(of).collect()
}

/// The samples of one operation that have any, each with its interval.
fn of_operation(result: &RunResult, place: usize) -> impl Iterator<Item = (&Sample, &OperationSample)> {
    result
        .whole_samples()
        .filter_map(move |sample| Some((sample, sample.operations.get(place)?)))
        .filter(|(_, operation)| operation.count > 0)
}

fn percentiles(
    result: &RunResult,
    place: usize,
    times: fn(&OperationSample) -> Option<&Quantiles>,
    of: fn(&Quantiles) -> u64,
) -> Vec<Reading> {
    let reading = |(sample, operation): (&Sample, &OperationSample)| {
        times(operation).map(|quantiles| Reading { value: of(quantiles) as f64, walk: walk(sample) })
    };
    of_operation(result, place).filter_map(reading).collect()
}

/// What an operation has read from the device, in each interval of a cold run.
fn device_bytes(result: &RunResult, place: usize) -> Vec<Reading> {
    let each = |(_, operation): (&Sample, &OperationSample)| {
        Some(Reading { value: operation.device_bytes? as f64 / operation.count as f64, walk: None })
    };
    of_operation(result, place).filter_map(each).collect()
}

/// Operations of the usual interval.
fn usual_count(result: &RunResult, place: usize) -> f64 {
    let counts = of_operation(result, place).map(|(_, operation)| operation.count as f64).collect();
    median_of(&[counts]).unwrap_or(0.0)
}

/// Whether the usual interval has some operations beyond a percentile.
fn is_enough(result: &RunResult, place: usize, quantile: f64) -> bool {
    usual_count(result, place) * (1.0 - quantile) >= BEYOND_MIN
}

/// Each measure with its ratio, as far as there is one, and what to say of it.
fn judged<'m>(measures: &'m [Measure], args: &CompareArgs) -> Vec<(&'m Measure, Option<Ratio>, Verdict)> {
    let threshold = args.threshold / 100.0;
    let is_judged = |judged: Judging| matches!(judged, Judging::Yes | Judging::Beside(_));
    let count = measures.iter().filter(|measure| is_judged(measure.judged)).count();
    let doubt = DOUBT / count.max(1) as f64;
    let judge = |measure: &'m Measure| {
        if !is_judged(measure.judged) {
            let is_machine = measure.judged == Judging::Machine;
            return (measure, None, if is_machine { Verdict::Machine } else { Verdict::TooFew });
        }
        let (a, b) = without_machine(&measure.a, &measure.b, measure.unit.follows());
        let ratio = if matches!(measure.judged, Judging::Beside(_)) { ratio_of_differences } else { ratio };
        let judged = ratio(&a, &b, doubt, &mut Random::new(args.seed));
        let verdict = judged.map_or(Verdict::TooFew, |ratio| match measure.judged {
            Judging::Beside(own) if !agrees(ratio.ratio, own, threshold) => Verdict::Same,
            Judging::Beside(_) => verdict(ratio, measure.unit, beside::threshold(threshold)),
            _ => verdict(ratio, measure.unit, threshold),
        });
        (measure, judged, verdict)
    };
    measures.iter().map(judge).collect()
}

fn verdict(ratio: Ratio, unit: Unit, threshold: f64) -> Verdict {
    let is_sure = ratio.low > 1.0 || ratio.high < 1.0;
    if !is_sure || (ratio.ratio - 1.0).abs() < threshold {
        return Verdict::Same;
    }
    match (ratio.ratio > 1.0) == (unit == Unit::Rate) {
        true => Verdict::Better,
        false => Verdict::Worse,
    }
}

impl Verdict {
    fn words(self) -> &'static str {
        match self {
            Verdict::Same => "no difference",
            Verdict::Better => "better",
            Verdict::Worse => "worse",
            Verdict::TooFew => "too few to tell",
            Verdict::Machine => "not the program's",
        }
    }
}

type Judged<'m> = (&'m Measure, Option<Ratio>, Verdict);

fn text(rows: &[Judged<'_>], colour: Colour) -> String {
    let figure = |measure: &Measure, runs: &[Vec<Reading>]| match (measure.unit, median(runs)) {
        (_, None) => "—".to_owned(),
        (Unit::Rate, Some(x)) => format!("{x:.0}"),
        (Unit::Nanos, Some(x)) => show(whole(x)),
        (Unit::Bytes, Some(x)) => size::show(whole(x)),
    };
    let row = |(measure, ratio, verdict): &Judged<'_>| {
        let shown = match ratio {
            Some(ratio) => vec![format!("{:.3}", ratio.ratio), format!("{:.3}–{:.3}", ratio.low, ratio.high)],
            None => match median(&measure.b).zip(median(&measure.a)) {
                Some((b, a)) if a > 0.0 => vec![format!("{:.3}", b / a), "—".into()],
                _ => vec!["—".into(), "—".into()],
            },
        };
        let mut cells = vec![measure.name.clone(), figure(measure, &measure.a), figure(measure, &measure.b)];
        cells.extend(shown);
        cells.push(verdict.words().into());
        cells
    };
    let header = ["median of the intervals'", "A", "B", "B/A", "confidence", "verdict"];
    let table = table::render(&header, &rows.iter().map(row).collect::<Vec<_>>());
    let named = |wanted: Verdict| {
        let names: Vec<&str> = rows
            .iter()
            .filter(|(_, _, verdict)| *verdict == wanted)
            .map(|(measure, _, _)| measure.name.as_str())
            .collect();
        names.join(", ")
    };
    let end = match (named(Verdict::Worse), named(Verdict::Better)) {
        (worse, _) if !worse.is_empty() => colour.error(&format!("regression: {worse}")),
        (_, better) if !better.is_empty() => format!("better: {better}"),
        _ => "no difference".to_owned(),
    };
    format!("{table}\n{end}\n")
}

/// A median of whole numbers, of nanoseconds or bytes.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast of a float saturates")]
fn whole(x: f64) -> u64 {
    x as u64
}

fn json_text(rows: &[Judged<'_>]) -> String {
    let row = |(measure, ratio, verdict): &Judged<'_>| {
        json!({
            "measure": measure.name,
            "unit": match measure.unit {
                Unit::Rate => "1/s",
                Unit::Nanos => "ns",
                Unit::Bytes => "bytes",
            },
            "a": median(&measure.a),
            "b": median(&measure.b),
            "ratio": ratio.map(|ratio| ratio.ratio),
            "low": ratio.map(|ratio| ratio.low),
            "high": ratio.map(|ratio| ratio.high),
            "verdict": verdict.words(),
        })
    };
    let rows: Vec<serde_json::Value> = rows.iter().map(row).collect();
    format!("{}\n", json!({ "schema": "omendb-bench-comparison/1", "measures": rows }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::{Operation, RunSettings, SCHEMA};

    /// A run of `seconds` with one operation `get` whose times are `factor` times those of factor 1, but for noise.
    fn run(factor: f64, noise_seed: u64, seconds: u64, per_second: u64) -> RunResult {
        let mut random = Random::new(noise_seed);
        let mut noisy = |x: f64| whole(x * factor * (1.0 + 0.03 * (random.below(2001) as f64 / 1000.0 - 1.0)));
        let mut sample = |at: u64| {
            let service =
                Quantiles { p50: noisy(2000.0), p90: noisy(3000.0), p99: noisy(9000.0), p999: noisy(50_000.0), max: 1 };
            let count = whole(per_second as f64 * 2000.0 / noisy(2000.0) as f64);
            let operations = vec![OperationSample { count, rows: count, service, ..OperationSample::default() }];
            Sample { at_seconds: at as f64, seconds: 1.0, operations, yardstick: None, engine: None }
        };
        RunResult {
            schema: SCHEMA.into(),
            workload: "metrics".into(),
            settings: RunSettings { interval_seconds: 1.0, ..RunSettings::default() },
            operations: vec![Operation { name: "get".into(), ..Operation::default() }],
            samples: (0..seconds).map(&mut sample).collect(),
            ..RunResult::default()
        }
    }

    fn verdicts(a: RunResult, b: RunResult) -> Vec<(String, Verdict)> {
        let args = CompareArgs { files: Vec::new(), seed: 1, threshold: 2.0, json: false };
        let measures = measures(&[a], &[b]).unwrap();
        judged(&measures, &args).into_iter().map(|(measure, _, verdict)| (measure.name.clone(), verdict)).collect()
    }

    fn of(verdicts: &[(String, Verdict)], name: &str) -> Verdict {
        verdicts.iter().find(|(measure, _)| measure == name).unwrap().1
    }

    #[test]
    fn a_result_does_not_differ_from_itself_nor_from_its_like() {
        let same = verdicts(run(1.0, 1, 30, 100_000), run(1.0, 1, 30, 100_000));
        assert_eq!(same.len(), 5, "no yardstick, nothing of it");
        assert!(same.iter().all(|(_, verdict)| *verdict == Verdict::Same), "{same:?}");
        for seed in 2..12 {
            let like = verdicts(run(1.0, 1, 30, 100_000), run(1.0, seed, 30, 100_000));
            assert!(like.iter().all(|(_, verdict)| *verdict == Verdict::Same), "seed {seed}: {like:?}");
        }
    }

    #[test]
    fn five_in_a_hundred_slower_is_worse_and_as_much_faster_is_better() {
        let slower = verdicts(run(1.0, 1, 30, 100_000), run(1.05, 2, 30, 100_000));
        assert!(slower.iter().all(|(_, verdict)| *verdict == Verdict::Worse), "{slower:?}");
        let faster = verdicts(run(1.05, 1, 30, 100_000), run(1.0, 2, 30, 100_000));
        assert!(faster.iter().all(|(_, verdict)| *verdict == Verdict::Better), "{faster:?}");
    }

    /// The same on a machine that is now faster and now slower, `slowness` in the mean.
    fn on_machine(mut result: RunResult, slowness: f64) -> RunResult {
        for (sample, turn) in result.samples.iter_mut().zip(0u32..) {
            let slow = slowness * (1.0 + 0.1 * f64::from(turn % 5));
            let walk = whole(5000.0 * slow);
            sample.yardstick = Some(Quantiles { p50: walk, p90: walk, p99: walk, p999: walk, max: walk });
            for operation in &mut sample.operations {
                let service = &mut operation.service;
                for time in [&mut service.p50, &mut service.p90, &mut service.p99, &mut service.p999] {
                    *time = whole(*time as f64 * slow);
                }
                operation.count = whole(operation.count as f64 / slow);
            }
        }
        result.yardstick = Some(crate::latency::Distribution::default());
        result
    }

    #[test]
    fn a_slower_machine_is_no_regression_and_hides_none() {
        let a = || on_machine(run(1.0, 1, 60, 100_000), 1.0);
        let same = verdicts(a(), on_machine(run(1.0, 2, 60, 100_000), 1.3));
        assert_eq!(same.len(), 6);
        assert_eq!(same[0].1, Verdict::Machine);
        assert!(same[1..].iter().all(|(_, verdict)| *verdict == Verdict::Same), "{same:?}");
        let slower = verdicts(a(), on_machine(run(1.05, 2, 60, 100_000), 0.8));
        assert!(slower[1..].iter().all(|(_, verdict)| *verdict == Verdict::Worse), "{slower:?}");
        // Without the yardstick the machine would be taken for the program.
        let mut unknown = [a(), on_machine(run(1.0, 2, 60, 100_000), 1.3)];
        let samples = unknown.iter_mut().flat_map(|result| &mut result.samples);
        samples.for_each(|sample| sample.yardstick = None);
        let [a, b] = unknown;
        assert_eq!(of(&verdicts(a, b), "get p50"), Verdict::Worse);
    }

    /// A run of five operations, of which times grow with the database, and times of `get`, the second, are `factor` times what they would be.
    fn run_of_five(factor: f64, commits: bool, noise_seed: u64) -> RunResult {
        let mut random = Random::new(noise_seed);
        // The runs differ by some per cent as a whole, and their intervals by some more.
        let run = 1.0 + 0.02 * (random.below(2001) as f64 / 1000.0 - 1.0);
        let mut interval = |at: u32| {
            let common =
                run * (1.0 + f64::from(at) / 300.0) * (1.0 + 0.05 * (random.below(2001) as f64 / 1000.0 - 1.0));
            let mut operation = |place: u32| {
                let noise = 1.0 + 0.02 * (random.below(2001) as f64 / 1000.0 - 1.0);
                let own = if place == 1 { factor } else { 1.0 };
                let p50 = whole(f64::from(place + 1) * 10_000.0 * common * noise * own);
                let service = Quantiles { p50, p90: p50, p99: p50, p999: p50, max: p50 };
                OperationSample { count: 100, rows: 100, service, ..OperationSample::default() }
            };
            let operations = (0..5).map(&mut operation).collect();
            Sample { at_seconds: f64::from(at), seconds: 1.0, operations, yardstick: None, engine: None }
        };
        let named = |name: &str| Operation { name: name.into(), commits: Some(commits), ..Operation::default() };
        RunResult {
            schema: SCHEMA.into(),
            workload: "metrics".into(),
            settings: RunSettings { interval_seconds: 1.0, ..RunSettings::default() },
            operations: ["ingest", "get", "last", "range", "compare"].map(named).into(),
            samples: (0..60).map(&mut interval).collect(),
            ..RunResult::default()
        }
    }

    #[test]
    fn a_slower_operation_is_found_beside_the_others_where_its_own_times_do_not_tell() {
        for seed in 0..4 {
            let slower = verdicts(run_of_five(1.0, false, 2 * seed), run_of_five(1.08, false, 2 * seed + 1));
            let worse: Vec<&str> =
                slower.iter().filter(|(_, v)| *v == Verdict::Worse).map(|(name, _)| name.as_str()).collect();
            assert_eq!(worse, ["get p50 beside the others"], "seed {seed}: {slower:?}");
            let same = verdicts(run_of_five(1.0, false, 2 * seed), run_of_five(1.0, false, 2 * seed + 1));
            assert!(
                same.iter().all(|(_, verdict)| matches!(verdict, Verdict::Same | Verdict::TooFew)),
                "seed {seed}: {same:?}"
            );
        }
        let committing = verdicts(run_of_five(1.0, true, 0), run_of_five(1.08, true, 1));
        assert!(committing.iter().all(|(name, _)| !name.contains("beside")), "{committing:?}");
    }

    #[test]
    fn what_is_below_the_threshold_is_no_difference_however_sure() {
        let verdicts = verdicts(run(1.0, 1, 600, 100_000), run(1.012, 2, 600, 100_000));
        assert!(verdicts.iter().all(|(_, verdict)| *verdict == Verdict::Same), "{verdicts:?}");
    }

    #[test]
    fn percentiles_that_few_operations_lie_beyond_are_not_judged() {
        let verdicts = verdicts(run(1.0, 1, 30, 1_000), run(2.0, 2, 30, 2_000));
        assert_eq!(of(&verdicts, "get p99"), Verdict::Worse);
        assert_eq!(of(&verdicts, "get p99.9"), Verdict::TooFew);
        let short = super::tests::verdicts(run(1.0, 1, 5, 100_000), run(2.0, 2, 5, 100_000));
        assert!(short.iter().all(|(_, verdict)| *verdict == Verdict::TooFew), "{short:?}");
    }

    #[test]
    fn cold_runs_are_compared_by_what_they_read_too() {
        let cold = |factor: f64, seed| {
            let mut result = run(1.0, seed, 30, 100_000);
            for operation in result.samples.iter_mut().flat_map(|sample| &mut sample.operations) {
                operation.device_bytes = Some(whole(operation.count as f64 * 8192.0 * factor));
            }
            result
        };
        assert_eq!(of(&verdicts(cold(1.0, 1), cold(1.0, 2)), "get device bytes"), Verdict::Same);
        assert_eq!(of(&verdicts(cold(1.0, 1), cold(1.1, 2)), "get device bytes"), Verdict::Worse);
        assert_eq!(of(&verdicts(cold(1.0, 1), cold(0.9, 2)), "get device bytes"), Verdict::Better);
    }

    #[test]
    fn runs_of_different_workloads_are_not_compared() {
        let other = RunResult { workload: "durable-commit".into(), ..run(1.0, 1, 30, 1000) };
        assert!(measures(&[run(1.0, 1, 30, 1000)], &[other]).is_err());
    }
}
