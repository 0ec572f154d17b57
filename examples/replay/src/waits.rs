//! Waiting times: their quantiles to a few digits, their mean and the longest exactly.

use std::time::Duration;

use hdrhistogram::Histogram;

#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Waits {
    /// In nanoseconds.
    histogram: Histogram<u64>,
    sum: u128,
    longest: u64,
}

impl Waits {
    /// Quantiles will be right to so many digits, of two to five.
    pub(crate) fn new(digits: u8) -> Waits {
        let mut histogram = match Histogram::new_with_max(2, digits) {
            Ok(histogram) => histogram,
            Err(_) => unreachable!("two to five digits are always possible"),
        };
        histogram.auto(true);
        Waits { histogram, sum: 0, longest: 0 }
    }

    pub(crate) fn record(&mut self, wait: Duration) {
        let nanos = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX);
        // The histogram grows as needed: recording cannot fail.
        let _ = self.histogram.record(nanos);
        self.sum += u128::from(nanos);
        self.longest = self.longest.max(nanos);
    }

    pub(crate) fn absorb(&mut self, other: &Waits) {
        // Both are of one make and grow as needed: adding cannot fail.
        let _ = self.histogram.add(&other.histogram);
        self.sum += other.sum;
        self.longest = self.longest.max(other.longest);
    }

    /// The wait that this share of them did not exceed; never more than the longest.
    pub(crate) fn quantile(&self, share: f64) -> Duration {
        Duration::from_nanos(self.histogram.value_at_quantile(share).min(self.longest))
    }

    pub(crate) fn longest(&self) -> Duration {
        Duration::from_nanos(self.longest)
    }

    pub(crate) fn mean(&self) -> Duration {
        let mean = self.sum / u128::from(self.histogram.len()).max(1);
        Duration::from_nanos(u64::try_from(mean).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_equal_waits_are_that_wait_however_long_it_is() {
        for wait in [Duration::ZERO, Duration::from_secs(1), Duration::from_secs(3 * 3_600 + 7), crate::units::CENTURY]
        {
            let mut waits = Waits::new(2);
            (0..3).for_each(|_| waits.record(wait));
            assert_eq!((waits.quantile(0.5), waits.quantile(1.0)), (wait, wait));
            assert_eq!((waits.mean(), waits.longest()), (wait, wait));
        }
    }

    #[test]
    fn no_quantile_is_above_a_later_one_or_the_longest() {
        let mut waits = Waits::new(2);
        (1..=1_000).for_each(|ms| waits.record(Duration::from_millis(ms)));
        let told = [0.0, 0.5, 0.99, 0.999, 1.0].map(|share| waits.quantile(share));
        assert!(
            told.is_sorted() && told[4] == waits.longest() && waits.longest() == Duration::from_secs(1),
            "{told:?}"
        );
        assert!(told[1].abs_diff(Duration::from_millis(500)) < Duration::from_millis(5));
        let mut sum = waits.clone();
        sum.absorb(&waits);
        assert_eq!((sum.mean(), sum.longest()), (waits.mean(), waits.longest()));
    }
}
