//! What workers report, and how stages end.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use bam_contract::digest::Fingerprint;
use bam_contract::event::Event;
use bam_contract::manifest::{EARLIER_SECS, Provenance};
use bam_contract::stage::StageSpec;
use serde_json::{Map, Value};

use super::{Inputs, Outcome, Run, RunEvent, State, Working};
use crate::executor::{End, Queued};
use crate::machine::{self, free_disk_bytes};
use crate::pipeline::Stage;
use crate::store::{Failure, Finished, Pending};
use crate::ui::units::{bytes, plural};

/// Lines of a failed stage's log that are shown.
const LOG_TAIL_LINES: usize = 8;
/// And as many bytes at most.
const LOG_TAIL_BYTES: u64 = 16 << 10;

/// A disk with less is full: the last blocks can be had by small files alone.
const FULL_DISK_BYTES: u64 = 4 << 20;

impl Run<'_, '_> {
    /// Takes in what a worker reports.
    pub(super) fn hear(&mut self, at: usize, event: Event) {
        let stage = &self.pipeline.stages[at].name;
        // What has outlived its worker may still be talking.
        if !self.working.contains_key(&at) && !self.fetching.contains_key(&at) {
            return;
        }
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
    pub(super) fn end(&mut self, at: usize, end: &End) {
        let Some(Working { key, reasons, pending, grant, stamps, started, metrics, last, .. }) =
            self.working.remove(&at)
        else {
            return;
        };
        let threads = grant.threads;
        drop(grant);
        pending.leave(false);
        let stage = &self.pipeline.stages[at];
        let elsewhere = end.elsewhere.as_ref();
        let wall_secs =
            elsewhere.map_or_else(|| end.at.duration_since(started).as_secs_f64(), |elsewhere| elsewhere.wall_secs);
        let (summary, mut facts) = match (last, &end.trouble) {
            (Some(Event::Done { summary, provenance }), None) => (summary, provenance),
            // A program of the user's need not say anything: its exit code does, unless it was asked to end early.
            (None, None) if matches!(stage.spec, StageSpec::Exec(_)) && self.stopping.is_none() => {
                (plural(pending.count_files(), "file"), Map::new())
            }
            (Some(Event::Stopped { summary }), _) if self.stopping.is_some() => {
                return self.stopped(at, Some(&summary), &pending);
            }
            (Some(Event::Stopped { summary }), _) => {
                let causes = vec![format!("the worker stopped, though `bam` did not ask it to: {summary}")];
                let hint = Some("run again; it goes on from what it kept".to_owned());
                return self.failed(at, &Failure { causes, hint }, Some(&pending), wall_secs);
            }
            (last, _) if self.stopping.is_some() && !matches!(last, Some(Event::Failed { .. })) => {
                return self.stopped(at, None, &pending);
            }
            (Some(Event::Failed { causes, hint }), _) => {
                return self.failed(at, &Failure { causes, hint }, Some(&pending), wall_secs);
            }
            (_, trouble) => {
                let trouble = trouble.clone().unwrap_or_else(|| "the worker ended without a word".to_owned());
                return self.failed(
                    at,
                    &Failure { causes: vec![trouble], hint: end.hint.clone() },
                    Some(&pending),
                    wall_secs,
                );
            }
        };
        if let Some(elsewhere) = elsewhere {
            let jobs: Vec<String> = elsewhere.jobs.iter().map(ToString::to_string).collect();
            facts.insert("jobs".to_owned(), jobs.into());
        }
        let device = facts.get("device").and_then(|device| device.as_str()).unwrap_or("cpu");
        let provenance = Provenance {
            finished_unix_secs: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
            wall_secs: wall_secs + earlier_secs(&stage.spec, &facts),
            peak_memory_bytes: end.peak_memory_bytes,
            host: elsewhere.map_or_else(machine::host, |elsewhere| elsewhere.host.clone()),
            threads,
            device: device.to_owned(),
            bam_version: env!("CARGO_PKG_VERSION").to_owned(),
            git_revision: self.git_revision.get_or_init(git_revision).clone(),
            worker: facts,
        };
        if let Err(error) = self.unchanged_since(at, &key, &stamps) {
            return self.failed(at, &error.into(), Some(&pending), wall_secs);
        }
        let artifact = stage.spec.writes();
        let is_foreign = matches!(stage.spec, StageSpec::Exec(_));
        let finished = Finished { stage: stage.name.clone(), key, artifact, is_foreign, summary, metrics, provenance };
        let (manifest, stamps) = match pending.commit(finished) {
            Ok(committed) => committed,
            Err(error) => return self.failed(at, &error.into(), Some(&pending), wall_secs),
        };
        self.store.committed(manifest.fingerprint, stamps);
        self.read.insert(manifest.fingerprint);
        self.store.forget_resume(manifest.fingerprint);
        drop(pending);
        if let Err(error) = self.settle(at, State::Ran, &manifest) {
            return self.failed(at, &error.into(), None, wall_secs);
        }
        self.tally.ran += 1;
        self.tell(&RunEvent::Ran { stage: &stage.name, index: at, manifest: &manifest, reasons: &reasons });
        self.push(at, &manifest);
    }

    /// Tells where a stage's job stands.
    pub(super) fn queued(&mut self, at: usize, queued: &Queued) {
        if self.working.contains_key(&at) {
            let stage = &self.pipeline.stages[at].name;
            self.tell(&RunEvent::Queued { stage, index: at, queued });
            if let Some(reason) = queued.hopeless() {
                let text = format!(
                    "its job asks for what it can't have ({reason}), and waits until it is cancelled: ask for less in the stage's \
                     `resources` or the profile's `limits`"
                );
                self.tell(&RunEvent::Warning { stage, text: &text });
            }
        }
    }

    pub(super) fn requeued(&mut self, at: usize, why: &str) {
        if self.working.contains_key(&at) {
            self.tell(&RunEvent::Requeued { stage: &self.pipeline.stages[at].name, index: at, why });
        }
    }

    /// Notes that a stage ended because it was asked to.
    pub(super) fn stopped(&mut self, at: usize, kept: Option<&str>, pending: &Pending) {
        let stage = &self.pipeline.stages[at].name;
        self.states[at] = State::Stopped;
        self.tally.stopped += 1;
        self.store.keep_stopped(&self.owner, stage, &pending.log());
        self.tell(&RunEvent::Stopped { stage, index: at, kept });
    }

    /// Notes that a stage failed, and keeps the log of its worker where there was one.
    pub(super) fn failed(&mut self, at: usize, failure: &Failure, pending: Option<&Pending>, seconds: f64) {
        let Stage { name: stage, inputs, .. } = &self.pipeline.stages[at];
        self.turn(at, State::Failed);
        self.tally.failed += 1;
        let text = pending.and_then(|pending| end_of(&pending.log()).ok()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let log_tail = &lines[lines.len().saturating_sub(LOG_TAIL_LINES)..];
        let hint = self.full_disk().or_else(|| failure.hint.clone());
        let failure = Failure { hint, ..failure.clone() };
        if let Some(pending) = pending {
            pending.discard_output();
        }
        let log = match self.store.keep_failure(&self.owner, stage, &failure, pending) {
            Ok(log) => log.map(|log| self.store.shown(&log)),
            Err(error) => {
                self.tell(&RunEvent::Warning { stage, text: &format!("its log could not be kept: {error:#}") });
                None
            }
        };
        let inputs: Vec<Fingerprint> = inputs.iter().filter_map(|edge| self.fingerprints[edge.stage]).collect();
        let (Failure { causes, hint }, log, inputs) = (&failure, log.as_deref(), &inputs);
        let hint = hint.as_deref();
        self.tell(&RunEvent::Failed { stage, index: at, inputs, causes, hint, log, log_tail, seconds });
        if self.fail_fast && self.may_start() {
            self.stop(Outcome::Failed);
        }
    }

    /// A failing program need not say what it lacked.
    fn full_disk(&self) -> Option<String> {
        let free = free_disk_bytes(self.store.root()).filter(|free| *free < FULL_DISK_BYTES)?;
        Some(format!("the store's disk has {} left; `bam gc` makes room", bytes(free)))
    }

    /// Skips what a failure kept from being started: for want of its inputs, or because the run was to end.
    pub(super) fn skip_the_rest(&mut self) {
        for at in 0..self.states.len() {
            if matches!(self.states[at], State::Waiting | State::Running) {
                let lost = match self.inputs_of(at) {
                    Inputs::Lost(lost) => Some(lost),
                    Inputs::There | Inputs::Awaited => None,
                };
                self.skip(at, lost);
            }
        }
    }
}

/// What a training took before it went on from a state that was kept.
fn earlier_secs(spec: &StageSpec, facts: &Map<String, Value>) -> f64 {
    let told = facts.get(EARLIER_SECS).filter(|_| matches!(spec, StageSpec::Train(_)));
    told.and_then(Value::as_f64).unwrap_or_default()
}

/// The last lines of a log, however long it is.
fn end_of(log: &Path) -> io::Result<String> {
    let mut file = File::open(log)?;
    let start = file.metadata()?.len().saturating_sub(LOG_TAIL_BYTES);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The commit that the pipeline's folder is at, if it is in a git repository.
fn git_revision() -> Option<String> {
    let describe = ["describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"];
    let output = Command::new("git").args(describe).output().ok().filter(|output| output.status.success());
    Some(String::from_utf8(output?.stdout).ok()?.trim().to_owned())
}
