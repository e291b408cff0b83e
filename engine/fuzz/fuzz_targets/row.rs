//! See `omendb_engine::fuzzing::row`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| omendb_engine::fuzzing::row(bytes));
