/*!
A result as JSON.

The field `schema` is [`SCHEMA`]; its number goes up with every change that would mislead a reader of the old one. A field that a
reader does not know means nothing to it; one that an older writer did not know has its default. docs/bench.md describes all of them.

Names of times and sizes end with their unit: `_seconds`, `_bytes`; those of distributions are nanoseconds throughout.
*/

use crate::environment::Environment;
use crate::failure::Failure;
use crate::latency::{Distribution, Quantiles};
use crate::record::DeviceReads;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::path::Path;

/// What this is, and its version.
pub(crate) const SCHEMA: &str = "omendb-bench/1";

/// Bytes of a result's file at most: some thousand times what the longest run writes of each operation.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// Everything that is kept of a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct RunResult {
    pub(crate) schema: String,
    pub(crate) workload: String,
    /// Why the run is no valid measurement, if it is none.
    pub(crate) failure: Option<String>,
    /// When it began, in seconds since 1970 UTC.
    pub(crate) started_unix_seconds: u64,
    /// The program's version.
    pub(crate) version: String,
    /// What it was built from.
    pub(crate) git_revision: String,
    pub(crate) environment: Environment,
    pub(crate) settings: RunSettings,
    /// What the workload says of itself: rows, batches, shares of operations.
    pub(crate) parameters: Map<String, Value>,
    /// How long was measured.
    pub(crate) elapsed_seconds: f64,
    pub(crate) operations: Vec<Operation>,
    /// What walks with the yardstick took; see [`crate::yardstick`].
    pub(crate) yardstick: Option<Distribution>,
    /// Operations that became due and were not begun, at a rate.
    pub(crate) unserved: u64,
    pub(crate) samples: Vec<Sample>,
    pub(crate) engine: Option<EngineFigures>,
    pub(crate) indexes: Vec<IndexFigures>,
    /// What was looked at after the clients had ended.
    pub(crate) verified: String,
    /// What a workload that measures in its own way has found.
    pub(crate) tables: Vec<TableOfFigures>,
}

/// What was asked for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct RunSettings {
    pub(crate) clients: usize,
    pub(crate) duration_seconds: f64,
    pub(crate) warmup_seconds: f64,
    /// How long each of `samples` is meant to be.
    pub(crate) interval_seconds: f64,
    /// Operations a second; none in a closed loop.
    pub(crate) rate: Option<f64>,
    pub(crate) seed: u64,
    /// Whether nothing of the database's files lay in memory when an operation began.
    pub(crate) cold: bool,
    /// When a commit is acknowledged.
    pub(crate) sync: String,
    pub(crate) cache_bytes: u64,
    pub(crate) memory_bytes: u64,
}

/// What came of one operation.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Operation {
    pub(crate) name: String,
    pub(crate) count: u64,
    pub(crate) rows: u64,
    pub(crate) retries: u64,
    pub(crate) errors: u64,
    /// Whether it commits, and so waits for the device; none in results of older programs.
    pub(crate) commits: Option<bool>,
    /// From begin to end.
    pub(crate) service: Distribution,
    /// From when it was due to its end; none in a closed loop.
    pub(crate) response: Option<Distribution>,
    /// What the kernel says was read from the device for it; only of a cold run.
    pub(crate) device_reads: Option<DeviceReads>,
}

/// One interval of a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Sample {
    /// When it began, after the warm-up.
    pub(crate) at_seconds: f64,
    /// How long it was.
    pub(crate) seconds: f64,
    /// By operation, in the order of the result's.
    pub(crate) operations: Vec<OperationSample>,
    pub(crate) yardstick: Option<Quantiles>,
    pub(crate) engine: Option<EngineSample>,
}

/// One operation in one interval.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct OperationSample {
    pub(crate) count: u64,
    pub(crate) rows: u64,
    pub(crate) service: Quantiles,
    pub(crate) response: Option<Quantiles>,
    /// Bytes read from the device; only of a cold run.
    pub(crate) device_bytes: Option<u64>,
}

/// The engine in one interval: what it did, and how it stood at the end.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct EngineSample {
    pub(crate) flushes: u64,
    pub(crate) merges: u64,
    /// What commits waited because flushes, merges or the log had fallen behind.
    pub(crate) delay_seconds: f64,
    /// Why they would have to wait at the end.
    pub(crate) delay_cause: String,
    pub(crate) committed_bytes: u64,
    pub(crate) logged_bytes: u64,
    pub(crate) written_bytes: u64,
    pub(crate) cache_hits: u64,
    pub(crate) cache_misses: u64,
    pub(crate) debt_bytes: u64,
    pub(crate) runs: u64,
    pub(crate) run_bytes: u64,
}

