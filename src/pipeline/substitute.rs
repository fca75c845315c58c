//! `$name` in texts: variables of the file, of the environment, and of each other.

use bam_contract::fault::closest;
use serde_json::Value;

use super::draft::{Draft, did_you_mean};
use super::graph;
use super::mistake::Mistakes;
use super::places::EntryPath;
use crate::installed;

/// Names with values.
pub(super) type Bindings = Vec<(String, Value)>;

/// Variables may use each other. Returns those with values, and the names of those without.
pub(super) fn resolve_vars(draft: &Draft, mistakes: &mut Mistakes) -> (Bindings, Vec<String>) {
    let position = |name: &String| draft.vars.iter().position(|(known, _)| known == name);
    let uses = |(_, value): &(String, Value)| {
        let mut used = Vec::new();
        substitute(value, &|_| None, &mut Vec::new(), &mut used);
        used.iter().filter_map(|(_, name)| position(name)).collect()
    };
    let (order, cycles) = graph::order(&draft.vars.iter().map(uses).collect::<Vec<_>>());
    let mut broken = Vec::new();
    for cycle in cycles {
        let names: Vec<&str> = cycle.iter().map(|at| draft.vars[*at].0.as_str()).collect();
        let place = mistakes.source.value(&["vars".to_owned(), names[0].to_owned()]);
        mistakes.add(place, format!("variables use each other: {}", names.join(" → ")), None);
        broken.extend(names.into_iter().map(ToOwned::to_owned));
    }
    let mut resolved = Bindings::new();
    for (name, value) in order.into_iter().map(|at| &draft.vars[at]) {
        let mut unknown = Vec::new();
        let lookup = |name: &str| resolved.iter().find(|(known, _)| known == name).map(|(_, value)| value);
        let value = substitute(value, &lookup, &mut Vec::new(), &mut unknown);
        if unknown.is_empty() && !broken.contains(name) {
            resolved.push((name.clone(), value));
            continue;
        }
        for (_, missing) in
            unknown.iter().filter(|(_, missing)| !broken.contains(missing) && !may_be_given(missing, draft))
        {
            let place = mistakes.source.value(&["vars".to_owned(), name.clone()]);
            let axis = draft.axes.iter().any(|(axis, _)| axis == missing);
            let near = closest(missing, draft.vars.iter().map(|(known, _)| known.as_str()));
            let hint = if axis {
                Some(format!("`${missing}` is an axis: its values are known in stages alone"))
            } else {
                near.map(|near| did_you_mean(&format!("${near}")))
            };
            let (message, hint) = unknown_variable(missing, &format!("`vars.{name}`"), hint);
            mistakes.add(place, message, hint);
        }
        broken.push(name.clone());
    }
    (resolved, broken)
}

/// Whether a variable may stand in what could not be read.
pub(super) fn may_be_given(name: &str, draft: &Draft) -> bool {
    draft.gaps.more && !name.starts_with(ENVIRONMENT) && name != SHARE
}

/// What is wrong with a variable that has no value, and a hint.
pub(super) fn unknown_variable(name: &str, place: &str, hint: Option<String>) -> (String, Option<String>) {
    match name.strip_prefix(ENVIRONMENT) {
        Some(name) => (
            format!("the environment variable `{name}`, used in {place}, is not set"),
            Some(format!("set it, or write a default: `${{env:{name}:-value}}`")),
        ),
        None if name == SHARE => (
            format!("`${{{SHARE}}}` in {place} is a folder of an installed `bam`, and this one is not installed"),
            Some("`make install` installs it; write a path of your own here".to_owned()),
        ),
        None => (format!("unknown variable `${name}` in {place}"), hint),
    }
}

/// A value as it stands in a string or a name.
pub(super) fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned)
}

/// `name`, if the text is `$name` or `${name}` and nothing else.
pub(super) fn lone_variable(text: &str) -> Option<&str> {
    match split_variable(text)? {
        ("", name, "") => Some(name),
        _ => None,
    }
}

/// Begins the name of a variable of the environment: `${env:NAME}`, `${env:NAME:-default}`.
const ENVIRONMENT: &str = "env:";
/// `${bam:share}`: the folder of encoders, pipelines and data that an installed `bam` brings.
const SHARE: &str = "bam:share";

/// The text of a variable of the environment; none if that is unset or empty, or the name is not of one.
fn environment(name: &str) -> Option<String> {
    let name = name.strip_prefix(ENVIRONMENT)?;
    let (name, default) = name.split_once(":-").map_or((name, None), |(name, default)| (name, Some(default)));
    std::env::var(name).ok().filter(|text| !text.is_empty()).or(default.map(ToOwned::to_owned))
}

/// The value of a variable that stands alone: of the environment's, read as YAML is, or of the file's.
fn value_of<'v>(name: &str, lookup: &dyn Fn(&str) -> Option<&'v Value>) -> Option<Value> {
    if name == SHARE {
        return Some(Value::String(installed::share()?.to_str()?.to_owned()));
    }
    if !name.starts_with(ENVIRONMENT) {
        return lookup(name).cloned();
    }
    let text = environment(name)?;
    let scalar = serde_yaml::from_str::<Value>(&text).ok().filter(|value| !value.is_object() && !value.is_array());
    Some(scalar.unwrap_or(Value::String(text)))
}

/// Text before the first variable, its name, and the text after it.
fn split_variable(text: &str) -> Option<(&str, &str, &str)> {
    for (at, _) in text.match_indices('$') {
        let rest = &text[at + 1..];
        let braced = rest.strip_prefix('{');
        if let Some((name, after)) = braced
            .filter(|name| name.starts_with(ENVIRONMENT) || name.starts_with(SHARE))
            .and_then(|rest| rest.split_once('}'))
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
pub(super) fn substitute<'v>(
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
                let text = environment(name).or_else(|| Some(plain(&value_of(name, lookup)?)));
                match text {
                    Some(text) => result += &text,
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
    fn a_variable_of_the_environment_joins_text_as_it_is() {
        let substituted = |text: &str| substitute(&json!(text), &|_| None, &mut Vec::new(), &mut Vec::new());
        assert_eq!(substituted("v${env:BAM_NONE:-1.10}"), json!("v1.10"));
        assert_eq!(substituted("at 12345e67: ${env:BAM_NONE:-12345e67}"), json!("at 12345e67: 12345e67"));
        assert_eq!(substituted("${env:BAM_NONE:-12}"), json!(12));
    }
}
