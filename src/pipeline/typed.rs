//! From JSON to a typed value, finding every flaw and not the first alone.

use std::collections::BTreeMap;

use bam_contract::fault::closest;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use serde_path_to_error::Segment;

use super::draft::did_you_mean;
use super::places::EntryPath;

/// Text that stands in for a value that is missing or of the wrong type, so that the rest can be checked.
pub(crate) const PLACEHOLDER: &str = "?";

const MISSING: &str = "missing parameter";

/// How a hint begins that names all values.
const KNOWN: &str = "known: ";

/// Lists of whole lines, which are not divided into words.
const LINES: [&str; 1] = ["setup"];

#[derive(Debug, PartialEq)]
pub(crate) struct Flaw {
    pub(crate) path: EntryPath,
    /// Whether the entry's name is at fault, and not its value.
    pub(crate) in_name: bool,
    /// What is wrong, and how: "unknown parameter `x`" and "", "`x`" and " is …".
    subject: String,
    predicate: String,
    pub(crate) hint: Option<String>,
}

/// The value typed as well as can be, and its flaws; a flawed entry is left out, or stands as a placeholder.
pub(crate) fn typed<T: DeserializeOwned>(mut value: Value) -> (Option<T>, Vec<Flaw>) {
    let mut flaws = Vec::new();
    let mut tries = BTreeMap::<EntryPath, usize>::new();
    loop {
        let error = match serde_path_to_error::deserialize::<_, T>(&value) {
            Ok(typed) => return (Some(typed), flaws),
            Err(error) => error,
        };
        let (path, complaint) = (path_of(error.path()), error.inner().to_string());
        let flaw = Flaw::read(path, &complaint);
        let tried = tries.get(&flaw.path).copied();
        // What is wrong around an entry that was taken out follows from that.
        if let Some(missing) = flaws.iter_mut().find(|known: &&mut Flaw| known.missing() && known.path == flaw.path)
            && flaw.hint.as_ref().is_some_and(|hint| hint.starts_with(KNOWN))
        {
            // The placeholder has shown what may stand there.
            missing.hint.clone_from(&flaw.hint);
        }
        let is_new = tried.is_none() && !flaws.iter().any(|known: &Flaw| known.path.starts_with(&flaw.path));
        let step = tried.map_or(usize::from(flaw.missing()), |tried| tried + 1);
        if !repair(&mut value, &flaw.path, step) {
            if is_new {
                flaws.push(flaw);
            }
            return (None, flaws);
        }
        tries.insert(flaw.path.clone(), step);
        if is_new {
            flaws.push(flaw);
        }
    }
}

/// Takes the entry out, or puts the next kind of placeholder there; says whether there was one left to try.
fn repair(value: &mut Value, path: &[String], step: usize) -> bool {
    let Some((name, above)) = path.split_last() else { return false };
    let Some(around) = above.iter().try_fold(value, |value, name| match value {
        Value::Array(items) => items.get_mut(name.parse::<usize>().ok()?),
        value => value.get_mut(name),
    }) else {
        return false;
    };
    let placeholder = match step {
        0 => None,
        1 => Some(json!(PLACEHOLDER)),
        2 => Some(json!([])),
        3 => Some(json!({})),
        4 => Some(json!(1)),
        _ => return false,
    };
    match (around, placeholder) {
        (Value::Object(map), Some(placeholder)) => {
            map.insert(name.clone(), placeholder);
        }
        (Value::Object(map), None) => {
            map.remove(name);
        }
        (Value::Array(items), placeholder) => {
            let Some(item) = name.parse().ok().and_then(|index: usize| items.get_mut(index)) else { return false };
            *item = placeholder.unwrap_or_else(|| json!(PLACEHOLDER));
        }
        _ => return false,
    }
    true
}

