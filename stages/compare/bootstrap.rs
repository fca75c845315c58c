//! The paired bootstrap over dev rows: both methods are scored on the same draws.

use bam_contract::artifact::comparison::Bootstrap;
use bam_contract::resample::{draw, median, middle_95};
use rayon::prelude::*;

/// What `measure` says of predictions and gold labels: each trial on each resample of the rows, `[trial][resample]`. The same `seed` and `stream` draw the same rows.
pub(super) fn resampled(
    measure: &(impl Fn(&[f64], &[f64]) -> f64 + Sync),
    trials: &[&[f64]],
    gold: &[f64],
    resamples: usize,
    (seed, stream): (u64, u32),
) -> Vec<Vec<f64>> {
    let on_sample = |sample: usize| -> Vec<f64> {
        let rows = draw(gold.len(), seed, (u64::from(stream) << 32) | sample as u64);
        let pick = |values: &[f64]| rows.iter().map(|row| values[*row]).collect::<Vec<_>>();
        let gold = pick(gold);
        trials.iter().map(|predicted| measure(&pick(predicted), &gold)).collect()
    };
    let by_sample: Vec<Vec<f64>> = (0..resamples).into_par_iter().map(on_sample).collect();
    (0..trials.len()).map(|trial| by_sample.iter().map(|scores| scores[trial]).collect()).collect()
}

/// Of the difference of the medians over trials; both sides `[trial][resample]`.
pub(super) fn paired(method: &[Vec<f64>], other: &[Vec<f64>]) -> Bootstrap {
    let resamples = method[0].len();
    let median_on =
        |trials: &[Vec<f64>], sample: usize| median(&trials.iter().map(|scores| scores[sample]).collect::<Vec<_>>());
    let differences: Vec<f64> =
        (0..resamples).map(|sample| median_on(method, sample) - median_on(other, sample)).collect();
    let at_most_0 = differences.iter().filter(|difference| **difference <= 0.0).count();
    let at_least_0 = differences.iter().filter(|difference| **difference >= 0.0).count();
    // The sample itself is one of the draws, so that no p is 0.
    let p = 2.0 * (1 + at_most_0.min(at_least_0)) as f64 / (resamples + 1) as f64;
    let p = p.min(1.0);
    Bootstrap { resamples, interval: middle_95(&differences), p, p_holm: p }
}
