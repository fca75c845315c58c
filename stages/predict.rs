//! `predict`: a model's logits for a task's rows, cached as Arrow tables.

use std::time::Instant;

use anyhow::Result;
use bam_contract::artifact::checkpoint::head_for;
use bam_contract::artifact::encoder::check_tokenizer;
use bam_contract::artifact::predictions::{PredictionRows, PredictionsWriter};
use bam_contract::artifact::tokens::{TokenRows, Tokens};
use bam_contract::fault::Fault;
use bam_contract::job::Job;
use bam_contract::stage::{Fold, PredictParams};
use bam_contract::task::Split;

use crate::crew::Crew;
use crate::encoder::{Model, device, precision};
use crate::infer;
use crate::report::{Outcome, Reporter};
use crate::text::thousands;

pub(crate) fn run(params: &PredictParams, job: &Job, reporter: &Reporter) -> Result<Outcome> {
    let tokens_input = job.input("tokens")?;
    let (tokens, tokens_stage) = (Tokens::open(&tokens_input.path)?, tokens_input.stage.as_str());
    let model_input = job.input("model")?;
    let device = device::by_name(&job.device)?;
    let (model, _) = Model::open(&model_input.path, params.precision, device)?;
    let crew = Crew::new(job.threads, device)?;
    let head = head_for(&model.tasks, &tokens.task, &model_input.stage)?.ok_or_else(|| {
        let known: Vec<_> = model.tasks.iter().map(|task| task.name.as_str()).collect();
        let message = format!("model `{}` has no head for `{}`", model_input.stage, tokens.task.head());
        Fault::new(message, format!("it has {}", known.join(", ")))
    })?;

    check_tokenizer(&model_input.path, &tokens.tokenizer, tokens_stage)?;

    let splits = chosen_splits(params, &tokens, tokens_stage)?;
    let counts = splits.iter().map(|split| count(&tokens, *split, params.fold, tokens_stage));
    let total: usize = counts.sum::<Result<_>>()?;
    let (mut before, started) = (0, Instant::now());
    for split in splits {
        let mut writer = PredictionsWriter::create(&job.output, split, &tokens.task, job.fingerprint)?;
        let of_fold = |rows: TokenRows| params.fold.map(|fold| fold.part(&rows, true)).unwrap_or(rows);
        for rows in infer::held(tokens.chunks(split)?.map(|rows| rows.map(of_fold))) {
            let rows = rows?;
            let progress = |done| reporter.progress((before + done) as u64, total as u64, "row", split.name());
            let logits = infer::logits(&model, head, &rows, tokens.tokenizer.pad_id, &crew, progress);
            before += rows.len();
            let TokenRows { ids, swapped, labels, .. } = rows;
            writer.write(PredictionRows { ids, swapped, labels, logits })?;
        }
        writer.finish()?;
    }
    let rows_per_sec = total as f64 / started.elapsed().as_secs_f64();
    let outcome = Outcome::from(format!("{} rows of {}", thousands(total), tokens.task.name));
    let format = precision::name(precision::kind_on(params.precision, device));
    Ok(outcome.with("rows_per_second", rows_per_sec).with("device", device::name(device)).with("precision", format))
}

/// How many of a split's rows are predicted.
fn count(tokens: &Tokens, split: Split, fold: Option<Fold>, stage: &str) -> Result<usize> {
    let (mut all, mut part) = (0, 0);
    for ids in tokens.ids(split)? {
        let ids = ids?;
        all += ids.len();
        part += ids.iter().filter(|id| fold.is_none_or(|fold| fold.leaves_out(**id))).count();
    }
    if let Some(fold) = fold {
        fold.check_part(part, all, true, stage)?;
    }
    Ok(part)
}

fn chosen_splits(params: &PredictParams, tokens: &Tokens, stage: &str) -> Result<Vec<Split>> {
    let wanted = if params.fold.is_some() { &[Split::Train][..] } else { &params.splits };
    if wanted.is_empty() {
        return Ok(tokens.splits.clone());
    }
    if let Some(missing) = wanted.iter().find(|split| !tokens.splits.contains(split)) {
        let names: Vec<_> = tokens.splits.iter().map(|split| split.name()).collect();
        let hint = format!("it has {}", names.join(", "));
        return Err(Fault::new(format!("`{stage}` has no split `{missing}`"), hint).into());
    }
    Ok(wanted.to_vec())
}
