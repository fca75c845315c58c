//! Axes in stage names, and variables in their parameters.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bam_contract::fault::closest;
use bam_contract::stage::KINDS;
use serde_json::{Map, Value};

use super::draft::{Draft, did_you_mean};
use super::gather::gather;
use super::mistake::Mistakes;
use super::places::EntryPath;
use super::source::{Place, Source};
use super::spelling;
use super::substitute::{Bindings, lone_variable, may_be_given, plain, resolve_vars, substitute, unknown_variable};

/// A stage after expansion, its parameters not yet typed.
#[derive(Clone, Debug)]
pub(crate) struct Sketch {
    /// `teacher@rte`.
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) params: Map<String, Value>,
    pub(crate) origin: Origin,
    /// What stands under `resources` beside the kind.
    pub(crate) resources: Option<Value>,
    /// Paths of parameters that variables or stages are missing for; nothing more is said of those.
    pub(crate) unknown: Vec<EntryPath>,
}

/// How deep below the top of the file a stage's parameters are: `stages`, its name, its kind.
const PARAMS_DEPTH: usize = 3;

/// How an expanded stage was written, to find its places in the file.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    /// `teacher@task`.
    pub(crate) written: String,
    kind: String,
    params: Value,
    /// The file's variables as written.
    vars: Arc<[(String, Value)]>,
    /// Of each list among the parameters, by its path: the index as written of each of its entries.
    pub(super) entries: BTreeMap<EntryPath, Vec<usize>>,
}

impl Origin {
    /// Place of a parameter's value; of the variable that gives it, where it is one.
    pub(crate) fn value(&self, source: &Source, at: &[String]) -> Place {
        source.value(&self.holder(source, at))
    }

    /// Path of the entry that holds a parameter's value: of the variable that gives it, where it is one.
    pub(crate) fn holder(&self, source: &Source, at: &[String]) -> EntryPath {
        let mut path = self.path(at);
        let mut value = Some(&self.params);
        let mut depth = PARAMS_DEPTH;
        let mut followed = 0;
        while let Some(here) = value {
            let variable = here.as_str().and_then(lone_variable);
            // More variables than there are go in a circle, which is told elsewhere.
            if let Some((name, given)) = variable.and_then(|name| self.vars.iter().find(|(known, _)| known == name))
                && source.holds(&["vars".to_owned(), name.clone()])
                && followed < self.vars.len()
            {
                path = [&["vars".to_owned(), name.clone()], &path[depth..]].concat();
                (value, depth, followed) = (Some(given), 2, followed + 1);
            } else if depth < path.len() {
                value = match here {
                    Value::Array(items) => path[depth].parse().ok().and_then(|at: usize| items.get(at)),
                    here => here.get(&path[depth]),
                };
                depth += 1;
            } else {
                break;
            }
        }
        path
    }

    pub(crate) fn key(&self, source: &Source, at: &[String]) -> Place {
        source.key(&self.path(at))
    }

    /// Whether the parameter is written in the file, and not a default.
    pub(crate) fn holds(&self, source: &Source, at: &[String]) -> bool {
        let path = self.holder(source, at);
        // What is given on the command line has no places within.
        source.holds(&path) || (path[0] == "vars" && matches!(source.value(&path), Place::Override(_)))
    }

    fn path(&self, at: &[String]) -> EntryPath {
        let mut path: EntryPath = vec!["stages".to_owned(), self.written.clone(), self.kind.clone()];
        for (depth, name) in at.iter().enumerate() {
            let entries = self.entries.get(&at[..depth]);
            let written = entries.and_then(|entries| entries.get(name.parse::<usize>().ok()?));
            path.push(written.map_or_else(|| name.clone(), ToString::to_string));
        }
        path
    }
}