fn path_of(path: &serde_path_to_error::Path) -> EntryPath {
    let name = |segment: &Segment| match segment {
        Segment::Seq { index } => Some(index.to_string()),
        Segment::Map { key } => Some(key.clone()),
        Segment::Enum { variant } => Some(variant.clone()),
        Segment::Unknown => None,
    };
    path.iter().filter_map(name).collect()
}

impl Flaw {
    /// The whole sentence, `place` being such as "stage `student`".
    pub(crate) fn message(&self, place: &str) -> String {
        if self.path.is_empty() {
            return format!("{place}{}", self.predicate);
        }
        format!("{} in {place}{}", self.subject, self.predicate)
    }

    /// Puts serde's complaint into a user's words.
    fn read(mut path: EntryPath, complaint: &str) -> Self {
        let quoted: Vec<&str> = complaint.split('`').skip(1).step_by(2).collect();
        // An entry of a list is called by the list's name.
        let named = path.iter().rev().find(|name| name.parse::<usize>().is_err()).cloned().unwrap_or_default();
        let subject = format!("`{named}`");
        let choices = |name: &str, known: &[&str]| match closest(name, known.iter().copied()) {
            Some(near) => Some(did_you_mean(near)),
            None if known.is_empty() => None,
            None => Some(format!("{KNOWN}{}", known.join(", "))),
        };
        match quoted.as_slice() {
            [name, known @ ..] if complaint.starts_with("unknown field") => {
                if named != *name {
                    path.push((*name).to_owned());
                }
                Self::of_name(path, format!("unknown parameter `{name}`"), choices(name, known))
            }
            [name] if complaint.starts_with("missing field") => {
                path.push((*name).to_owned());
                Self::of_name(path, format!("{MISSING} `{name}`"), None)
            }
            [name, known @ ..] if complaint.starts_with("unknown variant") => {
                let hint = choices(name, known);
                Self { path, in_name: false, subject, predicate: format!(" cannot be `{name}`"), hint }
            }
            _ => {
                let (given, wanted) = complaint.split_once(", expected ").unwrap_or((complaint, ""));
                let given = given.trim_start_matches("invalid type: ").trim_start_matches("invalid value: ");
                let predicate = match in_words(wanted) {
                    "" => format!(": {given}"),
                    wanted => format!(" is {}, not {wanted}", given_in_words(given)),
                };
                // A number alone is what a fixed curve has.
                let number = given.split_once(" `").and_then(|(_, number)| number.strip_suffix('`'));
                let is_curve =
                    wanted == "string or map" && path.iter().any(|name| name == "anneal" || name == "anneal_of");
                let fixed = number.filter(|_| is_curve).map(|number| format!("write `{named}: {{ fixed: {number} }}`"));
                let text = given.strip_prefix("string \"").and_then(|text| text.strip_suffix('"'));
                let hint =
                    text.filter(|text| wanted == "a sequence" && !text.contains(['"', '\'', '\\'])).map(|text| {
                        if LINES.contains(&named.as_str()) {
                            return format!("write `{named}: [\"{text}\"]`");
                        }
                        let words: Vec<&str> = text.split_whitespace().collect();
                        format!("write `{named}: [{}]`", words.join(", "))
                    });
                Self { path, in_name: false, subject, predicate, hint: hint.or(fixed) }
            }
        }
    }

    fn of_name(path: EntryPath, subject: String, hint: Option<String>) -> Self {
        Self { path, in_name: true, subject, predicate: String::new(), hint }
    }

    fn missing(&self) -> bool {
        self.subject.starts_with(MISSING)
    }
}

fn in_words(rust: &str) -> &str {
    match rust {
        "f64" | "f32" => "a number",
        "u64" | "usize" | "u32" => "a whole number from 0",
        "a sequence" => "a list",
        "a boolean" => "true or false",
        "parsable string" | "integer overflow" | "an integer or string" => "a size such as 2GiB",
        "path string" | "a string" => "text",
        "string or map" => "a name or a mapping",
        "a map" => "a mapping",
        other if other.starts_with("struct ") => "a mapping",
        other => other,
    }
}