/// The engine while clients were measured, and how it stood after.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct EngineFigures {
    /// How files were written and read, and why not in a better way.
    pub(crate) io: String,
    pub(crate) io_notice: Option<String>,
    pub(crate) flushes: u64,
    pub(crate) merges: u64,
    pub(crate) delay_seconds: f64,
    pub(crate) committed_bytes: u64,
    pub(crate) logged_bytes: u64,
    pub(crate) flushed_bytes: u64,
    pub(crate) merged_bytes: u64,
    /// Of log and runs.
    pub(crate) written_bytes: u64,
    /// Bytes written for each that was committed; none where nothing was.
    pub(crate) write_amplification: Option<f64>,
    /// Bytes of runs for each of the last levels; none where these are empty.
    pub(crate) space_amplification: Option<f64>,
    pub(crate) cache_hits: u64,
    pub(crate) cache_misses: u64,
    pub(crate) debt_bytes: u64,
    pub(crate) runs: u64,
    pub(crate) run_bytes: u64,
    pub(crate) memtable_bytes: u64,
}

/// The indexes of a table's runs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct IndexFigures {
    pub(crate) table: String,
    /// Newest first.
    pub(crate) runs: Vec<IndexOfRun>,
    /// How far models are off, in slices, before residuals mend it: how often each distance was seen among samples.
    pub(crate) residuals: Vec<(i32, u64)>,
}

/// The index of a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct IndexOfRun {
    pub(crate) level: u8,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    pub(crate) slices: u64,
    pub(crate) kind: String,
    pub(crate) segments: u64,
    pub(crate) exceptions: u64,
    /// How far lines may be off, in slices.
    pub(crate) epsilon: u64,
    pub(crate) index_bytes: u64,
}

/// A table of figures, as a workload of its own kind gives it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct TableOfFigures {
    pub(crate) title: String,
    /// Names of columns, with their units.
    pub(crate) columns: Vec<String>,
    /// A cell for each column: text, a number, or null.
    pub(crate) rows: Vec<Vec<Value>>,
    /// What a reader must know beside it.
    pub(crate) notes: Vec<String>,
}

impl RunResult {
    /// As JSON that ends with a line end.
    ///
    /// # Errors
    /// What serde says; there is no reason why it should.
    pub(crate) fn to_json(&self) -> Result<String, Failure> {
        let json = serde_json::to_string(self).map_err(|e| Failure::File(format!("cannot write the result: {e}")))?;
        Ok(json + "\n")
    }

    /// Reads a result.
    ///
    /// # Errors
    /// That the file can't be read, is no result, or one of another version.
    pub(crate) fn read(path: &Path) -> Result<RunResult, Failure> {
        let length = std::fs::metadata(path).map_err(|e| Failure::file("read", path, e))?.len();
        if length > FILE_BYTES_MAX {
            return Err(Failure::file("read", path, format!("{length} bytes are too many for a result")));
        }
        let text = std::fs::read_to_string(path).map_err(|e| Failure::file("read", path, e))?;
        RunResult::of_json(&text).map_err(|why| Failure::file("use", path, why))
    }

    fn of_json(text: &str) -> Result<RunResult, String> {
        let value: Value = serde_json::from_str(text).map_err(|e| format!("it is not JSON: {e}"))?;
        let schema = value.get("schema").and_then(Value::as_str);
        match schema {
            Some(SCHEMA) => serde_json::from_value(value).map_err(|e| format!("it is no result: {e}")),
            Some(other) if other.starts_with("omendb-bench/") => Err(format!(
                "it is of schema {other}, and this program reads {SCHEMA}: make it again, or take the other program"
            )),
            _ => Err("it is no result of omendb-bench: it has no field \"schema\" that says so".into()),
        }
    }

    /// The samples of at least half the usual length: the last one may be a rest.
    pub(crate) fn whole_samples(&self) -> impl Iterator<Item = &Sample> {
        let least = self.settings.interval_seconds / 2.0;
        self.samples.iter().filter(move |sample| sample.seconds > least.max(1e-9))
    }

