//! See `omendb_engine::fuzzing::log_segment`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| omendb_engine::fuzzing::log_segment(bytes));
