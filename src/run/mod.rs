//! Runs a pipeline: decides, starts workers, commits what they made, and goes on.
//!
//! The loop reacts to messages, and each stage is decided about as soon as all it reads is there; so a stage whose
//! input came out byte for byte as before is found in the store and does not run.

mod event;
mod finish;
mod schedule;
#[cfg(test)]
mod tests;
mod transfer;

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bam_contract::digest::{Digest, Fingerprint};
use bam_contract::event::Event;
use bam_contract::fault::hint_of;
use bam_contract::job::{Job, JobInput};
use bam_contract::manifest::{Key, Manifest};
use bam_contract::stage::StageSpec;

pub(crate) use event::{Observer, Outcome, RunEvent, Tally};
pub(crate) use schedule::{Last, Limits, makespan};
pub(crate) use transfer::bytes_of;

use crate::executor::{Executor, Launch, Message, Worker};
use crate::pipeline::{Edge, Pipeline};
use crate::plan::{Decision, Planner, last_of};
use crate::reason::Reason;
use crate::remote::Remote;
use crate::store::{Asked, Found, Lock, Pending, Store};
use schedule::{Capacity, Grant, chains};
use transfer::Fetching;

/// How often is looked whether another run is done with an artifact.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How a run goes about it.
#[derive(Debug)]
pub(crate) struct Options<'a> {
    pub(crate) limits: Limits,
    /// Stages that run though their artifacts are there.
    pub(crate) forced: BTreeSet<usize>,
    /// Whether the first failure stops the others.
    pub(crate) fail_fast: bool,
    /// Where artifacts are shared.
    pub(crate) remote: Option<&'a Remote>,
}

/// Runs a pipeline, telling `observers` of all that happens. [`Message::Interrupted`], sent from outside, stops it; sent
/// again, ends it at once.
pub(crate) fn run(
    pipeline: &Pipeline,
    store: &Store,
    executor: &dyn Executor,
    options: Options<'_>,
    (sender, messages): (Sender<Message>, Receiver<Message>),
    observers: &mut [&mut dyn Observer],
) -> Result<Outcome> {
    let count = pipeline.stages.len();
    let mut run = Run {
        pipeline,
        store,
        executor,
        observers,
        planner: Planner::new(pipeline, store, options.forced).with_remote(options.remote),
        states: (0..count).map(|_| State::Waiting).collect(),
        contents: vec![None; count],
        fingerprints: vec![None; count],
        read: BTreeSet::new(),
        ready: Vec::new(),
        order: OnceCell::new(),
        capacity: Capacity::new(options.limits),
        working: BTreeMap::new(),
        elsewhere: BTreeMap::new(),
        to_fetch: BTreeSet::new(),
        fetching: BTreeMap::new(),
        pushing: BTreeSet::new(),
        pushes_failed: false,
        decide_again: false,
        fail_fast: options.fail_fast,
        stopping: None,
        tally: Tally::default(),
        git_revision: OnceCell::new(),
        sender,
        messages,
    };
    store.sweep();
    let outcome = run.follow();
    run.planner.finish();
    outcome
}

struct Run<'a, 'o> {
    pipeline: &'a Pipeline,
    store: &'a Store,
    executor: &'a dyn Executor,
    observers: &'a mut [&'o mut dyn Observer],
    planner: Planner<'a>,
    states: Vec<State>,
    /// Content of the artifacts that are there, by stage.
    contents: Vec<Option<Digest>>,
    /// Their names.
    fingerprints: Vec<Option<Fingerprint>>,
    /// Artifacts whose bytes this run has read and found right.
    read: BTreeSet<Fingerprint>,
    /// Stages that are to run and wait for their turn.
    ready: Vec<Ready>,
    order: OnceCell<Order>,
    capacity: Capacity,
    working: BTreeMap<usize, Working>,
    /// Manifests of what is in the remote, and not here, by stage.
    elsewhere: BTreeMap<usize, Manifest>,
    /// Those of them that are needed here.
    to_fetch: BTreeSet<usize>,
    fetching: BTreeMap<usize, Fetching>,
    /// Artifacts on their way to the remote.
    pushing: BTreeSet<Fingerprint>,
    pushes_failed: bool,
    /// Whether a stage was put back among those to be decided about.
    decide_again: bool,
    fail_fast: bool,
    stopping: Option<Outcome>,
    tally: Tally,
    git_revision: OnceCell<Option<String>>,
    sender: Sender<Message>,
    messages: Receiver<Message>,
}

