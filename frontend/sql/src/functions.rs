/*!
Functions that DataFusion lacks or answers differently from PostgreSQL.

```text
    pg_typeof(any)                  the type's name, as text
    gen_random_uuid()               a random uuid (version 4), another one for each row
    now(), current_timestamp, …     timestamptz in microseconds
    sqrt, ln, log, exp, power, …    fail where PostgreSQL fails, instead of NaN and infinity: [`strict`]
    abs                             fails for the smallest integer, which has no opposite
    floor, ceil                     of a numeric have no digits after the point: [`parts`]
    extract, date_part              seconds keep their fraction: [`parts`]
```

What metrics work may miss and is not there: age, to_char with PostgreSQL's patterns, width_bucket, justify_interval,
jsonb operators, sequences.
*/

mod parts;
mod scalar;
mod strict;

use datafusion::logical_expr::ScalarUDF;
use std::sync::Arc;

/// DataFusion's scalar functions with ours among them, or in their place.
pub(crate) fn scalar(functions: Vec<Arc<ScalarUDF>>) -> Vec<Arc<ScalarUDF>> {
    let ours = scalar::all();
    let mut all: Vec<Arc<ScalarUDF>> = functions
        .into_iter()
        .filter(|function| !ours.iter().any(|other| other.name() == function.name()))
        .map(|function| strict::wrapped(&function).or_else(|| parts::wrapped(&function)).unwrap_or(function))
        .collect();
    all.extend(ours);
    all
}

/// `extract`, which the planner makes a function of by itself.
pub(crate) fn extract() -> Arc<ScalarUDF> {
    let date_part = datafusion::functions::datetime::date_part();
    parts::wrapped(&date_part).unwrap_or(date_part)
}
