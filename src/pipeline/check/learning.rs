//! What stages that learn from each other must agree on: tasks, labels, rows and folds.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;

use bam_contract::stage::{
    DataParams, EnsembleParams, Fold, Heads, PredictParams, ScoreParams, StageSpec, TrainParams,
};
use bam_contract::task::{Split, TaskSpec};

use super::Stages;
use crate::pipeline::draft::did_you_mean;
use crate::pipeline::mistake::Mistakes;

pub(super) fn check(at: usize, stages: &Stages<'_>, mistakes: &mut Mistakes) {
    match stages.spec(at) {
        StageSpec::Train(train) => {
            check_tasks(at, train, stages, mistakes);
            check_kept_heads(at, train, stages, mistakes);
        }
        StageSpec::Predict(predict) => check_model(at, predict, stages, mistakes),
        StageSpec::Ensemble(ensemble) => check_members(at, ensemble, stages, mistakes),
        StageSpec::Score(score) => check_scored(at, score, stages, mistakes),
        _ => {}
    }
}

/// A head learns from one table of tokens and at most one teacher, who knows its labels and saw all its rows.
fn check_tasks(at: usize, train: &TrainParams, stages: &Stages<'_>, mistakes: &mut Mistakes) {
    let stage = stages.name(at);
    let mut trained = BTreeMap::<&str, usize>::new();
    for (position, tokens) in stages.listed(at, "tokens") {
        let Some(task) = task(tokens, stages) else { continue };
        if let Some(other) = trained.insert(&task.name, tokens) {
            let message = two_tables(stage, &task.name, other, tokens, stages);
            stages.mistake(at, &["tokens", &position.to_string()], message, None, mistakes);
        }
    }
    // Where a program of the user's made the tokens, or what they are made from, only the stage itself can tell.
    let all_known = heads(at, stages).is_some();
    let mut taught = BTreeMap::<&str, usize>::new();
    for (position, teacher) in stages.listed(at, "teachers") {
        let Some(task) = task(teacher, stages) else { continue };
        let place = ["teachers", &position.to_string()];
        let name = stages.name(teacher);
        let Some(tokens) = trained.get(task.name.as_str()) else {
            if !all_known {
                continue;
            }
            let message =
                format!("stage `{stage}` has a teacher of task `{}`, `{name}`, but no tokens of it", task.name);
            stages.mistake(at, &place, message, None, mistakes);
            continue;
        };
        if let Some(lack) = lack(teacher, *tokens, stages) {
            let hint = "a teacher's table needs the rows that its student trains on";
            stages.mistake(at, &place, format!("teacher `{name}` of stage `{stage}` {lack}"), Some(hint), mistakes);
        } else if let Some(other) = taught.insert(&task.name, teacher) {
            let other = stages.name(other);
            let message = format!("stage `{stage}` has two teachers for task `{}`: `{other}` and `{name}`", task.name);
            let hint = "an `ensemble` stage makes one of them";
            stages.mistake(at, &place, message, Some(hint), mistakes);
        } else if let Some(difference) = self::task(*tokens, stages).and_then(|rows| labels_differ(task, rows)) {
            let message = format!("teacher `{name}` of stage `{stage}` {difference}");
            stages.mistake(at, &place, message, Some(SAME_TASK), mistakes);
        }
    }
    for unknown in train.anneal_of.keys().filter(|task| all_known && !trained.contains_key(task.as_str())) {
        let near = bam_contract::fault::closest(unknown, trained.keys().copied());
        let hint = near.map_or_else(
            || format!("it trains {}", trained.keys().copied().collect::<Vec<_>>().join(", ")),
            did_you_mean,
        );
        let message = format!("`anneal_of` of stage `{stage}` names the task `{unknown}`, which it doesn't train");
        stages.mistake_of_name(at, &["anneal_of", unknown], message, &hint, mistakes);
    }
}

fn two_tables(stage: &str, task: &str, one: usize, other: usize, stages: &Stages<'_>) -> String {
    let (one, other) = (stages.name(one), stages.name(other));
    format!("stage `{stage}` has two tables of tokens for task `{task}`: `{one}` and `{other}`")
}

