//! `$name` in strings, axes in stage names, and `family@*` in lists.

use std::collections::{BTreeMap, BTreeSet};

use bam_contract::fault::closest;
use serde_json::{Map, Value};

use super::draft::{Draft, did_you_mean};
use super::mistake::Mistakes;
use super::source::{EntryPath, Place, Source};

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

/// How an expanded stage was written, to find its places in the file.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    /// `teacher@task`.
    pub(crate) written: String,
    kind: String,
    params: Value,
    /// Of each list among the parameters, by its path: the index as written of each of its entries.
    entries: BTreeMap<EntryPath, Vec<usize>>,
}

impl Origin {
    /// Place of a parameter's value; of the variable that gives it, where it is one.
    pub(crate) fn value(&self, source: &Source, at: &[String]) -> Place {
        let path = self.path(at);
        let as_written = path[3..].iter().try_fold(&self.params, |value, name| match value {
            Value::Array(items) => items.get(name.parse::<usize>().ok()?),
            value => value.get(name),
        });
        if let Some(name) = as_written.and_then(Value::as_str).and_then(lone_variable) {
            let variable = ["vars".to_owned(), name.to_owned()];
            if source.holds(&variable) {
                return source.value(&variable);
            }
        }
        source.value(&path)
    }

    pub(crate) fn key(&self, source: &Source, at: &[String]) -> Place {
        source.key(&self.path(at))
    }

    /// Whether the parameter is written in the file, and not a default.
    pub(crate) fn holds(&self, source: &Source, at: &[String]) -> bool {
        source.holds(&self.path(at))
    }

    fn path(&self, at: &[String]) -> EntryPath {
        let mut path: EntryPath = vec!["stages".to_owned(), self.written.clone(), self.kind.clone()];
        path.extend_from_slice(at);
        for (list, entries) in &self.entries {
            let index = at.strip_prefix(list.as_slice()).and_then(|rest| rest.first()?.parse::<usize>().ok());
            if let Some(written) = index.and_then(|index| entries.get(index)) {
                path[3 + list.len()] = written.to_string();
            }
        }
        path
    }
}

