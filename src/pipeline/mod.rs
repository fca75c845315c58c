//! The pipeline file: [`include`] reads it with the files it names ([`values`], [`places`]), [`draft`] takes it as written, [`vars`] and [`gather`]
//! expand it, [`check`] proves it sound.

mod check;
mod draft;
mod gather;
mod graph;
mod include;
mod mistake;
mod places;
pub(crate) mod plain;
mod reference;
mod resources;
mod schema;
mod source;
mod spelling;
mod substitute;
mod typed;
mod values;
mod vars;
mod yaml;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use bam_contract::external::External;
use bam_contract::fault::{Fault, closest};
use bam_contract::stage::StageSpec;

use crate::hub::{Hub, Repository};
use crate::remote::Location;
use draft::Draft;
pub(crate) use draft::did_you_mean;
pub(crate) use mistake::{Mistake, Mistakes};
pub(crate) use reference::reference;
pub(crate) use resources::{Gpus, Resources};
pub(crate) use schema::{drop_formats, schema};
pub(crate) use source::{Place, Source};
use vars::Origin;
pub(crate) use vars::family_of;

/// The pipeline file that is meant where none is named.
pub(crate) const DEFAULT_FILE: &str = "pipeline.yaml";

/// A sound pipeline: every reference leads to a stage that stands before, and makes what is wanted.
#[derive(Debug)]
pub(crate) struct Pipeline {
    pub(crate) name: String,
    /// The pipeline file, by its absolute path.
    pub(crate) file: PathBuf,
    pub(crate) stages: Vec<Stage>,
    /// Where artifacts are shared, by the file.
    pub(crate) remote: Option<Location>,
    /// Stages asked for by name; none if no names were given.
    named: BTreeSet<usize>,
    source: Source,
}

#[derive(Clone, Debug)]
pub(crate) struct Stage {
    pub(crate) name: String,
    pub(crate) spec: StageSpec,
    pub(crate) inputs: Vec<Edge>,
    pub(crate) externals: Vec<External>,
    /// The repository of the hub that they are of, where they are.
    pub(crate) repository: Option<Repository>,
    pub(crate) resources: Resources,
    /// How many stages its line in the file stands for, itself among them.
    pub(crate) siblings: usize,
    origin: Origin,
}

impl Stage {
    /// Its name as written, `teacher@task`, which may stand for several.
    pub(crate) fn written(&self) -> &str {
        &self.origin.written
    }

    /// What it reads of the hub, if some of it is still to be fetched: till then its key isn't known.
    pub(crate) fn unfetched(&self) -> Option<&Repository> {
        self.repository.as_ref().filter(|repository| !repository.lacks.is_empty())
    }
}

/// What a stage reads from another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Edge {
    /// The input's name in the key.
    pub(crate) slot: String,
    /// Index of the stage that makes it.
    pub(crate) stage: usize,
}

impl Pipeline {
    /// Reads and checks a pipeline file, with `--set` arguments applied.
    ///
    /// # Errors
    /// [`Mistakes`], with all that is wrong.
    pub(crate) fn load(file: &Path, overrides: &[String]) -> Result<Self> {
        Self::load_with(file, overrides, &Hub::from_env(false))
    }

    /// The same, with what the cache of this hub has.
    pub(crate) fn load_with(file: &Path, overrides: &[String], hub: &Hub) -> Result<Self> {
        let (draft, mut mistakes) = Draft::read(file, overrides)?;
        let sketches = vars::expand(&draft, &mut mistakes);
        let stages = check::check(&draft, sketches, hub, &mut mistakes);
        let remote = remote(&draft, &mut mistakes);
        if !mistakes.list.is_empty() {
            return Err(mistakes.sorted().into());
        }
        // A pipe has no path that stays.
        let file = fs::canonicalize(file).or_else(|_| std::path::absolute(file));
        let file = file.with_context(|| "finding the folder of the pipeline file")?;
        Ok(Self { name: draft.name, file, stages, remote, named: BTreeSet::new(), source: mistakes.source })
    }

