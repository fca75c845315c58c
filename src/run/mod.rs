//! Runs a pipeline: decides, starts workers, commits what they made, and goes on.
//!
//! The loop reacts to messages, and each stage is decided about as soon as all it reads is there; so a stage whose
//! input came out byte for byte as before is found in the store and does not run.

mod event;

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use bam_contract::digest::Digest;
use bam_contract::event::Event;
use bam_contract::fault::hint_of;
use bam_contract::job::{Job, JobInput};
use bam_contract::manifest::{Key, Manifest, Provenance};

pub(crate) use event::{Observer, Outcome, RunEvent, Tally};

use crate::executor::{End, Executor, Message, Worker};
use crate::pipeline::Pipeline;
use crate::plan::{Decision, Planner};
use crate::reason::Reason;
use crate::store::{Finished, Pending, Store};

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

/// Runs a pipeline, telling `observers` of all that happens.
pub(crate) fn run(
    pipeline: &Pipeline,
    store: &Store,
    executor: &dyn Executor,
    resources: &Resources,
    observers: &mut [&mut dyn Observer],
) -> Result<Outcome> {
    let (sender, messages) = mpsc::channel();
    let interrupt = sender.clone();
    ctrlc::set_handler(move || drop(interrupt.send(Message::Interrupted))).context("watching for Ctrl-C")?;
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
        ready: VecDeque::new(),
        working: BTreeMap::new(),
        tally: Tally::default(),
        sender,
        messages,
    };
    store.sweep();
    let outcome = run.to_the_end();
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
    /// Stages that are to run and wait for a free worker.
    ready: VecDeque<(usize, Key, Vec<Reason>)>,
    working: BTreeMap<usize, Working>,
    tally: Tally,
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

    fn to_the_end(&mut self) -> Result<Outcome> {
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
        self.states[at] = State::Cached;
        self.contents[at] = Some(manifest.content);
        self.tally.cached += 1;
        self.tally.saved_secs += manifest.provenance.wall_secs;
        self.store.set_latest(&stage.name, &manifest.key.kind, manifest.fingerprint)?;
        self.store.forget_failure(&stage.name);
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

    fn start(&mut self, at: usize, key: Key, reasons: Vec<Reason>) -> Result<()> {
        let stage = &self.pipeline.stages[at];
        let fingerprint = key.fingerprint();
        if reasons.iter().any(|reason| matches!(reason, Reason::Damaged { .. })) {
            let aside = self.store.set_aside(&key.kind, fingerprint)?;
            let text = format!("its damaged artifact now lies in `{}`", self.store.shown(&aside).display());
            self.tell(&RunEvent::Warning { stage: &stage.name, text: &text });
        }
        let pending = self.store.begin(&key.kind, fingerprint)?;
        let input = |edge: &crate::pipeline::Edge| {
            let maker = &self.pipeline.stages[edge.stage];
            let (_, manifest) = self.store.latest(&maker.name).context("an input is gone")?;
            let manifest = manifest.with_context(|| format!("the artifact of `{}` is gone", maker.name))?;
            Ok(JobInput {
                slot: edge.slot.clone(),
                stage: maker.name.clone(),
                path: self.store.folder(&manifest.key.kind, manifest.fingerprint),
                digest: manifest.content,
            })
        };
        let job = Job {
            stage: stage.name.clone(),
            fingerprint,
            spec: stage.spec.clone(),
            inputs: stage.inputs.iter().map(input).collect::<Result<_>>()?,
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
            (Some(Event::Failed { causes, hint }), _) => return self.failed(at, &pending, causes, hint, wall_secs),
            (_, trouble) => {
                let trouble = trouble.clone().unwrap_or_else(|| "the worker ended without a word".to_owned());
                return self.failed(at, &pending, vec![trouble], None, wall_secs);
            }
        };
        let device = facts.get("device").and_then(|device| device.as_str()).unwrap_or(&self.resources.device);
        let provenance = Provenance {
            finished_unix_secs: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
            wall_secs,
            peak_memory_bytes: end.peak_memory_bytes,
            host: fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned(),
            threads: self.resources.threads,
            device: device.to_owned(),
            bam_version: env!("CARGO_PKG_VERSION").to_owned(),
            git_revision: git_revision(),
            worker: facts,
        };
        let artifact = stage.spec.kind().writes;
        let finished = Finished { stage: stage.name.clone(), key, artifact, summary, metrics, provenance };
        let manifest = match pending.commit(finished) {
            Ok(manifest) => manifest,
            Err((pending, error)) => {
                let causes = error.chain().map(ToString::to_string).collect();
                let hint = hint_of(&error).map(ToOwned::to_owned);
                return self.failed(at, &pending, causes, hint, wall_secs);
            }
        };
        self.store.set_latest(&stage.name, &manifest.key.kind, manifest.fingerprint)?;
        self.store.forget_failure(&stage.name);
        self.states[at] = State::Ran;
        self.contents[at] = Some(manifest.content);
        self.tally.ran += 1;
        self.tell(&RunEvent::Ran { stage: &stage.name, index: at, manifest: &manifest, reasons: &reasons });
        Ok(())
    }

    fn failed(
        &mut self,
        at: usize,
        pending: &Pending,
        causes: Vec<String>,
        hint: Option<String>,
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
        let hint = hint.as_deref();
        self.tell(&RunEvent::Failed { stage, index: at, causes: &causes, hint, log: &log, log_tail, seconds });
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