/// Expands every stage over its axes, substitutes variables, and gathers families.
pub(crate) fn expand(draft: &Draft, mistakes: &mut Mistakes) -> Vec<Sketch> {
    let (vars, broken) = resolve_vars(draft, mistakes);
    let mut sketches = Vec::new();
    for (written, value) in &draft.stages {
        let path = ["stages".to_owned(), written.clone()];
        let place = mistakes.source.key(&path);
        let Some((kind, params)) = kind_of(value) else {
            let hint = format!("write `{written}: {{ train: {{ … }} }}`");
            mistakes.add(place, format!("stage `{written}` does not give exactly one kind"), Some(hint));
            continue;
        };
        for (name, bindings) in instances(draft, written, &place, mistakes) {
            let mut unknown = Vec::new();
            let lookup = |name: &str| bindings.iter().chain(&vars).find(|(known, _)| known == name).map(|(_, v)| v);
            let substituted = substitute(params, &lookup, &mut Vec::new(), &mut unknown);
            let origin = Origin {
                written: written.clone(),
                kind: kind.clone(),
                params: params.clone(),
                entries: BTreeMap::new(),
            };
            // What is wrong with a broken variable was told where it stands.
            for (at, missing) in unknown.iter().filter(|(_, missing)| !broken.contains(missing)) {
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
    gather(draft, &mut sketches, mistakes);
    sketches
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
    let mut kinds = value.as_object()?.iter().filter(|(name, _)| *name != RESOURCES);
    kinds.next().filter(|_| kinds.next().is_none())
}

/// Variables may use those above them. Returns those with values, and the names of those without.
fn resolve_vars(draft: &Draft, mistakes: &mut Mistakes) -> (Bindings, Vec<String>) {
    let mut resolved = Bindings::new();
    let mut broken = Vec::new();
    for (name, value) in &draft.vars {
        let mut unknown = Vec::new();
        let lookup = |name: &str| resolved.iter().find(|(known, _)| known == name).map(|(_, value)| value);
        let value = substitute(value, &lookup, &mut Vec::new(), &mut unknown);
        if unknown.is_empty() {
            resolved.push((name.clone(), value));
            continue;
        }
        for (_, missing) in unknown.iter().filter(|(_, missing)| !broken.contains(missing)) {
            let place = mistakes.source.value(&["vars".to_owned(), name.clone()]);
            let hint = Some("a variable may use those written above it".to_owned());
            let (message, hint) = unknown_variable(missing, &format!("`vars.{name}`"), hint);
            mistakes.add(place, message, hint);
        }
        broken.push(name.clone());
    }
    (resolved, broken)
}

/// What is wrong with a variable that has no value, and a hint.
fn unknown_variable(name: &str, place: &str, hint: Option<String>) -> (String, Option<String>) {
    match name.strip_prefix(ENVIRONMENT) {
        Some(name) => (
            format!("the environment variable `{name}`, used in {place}, is not set"),
            Some(format!("set it, or write a default: `${{env:{name}:-value}}`")),
        ),
        None => (format!("unknown variable `${name}` in {place}"), hint),
    }
}

type Bindings = Vec<(String, Value)>;

/// The names that `teacher@task@seed` stands for, each with its axes' values.
fn instances(draft: &Draft, written: &str, place: &Place, mistakes: &mut Mistakes) -> Vec<(String, Bindings)> {
    let mut parts = written.split('@');
    let family = parts.next().unwrap_or_default();
    if family.is_empty() || family.contains(['/', '*', '$', '.']) {
        let hint = "use letters, digits, `-` and `_`, then `@axis`".to_owned();
        mistakes.add(place.clone(), format!("`{written}` is no name for a stage"), Some(hint));
        return Vec::new();
    }
    let mut instances = vec![(family.to_owned(), Bindings::new())];
    for part in parts {
        if let Some((axis, values)) = draft.axes.iter().find(|(axis, _)| axis == part) {
            let extend = |(name, bindings): (String, Bindings)| {
                values.iter().map(move |value| {
                    let bound = bindings.iter().cloned().chain([(axis.clone(), value.clone())]).collect();
                    (format!("{name}@{}", plain(value)), bound)
                })
            };
            instances = instances.into_iter().flat_map(extend).collect();
        } else if draft.axes.iter().any(|(_, values)| values.iter().any(|value| plain(value) == part)) {
            // One member of a family written out by itself.
            for (name, _) in &mut instances {
                *name = format!("{name}@{part}");
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
    if let Some((name, _)) = instances.iter().find(|(name, _)| name.contains('/')) {
        mistakes.add(place.clone(), format!("stage `{name}`: an axis value in a name cannot have a `/`"), None);
        return Vec::new();
    }
    instances
}

/// Replaces `family@*` in lists by the stages it matches, in their order.
fn gather(draft: &Draft, sketches: &mut [Sketch], mistakes: &mut Mistakes) {
    let lost = lost_families(draft, sketches);
    let names: Vec<String> = sketches.iter().map(|sketch| sketch.name.clone()).collect();
    for sketch in sketches {
        let mut params = std::mem::take(&mut sketch.params);
        for (at, items) in lists(&mut params) {
            let mut gathered = Vec::new();
            let mut written = Vec::new();
            for (index, item) in items.iter().enumerate() {
                let Some(pattern) = item.as_str().filter(|text| text.split('@').skip(1).any(|part| part == "*")) else {
                    gathered.push(item.clone());
                    written.push(index);
                    continue;
                };
                let found: Vec<&String> = names.iter().filter(|name| matches(pattern, name)).collect();
                if found.is_empty() {
                    sketch.unknown.push(at.clone());
                }
                let family = family_of(pattern);
                if found.is_empty() && !lost.contains(family) {
                    let near = closest(family, names.iter().map(|name| family_of(name)).filter(|near| *near != family));
                    let hint = near.map(|near| did_you_mean(&pattern.replacen(family, near, 1)));
                    let place = [&at[..], &[index.to_string()]].concat();
                    let place = sketch.origin.value(&mistakes.source, &place);
                    let message = format!("`{pattern}` in stage `{}` gathers no stage", sketch.name);
                    mistakes.add_in((&sketch.origin.written, &sketch.name), place, message, hint);
                }
                written.extend(found.iter().map(|_| index));
                gathered.extend(found.into_iter().cloned().map(Value::String));
            }
            *items = gathered;
            sketch.origin.entries.insert(at, written);
        }
        sketch.params = params;
    }
}

/// The lists among parameters, and those in mappings among them, each with its path.
fn lists(params: &mut Map<String, Value>) -> Vec<(EntryPath, &mut Vec<Value>)> {
    let mut found = Vec::new();
    for (name, value) in params {
        match value {
            Value::Array(items) => found.push((vec![name.clone()], items)),
            Value::Object(inner) => {
                let inner =
                    lists(inner).into_iter().map(|(at, items)| ([std::slice::from_ref(name), &at].concat(), items));
                found.extend(inner);
            }
            _ => {}
        }
    }
    found
}

/// The part of a stage's name before its axes.
pub(crate) fn family_of(name: &str) -> &str {
    name.split('@').next().unwrap_or(name)
}

/// Whether a name matches a pattern: `*` stands for one axis, and at the end for all that are left.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<_>, Vec<_>) = (pattern.split('@').collect(), name.split('@').collect());
    let fits = pattern.iter().zip(&name).all(|(pattern, part)| *pattern == "*" || pattern == part);
    let open = pattern.last() == Some(&"*") && name.len() > pattern.len();
    fits && (pattern.len() == name.len() || open)
}

/// A value as it stands in a string or a name.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned)
}

/// `name`, if the text is `$name` or `${name}` and nothing else.
fn lone_variable(text: &str) -> Option<&str> {
    match split_variable(text)? {
        ("", name, "") => Some(name),
        _ => None,
    }
}

/// Begins the name of a variable of the environment: `${env:NAME}`, `${env:NAME:-default}`.
const ENVIRONMENT: &str = "env:";

/// The value of a variable: of the environment's, read as YAML is, or of the file's.
fn value_of<'v>(name: &str, lookup: &dyn Fn(&str) -> Option<&'v Value>) -> Option<Value> {
    let Some(name) = name.strip_prefix(ENVIRONMENT) else { return lookup(name).cloned() };
    let (name, default) = name.split_once(":-").map_or((name, None), |(name, default)| (name, Some(default)));
    let text = std::env::var(name).ok().filter(|text| !text.is_empty()).or(default.map(ToOwned::to_owned))?;
    let scalar = serde_yaml::from_str::<Value>(&text).ok().filter(|value| !value.is_object() && !value.is_array());
    Some(scalar.unwrap_or(Value::String(text)))
}

/// Text before the first variable, its name, and the text after it.
fn split_variable(text: &str) -> Option<(&str, &str, &str)> {
    for (at, _) in text.match_indices('$') {
        let rest = &text[at + 1..];
        let braced = rest.strip_prefix('{');
        if let Some((name, after)) =
            braced.filter(|name| name.starts_with(ENVIRONMENT)).and_then(|rest| rest.split_once('}'))
        {
            return Some((&text[..at], name, after));
        }
        let start = braced.unwrap_or(rest);
        let end = start.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(start.len());
        let (name, after) = start.split_at(end);
        let after = if braced.is_some() { after.strip_prefix('}') } else { Some(after) };
        if let (false, Some(after)) = (name.is_empty(), after) {
            return Some((&text[..at], name, after));
        }
    }
    None
}

/// Replaces variables at every depth. A string that is one variable alone takes the value's own type.
fn substitute<'v>(
    value: &Value,
    lookup: &dyn Fn(&str) -> Option<&'v Value>,
    at: &mut EntryPath,
    unknown: &mut Vec<(EntryPath, String)>,
) -> Value {
    match value {
        Value::String(text) => {
            if let Some(value) = lone_variable(text).and_then(|name| value_of(name, lookup)) {
                return value;
            }
            let mut result = String::new();
            let mut rest = text.as_str();
            while let Some((before, name, after)) = split_variable(rest) {
                result += before;
                match value_of(name, lookup) {
                    Some(value) => result += &plain(&value),
                    None => unknown.push((at.clone(), name.to_owned())),
                }
                rest = after;
            }
            Value::String(result + rest)
        }
        Value::Array(items) => {
            let mut each = |(index, item): (usize, &Value)| {
                at.push(index.to_string());
                let item = substitute(item, lookup, at, unknown);
                at.pop();
                item
            };
            Value::Array(items.iter().enumerate().map(&mut each).collect())
        }
        Value::Object(map) => {
            let mut each = |(name, item): (&String, &Value)| {
                at.push(name.clone());
                let item = substitute(item, lookup, at, unknown);
                at.pop();
                (name.clone(), item)
            };
            Value::Object(map.iter().map(&mut each).collect())
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_lone_variable_keeps_its_type_and_others_join_text() {
        let (n, dir) = (json!(128), json!("glue"));
        let lookup =
            |name: &str| [("n", &n), ("dir", &dir)].into_iter().find(|(known, _)| *known == name).map(|(_, v)| v);
        let mut unknown = Vec::new();
        let value = json!({"a": "$n", "b": "${dir}/x$n", "c": ["$dir", "$$ 5", "$missing"]});
        let result = substitute(&value, &lookup, &mut Vec::new(), &mut unknown);
        assert_eq!(result, json!({"a": 128, "b": "glue/x128", "c": ["glue", "$$ 5", ""]}));
        assert_eq!(unknown, [(vec!["c".to_owned(), "2".to_owned()], "missing".to_owned())]);
    }

    #[test]
    fn patterns() {
        assert!(matches("teacher@*", "teacher@rte"));
        assert!(matches("teacher@*", "teacher@rte@1"));
        assert!(matches("teacher@*@1", "teacher@rte@1"));
        assert!(!matches("teacher@*@1", "teacher@rte@2"));
        assert!(!matches("teacher@*@1", "teacher@1"));
        assert!(!matches("teacher@*", "teacher"));
    }
}
