//! References among stages: that each leads to a stage which makes what is wanted.

use std::collections::{BTreeSet, HashMap};

use bam_contract::artifact::ArtifactKind;
use bam_contract::fault::closest;
use bam_contract::stage::{Input, StageSpec};

use super::Typed;
use crate::pipeline::Edge;
use crate::pipeline::draft::{Draft, did_you_mean};
use crate::pipeline::mistake::Mistakes;
use crate::pipeline::typed::PLACEHOLDER;
use crate::pipeline::vars::family_of;

/// Stages by their names, but for those that are written twice: which one is meant isn't known.
pub(super) fn index(stages: &[Typed], draft: &Draft, mistakes: &mut Mistakes) -> HashMap<String, usize> {
    let mut index = HashMap::new();
    for (at, stage) in stages.iter().enumerate() {
        if draft.gaps.twice("stages", &stage.origin.written) {
            continue;
        }
        if index.insert(stage.name.clone(), at).is_some() {
            let place = mistakes.source.key(&["stages".to_owned(), stage.origin.written.clone()]);
            mistakes.add(place, format!("two stages are named `{}`", stage.name), None);
        }
    }
    index
}

/// Names that references may have.
pub(super) struct Known<'a> {
    /// Of all stages, the flawed ones too.
    pub(super) names: BTreeSet<String>,
    /// Families of which no stage could be made.
    pub(super) lost: BTreeSet<&'a str>,
    /// Whether a file that could not be read may hold others.
    pub(super) may_be_more: bool,
}

impl Known<'_> {
    /// Whether a stage is there, or may be, but for a mistake that has been told.
    fn may_be(&self, name: &str) -> bool {
        self.may_be_more || self.names.contains(name) || self.lost.contains(family_of(name))
    }
}

/// What a stage reads.
pub(super) fn edges(
    stage: &Typed,
    stages: &[Typed],
    index: &HashMap<String, usize>,
    known: &Known<'_>,
    mistakes: &mut Mistakes,
) -> Vec<Edge> {
    let mut edges = Vec::new();
    let owner = (stage.origin.written.as_str(), stage.name.as_str());
    for Input { slot, stage: reference, accepts, at } in stage.spec.inputs() {
        let name = reference.0.as_str();
        if name == PLACEHOLDER && stage.flawed.contains(&at[0]) {
            continue;
        }
        let place = stage.origin.value(&mistakes.source, &at);
        let Some(target) = index.get(name).copied() else {
            if !known.may_be(name) {
                let hint = missing_stage_hint(name, &known.names);
                mistakes.add_in(owner, place, format!("no stage `{name}`, which stage `{}` reads", stage.name), hint);
            }
            continue;
        };
        let writes = stages[target].spec.writes();
        if accepts.contains(&writes) {
            edges.push(Edge { slot, stage: target });
        } else {
            let message = format!(
                "`{}` of stage `{}` reads {}, but stage `{name}` makes {writes}",
                at[0],
                stage.name,
                accepts.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ")
            );
            mistakes.add_in(owner, place, message, fitting_stage_hint(name, accepts, stages));
        }
    }
    edges.extend(exported(stage, stages, index));
    edges
}

fn missing_stage_hint(name: &str, names: &BTreeSet<String>) -> Option<String> {
    if name.contains("@*") {
        return Some("`@*` gathers stages into a list: write `[…]`".to_owned());
    }
    let mut members = names.iter().filter(|known| family_of(known) == name).peekable();
    if let Some(member) = members.peek() {
        return Some(format!("`{name}` has axes: name one stage, such as `{member}`, or `[{name}@*]` for all"));
    }
    closest(name, names.iter().map(String::as_str)).map(did_you_mean)
}

/// The stage of a fitting kind that shares the reference's axes.
fn fitting_stage_hint(name: &str, accepts: &[ArtifactKind], stages: &[Typed]) -> Option<String> {
    let axes = |name: &str| name.split_once('@').map(|(_, axes)| axes.to_owned());
    let fits = |stage: &&Typed| accepts.contains(&stage.spec.writes()) && axes(&stage.name) == axes(name);
    stages.iter().find(fits).map(|stage| did_you_mean(&stage.name))
}

/// `score` compares an ONNX model's logits with those of the checkpoint it was exported from, so it reads that
/// checkpoint too: one edge `reference.<export stage>` for each exported model, which no parameter names.
fn exported(stage: &Typed, stages: &[Typed], index: &HashMap<String, usize>) -> Vec<Edge> {
    let StageSpec::Score(score) = &stage.spec else { return Vec::new() };
    let exported = score.models.iter().filter_map(|model| match &stages[*index.get(&model.0)?].spec {
        StageSpec::Export(export) => {
            Some(Edge { slot: format!("reference.{model}"), stage: *index.get(&export.model.0)? })
        }
        _ => None,
    });
    exported.collect()
}
