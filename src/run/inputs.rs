//! What a stage reads: held while it runs, and verified before.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use bam_contract::digest::Fingerprint;
use bam_contract::job::JobInput;

use super::{Run, State};
use crate::pipeline::Edge;
use crate::store::{Asked, Found, Lock};

impl Run<'_, '_> {
    pub(super) fn input(&self, edge: &Edge) -> JobInput {
        let made = "a stage starts when its inputs are there";
        let source = &self.pipeline.stages[edge.stage];
        JobInput {
            slot: edge.slot.clone(),
            stage: source.name.clone(),
            path: self.store.folder(source.spec.kind().name, self.fingerprints[edge.stage].expect(made)),
            digest: self.contents[edge.stage].expect(made),
        }
    }

    /// Keeps what a stage reads from being removed, or made again, while it runs. One that is being made again at the moment
    /// makes the stage wait.
    pub(super) fn hold_inputs(&self, at: usize) -> Result<Asked<Vec<Lock>>> {
        let edges = &self.pipeline.stages[at].inputs;
        let inputs: BTreeSet<Fingerprint> = edges.iter().filter_map(|edge| self.fingerprints[edge.stage]).collect();
        let mut locks = Vec::new();
        for fingerprint in inputs {
            match self.store.share(fingerprint).context("holding its inputs")? {
                Asked::Held(lock) => locks.push(lock),
                Asked::Busy(holder) => return Ok(Asked::Busy(holder)),
            }
        }
        Ok(Asked::Held(locks))
    }

    /// An input whose bytes are not those that were committed. Each is read once a run.
    pub(super) fn damaged_input(&mut self, at: usize) -> Option<usize> {
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
    pub(super) fn make_again(&mut self, reader: usize, input: usize) {
        if self.states[input] == State::Cached {
            self.tally.cached -= 1;
        }
        for at in [reader, input] {
            self.states[at] = State::Waiting;
        }
        self.contents[input] = None;
    }
}
