//! The only source of chance: SplitMix64. Each part of a run draws from a stream of its own, named by the seed and by what it decides, so that
//! the schedule of a round is the same in every run with its seed, whatever the others do meanwhile.

use std::time::Duration;

/// A stream of numbers.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// The stream of this seed for this part.
    #[must_use]
    pub fn of(seed: u64, part: &[u64]) -> Self {
        Self(part.iter().fold(mix(seed ^ 0x5eed), |state, number| mix(state ^ mix(number.wrapping_add(1)))))
    }

    fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        // Both casts are of numbers below `bound`.
        usize::try_from(self.draw() % bound as u64).unwrap_or_default()
    }

    /// True in so many of a hundred cases.
    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// A time from the first up to the second, in milliseconds, to the microsecond.
    pub fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_micros(from * 1000 + self.draw() % ((to.saturating_sub(from)) * 1000 + 1))
    }
}

const fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_the_same_again_and_another_part_draws_others() {
        let draw = |seed, part: &[u64]| {
            let mut dice = Dice::of(seed, part);
            (0..20).map(|_| dice.below(1000)).collect::<Vec<_>>()
        };
        assert_eq!(draw(7, &[1, 2]), draw(7, &[1, 2]));
        for other in [draw(8, &[1, 2]), draw(7, &[2, 1]), draw(7, &[1]), draw(7, &[])] {
            assert_ne!(draw(7, &[1, 2]), other);
        }
    }

    #[test]
    fn numbers_stay_in_their_bounds() {
        let mut dice = Dice::of(1, &[]);
        for _ in 0..1000 {
            assert!(dice.below(3) < 3);
            let time = dice.millis(5, 9);
            assert!((Duration::from_millis(5)..=Duration::from_millis(9)).contains(&time), "{time:?}");
            assert!(!dice.chance(0) && dice.chance(100));
        }
    }
}
