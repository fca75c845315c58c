//! How a stage that is ready starts.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::Result;
use bam_contract::digest::Fingerprint;
use bam_contract::fault::hint_of;
use bam_contract::job::Job;
use bam_contract::manifest::Key;
use bam_contract::stage::StageSpec;

use super::schedule::{Grant, Last, chains};
use super::{Order, Ready, Run, RunEvent, State, Working};
use crate::executor::Launch;
use crate::plan::last_of;
use crate::reason::Reason;
use crate::store::{Asked, Found, Lock};

impl Run<'_, '_> {
    /// Starts what can start, the beginnings of long chains first. Says whether a stage waits for another run's.
    pub(super) fn start_ready(&mut self) -> Result<bool> {
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
            let inputs = match self.hold_inputs(ready.stage)? {
                Asked::Held(inputs) => inputs,
                Asked::Busy(holder) => {
                    self.capacity.give_back(grant);
                    waits_for_others |= self.wait(ready, &holder);
                    continue;
                }
            };
            match self.store.lock(ready.key.fingerprint())? {
                Asked::Held(lock) => self.start(ready, grant, lock, inputs)?,
                Asked::Busy(holder) => {
                    self.capacity.give_back(grant);
                    waits_for_others |= self.wait(ready, &holder);
                }
            }
        }
        Ok(waits_for_others)
    }

    /// Puts off a stage of which the artifact, or one that it reads, is being made; says whether another process does it,
    /// and not this one under another stage's name.
    fn wait(&mut self, mut ready: Ready, holder: &str) -> bool {
        let inputs = &self.pipeline.stages[ready.stage].inputs;
        let reads = |made: Fingerprint| inputs.iter().any(|edge| self.fingerprints[edge.stage] == Some(made));
        let is_own = self.working.values().any(|working| working.key == ready.key || reads(working.key.fingerprint()));
        if !is_own && !ready.told {
            ready.told = true;
            let stage = &self.pipeline.stages[ready.stage].name;
            self.tell(&RunEvent::Waiting { stage, index: ready.stage, holder });
        }
        self.ready.push(ready);
        !is_own
    }

    fn start(&mut self, ready: Ready, grant: Grant, lock: Lock, inputs: Vec<Lock>) -> Result<()> {
        let Ready { stage: at, key, reasons, .. } = ready;
        let stage = &self.pipeline.stages[at];
        let fingerprint = key.fingerprint();
        match self.store.find(&key.kind, fingerprint) {
            Found::Absent => {}
            Found::Sound(_) if reasons.contains(&Reason::Forced) => {}
            // Another stage of the same key has made it meanwhile, or another run.
            Found::Sound(manifest) => {
                self.capacity.give_back(grant);
                // What reads it can go on now.
                self.decide_again = true;
                return self.cached(at, &manifest);
            }
            Found::Damaged(_) => self.set_aside(at, &key.kind, fingerprint)?,
        }
        if let Some(lack) = self.capacity.lacks(stage) {
            let text = format!("it asks for {lack}, and runs with what there is");
            self.tell(&RunEvent::Warning { stage: &stage.name, text: &text });
        }
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
