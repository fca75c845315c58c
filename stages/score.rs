//! `score`: metrics of models on dev splits, and the proof that an ONNX model answers as its checkpoint does.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use bam_contract::artifact::checkpoint::{ModelInfo, head_for};
use bam_contract::artifact::encoder::check_tokenizer;
use bam_contract::artifact::onnx::GRAPH;
use bam_contract::artifact::scores::{LogitDifference, Score, Scores};
use bam_contract::artifact::tokens::{TokenRows, TokenizerInfo, Tokens};
use bam_contract::fault::Fault;
use bam_contract::job::{Job, JobInput};
use bam_contract::stage::{Precision, ScoreParams};
use bam_contract::task::{Split, TaskSpec};

use crate::encoder::{Model, device};
use crate::infer;
use crate::report::{Outcome, Reporter};
use bam_inference::session::OnnxSession;

/// Labelled rows of one task's dev split.
struct DevSet {
    /// Stage of its tokens.
    tokens: String,
    task: TaskSpec,
    split: Split,
    rows: TokenRows,
    tokenizer: TokenizerInfo,
}

/// Logits of each dev set, in the sets' order; none where the model has no head for the task.
type Answers = Vec<Option<Vec<f32>>>;

pub(crate) fn run(params: &ScoreParams, job: &Job, reporter: &Reporter) -> Result<Outcome> {
    let sets = dev_sets(job)?;
    let models: Vec<_> = job.inputs_of("models").collect();
    let mut scores = Scores { fingerprint: Some(job.fingerprint), ..Scores::default() };
    // An ONNX model is held against a checkpoint that is often scored too: each is run once.
    let mut checkpoints: HashMap<PathBuf, Answers> = HashMap::new();
    for (index, input) in models.iter().enumerate() {
        reporter.progress(index as u64, models.len() as u64, "model", input.stage.clone());
        let answers = if is_onnx(&input.path) {
            let answers = onnx_answers(input, &sets, job)?;
            // One that a program of the user's made has no checkpoint that is known here.
            let slot = format!("reference.{}", input.stage);
            if let Some(source) = job.inputs.iter().find(|input| input.slot == slot) {
                let expected = checkpoint_answers(&source.path, &source.stage, &sets, job, &mut checkpoints)?;
                scores.logit_differences.extend(differences(input, &sets, &answers, &expected));
            }
            answers
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
        scores
            .scores
            .extend(sets.iter().zip(&answers).filter_map(|(set, logits)| set.score(input, logits.as_deref()?)));
    }
    check_differences(&scores, params.tolerance)?;
    for score in &scores.scores {
        for (metric, value) in &score.metrics {
            reporter.metric(&format!("{}/{}/{}/{}", score.model, score.task, score.split, metric.name()), *value);
        }
    }
    scores.write(&job.output)?;
    let greatest = scores.logit_differences.iter().map(|difference| difference.max_abs_difference).reduce(f64::max);
    let exact = greatest.map(|greatest| format!(", ONNX within {greatest:.1e} of libtorch")).unwrap_or_default();
    let outcome = Outcome::from(format!("{} models on {} dev sets{exact}", models.len(), sets.len()));
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
            let rows = tokens.read(split)?;
            let (tokenizer, task) = (tokens.tokenizer.clone(), tokens.task.clone());
            sets.push(DevSet { tokens: input.stage.clone(), task, split, rows, tokenizer });
        }
    }
    let hint = "`score` needs tokens with a `dev` split";
    ensure!(!sets.is_empty(), Fault::new("none of the `tokens` has a dev split", hint));
    Ok(sets)
}

impl DevSet {
    /// The head of a model that answers these rows, if it has one.
    fn head(&self, heads: &[TaskSpec], folder: &Path, stage: &str) -> Result<Option<usize>> {
        let head = head_for(heads, &self.task, stage)?;
        if head.is_some() {
            check_tokenizer(folder, &self.tokenizer, &self.tokens)?;
        }
        Ok(head)
    }

    fn score(&self, model: &JobInput, logits: &[f32]) -> Option<Score> {
        let metrics = infer::metrics(&self.task, &self.rows.labels, logits);
        let (model, task) = (model.stage.clone(), self.task.name.clone());
        (!metrics.is_empty()).then(|| Score { model, task, split: self.split, rows: self.rows.len(), metrics })
    }
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
    let answer = |set: &DevSet| -> Result<Option<Vec<f32>>> {
        let head = set.head(&model.tasks, folder, stage)?;
        Ok(head.map(|head| infer::logits(&model, head, &set.rows, set.tokenizer.pad_id, |_| {})))
    };
    let answers = sets.iter().map(answer).collect::<Result<Answers>>()?;
    known.insert(folder.to_owned(), answers.clone());
    Ok(answers)
}

fn onnx_answers(input: &JobInput, sets: &[DevSet], job: &Job) -> Result<Answers> {
    let info = ModelInfo::read(&input.path)?;
    let mut session = OnnxSession::open(&input.path, job.threads)?;
    let answer = |set: &DevSet| {
        let head = set.head(&info.tasks, &input.path, &input.stage)?;
        head.map(|head| infer::onnx_logits(&mut session, &info.tasks[head], &set.rows, set.tokenizer.pad_id))
            .transpose()
    };
    sets.iter().map(answer).collect()
}

fn differences(model: &JobInput, sets: &[DevSet], answers: &Answers, expected: &Answers) -> Vec<LogitDifference> {
    let mut differences = Vec::new();
    for ((set, answer), expected) in sets.iter().zip(answers).zip(expected) {
        if let (Some(answer), Some(expected)) = (answer, expected) {
            differences.push(LogitDifference {
                model: model.stage.clone(),
                task: set.task.name.clone(),
                split: set.split,
                rows: set.rows.len(),
                max_abs_difference: greatest_difference(answer, expected),
            });
        }
    }
    differences
}

/// NaN where either side has one: it must not pass for a small difference, as it would through `f64::max`.
fn greatest_difference(a: &[f32], b: &[f32]) -> f64 {
    let differences = a.iter().zip(b).map(|(a, b)| f64::from((a - b).abs()));
    differences.fold(0.0, |greatest, each| if each.is_nan() || each > greatest { each } else { greatest })
}

fn check_differences(scores: &Scores, tolerance: f64) -> Result<()> {
    for difference in &scores.logit_differences {
        let within = difference.max_abs_difference <= tolerance;
        ensure!(
            within,
            Fault::new(
                format!(
                    "ONNX model `{}` differs from its checkpoint by {:.1e} on `{}` ({} rows); {tolerance:.0e} is allowed",
                    difference.model, difference.max_abs_difference, difference.task, difference.rows
                ),
                "its logits are not to be trusted; raise `tolerance` only for a variant of lower precision"
            )
        );
    }
    Ok(())
}
