//! See `omendb_engine::fuzzing::run_filter`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| omendb_engine::fuzzing::run_filter(bytes));
