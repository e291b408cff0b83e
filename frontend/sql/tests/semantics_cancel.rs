/*!
A cancelled query ends, with 57014, its tasks and its memory gone — inside joins above all.

Each query would run for minutes or hours. It is started on a runtime of two threads, cancelled after 200 ms, and must have
ended within a bound that is generous, for the machine may be busy; the promise is half a second on an idle one.
*/
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use arrow::array::{ArrayRef, Int64Array};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use datafusion::datasource::MemTable;
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::memory_pool::{GreedyMemoryPool, MemoryPool};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::physical_plan::{displayable, execute_stream};
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::StreamExt;
use omendb_sql::cancel::{CancelToken, protect, without_guards};
use omendb_sql::{SqlError, semantics};
use std::sync::Arc;
use std::time::{Duration, Instant};

const BATCH: i64 = 8192;
/// Far above the promise, far below what any of the queries takes.
const BOUND: Duration = Duration::from_secs(20);

fn table(rows: i64, value: impl Fn(i64) -> i64) -> Arc<MemTable> {
    let schema = Arc::new(Schema::new(vec![Field::new("x", DataType::Int64, false)]));
    let batches = (0..rows)
        .step_by(usize::try_from(BATCH).unwrap())
        .map(|from| {
            let values: Int64Array = (from..(from + BATCH).min(rows)).map(&value).collect::<Vec<_>>().into();
            RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(values) as ArrayRef]).unwrap()
        })
        .collect();
    Arc::new(MemTable::try_new(schema, vec![batches]).unwrap())
}

/// A session over `a` and `b` of a million rows, `one` and `two` of 200,000 rows with one key.
fn context(pool: &Arc<dyn MemoryPool>, change: impl Fn(&mut SessionConfig)) -> SessionContext {
    let mut config = semantics::configure(SessionConfig::new().with_target_partitions(2));
    change(&mut config);
    let runtime = RuntimeEnvBuilder::new().with_memory_pool(Arc::clone(pool)).build_arc().unwrap();
    let builder = SessionStateBuilder::new().with_config(config).with_runtime_env(runtime).with_default_features();
    let context = SessionContext::new_with_state(semantics::register(builder).build());
    context.register_table("a", table(1_000_000, |row| row)).unwrap();
    context.register_table("b", table(1_000_000, |row| -row)).unwrap();
    context.register_table("one", table(200_000, |_| 7)).unwrap();
    context.register_table("two", table(200_000, |_| 7)).unwrap();
    context
}

fn ends_when_cancelled(sql: &str, operator: &str, change: impl Fn(&mut SessionConfig)) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let pool: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(1 << 30));
    let context = context(&pool, change);
    let token = CancelToken::new();
    let plan = runtime.block_on(async { context.sql(sql).await.unwrap().create_physical_plan().await.unwrap() });
    let shown = displayable(plan.as_ref()).indent(false).to_string();
    assert!(shown.contains(operator), "{operator} in\n{shown}");
    let guarded = protect(plan, &token).unwrap();
    assert_eq!(without_guards(&displayable(guarded.as_ref()).indent(false).to_string()), shown);

    let tasks = context.task_ctx();
    let query = runtime.spawn(async move {
        let mut stream = execute_stream(guarded, tasks).unwrap();
        while let Some(batch) = stream.next().await {
            if let Err(error) = batch {
                return Some(SqlError::from(error));
            }
        }
        None
    });
    std::thread::sleep(Duration::from_millis(200));
    assert!(!query.is_finished(), "{sql} ended by itself");
    let cancelled = Instant::now();
    token.cancel();
    let outcome = runtime.block_on(async { tokio::time::timeout(BOUND, query).await });
    let error = outcome.expect("the query ends").unwrap().expect("the query fails");
    println!("{operator}: ended after {:?}", cancelled.elapsed());
    assert_eq!(error.sqlstate(), "57014", "{sql}: {error}");
    while runtime.metrics().num_alive_tasks() > 0 || pool.reserved() > 0 {
        assert!(cancelled.elapsed() < BOUND, "tasks or memory are left over");
        std::thread::sleep(Duration::from_millis(5));
    }
    println!("{operator}: gone after {:?}", cancelled.elapsed());
}

