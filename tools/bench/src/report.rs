/*!
`report`: one or two results as one HTML file that needs no network.

Every figure in it is the result's, written in the same way as `run` prints it. Charts are inline SVG (`chart`); colours follow the
reader's choice of light or dark.
*/

mod chart;

use crate::args::ReportArgs;
use crate::failure::Failure;
use crate::latency::{Distribution, show};
use crate::result::{EngineFigures, IndexFigures, RunResult, TableOfFigures};
use crate::table;
use chart::{Chart, Scale};
use omendb_cli::Exit;
use omendb_cli::size::{self, count};
use std::fmt::Write as _;

const STYLE: &str = include_str!("report/style.css");

/// The names of the two results, and the classes of their colours.
const SIDES: [(&str, &str); 2] = [("A", "a"), ("B", "b")];

/// Writes the report that the arguments ask for.
pub(crate) fn report(args: &ReportArgs) -> Result<Exit, Failure> {
    let results: Vec<RunResult> = args.files.iter().map(|path| RunResult::read(path)).collect::<Result<_, _>>()?;
    std::fs::write(&args.output, page(&results)).map_err(|e| Failure::file("write", &args.output, e))?;
    Ok(Exit::Done)
}

/// Text as it stands in HTML, between tags and in attributes.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
    }
    out
}

/// A result and what it is called.
struct Side<'r> {
    name: &'static str,
    class: &'static str,
    result: &'r RunResult,
}

fn page(results: &[RunResult]) -> String {
    let sides: Vec<Side<'_>> =
        SIDES.iter().zip(results).map(|((name, class), result)| Side { name, class, result }).collect();
    let mut workloads: Vec<&str> = results.iter().map(|result| result.workload.as_str()).collect();
    workloads.dedup();
    let title = format!("omendb-bench: {}", workloads.join(", "));
    let mut body = format!("<h1>{}</h1>\n{}", escape(&title), conditions(&sides));
    for side in &sides {
        if let Some(why) = &side.result.failure {
            let _written = writeln!(body, "<p class=\"failed\">{} has failed: {}</p>", side.name, escape(why));
        }
    }
    body.push_str(&operations(&sides));
    body.push_str(&section("How long operations took", &grid(percentile_charts(&sides))));
    body.push_str(&section("Over time", &grid(timelines(&sides))));
    body.push_str(&amplification(&sides));
    sides.iter().for_each(|side| body.push_str(&indexes(side)));
    sides.iter().for_each(|side| side.result.tables.iter().for_each(|table| body.push_str(&figures(side, table))));
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\">\n<title>{}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n\
         {body}</main>\n</body>\n</html>\n",
        escape(&title)
    )
}

/// A part of the page; none where it would be empty.
fn section(title: &str, content: &str) -> String {
    if content.is_empty() { String::new() } else { format!("<h2>{}</h2>\n{content}", escape(title)) }
}

fn grid(charts: Vec<String>) -> String {
    if charts.is_empty() { String::new() } else { format!("<div class=\"charts\">\n{}</div>\n", charts.concat()) }
}

