//! Logits in the labels' own terms.

use bam_contract::task::TaskSpec;

/// What a head says of a row.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// Probability of each class, in the order of the task's labels.
    Classes(Vec<f64>),
    /// A regression's value in the task's own range, which it may leave a little.
    Value(f64),
}

impl Answer {
    pub fn of(task: &TaskSpec, logits: &[f32]) -> Self {
        if task.is_regression() { Self::Value(task.prediction(logits)) } else { Self::Classes(softmax(logits)) }
    }
}

/// Index of the greatest, the first of equal ones.
pub fn likeliest(probabilities: &[f64]) -> usize {
    (1..probabilities.len()).fold(0, |best, at| if probabilities[at] > probabilities[best] { at } else { best })
}

/// In double precision, so that the probabilities add up to 1 as closely as they are printed.
fn softmax(logits: &[f32]) -> Vec<f64> {
    let greatest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f64> = logits.iter().map(|logit| f64::from(logit - greatest).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|power| power / sum).collect()
}

#[cfg(test)]
mod tests {
    use bam_contract::tasks;

    use super::*;

    #[test]
    fn classes_are_probabilities_and_values_lie_in_the_tasks_range() {
        let Answer::Classes(of_three) = Answer::of(&tasks::builtin("mnli").unwrap(), &[1000.0, 1000.0, 0.0]) else {
            panic!("a task of classes");
        };
        assert_eq!(of_three, [0.5, 0.5, 0.0]);
        assert_eq!(likeliest(&of_three), 0);
        assert_eq!(Answer::of(&tasks::builtin("stsb").unwrap(), &[0.5]), Answer::Value(2.5));
    }
}
