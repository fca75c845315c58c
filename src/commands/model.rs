//! Which exported model a person means.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use bam_contract::artifact::ArtifactKind;
use bam_contract::artifact::onnx::GRAPH;
use bam_contract::fault::Fault;

use super::show;
use crate::run::Outcome;
use crate::store::Store;

const HINT: &str = "name an `export` stage that ran, the start of a fingerprint, or the folder of a `model.onnx`";

/// The folder of the model that is named by a stage, a fingerprint or a path; by default, what the last run exported that ended
/// well: its `score` may have refused another. A stage's is the link that moves on when the stage runs again.
pub(super) fn find(named: Option<&str>, store: &Store) -> Result<PathBuf> {
    let Some(named) = named else {
        return last_exported(store);
    };
    if store.latest(named).is_some() {
        return exported(store.latest_link(named), named);
    }
    let path = Path::new(named);
    if path.join(GRAPH).is_file() {
        return Ok(std::path::absolute(path)?);
    }
    if path.file_name().is_some_and(|name| name == GRAPH) && path.is_file() {
        return Ok(std::path::absolute(path)?.parent().unwrap_or(Path::new("/")).to_owned());
    }
    exported(show::find(named, store)?.0, named)
}

fn exported(folder: PathBuf, named: &str) -> Result<PathBuf> {
    ensure!(
        folder.join(GRAPH).is_file(),
        Fault::new(format!("`{named}` is no exported model: it has no `{GRAPH}`"), HINT)
    );
    Ok(folder)
}

fn last_exported(store: &Store) -> Result<PathBuf> {
    let is_export = |stage: &str| {
        let manifest = store.latest(stage)?.1?;
        (manifest.artifact == ArtifactKind::OnnxModel).then(|| store.latest_link(stage))
    };
    let of_run = |run: &serde_json::Value| {
        let stages = run["stages"].as_array()?.iter().rev();
        stages.filter_map(|stage| stage["stage"].as_str()).find_map(is_export)
    };
    let ended_well = |run: &serde_json::Value| run["outcome"] == Outcome::Done.name();
    let found = store.runs().filter(ended_well).find_map(|run| of_run(&run));
    found.ok_or_else(|| Fault::new("no run that ended well has exported a model yet", HINT).into())
}