/// What the past says of when stages should start. Looked up only when one has to.
#[derive(Debug)]
struct Order {
    last: Vec<Option<Last>>,
    chains: Vec<f64>,
}

/// Where a stage stands.
#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Waiting,
    /// To be run, or running.
    Running,
    Cached,
    /// In the remote, and not here.
    Remote,
    Fetched,
    Ran,
    Failed,
    Skipped,
    Stopped,
}

/// A stage that is to run.
struct Ready {
    stage: usize,
    key: Key,
    reasons: Vec<Reason>,
    /// Whether it was told that another run makes it.
    told: bool,
}

/// A stage under way.
struct Working {
    key: Key,
    reasons: Vec<Reason>,
    pending: Pending,
    /// What it reads stays while it runs.
    _inputs: Vec<Lock>,
    grant: Grant,
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
            let mut waits_for_others = false;
            if self.stopping.is_none() {
                self.decide()?;
                waits_for_others = self.start_ready()? | self.start_fetches()?;
            }
            if std::mem::take(&mut self.decide_again) {
                continue;
            }
            if self.working.is_empty() && !waits_for_others && !self.transfers() {
                break;
            }
            let message = if waits_for_others {
                self.messages.recv_timeout(LOOK_EVERY)
            } else {
                self.messages.recv().map_err(|_| RecvTimeoutError::Disconnected)
            };
            match message {
                Ok(Message::Event { stage, event }) => self.hear(stage, event),
                Ok(Message::Ended { stage, end }) => self.end(stage, &end)?,
                Ok(Message::Fetched { stage, result }) => self.fetched(stage, result)?,
                Ok(Message::Pushed { stage, fingerprint, result }) => self.pushed(stage, fingerprint, result),
                Ok(Message::Interrupted) => self.interrupt(),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => anyhow::bail!("all workers fell silent"),
            }
        }
        if self.stopping == Some(Outcome::Interrupted) {
            self.tell(&RunEvent::Interrupted { tally: self.tally });
            return Ok(Outcome::Interrupted);
        }
        self.skip_the_rest();
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
                self.skip(at, lost);
            } else if inputs().all(|input| self.contents[input].is_some()) {
                let decision = self.planner.decide(at, &self.contents)?;
                self.tell_troubles();
                match decision {
                    Decision::Cached(manifest) => self.cached(at, &manifest)?,
                    Decision::Remote { manifest, .. } => self.found_elsewhere(at, *manifest),
                    Decision::Run { key, reasons } => {
                        self.states[at] = State::Running;
                        self.ready.push(Ready { stage: at, key, reasons, told: false });
                    }
                    Decision::Waits { .. } => unreachable!("all inputs are there"),
                }
            }
        }
        Ok(())
    }

    fn skip(&mut self, at: usize, lost: usize) {
        self.states[at] = State::Skipped;
        self.tally.skipped += 1;
        let [stage, needs] = [at, lost].map(|at| self.pipeline.stages[at].name.as_str());
        self.tell(&RunEvent::Skipped { stage, index: at, needs });
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
        self.push(at, manifest)
    }

    /// Notes that a stage's artifact is there.
    fn settle(&mut self, at: usize, state: State, manifest: &Manifest) -> Result<()> {
        let name = &self.pipeline.stages[at].name;
        self.states[at] = state;
        self.contents[at] = Some(manifest.content);
        self.fingerprints[at] = Some(manifest.fingerprint);
        self.store.forget_failure(name);
        self.store.set_latest(name, &manifest.key.kind, manifest.fingerprint)
    }

    /// Starts what can start, the beginnings of long chains first. Says whether a stage waits for another run's.
    fn start_ready(&mut self) -> Result<bool> {
        if self.ready.is_empty() {
            return Ok(false);
        }
        let order = self.order.get_or_init(|| {
            let last: Vec<Option<Last>> =
                self.pipeline.stages.iter().map(|stage| last_of(self.store, &stage.name)).collect();
            let secs: Vec<Option<f64>> = last.iter().map(|last| last.map(|last| last.secs)).collect();
            Order { chains: chains(self.pipeline, &secs), last }
        });
        let mut ready = std::mem::take(&mut self.ready);
        ready.sort_by(|a, b| order.chains[b.stage].total_cmp(&order.chains[a.stage]).then(a.stage.cmp(&b.stage)));
        let peaks: Vec<Option<u64>> =
            ready.iter().map(|ready| order.last[ready.stage].map(|last| last.peak_memory_bytes)).collect();
        let mut waits_for_others = false;
        for (ready, peak) in ready.into_iter().zip(peaks) {
            let inputs = &self.pipeline.stages[ready.stage].inputs;
            if inputs.iter().any(|edge| self.contents[edge.stage].is_none()) {
                // What it reads turned out to be damaged, and is made again.
                self.states[ready.stage] = State::Waiting;
                continue;
            }
            if self.awaits_inputs(ready.stage) {
                self.ready.push(ready);
                continue;
            }
            let Some(grant) = self.capacity.take(&self.pipeline.stages[ready.stage], peak) else {
                self.ready.push(ready);
                continue;
            };
            match self.store.lock(ready.key.fingerprint())? {
                Asked::Held(lock) => self.start(ready, grant, lock)?,
                Asked::Busy(holder) => {
                    self.capacity.give_back(grant);
                    waits_for_others |= self.wait(ready, &holder);
                }
            }
        }
        Ok(waits_for_others)
    }

    /// Puts off a stage whose artifact is being made; says whether another process does it, and not this one under
    /// another stage's name.
    fn wait(&mut self, mut ready: Ready, holder: &str) -> bool {
        let is_own = self.working.values().any(|working| working.key == ready.key);
        if !is_own && !ready.told {
            ready.told = true;
            let stage = &self.pipeline.stages[ready.stage].name;
            self.tell(&RunEvent::Waiting { stage, index: ready.stage, holder });
        }
        self.ready.push(ready);
        !is_own
    }

    fn start(&mut self, ready: Ready, grant: Grant, lock: Lock) -> Result<()> {
        let Ready { stage: at, key, reasons, .. } = ready;
        let stage = &self.pipeline.stages[at];
        let fingerprint = key.fingerprint();
        match self.store.find(&key.kind, fingerprint) {
            Found::Absent => {}
            Found::Sound(_) if reasons.contains(&Reason::Forced) => {}
            // Another stage of the same key has made it meanwhile, or another run.
            Found::Sound(manifest) => {
                self.capacity.give_back(grant);
                return self.cached(at, &manifest);
            }
            Found::Damaged(_) => self.set_aside(at, &key.kind, fingerprint)?,
        }
        if let Some(lack) = self.capacity.lacks(stage) {
            let text = format!("it asks for {lack}, and runs with what there is");
            self.tell(&RunEvent::Warning { stage: &stage.name, text: &text });
        }
        let inputs = self.hold_inputs(at)?;
        if let Some(input) = self.damaged_input(at) {
            self.capacity.give_back(grant);
            self.make_again(at, input);
            return Ok(());
        }
        if matches!(stage.spec, StageSpec::Train(_)) {
            self.tell_unfinished(at, &key);
            self.store.note_resume(&stage.name, &key)?;
        }
        let pending = self.store.begin(&key.kind, fingerprint, lock)?;
        let limits = self.capacity.limits();
        let job = Job {
            stage: stage.name.clone(),
            fingerprint,
            spec: stage.spec.clone(),
            inputs: stage.inputs.iter().map(|edge| self.input(edge)).collect(),
            output: pending.output(),
            resume: self.store.resume_folder(fingerprint),
            threads: grant.threads,
            device: limits.device.clone(),
        };
        pending.write_job(&serde_json::to_vec_pretty(&job)?)?;
        let gpus = (!limits.gpus.is_empty()).then_some(grant.gpus.as_slice());
        let program = match &stage.spec {
            StageSpec::Exec(exec) => Some(exec.run.as_slice()),
            _ => None,
        };
        let (job, log) = (&pending.job(), &pending.log());
        let launch = Launch { stage: at, program, job, log, threads: grant.threads, gpus };
        let worker = match self.executor.start(&launch, self.sender.clone()) {
            Ok(worker) => worker,
            Err(error) => {
                self.capacity.give_back(grant);
                let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
                return self.failed(at, &pending, &causes, hint_of(&error), 0.0);
            }
        };
        let (threads, gpus, name) = (grant.threads, &grant.gpus, &stage.name);
        self.tell(&RunEvent::Running { stage: name, index: at, fingerprint, threads, gpus, reasons: &reasons });
        let (metrics, last, started) = (BTreeMap::new(), None, Instant::now());
        let working = Working { key, reasons, pending, _inputs: inputs, grant, worker, started, metrics, last };
        self.working.insert(at, working);
        Ok(())
    }

    fn set_aside(&mut self, at: usize, kind: &str, fingerprint: Fingerprint) -> Result<()> {
        let aside = self.store.set_aside(kind, fingerprint)?;
        let text = format!("its damaged artifact now lies in `{}`", self.store.shown(&aside).display());
        self.tell(&RunEvent::Warning { stage: &self.pipeline.stages[at].name, text: &text });
        Ok(())
    }

    /// Says so where there is an unfinished state, but of other settings.
    fn tell_unfinished(&mut self, at: usize, key: &Key) {
        let stage = &self.pipeline.stages[at].name;
        let unfinished = self.store.unfinished(stage);
        if unfinished.contains(key) {
            return;
        }
        for other in unfinished {
            let differences = self.planner.differences(at, &other, key);
            let differences: Vec<String> = differences.iter().map(ToString::to_string).collect();
            let text = format!("an unfinished state is of other settings and not used: {}", differences.join(", "));
            self.tell(&RunEvent::Warning { stage, text: &text });
        }
    }

    fn input(&self, edge: &Edge) -> JobInput {
        let made = "a stage starts when its inputs are there";
        let source = &self.pipeline.stages[edge.stage];
        JobInput {
            slot: edge.slot.clone(),
            stage: source.name.clone(),
            path: self.store.folder(source.spec.kind().name, self.fingerprints[edge.stage].expect(made)),
            digest: self.contents[edge.stage].expect(made),
        }
    }

    /// Keeps what a stage reads from being removed while it runs.
    fn hold_inputs(&self, at: usize) -> Result<Vec<Lock>> {
        let edges = &self.pipeline.stages[at].inputs;
        let held: BTreeSet<Fingerprint> = edges.iter().filter_map(|edge| self.fingerprints[edge.stage]).collect();
        held.into_iter()
            .map(|fingerprint| self.store.share(fingerprint))
            .collect::<Result<_>>()
            .context("holding its inputs")
    }

    /// An input whose bytes are not those that were committed. Each is read once a run.
    fn damaged_input(&mut self, at: usize) -> Option<usize> {
        for edge in &self.pipeline.stages[at].inputs {
            let fingerprint = self.fingerprints[edge.stage].expect("a stage starts when its inputs are there");
            if self.read.contains(&fingerprint) {
                continue;
            }
            match self.store.verify(self.pipeline.stages[edge.stage].spec.kind().name, fingerprint) {
                Found::Sound(_) => drop(self.read.insert(fingerprint)),
                Found::Absent | Found::Damaged(_) => return Some(edge.stage),
            }
        }
        None
    }

    /// Goes back to a stage whose artifact turned out to be damaged, and then to the one that reads it.
    fn make_again(&mut self, reader: usize, input: usize) {
        if self.states[input] == State::Cached {
            self.tally.cached -= 1;
        }
        for at in [reader, input] {
            self.states[at] = State::Waiting;
        }
        self.contents[input] = None;
        self.decide_again = true;
    }

    /// The first time workers are asked to stop, then they are ended.
    fn interrupt(&mut self) {
        if self.stopping.is_some() {
            self.working.values().for_each(|working| working.worker.kill());
        } else {
            self.stop(Outcome::Interrupted);
        }
    }

    fn stop(&mut self, outcome: Outcome) {
        self.stopping = Some(outcome);
        self.working.values().for_each(|working| working.worker.stop());
        let stages: Vec<&str> = self.working.keys().map(|at| self.pipeline.stages[*at].name.as_str()).collect();
        if !stages.is_empty() {
            self.tell(&RunEvent::Stopping { stages: &stages });
        }
    }
}