fn given_in_words(rust: &str) -> String {
    match rust {
        "null" => "empty".to_owned(),
        "sequence" => "a list".to_owned(),
        "map" => "a mapping".to_owned(),
        _ => rust
            .replace("string \"", "the text \"")
            .replace("floating point `", "the number `")
            .replace("integer `", "the number `")
            .replace("boolean `", "`"),
    }
}

/// Fills a default in where the file gives none.
pub(crate) fn set_default(map: &mut Map<String, Value>, name: &str, value: impl Into<Value>) {
    map.entry(name).or_insert_with(|| value.into());
}

#[cfg(test)]
mod tests {
    use super::*;
    use bam_contract::stage::StageSpec;

    fn flaws(value: Value) -> Vec<(String, String, Option<String>)> {
        let (_, flaws) = typed::<StageSpec>(value);
        flaws.into_iter().map(|flaw| (flaw.path.join("."), flaw.message("s"), flaw.hint)).collect()
    }

    #[test]
    fn every_flaw_of_a_stage_is_found() {
        let found = flaws(json!({"train": {
            "epoch": 3, "tokens": ["t", 5], "batch": "many", "anneal": "linaer", "zzz": 1, "seed": -1
        }}));
        let found: Vec<(&str, &str, Option<&str>)> =
            found.iter().map(|(path, message, hint)| (path.as_str(), message.as_str(), hint.as_deref())).collect();
        assert_eq!(
            found,
            [
                ("train.anneal", "`anneal` in s cannot be `linaer`", Some("did you mean `linear`?")),
                ("train.batch", "`batch` in s is the text \"many\", not a whole number from 0", None),
                ("train.epoch", "unknown parameter `epoch` in s", Some("did you mean `epochs`?")),
                ("train.seed", "`seed` in s is the number `-1`, not a whole number from 0", None),
                ("train.tokens.1", "`tokens` in s is the number `5`, not text", None),
                (
                    "train.zzz",
                    "unknown parameter `zzz` in s",
                    Some(
                        "known: tokens, teachers, encoder, init, heads, layers, epochs, patience, fold, learning_rate, batch, \
                         pass_tokens, recompute, warmup, schedule, layer_decay, unfreeze, weight_decay, bias_correction, clip_norm, anneal, anneal_of, \
                         temperature, sampling, reduction, regression_output, keep, precision, seed"
                    )
                ),
            ]
        );
    }

    #[test]
    fn a_curve_is_no_number() {
        let anneal = |curve: Value| flaws(json!({"train": {"tokens": ["t"], "encoder": "e", "anneal": curve}}));
        let told = |path: &str, message: &str, hint: Option<&str>| {
            vec![(path.to_owned(), message.to_owned(), hint.map(ToOwned::to_owned))]
        };
        let message = "`anneal` in s is the number `0.5`, not a name or a mapping";
        assert_eq!(anneal(json!(0.5)), told("train.anneal", message, Some("write `anneal: { fixed: 0.5 }`")));
        // A curve that is nothing without its number is one mistake, not two.
        let message = "`fixed` in s is the text \"half\", not a number";
        assert_eq!(anneal(json!({"fixed": "half"})), told("train.anneal.fixed", message, None));
        let of = flaws(json!({"train": {"tokens": ["t"], "encoder": "e", "anneal_of": {"rte": 1}}}));
        let message = "`rte` in s is the number `1`, not a name or a mapping";
        assert_eq!(of, told("train.anneal_of.rte", message, Some("write `rte: { fixed: 1 }`")));
    }

    #[test]
    fn a_required_parameter_of_the_wrong_type_is_one_flaw() {
        let found = flaws(json!({"train": {"tokens": 5, "encoder": "dir"}}));
        assert_eq!(
            found,
            [("train.tokens".to_owned(), "`tokens` in s is the number `5`, not a list".to_owned(), None)]
        );
    }
}
