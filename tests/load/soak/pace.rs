//! How much is sent and when.

use std::time::Duration;

/// Most bytes of a burst: what a large update of a screen, or a pasted text, has.
const BURST_MAX: f64 = 65_536.0;

/// The length of a burst in bytes: 1 to 64 KiB, each power of two as likely as the others.
pub(crate) fn burst(random: &mut fastrand::Rng) -> usize {
    BURST_MAX.powf(random.f64()) as usize
}

/// The time until the next burst, at random (exponentially distributed) around a mean.
pub(crate) fn pause(mean: Duration, random: &mut fastrand::Rng) -> Duration {
    // 0 is not in the range of the logarithm; the rarest pause is some seven times the mean.
    mean.mul_f64(-random.f64().max(1e-3).ln())
}

/// How lively a session is: the mean time between bursts. Most are, some are busy, and some are left alone
/// for longer than the filter's ping interval.
pub(crate) fn gap(random: &mut fastrand::Rng) -> Duration {
    Duration::from_millis(match random.u8(0..10) {
        0 => 500,
        1..8 => 4_000,
        8 => 20_000,
        _ => 90_000,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bursts_have_every_size_and_none_is_empty() {
        let mut random = fastrand::Rng::with_seed(1);
        let bursts: Vec<usize> = (0..10_000).map(|_| burst(&mut random)).collect();
        assert!(bursts.iter().all(|len| (1..=65_536).contains(len)));
        let small = bursts.iter().filter(|&&len| len < 256).count();
        assert!((4_500..5_500).contains(&small), "half are below the middle power of two: {small}");
    }

    #[test]
    fn pauses_have_their_mean_and_an_end() {
        let mut random = fastrand::Rng::with_seed(1);
        let mean = Duration::from_secs(4);
        let pauses: Vec<Duration> = (0..10_000).map(|_| pause(mean, &mut random)).collect();
        assert!(pauses.iter().all(|pause| *pause < 7 * mean));
        let sum: Duration = pauses.iter().sum();
        assert!((38_000..42_000).contains(&sum.as_secs()), "{sum:?}");
    }
}
