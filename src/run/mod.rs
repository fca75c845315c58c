//! Runs a pipeline: decides, starts workers, commits what they made, and goes on.
//!
//! The loop reacts to messages, and each stage is decided about as soon as all it reads is there; so a stage whose
//! input came out byte for byte as before is found in the store and does not run.

mod event;
mod finish;
mod inputs;
mod interrupt;
mod schedule;
mod start;
#[cfg(test)]
mod tests;
mod transfer;

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError};
use std::time::{Duration, Instant};

use anyhow::Result;
use bam_contract::digest::{Digest, Fingerprint};
use bam_contract::event::Event;
use bam_contract::manifest::{Key, Manifest};

pub(crate) use event::{Observer, Outcome, RunEvent, Tally};
pub(crate) use schedule::{Last, Limits, PLENTY, makespan};

use crate::executor::{Executor, Message, Worker};
use crate::fingerprint::Stamp;
use crate::pipeline::Pipeline;
use crate::plan::{Decision, Planner};
use crate::profile::OnInterrupt;
use crate::reason::Reason;
use crate::remote::Remote;
use crate::store::{Lock, Owner, Pending, Store};
use schedule::{Capacity, Grant};
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
    pub(crate) on_interrupt: Interrupt,
    /// Where artifacts are shared.
    pub(crate) remote: Option<&'a Remote>,
}

/// What becomes of workers when the run is interrupted.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Interrupt {
    /// They are asked to stop.
    Stop,
    /// They are left to another run, where they outlive this one.
    Leave,
    /// As this says, given their number.
    Ask(fn(usize) -> OnInterrupt),
}

/// Runs a pipeline, telling `observers` of all that happens. [`Message::Interrupted`], sent from outside, stops it; sent
/// again, ends it at once.
pub(crate) fn run(
    pipeline: &Pipeline,
    store: &Store,
    executor: &dyn Executor,
    options: Options<'_>,
    (sender, messages): (SyncSender<Message>, Receiver<Message>),
    observers: &mut [&mut dyn Observer],
) -> Outcome {
    let count = pipeline.stages.len();
    let mut run = Run {
        pipeline,
        owner: store.owner(&pipeline.file),
        store,
        executor,
        observers,
        planner: Planner::new(pipeline, store, options.forced).with_remote(options.remote),
        states: (0..count).map(|_| State::Waiting).collect(),
        contents: vec![None; count],
        fingerprints: vec![None; count],
        readers: readers(pipeline),
        undecided: (0..count).collect(),
        read: BTreeSet::new(),
        ready: BTreeMap::new(),
        order: OnceCell::new(),
        capacity: Capacity::new(options.limits),
        working: BTreeMap::new(),
        elsewhere: BTreeMap::new(),
        to_fetch: BTreeSet::new(),
        fetching: BTreeMap::new(),
        pushing: BTreeSet::new(),
        pushes_failed: false,
        fail_fast: options.fail_fast,
        on_interrupt: options.on_interrupt,
        stopping: None,
        is_asking: false,
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
    owner: Owner,
    store: &'a Store,
    executor: &'a dyn Executor,
    observers: &'a mut [&'o mut dyn Observer],
    planner: Planner<'a>,
    states: Vec<State>,
    /// Content of the artifacts that are there, by stage.
    contents: Vec<Option<Digest>>,
    /// Their names.
    fingerprints: Vec<Option<Fingerprint>>,
    /// Which stages read each stage's artifact.
    readers: Vec<Vec<usize>>,
    /// Stages about which something may have to be decided, since they or their inputs stand otherwise than before.
    undecided: BTreeSet<usize>,
    /// Artifacts whose bytes this run has read and found right.
    read: BTreeSet<Fingerprint>,
    /// Stages that are to run and wait for their turn, by their rank in the order.
    ready: BTreeMap<usize, Ready>,
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
    fail_fast: bool,
    on_interrupt: Interrupt,
    stopping: Option<Outcome>,
    /// Whether the user is being asked what becomes of workers: nothing more starts, and they don't know of it.
    is_asking: bool,
    tally: Tally,
    git_revision: OnceCell<Option<String>>,
    sender: SyncSender<Message>,
    messages: Receiver<Message>,
}

