//! Why a stage runs: what differs between its key and that of its last artifact.

use std::collections::BTreeSet;
use std::fmt;

use bam_contract::digest::Digest;
use bam_contract::manifest::Key;
use serde::Serialize;
use serde_json::Value;

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "cause", rename_all = "snake_case")]
pub(crate) enum Reason {
    NeverRan,
    /// The user said so.
    Forced,
    /// The artifact it had is no longer in the store.
    Missing,
    Damaged {
        how: String,
    },
    Kind {
        old: String,
        new: String,
    },
    Version {
        old: u32,
        new: u32,
    },
    Param {
        name: String,
        old: Option<Value>,
        new: Option<Value>,
        /// Where the new value is written; nothing for a default.
        place: Option<String>,
    },
    Input {
        slot: String,
        stage: Option<String>,
        change: Change,
    },
    File {
        slot: String,
        old: Option<Digest>,
        new: Option<Digest>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Change {
    Added,
    Removed,
    Changed,
    /// What stood at another place of the list stands here now.
    Moved,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NeverRan => f.write_str("never ran"),
            Self::Forced => f.write_str("forced"),
            Self::Missing => f.write_str("its artifact is gone"),
            Self::Damaged { how } => write!(f, "its artifact is damaged: {how}"),
            Self::Kind { old, new } => write!(f, "stage kind {old} → {new}"),
            Self::Version { old, new } => write!(f, "stage kind version {old} → {new}"),
            Self::Param { name, old, new, place } => {
                let (old, new) = shown_apart(old.as_ref(), new.as_ref());
                write!(f, "param {name}: {old} → {new}")?;
                place.as_ref().map_or(Ok(()), |place| write!(f, " ({place})"))
            }
            Self::Input { slot, stage, change } => {
                write!(f, "input {slot}")?;
                if let Some(stage) = stage {
                    write!(f, " ({stage})")?;
                }
                f.write_str(match change {
                    Change::Added => ": added",
                    Change::Removed => ": removed",
                    Change::Changed => ": new bytes",
                    Change::Moved => ": moved within its list",
                })
            }
            Self::File { slot, old, new } => match (old, new) {
                (None, _) => write!(f, "file {slot} added"),
                (_, None) => write!(f, "file {slot} removed"),
                (Some(old), Some(new)) => write!(f, "file {slot}: {} → {}", old.short(), new.short()),
            },
        }
    }
}

/// Two values of a parameter, each on one line; as JSON, whole, where they would look alike.
fn shown_apart(old: Option<&Value>, new: Option<&Value>) -> (String, String) {
    let (shown_old, shown_new) = (shown(old), shown(new));
    if shown_old != shown_new {
        return (shown_old, shown_new);
    }
    let whole = |value: Option<&Value>| value.map_or_else(|| "unset".to_owned(), ToString::to_string);
    (whole(old), whole(new))
}

/// A parameter's value on one line; a long one is shortened.
fn shown(value: Option<&Value>) -> String {
    const MOST_CHARS: usize = 60;
    let text = match value {
        None => "unset".to_owned(),
        Some(Value::String(text)) => text.clone(),
        // `epochs: 3` is a fraction by its type; a person wrote a whole number.
        Some(Value::Number(number)) if number.is_f64() => {
            number.as_f64().map_or_else(|| number.to_string(), |value| value.to_string())
        }
        Some(value) => value.to_string(),
    };
    if text.chars().count() <= MOST_CHARS { text } else { text.chars().take(MOST_CHARS).chain(['…']).collect() }
}

/// What differs in two keys. `place` finds where a parameter is written; `stage` which stage an input comes from.
pub(crate) fn differences(
    old: &Key,
    new: &Key,
    place: &dyn Fn(&str) -> Option<String>,
    stage: &dyn Fn(&str) -> Option<String>,
) -> Vec<Reason> {
    if old.kind != new.kind {
        return vec![Reason::Kind { old: old.kind.clone(), new: new.kind.clone() }];
    }
    let mut reasons = Vec::new();
    if old.version != new.version {
        reasons.push(Reason::Version { old: old.version, new: new.version });
    }
    let mut params = Vec::new();
    differing_params("", Some(&old.params), Some(&new.params), &mut params);
    reasons.extend(params.into_iter().map(|(name, old, new)| {
        let place = place(&name);
        Reason::Param { name, old, new, place }
    }));
    let slots = |old: BTreeSet<String>, new: BTreeSet<String>| old.union(&new).cloned().collect::<Vec<_>>();
    for slot in slots(old.inputs.keys().cloned().collect(), new.inputs.keys().cloned().collect()) {
        if let Some(mut change) = change(old.inputs.get(&slot), new.inputs.get(&slot)) {
            let list = |slot: &str| slot.split_once('.').map(|(list, _)| list.to_owned());
            let had = |digest: &Digest| {
                old.inputs.iter().any(|(other, before)| before == digest && list(other) == list(&slot))
            };
            if change == Change::Changed && list(&slot).is_some() && new.inputs.get(&slot).is_some_and(had) {
                change = Change::Moved;
            }
            reasons.push(Reason::Input { stage: stage(&slot), slot, change });
        }
    }
    for slot in slots(old.external.keys().cloned().collect(), new.external.keys().cloned().collect()) {
        let (old, new) = (old.external.get(&slot).copied(), new.external.get(&slot).copied());
        if old != new {
            reasons.push(Reason::File { slot, old, new });
        }
    }
    reasons
}

