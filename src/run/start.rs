//! How a stage that is ready starts.

use std::collections::BTreeMap;
use std::fs;
use std::time::Instant;

use anyhow::Result;
use bam_contract::digest::Fingerprint;
use bam_contract::job::Job;
use bam_contract::manifest::Key;
use bam_contract::stage::StageSpec;

use super::schedule::{Grant, Last, by_chain, chains, ranks};
use super::{FileStamps, Order, Ready, Run, RunEvent, State, Working};
use crate::executor::{Launch, Needs};
use crate::plan::last_of;
use crate::reason::Reason;
use crate::store::{Asked, Found, Lock, Pending};

impl Run<'_, '_> {
    /// Starts what can start, the beginnings of long chains first. Says whether a stage waits for another run's.
    pub(super) fn start_ready(&mut self) -> bool {
        let mut waits_for_others = false;
        for rank in self.ready.keys().copied().collect::<Vec<_>>() {
            if !self.may_start() || self.capacity.is_exhausted() {
                break;
            }
            let Some(ready) = self.ready.remove(&rank) else { continue };
            let stage = &self.pipeline.stages[ready.stage];
            if stage.inputs.iter().any(|edge| self.contents[edge.stage].is_none()) {
                // What it reads turned out to be damaged, and is made again.
                self.turn(ready.stage, State::Waiting);
                continue;
            }
            if self.awaits_inputs(ready.stage) {
                self.put_off(ready);
                continue;
            }
            let peak = self.order().last[ready.stage].map(|last| last.peak_memory_bytes);
            let Some(grant) = self.capacity.take(stage, peak) else {
                self.put_off(ready);
                continue;
            };
            match self.hold(&ready) {
                Ok(Asked::Held((lock, inputs))) => {
                    let at = ready.stage;
                    if let Err(error) = self.start(ready, (grant, peak), lock, inputs) {
                        self.failed(at, &error.into(), None, 0.0);
                    }
                }
                // What others hold may be there already, and be read.
                Ok(Asked::Busy(holder)) => match self.store.find(&ready.key.kind, ready.key.fingerprint()) {
                    Ok(Found::Sound(manifest)) if !ready.reasons.contains(&Reason::Forced) => {
                        self.cached(ready.stage, &manifest);
                    }
                    _ => waits_for_others |= self.wait(ready, &holder),
                },
                Err(error) => self.failed(ready.stage, &error.into(), None, 0.0),
            }
        }
        waits_for_others
    }

    /// Has a stage wait for its turn.
    pub(super) fn put_off(&mut self, ready: Ready) {
        let rank = self.order().ranks[ready.stage];
        self.ready.insert(rank, ready);
    }

    fn order(&self) -> &Order {
        self.order.get_or_init(|| {
            let last: Vec<Option<Last>> =
                self.pipeline.stages.iter().map(|stage| last_of(self.store, &self.owner, &stage.name)).collect();
            let secs: Vec<Option<f64>> = last.iter().map(|last| last.map(|last| last.secs)).collect();
            Order { ranks: ranks(&by_chain(&chains(self.pipeline, &secs))), last }
        })
    }

    /// Locks what a stage reads and what it makes.
    fn hold(&self, ready: &Ready) -> Result<Asked<(Lock, Vec<Lock>)>> {
        let inputs = match self.hold_inputs(ready.stage)? {
            Asked::Held(inputs) => inputs,
            Asked::Busy(holder) => return Ok(Asked::Busy(holder)),
        };
        Ok(match self.store.lock(ready.key.fingerprint())? {
            Asked::Held(lock) => Asked::Held((lock, inputs)),
            Asked::Busy(holder) => Asked::Busy(holder),
        })
    }

    /// Puts off a stage of which the artifact, or one that it reads, is being made; says whether another process does it,
    /// and not this one under another stage's name.
    fn wait(&mut self, mut ready: Ready, holder: &str) -> bool {
        let reads = |at: usize, made: Fingerprint| {
            self.pipeline.stages[at].inputs.iter().any(|edge| self.fingerprints[edge.stage] == Some(made))
        };
        let wanted = ready.key.fingerprint();
        let is_own = self.working.iter().any(|(at, working)| {
            let made = working.key.fingerprint();
            made == wanted || reads(ready.stage, made) || reads(*at, wanted)
        });
        if !is_own && !ready.told {
            ready.told = true;
            let stage = &self.pipeline.stages[ready.stage].name;
            self.tell(&RunEvent::Waiting { stage, index: ready.stage, holder });
        }
        self.put_off(ready);
        !is_own
    }

