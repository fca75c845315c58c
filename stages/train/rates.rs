//! What depends on how far the training is: learning rate, progress, epoch, and what is frozen.

use std::f64::consts::PI;

use bam_contract::stage::{ScheduleShape, TrainParams, Unfreeze};

/// The greatest rate of a slanted triangle over the least (`ULMFiT`'s `ratio`).
const SLANTED_RATIO: f64 = 32.0;

#[derive(Clone, Debug)]
pub(super) struct Schedule {
    /// Optimizer steps in all.
    pub(super) steps: u64,
    rows: f64,
    batch: usize,
    epochs: f64,
    base_rate: f64,
    warmup_steps: f64,
    shape: ScheduleShape,
    unfreeze: Unfreeze,
}

impl Schedule {
    /// For `rows` training rows, both orders of symmetric pairs counted.
    pub(super) fn new(params: &TrainParams, rows: usize) -> Self {
        let rows = rows as f64;
        let steps = (params.epochs * rows / params.batch as f64).ceil().max(1.0);
        Self {
            steps: steps as u64,
            rows,
            batch: params.batch,
            epochs: params.epochs,
            base_rate: params.learning_rate,
            warmup_steps: (params.warmup * steps).floor(),
            shape: params.schedule,
            unfreeze: params.unfreeze,
        }
    }

    /// Share of the training done before a step, in [0, 1).
    pub(super) fn progress(&self, step: u64) -> f64 {
        step as f64 / self.steps as f64
    }

    /// The rate of a step: a rise over the warm-up, and what its shape says of the steps after it.
    ///
    /// `ULMFiT`'s triangle falls over `cut (1 / cut_frac - 1)` steps, which is all that are left where `cut` is whole.
    pub(super) fn learning_rate(&self, step: u64) -> f64 {
        let at = step as f64;
        let is_warm = at >= self.warmup_steps;
        let fallen = (at - self.warmup_steps) / (self.steps as f64 - self.warmup_steps);
        match self.shape {
            ScheduleShape::SlantedTriangle => {
                let height = if is_warm { 1.0 - fallen } else { at / self.warmup_steps };
                self.base_rate * (1.0 + height * (SLANTED_RATIO - 1.0)) / SLANTED_RATIO
            }
            _ if !is_warm => self.base_rate * at / self.warmup_steps,
            ScheduleShape::Linear => self.base_rate * (1.0 - self.progress(step)),
            ScheduleShape::Constant => self.base_rate,
            ScheduleShape::Cosine => self.base_rate * (1.0 + (PI * fallen).cos()) / 2.0,
        }
    }

    /// Least depth that is trained at a step, in an encoder of so many layers; see [`depth`].
    pub(super) fn least_depth(&self, step: u64, layers: usize) -> usize {
        match self.unfreeze {
            Unfreeze::All => 0,
            Unfreeze::Gradual => (layers + 1).saturating_sub(self.epochs_before(step) as usize),
        }
    }

    /// The first step at which nothing is frozen, in an encoder of so many layers; none where the epochs are too few.
    pub(super) fn first_whole_step(&self, layers: usize) -> Option<u64> {
        (0..self.steps).find(|step| self.least_depth(*step, layers) == 0)
    }

    /// Rows of a step's batch; the last one may be smaller.
    pub(super) fn batch_rows(&self, step: u64) -> usize {
        let left = (self.epochs * self.rows).ceil() as usize - step as usize * self.batch;
        left.clamp(1, self.batch)
    }

    /// Epochs done after a step.
    pub(super) fn epoch(&self, step: u64) -> f64 {
        ((step + 1) as f64 * self.batch as f64 / self.rows).min(self.epochs)
    }

    /// Whether a step is the last of an epoch, or of all.
    pub(super) fn ends_epoch(&self, step: u64) -> bool {
        step + 1 == self.steps || self.epoch(step).floor() > self.epochs_before(step).floor()
    }

    fn epochs_before(&self, step: u64) -> f64 {
        if step == 0 { 0.0 } else { self.epoch(step - 1) }
    }
}

/// Learning rate of each parameter relative to the heads': `decay ^ (layers + 2 - depth)`.
pub(super) fn layer_rate(name: &str, layers: usize, decay: f64) -> f64 {
    decay.powi((layers + 2 - depth(name, layers)) as i32)
}

