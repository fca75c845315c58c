//! What depends on how far the training is: learning rate, progress, epoch.

use bam_contract::stage::TrainParams;

#[derive(Clone, Debug)]
pub(super) struct Schedule {
    /// Optimizer steps in all.
    pub(super) steps: u64,
    rows: f64,
    batch: usize,
    epochs: f64,
    base_rate: f64,
    warmup_steps: f64,
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
        }
    }

    /// Share of the training done before a step, in [0, 1).
    pub(super) fn progress(&self, step: u64) -> f64 {
        step as f64 / self.steps as f64
    }

    /// Linear warm-up, then linear decay whose clock started at step 0: right after the warm-up the rate
    /// is below its greatest (method of BERT's and BAM's code).
    pub(super) fn learning_rate(&self, step: u64) -> f64 {
        let at = step as f64;
        if at < self.warmup_steps {
            self.base_rate * at / self.warmup_steps
        } else {
            self.base_rate * (1.0 - self.progress(step))
        }
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
        let before = if step == 0 { 0.0 } else { self.epoch(step - 1) };
        step + 1 == self.steps || self.epoch(step).floor() > before.floor()
    }
}

/// Learning rate of each parameter relative to the heads': `decay ^ (layers + 2 - depth)`, where the
/// embeddings have depth 0, layer i (from 0) i + 1, the pooler layers + 1 and the heads layers + 2.
pub(super) fn layer_rate(name: &str, layers: usize, decay: f64) -> f64 {
    let depth = if name.starts_with("bert.embeddings.") {
        0
    } else if name.starts_with("bert.pooler.") {
        layers + 1
    } else if let Some(rest) = name.strip_prefix("bert.encoder.layer.") {
        let index: usize = rest.split('.').next().and_then(|index| index.parse().ok()).expect("a layer has a number");
        index + 1
    } else {
        layers + 2
    };
    decay.powi((layers + 2 - depth) as i32)
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
