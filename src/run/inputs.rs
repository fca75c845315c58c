//! What a stage reads: held while it runs, and verified before.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use bam_contract::digest::Fingerprint;
use bam_contract::fault::Fault;
use bam_contract::job::JobInput;
use bam_contract::manifest::Key;

use super::{FileStamps, Run, State};
use crate::fingerprint::Stamp;
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

    /// An input that is not what was committed. Its bytes are read once a run; after that it is looked at.
    pub(super) fn damaged_input(&mut self, at: usize) -> Result<Option<usize>> {
        for edge in &self.pipeline.stages[at].inputs {
            let fingerprint = self.fingerprints[edge.stage].expect("a stage starts when its inputs are there");
            let kind = self.pipeline.stages[edge.stage].spec.kind().name;
            let is_read = self.read.contains(&fingerprint);
            match if is_read { self.store.find(kind, fingerprint)? } else { self.store.verify(kind, fingerprint)? } {
                Found::Sound(_) => drop(self.read.insert(fingerprint)),
                Found::Absent | Found::Damaged(_) => return Ok(Some(edge.stage)),
            }
        }
        Ok(None)
    }

    /// What the file system says of each file that a stage reads; nothing of those that are gone.
    pub(super) fn stamps_of(&self, at: usize) -> FileStamps {
        let stage = &self.pipeline.stages[at];
        let outside = stage.externals.iter().map(|file| file.path.clone());
        let inputs = stage.inputs.iter().flat_map(|edge| {
            let fingerprint = self.fingerprints[edge.stage].expect("a stage runs when its inputs are there");
            self.store.files_of(self.pipeline.stages[edge.stage].spec.kind().name, fingerprint)
        });
        let stamp = |path: PathBuf| {
            let stamp = fs::metadata(&path).ok().map(|metadata| Stamp::of(&metadata));
            (path, stamp)
        };
        outside.chain(inputs).map(stamp).collect()
    }

    /// What a worker read may not be what was hashed before it started, maybe an hour ago; nor what lies there since it
    /// ended, where a file was changed and put back. `stamps` are those from before it started.
    pub(super) fn unchanged_since(&mut self, at: usize, key: &Key, stamps: &FileStamps) -> Result<()> {
        if let Some(path) = self.planner.changed_since(at, key)? {
            let what = format!("`{}` changed while the stage ran", path.display());
            return Err(Fault::new(what, "run again; the change is seen then").into());
        }
        for edge in &self.pipeline.stages[at].inputs {
            let source = &self.pipeline.stages[edge.stage];
            let fingerprint = self.fingerprints[edge.stage].expect("a stage runs when its inputs are there");
            if !matches!(self.store.find(source.spec.kind().name, fingerprint)?, Found::Sound(_)) {
                let what = format!("its input `{}` changed while the stage ran", source.name);
                return Err(Fault::new(what, "a stage may write to its own output alone; run again to mend it").into());
            }
        }
        let now = self.stamps_of(at);
        if let Some((path, _)) = stamps.iter().find(|(path, stamp)| now.get(*path) != Some(*stamp)) {
            let what = format!("`{}` was written while the stage ran", self.store.shown(path).display());
            return Err(Fault::new(what, "it may have read something else than lies there now; run again").into());
        }
        Ok(())
    }

    /// Goes back to a stage whose artifact turned out to be damaged or gone, and then to the one that reads it.
    pub(super) fn make_again(&mut self, reader: usize, input: usize) {
        match self.states[input] {
            State::Cached => self.tally.cached -= 1,
            State::Ran => self.tally.ran -= 1,
            State::Fetched => self.tally.fetched -= 1,
            _ => {}
        }
        self.contents[input] = None;
        for at in [reader, input] {
            self.turn(at, State::Waiting);
        }
        if let Some(fingerprint) = self.fingerprints[input] {
            self.read.remove(&fingerprint);
        }
    }
}