/// What the past says of when stages should start. Looked up only when one has to.
#[derive(Debug)]
struct Order {
    last: Vec<Option<Last>>,
    /// Which place each stage has: the beginnings of long chains come first.
    ranks: Vec<usize>,
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

/// How what a stage reads stands.
enum Inputs {
    There,
    Awaited,
    /// This one failed, or was skipped.
    Lost(usize),
}

/// A stage that is to run.
struct Ready {
    stage: usize,
    key: Key,
    reasons: Vec<Reason>,
    /// Whether it was told that another run makes it.
    told: bool,
}

/// What the file system says of each file that a stage reads; nothing of those that are gone.
type FileStamps = BTreeMap<PathBuf, Option<Stamp>>;

/// A stage under way.
struct Working {
    key: Key,
    reasons: Vec<Reason>,
    pending: Pending,
    /// What it reads stays while it runs.
    _inputs: Vec<Lock>,
    grant: Grant,
    /// Of the files it reads, from before it was started.
    stamps: FileStamps,
    worker: Box<dyn Worker>,
    started: Instant,
    metrics: BTreeMap<String, f64>,
    /// The worker's last word.
    last: Option<Event>,
}

/// Which stages read each stage's artifact.
fn readers(pipeline: &Pipeline) -> Vec<Vec<usize>> {
    let mut readers = vec![Vec::new(); pipeline.stages.len()];
    for (reader, stage) in pipeline.stages.iter().enumerate() {
        stage.inputs.iter().for_each(|edge| readers[edge.stage].push(reader));
    }
    readers
}

impl Run<'_, '_> {
    fn tell(&mut self, event: &RunEvent<'_>) {
        for observer in &mut *self.observers {
            observer.tell(event);
        }
    }

    /// Says whether an observer wants to be told again soon that nothing has happened.
    fn rest(&mut self) -> bool {
        let mut again = false;
        for observer in &mut *self.observers {
            again |= observer.rest();
        }
        again
    }

    fn follow(&mut self) -> Outcome {
        let started = Instant::now();
        let names: Vec<&str> = self.pipeline.stages.iter().map(|stage| stage.name.as_str()).collect();
        self.tell(&RunEvent::Started { pipeline: &self.pipeline.name, stages: &names });
        let (mut is_news, mut waits_for_others, mut looked) = (true, false, started);
        loop {
            if is_news || (waits_for_others && looked.elapsed() >= LOOK_EVERY) {
                waits_for_others = self.advance();
                looked = Instant::now();
            }
            self.planner.save_now_and_then();
            if self.working.is_empty() && !waits_for_others && !self.transfers() {
                break;
            }
            let message = match self.messages.try_recv() {
                Err(TryRecvError::Empty) if self.rest() => self.messages.recv_timeout(LOOK_EVERY),
                Err(TryRecvError::Empty) if waits_for_others => {
                    self.messages.recv_timeout(LOOK_EVERY.saturating_sub(looked.elapsed()))
                }
                Err(TryRecvError::Empty) => self.messages.recv().map_err(RecvTimeoutError::from),
                received => received.map_err(|_| RecvTimeoutError::Disconnected),
            };
            is_news = matches!(message, Ok(Message::Ended { .. } | Message::Fetched { .. }));
            match message {
                Ok(Message::Event { stage, event }) => self.hear(stage, event),
                Ok(Message::Ended { stage, end }) => self.end(stage, &end),
                Ok(Message::Fetched { stage, result }) => self.fetched(stage, result),
                Ok(Message::Pushed { stage, fingerprint, result }) => self.pushed(stage, fingerprint, result),
                Ok(Message::Queued { stage, queued }) => self.queued(stage, &queued),
                Ok(Message::Requeued { stage, why }) => self.requeued(stage, &why),
                Ok(Message::Trouble(error)) => self.tell(&RunEvent::trouble(&error)),
                Ok(Message::Interrupted) => {
                    self.interrupt();
                    waits_for_others = false;
                }
                Ok(Message::Answered(answer)) => self.answered(answer),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => unreachable!("this run holds a sender itself"),
            }
        }
        if self.is_asking || self.stopping == Some(Outcome::Interrupted) {
            self.tell(&RunEvent::Interrupted { tally: self.tally });
            return Outcome::Interrupted;
        }
        self.skip_the_rest();
        let seconds = started.elapsed().as_secs_f64();
        self.tell(&RunEvent::Finished { seconds, tally: self.tally });
        if self.tally.failed > 0 { Outcome::Failed } else { Outcome::Done }
    }

