//! Where stages are computed.

mod groups;
mod local;

use anyhow::Result;
use bam_contract::digest::Fingerprint;
use bam_contract::event::Event;
use std::path::Path;
use std::sync::mpsc::SyncSender;
use std::time::Instant;

use crate::remote::{Pushed, Trouble};
pub(crate) use groups::{GUARDIAN, Groups, guard};
pub(crate) use local::Local;

/// Messages that wait for the loop; who has more to say waits too.
pub(crate) const MOST_WAITING: usize = 4096;

/// Starts workers. What they report comes as [`Message`]s, so that one loop can follow any number of them.
pub(crate) trait Executor {
    fn start(&self, launch: &Launch<'_>, messages: SyncSender<Message>) -> Result<Box<dyn Worker>>;
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
}

/// A worker under way.
pub(crate) trait Worker {
    /// Asks it to end soon, keeping what it can go on from. [`Message::Ended`] follows.
    fn stop(&self);

    /// Ends it at once. [`Message::Ended`] still follows.
    fn kill(&self);
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
    /// The user, or the system, wants the run to stop.
    Interrupted,
}

/// How a worker ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct End {
    /// Why it did not end well, if so.
    pub(crate) trouble: Option<String>,
    pub(crate) peak_memory_bytes: u64,
    pub(crate) at: Instant,
}
