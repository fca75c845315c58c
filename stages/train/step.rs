//! Forward and backward of one batch.

use bam_contract::stage::{Reduction, TrainParams};
use tch::{Kind, Tensor};

use super::loss::{class_targets, loss_sum, value_targets};
use super::sampler::Draw;
use super::training_set::TrainingSet;
use crate::encoder::batch::passes;
use crate::encoder::{Batch, Mode, Model};

/// Adds the gradients of a batch's loss to the parameters' and returns the loss.
///
/// The batch goes through in several passes of rows of like length, which leaves its gradient as it is.
pub(super) fn accumulate_gradients(
    model: &Model,
    set: &TrainingSet,
    batch: &[Draw],
    gold_share: f64,
    params: &TrainParams,
) -> f64 {
    let tokens = |draw: &Draw| set.task(draw.task).rows.tokens(draw.row);
    let mut rows = batch.to_vec();
    // By task and row where lengths are equal: the order must not depend on the sort.
    rows.sort_by_key(|draw| (tokens(draw), *draw));
    let lengths: Vec<_> = rows.iter().map(tokens).collect();
    let scale = match params.reduction {
        Reduction::Mean => (batch.len() as f64).recip(),
        Reduction::Sum => 1.0,
    };
    let mode = Mode { train: true, precision: params.precision };
    let mut total = 0.0;
    let mut start = 0;
    for end in passes(&lengths) {
        let loss = pass_loss(model, set, &rows[start..end], gold_share, mode) * scale;
        loss.backward();
        total += loss.double_value(&[]);
        start = end;
    }
    total
}

/// Sum of the losses of rows that go through the encoder together, each answered by its task's head.
fn pass_loss(model: &Model, set: &TrainingSet, rows: &[Draw], gold_share: f64, mode: Mode) -> Tensor {
    let token_rows: Vec<_> = rows.iter().map(|draw| (&set.task(draw.task).rows, draw.row)).collect();
    let pooled_bd = model.pooled_bd(&Batch::new(&token_rows, set.pad_id(), model.device), mode);
    let mut loss = Tensor::zeros([], (Kind::Float, model.device));
    for task in 0..set.all().len() {
        let places: Vec<i64> = (0..rows.len()).filter(|at| rows[*at].task == task).map(|at| at as i64).collect();
        if places.is_empty() {
            continue;
        }
        let of_task_nd = pooled_bd.index_select(0, &Tensor::from_slice(&places).to_device(model.device));
        let logits_nc = model.logits_bc(task, &of_task_nd, mode);
        let draws = places.iter().map(|at| rows[*at as usize].row);
        loss += task_loss(set, task, draws, &logits_nc, gold_share);
    }
    loss
}

fn task_loss(
    set: &TrainingSet,
    task: usize,
    rows: impl Iterator<Item = usize> + Clone,
    logits_nc: &Tensor,
    gold_share: f64,
) -> Tensor {
    let task = set.task(task);
    let outputs = task.spec.outputs();
    let device = logits_nc.device();
    let gold: Vec<f32> = rows.clone().map(|row| task.gold[row]).collect();
    let gold_n = Tensor::from_slice(&gold).to_device(device);
    let teacher_nc = task.teacher.as_ref().map(|teacher| {
        let logits: Vec<f32> = rows.flat_map(|row| &teacher[row * outputs..(row + 1) * outputs]).copied().collect();
        Tensor::from_slice(&logits).view([-1, outputs as i64]).to_device(device)
    });
    let targets = if task.spec.is_regression() {
        value_targets(&gold_n.view([-1, 1]), teacher_nc.as_ref(), gold_share)
    } else {
        class_targets(&gold_n, outputs, teacher_nc.as_ref(), gold_share)
    };
    loss_sum(logits_nc, &targets)
}
