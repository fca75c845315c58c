//! What each stage of a pipeline needs: nothing, a run, or to wait for what it reads.

mod elsewhere;

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;
use bam_contract::digest::Digest;
use bam_contract::external::External;
use bam_contract::manifest::{Key, Manifest};
use bam_contract::stage::StageSpec;
use serde_json::Value;

use crate::fingerprint::{self, Digests};
use crate::pipeline::{Edge, Pipeline};
use crate::reason::{Reason, differences};
use crate::remote::Remote;
use crate::run::{Last, Limits, makespan};
use crate::store::{Found, Owner, Store};
pub(crate) use elsewhere::Elsewhere;

#[derive(Debug)]
pub(crate) enum Decision {
    /// Its artifact is there.
    Cached(Box<Manifest>),
    /// Its artifact is in the remote. It comes here only if it is needed.
    Remote {
        manifest: Box<Manifest>,
        needed: Needed,
    },
    Run {
        key: Key,
        reasons: Vec<Reason>,
    },
    /// Stages that it reads run first, or files of a hub are to be fetched. It is cached if the bytes turn out to be
    /// known, unless `reasons` are known already.
    Waits {
        on: Vec<usize>,
        reasons: Vec<Reason>,
    },
}

/// Whether a stage's files must be here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Needed {
    No,
    /// A stage reads them that may run.
    Maybe,
    /// A stage reads them that runs, or they are what the run is for.
    Yes,
}

/// A pipeline's decisions, by stage.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) decisions: Vec<Decision>,
    /// What each stage took when it last ran.
    pub(crate) last: Vec<Option<Last>>,
    /// Whether what is in the remote can be fetched.
    pub(crate) is_online: bool,
}

/// Decides about stages, by what the store holds and what lies outside it.
#[derive(Debug)]
pub(crate) struct Planner<'a> {
    pipeline: &'a Pipeline,
    owner: Owner,
    store: &'a Store,
    digests: Digests,
    /// Stages that run though their artifacts are there.
    forced: BTreeSet<usize>,
    /// Keys of what the store has, by kind; read when a stage waits for others.
    stored: HashMap<String, Vec<Key>>,
    elsewhere: Elsewhere<'a>,
    /// When what was read was last remembered.
    saved: Instant,
}

/// How often a run remembers what it has read.
const SAVE_EVERY: Duration = Duration::from_secs(1);

impl<'a> Planner<'a> {
    pub(crate) fn new(pipeline: &'a Pipeline, store: &'a Store, forced: BTreeSet<usize>) -> Self {
        let (digests, stored, elsewhere) = (store.load_digests(), HashMap::new(), Elsewhere::new(store));
        Self {
            owner: store.owner(&pipeline.file),
            pipeline,
            store,
            digests,
            forced,
            stored,
            elsewhere,
            saved: Instant::now(),
        }
    }

    /// Looks in a remote too for what the store lacks.
    pub(crate) fn with_remote(mut self, remote: Option<&'a Remote>) -> Self {
        self.elsewhere.set_remote(remote, true);
        self
    }

    /// Goes by what is known of a remote, without asking it.
    pub(crate) fn with_known(mut self, remote: Option<&'a Remote>) -> Self {
        self.elsewhere.set_remote(remote, false);
        self
    }

