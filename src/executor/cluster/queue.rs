//! What a queue must be able to do so that stages can be jobs of it. All else is the same for every queue.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::Queued;
use super::ask::Ask;
use super::files::Files;
use super::job::JobId;
use super::program::{Answer, Words};

pub(super) trait Queue: Send {
    /// How jobs that are due are divided into submissions, each a list of places in `asks`.
    fn divide(&self, asks: &[&Ask]) -> Vec<Vec<usize>> {
        (0..asks.len()).map(|at| vec![at]).collect()
    }

    /// Submits jobs in one go, under a name that nothing else has. Says by what each is known, in their order.
    fn submit(&self, name: &str, members: &[Member<'_>]) -> Result<Vec<JobId>, Refusal>;

    /// What a job's script begins with.
    fn prelude(&self, _: &Files) -> String {
        String::new()
    }

    /// What is run to learn how these jobs stand.
    fn questions(&self, jobs: &[JobId]) -> Vec<Words>;

    /// What the answers say of them, in the order of the questions: the jobs that the queue knows.
    fn read(&self, jobs: &[JobId], answers: &[Answer]) -> anyhow::Result<Vec<QueueJob>>;

    /// Whether jobs can be found by the names that they were submitted under.
    fn tells_names(&self) -> bool {
        true
    }

    /// What is run to learn what accounting has of jobs that the queue forgot, where accounts may be kept.
    fn question_of_accounts(&self, _: &[JobId]) -> Option<Words> {
        None
    }

    /// The states that they ended in, as the answer has it.
    fn read_accounts(&self, _: &Answer) -> BTreeMap<JobId, String> {
        BTreeMap::new()
    }

    /// Has jobs end; it may be asked to more than once. Says how many it could not pass that on of.
    fn cancel(&self, jobs: &[JobId], how: Cancel) -> usize;
}

/// A job that is to be submitted, with its files in their places.
#[derive(Debug)]
pub(super) struct Member<'a> {
    pub(super) ask: &'a Ask,
    pub(super) files: Files,
}

/// A job in the queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct QueueJob {
    /// The name it was submitted under, with its index where others were with it; nothing where the queue tells no names.
    pub(super) name: String,
    /// In Slurm's words, in capitals.
    pub(super) state: String,
    pub(super) exit_code: u64,
    /// The time that it may take, where it is bounded.
    pub(super) time_limit: Option<Duration>,
    pub(super) queued: Queued,
}

/// States that a job ends in.
const ENDS: [&str; 11] = [
    "BOOT_FAIL",
    "CANCELLED",
    "COMPLETED",
    "DEADLINE",
    "FAILED",
    "LAUNCH_FAILED",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "PREEMPTED",
    "REVOKED",
    "TIMEOUT",
];

pub(super) fn is_end(state: &str) -> bool {
    ENDS.contains(&state)
}

impl QueueJob {
    pub(super) fn has_ended(&self) -> bool {
        is_end(&self.state)
    }
}

/// How a job is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cancel {
    /// It leaves the queue where it waits, and its worker keeps its state where it runs.
    Soon,
    AtOnce,
}

/// Why jobs were not taken.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) error: anyhow::Error,
    pub(super) again: Again,
}

/// Whether another try may help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Again {
    Never,
    /// They may have been taken all the same.
    SomeTimes,
    /// The queue could not be reached, so they were not taken.
    WhenItIsBack,
    /// The queue is full, and will not always be.
    UntilThereIsRoom,
}

impl From<anyhow::Error> for Refusal {
    fn from(error: anyhow::Error) -> Self {
        Self { error, again: Again::Never }
    }
}

/// The name of one of several jobs that were submitted under one.
pub(super) fn name_of_member(name: &str, index: impl std::fmt::Display) -> String {
    format!("{name}[{index}]")
}
