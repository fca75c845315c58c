//! The loss of a task's rows: against the label, the teacher, or a mix of both.
//!
//! Target of a row: `λ gold + (1 - λ) teacher`, with λ the label's share. Classification: cross-entropy
//! of the log-softmax against the mixed distribution; regression: squared error against the mixed value.
//! (BAM, section 2.) With a temperature T the teacher's part is compared apart, both sides' logits divided by T, and
//! counts T² times, so that its gradients stay of the label's size (Hinton et al. 2015). n rows, C outputs.

use tch::{Device, Kind, Tensor};

use crate::encoder::device::send;

/// Targets of n rows.
#[derive(Debug)]
pub(super) enum Targets {
    /// Probabilities of the classes.
    Distribution(Tensor),
    /// The same at temperature 1 and at another one; each part of the loss with its weight.
    Softened { gold_nc: Tensor, gold_weight: f64, teacher_nc: Tensor, teacher_weight: f64, temperature: f64 },
    /// Values scaled into [0, 1].
    Value(Tensor),
}

impl Targets {
    /// The same on that device.
    pub(super) fn on(self, device: Device) -> Self {
        match self {
            Self::Distribution(target_nc) => Self::Distribution(send(target_nc, device)),
            Self::Softened { gold_nc, gold_weight, teacher_nc, teacher_weight, temperature } => {
                let (gold_nc, teacher_nc) = (send(gold_nc, device), send(teacher_nc, device));
                Self::Softened { gold_nc, gold_weight, teacher_nc, teacher_weight, temperature }
            }
            Self::Value(target_n1) => Self::Value(send(target_n1, device)),
        }
    }
}

/// Class targets: `gold_n` are class indices, `teacher_nc` logits.
pub(super) fn class_targets(
    gold_n: &Tensor,
    classes: usize,
    teacher_nc: Option<&Tensor>,
    gold_share: f64,
    temperature: f64,
) -> Targets {
    let gold_nc = gold_n.to_kind(Kind::Int64).one_hot(classes as i64).to_kind(Kind::Float);
    match teacher_nc {
        None => Targets::Distribution(gold_nc),
        // The two parts are one here: cross-entropy is linear in its target.
        Some(teacher_nc) if temperature == 1.0 => {
            Targets::Distribution(gold_nc * gold_share + teacher_nc.softmax(-1, Kind::Float) * (1.0 - gold_share))
        }
        Some(teacher_nc) => Targets::Softened {
            gold_nc,
            gold_weight: gold_share,
            teacher_nc: (teacher_nc / temperature).softmax(-1, Kind::Float),
            teacher_weight: (1.0 - gold_share) * temperature.powi(2),
            temperature,
        },
    }
}

/// Value targets: both of shape [n, 1].
pub(super) fn value_targets(gold_n1: &Tensor, teacher_n1: Option<&Tensor>, gold_share: f64) -> Targets {
    Targets::Value(match teacher_n1 {
        Some(teacher_n1) => gold_n1 * gold_share + teacher_n1 * (1.0 - gold_share),
        None => gold_n1.shallow_clone(),
    })
}

/// Sum of the rows' losses.
pub(super) fn loss_sum(logits_nc: &Tensor, targets: &Targets) -> Tensor {
    let cross_entropy =
        |target_nc: &Tensor, logits_nc: &Tensor| -(target_nc * logits_nc.log_softmax(-1, Kind::Float)).sum(Kind::Float);
    match targets {
        Targets::Distribution(target_nc) => cross_entropy(target_nc, logits_nc),
        Targets::Softened { gold_nc, gold_weight, teacher_nc, teacher_weight, temperature } => {
            cross_entropy(gold_nc, logits_nc) * *gold_weight
                + cross_entropy(teacher_nc, &(logits_nc / *temperature)) * *teacher_weight
        }
        Targets::Value(target_n1) => (logits_nc - target_n1).square().sum(Kind::Float),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bam_contract::stage::Anneal;

    /// Logits (0, ln 3): probabilities 1/4, 3/4. Teacher (ln 4, 0): 4/5, 1/5. Label: class 1.
    #[test]
    fn annealing_by_hand() {
        let logits_nc = Tensor::from_slice(&[0.0_f32, 3.0_f32.ln()]).view([1, 2]);
        let teacher_nc = Tensor::from_slice(&[4.0_f32.ln(), 0.0]).view([1, 2]);
        let gold_n = Tensor::from_slice(&[1.0_f32]);
        let (no, yes) = (0.25_f64.ln(), 0.75_f64.ln());
        for (progress, target) in [(0.0, [0.8, 0.2]), (0.25, [0.6, 0.4]), (0.5, [0.4, 0.6]), (0.75, [0.2, 0.8])] {
            let share = Anneal::Linear.gold_share(progress);
            let loss =
                loss_sum(&logits_nc, &class_targets(&gold_n, 2, Some(&teacher_nc), share, 1.0)).double_value(&[]);
            let by_hand = -(target[0] * no + target[1] * yes);
            assert!((loss - by_hand).abs() < 1e-6, "progress {progress}: {loss} != {by_hand}");
        }
    }

    #[test]
    fn without_a_teacher_the_label_is_all() {
        let logits_nc = Tensor::from_slice(&[0.0_f32, 3.0_f32.ln()]).view([1, 2]);
        let targets = class_targets(&Tensor::from_slice(&[0.0_f32]), 2, None, 0.0, 2.0);
        assert!((loss_sum(&logits_nc, &targets).double_value(&[]) - 4.0_f64.ln()).abs() < 1e-6);
    }

    /// Label 0.9, teacher 0.5, λ = 0.25: target 0.6; output 0.2: squared error 0.16.
    #[test]
    fn values_are_annealed_too() {
        let column = |value: f32| Tensor::from_slice(&[value]).view([1, 1]);
        let targets = value_targets(&column(0.9), Some(&column(0.5)), 0.25);
        assert!((loss_sum(&column(0.2), &targets).double_value(&[]) - 0.16).abs() < 1e-6);
    }

    /// `PyTorch`'s numbers, dumped by `tests/fixtures/make_softened_loss.py`.
    #[test]
    fn a_temperature_gives_pytorchs_loss_and_gradient() {
        #[derive(serde::Deserialize)]
        struct Case {
            temperature: f64,
            gold_share: f64,
            loss: f64,
            gradient: Vec<f64>,
        }
        #[derive(serde::Deserialize)]
        struct Reference {
            gold: Vec<f32>,
            logits: Vec<f32>,
            teacher: Vec<f32>,
            cases: Vec<Case>,
        }
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/softened_loss.json");
        let reference: Reference = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let rows = reference.gold.len() as i64;
        let gold_n = Tensor::from_slice(&reference.gold);
        let teacher_nc = Tensor::from_slice(&reference.teacher).view([rows, 3]);
        assert_eq!(reference.cases.len(), 5);
        for Case { temperature, gold_share, loss, gradient } in reference.cases {
            let logits_nc = Tensor::from_slice(&reference.logits).view([rows, 3]).set_requires_grad(true);
            let computed = loss_sum(&logits_nc, &class_targets(&gold_n, 3, Some(&teacher_nc), gold_share, temperature));
            computed.backward();
            let case = format!("T = {temperature}, λ = {gold_share}");
            assert!((computed.double_value(&[]) / loss - 1.0).abs() < 1e-6, "{case}");
            let difference = logits_nc.grad().flatten(0, -1) - Tensor::from_slice(&gradient);
            assert!(difference.abs().max().double_value(&[]) < 1e-6, "{case}");
        }
    }
}
