//! Where stages are computed.

mod local;

use anyhow::Result;
use bam_contract::event::Event;
use std::path::Path;
use std::sync::mpsc::Sender;

pub(crate) use local::Local;

/// Starts workers. What they report comes as [`Message`]s, so that one loop can follow any number of them.
pub(crate) trait Executor {
    /// Starts the worker of stage `stage` on a job file, its log going to `log`.
    fn start(&self, stage: usize, job: &Path, log: &Path, messages: Sender<Message>) -> Result<Box<dyn Worker>>;
}

/// A worker under way.
pub(crate) trait Worker {
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
    /// The user, or the system, wants the run to stop.
    Interrupted,
}

/// How a worker ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct End {
    /// Why it did not end well, if so.
    pub(crate) trouble: Option<String>,
    pub(crate) peak_memory_bytes: u64,
}
