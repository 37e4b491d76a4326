//! libFuzzer's door to [`spur_fuzz`]'s target `imds_request`, which says what it feeds and what must hold. Nothing else belongs here:
//! the same function replays the corpus on stable.
//! Run it by `fuzz/run SECONDS imds_request`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = spur_fuzz::target("imds_request")(bytes);
});