    /// Bytes that were read from the device for all operations; only of a cold run.
    pub(crate) fn device_bytes(&self) -> Option<u64> {
        let reads: Vec<_> = self.operations.iter().filter_map(|operation| operation.device_reads).collect();
        self.settings.cold.then(|| reads.iter().map(|reads| reads.bytes).sum())
    }

    /// Operations a second while it was measured.
    pub(crate) fn throughput(&self) -> f64 {
        let count: u64 = self.operations.iter().map(|operation| operation.count).sum();
        if self.elapsed_seconds > 0.0 { count as f64 / self.elapsed_seconds } else { 0.0 }
    }
}

impl Operation {
    /// Bytes that were read from the device for one of them, in the mean; none where that was not asked.
    pub(crate) fn device_bytes_each(&self) -> Option<u64> {
        self.device_reads?.bytes.checked_div(self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A result with something in every field.
    fn full() -> RunResult {
        let distribution = Distribution {
            mean: 1.5,
            min: 1,
            p50: 1,
            p90: 2,
            p99: 2,
            p999: 2,
            p9999: 2,
            max: 2,
            counts: vec![(1, 7), (2, 7)],
        };
        let quantiles = Quantiles { p50: 1, p90: 2, p99: 3, p999: 4, max: 5 };
        RunResult {
            schema: SCHEMA.into(),
            workload: "metrics".into(),
            failure: Some("none really".into()),
            started_unix_seconds: 1_790_000_000,
            version: "0.1.0".into(),
            git_revision: "0123456789ab".into(),
            environment: Environment { cpu: "c".into(), cores: 2, ..Environment::default() },
            settings: RunSettings { rate: Some(0.1), seed: u64::MAX, ..RunSettings::default() },
            parameters: [("rows".to_owned(), Value::from(5)), ("share".to_owned(), Value::from(0.1))]
                .into_iter()
                .collect(),
            elapsed_seconds: 0.1 + 0.2,
            operations: vec![Operation {
                name: "get".into(),
                count: 14,
                commits: Some(false),
                service: distribution.clone(),
                response: Some(distribution),
                device_reads: Some(DeviceReads { bytes: 9, bytes_min: 1, bytes_max: 5 }),
                ..Operation::default()
            }],
            yardstick: Some(Distribution { mean: 2.5, counts: vec![(3, 1)], ..Distribution::default() }),
            unserved: 3,
            samples: vec![Sample {
                at_seconds: 1.0,
                seconds: 1.0,
                operations: vec![OperationSample {
                    count: 1,
                    rows: 1,
                    service: quantiles,
                    response: Some(quantiles),
                    device_bytes: Some(4096),
                }],
                yardstick: Some(quantiles),
                engine: Some(EngineSample { flushes: 1, delay_seconds: 1e-9, ..EngineSample::default() }),
            }],
            engine: Some(EngineFigures { write_amplification: Some(3.25), ..EngineFigures::default() }),
            indexes: vec![IndexFigures {
                table: "t".into(),
                runs: vec![IndexOfRun { level: 1, kind: "model".into(), ..IndexOfRun::default() }],
                residuals: vec![(-1, 2), (0, 9)],
            }],
            verified: "all of it".into(),
            tables: vec![TableOfFigures {
                title: "t".into(),
                columns: vec!["a".into()],
                rows: vec![vec![Value::from("x")], vec![Value::from(1.25)], vec![Value::Null]],
                notes: vec!["n".into()],
            }],
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let result = full();
        assert_eq!(RunResult::of_json(&result.to_json().unwrap()), Ok(result));
    }

    #[test]
    fn fields_that_one_side_does_not_know_are_no_trouble() {
        let json = format!("{{\"schema\":\"{SCHEMA}\",\"workload\":\"w\",\"new\":{{\"x\":1}}}}");
        let read = RunResult::of_json(&json).unwrap();
        assert_eq!(read, RunResult { schema: SCHEMA.into(), workload: "w".into(), ..RunResult::default() });
    }

    #[test]
    fn other_files_are_refused_with_a_reason() {
        let why = |text: &str| RunResult::of_json(text).unwrap_err();
        assert!(why("x").contains("not JSON"));
        assert!(why("{}").contains("no field \"schema\""));
        assert!(why("{\"schema\":\"omendb-bench/2\"}").contains("omendb-bench/2"));
        assert!(why(&format!("{{\"schema\":\"{SCHEMA}\",\"operations\":5}}")).contains("no result"));
    }
}