#[test]
fn a_cross_join() {
    // Without the filters the answer would come from statistics.
    let sql =
        "SELECT count(*) FROM (SELECT x FROM a WHERE x % 2 >= 0) p CROSS JOIN (SELECT x FROM b WHERE x % 2 <= 0) q";
    ends_when_cancelled(sql, "CrossJoinExec", |_| {});
}

#[test]
fn a_cross_join_of_values() {
    ends_when_cancelled("SELECT sum(a.x % 7 + b.x) FROM a CROSS JOIN b", "CrossJoinExec", |_| {});
}

#[test]
fn a_nested_loop_join_that_matches_much() {
    ends_when_cancelled("SELECT count(*) FROM a JOIN b ON a.x < b.x + 2000000", "NestedLoopJoinExec", |_| {});
}

#[test]
fn a_nested_loop_join_that_matches_nothing() {
    ends_when_cancelled("SELECT count(*) FROM a JOIN b ON a.x < b.x", "NestedLoopJoinExec", |_| {});
}

#[test]
fn a_nested_loop_left_join() {
    ends_when_cancelled("SELECT count(*) FROM a LEFT JOIN b ON a.x < b.x", "NestedLoopJoinExec", |_| {});
}

#[test]
fn a_hash_join_of_one_key() {
    ends_when_cancelled("SELECT count(*) FROM one JOIN two ON one.x = two.x", "HashJoinExec", |_| {});
}

#[test]
fn a_hash_join_of_one_key_whose_filter_rejects_all() {
    let sql = "SELECT count(*) FROM one JOIN two ON one.x = two.x AND one.x + two.x < 0";
    ends_when_cancelled(sql, "HashJoinExec", |_| {});
}

#[test]
fn a_merge_join_of_one_key() {
    ends_when_cancelled("SELECT count(*) FROM one JOIN two ON one.x = two.x", "SortMergeJoinExec", |config| {
        config.options_mut().optimizer.prefer_hash_join = false;
    });
}

#[test]
fn a_merge_join_of_one_key_whose_filter_rejects_all() {
    let sql = "SELECT count(*) FROM one JOIN two ON one.x = two.x AND one.x + two.x < 0";
    ends_when_cancelled(sql, "SortMergeJoinExec", |config| {
        config.options_mut().optimizer.prefer_hash_join = false;
    });
}

#[test]
fn a_recursion_without_end() {
    let sql = "WITH RECURSIVE c(n) AS (SELECT 1::bigint UNION ALL SELECT n % 5 + 1 FROM c) SELECT count(*) FROM c";
    ends_when_cancelled(sql, "RecursiveQueryExec", |_| {});
}

#[test]
fn a_series() {
    let sql = "SELECT sum(i % 7) FROM generate_series(1, 1000000000000) AS s(i)";
    ends_when_cancelled(sql, "LazyMemoryExec", |_| {});
}

#[test]
fn a_join_that_is_not_cancelled_gives_its_answer() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let pool: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(1 << 30));
    let context = context(&pool, |_| {});
    let answer = runtime.block_on(async {
        let sql = "SELECT count(*) FROM a JOIN b ON a.x = -b.x JOIN (SELECT * FROM one LIMIT 3) o ON o.x < a.x";
        let plan = context.sql(sql).await.unwrap().create_physical_plan().await.unwrap();
        let plan = protect(plan, &CancelToken::new()).unwrap();
        datafusion::physical_plan::collect(plan, context.task_ctx()).await.unwrap()
    });
    let count = answer[0].column(0).as_any().downcast_ref::<Int64Array>().unwrap().value(0);
    assert_eq!(count, 3 * 999_992);
}

#[test]
fn a_token_tells_why() {
    let token = CancelToken::new();
    assert!(token.check().is_ok());
    token.time_out();
    token.cancel();
    assert_eq!(token.check().unwrap_err().message(), "canceling statement due to statement timeout");
    token.reset();
    assert!(!token.is_cancelled());
}
