//! The worker `bam-stage`, run by itself.

use std::process::{Command, Output};

fn bam_stage(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bam-stage")).args(arguments).output().expect("bam-stage starts")
}

#[test]
fn without_a_job_it_says_how_it_is_called() {
    let output = bam_stage(&[]);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.ends_with("usage: bam-stage JOB.json\n"), "{said}");
}

#[test]
fn a_job_that_is_none_is_reported_as_an_event() {
    let output = bam_stage(&["/nonexistent/job.json"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stdout).unwrap();
    let event: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(event["event"], "failed");
    assert_eq!(event["causes"][0], "reading the job file `/nonexistent/job.json`");
}
