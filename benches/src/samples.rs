//! A handful of measured values and what is told of them: the median, and the spread between the 10th and the 90th percentile.
//!
//! Means are not used: one preemption on a shared machine would move them.

/// Measured values in the order of their rounds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Samples(Vec<f64>);

impl Samples {
    /// Adds the value of the next round.
    pub fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// True when nothing was measured.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value below which this share of the values lies, interpolated; NaN when nothing was measured.
    #[must_use]
    pub fn quantile(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
        #[expect(clippy::cast_precision_loss, reason = "a handful of samples")]
        let at = share.clamp(0.0, 1.0) * last as f64;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to the last index")]
        let below = at.floor() as usize;
        let above = (below + 1).min(last);
        sorted[below] + (sorted[above] - sorted[below]) * at.fract()
    }

    /// The median.
    #[must_use]
    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// The 10th and the 90th percentile.
    #[must_use]
    pub fn spread(&self) -> (f64, f64) {
        (self.quantile(0.1), self.quantile(0.9))
    }

    /// Round by round, how many times `self` is `other`.
    #[must_use]
    pub fn over(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(own, other)| own / other).collect())
    }
}

impl FromIterator<f64> for Samples {
    fn from_iter<T: IntoIterator<Item = f64>>(values: T) -> Self {
        Self(values.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::Samples;

    #[test]
    fn quantiles_lie_between_the_values() {
        let samples: Samples = [4.0, 1.0, 3.0, 2.0].into_iter().collect();
        assert_eq!(samples.median(), 2.5);
        assert_eq!(samples.quantile(0.0), 1.0);
        assert_eq!(samples.quantile(1.0), 4.0);
        assert_eq!([7.0].into_iter().collect::<Samples>().spread(), (7.0, 7.0));
        assert!(Samples::default().median().is_nan());
    }

    #[test]
    fn a_ratio_is_made_within_its_round() {
        let slow: Samples = [10.0, 40.0, 20.0].into_iter().collect();
        let fast: Samples = [1.0, 4.0, 2.0].into_iter().collect();
        // The machine was four times slower in one round; the ratio does not see it.
        assert_eq!(slow.over(&fast).spread(), (10.0, 10.0));
    }
}