    /// Keeps the named stages, or families of stages, and all that they need; with `downstream`, all that is made from
    /// them too. No names stand for all stages.
    pub(crate) fn only(mut self, targets: &[String], downstream: bool) -> Result<Self> {
        if targets.is_empty() {
            return Ok(self);
        }
        let mut wanted = self.find_all(targets)?;
        let named = wanted.clone();
        if downstream {
            for (at, stage) in self.stages.iter().enumerate() {
                if stage.inputs.iter().any(|edge| wanted.contains(&edge.stage)) {
                    wanted.insert(at);
                }
            }
        }
        for at in (0..self.stages.len()).rev() {
            if wanted.contains(&at) {
                wanted.extend(self.stages[at].inputs.iter().map(|edge| edge.stage));
            }
        }
        let kept: Vec<usize> = wanted.into_iter().collect();
        let renumber = |old: usize| kept.binary_search(&old).expect("what a kept stage needs is kept");
        self.stages = kept.iter().map(|at| self.stages[*at].clone()).collect();
        for edge in self.stages.iter_mut().flat_map(|stage| &mut stage.inputs) {
            edge.stage = renumber(edge.stage);
        }
        self.named = named.into_iter().map(renumber).collect();
        Ok(self)
    }

    /// What is to be fetched of the hub next, once for each repository.
    pub(crate) fn unfetched(&self) -> Vec<Repository> {
        let mut repositories: Vec<Repository> = Vec::new();
        for wanted in self.stages.iter().filter_map(Stage::unfetched) {
            match repositories.iter_mut().find(|repository| repository.reference == wanted.reference) {
                Some(repository) => repository.merge(wanted.clone()),
                None => repositories.push(wanted.clone()),
            }
        }
        repositories
    }

    /// Whether a stage's artifact is what a run is for, and not only a step on the way: it was asked for by name, or
    /// nothing reads it.
    pub(crate) fn is_goal(&self, at: usize) -> bool {
        let is_read = || self.stages.iter().any(|stage| stage.inputs.iter().any(|edge| edge.stage == at));
        self.named.contains(&at) || !is_read()
    }

    /// The stages of those names and families.
    pub(crate) fn find_all(&self, names: &[String]) -> Result<BTreeSet<usize>> {
        names
            .iter()
            .map(|name| self.find(name))
            .collect::<Result<Vec<_>>>()
            .map(|found| found.concat().into_iter().collect())
    }

    /// The stage of that name, or all of that family, or of a part of it: `teacher@rte`, `teacher@*@1`.
    pub(crate) fn find(&self, target: &str) -> Result<Vec<usize>> {
        let chosen = |same: fn(&str, &str) -> bool| -> Vec<usize> {
            let is_chosen = |at: &usize| {
                let mut parts = self.stages[*at].name.split('@');
                target.split('@').all(|wanted| parts.next().is_some_and(|part| wanted == "*" || same(wanted, part)))
            };
            (0..self.stages.len()).filter(is_chosen).collect()
        };
        let mut found = chosen(|wanted, part| wanted == part);
        if found.is_empty() {
            found = chosen(spelling::alike);
        }
        if found.is_empty() {
            let names = self.stages.iter().flat_map(|stage| [stage.name.as_str(), family_of(&stage.name)]);
            let hint = match closest(target, names) {
                Some(near) => did_you_mean(near),
                None => "`bam plan` lists the stages".to_owned(),
            };
            return Err(Fault::new(format!("`{}` has no stage `{target}`", self.source.file), hint).into());
        }
        Ok(found)
    }

    /// Where a parameter's value is written, as `pipeline.yaml:3:74`; `None` for a default.
    pub(crate) fn place_of(&self, stage: usize, param: &str) -> Option<String> {
        let at: Vec<String> = param.split('.').map(ToOwned::to_owned).collect();
        let origin = &self.stages[stage].origin;
        if origin.holds(&self.source, &at) {
            return Some(self.source.show(&origin.value(&self.source, &at)));
        }
        let seed = ["seed".to_owned()];
        let is_default_seed = at.last() == seed.last() && self.source.holds(&seed);
        is_default_seed.then(|| self.source.show(&self.source.value(&seed)))
    }
}

/// Where artifacts are shared, if the file says so. An empty text, as from `${env:NAME:-}`, says nothing.
fn remote(draft: &Draft, mistakes: &mut Mistakes) -> Option<Location> {
    let text = vars::text_of("remote", draft.remote.as_ref()?, draft, mistakes)?;
    let place = mistakes.source.value(&["remote".to_owned()]);
    Location::parse(&text).map_err(|fault| mistakes.add(place, fault.to_string(), Some(fault.hint().to_owned()))).ok()
}
