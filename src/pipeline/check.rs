//! From expanded stages to a sound pipeline: types, references, artifact kinds, cycles, files.

mod encoders;
mod files;
mod folds;
mod judged;
mod learning;
mod outside;
mod references;
mod splits;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bam_contract::external::External;
use bam_contract::fault::closest;
use bam_contract::stage::{KINDS, StageSpec};
use bam_contract::task::TaskSpec;
use bam_contract::tasks;
use serde_json::{Map, Value, json};

use super::draft::{Draft, did_you_mean};
use super::graph;
use super::mistake::Mistakes;
use super::resources::{self, Resources};
use super::spelling;
use super::typed::{set_default, typed};
use super::vars::{Origin, Sketch, lost_families};
use super::{Edge, Stage};
use crate::hub::{Hub, Repository};
use encoders::Encoders;
use files::Files;
use references::Known;

/// A stage with its types, before its references are known to lead anywhere.
struct Typed {
    name: String,
    spec: StageSpec,
    resources: Resources,
    origin: Origin,
    /// The repository of the hub that it reads, where it does.
    repository: Option<Repository>,
    /// Parameters already found wrong, which say nothing more.
    flawed: BTreeSet<String>,
}

/// The stages with what each reads, and no cycle among them.
struct Stages<'a> {
    stages: &'a [Typed],
    edges: &'a [Vec<Edge>],
}

impl<'a> Stages<'a> {
    fn spec(&self, at: usize) -> &'a StageSpec {
        &self.stages[at].spec
    }

    fn name(&self, at: usize) -> &'a str {
        &self.stages[at].name
    }

    /// Whether a parameter was found wrong, and says nothing more.
    fn is_flawed(&self, at: usize, param: &str) -> bool {
        self.stages[at].flawed.contains(param)
    }

    /// The stage that one reads in a slot.
    fn reads(&self, at: usize, slot: &str) -> Option<usize> {
        self.edges[at].iter().find(|edge| edge.slot == slot).map(|edge| edge.stage)
    }

    /// Positions and stages of a list of references.
    fn listed(&self, at: usize, list: &str) -> Vec<(usize, usize)> {
        let position = |edge: &Edge| edge.slot.strip_prefix(list)?.strip_prefix('.')?.parse().ok();
        self.edges[at].iter().filter_map(|edge| Some((position(edge)?, edge.stage))).collect()
    }

    /// A mistake at the value of one of a stage's parameters.
    fn mistake(&self, at: usize, path: &[&str], message: String, hint: Option<&str>, mistakes: &mut Mistakes) {
        let place = self.stages[at].origin.value(&mistakes.source, &owned(path));
        mistakes.add_in(self.stages[at].owner(), place, message, hint.map(ToOwned::to_owned));
    }

    /// A mistake at the name of an entry.
    fn mistake_of_name(&self, at: usize, path: &[&str], message: String, hint: &str, mistakes: &mut Mistakes) {
        let place = self.stages[at].origin.key(&mistakes.source, &owned(path));
        mistakes.add_in(self.stages[at].owner(), place, message, Some(hint.to_owned()));
    }
}

fn owned(path: &[&str]) -> Vec<String> {
    path.iter().map(|name| (*name).to_owned()).collect()
}

impl Typed {
    /// As written, and as expanded.
    fn owner(&self) -> (&str, &str) {
        (&self.origin.written, &self.name)
    }
}

/// The stages in an order in which each stands after those it reads; whatever is wrong goes into `mistakes`.
pub(crate) fn check(draft: &Draft, sketches: Vec<Sketch>, hub: &Hub, mistakes: &mut Mistakes) -> Vec<Stage> {
    let definitions = definitions(draft, mistakes);
    let of_kinds = resources::of_kinds(&draft.resources, mistakes);
    let names: BTreeSet<String> = sketches.iter().map(|sketch| sketch.name.clone()).collect();
    let lost = lost_families(draft, &sketches);
    let mut stages: Vec<Typed> = sketches
        .into_iter()
        .filter_map(|sketch| type_stage(sketch, &names, draft, &definitions, &of_kinds, mistakes))
        .collect();
    for stage in &mut stages {
        stage.find_repository(hub, mistakes);
    }
    let known = Known { names, lost, may_be_more: draft.gaps.more };
    let index = references::index(&stages, draft, mistakes);
    let mut edges: Vec<Vec<Edge>> =
        stages.iter().map(|stage| references::edges(stage, &stages, &index, &known, mistakes)).collect();
    let mut files = Files::default();
    let externals: Vec<Vec<External>> = stages.iter().map(|stage| files.of(stage, mistakes)).collect();
    let reads: Vec<Vec<usize>> = edges.iter().map(|edges| edges.iter().map(|edge| edge.stage).collect()).collect();
    let (order, cycles) = graph::order(&reads);
    for cycle in cycles {
        let names: Vec<&str> = cycle.iter().map(|at| stages[*at].name.as_str()).collect();
        let first = &stages[cycle[0]];
        let reads = first.spec.inputs().into_iter().find(|input| input.stage.0 == names[1]);
        let at = reads.map(|input| input.at).unwrap_or_default();
        let place = first.origin.value(&mistakes.source, &at);
        let hint = "a stage cannot read what is made from its own output".to_owned();
        mistakes.add(place, format!("stages wait for each other: {}", names.join(" → ")), Some(hint));
        cut(&cycle, &mut stages, &mut edges);
    }
    let graph = Stages { stages: &stages, edges: &edges };
    let mut encoders = Encoders::default();
    for at in 0..stages.len() {
        learning::check(at, &graph, mistakes);
        folds::check(at, &graph, mistakes);
        splits::check(at, &graph, mistakes);
        judged::check(at, &graph, mistakes);
        encoders.check(at, &graph, mistakes);
    }
    assemble(stages, edges, externals, &order)
}

