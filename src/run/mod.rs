//! Runs a pipeline: decides, starts workers, commits what they made, and goes on.
//!
//! The loop reacts to messages, and each stage is decided about as soon as all it reads is there; so a stage whose
//! input came out byte for byte as before is found in the store and does not run.

mod event;
#[cfg(test)]
mod tests;

use std::cell::OnceCell;
use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use bam_contract::digest::Digest;
use bam_contract::event::Event;
use bam_contract::fault::hint_of;
use bam_contract::job::{Job, JobInput};
use bam_contract::manifest::{Key, Manifest, Provenance};

pub(crate) use event::{Observer, Outcome, RunEvent, Tally};

use crate::executor::{End, Executor, Message, Worker};
use crate::pipeline::{Edge, Pipeline};
use crate::plan::{Decision, Planner};
use crate::reason::Reason;
use crate::store::{Finished, Found, Pending, Store};

/// Workers at a time: each may use all the threads it is given.
const MOST_WORKERS: usize = 1;
/// Lines of a failed stage's log that are shown.
const LOG_TAIL_LINES: usize = 8;

/// What a run may use.
#[derive(Clone, Debug)]
pub(crate) struct Resources {
    pub(crate) threads: usize,
    pub(crate) device: String,
}

/// Runs a pipeline, telling `observers` of all that happens. [`Message::Interrupted`], sent from outside, ends it.
pub(crate) fn run(
    pipeline: &Pipeline,
    store: &Store,
    executor: &dyn Executor,
    resources: &Resources,
    (sender, messages): (Sender<Message>, Receiver<Message>),
    observers: &mut [&mut dyn Observer],
) -> Result<Outcome> {
    let count = pipeline.stages.len();
    let mut run = Run {
        pipeline,
        store,
        executor,
        resources,
        observers,
        planner: Planner::new(pipeline, store),
        states: (0..count).map(|_| State::Waiting).collect(),
        contents: vec![None; count],
        folders: vec![None; count],
        ready: VecDeque::new(),
        working: BTreeMap::new(),
        tally: Tally::default(),
        git_revision: OnceCell::new(),
        sender,
        messages,
    };
    store.sweep();
    let outcome = run.follow();
    run.planner.finish()?;
    outcome
}

struct Run<'a, 'o> {
    pipeline: &'a Pipeline,
    store: &'a Store,
    executor: &'a dyn Executor,
    resources: &'a Resources,
    observers: &'a mut [&'o mut dyn Observer],
    planner: Planner<'a>,
    states: Vec<State>,
    /// Content of the artifacts that are there, by stage.
    contents: Vec<Option<Digest>>,
    /// Folders of those artifacts.
    folders: Vec<Option<PathBuf>>,
    /// Stages that are to run and wait for a free worker.
    ready: VecDeque<(usize, Key, Vec<Reason>)>,
    working: BTreeMap<usize, Working>,
    tally: Tally,
    git_revision: OnceCell<Option<String>>,
    sender: Sender<Message>,
    messages: Receiver<Message>,
}

/// Where a stage stands.
#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Waiting,
    /// To be run, or running.
    Running,
    Cached,
    Ran,
    Failed,
    Skipped,
}

/// A stage under way.
struct Working {
    key: Key,
    reasons: Vec<Reason>,
    pending: Pending,
    worker: Box<dyn Worker>,
    started: Instant,
    metrics: BTreeMap<String, f64>,
    /// The worker's last word.
    last: Option<Event>,
}

impl Run<'_, '_> {
    fn tell(&mut self, event: &RunEvent<'_>) {
        for observer in &mut *self.observers {
            observer.tell(event);
        }
    }

