//! Jobs of a cluster that no run goes on with as the pipeline stands now.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::jobs_of_any;
use crate::executor::Queued;
use crate::store::{Owner, Store};
use crate::ui::story::in_words;

/// What runs of the pipeline as it stands would go on with.
pub(super) struct Wanted {
    pub(super) attempts: Vec<PathBuf>,
    /// Stages of which it isn't known yet what they make: their inputs are to be made first.
    pub(super) open: BTreeSet<String>,
}

/// A job in the queue, or one that has ended.
pub(super) struct Behind {
    stage: String,
    attempt: PathBuf,
    /// Unless the queue says nothing of it.
    queued: Option<Queued>,
}

/// The jobs of a pipeline's stages that are not wanted, and that no process waits for.
pub(super) fn behind(wanted: &Wanted, store: &Store, owner: &Owner) -> Vec<Behind> {
    let mut left = store.left_of(owner);
    left.retain(|(attempt, stage)| !wanted.open.contains(stage) && !wanted.attempts.contains(attempt));
    let attempts: Vec<PathBuf> = left.iter().map(|(attempt, _)| attempt.clone()).collect();
    let mut jobs = jobs_of_any(&attempts);
    left.into_iter().map(|(attempt, stage)| Behind { stage, queued: jobs.remove(&attempt), attempt }).collect()
}

impl Behind {
    pub(super) fn line(&self, store: &Store) -> String {
        let job = match &self.queued {
            Some(queued) => in_words(queued),
            None => format!("a job of which the queue says nothing, in `{}`", store.shown(&self.attempt).display()),
        };
        format!(
            "left behind: {job}; it makes `{}` with other settings than now. A run goes on with it only under those; it ends \
             as jobs of the queue do (`scancel`)\n",
            self.stage
        )
    }

    pub(super) fn json(&self) -> Value {
        json!({"stage": self.stage, "attempt": self.attempt, "queued": self.queued})
    }
}