    pub(crate) fn elsewhere(&mut self) -> &mut Elsewhere<'a> {
        &mut self.elsewhere
    }

    /// Remembers what was read and verified, where that can be written.
    pub(crate) fn finish(&mut self) {
        self.store.save_digests(&mut self.digests);
        self.store.save_verified();
        self.saved = Instant::now();
    }

    /// Likewise, but not with every stage of many: what a `kill -9` loses is a moment's work.
    pub(crate) fn save_now_and_then(&mut self) {
        if self.saved.elapsed() > SAVE_EVERY {
            self.finish();
        }
    }

    /// Reads the files of a hub that weren't read before, which are held against its checksums then.
    pub(crate) fn read_hub_files(&mut self) -> Result<()> {
        let files = self.pipeline.stages.iter().flat_map(|stage| &stage.externals);
        for file in files.filter(|file| file.checksum.is_some()) {
            self.digests.of_external(file)?;
        }
        Ok(())
    }

    /// A file that a stage reads and that is no longer what its key says.
    pub(crate) fn changed_since(&mut self, at: usize, key: &Key) -> Result<Option<PathBuf>> {
        let stage = &self.pipeline.stages[at];
        // A folder that a program of the user's reads may hold others by now.
        if matches!(stage.spec, StageSpec::Exec(_)) {
            let now = stage.spec.external()?;
            let is_in = |files: &[External], file: &External| files.iter().any(|other| other.slot == file.slot);
            let added = now.iter().find(|file| !is_in(&stage.externals, file));
            if let Some(file) = added.or_else(|| stage.externals.iter().find(|file| !is_in(&now, file))) {
                return Ok(Some(file.path.clone()));
            }
        }
        for file in &self.pipeline.stages[at].externals {
            if key.external.get(&file.slot) != Some(&self.digests.of_external(file)?) {
                return Ok(Some(file.path.clone()));
            }
        }
        Ok(None)
    }

    /// The plan as things stand.
    pub(crate) fn plan(&mut self) -> Result<Plan> {
        let mut contents: Vec<Option<Digest>> = Vec::new();
        let mut made_by = HashMap::new();
        let mut plan = Plan { decisions: Vec::new(), last: Vec::new(), is_online: false };
        for at in 0..self.pipeline.stages.len() {
            let mut decision = self.decide(at, &contents)?;
            if let Decision::Run { key, .. } = &decision {
                // Of two stages with one key the second finds what the first has made.
                match made_by.entry(key.fingerprint()) {
                    Entry::Vacant(entry) => drop(entry.insert(at)),
                    Entry::Occupied(first) if !self.forced.contains(&at) => {
                        decision = Decision::Waits { on: vec![*first.get()], reasons: Vec::new() };
                    }
                    Entry::Occupied(_) => {}
                }
            }
            let (content, last) = match &decision {
                Decision::Cached(manifest) | Decision::Remote { manifest, .. } => {
                    (Some(manifest.content), Some(took(manifest)))
                }
                _ => (None, self.last_time(at, &contents)?),
            };
            contents.push(content);
            plan.last.push(last);
            plan.decisions.push(decision);
        }
        self.see_what_is_needed(&mut plan);
        plan.is_online = self.elsewhere.is_open();
        Ok(plan)
    }

    /// What a stage took when it last ran, held against what it is to do now.
    fn last_time(&mut self, at: usize, contents: &[Option<Digest>]) -> Result<Option<Last>> {
        let stage = &self.pipeline.stages[at];
        let Some(manifest) = last_manifest(self.store, &self.owner, &stage.name) else { return Ok(None) };
        let mut last = took(&manifest);
        if stage.unfetched().is_some() {
            return Ok(Some(last));
        }
        // An input that is awaited is taken to stay as it was.
        let mut before = manifest.key;
        let content = |edge: &Edge| {
            contents[edge.stage].or_else(|| before.inputs.get(&edge.slot).copied()).unwrap_or(Digest::of(b""))
        };
        let inputs: Vec<Digest> = stage.inputs.iter().map(content).collect();
        let key = fingerprint::key(stage, &inputs, &mut self.digests)?;
        let epochs = |key: &Key| key.params.get("epochs").and_then(Value::as_f64).filter(|epochs| *epochs > 0.0);
        if let (Some(old), Some(new)) = (epochs(&before), epochs(&key)) {
            last.factor = new / old;
            before.params["epochs"] = key.params["epochs"].clone();
        }
        last.is_of_other = (before.params, before.inputs, before.external) != (key.params, key.inputs, key.external);
        Ok(Some(last))
    }

    /// Finds which artifacts of the remote come here; those that can't come are made again, and need what they read.
    fn see_what_is_needed(&self, plan: &mut Plan) {
        for at in (0..plan.decisions.len()).rev() {
            let reads = match &plan.decisions[at] {
                Decision::Cached(_) | Decision::Remote { needed: Needed::No, .. } => continue,
                Decision::Remote { .. } if self.elsewhere.is_open() => continue,
                Decision::Waits { reasons, .. } if reasons.is_empty() => Needed::Maybe,
                Decision::Remote { needed, .. } => *needed,
                Decision::Run { .. } | Decision::Waits { .. } => Needed::Yes,
            };
            if let Decision::Remote { manifest, needed: Needed::Yes } = &plan.decisions[at] {
                let key = manifest.key.clone();
                plan.decisions[at] = Decision::Run { reasons: self.reasons(at, &key), key };
            }
            for edge in &self.pipeline.stages[at].inputs {
                if let Decision::Remote { needed, .. } = &mut plan.decisions[edge.stage] {
                    *needed = reads.max(*needed);
                }
            }
        }
    }

    /// Decides about one stage, given the content of those artifacts that are there.
    pub(crate) fn decide(&mut self, at: usize, contents: &[Option<Digest>]) -> Result<Decision> {
        let stage = &self.pipeline.stages[at];
        let known: Option<Vec<Digest>> = stage.inputs.iter().map(|edge| contents[edge.stage]).collect();
        let Some(known) = known.filter(|_| stage.unfetched().is_none()) else {
            let mut on: Vec<usize> =
                stage.inputs.iter().map(|edge| edge.stage).filter(|input| contents[*input].is_none()).collect();
            on.sort_unstable();
            on.dedup();
            let reasons = self.sure_reasons(at, contents)?;
            return Ok(Decision::Waits { on, reasons });
        };
        let key = fingerprint::key(stage, &known, &mut self.digests)?;
        let found = self.store.find(&key.kind, key.fingerprint())?;
        let is_wanted = !matches!(found, Found::Sound(_)) && !self.forced.contains(&at);
        if is_wanted && let Some(manifest) = self.find_elsewhere(at, &key, contents)? {
            let needed = if self.pipeline.is_goal(at) { Needed::Yes } else { Needed::No };
            // What can't be fetched is of use only where its files aren't needed.
            if self.elsewhere.is_open() || needed == Needed::No {
                return Ok(Decision::Remote { manifest, needed });
            }
        }
        Ok(match found {
            Found::Sound(_) if self.forced.contains(&at) => Decision::Run { key, reasons: vec![Reason::Forced] },
            Found::Sound(manifest) => Decision::Cached(manifest),
            Found::Damaged(how) => Decision::Run { key, reasons: vec![Reason::Damaged { how }] },
            Found::Absent => Decision::Run { reasons: self.reasons(at, &key), key },
        })
    }

    /// Looks in the remote for a stage's artifact, and, since asking takes its time, for those of the stages after it too
    /// whose keys are known.
    fn find_elsewhere(&mut self, at: usize, key: &Key, contents: &[Option<Digest>]) -> Result<Option<Box<Manifest>>> {
        if self.elsewhere.must_ask(key.fingerprint()) {
            let mut keys = Vec::new();
            for (at, stage) in self.pipeline.stages.iter().enumerate().skip(at) {
                let content = |edge: &Edge| contents.get(edge.stage).copied().flatten();
                let known: Option<Vec<Digest>> = stage.inputs.iter().map(content).collect();
                let is_open = !self.forced.contains(&at) && stage.unfetched().is_none();
                let Some(known) = known.filter(|_| is_open) else { continue };
                let key = fingerprint::key(stage, &known, &mut self.digests)?;
                if !self.store.folder(&key.kind, key.fingerprint()).exists() {
                    keys.push((key.kind.clone(), key.fingerprint()));
                }
            }
            keys.push((key.kind.clone(), key.fingerprint()));
            self.elsewhere.ask(keys);
        }
        Ok(self.elsewhere.find(key.fingerprint()))
    }

    fn reasons(&self, at: usize, key: &Key) -> Vec<Reason> {
        match self.store.last(&self.owner, &self.pipeline.stages[at].name) {
            None => vec![Reason::NeverRan],
            Some((_, Some(last))) if last.key != *key => self.differences(at, &last.key, key),
            Some(_) => vec![Reason::Missing],
        }
    }

    /// Reasons that hold whatever the inputs that are still awaited will be; none where an artifact in the store might
    /// turn out to be the stage's.
    fn sure_reasons(&mut self, at: usize, contents: &[Option<Digest>]) -> Result<Vec<Reason>> {
        let stage = &self.pipeline.stages[at];
        if self.forced.contains(&at) {
            return Ok(vec![Reason::Forced]);
        }
        if self.elsewhere.remote().is_some() || stage.unfetched().is_some() {
            // It may have been made, here or by others, whatever it will be; and that may be known even offline.
            return Ok(Vec::new());
        }
        let last = self.store.last(&self.owner, &stage.name);
        // An input that is awaited is taken to stay as it was.
        let last_key = last.as_ref().and_then(|(_, manifest)| manifest.as_ref()).map(|manifest| &manifest.key);
        let before = |slot: &str| last_key.and_then(|key| key.inputs.get(slot).copied()).unwrap_or(Digest::of(b""));
        let assumed = stage.inputs.iter().map(|edge| contents[edge.stage].unwrap_or_else(|| before(&edge.slot)));
        let key = fingerprint::key(stage, &assumed.collect::<Vec<_>>(), &mut self.digests)?;
        let known: Vec<&str> =
            stage.inputs.iter().filter(|edge| contents[edge.stage].is_some()).map(|edge| edge.slot.as_str()).collect();
        if self.stored(&key.kind).iter().any(|stored| might_be(stored, &key, &known)) {
            return Ok(Vec::new());
        }
        Ok(match last {
            None => vec![Reason::NeverRan],
            Some((_, Some(last))) if last.key != key => self.differences(at, &last.key, &key),
            Some(_) => vec![Reason::Missing],
        })
    }

    /// Keys of all artifacts of a kind that the store has.
    fn stored(&mut self, kind: &str) -> &[Key] {
        let store = self.store;
        self.stored
            .entry(kind.to_owned())
            .or_insert_with(|| store.all_of(kind).into_iter().map(|(_, manifest)| manifest.key).collect())
    }

    pub(crate) fn differences(&self, at: usize, old: &Key, new: &Key) -> Vec<Reason> {
        let stage = &self.pipeline.stages[at];
        let input = |slot: &str| {
            let edge = stage.inputs.iter().find(|edge| edge.slot == slot)?;
            Some(self.pipeline.stages[edge.stage].name.clone())
        };
        differences(old, new, &|param| self.pipeline.place_of(at, param), &input)
    }
}

