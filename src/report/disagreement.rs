//! Where a student and its teacher differ on dev rows.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use bam_contract::artifact::examples::{Example, Examples};
use bam_contract::task::Split;
use serde::Serialize;

use super::answers::Answers;
use super::gather::{Sources, students};

/// Rows that are shown of each pair.
const MOST_EXAMPLES: usize = 5;

/// A student and its teacher on the rows of one task.
#[derive(Debug, Serialize)]
pub(crate) struct Disagreement {
    pub(crate) student: String,
    pub(crate) teacher: String,
    pub(crate) task: String,
    pub(crate) split: Split,
    pub(crate) rows: usize,
    /// Rows that only the student gets right; of values, those where it is nearer.
    pub(crate) student_better: usize,
    pub(crate) teacher_better: usize,
    /// Rows that both get right; none for values.
    pub(crate) both_right: Option<usize>,
    /// Rows on which the student gains most.
    pub(crate) examples: Vec<ShownExample>,
}

#[derive(Debug, Serialize)]
pub(crate) struct ShownExample {
    pub(crate) id: i64,
    pub(crate) text: String,
    pub(crate) pair: Option<String>,
    /// As class names, or as values.
    pub(crate) gold: String,
    pub(crate) student: String,
    pub(crate) teacher: String,
}

pub(super) fn find(sources: &Sources<'_>, answers: &[Answers], with_examples: bool) -> Vec<Disagreement> {
    let mut found = Vec::new();
    for (student, teachers) in students(sources) {
        for theirs in distinct_teachers(sources, &teachers, answers).flat_map(|teacher| of_model(answers, teacher)) {
            let is_same = |ours: &&Answers| (&ours.task, ours.split) == (&theirs.task, theirs.split);
            let Some(ours) = of_model(answers, sources.name(student)).find(is_same) else { continue };
            if ours.table.ids == theirs.table.ids && ours.table.gold == theirs.table.gold {
                found.push(compare(sources, ours, theirs, with_examples));
            }
        }
    }
    found
}

/// The models behind predictions. One of many tasks made several of those, and counts once.
fn distinct_teachers<'a>(
    sources: &'a Sources<'_>,
    predictions: &[usize],
    answers: &[Answers],
) -> impl Iterator<Item = &'a str> {
    let mut seen = BTreeSet::new();
    let mut models: Vec<&str> = predictions.iter().flat_map(|at| answering(sources, *at, answers)).collect();
    models.retain(|model| seen.insert(*model));
    models.into_iter()
}

/// The model whose predictions those are. Of several it is their ensemble, or each of them where that has not answered dev rows.
fn answering<'a>(sources: &'a Sources<'_>, predictions: usize, answers: &[Answers]) -> Vec<&'a str> {
    let model = sources.model_of(predictions);
    if of_model(answers, model).next().is_some() {
        return vec![model];
    }
    sources.members(predictions).flat_map(|member| answering(sources, member, answers)).collect()
}

fn of_model<'a>(answers: &'a [Answers], model: &'a str) -> impl Iterator<Item = &'a Answers> {
    answers.iter().filter(move |answers| answers.model == model)
}

fn compare(sources: &Sources<'_>, ours: &Answers, theirs: &Answers, with_examples: bool) -> Disagreement {
    let rows = || 0..ours.rows;
    let mut gained: Vec<usize> = rows().filter(|row| beats(ours, theirs, *row)).collect();
    let student_better = gained.len();
    gained.sort_by(|a, b| gain(ours, theirs, *b).total_cmp(&gain(ours, theirs, *a)).then(a.cmp(b)));
    gained.truncate(MOST_EXAMPLES);
    let both_right = rows().filter(|row| is_right(ours, *row) && is_right(theirs, *row)).count();
    Disagreement {
        student: ours.model.clone(),
        teacher: theirs.model.clone(),
        task: ours.task.clone(),
        split: ours.split,
        rows: ours.rows,
        student_better,
        teacher_better: rows().filter(|row| beats(theirs, ours, *row)).count(),
        both_right: (!ours.spec.is_regression()).then_some(both_right),
        examples: if with_examples { examples(sources, ours, theirs, &gained).unwrap_or_default() } else { Vec::new() },
    }
}

/// Whether `a` answers a row better than `b`: with the right class where the other is wrong, or with the nearer value.
fn beats(a: &Answers, b: &Answers, row: usize) -> bool {
    if a.spec.is_regression() { gain(a, b, row) > 0.0 } else { is_right(a, row) && !is_right(b, row) }
}

fn is_right(answers: &Answers, row: usize) -> bool {
    answers.table.predicted[row] == answers.table.gold[row]
}

fn gain(ours: &Answers, theirs: &Answers, row: usize) -> f64 {
    ours.table.merit[row] - theirs.table.merit[row]
}

/// The rows with their texts, as far as the examples are there.
fn examples(sources: &Sources<'_>, ours: &Answers, theirs: &Answers, rows: &[usize]) -> Result<Vec<ShownExample>> {
    let folder = sources.input(ours.at, "tokens").and_then(|tokens| sources.input(tokens, "examples"));
    let Some(folder) = folder.and_then(|examples| sources.folder(examples)) else { return Ok(Vec::new()) };
    let wanted: Vec<usize> = rows.iter().map(|row| ours.table.ids[*row] as usize).collect();
    let mut texts = BTreeMap::<usize, Example>::new();
    let mut first = 0;
    for batch in Examples::open(&folder)?.rows(ours.split)? {
        let batch = batch?;
        let count = batch.len();
        texts.extend(
            batch.into_iter().enumerate().map(|(at, row)| (first + at, row)).filter(|(id, _)| wanted.contains(id)),
        );
        first += count;
    }
    let told = |value: f64| match ours.spec.labels.get(value as usize) {
        Some(label) => label.clone(),
        None => format!("{value:.2}"),
    };
    let shown = rows.iter().zip(&wanted).filter_map(|(row, id)| {
        let example = texts.remove(id)?;
        Some(ShownExample {
            id: *id as i64,
            text: example.text,
            pair: example.pair,
            gold: told(ours.table.gold[*row]),
            student: told(ours.table.predicted[*row]),
            teacher: told(theirs.table.predicted[*row]),
        })
    });
    Ok(shown.collect())
}
