//! A profile: where stages run when it is not here, and what each kind of them is given there. `bam run --profile FILE`.
//!
//! It is no part of any key: the same pipeline has the same fingerprints wherever its stages run.

mod schema;
mod template;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use bam_contract::fault::closest;
use bam_contract::stage::KINDS;
use bytesize::ByteSize;
use clap::ValueEnum;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::pipeline::{Gpus, Mistakes, Place, Resources, did_you_mean, plain};
use crate::span::Span;
pub(crate) use schema::schema;
pub(crate) use template::{Templates, fill};

/// A profile, proved sound as far as it can be without asking the cluster.
#[derive(Debug)]
pub(crate) struct Profile {
    pub(crate) settings: Settings,
    mistakes: Mistakes,
}

/// A profile as written.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    /// What runs the stages.
    pub(crate) executor: Engine,
    /// The partition that jobs go to; by default the cluster's own.
    #[serde(default)]
    pub(crate) partition: Option<String>,
    /// The account that jobs are charged to.
    #[serde(default)]
    pub(crate) account: Option<String>,
    /// The quality of service that jobs ask for.
    #[serde(default)]
    pub(crate) qos: Option<String>,
    /// Most jobs in the queue at a time.
    #[serde(default = "hundred")]
    pub(crate) max_jobs: usize,
    /// What a stage of a kind is given where the pipeline file doesn't say.
    #[serde(default)]
    #[schemars(schema_with = "schema::limits")]
    pub(crate) limits: BTreeMap<String, Limit>,
    /// Lines of bash that each job begins with, such as `module load cuda/12.8`.
    #[serde(default)]
    pub(crate) setup: Vec<String>,
    /// Words that stand before the worker's call, such as `[apptainer, exec, --nv, /images/bam.sif]`.
    #[serde(default)]
    pub(crate) container: Vec<String>,
    /// Variables that workers find in their environment.
    #[serde(default)]
    pub(crate) environment: BTreeMap<String, String>,
    /// A folder of each node's own disk, such as `/local/bam`, where inputs are brought to and verified once for all jobs of the
    /// node. Without it they are verified and read in the store.
    #[serde(default)]
    pub(crate) scratch: Option<PathBuf>,
    /// More options of `sbatch`, as they are, such as `--constraint=a100`.
    #[serde(default)]
    pub(crate) options: Vec<String>,
    /// The calls that `executor: command` makes.
    #[serde(default)]
    pub(crate) command: Option<Templates>,
    /// How long before a job's time limit a training is asked to keep its state; 2 minutes by default. For programs it is
    /// `grace` of `exec` in `limits`.
    #[serde(default = "two_minutes")]
    pub(crate) grace: Span,
    /// How often the queue is asked; every 10 seconds by default.
    #[serde(default = "ten_seconds")]
    pub(crate) poll: Span,
    /// What Ctrl-C does to jobs: they are cancelled, trainings keeping their state, or left, and the next run adopts them. Without
    /// it who sits at a terminal is asked, and elsewhere they are cancelled.
    #[serde(default)]
    pub(crate) on_interrupt: Option<OnInterrupt>,
}

/// What a stage of a kind is given.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Limit {
    /// How long one job may take; a training that needs longer goes on in another. By default the partition's limit.
    #[serde(default)]
    pub(crate) time: Option<Span>,
    /// Cores.
    #[serde(default)]
    pub(crate) cpus: Option<usize>,
    /// Memory; by default half as much again as the stage took the last time.
    #[serde(default)]
    #[schemars(schema_with = "schema::size")]
    pub(crate) memory: Option<ByteSize>,
    /// Graphics processors; none by default.
    #[serde(default)]
    pub(crate) gpus: Option<usize>,
    /// A partition of the kind's own.
    #[serde(default)]
    pub(crate) partition: Option<String>,
    /// How long before its time limit a stage of a kind that may keep a state, `train` or `exec`, is asked to. Without it a training has
    /// the profile's `grace`, and a program all of its time.
    #[serde(default)]
    pub(crate) grace: Option<Span>,
}

/// What can run stages elsewhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Engine {
    #[default]
    Slurm,
    /// Another queue, by the calls under `command`.
    Command,
}

/// What becomes of jobs when a run is interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OnInterrupt {
    /// Trainings keep their state and end; what waits is taken out of the queue.
    Cancel,
    /// They stay in the queue; `bam run` started again adopts them.
    Leave,
}

fn hundred() -> usize {
    100
}

fn two_minutes() -> Span {
    Span(Duration::from_mins(2))
}

fn ten_seconds() -> Span {
    Span(Duration::from_secs(10))
}

/// Kinds whose stages may keep a state that they can go on from, and so may be told before their time is over.
pub(crate) const KEEP_STATE: [&str; 2] = ["train", "exec"];