/// Heads can be kept of a model that has some of these tasks, with the same labels and outputs.
fn check_kept_heads(at: usize, train: &TrainParams, stages: &Stages<'_>, mistakes: &mut Mistakes) {
    let (Heads::Keep, Some(init)) = (train.heads, stages.reads(at, "init")) else { return };
    let (Some(heads), Some(tasks)) = (heads(init, stages), heads(at, stages)) else { return };
    let StageSpec::Train(before) = stages.spec(init) else { return };
    let (stage, name) = (stages.name(at), stages.name(init));
    let kept: Vec<_> =
        tasks.iter().filter_map(|task| Some((task, heads.iter().find(|head| head.name == task.name)?))).collect();
    if kept.is_empty() {
        let message = format!("stage `{stage}` keeps the heads of `{name}`, which has none for its tasks");
        stages.mistake(at, &["heads"], message, Some("say `heads: new`"), mistakes);
    }
    for (task, head) in kept {
        if let Some(difference) = labels_differ(head, task) {
            let message = format!("`{name}`, whose heads stage `{stage}` keeps, {difference}");
            stages.mistake(at, &["init"], message, Some(SAME_TASK), mistakes);
        } else if task.is_regression() && before.regression_output != train.regression_output {
            let message = format!(
                "`regression_output` of stage `{stage}` isn't that of `{name}`, whose head of `{}` it keeps",
                task.name
            );
            stages.mistake(at, &["heads"], message, None, mistakes);
        }
    }
}

/// A model predicts tasks that it has heads for, and of a fold those rows that it was not trained on.
fn check_model(at: usize, predict: &PredictParams, stages: &Stages<'_>, mistakes: &mut Mistakes) {
    let Some(model) = stages.reads(at, "model") else { return };
    let (stage, name) = (stages.name(at), stages.name(model));
    if let (Some(heads), Some(rows)) =
        (heads(model, stages), stages.reads(at, "tokens").and_then(|tokens| task(tokens, stages)))
    {
        match heads.iter().find(|head| head.name == rows.head()) {
            None => {
                let known: Vec<_> = heads.iter().map(|head| head.name.as_str()).collect();
                let message = format!("model `{name}` of stage `{stage}` has no head for `{}`", rows.head());
                stages.mistake(at, &["model"], message, Some(&format!("it has {}", known.join(", "))), mistakes);
            }
            Some(head) => {
                if let Some(difference) = labels_differ(head, rows) {
                    let message = format!("model `{name}` of stage `{stage}` {difference}");
                    stages.mistake(at, &["model"], message, Some(SAME_TASK), mistakes);
                }
            }
        }
    }
    let (Some(fold), StageSpec::Train(train)) = (predict.fold, stages.spec(model)) else { return };
    let is_sound = [Some(fold), train.fold].into_iter().flatten().all(|fold| fold.mistake().is_none());
    if train.fold != Some(fold) && is_sound && !stages.is_flawed(model, "fold") {
        let message = format!(
            "stage `{stage}` predicts {}, but its model `{name}` {}",
            shown(fold),
            match train.fold {
                None => "was trained on all rows".to_owned(),
                Some(other) => format!("left out {}", shown(other)),
            }
        );
        stages.mistake(at, &["fold"], message, Some("predict the fold that the training left out"), mistakes);
    }
}

/// Tables that are averaged hold the same rows of one task, those that are joined all folds of it.
fn check_members(at: usize, ensemble: &EnsembleParams, stages: &Stages<'_>, mistakes: &mut Mistakes) {
    let stage = stages.name(at);
    let members = stages.listed(at, "predictions");
    let Some((_, first)) = members.first().copied() else { return };
    let one = stages.name(first);
    for (position, member) in members.iter().copied().skip(1) {
        let other = stages.name(member);
        // Of parts that are joined, the folds tell.
        if !ensemble.join && members[..position].iter().any(|(_, earlier)| *earlier == member) {
            let message = format!("stage `{stage}` has `{other}` twice");
            let place = ["predictions", &position.to_string()];
            stages.mistake(at, &place, message, Some("an ensemble is of different predictions"), mistakes);
            continue;
        }
        let mut say = |message: String, hint: &str| {
            stages.mistake(at, &["predictions", &position.to_string()], message, Some(hint), mistakes);
        };
        if let (Some(a), Some(b)) = (task(first, stages), task(member, stages)) {
            if a.name != b.name {
                let message =
                    format!("`{one}` of stage `{stage}` predicts task `{}`, `{other}` task `{}`", a.name, b.name);
                say(message, "an ensemble is of one task");
                continue;
            }
            if let Some(difference) = labels_differ(a, b) {
                say(format!("`{one}` of stage `{stage}` {difference} in `{other}`"), SAME_TASK);
                continue;
            }
        }
        if let (Some(a), Some(b)) = (splits(first, stages), splits(member, stages))
            && a != b
        {
            let message = format!("`{one}` and `{other}` of stage `{stage}` predict different splits");
            say(message, "give their `predict` stages the same `splits`");
        } else if !ensemble.join && fold(first, stages) != fold(member, stages) {
            let message = format!("`{one}` and `{other}` of stage `{stage}` predict different folds");
            say(message, "parts that folds left out are put together by `join: true`");
        }
    }
    if ensemble.join && members.iter().all(|(_, member)| task(*member, stages).is_some()) {
        let folds: Vec<_> = members.iter().map(|(_, member)| fold(*member, stages)).collect();
        if let Some(lack) = incomplete(&folds) {
            let hint = "list the parts of all folds, each once: `[parts@*]`";
            stages.mistake(at, &["predictions"], format!("stage `{stage}` joins {lack}"), Some(hint), mistakes);
        }
    }
}

