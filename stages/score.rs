//! `score`: metrics of models on dev splits, and the proof that an ONNX model answers as its checkpoint does, or nearly.

mod side_by_side;
mod variant;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use bam_contract::artifact::checkpoint::head_for;
use bam_contract::artifact::encoder::check_tokenizer;
use bam_contract::artifact::onnx::GRAPH;
use bam_contract::artifact::scores::{Score, Scores};
use bam_contract::artifact::tokens::{TokenRows, Tokens};
use bam_contract::fault::Fault;
use bam_contract::job::{Job, JobInput};
use bam_contract::metric::Metric;
use bam_contract::stage::{Precision, ScoreParams};
use bam_contract::task::{Split, TaskSpec};

use crate::alike;
use crate::crew::Crew;
use crate::encoder::{Model, device};
use crate::infer;
use crate::report::{Outcome, Reporter};
use crate::text::plural;

/// Labelled rows of one task's dev split.
struct DevSet {
    /// The stage that made its tokens.
    stage: String,
    tokens: Tokens,
    split: Split,
    labels: Vec<Option<f64>>,
}

/// Logits of each dev set, in the sets' order; none where the model has no head for the task.
type Answers = Vec<Option<Vec<f32>>>;

pub(crate) fn run(params: &ScoreParams, job: &Job, reporter: &Reporter) -> Result<Outcome> {
    let sets = dev_sets(job)?;
    let models: Vec<_> = job.inputs_of("models").collect();
    let mut scores = Scores { fingerprint: Some(job.fingerprint), ..Scores::default() };
    // An ONNX model is held against a checkpoint that is often scored too: each is run once.
    let mut checkpoints: HashMap<PathBuf, Answers> = HashMap::new();
    let mut uniform = Vec::new();
    for (index, input) in models.iter().enumerate() {
        reporter.progress(index as u64, models.len() as u64, "model", input.stage.clone());
        let answers = if is_onnx(&input.path) {
            // One that a program of the user's made has no checkpoint that is known here.
            let slot = format!("reference.{}", input.stage);
            let source = job.inputs.iter().find(|input| input.slot == slot);
            let expected = source
                .map(|source| checkpoint_answers(&source.path, &source.stage, &sets, job, &mut checkpoints))
                .transpose()?;
            variant::answers(input, &sets, expected.as_ref(), job, &mut scores, reporter)?
        } else {
            checkpoint_answers(&input.path, &input.stage, &sets, job, &mut checkpoints)?
        };
        ensure!(
            answers.iter().any(Option::is_some),
            Fault::new(
                format!("model `{}` has a head for none of the tasks", input.stage),
                "list the `tokens` of its tasks"
            )
        );
        for (set, logits) in sets.iter().zip(&answers) {
            if let Some(sameness) = logits.as_deref().and_then(|logits| sameness(&set.tokens.task, set.split, logits)) {
                uniform.push(format!("`{}` {sameness}", input.stage));
            }
        }
        scores
            .scores
            .extend(sets.iter().zip(&answers).filter_map(|(set, logits)| set.score(input, logits.as_deref()?)));
    }
    reporter.warnings(&uniform, &job.stage);
    // What fails leaves no scores behind; which of the models to serve must be told all the same.
    variant::check_differences(&scores, params.tolerance)
        .and_then(|()| variant::check_losses(&scores, params.max_drop))
        .inspect_err(|_| Reporter::log(&side_by_side::table(&scores)))?;
    for score in &scores.scores {
        for (metric, value) in &score.metrics {
            reporter.metric(&format!("{}/{}/{}/{}", score.model, score.task, score.split, metric.name()), *value);
        }
    }
    scores.write(&job.output)?;
    let summary =
        format!("{} on {}{}", plural(models.len(), "model"), plural(sets.len(), "dev set"), variant::summary(&scores));
    let outcome = Outcome::from(summary);
    Ok(outcome.with("device", device::name(device::by_name(&job.device)?)))
}

fn is_onnx(folder: &Path) -> bool {
    folder.join(GRAPH).is_file()
}

/// All labelled dev splits. A task without one, such as the diagnostic set, has nothing to score.
fn dev_sets(job: &Job) -> Result<Vec<DevSet>> {
    let mut sets = Vec::new();
    for input in job.inputs_of("tokens") {
        let tokens = Tokens::open(&input.path)?;
        for split in tokens.splits.iter().copied().filter(|split| split.is_dev()) {
            let labels = tokens.labels(split)?;
            if labels.iter().all(Option::is_none) {
                continue;
            }
            sets.push(DevSet { stage: input.stage.clone(), tokens: tokens.clone(), split, labels });
        }
    }
    let hint = "`score` needs tokens with a `dev` split and its labels";
    ensure!(!sets.is_empty(), Fault::new("none of the `tokens` has labelled dev rows", hint));
    Ok(sets)
}

impl DevSet {
    /// The head of a model that answers these rows, if it has one.
    fn head(&self, heads: &[TaskSpec], folder: &Path, stage: &str) -> Result<Option<usize>> {
        let head = head_for(heads, &self.tokens.task, stage)?;
        if head.is_some() {
            check_tokenizer(folder, &self.tokens.tokenizer, &self.stage)?;
        }
        Ok(head)
    }

    fn metrics(&self, logits: &[f32]) -> Vec<(Metric, f64)> {
        infer::metrics(&self.tokens.task, &self.labels, logits)
    }

    fn score(&self, model: &JobInput, logits: &[f32]) -> Option<Score> {
        let metrics = self.metrics(logits);
        let (model, task) = (model.stage.clone(), self.tokens.task.name.clone());
        (!metrics.is_empty()).then_some(Score { model, task, split: self.split, rows: self.labels.len(), metrics })
    }
}

/// Says so where all rows are answered alike, so that metrics tell nothing, or chance.
fn sameness(task: &TaskSpec, split: Split, logits: &[f32]) -> Option<String> {
    let answers: Vec<f64> = logits.chunks(task.outputs()).map(|logits| task.prediction(logits)).collect();
    let spread = alike::spread(task, &answers)?;
    let (rows, name) = (plural(answers.len(), &format!("{split} row")), &task.name);
    Some(if task.is_regression() {
        format!("answers all {rows} of `{name}` alike, within {spread:.0e}: correlations of that are chance")
    } else {
        format!("answers all {rows} of `{name}` with `{}`", task.labels[answers[0] as usize])
    })
}

fn checkpoint_answers(
    folder: &Path,
    stage: &str,
    sets: &[DevSet],
    job: &Job,
    known: &mut HashMap<PathBuf, Answers>,
) -> Result<Answers> {
    if let Some(answers) = known.get(folder) {
        return Ok(answers.clone());
    }
    let (model, _) = Model::open(folder, Precision::Fp32, device::by_name(&job.device)?)?;
    let crew = Crew::new(job.threads, model.device)?;
    let answer = |set: &DevSet| -> Result<Option<Vec<f32>>> {
        let Some(head) = set.head(&model.tasks, folder, stage)? else { return Ok(None) };
        let pad_id = set.tokens.tokenizer.pad_id;
        let logits = |rows: &TokenRows| Ok(infer::logits(&model, head, rows, pad_id, &crew, |_| {}));
        infer::of_split(&set.tokens, set.split, logits).map(Some)
    };
    let answers = sets.iter().map(answer).collect::<Result<Answers>>()?;
    known.insert(folder.to_owned(), answers.clone());
    Ok(answers)
}
