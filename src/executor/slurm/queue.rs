//! What `squeue --json` says of jobs. Its form differs from version to version: states became lists, numbers objects.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::Value;

use super::super::Queued;

/// Arguments that ask for all of the user's jobs, those that have just ended too.
pub(super) const ARGUMENTS: [&str; 3] = ["--json", "--me", "--states=all"];

/// A job in the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct QueueJob {
    pub(super) name: String,
    pub(super) state: String,
    pub(super) exit_code: u64,
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

impl QueueJob {
    pub(super) fn has_ended(&self) -> bool {
        ENDS.contains(&self.state.as_str())
    }
}

/// Reads the queue, by number.
pub(super) fn read(bytes: &[u8]) -> Result<BTreeMap<u64, QueueJob>> {
    let all: Value = serde_json::from_slice(bytes).context("`squeue --json` gave no JSON")?;
    let jobs = all["jobs"].as_array().context("`squeue --json` named no jobs")?;
    Ok(jobs.iter().filter_map(|job| Some((number(&job["job_id"])?, of(job)?))).collect())
}

fn of(job: &Value) -> Option<QueueJob> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let state = match &job["job_state"] {
        Value::Array(states) => text(states.first()?),
        state => text(state),
    };
    let plain = |value: &Value| Some(text(value)).filter(|text| !text.is_empty() && text != "None");
    // What a person may know a reason by is told better by the description, where there is one.
    let reason = match (plain(&job["state_reason"]), plain(&job["state_description"])) {
        (Some(reason), Some(more)) if !more.starts_with(&reason) => Some(format!("{reason}: {more}")),
        (reason, more) => more.or(reason),
    };
    let exit_code = match &job["exit_code"] {
        Value::Object(code) => number(&code["return_code"]).unwrap_or_default(),
        // A wait status.
        code => number(code).unwrap_or_default() >> 8,
    };
    let is_waiting = state == "PENDING";
    let queued = Queued {
        job: number(&job["job_id"])?,
        state: state.to_lowercase().replace('_', " "),
        reason: reason.filter(|_| is_waiting),
        node: plain(&job["nodes"]).filter(|_| !is_waiting),
    };
    Some(QueueJob { name: text(&job["name"]), state, exit_code, queued })
}

/// A number, plain or as `{"set": true, "number": 3}`.
fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value["number"].as_u64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn both_forms_are_read() {
        let old = json!({"jobs": [
            {"job_id": 7, "name": "n", "job_state": "FAILED", "exit_code": 768, "state_reason": "NonZeroExitCode", "nodes": "a1"},
            {"job_id": 8, "name": "m", "job_state": "PENDING", "exit_code": 0, "state_reason": "Resources",
             "state_description": "nodes are DOWN", "nodes": ""},
        ]});
        let new = json!({"jobs": [
            {"job_id": 7, "name": "n", "job_state": ["FAILED"], "state_reason": "NonZeroExitCode", "nodes": "a1",
             "exit_code": {"status": ["ERROR"], "return_code": {"set": true, "infinite": false, "number": 3}}},
            {"job_id": 8, "name": "m", "job_state": ["PENDING"], "state_reason": "Resources",
             "state_description": "nodes are DOWN", "nodes": ""},
        ]});
        for form in [old, new] {
            let jobs = read(form.to_string().as_bytes()).unwrap();
            let failed = &jobs[&7];
            assert_eq!((failed.state.as_str(), failed.exit_code, failed.has_ended()), ("FAILED", 3, true));
            assert_eq!((failed.queued.reason.as_deref(), failed.queued.node.as_deref()), (None, Some("a1")));
            let waits = &jobs[&8];
            assert_eq!(waits.queued.reason.as_deref(), Some("Resources: nodes are DOWN"));
            assert!(!waits.has_ended());
        }
        assert!(read(b"slurm_load_jobs error").is_err());
    }
}
