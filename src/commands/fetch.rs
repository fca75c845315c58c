//! What `bam run` fetches of the Hugging Face hub before it runs anything.

use std::collections::BTreeSet;
use std::sync::mpsc::Receiver;

use anyhow::Result;
use bam_contract::fault::Fault;

use crate::executor::Message;
use crate::hub::{self, Hub};
use crate::pipeline::Pipeline;
use crate::plan::Planner;
use crate::run::{Observer, RunEvent};
use crate::store::Store;
use crate::ui;

/// Brings what the stages lack into the cache; says whether it came to its end, or was stopped.
pub(super) fn fetch(
    pipeline: &Pipeline,
    hub: &Hub,
    messages: &Receiver<Message>,
    observers: &mut [&mut dyn Observer],
) -> Result<bool> {
    let repositories = pipeline.unfetched();
    if let Some(repository) = repositories.first().filter(|_| hub.is_offline()) {
        let (first, more) = (&repository.lacks[0], repository.lacks.len() - 1);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let message = format!("`{}` is not in the cache: `{first}`{more}", repository.reference);
        let hint = format!(
            "run once without `--offline` and `HF_HUB_OFFLINE`, or bring it into `{}` from another machine",
            hub.folder_of_cache().display()
        );
        return Err(Fault::new(message, hint).into());
    }
    let is_stopped =
        || messages.try_iter().any(|message| matches!(message, Message::Interrupted | Message::Answered(_)));
    let end = hub::fetch(hub, repositories, is_stopped, observers);
    if !matches!(end, Ok(true)) {
        for observer in &mut *observers {
            observer.tell(&RunEvent::Abandoned);
        }
    }
    let is_done = end?;
    if !is_done {
        ui::story("interrupted: what has come of the hub is kept, and the next run goes on from there");
    }
    Ok(is_done)
}

/// Reads what comes of the hub and wasn't read before, so that a wrong byte is told before anything runs.
pub(super) fn read_all(pipeline: &Pipeline, store: &Store) -> Result<()> {
    if pipeline.stages.iter().all(|stage| stage.repository.is_none()) {
        return Ok(());
    }
    let mut planner = Planner::new(pipeline, store, BTreeSet::new());
    planner.read_hub_files()?;
    planner.finish();
    Ok(())
}

/// Says what nothing can be known of till it is fetched.
pub(super) fn warn_of_unfetched(pipeline: &Pipeline) {
    for repository in pipeline.unfetched() {
        let message =
            format!("`{}` is not fetched yet, and what is made from it can't be looked for", repository.reference);
        ui::error::warn(&Fault::new(message, "`bam run` fetches it").into());
    }
}

/// Says which commits the branches and tags stand for that stages name: a branch moves.
pub(super) fn warn_of_branches(pipeline: &Pipeline) {
    let repositories = pipeline.stages.iter().filter_map(|stage| stage.repository.as_ref());
    let unpinned = repositories.filter(|repository| !repository.reference.is_pinned()).map(|repository| {
        let commit = repository.folder.as_ref().and_then(|folder| folder.file_name()).unwrap_or_default();
        (&repository.reference, commit.to_string_lossy())
    });
    for (reference, commit) in unpinned.collect::<BTreeSet<_>>() {
        let message =
            format!("`{reference}` names no commit: `{}` was {commit} when it was fetched", reference.revision());
        let hint = format!("write `{}`, and everybody gets the same", reference.at(&commit));
        ui::error::warn(&Fault::new(message, hint).into());
    }
}