    /// Decides and starts all that can be decided and started now. Says whether anything waits for another run.
    fn advance(&mut self) -> bool {
        let mut waits_for_others = false;
        // What is found there when it is about to start or to be fetched, or damaged, makes others decidable.
        while self.may_start() {
            while let Some(at) = self.undecided.pop_first() {
                if self.states[at] == State::Waiting {
                    match self.inputs_of(at) {
                        Inputs::Awaited => {}
                        Inputs::There => self.decide(at),
                        Inputs::Lost(lost) => self.skip(at, Some(lost)),
                    }
                }
            }
            waits_for_others = self.start_ready() | self.start_fetches();
            if self.undecided.is_empty() {
                break;
            }
        }
        waits_for_others && self.may_start()
    }

    /// Whether something more may start, or be decided about.
    fn may_start(&self) -> bool {
        self.stopping.is_none() && !self.is_asking
    }

    /// Notes where a stage stands, which may decide about it and about those that read it.
    fn turn(&mut self, at: usize, state: State) {
        self.states[at] = state;
        self.undecided.insert(at);
        self.undecided.extend(&self.readers[at]);
    }

    fn inputs_of(&self, at: usize) -> Inputs {
        let inputs = || self.pipeline.stages[at].inputs.iter().map(|edge| edge.stage);
        match inputs().find(|input| matches!(self.states[*input], State::Failed | State::Skipped)) {
            Some(lost) => Inputs::Lost(lost),
            None if inputs().all(|input| self.contents[input].is_some()) => Inputs::There,
            None => Inputs::Awaited,
        }
    }

    /// Decides about a stage whose inputs are there.
    fn decide(&mut self, at: usize) {
        let decision = self.planner.decide(at, &self.contents);
        self.tell_troubles();
        match decision {
            Ok(Decision::Cached(manifest)) => self.cached(at, &manifest),
            Ok(Decision::Remote { manifest, .. }) => self.found_elsewhere(at, *manifest),
            Ok(Decision::Run { key, reasons }) => {
                self.states[at] = State::Running;
                self.awaits_inputs(at);
                self.put_off(Ready { stage: at, key, reasons, told: false });
            }
            Ok(Decision::Waits { .. }) => unreachable!("all inputs are there"),
            Err(error) => self.failed(at, &error.into(), None, 0.0),
        }
    }

    fn skip(&mut self, at: usize, lost: Option<usize>) {
        self.turn(at, State::Skipped);
        self.tally.skipped += 1;
        let name = |at: usize| self.pipeline.stages[at].name.as_str();
        let (stage, needs) = (name(at), lost.map(name));
        self.tell(&RunEvent::Skipped { stage, index: at, needs });
    }

    fn cached(&mut self, at: usize, manifest: &Manifest) {
        let stage = &self.pipeline.stages[at];
        if let Err(error) = self.settle(at, State::Cached, manifest) {
            return self.failed(at, &error.into(), None, 0.0);
        }
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
        self.push(at, manifest);
    }

    /// Notes that a stage's artifact is there. That its name can't be noted is an error only where it was just made: what a
    /// store holds can be used without the right to write there.
    fn settle(&mut self, at: usize, state: State, manifest: &Manifest) -> Result<()> {
        let name = &self.pipeline.stages[at].name;
        let named = self.store.set_latest(&self.owner, name, &manifest.key.kind, manifest.fingerprint);
        if state != State::Cached {
            named?;
        }
        self.store.forget_end(&self.owner, name);
        self.contents[at] = Some(manifest.content);
        self.fingerprints[at] = Some(manifest.fingerprint);
        self.turn(at, state);
        Ok(())
    }
}
