//! libFuzzer's door to [`spur_fuzz`]'s target `previous_result`, which says what it feeds and what must hold. Nothing else belongs here:
//! the same function replays the corpus on stable.
//! Run it by `fuzz/run SECONDS previous_result`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = spur_fuzz::target("previous_result")(bytes);
});
