//! What each stage of a pipeline needs: nothing, a run, or to wait for what it reads.

use std::path::Path;

use anyhow::Result;
use bam_contract::digest::Digest;
use bam_contract::manifest::{Key, Manifest};

use crate::fingerprint::{self, Digests};
use crate::pipeline::Pipeline;
use crate::reason::{Reason, differences};
use crate::store::{Found, Store};

#[derive(Debug)]
pub(crate) enum Decision {
    /// Its artifact is there.
    Cached(Box<Manifest>),
    Run {
        key: Key,
        reasons: Vec<Reason>,
    },
    /// Stages that it reads run first. It is cached if their bytes stay the same, unless `reasons` are known already.
    Waits {
        on: Vec<usize>,
        reasons: Vec<Reason>,
    },
}

/// A pipeline's decisions, by stage.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) decisions: Vec<Decision>,
    /// Seconds each stage took when it last ran.
    pub(crate) last_secs: Vec<Option<f64>>,
}

/// Decides about stages, by what the store holds and what lies outside it.
#[derive(Debug)]
pub(crate) struct Planner<'a> {
    pipeline: &'a Pipeline,
    store: &'a Store,
    digests: Digests,
}

impl<'a> Planner<'a> {
    pub(crate) fn new(pipeline: &'a Pipeline, store: &'a Store) -> Self {
        Self { pipeline, store, digests: store.load_digests() }
    }

    /// Remembers the digests of the files that were read.
    pub(crate) fn finish(&self) -> Result<()> {
        self.store.save_digests(&self.digests)
    }

    /// A file that a stage reads and that is no longer what its key says.
    pub(crate) fn changed_since(&mut self, at: usize, key: &Key) -> Result<Option<&'a Path>> {
        for file in &self.pipeline.stages[at].externals {
            if key.external.get(&file.slot) != Some(&self.digests.of(&file.path)?) {
                return Ok(Some(&file.path));
            }
        }
        Ok(None)
    }

    /// The plan as things stand.
    pub(crate) fn plan(&mut self) -> Result<Plan> {
        let mut contents: Vec<Option<Digest>> = Vec::new();
        let mut plan = Plan { decisions: Vec::new(), last_secs: Vec::new() };
        for (at, stage) in self.pipeline.stages.iter().enumerate() {
            let decision = self.decide(at, &contents)?;
            let (content, last_secs) = if let Decision::Cached(manifest) = &decision {
                (Some(manifest.content), Some(manifest.provenance.wall_secs))
            } else {
                let last = self.store.latest(&stage.name).and_then(|(_, manifest)| manifest);
                (None, last.map(|manifest| manifest.provenance.wall_secs))
            };
            contents.push(content);
            plan.last_secs.push(last_secs);
            plan.decisions.push(decision);
        }
        Ok(plan)
    }

    /// Decides about one stage, given the content of those artifacts that are there.
    pub(crate) fn decide(&mut self, at: usize, contents: &[Option<Digest>]) -> Result<Decision> {
        let stage = &self.pipeline.stages[at];
        let known: Option<Vec<Digest>> = stage.inputs.iter().map(|edge| contents[edge.stage]).collect();
        let Some(known) = known else {
            let mut on: Vec<usize> =
                stage.inputs.iter().map(|edge| edge.stage).filter(|input| contents[*input].is_none()).collect();
            on.sort_unstable();
            on.dedup();
            let reasons = self.sure_reasons(at, contents)?;
            return Ok(Decision::Waits { on, reasons });
        };
        let key = fingerprint::key(stage, &known, &mut self.digests)?;
        Ok(match self.store.find(&key.kind, key.fingerprint()) {
            Found::Sound(manifest) => Decision::Cached(manifest),
            Found::Damaged(how) => Decision::Run { key, reasons: vec![Reason::Damaged { how }] },
            Found::Absent => Decision::Run { reasons: self.reasons(at, &key), key },
        })
    }

    fn reasons(&self, at: usize, key: &Key) -> Vec<Reason> {
        match self.store.latest(&self.pipeline.stages[at].name) {
            None => vec![Reason::NeverRan],
            Some((_, Some(last))) if last.key != *key => self.differences(at, &last.key, key),
            Some(_) => vec![Reason::Missing],
        }
    }

    /// Reasons that hold whatever the inputs that are still awaited will be.
    fn sure_reasons(&mut self, at: usize, contents: &[Option<Digest>]) -> Result<Vec<Reason>> {
        let stage = &self.pipeline.stages[at];
        let last = match self.store.latest(&stage.name) {
            None => return Ok(vec![Reason::NeverRan]),
            Some((_, None)) => return Ok(vec![Reason::Missing]),
            Some((_, Some(last))) => last,
        };
        // An input that is awaited is taken to stay as it was.
        let before = |slot: &str| last.key.inputs.get(slot).copied().unwrap_or_else(|| Digest::of(b""));
        let assumed = stage.inputs.iter().map(|edge| contents[edge.stage].unwrap_or_else(|| before(&edge.slot)));
        let key = fingerprint::key(stage, &assumed.collect::<Vec<_>>(), &mut self.digests)?;
        // The very key may have an older artifact, when a change was taken back.
        if matches!(self.store.find(&key.kind, key.fingerprint()), Found::Sound(_)) {
            return Ok(Vec::new());
        }
        Ok(self.differences(at, &last.key, &key))
    }

    fn differences(&self, at: usize, old: &Key, new: &Key) -> Vec<Reason> {
        let stage = &self.pipeline.stages[at];
        let input = |slot: &str| {
            let edge = stage.inputs.iter().find(|edge| edge.slot == slot)?;
            Some(self.pipeline.stages[edge.stage].name.clone())
        };
        differences(old, new, &|param| self.pipeline.place_of(at, param), &input)
    }
}

impl Plan {
    /// Seconds that the stages which run, or may run, took before; and how many of them have never run.
    pub(crate) fn estimate(&self) -> (f64, usize) {
        let to_run = self.decisions.iter().zip(&self.last_secs);
        let to_run = to_run.filter(|(decision, _)| !matches!(decision, Decision::Cached(_))).map(|(_, secs)| *secs);
        to_run.fold((0.0, 0), |(sum, unknown), secs| match secs {
            Some(secs) => (sum + secs, unknown),
            None => (sum, unknown + 1),
        })
    }
}