/// Whether a stored key could be the one that `key` becomes once its inputs are all `known`.
fn might_be(stored: &Key, key: &Key, known: &[&str]) -> bool {
    stored.version == key.version
        && stored.params == key.params
        && stored.external == key.external
        && stored.inputs.keys().eq(key.inputs.keys())
        && known.iter().all(|slot| stored.inputs.get(*slot) == key.inputs.get(*slot))
}

/// What a stage took when it last ran.
pub(crate) fn last_of(store: &Store, owner: &Owner, stage: &str) -> Option<Last> {
    last_manifest(store, owner, stage).as_ref().map(took)
}

fn last_manifest(store: &Store, owner: &Owner, stage: &str) -> Option<Manifest> {
    // What another pipeline's stage of that name took is a better guess than none.
    store.last(owner, stage).or_else(|| store.latest(stage))?.1
}

fn took(manifest: &Manifest) -> Last {
    let made = &manifest.provenance;
    let (secs, peak_memory_bytes) = (made.wall_secs, made.peak_memory_bytes);
    Last { secs, peak_memory_bytes, factor: 1.0, is_of_other: false }
}

/// How long a run will take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Estimate {
    /// If all stages that run, or may run, take as long as the last time.
    pub(crate) secs: f64,
    /// How many of them have never run.
    pub(crate) unknown: usize,
    /// Whether the last time of any of them is of other settings.
    pub(crate) is_of_other: bool,
}

impl Plan {
    pub(crate) fn estimate(&self, pipeline: &Pipeline, limits: &Limits) -> Estimate {
        let is_there = |decision: &Decision| matches!(decision, Decision::Cached(_) | Decision::Remote { .. });
        let runs: Vec<bool> = self.decisions.iter().map(|decision| !is_there(decision)).collect();
        let unknown = runs.iter().zip(&self.last).filter(|(runs, last)| **runs && last.is_none()).count();
        let is_of_other =
            runs.iter().zip(&self.last).any(|(runs, last)| *runs && last.is_some_and(|last| last.is_of_other));
        Estimate { is_of_other, secs: makespan(pipeline, &runs, &self.last, limits), unknown }
    }
}