fn change<T: PartialEq>(old: Option<&T>, new: Option<&T>) -> Option<Change> {
    match (old, new) {
        (Some(_), None) => Some(Change::Removed),
        (None, Some(_)) => Some(Change::Added),
        (old, new) => (old != new).then_some(Change::Changed),
    }
}

type Differing = (String, Option<Value>, Option<Value>);

fn differing_params(name: &str, old: Option<&Value>, new: Option<&Value>, found: &mut Vec<Differing>) {
    if old == new {
        return;
    }
    if let (Some(Value::Object(old)), Some(Value::Object(new))) = (old, new) {
        for inner in old.keys().chain(new.keys()).collect::<BTreeSet<_>>() {
            let full = if name.is_empty() { inner.clone() } else { format!("{name}.{inner}") };
            differing_params(&full, old.get(inner), new.get(inner), found);
        }
    } else {
        found.push((name.to_owned(), old.cloned(), new.cloned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_difference_is_told() {
        let digest = |text: &str| Digest::of(text.as_bytes());
        let old = Key {
            kind: "tokenize".to_owned(),
            version: 1,
            params: json!({"max_tokens": 96, "both_orders": true, "a": {"b": 1}}),
            inputs: [("tokens.0".to_owned(), digest("1")), ("tokens.1".to_owned(), digest("2"))].into(),
            external: [("encoder/config.json".to_owned(), digest("1"))].into(),
        };
        let mut new = old.clone();
        new.version = 2;
        new.params = json!({"max_tokens": 128, "both_orders": true, "a": {"c": "x"}});
        new.inputs = [("tokens.0".to_owned(), digest("3"))].into();
        new.external.insert("encoder/vocab.txt".to_owned(), digest("1"));
        new.external.insert("encoder/config.json".to_owned(), digest("2"));
        let place = |name: &str| (name == "max_tokens").then(|| "p.yaml:3:74".to_owned());
        let stage = |slot: &str| (slot == "tokens.0").then(|| "tokens@rte".to_owned());
        let told: Vec<String> = differences(&old, &new, &place, &stage).iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "stage kind version 1 → 2",
                "param a.b: 1 → unset",
                "param a.c: unset → x",
                "param max_tokens: 96 → 128 (p.yaml:3:74)",
                "input tokens.0 (tokens@rte): new bytes",
                "input tokens.1: removed",
                &format!("file encoder/config.json: {} → {}", digest("1").short(), digest("2").short()),
                "file encoder/vocab.txt added",
            ]
        );
    }

    #[test]
    fn values_that_look_alike_are_told_apart() {
        let told = |old: Value, new: Value| {
            let (name, place) = ("x".to_owned(), None);
            Reason::Param { name, old: Some(old), new: Some(new), place }.to_string()
        };
        assert_eq!(told(json!(3.0), json!(4.0)), "param x: 3 → 4");
        assert_eq!(told(json!(3), json!("3")), "param x: 3 → \"3\"");
        assert_eq!(
            told(json!(9_007_199_254_740_993_u64), json!(9_007_199_254_740_992_u64)),
            "param x: 9007199254740993 → 9007199254740992"
        );
        let long = |end: &str| json!("a".repeat(60) + end);
        assert!(told(long("b"), long("c")).ends_with("ac\""));
    }

    #[test]
    fn what_moved_within_a_list_is_no_new_bytes() {
        let digest = |text: &str| Digest::of(text.as_bytes());
        let key = |inputs: [(&str, &str); 4]| Key {
            kind: "exec".to_owned(),
            version: 1,
            params: json!({}),
            inputs: inputs.map(|(slot, text)| (slot.to_owned(), digest(text))).into(),
            external: [].into(),
        };
        let old = key([("m.0", "b"), ("m.1", "c"), ("x", "d"), ("y", "e")]);
        let new = key([("m.0", "c"), ("m.1", "new"), ("x", "e"), ("y", "e")]);
        let told: Vec<String> = differences(&old, &new, &|_| None, &|_| None).iter().map(ToString::to_string).collect();
        assert_eq!(told, ["input m.0: moved within its list", "input m.1: new bytes", "input x: new bytes"]);
    }
}
