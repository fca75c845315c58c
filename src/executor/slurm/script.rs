//! The script of a job, and the arguments of `sbatch` that stand for what its stage needs.

use std::path::Path;

use super::files::Files;
use crate::profile::{Settings, Span};

/// What a stage asks for.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) stage: String,
    pub(super) kind: String,
    pub(super) cpus: usize,
    pub(super) memory_bytes: u64,
    pub(super) gpus: usize,
    /// Whether it may keep a state that it can go on from, and so is told before its time is over.
    pub(super) keeps_state: bool,
}

impl Ask {
    /// The time that one job may take, where the profile says so.
    pub(super) fn time(&self, settings: &Settings) -> Option<Span> {
        settings.limits.get(&self.kind)?.time
    }

    /// The arguments of `sbatch`; `own` are the words of which the script is the last.
    pub(super) fn arguments(&self, settings: &Settings, name: &str, files: &Files, folder: &Path) -> Vec<String> {
        let mut arguments = vec![
            "--parsable".to_owned(),
            format!("--job-name={name}"),
            format!("--chdir={}", folder.display()),
            format!("--output={}", literal(&files.slurm())),
            "--open-mode=append".to_owned(),
            "--input=/dev/null".to_owned(),
            // A job that is lost is submitted anew, with files of its own.
            "--no-requeue".to_owned(),
            "--nodes=1".to_owned(),
            "--ntasks=1".to_owned(),
            format!("--cpus-per-task={}", self.cpus),
            format!("--mem={}M", self.memory_bytes.div_ceil(1 << 20).max(1)),
        ];
        if self.gpus > 0 {
            arguments.push(format!("--gres=gpu:{}", self.gpus));
        }
        if let Some(Span(time)) = self.time(settings) {
            arguments.push(format!("--time={}", time.as_secs().div_ceil(60)));
        }
        if self.keeps_state {
            arguments.push(format!("--signal=B:TERM@{}", settings.grace.0.as_secs()));
        }
        let partition = settings.limits.get(&self.kind).and_then(|limit| limit.partition.as_ref());
        let named = [
            ("partition", partition.or(settings.partition.as_ref())),
            ("account", settings.account.as_ref()),
            ("qos", settings.qos.as_ref()),
        ];
        arguments.extend(named.into_iter().filter_map(|(name, value)| Some(format!("--{name}={}", value?))));
        arguments.extend(settings.options.iter().cloned());
        arguments.push(files.script().display().to_string());
        arguments
    }
}

/// The script: what the profile sets up, and then `words` in the place of the shell, so that signals reach them.
pub(super) fn script(stage: &str, settings: &Settings, words: &[String]) -> String {
    let mut text = format!("#!/bin/bash\n# The stage {}, submitted by bam.\nset -e\n", stage.escape_debug());
    for line in &settings.setup {
        text += &format!("{line}\n");
    }
    for (name, value) in &settings.environment {
        text += &format!("export {name}={}\n", quoted(value));
    }
    let words = settings.container.iter().chain(words).map(|word| quoted(word));
    text + &format!("exec {}\n", words.collect::<Vec<_>>().join(" "))
}

/// A path in which `sbatch` replaces nothing.
fn literal(path: &Path) -> String {
    path.display().to_string().replace('%', "%%")
}

/// A word as a shell takes it literally.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-=:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted() {
        assert_eq!(quoted("/usr/bin/bam"), "/usr/bin/bam");
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("it's $HOME"), r"'it'\''s $HOME'");
        assert_eq!(quoted(""), "''");
    }
}
