//! What a report could tell and doesn't, and the line of the pipeline file that would add it.

use std::collections::BTreeMap;

use bam_contract::artifact::ArtifactKind;
use bam_contract::stage::StageSpec;
use bam_contract::task::Split;
use serde::Serialize;

use super::ScoreLine;
use super::answers::Answers;
use super::gather::Sources;
use crate::pipeline::{Stage, family_of};

#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Missing {
    pub(crate) what: String,
    /// To be added under `stages:`; none where `bam run` is all it takes.
    pub(crate) line: Option<String>,
}

pub(super) fn find(
    sources: &Sources<'_>,
    scores: &[ScoreLine],
    answers: &[Answers],
    unread: Vec<String>,
) -> Vec<Missing> {
    let mut missing: Vec<Missing> = unread.into_iter().map(|what| Missing { what, line: None }).collect();
    let stages = &sources.pipeline.stages;
    let absent = (0..stages.len()).filter(|at| sources.folder(*at).is_none()).count();
    if absent > 0 {
        let what = format!("{absent} of {} stages have no artifact: `bam run` makes them", stages.len());
        missing.push(Missing { what, line: None });
    }
    if scores.is_empty() && !stages.iter().any(|stage| matches!(stage.spec, StageSpec::Score(_))) {
        missing.extend(scoring(stages));
    }
    missing.extend(predicting(sources, answers));
    missing
}

/// A `score` stage for the models of the pipeline.
fn scoring(stages: &[Stage]) -> Option<Missing> {
    let families = |kind: ArtifactKind| {
        let mut names: Vec<String> = Vec::new();
        for stage in stages.iter().filter(|stage| stage.spec.kind().writes == kind) {
            let family = family_of(&stage.name);
            let name = if family == stage.name { family.to_owned() } else { format!("{family}@*") };
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    };
    let models = [families(ArtifactKind::Checkpoint), families(ArtifactKind::OnnxModel)].concat().join(", ");
    let tokens = families(ArtifactKind::Tokens).join(", ");
    let line = format!("scores: {{ score: {{ models: [{models}], tokens: [{tokens}] }} }}");
    let what = "scores, side by side, with the check of ONNX against libtorch".to_owned();
    (!models.is_empty() && !tokens.is_empty()).then_some(Missing { what, line: Some(line) })
}

/// Dev predictions of all trained models, a line for each family.
fn predicting(sources: &Sources<'_>, answers: &[Answers]) -> Vec<Missing> {
    let has_answers = |model: usize| {
        let is_of_model = |answer: &Answers| answer.model == sources.name(model);
        answers.iter().any(is_of_model) || predicts_dev(sources, model)
    };
    let mut lines = BTreeMap::<usize, (String, String)>::new();
    let stages = sources.pipeline.stages.iter().enumerate();
    let trained = stages.filter(|(_, stage)| matches!(stage.spec, StageSpec::Train(_))).map(|(at, _)| at);
    for model in trained.filter(|model| !has_answers(*model)) {
        let line = line(sources, model);
        let first = lines.values().all(|(_, known)| Some(known) != line.as_ref());
        if let Some(line) = line.filter(|_| first) {
            lines.insert(model, (family_of(sources.name(model)).to_owned(), line));
        }
    }
    let told = |(family, line)| Missing {
        what: format!(
            "confusion, calibration, intervals of all metrics, and examples for `{family}`: its dev predictions"
        ),
        line: Some(line),
    };
    lines.into_values().map(told).collect()
}

/// Whether a stage predicts dev rows by the model, be it yet to run.
fn predicts_dev(sources: &Sources<'_>, model: usize) -> bool {
    sources.pipeline.stages.iter().any(|stage| match &stage.spec {
        StageSpec::Predict(predict) => {
            let is_dev = predict.splits.is_empty() || predict.splits.contains(&Split::Dev);
            predict.model.0 == sources.name(model) && is_dev
        }
        _ => false,
    })
}

/// `student_dev@task: { predict: { model: student, tokens: tokens@$task, splits: [dev] } }`.
fn line(sources: &Sources<'_>, model: usize) -> Option<String> {
    let stages = &sources.pipeline.stages;
    let tokens = stages[model].inputs.iter().find(|edge| edge.slot.starts_with("tokens."))?.stage;
    let mut name = vec![format!("{}_dev", family_of(sources.name(model)))];
    for axis in [tokens, model].into_iter().flat_map(|stage| axes_of(&stages[stage])) {
        if !name[1..].iter().any(|known| known == axis) {
            name.push(axis.to_owned());
        }
    }
    let name = name.join("@");
    let reference = |at: usize| {
        let stage = &stages[at];
        let parts = stage.written().split('@').zip(stage.name.split('@'));
        let parts = parts.map(|(written, part)| if written == part { part.to_owned() } else { format!("${written}") });
        parts.collect::<Vec<_>>().join("@")
    };
    let (model, tokens) = (reference(model), reference(tokens));
    Some(format!("{name}: {{ predict: {{ model: {model}, tokens: {tokens}, splits: [dev] }} }}"))
}

/// The axes over which a stage's line in the file is repeated.
fn axes_of(stage: &Stage) -> impl Iterator<Item = &str> {
    let parts = stage.written().split('@').zip(stage.name.split('@')).skip(1);
    parts.filter(|(written, part)| written != part).map(|(written, _)| written)
}