/// Options of `sbatch` that the executor relies on, as it sets them or as they are without it.
const OWN_OPTIONS: [&str; 22] = [
    "array",
    "chdir",
    "clusters",
    "error",
    "export",
    "help",
    "input",
    "job-name",
    "no-requeue",
    "nodes",
    "ntasks",
    "open-mode",
    "output",
    "parsable",
    "quiet",
    "requeue",
    "signal",
    "test-only",
    "usage",
    "version",
    "wait",
    "wrap",
];

/// And those that other entries of a profile stand for.
const ENTRIES: [(&str, &str); 12] = [
    ("account", "account"),
    ("cpus-per-task", "cpus` of `limits"),
    ("gpus", "gpus` of `limits"),
    ("gpus-per-node", "gpus` of `limits"),
    ("gpus-per-task", "gpus` of `limits"),
    ("mem", "memory` of `limits"),
    ("mem-per-cpu", "memory` of `limits"),
    ("mem-per-gpu", "memory` of `limits"),
    ("partition", "partition"),
    ("qos", "qos"),
    ("time", "time` of `limits"),
    ("time-min", "time` of `limits"),
];

impl Settings {
    /// How long before its time limit a stage of a kind is asked to end, if it is. All trainings can keep a state; of programs
    /// only who wrote the profile knows. One that a pipeline file gives less time than that has half of it.
    pub(crate) fn grace_of(&self, kind: &str, time: Option<Span>) -> Option<Span> {
        if !KEEP_STATE.contains(&kind) {
            return None;
        }
        let own = self.limits.get(kind).and_then(|limit| limit.grace);
        let grace = own.or_else(|| (kind == "train").then_some(self.grace))?;
        Some(time.filter(|time| time.0 <= grace.0).map_or(grace, |time| Span(time.0 / 2)))
    }
}

impl Profile {
    /// Reads and checks a profile.
    ///
    /// # Errors
    /// [`Mistakes`], with all that is wrong.
    pub(crate) fn load(file: &Path) -> Result<Self> {
        let (settings, mut mistakes) = plain::read::<Settings>(file, "profile")?;
        if let Some(settings) = &settings {
            check(settings, &mut mistakes);
        }
        match settings {
            Some(settings) if mistakes.list.is_empty() => Ok(Self { settings, mistakes }),
            _ => Err(mistakes.sorted().into()),
        }
    }

    /// What stages of each kind are given where the pipeline file doesn't say.
    pub(crate) fn resources(&self) -> BTreeMap<String, Resources> {
        let given = |limit: &Limit| Resources {
            threads: limit.cpus,
            memory: limit.memory,
            gpus: limit.gpus.map(Gpus::whole),
            time: limit.time,
        };
        self.settings.limits.iter().map(|(kind, limit)| (kind.clone(), given(limit))).collect()
    }

    /// Where an entry's value stands.
    pub(crate) fn place_of(&self, path: &[&str]) -> Place {
        self.mistakes.source.value(&entry(path))
    }

    /// The partitions that jobs may go to, with the places where they are named.
    pub(crate) fn partitions(&self) -> Vec<(&str, Place)> {
        let own = self.settings.partition.iter().map(|name| (name.as_str(), self.place_of(&["partition"])));
        let of_kinds = self.settings.limits.iter().filter_map(|(kind, limit)| {
            Some((limit.partition.as_deref()?, self.place_of(&["limits", kind, "partition"])))
        });
        own.chain(of_kinds).collect()
    }

    /// The profile's error where the cluster knows better.
    pub(crate) fn refuse(mut self, mistakes: impl IntoIterator<Item = (Place, String, Option<String>)>) -> Mistakes {
        for (place, message, hint) in mistakes {
            self.mistakes.add(place, message, hint);
        }
        self.mistakes.sorted()
    }
}

