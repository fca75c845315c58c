//! A queue by templates: words of the profile's that submit a job, tell how it stands, and cancel it.

use std::path::PathBuf;

use anyhow::{Context, Result};
use bam_contract::fault::Fault;

use super::super::Queued;
use super::files::Files;
use super::job::JobId;
use super::program::{Answer, PATIENCE, Words, ask, is_on_path};
use super::queue::{Cancel, Member, Queue, QueueJob, Refusal};
use super::script::quoted;
use crate::profile::{Profile, Templates, fill};

#[derive(Debug)]
pub(super) struct Template {
    words: Templates,
    /// The folder that jobs run in.
    here: PathBuf,
}

impl Template {
    /// # Errors
    /// When a program that the profile names isn't there.
    pub(super) fn begin(profile: Profile) -> Result<Self> {
        let words = profile.settings.command.clone().context("a checked profile says what to call")?;
        let here = std::env::current_dir().context("finding the current folder")?;
        let calls = words.calls().into_iter().filter_map(|(name, words)| Some((name, words.first()?)));
        let missing: Vec<_> = calls
            .filter(|(_, program)| !is_on_path(program))
            .map(|(name, program)| {
                let place = profile.place_of(&["command", name, "0"]);
                (place, format!("`{program}` is not on the `PATH`"), None)
            })
            .collect();
        if missing.is_empty() { Ok(Self { words, here }) } else { Err(profile.refuse(missing).into()) }
    }
}

impl Queue for Template {
    fn prelude(&self, files: &Files) -> String {
        let [here, said, end] =
            [self.here.clone(), files.said(), files.end()].map(|path| quoted(&path.display().to_string()));
        // Nobody else tells of a script that ends before the worker begins. What is replaced by the worker's call has no such end.
        format!(
            "cd {here}\nexec >>{said} 2>&1 </dev/null\n\
             ended() {{\n  code=$?\n  printf '{{\"trouble\": \"its job ended with exit code %d before the worker did\", \
             \"peak_memory_bytes\": 0, \"wall_secs\": 0.0, \"host\": \"%s\", \"is_signalled\": false}}' $code \"$HOSTNAME\" >{end}.new\n  \
             mv {end}.new {end}\n}}\ntrap ended EXIT\n"
        )
    }

    fn submit(&self, name: &str, members: &[Member<'_>]) -> Result<Vec<JobId>, Refusal> {
        let submit = |Member { ask: needs, files }: &Member<'_>| -> Result<JobId> {
            let [script, log] = [files.script(), files.said()].map(|path| path.display().to_string());
            let [cpus, memory, gpus] =
                [needs.cpus as u64, needs.memory_mib(), needs.gpus as u64].map(|n| n.to_string());
            let call = fill(
                &self.words.submit,
                &[
                    ("name", name),
                    ("script", &script),
                    ("log", &log),
                    ("cpus", &cpus),
                    ("memory_mib", &memory),
                    ("gpus", &gpus),
                ],
            );
            let answer = ask(&call, PATIENCE)?;
            if let Some(trouble) = answer.trouble {
                return Err(Fault::new(trouble, "the profile's `submit` is what was run").into());
            }
            let said = answer.text();
            let id = said.split_whitespace().next_back().and_then(|word| word.parse().ok());
            id.ok_or_else(|| {
                let hint = "the last word that it prints is by what `poll` and `cancel` know the job";
                Fault::new("`submit` of the profile printed no job", hint).into()
            })
        };
        Ok(members.iter().map(submit).collect::<Result<_>>()?)
    }

    fn questions(&self, jobs: &[JobId]) -> Vec<Words> {
        jobs.iter().map(|job| fill(&self.words.poll, &[("job", &job.to_string())])).collect()
    }

    fn read(&self, jobs: &[JobId], answers: &[Answer]) -> Result<Vec<QueueJob>> {
        let there = jobs.iter().zip(answers).filter_map(|(job, answer)| {
            let state = answer.text();
            let is_gone = answer.trouble.is_some() || self.words.gone.contains(&state);
            let state = if state.is_empty() { "submitted".to_owned() } else { state };
            let queued = Queued { job: job.clone(), state, reason: None, node: None };
            (!is_gone).then_some(QueueJob { name: String::new(), state: String::new(), exit_code: 0, queued })
        });
        Ok(there.collect())
    }

    fn cancel(&self, jobs: &[JobId], _: Cancel) {
        for job in jobs {
            _ = ask(&fill(&self.words.cancel, &[("job", &job.to_string())]), PATIENCE);
        }
    }
}
