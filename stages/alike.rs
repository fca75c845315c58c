//! Answers that say nothing: the same to every row.

use bam_contract::task::TaskSpec;

/// As a share of the task's range: fp32 rounds values near 1 by 1e-7, and each layer adds to it.
const LEAST_SPREAD: f64 = 1e-5;

/// How far apart answers in the label's own terms are, if they are all but the same; of one row nothing can be said.
pub(crate) fn spread(task: &TaskSpec, answers: &[f64]) -> Option<f64> {
    let least = answers.iter().copied().reduce(f64::min).filter(|_| answers.len() > 1)?;
    let spread = answers.iter().copied().reduce(f64::max)? - least;
    let are_alike = match task.range {
        Some([from, to]) => spread < LEAST_SPREAD * (to - from),
        None => spread == 0.0,
    };
    are_alike.then_some(spread)
}
