//! Forward and backward of one batch.

use bam_contract::stage::{Reduction, TrainParams};
use tch::{Kind, Tensor};

use super::gradients::Gradients;
use super::loss::{class_targets, loss_sum, value_targets};
use super::recompute;
use super::sampler::Draw;
use super::training_set::{DrawnRows, TrainingSet, TrainingTask};
use super::words::BatchWords;
use crate::crew::{Crew, Shared};
use crate::encoder::{Batch, Dropout, Model, device::upload};
use bam_inference::padding::{Pass, passes_of_groups};

/// What of a step depends on how far the training is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Conditions {
    /// Share of the training done, in [0, 1).
    pub(super) progress: f64,
    /// What lies below is frozen.
    pub(super) least_depth: usize,
    /// Seed of what is dropped; nothing is without one.
    pub(super) dropout: Option<u64>,
}

/// A batch, and all that its loss depends on.
pub(super) struct Computation<'a> {
    pub(super) model: Shared<'a>,
    pub(super) set: &'a TrainingSet,
    pub(super) batch: &'a DrawnRows,
    pub(super) params: &'a TrainParams,
    pub(super) conditions: Conditions,
}

impl Computation<'_> {
    /// The loss of the batch, without dimensions, and its gradients. The batch's words are `words`.
    ///
    /// Its rows are divided among the crew's threads, attend within groups of like length, and go through in several passes where they are many; all of
    /// that leaves its gradients as they are.
    pub(super) fn loss_and_gradients(&self, words: &[i64], crew: &Crew) -> (Tensor, Gradients) {
        let rows = &self.batch.rows;
        let lengths: Vec<_> = (0..rows.len()).map(|row| rows.tokens(row)).collect();
        let parts: Vec<_> = crew.divide(&lengths).into_iter().enumerate().collect();
        let computed = crew.compute(&parts, |(number, part)| {
            let pass_tokens = crew.share(self.params.pass_tokens, *number, parts.len());
            self.of_part(*number, part, words, pass_tokens)
        });
        let (losses, gradients): (Vec<_>, Vec<_>) = computed.into_iter().unzip();
        let summed = gradients.into_iter().reduce(Gradients::plus).expect("a batch has a part at least");
        (Tensor::stack(&losses, 0).sum(Kind::Double), summed)
    }

    /// The share in loss and gradients of some of the rows, which ascend in length.
    fn of_part(&self, number: usize, part: &[usize], words: &[i64], pass_tokens: usize) -> (Tensor, Gradients) {
        let Self { model: Shared(model), set, batch, params, conditions } = *self;
        let scale = match params.reduction {
            Reduction::Mean => (batch.rows.len() as f64).recip(),
            Reduction::Sum => 1.0,
        };
        let dropout = Dropout::of_part(conditions.dropout, number, model.device);
        let lengths: Vec<_> = part.iter().map(|row| batch.rows.tokens(*row)).collect();
        let mut gradients = Gradients::new(model, BatchWords::of(model, words.to_vec()), conditions.least_depth);
        let mut losses = Vec::new();
        for Pass { rows: range, ends } in passes_of_groups(&lengths, pass_tokens) {
            let part = &part[range];
            let token_rows: Vec<_> = part.iter().map(|row| (&batch.rows, *row)).collect();
            let draws: Vec<Draw> = part.iter().map(|row| batch.draws[*row]).collect();
            let rows = Batch::new(&token_rows, &ends, set.pad_id(), |id| gradients.words.row_of(id), model.placement());
            let loss_of = |pooled_bd: &Tensor| {
                loss(model, set, &draws, pooled_bd, params, (conditions.progress, &dropout)) * scale
            };
            let words_ud = gradients.words.rows_ud.shallow_clone();
            let loss = if params.recompute {
                let pass = recompute::Pass::forward(model, &rows, words_ud, &dropout);
                let loss = loss_of(&model.pool_bd(&pass.last_bd));
                pass.backward(&loss, &mut gradients, conditions.least_depth);
                loss
            } else {
                let loss = loss_of(&model.pooled_bd(&rows, &words_ud, &dropout));
                gradients.add(model, &loss);
                loss
            };
            losses.push(loss.detach());
        }
        (Tensor::stack(&losses, 0).sum(Kind::Double), gradients)
    }
}

/// Sum of the losses of pooled rows, each answered by its task's head.
fn loss(
    model: &Model,
    set: &TrainingSet,
    draws: &[Draw],
    pooled_bd: &Tensor,
    params: &TrainParams,
    (progress, dropout): (f64, &Dropout),
) -> Tensor {
    let mut loss = Tensor::zeros([], (Kind::Float, model.device));
    for task in 0..set.all().len() {
        let places: Vec<i64> = (0..draws.len()).filter(|at| draws[*at].task == task).map(|at| at as i64).collect();
        if places.is_empty() {
            continue;
        }
        let of_task_nd = pooled_bd.index_select(0, &upload(&places, model.device));
        let logits_nc = model.logits_bc(task, &of_task_nd, dropout);
        let rows = places.iter().map(|at| draws[*at as usize].row);
        loss += task_loss(set.task(task), rows, &logits_nc, params, progress);
    }
    loss
}

fn task_loss(
    task: &TrainingTask,
    rows: impl Iterator<Item = usize> + Clone,
    logits_nc: &Tensor,
    params: &TrainParams,
    progress: f64,
) -> Tensor {
    let gold_share = params.gold_share(&task.spec.name, progress);
    let outputs = task.spec.outputs();
    let gold: Vec<f32> = rows.clone().map(|row| task.gold[row]).collect();
    let gold_n = Tensor::from_slice(&gold);
    let teacher_nc = task.teacher.as_ref().map(|teacher| {
        let logits: Vec<f32> = rows.flat_map(|row| &teacher[row * outputs..(row + 1) * outputs]).copied().collect();
        Tensor::from_slice(&logits).view([-1, outputs as i64])
    });
    let targets = if task.spec.is_regression() {
        value_targets(&gold_n.view([-1, 1]), teacher_nc.as_ref(), gold_share)
    } else {
        class_targets(&gold_n, outputs, teacher_nc.as_ref(), gold_share, params.temperature)
    };
    loss_sum(logits_nc, &targets.on(logits_nc.device()))
}