/// Opens a cycle, so that what else is wrong with its stages can be found.
fn cut(cycle: &[usize], stages: &mut [Typed], edges: &mut [Vec<Edge>]) {
    let (last, first) = (cycle[cycle.len() - 2], cycle[0]);
    let (cut, kept) = edges[last].drain(..).partition(|edge| edge.stage == first);
    edges[last] = kept;
    let params = cut.iter().filter_map(|edge: &Edge| edge.slot.split('.').next());
    stages[last].flawed.extend(params.map(ToOwned::to_owned));
}

/// The user's own tasks, by name; none for one that is told to be wrong, or given twice.
fn definitions(draft: &Draft, mistakes: &mut Mistakes) -> BTreeMap<String, Option<TaskSpec>> {
    let mut definitions = BTreeMap::new();
    for (name, value) in &draft.tasks {
        let path = ["tasks".to_owned(), name.clone()];
        let mut value = value.clone();
        if let Value::Object(map) = &mut value {
            set_default(map, "name", name.as_str());
        }
        let (task, flaws) = typed::<TaskSpec>(value);
        for flaw in &flaws {
            let path = [&path[..], &flaw.path].concat();
            let place = if flaw.in_name { mistakes.source.key(&path) } else { mistakes.source.value(&path) };
            mistakes.add(place, flaw.message(&format!("task `{name}`")), flaw.hint.clone());
        }
        let task = task.filter(|_| flaws.is_empty());
        if let Some(task) = &task {
            if task.name != *name {
                let place = mistakes.source.value(&[&path[..], &["name".to_owned()]].concat());
                mistakes.add(place, format!("task `{name}` calls itself `{}`", task.name), None);
            }
            for mistake in task.mistakes() {
                mistakes.add(mistakes.source.key(&path), mistake, None);
            }
        }
        definitions.insert(name.clone(), task.filter(|_| !draft.gaps.twice("tasks", name)));
    }
    definitions
}

fn type_stage(
    mut sketch: Sketch,
    names: &BTreeSet<String>,
    draft: &Draft,
    definitions: &BTreeMap<String, Option<TaskSpec>>,
    of_kinds: &BTreeMap<String, Resources>,
    mistakes: &mut Mistakes,
) -> Option<Typed> {
    let owner = (sketch.origin.written.clone(), sketch.name.clone());
    let owner = (owner.0.as_str(), owner.1.as_str());
    if !KINDS.iter().any(|kind| kind.name == sketch.kind) {
        let hint = match closest(&sketch.kind, KINDS.iter().map(|kind| kind.name)) {
            Some(near) => did_you_mean(near),
            None => format!("known: {}", KINDS.iter().map(|kind| kind.name).collect::<Vec<_>>().join(", ")),
        };
        let place = sketch.origin.key(&mistakes.source, &[]);
        mistakes.add_in(owner, place, format!("unknown kind `{}` of stage `{}`", sketch.kind, owner.0), Some(hint));
        return None;
    }
    let unknown_task = fill_defaults(&mut sketch, draft, definitions, mistakes);
    let (mut spec, flaws) = typed::<StageSpec>(json!({ sketch.kind.as_str(): sketch.params }));
    if spec.as_ref().is_some_and(|spec| respell(&mut sketch.params, spec, names)) {
        spec = typed(json!({ sketch.kind.as_str(): sketch.params })).0;
    }
    let mut flawed: BTreeSet<String> = sketch.unknown.iter().filter_map(|at| at.first().cloned()).collect();
    for flaw in flaws {
        let at = &flaw.path[1.min(flaw.path.len())..];
        if sketch.unknown.iter().any(|unknown| unknown == at) {
            continue;
        }
        let source = &mistakes.source;
        let place = if flaw.in_name { sketch.origin.key(source, at) } else { sketch.origin.value(source, at) };
        mistakes.add_in(owner, place, flaw.message(&format!("stage `{}`", owner.0)), flaw.hint);
        flawed.extend(at.first().cloned());
    }
    // Where a task's rows come from is not told to be missing when it is wrong.
    let unknown_rows = flawed.contains("from") || flawed.contains("grammar");
    flawed.extend((unknown_task || unknown_rows).then(|| "task".to_owned()));
    let spec = spec?;
    for (param, sentence) in spec.mistakes() {
        // A task's own mistakes are told where it is defined.
        if flawed.contains(param) || mistakes.list.iter().any(|known| known.message == sentence) {
            continue;
        }
        let place = sketch.origin.value(&mistakes.source, &[param.to_owned()]);
        mistakes.add_in(owner, place, format!("`{param}` of stage `{}`: {sentence}", owner.0), None);
    }
    let resources = resources::of_stage(owner.0, &sketch.kind, sketch.resources.as_ref(), of_kinds, mistakes);
    Some(Typed { name: sketch.name, spec, resources, origin: sketch.origin, repository: None, flawed })
}