/// Depth of each parameter: 0 for the embeddings, i + 1 for layer i (from 0), layers + 1 for the pooler and
/// layers + 2 for the heads.
pub(super) fn depth(name: &str, layers: usize) -> usize {
    if name.starts_with("bert.embeddings.") {
        0
    } else if name.starts_with("bert.pooler.") {
        layers + 1
    } else if let Some(rest) = name.strip_prefix("bert.encoder.layer.") {
        let index: usize = rest.split('.').next().and_then(|index| index.parse().ok()).expect("a layer has a number");
        index + 1
    } else {
        layers + 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(json: &str) -> TrainParams {
        let base = format!(r#"{{"tokens": ["t"], "encoder": "e", {json}}}"#);
        serde_json::from_str(&base).unwrap()
    }

    #[test]
    fn the_rate_warms_up_and_falls_with_a_clock_from_step_0() {
        let schedule = Schedule::new(&params(r#""epochs": 2, "batch": 10, "learning_rate": 0.1"#), 100);
        assert_eq!(schedule.steps, 20);
        let near = |step, rate: f64| assert!((schedule.learning_rate(step) - rate).abs() < 1e-12, "step {step}");
        near(0, 0.0);
        near(1, 0.05);
        near(2, 0.09);
        near(10, 0.05);
        near(19, 0.005);
    }

    /// `ULMFiT`'s formula for T = 100 and `cut_frac` = 0.1, so `cut` = 10: p = t / 10 before it, and
    /// 1 - (t - 10) / (10 (1 / 0.1 - 1)) from there; the rate is (1 + 31 p) / 32 of the greatest.
    #[test]
    fn a_slanted_triangle_is_ulmfits() {
        let params = params(r#""epochs": 1, "batch": 10, "learning_rate": 0.01, "schedule": "slanted_triangle""#);
        let schedule = Schedule::new(&params, 1000);
        for (step, share) in [
            (0, 1.0 / 32.0),
            (5, (1.0 + 31.0 * 0.5) / 32.0),
            (10, 1.0),
            (55, (1.0 + 31.0 * 0.5) / 32.0),
            (99, (1.0 + 31.0 / 90.0) / 32.0),
        ] {
            assert!((schedule.learning_rate(step) - 0.01 * share).abs() < 1e-15, "step {step}");
        }
    }

    #[test]
    fn other_shapes_by_hand() {
        let at = |shape: &str, step| {
            let more =
                format!(r#""epochs": 1, "batch": 10, "learning_rate": 0.1, "warmup": 0.2, "schedule": "{shape}""#);
            Schedule::new(&params(&more), 100).learning_rate(step)
        };
        // Two of ten steps warm up; half of a fall over the eight others is done at step 6, a quarter at step 4.
        for (shape, rates) in [
            ("constant", [0.0, 0.05, 0.1, 0.1, 0.1]),
            ("cosine", [0.0, 0.05, 0.1, 0.1 * (1.0 + 0.5_f64.sqrt()) / 2.0, 0.05]),
        ] {
            for (step, rate) in [0, 1, 2, 4, 6].into_iter().zip(rates) {
                assert!((at(shape, step) - rate).abs() < 1e-15, "{shape} at {step}");
            }
        }
    }

    #[test]
    fn one_more_layer_thaws_each_epoch() {
        let gradual = Schedule::new(&params(r#""epochs": 6, "batch": 10, "unfreeze": "gradual""#), 20);
        let depths: Vec<_> = (0..gradual.steps).map(|step| gradual.least_depth(step, 3)).collect();
        // Of three layers: pooler and heads are 4 and 5, the layers 3, 2 and 1, the embeddings 0.
        assert_eq!(depths, [4, 4, 3, 3, 2, 2, 1, 1, 0, 0, 0, 0]);
        assert_eq!([3, 4, 5].map(|layers| gradual.first_whole_step(layers)), [Some(8), Some(10), None]);
        let all = Schedule::new(&params(r#""batch": 10"#), 20);
        assert_eq!((all.least_depth(0, 3), all.first_whole_step(3)), (0, Some(0)));
    }

    #[test]
    fn the_last_batch_holds_what_is_left() {
        let schedule = Schedule::new(&params(r#""epochs": 1, "batch": 8"#), 19);
        assert_eq!((schedule.steps, [0, 1, 2].map(|step| schedule.batch_rows(step))), (3, [8, 8, 3]));
    }

    #[test]
    fn epochs_end_where_their_rows_do() {
        let schedule = Schedule::new(&params(r#""epochs": 2.5, "batch": 8"#), 20);
        let ends: Vec<_> = (0..schedule.steps).filter(|step| schedule.ends_epoch(*step)).collect();
        assert_eq!((schedule.steps, ends), (7, vec![2, 4, 6]));
    }

    #[test]
    fn an_epoch_of_one_step_ends_with_it() {
        let schedule = Schedule::new(&params(r#""epochs": 3, "batch": 8"#), 8);
        assert!((0..3).all(|step| schedule.ends_epoch(step)));
    }

    #[test]
    fn lower_layers_learn_more_slowly() {
        let near = |name: &str, power: i32| {
            assert!((layer_rate(name, 6, 0.9) - 0.9_f64.powi(power)).abs() < 1e-12, "{name}");
        };
        near("bert.embeddings.word_embeddings.weight", 8);
        near("bert.encoder.layer.0.output.dense.bias", 7);
        near("bert.encoder.layer.5.attention.self.query.weight", 2);
        near("bert.pooler.dense.weight", 1);
        near("heads.rte.weight", 0);
        near("classifier.bias", 0);
    }
}
