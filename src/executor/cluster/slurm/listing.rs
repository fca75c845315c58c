//! What `squeue --json` says of jobs. Its form differs from version to version: states became lists, numbers objects.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::super::super::Queued;
use super::super::job::JobId;
use super::super::queue::{QueueJob, name_of_member};

/// Asks for all of the user's jobs, those that have just ended and those in hidden partitions too. Some versions heed none of
/// that beside `--json`, and list all jobs there are.
pub(super) const QUESTION: [&str; 5] = ["squeue", "--json", "--me", "--all", "--states=all"];

/// Reads the queue. Members of an array that wait are one entry there, and one each here.
pub(super) fn read(bytes: &[u8]) -> Result<Vec<QueueJob>> {
    let all: Value = serde_json::from_slice(bytes).context("`squeue --json` gave no JSON")?;
    // Some versions end well, and without a job, when the controller can't be reached.
    if let Some(error) = all["errors"].as_array().and_then(|errors| errors.first()) {
        let text = |name: &str| error[name].as_str().filter(|text| !text.is_empty());
        bail!("`squeue`: {}", text("description").or_else(|| text("error")).unwrap_or("it failed"));
    }
    let jobs = all["jobs"].as_array().context("`squeue --json` named no jobs")?;
    let own = own_user();
    let is_own = |job: &&Value| number(&job["user_id"]).is_none_or(|user| user == own);
    Ok(jobs.iter().filter(is_own).filter_map(of).flatten().collect())
}

/// What an entry says of each job that it stands for.
fn of(job: &Value) -> Option<Vec<QueueJob>> {
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
    let number_of_job = number(&job["job_id"])?;
    let queued = Queued {
        job: number_of_job.into(),
        state: state.to_lowercase().replace('_', " "),
        reason: reason.filter(|_| is_waiting),
        node: plain(&job["nodes"]).filter(|_| !is_waiting),
    };
    // In minutes; none is told as no number, or as a very large one.
    let minutes = number(&job["time_limit"]).filter(|minutes| *minutes < u64::from(u32::MAX));
    let time_limit = minutes.map(|minutes| Duration::from_secs(minutes * 60));
    let alone = QueueJob { name: text(&job["name"]), state, exit_code, time_limit, queued };
    let array = number(&job["array_job_id"]).filter(|array| *array > 0);
    let members = match number(&job["array_task_id"]) {
        Some(index) => vec![index],
        None => indices(job["array_task_string"].as_str().unwrap_or_default()),
    };
    let Some(array) = array.filter(|_| !members.is_empty()) else { return Some(vec![alone]) };
    let member = |index: u64| QueueJob {
        name: name_of_member(&alone.name, index),
        queued: Queued { job: JobId::member(array, index), ..alone.queued.clone() },
        ..alone.clone()
    };
    Some(members.into_iter().map(member).collect())
}

fn own_user() -> u64 {
    // SAFETY: a plain system call.
    u64::from(unsafe { libc::geteuid() })
}

/// A number, plain or as `{"set": true, "number": 3}`.
fn number(value: &Value) -> Option<u64> {
    let of_object = || value["number"].as_u64().filter(|_| value["set"] != false && value["infinite"] != true);
    value.as_u64().or_else(of_object)
}

