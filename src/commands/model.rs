//! Which exported model a person means.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use bam_contract::artifact::onnx::GRAPH;
use bam_contract::fault::Fault;

use super::show;
use crate::exported::Exported;
use crate::store::Store;

const HINT: &str = "name an `export` stage that ran, the start of a fingerprint, or the folder of a `model.onnx`";

/// The folder of the model that is named by a stage, a fingerprint or a path. A stage's is the link that moves on when the stage
/// runs again.
pub(super) fn named(named: &str, store: &Store) -> Result<PathBuf> {
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
    let found = show::find(named, store).map_err(|error| match expanded(named, store) {
        stages if stages.is_empty() => error,
        stages => Fault::new(format!("no artifact `{named}`"), format!("there are {}", stages.join(", "))).into(),
    })?;
    exported(found.0, named)
}

/// Exported models of stages that a pipeline file makes of the one of this name, such as `onnx@int8` of `onnx`.
fn expanded(named: &str, store: &Store) -> Vec<String> {
    let is_of = |stage: &str| stage.strip_prefix(named).is_some_and(|rest| rest.starts_with('@'));
    let all = store.all().into_iter();
    let fitting = all.filter(|(folder, manifest)| is_of(&manifest.stage) && folder.join(GRAPH).is_file());
    let names: BTreeSet<String> = fitting.map(|(_, manifest)| format!("`{}`", manifest.stage)).collect();
    names.into_iter().collect()
}

fn exported(folder: PathBuf, named: &str) -> Result<PathBuf> {
    ensure!(
        folder.join(GRAPH).is_file(),
        Fault::new(format!("`{named}` is no exported model: it has no `{GRAPH}`"), HINT)
    );
    Ok(folder)
}

/// Where none is named: what the last run exported that ended well, and no stage refused.
pub(super) fn last(store: &Store) -> Result<Exported> {
    let last = Exported::last(store);
    last.ok_or_else(|| {
        let message = format!(
            "no run in `{}` that ended well has exported a model yet that no stage refused",
            store.root().display()
        );
        Fault::new(message, format!("say `-C DIR` or `--artifacts DIR` if it is elsewhere, or {HINT}")).into()
    })
}
