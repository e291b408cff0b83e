//! See `omendb_engine::fuzzing::manifest_file`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| omendb_engine::fuzzing::manifest_file(bytes));
