/*!
`learned-index`: five key distributions with a past, over bare structures; and what a run's slice index takes.

An earlier system published "up to 20.79 times a B-tree" from these five, without checking a lookup; held against the keys, its
index had lost most of them. Here every lookup's value is checked, a tenth of the probes are keys that are not there, and a
wrong answer ends the run. The ratios to beat are the published ones.

```text
    keys        the distributions, and the probes
    structures  what is searched: BTreeMap, binary search, Eytzinger order; of the engine's an S+-tree and a learned model
    measure     rounds that alternate, one thread on one processor, medians and ranges
    slices      the slice index of a run: model and fences side by side, bytes, build, lookups
    runs        whole runs: what stays in memory, what an index costs beside the rest
    machine     prefetching and pinning: the unsafe part
```

Nothing here opens a database. Times are those that one thread was running; a *single* lookup waits for the one before it.
*/

mod keys;
mod machine;
mod measure;
mod runs;
mod slices;
mod structures;

use crate::failure::Failure;
use crate::result::TableOfFigures;
use crate::settings::Settings;
use crate::workload::{Entry, Kind};
use crate::workloads::note;
use keys::{Distribution, Workload};
use measure::{Figures, Spread};
use serde_json::Value;
use structures::Structure;

/// How `list` shows it.
pub(crate) const ENTRY: Entry = Entry {
    name: "learned-index",
    about: "five key distributions over BTreeMap, binary search, Eytzinger, S+-tree and the learned model; no database",
    kind: Kind::Tables(run),
    not_cold: Some("it works in memory"),
};

/// Keys, unless `--rows` says how many.
const KEYS: u64 = 1_000_000;
/// Keys at most: what 32-bit places can name.
const KEYS_MAX: u64 = 1 << 31;

/// The structure that all ratios are to.
const BASELINE: usize = 0;

fn run(settings: &Settings) -> Result<Vec<TableOfFigures>, Failure> {
    let count = settings.rows.unwrap_or(KEYS);
    if !(1000..=KEYS_MAX).contains(&count) {
        return Err(Failure::Usage(format!("--rows {count}: learned-index takes 1000 to {KEYS_MAX} keys")));
    }
    let count = usize::try_from(count).map_err(|e| Failure::Usage(e.to_string()))?;
    let pinned = machine::pin_to_one_processor();
    let mut details = details_table(count);
    let mut summary = summary_table(count);
    for distribution in Distribution::ALL {
        settings.stop_if_interrupted()?;
        note(settings, &format!("{}: making keys", distribution.name()));
        let workload = Workload::new(distribution, count, settings.seed);
        let structures = Structure::all(&workload.rows)?;
        note(settings, &format!("{}: {} keys, measuring", distribution.name(), workload.rows.len()));
        let figures = measure::compare(&structures, &workload, settings)?;
        add_details(&mut details, &workload, &structures, &figures);
        add_summary(&mut summary, &workload, &structures, &figures);
    }
    if !pinned {
        details.notes.push("The thread could not be pinned to one processor.".into());
    }
    Ok(vec![summary, details, slices::table(settings)?, runs::table(settings)?])
}

fn summary_table(count: usize) -> TableOfFigures {
    let columns = [
        "workload",
        "order",
        "keys",
        "published",
        "goal",
        "ours",
        "batched ×",
        "range ×",
        "single ×",
        "range ×",
        "held",
    ];
    TableOfFigures {
        title: format!("Times faster than BTreeMap, N = {count}"),
        columns: columns.map(str::to_owned).into(),
        rows: Vec::new(),
        notes: vec![
            "ours: the structure that LearnedMap picks itself. batched: in batches of 32, BTreeMap one by one without waiting; \
             single: each lookup waits for the one before."
                .into(),
            "A ratio is that of two measurements next to each other; medians and ranges over the rounds.".into(),
        ],
    }
}

fn details_table(count: usize) -> TableOfFigures {
    let columns = [
        "workload",
        "structure",
        "single ns",
        "range",
        "batched ns",
        "range",
        "bytes a key",
        "build ns a key",
        "what it is",
    ];
    TableOfFigures {
        title: format!("Lookups, N = {count}"),
        columns: columns.map(str::to_owned).into(),
        rows: Vec::new(),
        notes: vec![
            format!(
                "Every value is checked; a tenth of the probes are absent keys. {} alternating rounds after one to warm up, {} \
                 probes each; medians and ranges. One thread, whose own time is taken.",
                measure::ROUNDS,
                keys::PROBES
            ),
            "Probes come in uniformly random order unless the workload's order says otherwise: the original says only that \
             they are existing keys."
                .into(),
            "Keys are i64 with values of 64 bits. BTreeMap is made from sorted rows, its bytes are computed from full nodes. All \
             arrays, not BTreeMap, ask for huge pages."
                .into(),
        ],
    }
}

fn add_details(table: &mut TableOfFigures, workload: &Workload, structures: &[Structure], figures: &[Figures]) {
    for (structure, figures) in structures.iter().zip(figures) {
        let bytes = structure.bytes() as f64 / workload.rows.len() as f64;
        let build = structure.build_nanos() / workload.rows.len() as f64;
        table.rows.push(vec![
            format!("{}, {}", workload.distribution.name(), workload.distribution.order()).into(),
            structure.name().into(),
            rounded(figures.single.median),
            range(figures.single),
            rounded(figures.batched.median),
            range(figures.batched),
            rounded(bytes),
            rounded(build),
            structure.about().into(),
        ]);
    }
}

fn add_summary(table: &mut TableOfFigures, workload: &Workload, structures: &[Structure], figures: &[Figures]) {
    let ours = structures.iter().position(Structure::is_picked);
    let (Some(ours), Some(baseline)) = (ours, figures.get(BASELINE)) else { return };
    let (Some(structure), Some(figures)) = (structures.get(ours), figures.get(ours)) else { return };
    let batched = Spread::of_ratios(&baseline.batched_rounds, &figures.batched_rounds);
    let single = Spread::of_ratios(&baseline.single_rounds, &figures.single_rounds);
    let (published, goal) = workload.distribution.to_beat();
    table.rows.push(vec![
        workload.distribution.name().into(),
        workload.distribution.order().into(),
        workload.rows.len().into(),
        published.map_or(Value::Null, Value::from),
        goal.map_or(Value::Null, Value::from),
        structure.name().into(),
        rounded(batched.median),
        range(batched),
        rounded(single.median),
        range(single),
        goal.map_or("—", |goal| if batched.median >= goal { "yes" } else { "NO" }).into(),
    ]);
}

/// Three digits that mean something.
fn rounded(figure: f64) -> Value {
    Value::from(text(figure))
}

fn range(spread: Spread) -> Value {
    Value::from(format!("{}–{}", text(spread.least), text(spread.most)))
}

fn text(figure: f64) -> String {
    match figure {
        f if f < 10.0 => format!("{f:.2}"),
        f if f < 100.0 => format!("{f:.1}"),
        f => format!("{f:.0}"),
    }
}
