//! A pipeline file as written: its entries in the file's order, values as JSON, and their places.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Result;
use bam_contract::fault::closest;
use serde_json::Value;
use serde_yaml::Value as Yaml;

use super::include::{self, Gaps, INCLUDE};
use super::mistake::Mistakes;
use super::places::entry_path;
use super::substitute::plain;
use super::values;
use super::vars::RESOURCES;

const TOP: [&str; 8] = ["name", "seed", "remote", "vars", "for", "tasks", "resources", "stages"];

/// Entries keep the file's order: it is the order in which stages are listed and run.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    pub(crate) name: String,
    /// Seed of every stage that takes one and has none of its own.
    pub(crate) seed: Option<u64>,
    /// Where artifacts are shared.
    pub(crate) remote: Option<Value>,
    pub(crate) vars: Vec<(String, Value)>,
    pub(crate) axes: Vec<(String, Vec<Value>)>,
    /// Axes that are wrong in themselves; stages that use one are left out without a word.
    pub(crate) broken_axes: Vec<String>,
    pub(crate) tasks: Vec<(String, Value)>,
    /// By stage kind.
    pub(crate) resources: Vec<(String, Value)>,
    pub(crate) stages: Vec<(String, Value)>,
    pub(crate) gaps: Gaps,
}

impl Draft {
    /// Reads a file and applies `--set` arguments (`dotted.path=YAML`). Mistakes are collected, not returned.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(crate) fn read(file: &Path, overrides: &[String]) -> Result<(Self, Mistakes)> {
        let (root, gaps, mut mistakes) = include::read(file)?;
        let mut draft = Self { name: stem(file), gaps, ..Self::default() };
        if let Some(mut root) = root {
            for argument in overrides {
                set(&mut root, argument, &draft.gaps, &mut mistakes);
            }
            draft.fill(&root, &mut mistakes);
        }
        Ok((draft, mistakes))
    }

    fn fill(&mut self, root: &Yaml, mistakes: &mut Mistakes) {
        let Some(top) = entries(root, &[], "the pipeline file", mistakes) else { return };
        for (name, value) in top {
            let path = [name.clone()];
            let at = mistakes.source.value(&path);
            match name.as_str() {
                "name" => match value.as_str() {
                    Some(text) => text.clone_into(&mut self.name),
                    None => mistakes.add(at, "`name` is not text", None),
                },
                "seed" => match value.as_u64() {
                    Some(seed) => self.seed = Some(seed),
                    None => mistakes.add(at, "`seed` is not a whole number from 0", None),
                },
                "remote" if value.is_string() => self.remote = value.as_str().map(Value::from),
                "remote" => {
                    let hint = "write `remote: s3://bucket/prefix`, or a folder".to_owned();
                    mistakes.add(at, "`remote` is not text", Some(hint));
                }
                "vars" => self.vars = self.section(value, &path, mistakes),
                "resources" => self.resources = json_entries(value, &path, mistakes),
                "tasks" => self.tasks = self.section(value, &path, mistakes),
                "stages" => self.stages = self.section(value, &path, mistakes),
                "for" => {
                    for (axis, values) in json_entries(value, &path, mistakes) {
                        let at = mistakes.source.key(&[name.clone(), axis.clone()]);
                        match values {
                            Value::Array(values) if !values.is_empty() => {
                                let values = names(&axis, values, mistakes);
                                if !values.is_empty() {
                                    self.axes.push((axis, values));
                                    continue;
                                }
                            }
                            Value::Array(_) | Value::Null => {
                                mistakes.add(at, format!("axis `{axis}` has no values"), None);
                            }
                            _ => mistakes.add(
                                at,
                                format!("axis `{axis}` is not a list of values"),
                                Some(format!("write `{axis}: [a, b]`")),
                            ),
                        }
                        self.broken_axes.push(axis);
                    }
                }
                _ => {
                    let known: Vec<&str> = TOP.into_iter().chain([INCLUDE]).collect();
                    let near = closest(&name, known.iter().copied());
                    let hint = near.map_or_else(|| format!("known: {}", known.join(", ")), did_you_mean);
                    mistakes.add(mistakes.source.key(&path), format!("unknown entry `{name}`"), Some(hint));
                }
            }
        }
        if self.stages.is_empty() && mistakes.list.is_empty() {
            let place = mistakes.source.value(&["stages".to_owned()]);
            mistakes.add(place, "the pipeline has no stages", Some("list them under `stages:`".to_owned()));
        }
    }

    /// The entries of a section that others refer to; what is lost of it may be any of them.
    fn section(&mut self, value: &Yaml, path: &[String], mistakes: &mut Mistakes) -> Vec<(String, Value)> {
        let before = mistakes.list.len();
        let entries = json_entries(value, path, mistakes);
        self.gaps.more |= mistakes.list.len() > before;
        entries
    }
}

