//! Whether `compare` and `submit` are given the tasks and splits that they need, as far as the pipeline file says.

use std::collections::{BTreeMap, BTreeSet};

use bam_contract::artifact::submission::{SHEETS, WNLI};
use bam_contract::stage::{StageSpec, SubmitParams};
use bam_contract::task::Split;

use super::Stages;
use super::learning::task;
use crate::pipeline::mistake::Mistakes;

pub(super) fn check(at: usize, stages: &Stages<'_>, mistakes: &mut Mistakes) {
    match stages.spec(at) {
        StageSpec::Compare(_) => compared(at, stages, mistakes),
        StageSpec::Submit(params) => submitted(at, params, stages, mistakes),
        _ => {}
    }
}

/// Methods are compared on dev rows of the same tasks.
fn compared(at: usize, stages: &Stages<'_>, mistakes: &mut Mistakes) {
    let mut by_method = BTreeMap::<&str, BTreeSet<&str>>::new();
    let mut seen = BTreeSet::new();
    for edge in &stages.edges[at] {
        let Some((method, number)) = edge.slot.strip_prefix("methods.").and_then(|slot| slot.rsplit_once('.')) else {
            continue;
        };
        if !may_predict(edge.stage, Split::Dev, stages) {
            let message = format!("compares `{}`, which predicts no dev rows", stages.name(edge.stage));
            let hint = "give that `predict` stage `splits: [dev]`";
            add(at, &["methods", method, number], &message, Some(hint), stages, mistakes);
        }
        if !seen.insert((method, edge.stage)) {
            let message = format!("has `{}` twice for method `{method}`", stages.name(edge.stage));
            let hint = "each trial wants a training of its own, with a seed of its own";
            add(at, &["methods", method, number], &message, Some(hint), stages, mistakes);
        }
        let Some(task) = task(edge.stage, stages) else { return };
        by_method.entry(method).or_default().insert(&task.name);
    }
    let all: BTreeSet<&str> = by_method.values().flatten().copied().collect();
    for (method, tasks) in &by_method {
        let lacks: Vec<&str> = all.difference(tasks).copied().collect();
        if !lacks.is_empty() {
            let message = format!("has predictions of {}, but none for method `{method}`", lacks.join(", "));
            let hint = "methods are compared on the same tasks";
            add(at, &["methods", method], &message, Some(hint), stages, mistakes);
        }
    }
}

/// Each task of the leaderboard is answered once.
fn submitted(at: usize, params: &SubmitParams, stages: &Stages<'_>, mistakes: &mut Mistakes) {
    let mut given = BTreeMap::<&str, &str>::new();
    let predictions = stages.listed(at, "predictions");
    let all_are_known = predictions.len() == params.predictions.len();
    for (number, predicted) in predictions {
        let Some(task) = task(predicted, stages).map(|task| task.name.as_str()) else { return };
        let name = stages.name(predicted);
        let place = ["predictions", &number.to_string()];
        let other = given.insert(task, name);
        let sheets: Vec<_> = SHEETS.iter().filter(|sheet| sheet.task == task).collect();
        let mut wrong = |place: &[&str], message: String, hint: Option<&str>| {
            add(at, place, &message, hint, stages, mistakes);
        };
        if sheets.is_empty() {
            wrong(&place, format!("reads `{name}`, but `{task}` is no task of the leaderboard"), None);
        } else if let Some(sheet) = sheets.iter().find(|sheet| !may_predict(predicted, sheet.split, stages)) {
            let hint = format!("give that `predict` stage `splits: [{}]`", sheet.split);
            wrong(&place, format!("reads `{name}`, which predicts no {} rows", sheet.split), Some(&hint));
        } else if let Some(other) = other {
            wrong(&place, format!("has two predictions of `{task}`: `{other}` and `{name}`"), None);
        } else if params.filler.iter().any(|filled| filled == task) {
            wrong(&["filler"], format!("has `{name}` and `filler` for `{task}`; one is enough"), None);
        }
    }
    let is_answered =
        |task: &str| task == WNLI || given.contains_key(task) || params.filler.iter().any(|name| name == task);
    let mut lacks: Vec<&str> = SHEETS.iter().map(|sheet| sheet.task).filter(|task| !is_answered(task)).collect();
    lacks.dedup();
    // A list that is itself wrong has been told of.
    if !lacks.is_empty() && all_are_known && !stages.is_flawed(at, "predictions") {
        let hint =
            format!("predict their test sets, or let one constant answer them: `filler: [{}]`", lacks.join(", "));
        let message = format!("has no answers for {}", lacks.join(", "));
        add(at, &["predictions"], &message, Some(&hint), stages, mistakes);
    }
}

fn may_predict(at: usize, split: Split, stages: &Stages<'_>) -> bool {
    match stages.spec(at) {
        StageSpec::Predict(predict) => predict.splits.is_empty() || predict.splits.contains(&split),
        _ => true,
    }
}

fn add(at: usize, path: &[&str], what: &str, hint: Option<&str>, stages: &Stages<'_>, mistakes: &mut Mistakes) {
    stages.mistake(at, path, format!("stage `{}` {what}", stages.name(at)), hint, mistakes);
}
