//! Whether the examples that stages come from have the splits that those need, as far as the pipeline file says.

use std::collections::BTreeSet;

use bam_contract::stage::{DataParams, StageSpec};
use bam_contract::task::Split;

use super::Stages;
use super::learning::data;
use crate::pipeline::mistake::Mistakes;

pub(super) fn check(at: usize, stages: &Stages<'_>, mistakes: &mut Mistakes) {
    match stages.spec(at) {
        StageSpec::Train(train) => {
            trained(at, stages, mistakes);
            if train.keeps_best() {
                let message =
                    "compares dev metrics (`keep: best` or `patience`), but none of its tasks has labelled dev rows";
                measured(at, message, "say `keep: last` without `patience`, or add dev rows", stages, mistakes);
            }
        }
        StageSpec::Score(_) => {
            let message = "scores dev rows, but none of its tasks has any with labels";
            let hint = "give the task a `dev` file, or a part of `all` by `split: {dev: 0.1}`";
            measured(at, message, hint, stages, mistakes);
        }
        StageSpec::Predict(predict) => {
            let Some(has) = stages.reads(at, "tokens").and_then(|tokens| splits(tokens, stages)) else { return };
            for (position, split) in predict.splits.iter().enumerate().filter(|(_, split)| !has.contains(split)) {
                let message = format!("stage `{}` predicts {split} rows, of which it is given none", stages.name(at));
                let names: Vec<_> = has.iter().map(|split| split.name()).collect();
                let hint = format!("it is given {}", names.join(", "));
                stages.mistake(at, &["splits", &position.to_string()], message, Some(&hint), mistakes);
            }
        }
        _ => {}
    }
}

fn trained(at: usize, stages: &Stages<'_>, mistakes: &mut Mistakes) {
    for (position, tokens) in stages.listed(at, "tokens") {
        let (lack, hint) = if splits(tokens, stages).is_some_and(|has| !has.contains(&Split::Train)) {
            ("which has no train rows", "give the task a `train` file, or an `all` file with `split`")
        } else if data(tokens, stages).is_some_and(|data| !is_labelled(data, Split::Train)) {
            ("whose rows have no labels", "say under the task's `columns` which one is the `label`")
        } else {
            continue;
        };
        let message = format!("stage `{}` trains on `{}`, {lack}", stages.name(at), stages.name(tokens));
        stages.mistake(at, &["tokens", &position.to_string()], message, Some(hint), mistakes);
    }
}

/// Whether the rows of a split have labels; those that a grammar writes do.
fn is_labelled(data: &DataParams, split: Split) -> bool {
    data.grammar.is_some() || data.definition.as_ref().is_none_or(|task| task.columns_of(split).label.is_some())
}

/// That at least one of the tables that a stage lists has dev rows, with labels.
fn measured(at: usize, message: &str, hint: &str, stages: &Stages<'_>, mistakes: &mut Mistakes) {
    let lacks = |tokens| {
        let has_labels = |split: &Split| data(tokens, stages).is_none_or(|data| is_labelled(data, *split));
        splits(tokens, stages).is_some_and(|has| !has.iter().any(|split| split.is_dev() && has_labels(split)))
    };
    let tokens = stages.listed(at, "tokens");
    if !tokens.is_empty() && tokens.iter().all(|(_, tokens)| lacks(*tokens)) {
        let message = format!("stage `{}` {message}", stages.name(at));
        stages.mistake(at, &["tokens"], message, Some(hint), mistakes);
    }
}

fn splits(tokens: usize, stages: &Stages<'_>) -> Option<BTreeSet<Split>> {
    let data = data(tokens, stages)?;
    match &data.grammar {
        Some(rows) => Some(
            [(Split::Train, rows.train), (Split::Dev, rows.dev), (Split::Test, rows.test)]
                .into_iter()
                .filter_map(|(split, rows)| (rows > 0).then_some(split))
                .collect(),
        ),
        None => of_files(data),
    }
}

/// Splits that have a file, or a part of one.
fn of_files(data: &DataParams) -> Option<BTreeSet<Split>> {
    let mut splits: BTreeSet<Split> = data.source_files().ok()?.into_keys().collect();
    if splits.remove(&Split::All) {
        let shares = data.definition.as_ref()?.split.as_ref()?;
        splits.extend([Split::Train, Split::Dev]);
        splits.extend((shares.test > 0.0).then_some(Split::Test));
    }
    Some(splits)
}
