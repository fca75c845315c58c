//! Draws with replacement, and quantiles of what comes out.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// Row numbers of one bootstrap sample: as many as there are rows, drawn with replacement. Each `sample` of a seed is a
/// stream of its own, so that samples can be drawn side by side.
pub fn draw(rows: usize, seed: u64, sample: u64) -> Vec<usize> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(sample);
    // The high half of a product: any row is drawn as often as any other, to within rows / 2^64.
    (0..rows).map(|_| ((u128::from(random.next_u64()) * rows as u128) >> 64) as usize).collect()
}

/// The value below which that share of the sorted values lies, by linear interpolation as numpy does it.
pub fn quantile(sorted: &[f64], share: f64) -> f64 {
    let at = share * (sorted.len() - 1) as f64;
    let (below, above) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    below + (above - below) * at.fract()
}

pub fn median(values: &[f64]) -> f64 {
    quantile(&sorted(values), 0.5)
}

/// The middle 95% of the values.
pub fn middle_95(values: &[f64]) -> [f64; 2] {
    let sorted = sorted(values);
    [0.025, 0.975].map(|share| quantile(&sorted, share))
}

pub fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_depends_on_its_seed_and_number_alone_and_stays_in_range() {
        assert_eq!(draw(50, 1, 2), draw(50, 1, 2));
        assert_ne!(draw(50, 1, 2), draw(50, 1, 3));
        assert_ne!(draw(50, 1, 2), draw(50, 2, 2));
        let drawn = draw(1000, 7, 0);
        assert!(drawn.iter().all(|row| *row < 1000));
        // A sample leaves out a share of 1/e of the rows: 368 of 1000, give or take a standard deviation of 10.
        let distinct = drawn.iter().collect::<std::collections::BTreeSet<_>>().len();
        assert!((582..682).contains(&distinct), "{distinct}");
    }
}
