//! The world's only source of chance: SplitMix64 over the scenario's seed. Not for secrets; it makes ids, MACs and the
//! choice of free addresses the same in every run of the same scenario and calls, which is what a failing test needs. Reads
//! draw from a stream of their own, so that looking does not change what comes next.

/// A deterministic stream of numbers.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `bound`, which is not 0. The bias of the remainder is far below what matters here.
    pub(crate) const fn below(&mut self, bound: u32) -> u32 {
        #[expect(clippy::cast_possible_truncation, reason = "the remainder is below a u32")]
        {
            (self.next() % bound as u64) as u32
        }
    }
}

const fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// A check value of `bytes` that only who knows `key` can make on purpose; good enough to tell our tokens from noise.
pub(crate) fn seal(key: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(mix(key ^ 0x5eed), |sum, byte| mix(sum ^ u64::from(*byte)))
}
