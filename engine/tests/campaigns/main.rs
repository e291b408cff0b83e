/*!
Campaigns: the engine on a simulated disk that loses power at every operation, fails any call, and runs many threads from
one seed. docs/testing.md says what each one shows, how to run it longer, and how to run one failure again.

```text
    model        what a database must hold after each commit, and how to compare
    workloads    what is done to a database while it is being tormented
    crash        power loss at every I/O operation
    fault        a fault at every call
    simulation   threads, faults and crashes from one seed
    teeth        seeded bugs, each of which the others must find
```
*/
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // a campaign's own threads and clocks are the system's
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap)]

mod crash;
mod fault;
mod model;
mod simulation;
#[cfg(feature = "mutants")]
mod teeth;
mod workloads;

/// A number from the environment.
fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
}
