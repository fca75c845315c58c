//! The script of a job.

use super::files::Files;
use crate::profile::Settings;

/// What the queue and the profile set up, and then `words` in the place of the shell, so that signals reach them.
pub(super) fn script(stage: &str, prelude: &str, settings: &Settings, words: &[String]) -> String {
    let mut text = head(&format!("The stage {}, submitted by bam.", stage.escape_debug())) + prelude;
    for line in &settings.setup {
        text += &format!("{line}\n");
    }
    for (name, value) in &settings.environment {
        text += &format!("export {name}={}\n", quoted(value));
    }
    let words = settings.container.iter().chain(words).map(|word| quoted(word));
    text + &format!("exec {}\n", words.collect::<Vec<_>>().join(" "))
}

/// The script of an array, of which each member runs its own.
pub(super) fn of_array<'a>(members: impl Iterator<Item = &'a Files>) -> String {
    let lines = members.map(|files| quoted(&files.script().display().to_string()) + "\n");
    head("Stages submitted by bam: each member runs the script of its index.")
        + &format!("scripts=(\n{})\nexec bash \"${{scripts[SLURM_ARRAY_TASK_ID]}}\"\n", lines.collect::<String>())
}

fn head(what: &str) -> String {
    format!("#!/bin/bash\n# {what}\nset -e\n")
}

/// A word as a shell takes it literally.
pub(super) fn quoted(word: &str) -> String {
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
