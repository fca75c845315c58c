//! What happens in a run, for whoever tells it: the terminal, `--json`, the run's record.

use std::path::Path;

use bam_contract::digest::Fingerprint;
use bam_contract::manifest::Manifest;
use serde::{Serialize, Serializer};

use crate::reason::Reason;

/// One JSON object a line under `bam run --json`. `index` counts stages from 0, in the order of the plan.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum RunEvent<'a> {
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
    /// `causes` from the outermost in.
    Failed {
        stage: &'a str,
        index: usize,
        causes: &'a [String],
        hint: Option<&'a str>,
        log: &'a Path,
        log_tail: &'a [&'a str],
        seconds: f64,
    },
    /// Not run, for want of the stage it `needs`.
    Skipped {
        stage: &'a str,
        index: usize,
        needs: &'a str,
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

/// How many stages went which way.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Tally {
    pub(crate) cached: usize,
    pub(crate) ran: usize,
    pub(crate) failed: usize,
    pub(crate) skipped: usize,
    /// Seconds that the cached stages took when they ran.
    pub(crate) saved_secs: f64,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    Failed,
    Interrupted,
}

pub(crate) trait Observer {
    fn tell(&mut self, event: &RunEvent<'_>);
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