/// Expands every stage over its axes, substitutes variables, and gathers families.
pub(crate) fn expand(draft: &Draft, mistakes: &mut Mistakes) -> Vec<Sketch> {
    let (vars, broken) = resolve_vars(draft, mistakes);
    let written_vars: Arc<[(String, Value)]> = draft.vars.clone().into();
    // What is wrong with a broken variable was told where it stands.
    let is_told = |missing: &String| broken.contains(missing) || may_be_given(missing, draft);
    let mut sketches = Vec::new();
    for (written, value) in &draft.stages {
        let path = ["stages".to_owned(), written.clone()];
        let place = mistakes.source.key(&path);
        tell_of_entries(written, value, mistakes);
        let Some((kind, params)) = kind_of(value) else {
            tell_unknown_of_lost(draft, written, value, &vars, &is_told, mistakes);
            continue;
        };
        let instances = instances(draft, written, &place, mistakes);
        if instances.is_empty() {
            tell_unknown_of_lost(draft, written, value, &vars, &is_told, mistakes);
        }
        for (name, bindings) in instances {
            let mut unknown = Vec::new();
            let lookup = |name: &str| bindings.iter().chain(&vars).find(|(known, _)| known == name).map(|(_, v)| v);
            let substituted = substitute(params, &lookup, &mut Vec::new(), &mut unknown);
            let origin = Origin {
                written: written.clone(),
                kind: kind.clone(),
                params: params.clone(),
                vars: Arc::clone(&written_vars),
                entries: BTreeMap::new(),
            };
            for (at, missing) in unknown.iter().filter(|(_, missing)| !is_told(missing)) {
                let known = bindings.iter().chain(&vars).map(|(name, _)| name.as_str());
                let hint = closest(missing, known).map(|near| did_you_mean(&format!("${near}")));
                let axis = draft.axes.iter().any(|(axis, _)| axis == missing);
                let hint = if axis { Some(format!("name the stage `{written}@{missing}`")) } else { hint };
                let place = origin.value(&mistakes.source, at);
                let (message, hint) = unknown_variable(missing, &format!("stage `{written}`"), hint);
                mistakes.add_in((written, &name), place, message, hint);
            }
            let unknown = unknown.into_iter().map(|(at, _)| at).collect();
            let params = match substituted {
                Value::Object(params) => params,
                Value::Null => Map::new(),
                _ => {
                    mistakes.add(place.clone(), format!("the parameters of stage `{written}` are not a mapping"), None);
                    continue;
                }
            };
            let resources =
                value.get(RESOURCES).map(|value| substitute(value, &lookup, &mut Vec::new(), &mut Vec::new()));
            sketches.push(Sketch { name, kind: kind.clone(), params, origin, resources, unknown });
        }
    }
    let lost = lost_families(draft, &sketches);
    gather(&mut sketches, &lost, draft.gaps.more, mistakes);
    sketches
}

/// Tells of variables without a value in a stage that stands for none, for a reason that has been told.
fn tell_unknown_of_lost(
    draft: &Draft,
    written: &str,
    value: &Value,
    vars: &Bindings,
    is_told: &dyn Fn(&String) -> bool,
    mistakes: &mut Mistakes,
) {
    let mut unknown = Vec::new();
    let lookup = |name: &str| vars.iter().find(|(known, _)| known == name).map(|(_, value)| value);
    substitute(value, &lookup, &mut Vec::new(), &mut unknown);
    let axes: Vec<&str> =
        draft.axes.iter().map(|(axis, _)| axis).chain(&draft.broken_axes).map(String::as_str).collect();
    let may_be_axis = |missing: &str| axes.contains(&missing) || written.split('@').skip(1).any(|part| part == missing);
    for (at, missing) in unknown.iter().filter(|(_, missing)| !is_told(missing) && !may_be_axis(missing)) {
        let near = closest(missing, vars.iter().map(|(name, _)| name.as_str()));
        let hint = near.map(|near| did_you_mean(&format!("${near}")));
        let (message, hint) = unknown_variable(missing, &format!("stage `{written}`"), hint);
        let path = [&["stages".to_owned(), written.to_owned()], &at[..]].concat();
        mistakes.add(mistakes.source.value(&path), message, hint);
    }
}

/// The text of an entry beside the stages, its variables filled in; none if they leave nothing.
pub(crate) fn text_of(entry: &str, written: &Value, draft: &Draft, mistakes: &mut Mistakes) -> Option<String> {
    let (vars, broken) = resolve_vars(draft, mistakes);
    let lookup = |name: &str| vars.iter().find(|(known, _)| known == name).map(|(_, value)| value);
    let mut unknown = Vec::new();
    let value = substitute(written, &lookup, &mut Vec::new(), &mut unknown);
    let Some((_, missing)) = unknown.first() else { return (!value.is_null()).then(|| plain(&value)) };
    if broken.contains(missing) || may_be_given(missing, draft) {
        return None;
    }
    let (message, hint) = unknown_variable(missing, &format!("`{entry}`"), None);
    mistakes.add(mistakes.source.value(&[entry.to_owned()]), message, hint);
    None
}

/// Families of which no stage could be made, for a reason that has been told.
pub(crate) fn lost_families<'a>(draft: &'a Draft, sketches: &[Sketch]) -> BTreeSet<&'a str> {
    let mut families: BTreeSet<&str> = draft.stages.iter().map(|(written, _)| family_of(written)).collect();
    for sketch in sketches {
        families.remove(family_of(&sketch.name));
    }
    families
}

/// The entry of a stage that is not its kind.
pub(super) const RESOURCES: &str = "resources";

/// The stage's kind and parameters, if it gives one kind.
fn kind_of(value: &Value) -> Option<(&String, &Value)> {
    let entries = || value.as_object().into_iter().flatten().filter(|(name, _)| *name != RESOURCES);
    let mut known = entries().filter(|(name, _)| is_kind(name));
    match (known.next(), known.next()) {
        (Some(only), None) => Some(only),
        // A kind that there is not, which is told of where it stands.
        (None, _) => entries().next().filter(|_| entries().count() == 1),
        (Some(_), Some(_)) => None,
    }
}

fn is_kind(name: &str) -> bool {
    KINDS.iter().any(|kind| kind.name == name)
}

