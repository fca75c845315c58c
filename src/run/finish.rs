//! What workers report, and how stages end.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use bam_contract::event::Event;
use bam_contract::fault::hint_of;
use bam_contract::manifest::Provenance;
use bam_contract::stage::StageSpec;
use serde_json::Map;

use super::{Outcome, Run, RunEvent, State, Working};
use crate::executor::End;
use crate::machine;
use crate::store::{Finished, Pending};
use crate::ui::units::plural;

/// Lines of a failed stage's log that are shown.
const LOG_TAIL_LINES: usize = 8;

impl Run<'_, '_> {
    /// Takes in what a worker reports.
    pub(super) fn hear(&mut self, at: usize, event: Event) {
        let stage = &self.pipeline.stages[at].name;
        match &event {
            Event::Progress { done, total, unit, detail } => {
                self.tell(&RunEvent::Progress { stage, index: at, done: *done, total: *total, unit, detail });
            }
            Event::Metric { name, value } => self.tell(&RunEvent::Metric { stage, name, value: *value }),
            Event::Warning { text } => self.tell(&RunEvent::Warning { stage, text }),
            Event::Done { .. } | Event::Stopped { .. } | Event::Failed { .. } => {}
        }
        let Some(working) = self.working.get_mut(&at) else { return };
        match event {
            Event::Metric { name, value } => {
                working.metrics.insert(name, value);
            }
            Event::Done { .. } | Event::Stopped { .. } | Event::Failed { .. } => working.last = Some(event),
            Event::Progress { .. } | Event::Warning { .. } => {}
        }
    }

    /// Commits what a worker made, or tells why there is nothing.
    pub(super) fn end(&mut self, at: usize, end: &End) -> Result<()> {
        let Some(working) = self.working.remove(&at) else { return Ok(()) };
        let Working { key, reasons, pending, grant, started, metrics, last, .. } = working;
        let threads = grant.threads;
        self.capacity.give_back(grant);
        let stage = &self.pipeline.stages[at];
        let wall_secs = started.elapsed().as_secs_f64();
        let (summary, facts) = match (last, &end.trouble) {
            (Some(Event::Done { summary, provenance }), None) => (summary, provenance),
            // A program of the user's need not say anything: its exit code does.
            (None, None) if matches!(stage.spec, StageSpec::Exec(_)) => {
                (plural(pending.count_files(), "file"), Map::new())
            }
            (Some(Event::Stopped { summary }), _) => {
                self.stopped(at, Some(&summary));
                return Ok(());
            }
            (last, _) if self.stopping.is_some() && !matches!(last, Some(Event::Failed { .. })) => {
                self.stopped(at, None);
                return Ok(());
            }
            (Some(Event::Failed { causes, hint }), _) => {
                return self.failed(at, &pending, &causes, hint.as_deref(), wall_secs);
            }
            (_, trouble) => {
                let trouble = trouble.clone().unwrap_or_else(|| "the worker ended without a word".to_owned());
                return self.failed(at, &pending, &[trouble], None, wall_secs);
            }
        };
        let device = facts.get("device").and_then(|device| device.as_str()).unwrap_or("cpu");
        let provenance = Provenance {
            finished_unix_secs: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
            wall_secs,
            peak_memory_bytes: end.peak_memory_bytes,
            host: machine::host(),
            threads,
            device: device.to_owned(),
            bam_version: env!("CARGO_PKG_VERSION").to_owned(),
            git_revision: self.git_revision.get_or_init(git_revision).clone(),
            worker: facts,
        };
        // What the worker read may not be what was hashed before it started, maybe an hour ago.
        if let Some(path) = self.planner.changed_since(at, &key)? {
            let cause = format!("`{}` changed while the stage ran", path.display());
            return self.failed(at, &pending, &[cause], Some("run again; the change is seen then"), wall_secs);
        }
        let artifact = stage.spec.writes();
        let is_foreign = matches!(stage.spec, StageSpec::Exec(_));
        let finished = Finished { stage: stage.name.clone(), key, artifact, is_foreign, summary, metrics, provenance };
        let manifest = match pending.commit(finished) {
            Ok(manifest) => manifest,
            Err((pending, error)) => {
                let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
                return self.failed(at, &pending, &causes, hint_of(&error), wall_secs);
            }
        };
        self.store.committed(&manifest);
        self.read.insert(manifest.fingerprint);
        self.store.forget_resume(manifest.fingerprint);
        self.settle(at, State::Ran, &manifest)?;
        self.tally.ran += 1;
        self.tell(&RunEvent::Ran { stage: &stage.name, index: at, manifest: &manifest, reasons: &reasons });
        self.push(at, &manifest)
    }

    /// Notes that a stage ended because it was asked to.
    fn stopped(&mut self, at: usize, kept: Option<&str>) {
        self.states[at] = State::Stopped;
        self.tell(&RunEvent::Stopped { stage: &self.pipeline.stages[at].name, index: at, kept });
    }

    pub(super) fn failed(
        &mut self,
        at: usize,
        pending: &Pending,
        causes: &[String],
        hint: Option<&str>,
        seconds: f64,
    ) -> Result<()> {
        let stage = &self.pipeline.stages[at].name;
        self.states[at] = State::Failed;
        self.tally.failed += 1;
        let log = self.store.keep_failed_log(stage, pending)?;
        let text = String::from_utf8_lossy(&fs::read(&log).unwrap_or_default()).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        let log_tail = &lines[lines.len().saturating_sub(LOG_TAIL_LINES)..];
        let log: PathBuf = self.store.shown(&log);
        self.tell(&RunEvent::Failed { stage, index: at, causes, hint, log: &log, log_tail, seconds });
        if self.fail_fast && self.stopping.is_none() {
            self.stop(Outcome::Failed);
        }
        Ok(())
    }

    /// Skips what a failure kept from being started.
    pub(super) fn skip_the_rest(&mut self) {
        let unsettled = |state: State| matches!(state, State::Waiting | State::Running);
        let Some(lost) = self.states.iter().position(|state| *state == State::Failed) else { return };
        for at in (0..self.states.len()).filter(|at| unsettled(self.states[*at])).collect::<Vec<_>>() {
            self.skip(at, lost);
        }
    }
}

/// The commit that the pipeline's folder is at, if it is in a git repository.
fn git_revision() -> Option<String> {
    let describe = ["describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"];
    let output = Command::new("git").args(describe).output().ok().filter(|output| output.status.success());
    Some(String::from_utf8(output?.stdout).ok()?.trim().to_owned())
}
