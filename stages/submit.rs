//! `submit`: test predictions as the zip that GLUE's leaderboard takes. Nothing is written unless all of it is right.

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::Write as _;

use anyhow::{Context, Result, ensure};
use bam_contract::artifact::predictions::{PredictionRows, Predictions};
use bam_contract::artifact::submission::{ARCHIVE, Answers, SHEETS, Sheet, Source, Submission, WNLI};
use bam_contract::fault::Fault;
use bam_contract::job::{Job, JobInput};
use bam_contract::stage::SubmitParams;
use bam_contract::task::TaskSpec;
use bam_contract::tasks;
use zip::write::SimpleFileOptions;
use zip::{DateTime, ZipWriter};

use crate::report::{Outcome, Reporter};

pub(crate) fn run(params: &SubmitParams, job: &Job, reporter: &Reporter) -> Result<Outcome> {
    let mut given = Vec::new();
    for input in job.inputs_of("predictions") {
        given.push((input, Predictions::open(&input.path)?));
    }
    let mut filled = Vec::new();
    let mut flaws = Vec::new();
    for sheet in &SHEETS {
        match answers(sheet, params, &given) {
            Ok((text, answers)) => filled.push((sheet, text, answers)),
            Err(flaw) => flaws.push(format!("{}: {flaw:#}", sheet.file)),
        }
    }
    let hint = "name constant answers with `filler: [TASK]`, or predict the whole official test set of each task";
    ensure!(flaws.is_empty(), Fault::new(format!("no submission without its files: {}", flaws.join("; ")), hint));

    let mut archive = ZipWriter::new(File::create(job.output.join(ARCHIVE))?);
    // Equal answers give equal bytes: no time of writing.
    let options = SimpleFileOptions::default().last_modified_time(DateTime::DEFAULT).unix_permissions(0o644);
    for (sheet, text, _) in &filled {
        archive.start_file(sheet.file, options)?;
        archive.write_all(text.as_bytes())?;
    }
    archive.finish()?;
    let is_constant = |answers: &&Answers| matches!(answers.from, Source::Constant(_));
    let answers: Vec<Answers> = filled.into_iter().map(|(_, _, answers)| answers).collect();
    let constant: Vec<&str> = answers.iter().filter(is_constant).map(|answers| answers.file.as_str()).collect();
    let summary = match constant.as_slice() {
        [] => format!("{} files", answers.len()),
        constant => format!("{} files, constant answers in {}", answers.len(), constant.join(", ")),
    };
    for file in constant.iter().filter(|file| **file != "WNLI.tsv") {
        reporter
            .warning(format!("`{file}` holds one constant answer; its score, and the average, are not the model's"));
    }
    Submission { fingerprint: job.fingerprint, answers }.write(&job.output)?;
    Ok(Outcome::from(summary))
}

/// A file's text, and where its answers are from.
fn answers(sheet: &Sheet, params: &SubmitParams, given: &[(&JobInput, Predictions)]) -> Result<(String, Answers)> {
    let told = |from| Answers { file: sheet.file.to_owned(), rows: sheet.rows, from };
    let of_task = given.iter().find(|(_, predictions)| predictions.task.name == sheet.task);
    let is_filler = params.filler.iter().any(|task| task == sheet.task);
    match of_task {
        Some((input, _)) if is_filler => {
            Err(anyhow::anyhow!("`filler` and `{}` both answer `{}`", input.stage, sheet.task))
        }
        Some((input, predictions)) => {
            ensure!(
                predictions.splits.contains(&sheet.split),
                "`{}` has no split `{}`; is the test file in the data folder?",
                input.stage,
                sheet.split
            );
            let rows = predictions.read(sheet.split)?;
            check_rows(sheet, &rows).with_context(|| format!("`{}`", input.stage))?;
            let task = &predictions.task;
            let official = official(sheet)?;
            let values =
                rows.logits.chunks(task.outputs()).map(|logits| spelled(task, &official, task.prediction(logits)));
            let values = values.collect::<Result<Vec<_>>>().with_context(|| format!("`{}`", input.stage))?;
            Ok((table(values.into_iter()), told(Source::Predictions(input.slot.clone()))))
        }
        None if is_filler || sheet.task == WNLI => {
            // Class 0 of WNLI is the majority's.
            let task = official(sheet)?;
            let constant = spelled(&task, &task, 0.0)?;
            let text = table(std::iter::repeat_n(constant.clone(), sheet.rows));
            Ok((text, told(Source::Constant(constant))))
        }
        None => Err(anyhow::anyhow!("no predictions of `{}`", sheet.task)),
    }
}

fn check_rows(sheet: &Sheet, rows: &PredictionRows) -> Result<()> {
    ensure!(
        rows.ids.len() == sheet.rows,
        "{} rows of `{}`, and the official test set has {}",
        rows.ids.len(),
        sheet.split,
        sheet.rows
    );
    ensure!(rows.ids.iter().copied().eq(0..sheet.rows as i64), "its rows are not numbered as in the official test set");
    ensure!(rows.logits.iter().all(|logit| logit.is_finite()), "a prediction is not a number");
    Ok(())
}

/// The task as the leaderboard has it.
fn official(sheet: &Sheet) -> Result<TaskSpec> {
    tasks::builtin(sheet.task).context("the leaderboard's tasks are built in")
}

/// A prediction as the leaderboard spells it: a class by the name or number that its label has in the classic files, wherever the
/// task was read from; a value within the range.
fn spelled(task: &TaskSpec, official: &TaskSpec, prediction: f64) -> Result<String> {
    if let Some([least, greatest]) = official.range {
        return Ok(format!("{:.3}", prediction.clamp(least, greatest)));
    }
    let label = &task.labels[prediction as usize];
    let class = official.labels.iter().position(|known| known == label);
    let class = class.with_context(|| format!("`{}` has no label `{label}` on the leaderboard", official.name))?;
    let names = if official.spelled.is_empty() { &official.labels } else { &official.spelled };
    Ok(names[class].clone())
}

fn table(values: impl Iterator<Item = String>) -> String {
    let rows = values.enumerate().map(|(index, value)| format!("{index}\t{value}\n"));
    std::iter::once("index\tprediction\n".to_owned()).chain(rows).collect()
}