/// A table; the first cell of each row is its name.
fn html_table(header: &[String], rows: &[Vec<String>]) -> String {
    let cells = |tag: &str, row: &[String]| -> String {
        let name = row.first().map(|cell| format!("<th scope=\"row\">{}</th>", escape(cell))).unwrap_or_default();
        let rest: String = row.iter().skip(1).map(|cell| format!("<{tag}>{}</{tag}>", escape(cell))).collect();
        name + &rest
    };
    let body: String = rows.iter().map(|row| format!("<tr>{}</tr>\n", cells("td", row))).collect();
    format!(
        "<div class=\"wide\"><table>\n<thead><tr>{}</tr></thead>\n<tbody>\n{body}</tbody>\n</table></div>\n",
        cells("th", header)
    )
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

/// Under which conditions the results were made, side by side.
fn conditions(sides: &[Side<'_>]) -> String {
    let row = |name: &str, of: &dyn Fn(&RunResult) -> String| {
        std::iter::once(name.to_owned()).chain(sides.iter().map(|side| of(side.result))).collect::<Vec<_>>()
    };
    let mut rows = vec![
        row("began", &|r| utc(r.started_unix_seconds)),
        row("version", &|r| format!("{} (git {}, {})", r.version, r.git_revision, r.environment.build)),
        row("machine", &|r| {
            let e = &r.environment;
            format!("{}, {} cores, {}", e.cpu, e.cores, size::show(e.memory_bytes))
        }),
        row("system", &|r| format!("{}, {}", r.environment.kernel, r.environment.filesystem)),
    ];
    if sides.iter().any(|side| !side.result.operations.is_empty()) {
        rows.push(row("clients", &|r| match r.settings.rate {
            Some(rate) => format!("{}, {rate} operations due a second", r.settings.clients),
            None => format!("{}, closed loop", r.settings.clients),
        }));
        rows.push(row("measured", &|r| {
            format!("{:.1} s after {:.1} s of warm-up", r.elapsed_seconds, r.settings.warmup_seconds)
        }));
        rows.push(row("settings", &|r| {
            let (cache, memory) = (size::show(r.settings.cache_bytes), size::show(r.settings.memory_bytes));
            let cold = if r.settings.cold { ", emptied before each operation" } else { "" };
            format!("sync {}, cache {cache} of memory {memory}{cold}, seed {}", r.settings.sync, r.settings.seed)
        }));
        rows.push(row("workload", &|r| {
            let parameter = |(name, value): (&String, &serde_json::Value)| match value.as_str() {
                Some(text) => format!("{name}: {text}"),
                None => format!("{name}: {value}"),
            };
            r.parameters.iter().map(parameter).collect::<Vec<_>>().join("; ")
        }));
        rows.push(row("checked", &|r| r.verified.clone()));
    }
    let header: Vec<String> =
        std::iter::once(String::new()).chain(sides.iter().map(|side| side.name.to_owned())).collect();
    format!("<div class=\"conditions\">{}</div>", html_table(&header, &rows))
}

/// `2026-11-30 03:05:12 UTC`, after Howard Hinnant's "days from civil" turned round.
fn utc(unix_seconds: u64) -> String {
    let (days, seconds) = (unix_seconds / 86_400 + 719_468, unix_seconds % 86_400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

fn operations(sides: &[Side<'_>]) -> String {
    let is_cold = sides.iter().any(|side| side.result.settings.cold);
    let mut rows = Vec::new();
    for side in sides {
        for operation in &side.result.operations {
            let row = |name: String, times: &Distribution| {
                let a_second = operation.count as f64 / side.result.elapsed_seconds.max(1e-9);
                let mut cells = vec![name, count(operation.count), table::rate(a_second)];
                let time = |nanos| if operation.count > 0 { show(nanos) } else { "—".to_owned() };
                cells.extend([times.p50, times.p90, times.p99, times.p999, times.p9999, times.max].map(time));
                cells.extend([count(operation.retries), count(operation.errors)]);
                if is_cold {
                    cells.push(operation.device_bytes_each().map_or("—".to_owned(), size::show));
                }
                cells
            };
            let name =
                if sides.len() > 1 { format!("{} {}", side.name, operation.name) } else { operation.name.clone() };
            rows.push(row(name.clone(), &operation.service));
            rows.extend(operation.response.iter().map(|times| row(format!("{name}, from when due"), times)));
        }
    }
    if rows.is_empty() {
        return String::new();
    }
    let mut header = texts(&[
        "operation",
        "count",
        "per second",
        "p50",
        "p90",
        "p99",
        "p99.9",
        "p99.99",
        "max",
        "retries",
        "errors",
    ]);
    if is_cold {
        header.push("read from the device, each".into());
    }
    section("Operations", &html_table(&header, &rows))
}

/// The names of operations, in order, of all results.
fn names<'r>(sides: &[Side<'r>]) -> Vec<&'r str> {
    let mut names = Vec::new();
    for operation in sides.iter().flat_map(|side| &side.result.operations) {
        if operation.service.max > 0 && !names.contains(&operation.name.as_str()) {
            names.push(operation.name.as_str());
        }
    }
    names
}

/// Time against percentile, a chart for each operation.
fn percentile_charts(sides: &[Side<'_>]) -> Vec<String> {
    let chart = |name: &&str| {
        let of_side = |side: &Side<'_>| {
            let operation = side.result.operations.iter().find(|operation| operation.name == *name)?;
            Some((side.name, side.class, operation.clone()))
        };
        let operations: Vec<_> = sides.iter().filter_map(of_side).collect();
        let times = || operations.iter().flat_map(|(_, _, o)| o.response.iter().chain([&o.service]));
        let low = times().map(|d| d.min).filter(|min| *min > 0).min().unwrap_or(1);
        let high = times().map(|d| d.max).max().unwrap_or(1);
        let counted = times().map(|d| d.counts.iter().map(|(_, n)| n).sum::<u64>()).max().unwrap_or(1);
        let x = percentile_scale(counted as f64);
        let mut chart = Chart::new(name, x, "percentile", Scale::log(low as f64, high as f64, nanos_text));
        for (side, class, operation) in &operations {
            chart.line(&format!("{side} service time"), class, &curve(&operation.service));
            if let Some(response) = &operation.response {
                chart.line(&format!("{side} from when due"), &format!("{class} due"), &curve(response));
            }
        }
        chart.finish()
    };
    names(sides).iter().map(chart).collect()
}

/// One in how many lies beyond: 1 for the least, 100 for p99, as far as there were so many operations.
fn percentile_scale(count: f64) -> Scale {
    let all = [(1.0, "0"), (2.0, "50"), (10.0, "90"), (100.0, "99"), (1e3, "99.9"), (1e4, "99.99"), (1e5, "99.999")];
    // Beyond the longest time lies half an operation, see `curve`.
    let high = (2.0 * count).clamp(10.0, 2e6);
    let ticks = all.into_iter().filter(|(beyond, _)| *beyond <= high).map(|(x, text)| (x, text.to_owned())).collect();
    Scale::log_ticks(1.0, high, ticks)
}

/// Which times have one in how many beyond them.
fn curve(times: &Distribution) -> Vec<(f64, f64)> {
    let total: u64 = times.counts.iter().map(|(_, count)| count).sum();
    let mut before = 0u64;
    let mut points = Vec::with_capacity(times.counts.len());
    for (nanos, count) in &times.counts {
        // As many as this one and those before it are not beyond; of the last one half an operation is.
        before += count;
        let beyond = (total.saturating_sub(before) as f64).max(0.5);
        points.push((total as f64 / beyond, *nanos as f64));
    }
    points
}

/// A power of ten of nanoseconds.
fn nanos_text(nanos: f64) -> String {
    let units = [(1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1.0, "ns")];
    let (unit, name) = units.into_iter().find(|(unit, _)| nanos >= unit * 0.999_999).unwrap_or((1.0, "ns"));
    format!("{:.0} {name}", nanos / unit)
}

/// A number in three digits or so: `12 k`.
fn number_text(x: f64) -> String {
    let units = [(1e9, " G"), (1e6, " M"), (1e3, " k")];
    match units.into_iter().find(|(unit, _)| x >= *unit) {
        Some((unit, name)) => format!("{}{name}", (x / unit * 10.0).round() / 10.0),
        None => format!("{}", (x * 100.0).round() / 100.0),
    }
}

fn seconds_text(x: f64) -> String {
    format!("{} s", (x * 10.0).round() / 10.0)
}

/// Throughput, and the engine's debt, with what the engine did; a chart for each result, on one scale.
fn timelines(sides: &[Side<'_>]) -> Vec<String> {
    let rate = |sample: &crate::result::Sample| {
        sample.operations.iter().map(|o| o.count).sum::<u64>() as f64 / sample.seconds.max(1e-9)
    };
    let samples = || sides.iter().flat_map(|side| side.result.whole_samples());
    let highest = samples().map(rate).fold(0.0, f64::max);
    let end = samples().map(|sample| sample.at_seconds + sample.seconds).fold(0.0, f64::max);
    let debt = |sample: &crate::result::Sample| sample.engine.as_ref().map_or(0.0, |engine| engine.debt_bytes as f64);
    let most_debt = samples().map(debt).fold(0.0, f64::max);
    let mut charts = Vec::new();
    for side in sides.iter().filter(|side| !side.result.samples.is_empty()) {
        let points = |of: &dyn Fn(&crate::result::Sample) -> f64| -> Vec<(f64, f64)> {
            side.result.whole_samples().map(|sample| (sample.at_seconds + sample.seconds / 2.0, of(sample))).collect()
        };
        let time = || Scale::linear(end, seconds_text);
        let mut chart =
            Chart::new(&format!("{}: operations a second", side.name), time(), "", Scale::linear(highest, number_text));
        events(&mut chart, side.result);
        chart.line("operations/s", side.class, &points(&rate));
        charts.push(chart.finish());
        if most_debt > 0.0 {
            let title = format!("{}: bytes that wait to be flushed or merged", side.name);
            let mut chart = Chart::new(&title, time(), "", Scale::linear(most_debt, |x| number_text(x) + "B"));
            events(&mut chart, side.result);
            chart.line("debt", side.class, &points(&debt));
            charts.push(chart.finish());
        }
    }
    charts
}

/// Flushes, merges and delays of a run.
fn events(chart: &mut Chart, result: &RunResult) {
    let (mut flushes, mut merges, mut delays) = (false, false, false);
    for sample in &result.samples {
        let Some(engine) = &sample.engine else { continue };
        let (from, to) = (sample.at_seconds, sample.at_seconds + sample.seconds);
        let middle = (from + to) / 2.0;
        if engine.delay_seconds > 0.0 {
            delays = true;
            let why = if engine.delay_cause.is_empty() { "over by its end" } else { engine.delay_cause.as_str() };
            chart.band("delay", from, to, &format!("{:.3} s of delay at {from:.1} s: {why}", engine.delay_seconds));
        }
        if engine.flushes > 0 {
            flushes = true;
            chart.mark("flush", middle, 0.0, &format!("{} flushes at {middle:.1} s", engine.flushes));
        }
        if engine.merges > 0 {
            merges = true;
            chart.mark("merge", middle, 1.0, &format!("{} merges at {middle:.1} s", engine.merges));
        }
    }
    for (is_there, class, name) in
        [(flushes, "flush", "flush"), (merges, "merge", "merge"), (delays, "delay", "commits delayed")]
    {
        if is_there {
            chart.explain(class, name);
        }
    }
}

fn amplification(sides: &[Side<'_>]) -> String {
    let times = |x: Option<f64>| x.map_or("—".to_owned(), |x| format!("{x:.2}"));
    let row = |side: &Side<'_>| {
        let engine: &EngineFigures = side.result.engine.as_ref()?;
        let mut cells =
            vec![side.name.to_owned(), times(engine.write_amplification), times(engine.space_amplification)];
        let bytes =
            [engine.committed_bytes, engine.logged_bytes, engine.flushed_bytes, engine.merged_bytes, engine.run_bytes];
        cells.extend(bytes.map(size::show));
        cells.extend([count(engine.flushes), count(engine.merges), format!("{:.3} s", engine.delay_seconds)]);
        let reads = engine.cache_hits + engine.cache_misses;
        cells.push(if reads > 0 {
            format!("{:.2} %", 100.0 * engine.cache_hits as f64 / reads as f64)
        } else {
            "—".into()
        });
        Some(cells)
    };
    let rows: Vec<Vec<String>> = sides.iter().filter_map(row).collect();
    if rows.is_empty() {
        return String::new();
    }
    let header = texts(&[
        "",
        "write ampl.",
        "space ampl.",
        "committed",
        "logged",
        "flushed",
        "merged",
        "runs at the end",
        "flushes",
        "merges",
        "delay",
        "from the cache",
    ]);
    let bars = grid(sides.iter().filter_map(written_bars).collect());
    section("Amplification", &(html_table(&header, &rows) + &bars))
}

/// What was written for each byte that was committed: by the log, by flushes, by merges.
fn written_bars(side: &Side<'_>) -> Option<String> {
    let engine = side.result.engine.as_ref().filter(|engine| engine.committed_bytes > 0)?;
    let parts = [("log", engine.logged_bytes), ("flushes", engine.flushed_bytes), ("merges", engine.merged_bytes)];
    let times = |bytes: u64| bytes as f64 / engine.committed_bytes as f64;
    let high = parts.iter().map(|(_, bytes)| times(*bytes)).fold(0.0, f64::max);
    let ticks = (1u32..).map(f64::from).zip(parts).map(|(x, (name, _))| (x, name.to_owned())).collect();
    let title = format!("{}: bytes written for each byte committed", side.name);
    let mut chart = Chart::new(&title, Scale::of(0.5, 3.5, ticks), "", Scale::linear(high, number_text));
    for (x, (name, bytes)) in (1u32..).map(f64::from).zip(parts) {
        let says = format!("{name}: {} ({:.2} for each byte)", size::show(bytes), times(bytes));
        chart.bar(side.class, x - 0.3, x + 0.3, times(bytes), &says);
    }
    Some(chart.finish())
}

/// Indexes of the tables that have runs: how large they are, and how far their models are off.
fn indexes(side: &Side<'_>) -> String {
    let tables: Vec<&IndexFigures> = side.result.indexes.iter().filter(|table| !table.runs.is_empty()).collect();
    let row = |table: &&IndexFigures| {
        let sum = |of: fn(&crate::result::IndexOfRun) -> u64| table.runs.iter().map(of).sum::<u64>();
        let models = table.runs.iter().filter(|run| run.kind == "model").count();
        let (rows, slices, bytes) = (sum(|run| run.rows), sum(|run| run.slices), sum(|run| run.index_bytes));
        let each = |n: u64| if n > 0 { format!("{:.3}", bytes as f64 / n as f64) } else { "—".into() };
        vec![
            table.table.clone(),
            table.runs.len().to_string(),
            models.to_string(),
            count(rows),
            size::show(sum(|run| run.bytes)),
            count(slices),
            count(sum(|run| run.segments)),
            count(sum(|run| run.exceptions)),
            size::show(bytes),
            each(slices),
            each(rows),
        ]
    };
    let header = texts(&[
        "table",
        "runs",
        "with a model",
        "rows",
        "bytes",
        "slices",
        "segments",
        "exceptions",
        "index",
        "bytes/slice",
        "bytes/row",
    ]);
    if tables.is_empty() {
        return String::new();
    }
    let charts = tables.iter().filter_map(|table| residuals(side, table)).collect();
    let title = format!("{}: indexes of runs", side.name);
    section(&title, &(html_table(&header, &tables.iter().map(row).collect::<Vec<_>>()) + &grid(charts)))
}

/// How often models are off by how many slices.
fn residuals(side: &Side<'_>, table: &IndexFigures) -> Option<String> {
    let low = f64::from(table.residuals.first()?.0.min(0));
    let high = f64::from(table.residuals.last()?.0.max(0));
    let most = table.residuals.iter().map(|(_, count)| *count).max()? as f64;
    let title = format!("{}: how far models of {} are off, before residuals mend it", side.name, table.table);
    let mut chart = Chart::new(&title, Scale::around(low, high), "slices", Scale::linear(most, number_text));
    for (off, times) in &table.residuals {
        let at = f64::from(*off);
        chart.bar(side.class, at - 0.45, at + 0.45, *times as f64, &format!("{off} slices: {times} of the samples"));
    }
    Some(chart.finish())
}

/// A table that a workload has made itself.
fn figures(side: &Side<'_>, table: &TableOfFigures) -> String {
    let cell = |value: &serde_json::Value| match value {
        serde_json::Value::Null => "—".to_owned(),
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let rows: Vec<Vec<String>> = table.rows.iter().map(|row| row.iter().map(cell).collect()).collect();
    let notes: String = table.notes.iter().map(|note| format!("<p>{}</p>\n", escape(note))).collect();
    section(&format!("{}: {}", side.name, table.title), &(html_table(&table.columns, &rows) + &notes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::{EngineSample, IndexOfRun, Operation, OperationSample, Sample};

    fn result() -> RunResult {
        let counts = vec![(1_000, 90), (2_000, 9), (50_000_000, 1)];
        let service =
            Distribution { min: 1_000, p50: 1_000, p99: 2_000, max: 50_000_000, counts, ..Distribution::default() };
        let engine =
            EngineSample { flushes: 1, merges: 2, delay_seconds: 0.25, debt_bytes: 5, ..EngineSample::default() };
        let operations = vec![OperationSample { count: 100, ..OperationSample::default() }];
        RunResult {
            workload: "w <&>".into(),
            elapsed_seconds: 1.0,
            operations: vec![Operation { name: "get".into(), count: 100, service, ..Operation::default() }],
            samples: vec![Sample { at_seconds: 0.0, seconds: 1.0, operations, yardstick: None, engine: Some(engine) }],
            engine: Some(EngineFigures {
                write_amplification: Some(4.321),
                committed_bytes: 10,
                logged_bytes: 12,
                ..EngineFigures::default()
            }),
            indexes: vec![IndexFigures {
                table: "t".into(),
                runs: vec![IndexOfRun { kind: "model".into(), slices: 10, index_bytes: 25, ..IndexOfRun::default() }],
                residuals: vec![(-2, 5), (0, 90), (1, 4)],
            }],
            ..RunResult::default()
        }
    }

    #[test]
    fn figures_are_those_of_the_result_and_nothing_comes_from_the_network() {
        let page = page(&[result()]);
        for text in ["1.00 µs", "2.00 µs", "50.0 ms", "4.32", "2.500", "0.250 s of delay", "2 merges", "-2 slices: 5"]
        {
            assert!(page.contains(text), "{text}");
        }
        assert!(page.contains("w &lt;&amp;&gt;") && !page.contains("w <&>"));
        for outside in ["http", "src=", "@import", "url(", "<script"] {
            assert!(!page.contains(outside), "{outside}");
        }
        assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
    }

    #[test]
    fn two_results_stand_side_by_side() {
        let page = page(&[result(), result()]);
        assert!(page.contains("A get") && page.contains("B get"));
        assert!(page.contains("A service time") && page.contains("B service time"));
    }

    #[test]
    fn a_result_without_anything_is_a_page_too() {
        assert!(page(&[RunResult::default()]).ends_with("</html>\n"));
    }

    #[test]
    fn dates_are_right() {
        assert_eq!(utc(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(utc(951_782_400), "2000-02-29 00:00:00 UTC");
        assert_eq!(utc(1_796_007_912), "2026-11-30 03:05:12 UTC");
    }

    #[test]
    fn a_percentile_curve_ends_at_the_longest_time() {
        let curve = curve(&result().operations[0].service);
        assert_eq!(curve, [(10.0, 1_000.0), (100.0, 2_000.0), (200.0, 50_000_000.0)]);
    }
}