/// Tells of what stands in a stage beside its kind, and of a stage that has none, or several.
fn tell_of_entries(written: &str, value: &Value, mistakes: &mut Mistakes) {
    let path = |name: &str| ["stages".to_owned(), written.to_owned(), name.to_owned()];
    let entries = value.as_object().into_iter().flat_map(Map::keys).map(String::as_str);
    let (kinds, unknown): (Vec<&str>, Vec<&str>) =
        entries.filter(|name| *name != RESOURCES).partition(|name| is_kind(name));
    if !kinds.is_empty() {
        for name in unknown {
            let near = closest(name, [RESOURCES]).map(did_you_mean);
            let hint = near
                .unwrap_or_else(|| "beside its kind a stage has `resources` alone; references order stages".to_owned());
            let place = mistakes.source.key(&path(name));
            mistakes.add(place, format!("unknown entry `{name}` of stage `{written}`"), Some(hint));
        }
    } else if unknown.len() != 1 {
        let hint = format!("write `{written}: {{ train: {{ … }} }}`");
        let place = mistakes.source.key(&path("")[..2]);
        mistakes.add(place, format!("stage `{written}` does not give exactly one kind"), Some(hint));
    }
    if kinds.len() > 1 {
        let hint = "make a stage of each; one may read another by its name".to_owned();
        let place = mistakes.source.key(&path("")[..2]);
        let kinds: Vec<String> = kinds.iter().map(|kind| format!("`{kind}`")).collect();
        mistakes.add(place, format!("stage `{written}` has {} kinds: {}", kinds.len(), kinds.join(", ")), Some(hint));
    }
}

/// The names that `teacher@task@seed` stands for, each with its axes' values.
fn instances(draft: &Draft, written: &str, place: &Place, mistakes: &mut Mistakes) -> Vec<(String, Bindings)> {
    let mut parts = written.split('@');
    let family = parts.next().unwrap_or_default();
    if parts.clone().any(str::is_empty)
        || family.is_empty()
        || !family.chars().all(|c| c.is_alphanumeric() || c == '-' || c == '_')
    {
        let hint = "use letters, digits, `-` and `_`, then `@axis`".to_owned();
        mistakes.add(place.clone(), format!("`{}` is no name for a stage", written.escape_debug()), Some(hint));
        return Vec::new();
    }
    let mut instances = vec![(family.to_owned(), Bindings::new())];
    for (at, part) in parts.clone().enumerate() {
        if parts.clone().take(at).any(|before| before == part) && draft.axes.iter().any(|(axis, _)| axis == part) {
            mistakes.add(place.clone(), format!("stage `{written}` has the axis `{part}` twice"), None);
            return Vec::new();
        }
        if let Some((axis, values)) = draft.axes.iter().find(|(axis, _)| axis == part) {
            let extend = |(name, bindings): (String, Bindings)| {
                values.iter().map(move |value| {
                    let bound = bindings.iter().cloned().chain([(axis.clone(), value.clone())]).collect();
                    (format!("{name}@{}", plain(value)), bound)
                })
            };
            instances = instances.into_iter().flat_map(extend).collect();
        } else if let Some(value) = value_named(part, draft) {
            // One member of a family written out by itself.
            for (name, _) in &mut instances {
                *name = format!("{name}@{value}");
            }
        } else if draft.broken_axes.iter().any(|axis| axis == part) {
            return Vec::new();
        } else {
            let near = closest(part, draft.axes.iter().map(|(axis, _)| axis.as_str()));
            let hint = near.map_or_else(|| format!("give it values: `for: {{ {part}: [ … ] }}`"), did_you_mean);
            mistakes.add(place.clone(), format!("axis `{part}` of stage `{written}` has no values"), Some(hint));
            return Vec::new();
        }
    }
    if let Some((name, wrong)) = instances.iter().find_map(|(name, _)| Some((name, wrong_in(name)?))) {
        mistakes.add(place.clone(), format!("stage `{}` {wrong}", name.escape_debug()), None);
        return Vec::new();
    }
    instances
}

/// An axis's value as names have it, whatever the spelling of a number.
fn value_named(part: &str, draft: &Draft) -> Option<String> {
    let values = || draft.axes.iter().flat_map(|(_, values)| values).map(plain);
    values().find(|value| value == part).or_else(|| values().find(|value| spelling::alike(value, part)))
}

/// What keeps a name with its axes' values from being that of a file.
fn wrong_in(name: &str) -> Option<String> {
    // Those of files have 255, some of which mark them.
    const MOST_BYTES: usize = 200;
    if name.contains('/') {
        return Some("has a `/` in its name, from the value of an axis".to_owned());
    }
    if name.contains(char::is_control) {
        return Some("has a control character in its name".to_owned());
    }
    (name.len() > MOST_BYTES).then(|| format!("has a name of {} bytes; the most are {MOST_BYTES}", name.len()))
}

/// The part of a stage's name before its axes.
pub(crate) fn family_of(name: &str) -> &str {
    name.split('@').next().unwrap_or(name)
}
