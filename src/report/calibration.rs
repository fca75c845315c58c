//! Calibration: whether a model that is 80% sure is right 80% of the time.

use serde::Serialize;

/// Bins of equal width between 0 and 1.
const BINS: usize = 10;

#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Calibration {
    /// Expected calibration error: mean gap between confidence and accuracy, weighted by rows.
    pub(crate) expected_error: f64,
    /// Those that hold rows.
    pub(crate) bins: Vec<Bin>,
}

/// Rows whose likeliest class has a probability in one tenth of the scale.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Bin {
    pub(crate) rows: usize,
    pub(crate) mean_confidence: f64,
    pub(crate) accuracy: f64,
}

impl Calibration {
    /// Of each row's class probabilities, predicted class and gold class.
    pub(super) fn of(shares: &[Vec<f64>], predicted: &[f64], gold: &[f64]) -> Self {
        let mut sums = [(0_usize, 0.0, 0.0); BINS];
        for ((shares, predicted), gold) in shares.iter().zip(predicted).zip(gold) {
            let confidence = shares[*predicted as usize];
            // A bin holds its upper bound, and the last one 1.
            let bin = ((confidence * BINS as f64).ceil() as usize).clamp(1, BINS) - 1;
            let (rows, confidences, right) = &mut sums[bin];
            *rows += 1;
            *confidences += confidence;
            *right += f64::from(u8::from(predicted == gold));
        }
        let mean = |(rows, confidences, right): (usize, f64, f64)| {
            let count = rows as f64;
            Bin { rows, mean_confidence: confidences / count, accuracy: right / count }
        };
        let bins: Vec<Bin> = sums.into_iter().filter(|(rows, ..)| *rows > 0).map(mean).collect();
        let all = predicted.len() as f64;
        let expected_error =
            bins.iter().map(|bin| bin.rows as f64 / all * (bin.mean_confidence - bin.accuracy).abs()).sum();
        Self { expected_error, bins }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worked_by_hand() {
        // Two rows 75% sure, of which one is right; two rows 100% sure and right.
        let shares = [[0.75, 0.25], [0.25, 0.75], [1.0, 0.0], [0.0, 1.0]].map(|row| row.to_vec());
        let found = Calibration::of(&shares, &[0.0, 1.0, 0.0, 1.0], &[0.0, 0.0, 0.0, 1.0]);
        assert_eq!(found.expected_error, 0.125);
        let bins: Vec<(usize, f64, f64)> =
            found.bins.iter().map(|bin| (bin.rows, bin.mean_confidence, bin.accuracy)).collect();
        assert_eq!(bins, [(2, 0.75, 0.5), (2, 1.0, 1.0)]);
    }
}