/// A model is scored on tasks that it has heads for, with the same labels.
fn check_scored(at: usize, score: &ScoreParams, stages: &Stages<'_>, mistakes: &mut Mistakes) {
    let sets: Vec<_> = stages.listed(at, "tokens").into_iter().filter_map(|(_, tokens)| task(tokens, stages)).collect();
    if sets.len() < score.tokens.len() || stages.is_flawed(at, "tokens") {
        return;
    }
    let stage = stages.name(at);
    let mut scored = BTreeMap::<&str, usize>::new();
    for (position, tokens) in stages.listed(at, "tokens") {
        let Some(task) = task(tokens, stages) else { continue };
        if let Some(other) = scored.insert(&task.name, tokens) {
            let message = two_tables(stage, &task.name, other, tokens, stages);
            stages.mistake(at, &["tokens", &position.to_string()], message, Some("score them in two stages"), mistakes);
        }
    }
    for (position, model) in score.models.iter().enumerate() {
        let Some(heads) = stages.reads(at, &format!("models.{model}")).and_then(|model| heads(model, stages)) else {
            continue;
        };
        let place = ["models", &position.to_string()];
        let scored: Vec<_> =
            sets.iter().filter_map(|set| Some((heads.iter().find(|head| head.name == set.head())?, set))).collect();
        if scored.is_empty() {
            let message = format!("model `{model}` of stage `{stage}` has a head for none of the tasks");
            stages.mistake(at, &place, message, Some("list the `tokens` of its tasks"), mistakes);
        }
        for (head, set) in scored {
            if let Some(difference) = labels_differ(head, set) {
                let message = format!("model `{model}` of stage `{stage}` {difference}");
                stages.mistake(at, &place, message, Some(SAME_TASK), mistakes);
            }
        }
    }
}

/// What parts lack to be all folds of one division, each once.
fn incomplete(folds: &[Option<Fold>]) -> Option<String> {
    let Some(folds) = folds.iter().copied().collect::<Option<Vec<_>>>() else {
        return Some("tables that are no folds".to_owned());
    };
    let Fold { of, seed, .. } = folds[0];
    if folds.iter().any(|fold| (fold.of, fold.seed) != (of, seed)) {
        return Some("folds of different divisions".to_owned());
    }
    let numbers: BTreeSet<_> = folds.iter().map(|fold| fold.leave_out).collect();
    let missing: Vec<_> = (0..of).filter(|number| !numbers.contains(number)).map(|number| number.to_string()).collect();
    if !missing.is_empty() {
        return Some(format!(
            "{} of {of} folds; {} {} missing",
            numbers.len(),
            missing.join(", "),
            if missing.len() == 1 { "is" } else { "are" }
        ));
    }
    (folds.len() > of).then(|| "a fold twice".to_owned())
}

/// Why a table of predictions cannot cover the train rows of a table of tokens, as far as the pipeline file says so.
fn lack(teacher: usize, tokens: usize, stages: &Stages<'_>) -> Option<String> {
    if splits(teacher, stages).is_some_and(|splits| !splits.contains(&Split::Train)) {
        return Some("predicts no train rows".to_owned());
    }
    if let Some(fold) = fold(teacher, stages) {
        return Some(format!("predicts {} alone", shown(fold)));
    }
    let predicted = tokens_of(teacher, stages)?;
    let (StageSpec::Tokenize(theirs), StageSpec::Tokenize(ours)) = (stages.spec(predicted), stages.spec(tokens)) else {
        return None;
    };
    if task(tokens, stages)?.symmetric && ours.both_orders && !theirs.both_orders {
        return Some(format!("predicts one order of each pair, but `{}` holds both", stages.name(tokens)));
    }
    let (theirs, ours) = (data(predicted, stages)?, data(tokens, stages)?);
    if are_of_other_rows(theirs, ours) {
        return Some(format!("predicts other rows than `{}` holds", stages.name(tokens)));
    }
    let theirs = least(theirs.limit, theirs.grammar.as_ref().map(|rows| rows.train))?;
    let has_more = match least(ours.limit, ours.grammar.as_ref().map(|rows| rows.train)) {
        Some(ours) if ours <= theirs => false,
        Some(_) if ours.grammar.is_some() => true,
        _ => rows_of(ours).is_some_and(|rows| rows > theirs),
    };
    has_more.then(|| format!("predicts only the first {theirs} rows, but `{}` holds more", stages.name(tokens)))
}

