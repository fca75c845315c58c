//! `predict`: a model's logits for a task's rows, cached as Arrow tables.

use anyhow::Result;
use bam_contract::artifact::predictions::{PredictionRows, Predictions};
use bam_contract::artifact::tokens::Tokens;
use bam_contract::fault::Fault;
use bam_contract::job::Job;
use bam_contract::stage::PredictParams;
use bam_contract::task::Split;

use crate::encoder::{Mode, Model, device};
use crate::infer;
use crate::report::{Outcome, Reporter};
use crate::text::thousands;

pub(crate) fn run(params: &PredictParams, job: &Job, reporter: &Reporter) -> Result<Outcome> {
    let tokens = Tokens::open(&job.input("tokens")?.path)?;
    let model_input = job.input("model")?;
    let (model, _) = Model::open(&model_input.path, device::by_name(&job.device)?)?;
    let head = model.head_for(&tokens.task, &model_input.stage)?;

    let splits = chosen_splits(params, &tokens, &job.input("tokens")?.stage)?;
    let tables = splits.iter().map(|split| Ok((*split, tokens.read(*split)?))).collect::<Result<Vec<_>>>()?;
    let total: usize = tables.iter().map(|(_, rows)| rows.len()).sum();
    let mode = Mode::eval(params.precision);
    let mut before = 0;
    for (split, rows) in tables {
        let progress = |done| reporter.progress((before + done) as u64, total as u64, "row", split.name());
        let logits = infer::logits(&model, head, &rows, tokens.tokenizer.pad_id, mode, progress);
        before += rows.len();
        let table = PredictionRows { ids: rows.ids, swapped: rows.swapped, labels: rows.labels, logits };
        Predictions::write(&job.output, split, &tokens.task, &table, job.fingerprint)?;
    }
    Ok(Outcome::from(format!("{} rows of {}", thousands(total), tokens.task.name)))
}

fn chosen_splits(params: &PredictParams, tokens: &Tokens, stage: &str) -> Result<Vec<Split>> {
    if params.splits.is_empty() {
        return Ok(tokens.splits.clone());
    }
    if let Some(missing) = params.splits.iter().find(|split| !tokens.splits.contains(split)) {
        let names: Vec<_> = tokens.splits.iter().map(|split| split.name()).collect();
        let hint = format!("it has {}", names.join(", "));
        return Err(Fault::new(format!("`{stage}` has no split `{missing}`"), hint).into());
    }
    Ok(params.splits.clone())
}
