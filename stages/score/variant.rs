//! ONNX models beside the checkpoint that they were exported from.

use std::fs;
use std::time::Instant;

use anyhow::{Result, ensure};
use bam_contract::artifact::checkpoint::ModelInfo;
use bam_contract::artifact::onnx::GRAPH;
use bam_contract::artifact::scores::{LogitDifference, Loss, Scores, Variant};
use bam_contract::fault::Fault;
use bam_contract::job::{Job, JobInput};
use bam_contract::task::TaskSpec;
use bam_inference::session::OnnxSession;

use super::{Answers, DevSet};
use crate::infer;
use crate::report::Reporter;

/// What an ONNX model answers, and in `scores` how near that is to what its checkpoint answers, if that is known.
pub(super) fn answers(
    input: &JobInput,
    sets: &[DevSet],
    expected: Option<&Answers>,
    job: &Job,
    scores: &mut Scores,
    reporter: &Reporter,
) -> Result<Answers> {
    let info = ModelInfo::read(&input.path)?;
    let unscored = unscored(&info, sets);
    if !unscored.is_empty() {
        let model = &input.stage;
        reporter.warning(format!("no `tokens` score {unscored} of `{model}`: what it lost there is not known"));
    }
    let mut session = OnnxSession::open(&input.path, job.threads)?;
    let (mut rows, mut secs) = (0, 0.0);
    let mut answer = |set: &DevSet| {
        let Some(head) = set.head(&info.tasks, &input.path, &input.stage)? else { return Ok(None) };
        rows += set.labels.len();
        let logits = infer::of_split(&set.tokens, set.split, |rows| {
            let started = Instant::now();
            let logits = infer::onnx_logits(&mut session, &info.tasks[head], rows, set.tokens.tokenizer.pad_id);
            secs += started.elapsed().as_secs_f64();
            logits
        })?;
        Ok(Some(logits))
    };
    let answers = sets.iter().map(&mut answer).collect::<Result<Answers>>()?;
    if rows > 0 {
        scores.rows_per_second.insert(input.stage.clone(), rows as f64 / secs);
    }
    let mut variant = Variant {
        model: input.stage.clone(),
        precision: info.precision,
        bytes: fs::metadata(input.path.join(GRAPH))?.len(),
        losses: Vec::new(),
    };
    for ((set, answer), expected) in sets.iter().zip(&answers).zip(expected.into_iter().flatten()) {
        let (Some(answer), Some(expected)) = (answer, expected) else { continue };
        scores.logit_differences.push(difference(input, set, answer, expected));
        variant.losses.extend(loss(set, answer, expected));
    }
    scores.variants.push(variant);
    Ok(answers)
}

/// Heads that none of the sets is for.
fn unscored(info: &ModelInfo, sets: &[DevSet]) -> String {
    let is_scored = |head: &&TaskSpec| sets.iter().any(|set| set.tokens.task.head() == head.name);
    let unscored: Vec<_> =
        info.tasks.iter().filter(|head| !is_scored(head)).map(|head| format!("`{}`", head.name)).collect();
    unscored.join(", ")
}

fn difference(model: &JobInput, set: &DevSet, answer: &[f32], expected: &[f32]) -> LogitDifference {
    LogitDifference {
        model: model.stage.clone(),
        task: set.tokens.task.name.clone(),
        split: set.split,
        rows: set.labels.len(),
        max_abs_difference: greatest_difference(answer, expected),
    }
}

/// NaN where either side has one: it must not pass for a small difference, as it would through `f64::max`.
fn greatest_difference(a: &[f32], b: &[f32]) -> f64 {
    let differences = a.iter().zip(b).map(|(a, b)| f64::from((a - b).abs()));
    differences.fold(0.0, |greatest, each| if each.is_nan() || each > greatest { each } else { greatest })
}

fn loss(set: &DevSet, answer: &[f32], expected: &[f32]) -> Option<Loss> {
    let (metric, before) = *set.metrics(expected).first()?;
    let (_, after) = *set.metrics(answer).first()?;
    let (task, split, rows) = (set.tokens.task.name.clone(), set.split, set.labels.len());
    Some(Loss { task, split, rows, metric, values: [before, after] })
}

pub(super) fn check_differences(scores: &Scores, tolerance: f64) -> Result<()> {
    for difference in scores.exact_differences() {
        let within = difference.max_abs_difference <= tolerance;
        ensure!(
            within,
            Fault::new(
                format!(
                    "ONNX model `{}` differs from its checkpoint by {:.1e} on `{}` ({} rows); {tolerance:.0e} is allowed",
                    difference.model, difference.max_abs_difference, difference.task, difference.rows
                ),
                "its logits are not to be trusted; raise `tolerance` only if the checkpoint's are very large"
            )
        );
    }
    Ok(())
}

/// Fails where a model has lost too much of a task, and names each, the worst first. One whose logits are its checkpoint's
/// has lost nothing, though rounding may reorder answers that are nearly alike.
pub(super) fn check_losses(scores: &Scores, max_drop: f64) -> Result<()> {
    let losses = inexact(scores).flat_map(|variant| variant.losses.iter().map(move |loss| (variant, loss)));
    // NaN, the score of a model that answers NaN, is no small loss.
    let mut too_great: Vec<_> = losses.filter(|(_, loss)| loss.points().is_nan() || loss.points() > max_drop).collect();
    too_great.sort_by(|(_, one), (_, other)| other.points().total_cmp(&one.points()));
    let told = |(variant, loss): &(&Variant, &Loss)| {
        let [before, after] = loss.values.map(|value| value * 100.0);
        let (model, points, metric) = (&variant.model, loss.points(), loss.metric.name());
        format!(
            "`{model}` loses {points:.1} points of {metric} on `{}` ({before:.1} → {after:.1}, {} rows)",
            loss.task, loss.rows
        )
    };
    ensure!(
        too_great.is_empty(),
        Fault::new(
            format!(
                "too much is lost against the checkpoint, where {max_drop} is allowed: {}",
                too_great.iter().map(told).collect::<Vec<_>>().join("; ")
            ),
            "export it with another `precision`, or raise `max_drop` if that is no matter"
        )
    );
    Ok(())
}

/// Those that answer only nearly as their checkpoints do.
fn inexact(scores: &Scores) -> impl Iterator<Item = &Variant> {
    scores.variants.iter().filter(|variant| !variant.is_exact())
}

/// How near the ONNX models are to their checkpoints, for the stage's line.
pub(super) fn summary(scores: &Scores) -> String {
    let greatest = scores.exact_differences().map(|difference| difference.max_abs_difference).reduce(f64::max);
    let mut summary = greatest.map(|greatest| format!(", ONNX within {greatest:.1e} of libtorch")).unwrap_or_default();
    let lost = inexact(scores).filter_map(|variant| Some(variant.greatest_loss()?.points()));
    if let Some(most) = lost.max_by(f64::total_cmp) {
        summary += &format!(", at most {:.1} points lost", most.max(0.0));
    }
    summary
}