/// What types can't say.
fn check(settings: &Settings, mistakes: &mut Mistakes) {
    // What was left out is told already.
    let is_written = |(path, ..): &template::Flaw| mistakes.source.holds(path);
    let of_calls: Vec<_> = template::flaws(settings).into_iter().filter(is_written).collect();
    let mut add = |path: &[&str], in_name: bool, message: String, hint: Option<String>| {
        let path = entry(path);
        let place = if in_name { mistakes.source.key(&path) } else { mistakes.source.value(&path) };
        mistakes.add(place, message, hint);
    };
    if settings.max_jobs == 0 {
        add(&["max_jobs"], false, "`max_jobs` is at least 1".to_owned(), None);
    }
    if settings.scratch.as_ref().is_some_and(|folder| !folder.is_absolute()) {
        let hint = "a path from `/`, the same on each node: a disk of its own".to_owned();
        add(&["scratch"], false, "`scratch` must begin with `/`".to_owned(), Some(hint));
    }
    for (name, span) in [("grace", settings.grace), ("poll", settings.poll)] {
        if span.0 < Duration::from_secs(1) {
            add(&[name], false, format!("`{name}` is at least 1 second"), None);
        }
    }
    for (kind, limit) in &settings.limits {
        if !KINDS.iter().any(|known| known.name == kind) {
            let near = closest(kind, KINDS.iter().map(|known| known.name)).map(did_you_mean);
            add(&["limits", kind], true, format!("`limits` names `{kind}`, which is no stage kind"), near);
        }
        if limit.cpus == Some(0) {
            add(&["limits", kind, "cpus"], false, "a stage needs at least 1 core".to_owned(), None);
        }
        if limit.memory.is_some_and(|memory| memory.as_u64() < 1 << 20) {
            add(&["limits", kind, "memory"], false, "a stage needs at least 1MiB of memory".to_owned(), None);
        }
        if limit.grace.is_some() && !KEEP_STATE.contains(&kind.as_str()) {
            let hint = "stages of other kinds keep no state, and have all of their time";
            let message = "`grace` is for `train` and `exec`".to_owned();
            add(&["limits", kind, "grace"], true, message, Some(hint.to_owned()));
        }
        if limit.grace.is_some_and(|grace| grace.0 < Duration::from_secs(1)) {
            add(&["limits", kind, "grace"], false, "`grace` is at least 1 second".to_owned(), None);
        }
        let place = ["limits", kind, "time"];
        match (limit.time, settings.grace_of(kind, None)) {
            (Some(Span(time)), _) if time < Duration::from_mins(1) => {
                add(&place, false, "`time` is at least a minute, Slurm's own grain".to_owned(), None);
            }
            (Some(Span(time)), Some(grace)) if time <= grace.0 => {
                let hint = format!("a stage of `{kind}` is asked to keep its state that long before the end");
                add(&place, false, format!("`time` must be longer than `grace`, {grace}"), Some(hint));
            }
            _ => {}
        }
    }
    for (path, in_name, message, hint) in of_calls {
        add(&path.iter().map(String::as_str).collect::<Vec<_>>(), in_name, message, hint);
    }
    let is_name = |name: &str| {
        name.chars().all(|c| c == '_' || c.is_ascii_alphanumeric()) && !name.starts_with(|c: char| c.is_ascii_digit())
    };
    for name in settings.environment.keys().filter(|name| name.is_empty() || !is_name(name)) {
        let hint = Some("letters, digits and `_`, and no digit first".to_owned());
        add(&["environment", name], true, format!("`{name}` cannot be a variable's name"), hint);
    }
    for (at, option) in settings.options.iter().enumerate() {
        if let Some((message, hint)) = flaw_of_option(option) {
            add(&["options", &at.to_string()], false, message, hint);
        }
    }
}

/// What is wrong with an option of `sbatch`, and a hint.
fn flaw_of_option(option: &str) -> Option<(String, Option<String>)> {
    let Some(written) = option.strip_prefix("--") else {
        let hint = Some("write each as one word, such as `--constraint=a100`".to_owned());
        return Some((format!("`{option}` is no long option of `sbatch`"), hint));
    };
    let (name, value) = written.split_once('=').unwrap_or((written, ""));
    // `sbatch` takes the beginning of a name for the name.
    let is = |known: &str| known.starts_with(name) && !name.is_empty();
    if let Some(own) = OWN_OPTIONS.into_iter().find(|own| is(own)) {
        return Some((format!("`--{name}` is not for `options`: `bam` relies on how `--{own}` is"), None));
    }
    let entry = ENTRIES.into_iter().find(|(known, _)| is(known)).map(|(_, entry)| entry);
    let entry = entry.or_else(|| (name == "gres" && value.contains("gpu")).then_some("gpus` of `limits"));
    entry.map(|entry| (format!("`--{name}` is not for `options`"), Some(format!("`{entry}` says it"))))
}

fn entry(path: &[&str]) -> Vec<String> {
    path.iter().map(|&name| name.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_would_undo_what_a_job_asks_for_are_told_however_they_are_written() {
        for option in ["--clusters=b", "--test-only", "--gres=gpu:2", "--mem=1G", "--time=5", "--wai", "--par=x", "-p"]
        {
            assert!(flaw_of_option(option).is_some(), "{option}");
        }
        for option in
            ["--constraint=a100", "--gres=token:1", "--comment=x", "--exclude=n1", "--nice", "--mem-bind=local"]
        {
            assert_eq!(flaw_of_option(option), None, "{option}");
        }
        let (message, hint) = flaw_of_option("--export=NONE").unwrap();
        assert_eq!(
            (message.as_str(), hint),
            ("`--export` is not for `options`: `bam` relies on how `--export` is", None)
        );
        let hint = flaw_of_option("--mem-per-cpu=1G").unwrap().1;
        assert_eq!(hint.as_deref(), Some("`memory` of `limits` says it"));
    }
}
