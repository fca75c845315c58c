//! The predictions that are compared, by task: of all methods, for the same rows.

use anyhow::{Result, ensure};
use bam_contract::artifact::predictions::Predictions;
use bam_contract::digest::Digest;
use bam_contract::fault::Fault;
use bam_contract::job::{Job, JobInput};
use bam_contract::metric::Metric;
use bam_contract::task::{Split, TaskSpec};

/// What all methods predict for one task's dev rows.
#[derive(Debug)]
pub(super) struct TaskTrials {
    pub(super) spec: TaskSpec,
    pub(super) gold: Vec<f64>,
    /// `[method][trial][row]`.
    pub(super) methods: Vec<Vec<Vec<f64>>>,
    ids: Vec<i64>,
    /// Of each trial, by method: its stage, and the digest of its predictions.
    seen: Vec<Vec<(String, Digest)>>,
}

impl TaskTrials {
    pub(super) fn metric(&self) -> Metric {
        self.spec.metrics[0]
    }

    /// Trials of two methods that are the same bytes: of each the method's number and the stage.
    pub(super) fn copies(&self) -> impl Iterator<Item = ((usize, &str), (usize, &str))> {
        let all = || {
            self.seen.iter().enumerate().flat_map(|(method, trials)| trials.iter().map(move |trial| (method, trial)))
        };
        let pairs =
            all().flat_map(move |one| all().filter(move |other| other.0 > one.0).map(move |other| (one, other)));
        pairs
            .filter(|((_, (_, one)), (_, (_, other)))| one == other)
            .map(|((one, (stage, _)), (other, (copy, _)))| ((one, stage.as_str()), (other, copy.as_str())))
    }
}

/// The tasks in the order in which the first method has them.
pub(super) fn read(methods: &[String], job: &Job) -> Result<Vec<TaskTrials>> {
    let mut tasks: Vec<TaskTrials> = Vec::new();
    for (number, method) in methods.iter().enumerate() {
        for input in job.inputs_of(&format!("methods.{method}")) {
            let trial = read_trial(input)?;
            let at = tasks.iter().position(|task| task.spec.name == trial.spec.name);
            let at = at.unwrap_or_else(|| {
                let (spec, gold, ids) = (trial.spec.clone(), trial.gold.clone(), trial.ids.clone());
                let (methods, seen) = (vec![Vec::new(); methods.len()], vec![Vec::new(); methods.len()]);
                tasks.push(TaskTrials { spec, gold, methods, ids, seen });
                tasks.len() - 1
            });
            let task = &mut tasks[at];
            ensure!(
                task.spec.labels == trial.spec.labels && task.ids == trial.ids && task.gold == trial.gold,
                Fault::new(
                    format!("`{}` predicts other dev rows of `{}` than those before it", input.stage, task.spec.name),
                    "let all methods predict the same `tokenize` stage's rows"
                )
            );
            if let Some((same, _)) = task.seen[number].iter().find(|(_, digest)| *digest == input.digest) {
                let message =
                    format!("`{same}` and `{}` of method `{method}` are the same trial, byte for byte", input.stage);
                let hint = "each trial wants a training of its own: give its `train` stage `seed: $seed`";
                return Err(Fault::new(message, hint).into());
            }
            task.seen[number].push((input.stage.clone(), input.digest));
            task.methods[number].push(trial.predicted);
        }
    }
    for task in &tasks {
        if let Some(lacks) = task.methods.iter().position(Vec::is_empty) {
            let message = format!("method `{}` has no predictions of `{}`", methods[lacks], task.spec.name);
            return Err(Fault::new(message, "methods are compared on the same tasks").into());
        }
    }
    Ok(tasks)
}

struct TrialRows {
    spec: TaskSpec,
    ids: Vec<i64>,
    gold: Vec<f64>,
    predicted: Vec<f64>,
}

fn read_trial(input: &JobInput) -> Result<TrialRows> {
    let predictions = Predictions::open(&input.path)?;
    let name = &input.stage;
    let hint = "`compare` reads predictions of labelled dev rows: `splits: [dev]`";
    ensure!(predictions.splits.contains(&Split::Dev), Fault::new(format!("`{name}` has no dev rows"), hint));
    let rows = predictions.read(Split::Dev)?;
    let gold = rows.labels.iter().copied().collect::<Option<Vec<f64>>>().filter(|gold| !gold.is_empty());
    let gold = gold.ok_or_else(|| Fault::new(format!("dev rows of `{name}` have no labels"), hint))?;
    let spec = predictions.task;
    let predicted = rows.logits.chunks(spec.outputs()).map(|logits| spec.prediction(logits)).collect();
    Ok(TrialRows { spec, ids: rows.ids, gold, predicted })
}
