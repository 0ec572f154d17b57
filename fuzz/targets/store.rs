//! Random operations on the store, with its own full check after each.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| everfresh::fuzzing::store(data));