    fn follow(&mut self) -> Result<Outcome> {
        let started = Instant::now();
        let names: Vec<&str> = self.pipeline.stages.iter().map(|stage| stage.name.as_str()).collect();
        self.tell(&RunEvent::Started { pipeline: &self.pipeline.name, stages: &names });
        loop {
            self.decide()?;
            while self.working.len() < MOST_WORKERS
                && let Some((stage, key, reasons)) = self.ready.pop_front()
            {
                self.start(stage, key, reasons)?;
            }
            if self.working.is_empty() {
                break;
            }
            match self.messages.recv().context("all workers fell silent")? {
                Message::Event { stage, event } => self.hear(stage, event),
                Message::Ended { stage, end } => self.end(stage, &end)?,
                Message::Interrupted => {
                    self.interrupt();
                    return Ok(Outcome::Interrupted);
                }
            }
        }
        let seconds = started.elapsed().as_secs_f64();
        self.tell(&RunEvent::Finished { seconds, tally: self.tally });
        Ok(if self.tally.failed > 0 { Outcome::Failed } else { Outcome::Done })
    }

    /// Decides about every stage whose inputs are settled. Stages stand in order, so one pass does.
    fn decide(&mut self) -> Result<()> {
        for at in 0..self.states.len() {
            if self.states[at] != State::Waiting {
                continue;
            }
            let inputs = || self.pipeline.stages[at].inputs.iter().map(|edge| edge.stage);
            if let Some(lost) = inputs().find(|input| matches!(self.states[*input], State::Failed | State::Skipped)) {
                self.states[at] = State::Skipped;
                self.tally.skipped += 1;
                let needs = &self.pipeline.stages[lost].name;
                self.tell(&RunEvent::Skipped { stage: &self.pipeline.stages[at].name, index: at, needs });
            } else if inputs().all(|input| self.contents[input].is_some()) {
                match self.planner.decide(at, &self.contents)? {
                    Decision::Cached(manifest) => self.cached(at, &manifest)?,
                    Decision::Run { key, reasons } => {
                        self.states[at] = State::Running;
                        self.ready.push_back((at, key, reasons));
                    }
                    Decision::Waits { .. } => unreachable!("all inputs are there"),
                }
            }
        }
        Ok(())
    }

    fn cached(&mut self, at: usize, manifest: &Manifest) -> Result<()> {
        let stage = &self.pipeline.stages[at];
        self.settle(at, State::Cached, manifest)?;
        self.tally.cached += 1;
        self.tally.saved_secs += manifest.provenance.wall_secs;
        let mut reran: Vec<&str> = stage
            .inputs
            .iter()
            .filter(|edge| self.states[edge.stage] == State::Ran)
            .map(|edge| self.pipeline.stages[edge.stage].name.as_str())
            .collect();
        reran.dedup();
        self.tell(&RunEvent::Cached { stage: &stage.name, index: at, manifest, reran: &reran });
        Ok(())
    }

    /// Notes that a stage's artifact is there.
    fn settle(&mut self, at: usize, state: State, manifest: &Manifest) -> Result<()> {
        let name = &self.pipeline.stages[at].name;
        self.states[at] = state;
        self.contents[at] = Some(manifest.content);
        self.folders[at] = Some(self.store.folder(&manifest.key.kind, manifest.fingerprint));
        self.store.forget_failure(name);
        self.store.set_latest(name, &manifest.key.kind, manifest.fingerprint)
    }

