//! What happens in a run, for whoever tells it: the terminal, `--json`, the run's record.

use std::path::Path;

use bam_contract::digest::Fingerprint;
use bam_contract::fault::hint_of;
use bam_contract::manifest::Manifest;
use serde::{Serialize, Serializer};

use crate::executor::Queued;
use crate::reason::Reason;

/// One JSON object a line under `bam run --json`. `index` counts stages from 0, in the order of the plan.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum RunEvent<'a> {
    /// A file is on its way from the hub.
    Downloading {
        repository: &'a str,
        file: &'a str,
        done: u64,
        bytes: u64,
    },
    /// Another process brings the file from the hub.
    Awaiting {
        repository: &'a str,
        file: &'a str,
    },
    /// The file didn't come, and nothing more will.
    Abandoned,
    /// What was lacking of a repository of the hub is there.
    Downloaded {
        repository: &'a str,
        files: usize,
        bytes: u64,
        seconds: f64,
    },
    Started {
        pipeline: &'a str,
        stages: &'a [&'a str],
    },
    /// The artifact was there. `reran` names inputs that ran and came out as before.
    Cached {
        stage: &'a str,
        index: usize,
        #[serde(flatten, serialize_with = "brief")]
        manifest: &'a Manifest,
        reran: &'a [&'a str],
    },
    /// The artifact is in the remote, and nothing needs it here so far.
    Remote {
        stage: &'a str,
        index: usize,
        #[serde(flatten, serialize_with = "brief")]
        manifest: &'a Manifest,
    },
    /// The artifact is on its way from the remote.
    Fetching {
        stage: &'a str,
        index: usize,
        bytes: u64,
    },
    /// The artifact came from the remote. `seconds` is what it took to make.
    Fetched {
        stage: &'a str,
        index: usize,
        #[serde(flatten, serialize_with = "brief")]
        manifest: &'a Manifest,
        bytes: u64,
        fetch_seconds: f64,
    },
    /// The artifact is in the remote now; so many bytes of it were not.
    Pushed {
        stage: &'a str,
        index: usize,
        #[serde(flatten, serialize_with = "brief")]
        manifest: &'a Manifest,
        bytes: u64,
    },
    /// Neither the remote nor the store has the artifact that `bam pull` or `bam push` wants.
    Absent {
        stage: &'a str,
        index: usize,
        from: &'a str,
    },
    /// Something of the remote does not work, and what can be done without it goes on.
    Trouble {
        text: String,
        hint: Option<String>,
    },
    /// Another process makes the artifact.
    Waiting {
        stage: &'a str,
        index: usize,
        holder: &'a str,
    },
    Running {
        stage: &'a str,
        index: usize,
        fingerprint: Fingerprint,
        threads: usize,
        gpus: &'a [String],
        reasons: &'a [Reason],
    },
    /// A job of a run that is gone makes the artifact, or has made it, and this run goes on with it.
    Adopted {
        stage: &'a str,
        index: usize,
    },
    /// Where the stage's job stands in the queue of a cluster.
    Queued {
        stage: &'a str,
        index: usize,
        #[serde(flatten)]
        queued: &'a Queued,
    },
    /// The stage's job ended before its time, and another goes on.
    Requeued {
        stage: &'a str,
        index: usize,
        why: &'a str,
    },
    /// The stage's job goes on without this run.
    Left {
        stage: &'a str,
        index: usize,
    },
    Progress {
        stage: &'a str,
        index: usize,
        done: u64,
        total: u64,
        unit: &'a str,
        detail: &'a str,
    },
    Metric {
        stage: &'a str,
        name: &'a str,
        value: f64,
    },
    Warning {
        stage: &'a str,
        text: &'a str,
    },
    Ran {
        stage: &'a str,
        index: usize,
        #[serde(flatten, serialize_with = "brief")]
        manifest: &'a Manifest,
        reasons: &'a [Reason],
    },
    /// `inputs` are the fingerprints of what it read; `causes` from the outermost in; the log of its worker, if one was started.
    Failed {
        stage: &'a str,
        index: usize,
        inputs: &'a [Fingerprint],
        causes: &'a [String],
        hint: Option<&'a str>,
        log: Option<&'a Path>,
        log_tail: &'a [&'a str],
        seconds: f64,
    },
    /// Not run, for want of the stage it `needs`; of none where a failure elsewhere ended the run.
    Skipped {
        stage: &'a str,
        index: usize,
        needs: Option<&'a str>,
    },
    /// The user is asked what is to become of so many jobs.
    Asking {
        jobs: usize,
    },
    /// Stages under way were asked to stop.
    Stopping {
        stages: &'a [&'a str],
    },
    /// Ended before it was done; `kept` says what a later run goes on from.
    Stopped {
        stage: &'a str,
        index: usize,
        kept: Option<&'a str>,
    },
    Interrupted {
        #[serde(flatten)]
        tally: Tally,
    },
    Finished {
        seconds: f64,
        #[serde(flatten)]
        tally: Tally,
    },
}

impl RunEvent<'_> {
    pub(crate) fn trouble(error: &anyhow::Error) -> Self {
        Self::Trouble { text: format!("{error:#}"), hint: hint_of(error).map(ToOwned::to_owned) }
    }
}

/// How many stages went which way.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Tally {
    pub(crate) cached: usize,
    /// In the remote, and not needed here.
    pub(crate) remote: usize,
    pub(crate) fetched: usize,
    pub(crate) ran: usize,
    pub(crate) failed: usize,
    pub(crate) skipped: usize,
    /// Asked to end before they were done.
    pub(crate) stopped: usize,
    /// Neither here nor in the remote.
    pub(crate) absent: usize,
    /// Seconds that the stages took when they ran whose artifacts were there.
    pub(crate) saved_secs: f64,
    pub(crate) pushed: usize,
    pub(crate) pushed_bytes: u64,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    Failed,
    Interrupted,
}

impl Outcome {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
        }
    }
}

pub(crate) trait Observer {
    fn tell(&mut self, event: &RunEvent<'_>);

    /// Told when nothing more has happened for the moment. Says whether it wants to be told again soon.
    fn rest(&mut self) -> bool {
        false
    }
}

/// A manifest's figures, without its key and files: `bam show` has those.
fn brief<S: Serializer>(manifest: &Manifest, serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Brief<'a> {
        fingerprint: Fingerprint,
        summary: &'a str,
        seconds: f64,
        peak_memory_bytes: u64,
    }
    let Manifest { fingerprint, summary, provenance, .. } = manifest;
    let (seconds, peak_memory_bytes) = (provenance.wall_secs, provenance.peak_memory_bytes);
    Brief { fingerprint: *fingerprint, summary, seconds, peak_memory_bytes }.serialize(serializer)
}