fn least(one: Option<usize>, other: Option<usize>) -> Option<usize> {
    one.into_iter().chain(other).min()
}

/// Whether two stages' train rows differ from the first one on. Files of one size may be copies, which is found out when they
/// are read.
fn are_of_other_rows(one: &DataParams, other: &DataParams) -> bool {
    match (&one.grammar, &other.grammar) {
        (Some(one), Some(other)) => one.seed != other.seed,
        (None, None) => {
            let size = |data: &DataParams| Some(fs::metadata(train_file(data)?).ok()?.len());
            matches!((size(one), size(other)), (Some(one), Some(other)) if one != other)
        }
        _ => true,
    }
}

/// The file that train rows are read from, or split off; none where it is still to be fetched.
pub(super) fn train_file(data: &DataParams) -> Option<PathBuf> {
    let mut files = data.source_files().ok()?;
    files.remove(&Split::Train).or_else(|| files.remove(&Split::All))
}

/// Lines of the train file, which are as many as its rows, or a few more; nothing where it has no lines.
pub(super) fn rows_of(data: &DataParams) -> Option<usize> {
    let path = train_file(data)?;
    let has_lines = path.extension().is_some_and(|ending| ending != "gz" && ending != "parquet");
    let lines = has_lines.then(|| File::open(path).ok())?.map(|file| BufReader::new(file).split(b'\n').count())?;
    // A header may be among them.
    Some(lines.saturating_sub(1))
}

const SAME_TASK: &str = "both must be made from the same task definition";

fn labels_differ(one: &TaskSpec, other: &TaskSpec) -> Option<String> {
    let differ = one.labels != other.labels || one.range != other.range;
    let labels = |task: &TaskSpec| match task.range {
        Some(range) => format!("{range:?}"),
        None => format!("{:?}", task.labels),
    };
    differ.then(|| format!("names the labels of `{}` {}, but they are {}", other.name, labels(one), labels(other)))
}

fn shown(fold: Fold) -> String {
    let seed = if fold.seed == 0 { String::new() } else { format!(" by seed {}", fold.seed) };
    format!("fold {} of {}{seed}", fold.leave_out, fold.of)
}

/// The table of tokens that predictions are made of.
fn tokens_of(at: usize, stages: &Stages<'_>) -> Option<usize> {
    match stages.spec(at) {
        StageSpec::Tokenize(_) => Some(at),
        StageSpec::Predict(_) => tokens_of(stages.reads(at, "tokens")?, stages),
        StageSpec::Ensemble(_) => tokens_of(stages.reads(at, "predictions.0")?, stages),
        _ => None,
    }
}

/// Where a stage's rows come from, where they are of one task.
pub(super) fn data<'a>(at: usize, stages: &Stages<'a>) -> Option<&'a DataParams> {
    match stages.spec(stages.reads(tokens_of(at, stages)?, "examples")?) {
        StageSpec::Data(data) => Some(data),
        _ => None,
    }
}

pub(super) fn task<'a>(at: usize, stages: &Stages<'a>) -> Option<&'a TaskSpec> {
    data(at, stages)?.definition.as_ref()
}

/// The tasks that a model has heads for.
pub(super) fn heads<'a>(model: usize, stages: &Stages<'a>) -> Option<Vec<&'a TaskSpec>> {
    let train = match stages.spec(model) {
        StageSpec::Train(train) => train,
        StageSpec::Export(_) => return heads(stages.reads(model, "model")?, stages),
        _ => return None,
    };
    // A list that is itself wrong may lack some.
    if stages.is_flawed(model, "tokens") {
        return None;
    }
    let tasks: Vec<_> = stages.listed(model, "tokens").into_iter().filter_map(|(_, at)| task(at, stages)).collect();
    (tasks.len() == train.tokens.len()).then_some(tasks)
}

/// The fold that predictions are of; none for those of all rows.
fn fold(at: usize, stages: &Stages<'_>) -> Option<Fold> {
    match stages.spec(at) {
        StageSpec::Predict(predict) => predict.fold,
        StageSpec::Ensemble(ensemble) if !ensemble.join => fold(stages.reads(at, "predictions.0")?, stages),
        _ => None,
    }
}

/// The splits that predictions are of, where the file says so.
fn splits(at: usize, stages: &Stages<'_>) -> Option<BTreeSet<Split>> {
    match stages.spec(at) {
        StageSpec::Predict(predict) if predict.fold.is_some() => Some([Split::Train].into()),
        StageSpec::Predict(predict) if predict.splits.is_empty() => None,
        StageSpec::Predict(predict) => Some(predict.splits.iter().copied().collect()),
        StageSpec::Ensemble(_) => splits(stages.reads(at, "predictions.0")?, stages),
        _ => None,
    }
}