/// Those of an axis's values that can stand in names of stages, each once; tells of the others.
fn names(axis: &str, values: Vec<Value>, mistakes: &mut Mistakes) -> Vec<Value> {
    let (mut names, mut seen) = (Vec::new(), BTreeSet::new());
    for (at, value) in values.into_iter().enumerate() {
        let place = mistakes.source.value(&["for".to_owned(), axis.to_owned(), at.to_string()]);
        let is_plain = matches!(value, Value::String(_) | Value::Number(_) | Value::Bool(_));
        let name = plain(&value);
        if !is_plain || name.is_empty() || name.contains(['@', '*']) {
            let hint = "names of stages are made of them: give numbers, and texts without `@` and `*`".to_owned();
            mistakes.add(place, format!("axis `{axis}` has the value {value}"), Some(hint));
        } else if !seen.insert(name) {
            mistakes.add(place, format!("axis `{axis}` has `{}` twice", plain(&value)), None);
        } else {
            names.push(value);
        }
    }
    names
}

pub(crate) fn did_you_mean(near: &str) -> String {
    format!("did you mean `{near}`?")
}

fn stem(file: &Path) -> String {
    file.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// An entry's name as text, whatever YAML takes it for.
pub(super) fn entry_name(key: &Yaml) -> String {
    match key {
        Yaml::String(text) => text.clone(),
        other => serde_yaml::to_string(other).unwrap_or_default().trim().to_owned(),
    }
}

/// The entries of a mapping, in its order; a value that is no mapping is a mistake, and nothing is none.
fn entries<'a>(
    value: &'a Yaml,
    path: &[String],
    what: &str,
    mistakes: &mut Mistakes,
) -> Option<Vec<(String, &'a Yaml)>> {
    match value {
        Yaml::Null => Some(Vec::new()),
        Yaml::Mapping(map) => Some(map.iter().map(|(key, value)| (entry_name(key), value)).collect()),
        _ => {
            mistakes.add(mistakes.source.value(path), format!("{what} is not a mapping of names to values"), None);
            None
        }
    }
}

fn json_entries(value: &Yaml, path: &[String], mistakes: &mut Mistakes) -> Vec<(String, Value)> {
    let what = format!("`{}`", path.join("."));
    let mut converted = Vec::new();
    for (name, value) in entries(value, path, &what, mistakes).unwrap_or_default() {
        match serde_json::to_value(value) {
            Ok(json) => converted.push((name, json)),
            Err(error) => {
                let path = [path, &[name]].concat();
                mistakes.add(mistakes.source.value(&path), format!("`{}`: {error}", path.join(".")), None);
            }
        }
    }
    converted
}

/// Applies one `dotted.path=value`.
fn set(root: &mut Yaml, argument: &str, gaps: &Gaps, mistakes: &mut Mistakes) {
    let Some((dotted, text)) = argument.split_once('=') else {
        let hint = "write `--set vars.name=value`".to_owned();
        return mistakes.add(None, format!("`--set {argument}` gives no value"), Some(hint));
    };
    let value = match values::read(text) {
        Ok((value, wrong)) => match wrong.first() {
            None => value,
            Some((path, wrong)) => {
                let (message, hint) = wrong.message(path);
                return mistakes.add(None, format!("`--set {argument}`: {message}"), hint);
            }
        },
        Err(error) => return mistakes.add(None, format!("`--set {argument}`: the value is no YAML: {error}"), None),
    };
    let path = entry_path(dotted);
    match entry(root, &path, &mistakes.source.file) {
        Ok(place) => {
            *place = value;
            mistakes.source.set_override(&path, argument);
        }
        // It may override what stands in a file that was not read.
        Err(_) if gaps.more => {}
        Err((message, hint)) => mistakes.add(None, format!("`--set {argument}`: {message}"), hint),
    }
}

/// The entry to overwrite. Names must exist, but for the file's own optional entries and for parameters,
/// which have defaults (and are checked later, as if they stood in the file).
fn entry<'a>(root: &'a mut Yaml, path: &[String], file: &str) -> Result<&'a mut Yaml, (String, Option<String>)> {
    let mut here = root;
    for (depth, name) in path.iter().enumerate() {
        let above = path[..depth].join(".");
        if here.is_null() && depth > 0 {
            *here = Yaml::Mapping(serde_yaml::Mapping::new());
        }
        let Yaml::Mapping(map) = here else {
            return Err((format!("`{above}` in `{file}` has no entries"), None));
        };
        let may_be_new = match (depth, path[0].as_str()) {
            (0, _) => TOP.contains(&name.as_str()),
            (_, "resources") => true,
            (2, "stages") => name == RESOURCES,
            (_, "vars") => false,
            _ => depth >= 3,
        };
        if !map.contains_key(name.as_str()) && !may_be_new {
            let names: Vec<&str> = map.keys().filter_map(Yaml::as_str).collect();
            let full = |name: &str| if depth == 0 { name.to_owned() } else { format!("{above}.{name}") };
            let hint = match closest(name, names.iter().copied()) {
                Some(near) => did_you_mean(&full(near)),
                None if names.is_empty() => format!("`{above}` has no entries"),
                None => format!("known: {}", names.join(", ")),
            };
            return Err((format!("`{file}` has no `{}`", full(name)), Some(hint)));
        }
        here = map.entry(Yaml::String(name.clone())).or_insert(Yaml::Null);
    }
    Ok(here)
}
