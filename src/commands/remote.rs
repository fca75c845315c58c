//! The remote that a command goes by.

use anyhow::Result;
use bam_contract::fault::Fault;

use crate::cli::RemoteArgs;
use crate::pipeline::Pipeline;
use crate::remote::{Location, Remote};
use crate::store::Store;

/// What the command line or the environment names, else the pipeline file. An empty name is none.
pub(super) fn remote(
    args: &RemoteArgs,
    pipeline: &Pipeline,
    is_offline: bool,
    store: &Store,
) -> Result<Option<Remote>> {
    let location = match args.remote.as_deref() {
        Some("") => None,
        Some(text) => Some(Location::parse(text)?),
        None => pipeline.remote.clone(),
    };
    Ok(location.map(|location| Remote::new(location, is_offline, store)))
}

/// The same for commands that are about it.
pub(super) fn needed(args: &RemoteArgs, pipeline: &Pipeline, store: &Store) -> Result<Remote> {
    remote(args, pipeline, false, store)?.ok_or_else(|| {
        let hint = "give `--remote s3://bucket/prefix`, set `BAM_REMOTE`, or write `remote:` into the pipeline file";
        Fault::new("no remote is named", hint).into()
    })
}