/// Gives references the spelling of the stages' own names; says whether there was anything to do.
fn respell(params: &mut Map<String, Value>, spec: &StageSpec, names: &BTreeSet<String>) -> bool {
    let mut respelt = false;
    for input in spec.inputs() {
        let name = input.stage.0.as_str();
        let Some(own) = spelling::named(name, names.iter().map(String::as_str)).filter(|own| *own != name) else {
            continue;
        };
        let Some((first, rest)) = input.at.split_first() else { continue };
        let written = rest.iter().try_fold(params.get_mut(first), |value, part| match value {
            Some(Value::Array(items)) => Some(items.get_mut(part.parse::<usize>().ok()?)),
            Some(Value::Object(map)) => Some(map.get_mut(part)),
            _ => None,
        });
        if let Some(written) = written.flatten().filter(|written| written.as_str() == Some(name)) {
            *written = Value::from(own);
            respelt = true;
        }
    }
    respelt
}

/// Puts the pipeline's seed and the task's definition among the parameters, so that both are part of the key.
/// Says whether the task is unknown, or wrong.
fn fill_defaults(
    sketch: &mut Sketch,
    draft: &Draft,
    definitions: &BTreeMap<String, Option<TaskSpec>>,
    mistakes: &mut Mistakes,
) -> bool {
    match sketch.kind.as_str() {
        "train" => {
            if let Some(seed) = draft.seed {
                set_default(&mut sketch.params, "seed", seed);
            }
            false
        }
        "data" => {
            if let (Some(seed), Some(Value::Object(grammar))) = (draft.seed, sketch.params.get_mut("grammar")) {
                set_default(grammar, "seed", seed);
            }
            let Some(task) = sketch.params.get("task").and_then(Value::as_str).map(ToOwned::to_owned) else {
                return false;
            };
            let from = sketch.params.get("from").and_then(Value::as_str);
            let on_hub = || from.filter(|from| from.starts_with("hub:")).and_then(|_| tasks::on_hub(&task));
            let own = definitions.get(&task).cloned();
            if own == Some(None) {
                return true;
            }
            let known = own.flatten().or_else(on_hub).or_else(|| tasks::builtin(&task));
            if let Some(task) = known {
                set_default(
                    &mut sketch.params,
                    "definition",
                    serde_json::to_value(task).expect("a task is plain data"),
                );
                return false;
            }
            if sketch.params.contains_key("definition") || task.contains('$') || task.is_empty() {
                return task.is_empty();
            }
            if draft.gaps.more {
                return true;
            }
            let mut known: Vec<&str> = tasks::names().collect();
            known.extend(definitions.keys().map(String::as_str));
            let near = closest(&task, known);
            let hint = near.map_or_else(|| "define it under `tasks:`".to_owned(), did_you_mean);
            let place = sketch.origin.value(&mistakes.source, &["task".to_owned()]);
            let owner = (sketch.origin.written.as_str(), sketch.name.as_str());
            mistakes.add_in(owner, place, format!("no task `{task}`, which stage `{}` reads", sketch.name), Some(hint));
            true
        }
        _ => false,
    }
}

fn assemble(stages: Vec<Typed>, edges: Vec<Vec<Edge>>, externals: Vec<Vec<External>>, order: &[usize]) -> Vec<Stage> {
    let mut siblings = HashMap::<String, usize>::new();
    for stage in &stages {
        *siblings.entry(stage.origin.written.clone()).or_default() += 1;
    }
    let mut position = vec![0; order.len()];
    for (new, old) in order.iter().enumerate() {
        position[*old] = new;
    }
    let mut sorted: Vec<(usize, Stage)> = stages
        .into_iter()
        .zip(edges)
        .zip(externals)
        .enumerate()
        .map(|(old, ((stage, edges), externals))| {
            let inputs = edges.into_iter().map(|edge| Edge { stage: position[edge.stage], ..edge }).collect();
            let spec = stage.resolved();
            let Typed { name, repository, resources, origin, .. } = stage;
            let siblings = siblings[&origin.written];
            (position[old], Stage { name, spec, inputs, externals, repository, resources, siblings, origin })
        })
        .collect();
    sorted.sort_by_key(|(position, _)| *position);
    sorted.into_iter().map(|(_, stage)| stage).collect()
}