/// Those that `0-3,7,8-12:2%5` stands for.
fn indices(text: &str) -> Vec<u64> {
    let text = text.split('%').next().unwrap_or_default();
    let part = |part: &str| {
        let (range, step) = part.split_once(':').unwrap_or((part, "1"));
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some((first.parse().ok()?..=last.parse().ok()?).step_by(step.parse().ok().filter(|step| *step > 0)?))
    };
    text.split(',').filter_map(part).flatten().collect()
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
            let [failed, waits] = &jobs[..] else { panic!("{jobs:?}") };
            assert_eq!((failed.state.as_str(), failed.exit_code, failed.has_ended()), ("FAILED", 3, true));
            assert_eq!((failed.queued.reason.as_deref(), failed.queued.node.as_deref()), (None, Some("a1")));
            assert_eq!(waits.queued.reason.as_deref(), Some("Resources: nodes are DOWN"));
            assert!(!waits.has_ended());
        }
        assert!(read(b"slurm_load_jobs error").is_err());
    }

    #[test]
    fn a_list_that_could_not_be_had_is_not_an_empty_one() {
        let away = json!({"jobs": [], "errors": [{
            "description": "Failed while looking for jobs", "error_number": -1, "error": "Unspecified error",
        }]});
        let error = read(away.to_string().as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), "`squeue`: Failed while looking for jobs");
        assert!(read(br#"{"jobs": [], "errors": []}"#).unwrap().is_empty());
    }

    #[test]
    fn a_limit_is_read_and_other_users_jobs_are_not() {
        let infinite = json!({"set": true, "infinite": true, "number": 0});
        let user = own_user();
        let all = json!({"jobs": [
            {"job_id": 1, "name": "n", "job_state": "RUNNING", "user_id": user, "time_limit": 90},
            {"job_id": 2, "name": "n", "job_state": "RUNNING", "user_id": user, "time_limit": {"set": true, "infinite": false, "number": 2}},
            {"job_id": 3, "name": "n", "job_state": "RUNNING", "user_id": user, "time_limit": infinite},
            {"job_id": 4, "name": "n", "job_state": "RUNNING", "user_id": user, "time_limit": null},
            {"job_id": 5, "name": "n", "job_state": "RUNNING", "user_id": user + 1, "time_limit": 90},
        ]});
        let jobs = read(all.to_string().as_bytes()).unwrap();
        let limits: Vec<Option<u64>> = jobs.iter().map(|job| Some(job.time_limit?.as_secs())).collect();
        assert_eq!(limits, [Some(5400), Some(120), None, None]);
    }

    #[test]
    fn members_of_an_array_are_told_one_by_one() {
        let old = json!({"jobs": [
            {"job_id": 9, "name": "n", "job_state": "RUNNING", "array_job_id": 8, "array_task_id": 0, "array_task_string": ""},
            {"job_id": 8, "name": "n", "job_state": "PENDING", "array_job_id": 8, "array_task_id": null, "array_task_string": "1-2,4"},
            {"job_id": 3, "name": "m", "job_state": "PENDING", "array_job_id": 0, "array_task_id": null, "array_task_string": ""},
        ]});
        let set = |number: u64| json!({"set": true, "infinite": false, "number": number});
        let unset = json!({"set": false, "infinite": false, "number": 0});
        let new = json!({"jobs": [
            {"job_id": 9, "name": "n", "job_state": ["RUNNING"], "array_job_id": set(8), "array_task_id": set(0), "array_task_string": ""},
            {"job_id": 8, "name": "n", "job_state": ["PENDING"], "array_job_id": set(8), "array_task_id": unset, "array_task_string": "1-2,4"},
            {"job_id": 3, "name": "m", "job_state": ["PENDING"], "array_job_id": set(0), "array_task_id": unset, "array_task_string": ""},
        ]});
        for form in [old, new] {
            let jobs = read(form.to_string().as_bytes()).unwrap();
            let told: Vec<(String, &str, &str)> = jobs
                .iter()
                .map(|job| (job.queued.job.to_string(), job.name.as_str(), job.queued.state.as_str()))
                .collect();
            let expected = [
                ("8_0", "n[0]", "running"),
                ("8_1", "n[1]", "pending"),
                ("8_2", "n[2]", "pending"),
                ("8_4", "n[4]", "pending"),
                ("3", "m", "pending"),
            ];
            assert_eq!(told, expected.map(|(job, name, state)| (job.to_owned(), name, state)));
        }
        assert_eq!(indices("0-3,7,8-12:2%5"), [0, 1, 2, 3, 7, 8, 10, 12]);
        assert_eq!(indices(""), [0; 0]);
    }
}
