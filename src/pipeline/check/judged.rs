//! Whether `compare` and `submit` are given the tasks and splits that they need, as far as the pipeline file says.

use std::collections::{BTreeMap, BTreeSet};

use bam_contract::artifact::submission::{SHEETS, WNLI};
use bam_contract::stage::{StageSpec, SubmitParams};
use bam_contract::task::Split;

use super::super::mistake::Mistakes;
use super::{Edge, Typed, task_of};

pub(super) fn check(at: usize, stages: &[Typed], edges: &[Vec<Edge>], mistakes: &mut Mistakes) {
    match &stages[at].spec {
        StageSpec::Compare(_) => compared(at, stages, edges, mistakes),
        StageSpec::Submit(params) => submitted(at, params, stages, edges, mistakes),
        _ => {}
    }
}

/// Methods are compared on dev rows of the same tasks.
fn compared(at: usize, stages: &[Typed], edges: &[Vec<Edge>], mistakes: &mut Mistakes) {
    let stage = &stages[at];
    let mut by_method = BTreeMap::<&str, BTreeSet<String>>::new();
    for edge in &edges[at] {
        let Some((method, number)) = edge.slot.strip_prefix("methods.").and_then(|slot| slot.rsplit_once('.')) else {
            continue;
        };
        let place = ["methods", method, number].map(ToOwned::to_owned);
        if !may_predict(edge.stage, Split::Dev, stages) {
            let hint = Some("give that `predict` stage `splits: [dev]`".to_owned());
            add(
                stage,
                &place,
                &format!("compares `{}`, which predicts no dev rows", stages[edge.stage].name),
                hint,
                mistakes,
            );
        }
        let Some(task) = task_of(edge.stage, stages, edges, 0) else { return };
        by_method.entry(method).or_default().insert(task);
    }
    let all: BTreeSet<&String> = by_method.values().flatten().collect();
    for (method, tasks) in &by_method {
        let lacks: Vec<&str> = all.iter().filter(|task| !tasks.contains(**task)).map(|task| task.as_str()).collect();
        if !lacks.is_empty() {
            let place = ["methods".to_owned(), (*method).to_owned()];
            let message = format!("has predictions of {}, but none for method `{method}`", lacks.join(", "));
            add(stage, &place, &message, Some("methods are compared on the same tasks".to_owned()), mistakes);
        }
    }
}

/// Each task of the leaderboard is answered once.
fn submitted(at: usize, params: &SubmitParams, stages: &[Typed], edges: &[Vec<Edge>], mistakes: &mut Mistakes) {
    let stage = &stages[at];
    let mut given = BTreeMap::<String, &str>::new();
    for edge in &edges[at] {
        let Some(task) = task_of(edge.stage, stages, edges, 0) else { return };
        let name = stages[edge.stage].name.as_str();
        let number = edge.slot.rsplit('.').next().unwrap_or_default();
        let place = ["predictions", number].map(ToOwned::to_owned);
        let other = given.insert(task.clone(), name);
        let sheets: Vec<_> = SHEETS.iter().filter(|sheet| sheet.task == task).collect();
        if sheets.is_empty() {
            add(stage, &place, &format!("reads `{name}`, but `{task}` is no task of the leaderboard"), None, mistakes);
        } else if let Some(sheet) = sheets.iter().find(|sheet| !may_predict(edge.stage, sheet.split, stages)) {
            let hint = Some(format!("give that `predict` stage `splits: [{}]`", sheet.split));
            add(stage, &place, &format!("reads `{name}`, which predicts no {} rows", sheet.split), hint, mistakes);
        } else if let Some(other) = other {
            let message = format!("has two predictions of `{task}`: `{other}` and `{name}`");
            add(stage, &place, &message, None, mistakes);
        } else if params.filler.contains(&task) {
            let place = ["filler".to_owned()];
            add(stage, &place, &format!("has `{name}` and `filler` for `{task}`; one is enough"), None, mistakes);
        }
    }
    let is_answered =
        |task: &str| task == WNLI || given.contains_key(task) || params.filler.iter().any(|name| name == task);
    let mut lacks: Vec<&str> = SHEETS.iter().map(|sheet| sheet.task).filter(|task| !is_answered(task)).collect();
    lacks.dedup();
    // A list that is itself wrong has been told of.
    if !lacks.is_empty() && !stage.flawed.contains("predictions") && edges[at].len() == params.predictions.len() {
        let hint =
            format!("predict their test sets, or let one constant answer them: `filler: [{}]`", lacks.join(", "));
        let message = format!("has no answers for {}", lacks.join(", "));
        add(stage, &["predictions".to_owned()], &message, Some(hint), mistakes);
    }
}

fn may_predict(at: usize, split: Split, stages: &[Typed]) -> bool {
    match &stages[at].spec {
        StageSpec::Predict(predict) => predict.splits.is_empty() || predict.splits.contains(&split),
        _ => true,
    }
}

fn add(stage: &Typed, at: &[String], message: &str, hint: Option<String>, mistakes: &mut Mistakes) {
    let place = stage.origin.value(&mistakes.source, at);
    let owner = (stage.origin.written.as_str(), stage.name.as_str());
    mistakes.add_in(owner, place, format!("stage `{}` {message}", stage.name), hint);
}