    fn start(&mut self, at: usize, key: Key, reasons: Vec<Reason>) -> Result<()> {
        let stage = &self.pipeline.stages[at];
        let fingerprint = key.fingerprint();
        match self.store.find(&key.kind, fingerprint) {
            Found::Absent => {}
            // Another stage of the same key has made it meanwhile, or another run.
            Found::Sound(manifest) => return self.cached(at, &manifest),
            Found::Damaged(_) => {
                let aside = self.store.set_aside(&key.kind, fingerprint)?;
                let text = format!("its damaged artifact now lies in `{}`", self.store.shown(&aside).display());
                self.tell(&RunEvent::Warning { stage: &stage.name, text: &text });
            }
        }
        let pending = self.store.begin(&key.kind, fingerprint)?;
        let input = |edge: &Edge| JobInput {
            slot: edge.slot.clone(),
            stage: self.pipeline.stages[edge.stage].name.clone(),
            path: self.folders[edge.stage].clone().expect("a stage starts when its inputs are there"),
            digest: self.contents[edge.stage].expect("a stage starts when its inputs are there"),
        };
        let job = Job {
            stage: stage.name.clone(),
            fingerprint,
            spec: stage.spec.clone(),
            inputs: stage.inputs.iter().map(input).collect(),
            output: pending.output(),
            threads: self.resources.threads,
            device: self.resources.device.clone(),
        };
        pending.write_job(&serde_json::to_vec_pretty(&job)?)?;
        let worker = self.executor.start(at, &pending.job(), &pending.log(), self.sender.clone())?;
        self.tell(&RunEvent::Running { stage: &stage.name, index: at, fingerprint, reasons: &reasons });
        let (metrics, last) = (BTreeMap::new(), None);
        self.working.insert(at, Working { key, reasons, pending, worker, started: Instant::now(), metrics, last });
        Ok(())
    }

    /// Takes in what a worker reports.
    fn hear(&mut self, at: usize, event: Event) {
        let stage = &self.pipeline.stages[at].name;
        match &event {
            Event::Progress { done, total, unit, detail } => {
                self.tell(&RunEvent::Progress { stage, index: at, done: *done, total: *total, unit, detail });
            }
            Event::Metric { name, value } => self.tell(&RunEvent::Metric { stage, name, value: *value }),
            Event::Warning { text } => self.tell(&RunEvent::Warning { stage, text }),
            Event::Done { .. } | Event::Failed { .. } => {}
        }
        let Some(working) = self.working.get_mut(&at) else { return };
        match event {
            Event::Metric { name, value } => {
                working.metrics.insert(name, value);
            }
            Event::Done { .. } | Event::Failed { .. } => working.last = Some(event),
            Event::Progress { .. } | Event::Warning { .. } => {}
        }
    }

    /// Commits what a worker made, or tells why there is nothing.
    fn end(&mut self, at: usize, end: &End) -> Result<()> {
        let Some(Working { key, reasons, pending, worker: _, started, metrics, last }) = self.working.remove(&at)
        else {
            return Ok(());
        };
        let stage = &self.pipeline.stages[at];
        let wall_secs = started.elapsed().as_secs_f64();
        let (summary, facts) = match (last, &end.trouble) {
            (Some(Event::Done { summary, provenance }), None) => (summary, provenance),
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
            host: fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned(),
            threads: self.resources.threads,
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
        let artifact = stage.spec.kind().writes;
        let finished = Finished { stage: stage.name.clone(), key, artifact, summary, metrics, provenance };
        let manifest = match pending.commit(finished) {
            Ok(manifest) => manifest,
            Err((pending, error)) => {
                let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
                return self.failed(at, &pending, &causes, hint_of(&error), wall_secs);
            }
        };
        self.settle(at, State::Ran, &manifest)?;
        self.tally.ran += 1;
        self.tell(&RunEvent::Ran { stage: &stage.name, index: at, manifest: &manifest, reasons: &reasons });
        Ok(())
    }

    fn failed(
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
        Ok(())
    }

    /// Ends all workers and leaves nothing of what they were making.
    fn interrupt(&mut self) {
        self.working.values().for_each(|working| working.worker.kill());
        while !self.working.is_empty() {
            match self.messages.recv() {
                Ok(Message::Ended { stage, .. }) => drop(self.working.remove(&stage)),
                Ok(_) => {}
                Err(_) => self.working.clear(),
            }
        }
        self.tell(&RunEvent::Interrupted { tally: self.tally });
    }
}

/// The commit that the pipeline's folder is at, if it is in a git repository.
fn git_revision() -> Option<String> {
    let describe = ["describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"];
    let output =
        std::process::Command::new("git").args(describe).output().ok().filter(|output| output.status.success());
    Some(String::from_utf8(output?.stdout).ok()?.trim().to_owned())
}
