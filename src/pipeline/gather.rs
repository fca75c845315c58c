//! `family@*` in lists.

use std::collections::BTreeSet;

use bam_contract::fault::closest;
use serde_json::Value;

use super::draft::did_you_mean;
use super::mistake::Mistakes;
use super::places::EntryPath;
use super::spelling;
use super::vars::{Sketch, family_of};

/// Replaces `family@*` in lists by the stages it matches, in their order.
/// Families in `lost` have no stages, for a reason that has been told; where there `may_be_more` stages, in a file that could not
/// be read, what is gathered is not known.
pub(super) fn gather(sketches: &mut [Sketch], lost: &BTreeSet<&str>, may_be_more: bool, mistakes: &mut Mistakes) {
    let names: Vec<String> = sketches.iter().map(|sketch| sketch.name.clone()).collect();
    for sketch in sketches {
        let mut params = Value::Object(std::mem::take(&mut sketch.params));
        let mut gathering = Gathering { names: &names, lost, may_be_more, sketch, mistakes };
        gathering.gather(&mut params, &mut Vec::new());
        if let Value::Object(params) = params {
            sketch.params = params;
        }
    }
}

struct Gathering<'a> {
    names: &'a [String],
    lost: &'a BTreeSet<&'a str>,
    may_be_more: bool,
    sketch: &'a mut Sketch,
    mistakes: &'a mut Mistakes,
}

impl Gathering<'_> {
    /// Replaces in the lists below `value`, which stands at the path `at` of the parameters.
    fn gather(&mut self, value: &mut Value, at: &mut EntryPath) {
        match value {
            Value::Object(map) => {
                for (name, value) in map {
                    at.push(name.clone());
                    self.gather(value, at);
                    at.pop();
                }
            }
            Value::Array(items) => self.gather_list(items, at),
            _ => {}
        }
    }

    fn gather_list(&mut self, items: &mut Vec<Value>, at: &[String]) {
        let mut gathered = Vec::new();
        let mut written = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let Some(pattern) = item.as_str().filter(|text| text.split('@').skip(1).any(|part| part == "*")) else {
                gathered.push(item.clone());
                written.push(index);
                continue;
            };
            let found = found(self.names, pattern);
            if found.is_empty() || self.may_be_more {
                self.sketch.unknown.push(at.to_vec());
            }
            if found.is_empty() {
                self.miss(pattern, &[at, &[index.to_string()]].concat());
            }
            written.extend(found.iter().map(|_| index));
            gathered.extend(found.into_iter().cloned().map(Value::String));
        }
        *items = gathered;
        self.sketch.origin.entries.insert(at.to_vec(), written);
    }

    /// Tells of a pattern that matches no stage, unless its family is lost.
    fn miss(&mut self, pattern: &str, at: &[String]) {
        let family = family_of(pattern);
        if self.may_be_more || self.lost.contains(family) {
            return;
        }
        let renamed = |near: &str| pattern.replacen(family, near, 1);
        let others = self.names.iter().map(|name| family_of(name)).filter(|near| *near != family);
        let near = closest(family, others.filter(|near| !found(self.names, &renamed(near)).is_empty()));
        let own = self.names.iter().find(|name| family_of(name) == family);
        let hint = match own {
            Some(own) => Some(format!("its stages are named as `{own}` is")),
            None => near.map(|near| did_you_mean(&renamed(near))),
        };
        let place = self.sketch.origin.value(&self.mistakes.source, at);
        let message = format!("`{pattern}` in stage `{}` gathers no stage", self.sketch.name);
        self.mistakes.add_in((&self.sketch.origin.written, &self.sketch.name), place, message, hint);
    }
}

/// Stages whose names match; where none do as it is written, those that do but for the spelling of numbers.
fn found<'n>(names: &'n [String], pattern: &str) -> Vec<&'n String> {
    let find = |same: fn(&str, &str) -> bool| -> Vec<&'n String> {
        names.iter().filter(|name| matches(pattern, name, same)).collect()
    };
    let found = find(|part, other| part == other);
    if found.is_empty() { find(spelling::alike) } else { found }
}

/// Whether a name matches a pattern: `*` stands for one axis, and at the end for all that are left.
fn matches(pattern: &str, name: &str, same: fn(&str, &str) -> bool) -> bool {
    let (pattern, name): (Vec<_>, Vec<_>) = (pattern.split('@').collect(), name.split('@').collect());
    let fits = pattern.iter().zip(&name).all(|(pattern, part)| *pattern == "*" || same(pattern, part));
    let open = pattern.last() == Some(&"*") && name.len() > pattern.len();
    fits && (pattern.len() == name.len() || open)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        let matches = |pattern, name| matches(pattern, name, |part, other| part == other);
        assert!(matches("teacher@*", "teacher@rte"));
        assert!(matches("teacher@*", "teacher@rte@1"));
        assert!(matches("teacher@*@1", "teacher@rte@1"));
        assert!(!matches("teacher@*@1", "teacher@rte@2"));
        assert!(!matches("teacher@*@1", "teacher@1"));
        assert!(!matches("teacher@*", "teacher"));
    }
}
