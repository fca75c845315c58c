//! Words of a profile that stand for a call of another queue's programs, with `{placeholders}` in them.

use bam_contract::fault::closest;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Engine, Settings};
use crate::pipeline::did_you_mean;

/// What `executor: command` runs.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Templates {
    /// Submits a job; the last word that it prints is by what the job is known. `{name}`, `{script}`, `{log}`, `{cpus}`,
    /// `{memory_mib}` and `{gpus}` are replaced in it.
    pub(crate) submit: Vec<String>,
    /// Prints how the job `{job}` stands. If it fails, that is not known, and asked again.
    pub(crate) poll: Vec<String>,
    /// Has the job `{job}` leave the queue where it waits, and sends it SIGTERM where it runs.
    pub(crate) cancel: Vec<String>,
    /// What `poll` prints of a job that is gone, where it doesn't fail, such as `finished`.
    #[serde(default)]
    pub(crate) gone: Vec<String>,
    /// Exit codes by which `poll` says that a job is gone.
    #[serde(default)]
    pub(crate) gone_codes: Vec<i32>,
}

impl Templates {
    /// Each call with its name in a profile.
    pub(crate) fn calls(&self) -> [(&'static str, &[String]); 3] {
        [("submit", &self.submit), ("poll", &self.poll), ("cancel", &self.cancel)]
    }
}

/// What each call may hold, and must.
const PLACEHOLDERS: [(&[&str], &str); 3] =
    [(&["name", "script", "log", "cpus", "memory_mib", "gpus"], "script"), (&["job"], "job"), (&["job"], "job")];

/// A mistake: where, whether in the entry's name, what, and a hint.
pub(super) type Flaw = (Vec<String>, bool, String, Option<String>);

/// What is wrong with a profile's calls, or with entries that its executor has no use for.
pub(super) fn flaws(settings: &Settings) -> Vec<Flaw> {
    let mut flaws = Vec::new();
    let mut add = |path: &[&str], in_name: bool, message: String, hint: Option<&str>| {
        let path = path.iter().map(|&name| name.to_owned()).collect();
        flaws.push((path, in_name, message, hint.map(ToOwned::to_owned)));
    };
    match (settings.executor, &settings.command) {
        (Engine::Slurm, None) => {}
        (Engine::Slurm, Some(_)) => {
            add(&["command"], true, "`command` is for `executor: command`".to_owned(), None);
        }
        (Engine::Command, None) => {
            let hint = "`command: { submit: [...], poll: [...], cancel: [...] }` says how; docs/cluster.md";
            add(&["executor"], false, "`executor: command` needs `command`".to_owned(), Some(hint));
        }
        (Engine::Command, Some(templates)) => {
            for ((name, words), (known, needed)) in templates.calls().into_iter().zip(PLACEHOLDERS) {
                flaws_of_call(name, words, known, needed, &mut add);
            }
        }
    }
    if settings.executor == Engine::Command {
        let named = [("partition", settings.partition.is_some()), ("account", settings.account.is_some())];
        let more = [("qos", settings.qos.is_some()), ("options", !settings.options.is_empty())];
        for (name, _) in named.into_iter().chain(more).filter(|(_, is_given)| *is_given) {
            let hint = "what a job asks for is written into `submit`";
            add(&[name], true, format!("`{name}` is for `executor: slurm`"), Some(hint));
        }
        for (kind, limit) in &settings.limits {
            let given = [("time", limit.time.is_some()), ("grace", limit.grace.is_some())];
            let partition = ("partition", limit.partition.is_some());
            for (name, _) in given.into_iter().chain([partition]).filter(|(_, is_given)| *is_given) {
                add(&["limits", kind, name], true, format!("`{name}` is for `executor: slurm`"), None);
            }
        }
    }
    flaws
}

fn flaws_of_call(
    name: &str,
    words: &[String],
    known: &[&str],
    needed: &str,
    add: &mut impl FnMut(&[&str], bool, String, Option<&str>),
) {
    for (at, word) in words.iter().enumerate() {
        for unknown in placeholders(word).filter(|found| !known.contains(found)) {
            let near = closest(unknown, known.iter().copied()).map(|near| did_you_mean(&format!("{{{near}}}")));
            let all: Vec<String> = known.iter().map(|name| format!("`{{{name}}}`")).collect();
            let hint = near.unwrap_or_else(|| format!("`{name}` may hold {}", all.join(", ")));
            let message = format!("`{{{unknown}}}` stands for nothing in `{name}`");
            add(&["command", name, &at.to_string()], false, message, Some(&hint));
        }
    }
    if !words.iter().any(|word| placeholders(word).any(|found| found == needed)) {
        let what = if needed == "script" { "what to run" } else { "which job it is about" };
        add(&["command", name], false, format!("`{name}` does not say {what}: `{{{needed}}}`"), None);
    }
}

/// Words with values in the places that are theirs.
pub(crate) fn fill(words: &[String], values: &[(&str, &str)]) -> Vec<String> {
    let fill_word = |word: &String| {
        let mut filled = String::new();
        let mut rest = word.as_str();
        while let Some((before, name, after)) = first_placeholder(rest) {
            let value = values.iter().find(|(known, _)| *known == name);
            filled += before;
            filled += value.map_or(&rest[before.len()..rest.len() - after.len()], |(_, value)| value);
            rest = after;
        }
        filled + rest
    };
    words.iter().map(fill_word).collect()
}

/// Names that stand in braces and are made of small letters and `_`; other braces are the word's own.
fn placeholders(word: &str) -> impl Iterator<Item = &str> {
    let mut rest = word;
    std::iter::from_fn(move || {
        let (_, name, after) = first_placeholder(rest)?;
        rest = after;
        Some(name)
    })
}

/// What stands before the first one, its name, and what stands after it.
fn first_placeholder(text: &str) -> Option<(&str, &str, &str)> {
    text.match_indices('{').find_map(|(at, _)| {
        let (name, after) = text[at + 1..].split_once('}')?;
        let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c == '_');
        is_name.then_some((&text[..at], name, after))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_in_braces_are_replaced() {
        let word = |word: &str| fill(&[word.to_owned()], &[("job", "{name}"), ("name", "n")]).remove(0);
        assert_eq!(word("-J{job}={name}"), "-J{name}=n");
        assert_eq!(word("qstat {job} | awk '{print $3}' ${HOME} {}"), "qstat {name} | awk '{print $3}' ${HOME} {}");
        assert_eq!(word("{{job}"), "{{name}");
        assert_eq!(word("{other} {job"), "{other} {job");
    }
}
