/*!
The generator of the metrics table: rows in time order, as batches.

Every figure is drawn from a counter-based generator (SplitMix64 over seed, run and step), so that a row does not depend
on how many were made before it.
*/

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use std::sync::Arc;

/// What to make.
#[derive(Debug, Clone, Copy)]
pub struct MetricsOptions {
    /// Rows in all; every run gets as many steps as any other, but for the remainder.
    pub rows: u64,
    /// Runs, numbered from 1.
    pub runs: u64,
    /// The seed.
    pub seed: u64,
}

/// `CREATE TABLE` for the metrics, with its key.
pub const METRICS_TABLE: &str = "CREATE TABLE metrics (run_id BIGINT, step BIGINT, ts TIMESTAMP, loss DOUBLE PRECISION, \
                                 acc DOUBLE PRECISION, lr DOUBLE PRECISION, PRIMARY KEY (run_id, step))";

/// Rows of one batch.
const BATCH_ROWS: usize = 64 * 1024;

/// 2026-01-01 00:00 UTC in microseconds.
const START_MICROS: i64 = 1_767_225_600_000_000;

/// The table's columns: two keys, a timestamp in microseconds, three doubles.
pub fn metrics_schema() -> SchemaRef {
    let field = |name: &str, ty: DataType| Field::new(name, ty, false);
    Arc::new(Schema::new(vec![
        field("run_id", DataType::Int64),
        field("step", DataType::Int64),
        field("ts", DataType::Timestamp(TimeUnit::Microsecond, None)),
        field("loss", DataType::Float64),
        field("acc", DataType::Float64),
        field("lr", DataType::Float64),
    ]))
}

/// One row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MetricsRow {
    /// Which run, from 1.
    pub run_id: i64,
    /// Which step of it, from 0.
    pub step: i64,
    /// Microseconds since 1970.
    pub ts: i64,
    /// Falls and flattens.
    pub loss: f64,
    /// Rises and flattens, 0 to 1.
    pub acc: f64,
    /// Warm-up, then cosine.
    pub lr: f64,
}

