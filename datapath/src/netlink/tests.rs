//! Readers of kernel bytes: short and odd ones must be refused, not panic.

use super::*;

#[test]
fn decoders_take_any_bytes_without_panic() {
    let mut bytes: Vec<u8> = Vec::new();
    let mut state = 1_u32;
    for length in 0..200 {
        bytes.resize(length, 0);
        for _ in 0..40 {
            for byte in &mut bytes {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                *byte = (state >> 24).to_le_bytes()[0] % 24;
            }
            let _ = (link::decode(&bytes), address::decode(&bytes), route::decode(&bytes));
            let _ = (rule::decode(&bytes), neighbour::decode(&bytes));
        }
    }
}
