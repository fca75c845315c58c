//! Forward and backward of one batch.

use bam_contract::stage::{Reduction, TrainParams};
use tch::{Kind, Tensor};

use super::gradients::Gradients;
use super::loss::{class_targets, loss_sum, value_targets};
use super::recompute;
use super::sampler::Draw;
use super::training_set::{DrawnRows, TrainingSet, TrainingTask};
use super::words::BatchWords;
use crate::encoder::{Batch, Dropout, Model, device::upload};
use bam_inference::padding::{Pass, passes_of_groups};

/// What of a step depends on how far the training is.
#[derive(Debug)]
pub(super) struct Conditions {
    /// Share of the training done, in [0, 1).
    pub(super) progress: f64,
    /// What lies below is frozen.
    pub(super) least_depth: usize,
    pub(super) dropout: Dropout,
}

/// The loss of a batch, without dimensions, and its gradients. The batch's words are `words`.
///
/// Its rows attend within groups of like length, and a large batch goes through in several passes; both leave its
/// gradients as they are.
pub(super) fn loss_and_gradients(
    model: &Model,
    set: &TrainingSet,
    (batch, words): (&DrawnRows, Vec<i64>),
    params: &TrainParams,
    conditions: &Conditions,
) -> (Tensor, Gradients) {
    let rows = batch.rows.len();
    let lengths: Vec<_> = (0..rows).map(|row| batch.rows.tokens(row)).collect();
    let scale = match params.reduction {
        Reduction::Mean => (rows as f64).recip(),
        Reduction::Sum => 1.0,
    };
    let mut gradients = Gradients::new(model, BatchWords::of(model, words), conditions.least_depth);
    let mut losses = Vec::new();
    for Pass { rows: range, ends } in passes_of_groups(&lengths, params.pass_tokens) {
        let token_rows: Vec<_> = range.clone().map(|row| (&batch.rows, row)).collect();
        let rows = Batch::new(&token_rows, &ends, set.pad_id(), |id| gradients.words.row_of(id), model.placement());
        let loss_of = |pooled_bd: &Tensor| loss(model, set, &batch.draws[range], pooled_bd, params, conditions) * scale;
        let (words_ud, dropout) = (gradients.words.rows_ud.shallow_clone(), &conditions.dropout);
        let loss = if params.recompute {
            let pass = recompute::Pass::forward(model, &rows, words_ud, dropout);
            let loss = loss_of(&model.pool_bd(&pass.last_bd));
            pass.backward(&loss, &mut gradients, conditions.least_depth);
            loss
        } else {
            let loss = loss_of(&model.pooled_bd(&rows, &words_ud, dropout));
            gradients.add(model, &loss);
            loss
        };
        losses.push(loss.detach());
    }
    (Tensor::stack(&losses, 0).sum(Kind::Double), gradients)
}

/// Sum of the losses of pooled rows, each answered by its task's head.
fn loss(
    model: &Model,
    set: &TrainingSet,
    draws: &[Draw],
    pooled_bd: &Tensor,
    params: &TrainParams,
    Conditions { progress, dropout, .. }: &Conditions,
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
        loss += task_loss(set.task(task), rows, &logits_nc, params, *progress);
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