/// SplitMix64's finaliser over three numbers: uniform, and the same everywhere.
fn draw(seed: u64, run: u64, step: u64, what: u64) -> u64 {
    let mut x = seed
        .wrapping_add(run.wrapping_mul(0x9E37_79B9_7F4A_7C15))
        .wrapping_add(step.wrapping_mul(0xD1B5_4A32_D192_ED03))
        .wrapping_add(what.wrapping_mul(0x8CB9_2BA7_2F3D_8DD7));
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// Uniform in [0, 1).
#[expect(clippy::cast_precision_loss, reason = "53 bits fit a double exactly")]
fn unit(seed: u64, run: u64, step: u64, what: u64) -> f64 {
    (draw(seed, run, step, what) >> 11) as f64 / (1u64 << 53) as f64
}

fn rounded(x: f64, decimals: i32) -> f64 {
    let scale = 10f64.powi(decimals);
    (x * scale).round() / scale
}

impl MetricsOptions {
    /// Steps of `run` (from 0).
    fn steps_of(&self, run: u64) -> u64 {
        self.rows / self.runs + u64::from(run < self.rows % self.runs)
    }

    /// When `step` of `run` was logged: a steady pace with jitter, from a start within the first minute.
    #[expect(clippy::cast_possible_wrap, reason = "less than 2^40 microseconds")]
    fn time_of(&self, run: u64, step: u64) -> i64 {
        let start = draw(self.seed, run, 0, 1) % 60_000_000;
        let pace = 800_000 + draw(self.seed, run, 0, 2) % 400_000;
        let jitter = draw(self.seed, run, step, 3) % 50_000;
        START_MICROS + (start + step * pace + jitter) as i64
    }

    /// The row at `step` of `run` (both from 0).
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_wrap, reason = "counts of rows are far below 2^53")]
    pub fn row(&self, run: u64, step: u64) -> MetricsRow {
        let progress = step as f64 / self.steps_of(run).max(1) as f64;
        let final_loss = 0.2 + unit(self.seed, run, 0, 4);
        let noise = |what| unit(self.seed, run, step, what) + unit(self.seed, run, step, what + 1) - 1.0;
        let loss = final_loss + 6.0 * (-6.0 * progress).exp() + 0.05 * noise(5);
        let acc = (1.0 - 0.9 * (-4.0 * progress).exp() - 0.1 * final_loss + 0.01 * noise(7)).clamp(0.0, 1.0);
        let peak = [0.0001, 0.0003, 0.001, 0.003]
            .get(usize::try_from(draw(self.seed, run, 0, 9) % 4).unwrap_or(0))
            .copied()
            .unwrap_or(0.001);
        let warm = (progress / 0.05).min(1.0);
        let lr = peak * warm * 0.5 * (1.0 + (std::f64::consts::PI * progress).cos());
        MetricsRow {
            run_id: run as i64 + 1,
            step: step as i64,
            ts: self.time_of(run, step),
            loss: rounded(loss, 5),
            acc: rounded(acc, 4),
            lr: rounded(lr, 6),
        }
    }

    /// All rows in time order, in batches.
    pub fn batches(self) -> impl Iterator<Item = Result<RecordBatch, ArrowError>> {
        let mut order: Vec<(i64, u32, u32)> = Vec::with_capacity(usize::try_from(self.rows).unwrap_or(0));
        for run in 0..self.runs {
            for step in 0..self.steps_of(run) {
                let narrow = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
                order.push((self.time_of(run, step), narrow(run), narrow(step)));
            }
        }
        order.sort_unstable();
        let mut at = 0;
        std::iter::from_fn(move || {
            let chunk = order.get(at..(at + BATCH_ROWS).min(order.len())).filter(|chunk| !chunk.is_empty())?;
            at += chunk.len();
            let rows: Vec<MetricsRow> =
                chunk.iter().map(|(_, run, step)| self.row(u64::from(*run), u64::from(*step))).collect();
            Some(batch(&rows))
        })
    }
}

fn batch(rows: &[MetricsRow]) -> Result<RecordBatch, ArrowError> {
    let ints = |f: fn(&MetricsRow) -> i64| -> ArrayRef { Arc::new(Int64Array::from_iter_values(rows.iter().map(f))) };
    let doubles =
        |f: fn(&MetricsRow) -> f64| -> ArrayRef { Arc::new(Float64Array::from_iter_values(rows.iter().map(f))) };
    let columns = vec![
        ints(|r| r.run_id),
        ints(|r| r.step),
        Arc::new(TimestampMicrosecondArray::from_iter_values(rows.iter().map(|r| r.ts))),
        doubles(|r| r.loss),
        doubles(|r| r.acc),
        doubles(|r| r.lr),
    ];
    RecordBatch::try_new(metrics_schema(), columns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_in_time_order_and_each_key_once() {
        let options = MetricsOptions { rows: 10_003, runs: 7, seed: 1 };
        let mut last = i64::MIN;
        let mut seen = std::collections::BTreeSet::new();
        for batch in options.batches() {
            let batch = batch.unwrap();
            let run = batch.column(0).as_any().downcast_ref::<Int64Array>().unwrap();
            let step = batch.column(1).as_any().downcast_ref::<Int64Array>().unwrap();
            let ts = batch.column(2).as_any().downcast_ref::<TimestampMicrosecondArray>().unwrap();
            for i in 0..batch.num_rows() {
                assert!(ts.value(i) >= last);
                last = ts.value(i);
                assert!(seen.insert((run.value(i), step.value(i))));
            }
        }
        assert_eq!(seen.len(), 10_003);
    }

    #[test]
    fn a_row_depends_on_its_seed_run_and_step_alone() {
        let options = MetricsOptions { rows: 5_000_000, runs: 1_000, seed: 42 };
        assert_eq!(options.row(17, 4_000), options.row(17, 4_000));
        assert_ne!(options.row(17, 4_000).loss, MetricsOptions { seed: 43, ..options }.row(17, 4_000).loss);
    }
}
