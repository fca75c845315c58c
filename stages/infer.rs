//! Logits of many rows without training, and what they score.

use anyhow::Result;
use bam_contract::artifact::tokens::TokenRows;
use bam_contract::metric::Metric;
use bam_contract::task::TaskSpec;

use crate::encoder::{Batch, Model};
use bam_inference::padding::{Padded, in_passes};
use bam_inference::session::OnnxSession;

/// A model's outputs for all rows under libtorch, `outputs` per row in the order of the rows.
pub(crate) fn logits(
    model: &Model,
    head: usize,
    rows: &TokenRows,
    pad_id: u32,
    progress: impl FnMut(usize),
) -> Vec<f32> {
    let pass_logits = |pass: &[usize]| {
        let token_rows: Vec<_> = pass.iter().map(|row| (rows, *row)).collect();
        let batch = Batch::new(&token_rows, &[pass.len()], pad_id, i64::from, model.placement());
        let logits_bc = model.predict_bc(head, &batch);
        Ok(Vec::try_from(logits_bc.flatten(0, -1))?)
    };
    in_passes(rows, model.tasks[head].outputs(), pass_logits, progress).expect("libtorch gives fp32 logits")
}

/// The same under ONNX Runtime, of the task's own output of the graph.
pub(crate) fn onnx_logits(
    session: &mut OnnxSession,
    task: &TaskSpec,
    rows: &TokenRows,
    pad_id: u32,
) -> Result<Vec<f32>> {
    let pass_logits = |pass: &[usize]| {
        let token_rows: Vec<_> = pass.iter().map(|row| (rows, *row)).collect();
        session.run(&Padded::new(&token_rows, pad_id), &task.name)
    };
    in_passes(rows, task.outputs(), pass_logits, |_| {})
}

/// A task's metrics over labelled rows; none where a row has no label.
pub(crate) fn metrics(task: &TaskSpec, labels: &[Option<f64>], logits: &[f32]) -> Vec<(Metric, f64)> {
    let Some(gold) = labels.iter().copied().collect::<Option<Vec<_>>>().filter(|gold| !gold.is_empty()) else {
        return Vec::new();
    };
    let predicted: Vec<_> = logits.chunks(task.outputs()).map(|logits| task.prediction(logits)).collect();
    task.metrics.iter().map(|metric| (*metric, task.score(*metric, &predicted, &gold))).collect()
}
