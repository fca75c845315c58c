//! Which exported model a person means.

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
    exported(show::find(named, store)?.0, named)
}

fn exported(folder: PathBuf, named: &str) -> Result<PathBuf> {
    ensure!(
        folder.join(GRAPH).is_file(),
        Fault::new(format!("`{named}` is no exported model: it has no `{GRAPH}`"), HINT)
    );
    Ok(folder)
}

/// Where none is named: what the last run exported that ended well, since its `score` may have refused another.
pub(super) fn last(store: &Store) -> Result<Exported> {
    let last = Exported::last(store);
    last.ok_or_else(|| Fault::new("no run that ended well has exported a model yet", HINT).into())
}
