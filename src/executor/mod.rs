//! Where stages are computed.

mod cluster;
mod groups;
mod local;

use anyhow::Result;
use bam_contract::digest::Fingerprint;
use bam_contract::event::Event;
use bam_contract::fault::Fault;
use std::path::Path;
use std::sync::mpsc::SyncSender;
use std::time::Instant;

use serde::Serialize;

use crate::profile::OnInterrupt;
use crate::remote::{Pushed, Trouble};
use crate::span::Span;
pub(crate) use cluster::{ATTENDANT, Cluster, JobId, attend, jobs_of};
pub(crate) use groups::{GUARDIAN, guard};
pub(crate) use local::Local;

/// Messages that wait for the loop; who has more to say waits too.
pub(crate) const MOST_WAITING: usize = 4096;

/// Starts workers. What they report comes as [`Message`]s, so that one loop can follow any number of them.
pub(crate) trait Executor {
    fn start(&self, launch: &Launch<'_>, messages: SyncSender<Message>) -> Result<Box<dyn Worker>>;

    /// Goes on with what an engine that is gone has submitted in this attempt's folder.
    fn adopt(&self, launch: &Launch<'_>, _: SyncSender<Message>) -> Result<Box<dyn Worker>> {
        let attempt = launch.job.parent().unwrap_or(launch.job).display();
        let hint = format!(
            "`bam run --profile FILE` goes on with it; or, once the queue doesn't list it any more, remove `{attempt}`"
        );
        Err(Fault::new("a job of a cluster makes it, or has made it, for a run that is gone", hint).into())
    }

    /// Whether workers outlive the engine.
    fn outlives(&self) -> bool {
        false
    }

    /// What is done to all workers at once, by a signal too, though the loop be busy.
    fn reins(&self) -> Box<dyn Reins>;
}

/// All workers of an executor.
pub(crate) trait Reins: Send {
    /// Asks them to end soon, keeping what they can go on from. [`Message::Ended`] follows of each.
    fn stop(&self);

    /// Ends them at once. Says so where some may go on all the same.
    fn kill(&self) -> Option<String>;
}

/// A worker to be started.
#[derive(Debug)]
pub(crate) struct Launch<'a> {
    /// Index of its stage, which its messages carry.
    pub(crate) stage: usize,
    /// The user's own program and its arguments, in the place of `bam-stage`.
    pub(crate) program: Option<&'a [String]>,
    /// The job file.
    pub(crate) job: &'a Path,
    /// Where its log goes.
    pub(crate) log: &'a Path,
    /// CPU threads it may keep busy.
    pub(crate) threads: usize,
    /// The GPUs it may use, where the machine has any.
    pub(crate) gpus: Option<&'a [String]>,
    pub(crate) needs: Needs<'a>,
}

/// What a cluster wants to know of a worker.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Needs<'a> {
    pub(crate) stage: &'a str,
    pub(crate) kind: &'a str,
    pub(crate) memory_bytes: u64,
    /// Whether that is more than a guess at any program.
    pub(crate) is_memory_known: bool,
    pub(crate) gpus: usize,
    /// That one job may take, where somebody says so.
    pub(crate) time: Option<Span>,
}

/// A worker under way.
pub(crate) trait Worker {
    /// Ends it at once. [`Message::Ended`] still follows.
    fn kill(&self);

    /// Leaves it to another engine, where it outlives this one; says whether there is something to leave.
    fn leave(&self) -> bool {
        false
    }
}

#[derive(Debug)]
pub(crate) enum Message {
    Event {
        stage: usize,
        event: Event,
    },
    Ended {
        stage: usize,
        end: End,
    },
    /// An artifact's files came from the remote, or did not.
    Fetched {
        stage: usize,
        result: Result<(), Trouble>,
    },
    /// An artifact is in the remote now, or is not.
    Pushed {
        stage: usize,
        fingerprint: Fingerprint,
        result: Result<Pushed, Trouble>,
    },
    /// Where a job of a cluster stands.
    Queued {
        stage: usize,
        queued: Queued,
    },
    /// A job of a cluster ended before its stage was done, which goes on in another; why, and from where.
    Requeued {
        stage: usize,
        why: String,
    },
    /// Something of the cluster does not work at the moment.
    Trouble(anyhow::Error),
    /// The user, or the system, wants the run to stop.
    Interrupted,
    /// What the user then wants of workers that can outlive the run.
    Answered(OnInterrupt),
}

/// A job, as its queue has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Queued {
    pub(crate) job: JobId,
    /// `pending`, `running` … in the queue's own words.
    pub(crate) state: String,
    /// Why it waits.
    pub(crate) reason: Option<String>,
    /// Where it runs.
    pub(crate) node: Option<String>,
}

/// Slurm's reasons why a job waits that don't pass by themselves.
const HOPELESS: [&str; 7] = [
    "AssocMaxWallDurationPerJobLimit",
    "BadConstraints",
    "PartitionConfig",
    "PartitionNodeLimit",
    "PartitionTimeLimit",
    "QOSMaxWallDurationPerJobLimit",
    "QOSMaxCpuPerJobLimit",
];

impl Queued {
    /// Why it would wait for good, if so.
    pub(crate) fn hopeless(&self) -> Option<&str> {
        self.reason.as_deref().filter(|reason| HOPELESS.contains(reason))
    }
}

/// How a worker ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct End {
    /// Why it did not end well, if so.
    pub(crate) trouble: Option<String>,
    pub(crate) hint: Option<String>,
    pub(crate) peak_memory_bytes: u64,
    pub(crate) at: Instant,
    /// Of one that ran on another machine.
    pub(crate) elsewhere: Option<Box<Elsewhere>>,
}

/// Where and how long a worker ran, which isn't from its start here to its end.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Elsewhere {
    pub(crate) host: String,
    pub(crate) wall_secs: f64,
    /// The jobs that it took.
    pub(crate) jobs: Vec<JobId>,
}
