//! Figures, for people: `cargo test --release -p omendb-engine measure -- --ignored --nocapture`.

use super::support::*;
use crate::cache::Cache;
use crate::io;
use crate::key::KeyRange;
use crate::run::*;
use crate::types::*;
use arrow::array::{ArrayRef, Float64Array, Int64Array, TimestampMicrosecondArray};
use std::path::Path;
use std::sync::Arc;

/// Nanoseconds that this thread has had of a processor: what other programs on the machine don't change.
fn cpu_nanos() -> u64 {
    let file = io::posix().open(Path::new("/proc/thread-self/schedstat"), io::OpenMode::Read).unwrap();
    let text = file.read_at(0, 100).unwrap();
    std::str::from_utf8(&text).unwrap().split(' ').next().unwrap().parse().unwrap()
}

const SERIES: i64 = 1000;

/// Training metrics of one series: run_id, step, ts, loss, acc, lr.
fn metrics(schema: &RunSchema, series: i64, steps: i64, random: &mut Random) -> RunBatch {
    let noise = |random: &mut Random| random.below(10_000) as f64 / 10_000.0;
    let round = |value: f64| (value * 1e4).round() / 1e4;
    let losses = (0..steps).map(|step| round(2.5 / (1.0 + step as f64 / 400.0) + noise(random) / 20.0));
    let losses: ArrayRef = Arc::new(Float64Array::from_iter_values(losses));
    let accuracies = (0..steps).map(|step| round(1.0 - 0.9 / (1.0 + step as f64 / 300.0) - noise(random) / 50.0));
    let accuracies: ArrayRef = Arc::new(Float64Array::from_iter_values(accuracies));
    let times =
        (0..steps).map(|step| 1_700_000_000_000_000 + step * 1_000_000 + series * 997 + random.below(2000) as i64);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_value(series, steps as usize)),
        Arc::new(Int64Array::from_iter_values(0..steps)),
        Arc::new(TimestampMicrosecondArray::from_iter_values(times)),
        losses,
        accuracies,
        Arc::new(Float64Array::from_iter_values((0..steps).map(|step| 0.001 * 0.5f64.powi((step / 1000) as i32)))),
    ];
    let keys = schema.key.encode_arrays(&columns[..2]).unwrap();
    RunBatch { seqs: vec![5; steps as usize], keys, tombstones: None, columns }
}

#[test]
#[ignore = "figures, not a test"]
fn metrics_table() {
    let directory = tempfile::tempdir().unwrap();
    let io = io::posix();
    let others = [ColumnType::Timestamp, ColumnType::Float64, ColumnType::Float64, ColumnType::Float64];
    let schema = schema(&[ColumnType::Int64, ColumnType::Int64], &others);
    let nanos = |since: u64| (cpu_nanos() - since) as f64;
    let steps = 5000;
    let random = &mut Random(1);
    let batches: Vec<RunBatch> = (0..SERIES).map(|series| metrics(&schema, series, steps, random)).collect();
    let rows = (SERIES * steps) as f64;
    for (layout, threads) in [(Layout::Column, 0), (Layout::Column, 1), (Layout::Column, 2), (Layout::Row, 2)] {
        let id = RunId(10 + threads as u64 + if layout == Layout::Row { 10 } else { 0 });
        let since = cpu_nanos();
        let mut writer = RunWriter::create(&io, directory.path(), id, &schema, options(layout, None, threads)).unwrap();
        batches.iter().for_each(|batch| writer.write(batch).unwrap());
        let meta = writer.finish().unwrap();
        println!(
            "{layout:?} threads {threads}: write {:.0} ns/row, {:.2} bytes/row",
            nanos(since) / rows,
            meta.bytes as f64 / rows
        );
        let run = Run::open(&io, directory.path(), meta, &Cache::new(256 << 20)).unwrap();
        let since = cpu_nanos();
        let slices = run.slices().unwrap();
        println!("  open {:.0} us, {slices} slices, {:?}", nanos(since) / 1e3, run.index_stats().unwrap().index.kind);
        for (name, projection) in
            [("1 int + 3 floats", vec![0, 3, 4, 5]), ("all", (0..6).collect()), ("1 float", vec![3])]
        {
            for round in ["cold", "warm"] {
                let projection = projection.iter().map(|at: &usize| schema.columns[*at]).collect();
                let options = RunScanOptions {
                    range: KeyRange::all(),
                    projection,
                    with_keys: false,
                    predicates: vec![],
                    prune: false,
                    reverse: false,
                };
                let since = cpu_nanos();
                let mut scan = run.scan(options);
                let mut seen = 0;
                while let Some(batch) = scan.next().unwrap() {
                    seen += batch.len();
                }
                println!("  scan {name}, {round}: {:.2} ns/row ({seen} rows)", nanos(since) / rows);
            }
        }
        let gets = 300_000;
        let mut values = Vec::new();
        for round in 0..2 {
            let since = cpu_nanos();
            for _ in 0..gets {
                let (series, step) = (random.below(SERIES as usize) as i64, random.below(steps as usize) as i64);
                let key = schema.key.encode(&[Value::Int(series), Value::Int(step)]).unwrap();
                let found = run.find(key.as_ref()).unwrap().unwrap();
                values.clear();
                run.read_row(&found, &schema.columns, &mut values).unwrap();
                assert_eq!(values[1], Value::Int(step));
            }
            println!("  get of 6 columns, round {round}: {:.3} us", nanos(since) / 1e3 / f64::from(gets));
        }
        let stats = run.index_stats().unwrap();
        println!(
            "  memory {:.1} bytes/slice, index {:.2}",
            stats.memory_bytes as f64 / slices as f64,
            stats.index.bytes_per_slice
        );
    }
}