    /// Starts a stage that has all it needs, unless its artifact was made meanwhile, or one it reads is damaged. Beside what
    /// it is given stands the memory that it took the last time, if it did.
    fn start(
        &mut self,
        ready: Ready,
        (grant, peak): (Grant, Option<u64>),
        lock: Lock,
        inputs: Vec<Lock>,
    ) -> Result<()> {
        let Ready { stage: at, key, reasons, .. } = ready;
        let stage = &self.pipeline.stages[at];
        let fingerprint = key.fingerprint();
        self.store.look_anew(&key.kind);
        match self.store.find(&key.kind, fingerprint)? {
            Found::Absent => {}
            Found::Sound(_) if reasons.contains(&Reason::Forced) => {}
            // Another stage of the same key has made it meanwhile, or another run.
            Found::Sound(manifest) => {
                self.cached(at, &manifest);
                return Ok(());
            }
            Found::Damaged(_) => self.set_aside(at, &key.kind, fingerprint)?,
        }
        if let Some(lack) = self.capacity.lacks(stage, peak) {
            let text = format!("it asks for {lack}, and runs with what there is");
            self.tell(&RunEvent::Warning { stage: &stage.name, text: &text });
        }
        if let Some(input) = self.damaged_input(at)? {
            self.make_again(at, input);
            return Ok(());
        }
        if matches!(stage.spec, StageSpec::Train(_)) {
            self.tell_unfinished(at, &key);
            self.store.note_resume(&stage.name, &key)?;
        }
        let left = self.store.left(fingerprint).into_iter().next();
        let is_adopted = left.is_some();
        let pending = match left {
            Some(attempt) => self.store.take_over(attempt, &key.kind, fingerprint, lock),
            None => self.store.begin(&key.kind, fingerprint, lock)?,
        };
        let limits = self.capacity.limits();
        let job = Job {
            stage: stage.name.clone(),
            pipeline: self.pipeline.file.clone(),
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
        let needs = Needs {
            stage: &stage.name,
            kind: &key.kind,
            memory_bytes: grant.memory_bytes,
            is_memory_known: grant.is_memory_known,
            gpus: grant.gpu_count,
            time: grant.time,
        };
        let launch = Launch { stage: at, program, job, log, threads: grant.threads, gpus, needs };
        let stamps = self.stamps_for(at, &pending, is_adopted)?;
        let worker = if is_adopted {
            self.executor.adopt(&launch, self.sender.clone())
        } else {
            self.executor.start(&launch, self.sender.clone())
        };
        let worker = match worker {
            Ok(worker) => worker,
            // An attempt that could not be adopted stays for who can.
            Err(error) => {
                self.failed(at, &error.into(), (!is_adopted).then_some(&pending), 0.0);
                return Ok(());
            }
        };
        pending.leave(self.executor.outlives());
        if is_adopted {
            self.tell(&RunEvent::Adopted { stage: &stage.name, index: at });
        }
        let (threads, gpus, name) = (grant.threads, &grant.gpus, &stage.name);
        self.tell(&RunEvent::Running { stage: name, index: at, fingerprint, threads, gpus, reasons: &reasons });
        let (metrics, last, started) = (BTreeMap::new(), None, Instant::now());
        let working = Working { key, reasons, pending, _inputs: inputs, grant, stamps, worker, started, metrics, last };
        self.working.insert(at, working);
        Ok(())
    }

    /// What the file system says of a stage's inputs before it starts; kept beside the attempt where another run may be the one
    /// to compare it, and taken from there where this is that run.
    fn stamps_for(&self, at: usize, pending: &Pending, is_adopted: bool) -> Result<FileStamps> {
        let kept = || serde_json::from_slice(&fs::read(pending.note()).ok()?).ok();
        if is_adopted && let Some(stamps) = kept() {
            return Ok(stamps);
        }
        let stamps = self.stamps_of(at);
        if self.executor.outlives() {
            pending.write_note(&serde_json::to_vec(&stamps)?)?;
        }
        Ok(stamps)
    }

    pub(super) fn set_aside(&mut self, at: usize, kind: &str, fingerprint: Fingerprint) -> Result<()> {
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
}
