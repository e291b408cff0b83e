/*!
What the benchmarks share: the table of training metrics they run on, made from a seed.

The table is what a fleet of training jobs writes: `run_id, step, ts, loss, acc, lr`, one row a step, the rows of all
runs interleaved in time. Losses fall and flatten with noise, accuracies rise, learning rates follow a warm-up and a
cosine; figures are rounded as loggers round them. The same seed gives the same bytes on every machine.
*/
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

pub mod metrics;
