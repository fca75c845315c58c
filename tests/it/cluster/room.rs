//! A queue that has no room, or answers too late.

use std::fs;

use super::{ended, of_stand_ins, run_with_stand_ins, stand_in, start_with_stand_ins};
use crate::support::{signal, until};

const FULL: &str = "echo 'sbatch: error: QOSMaxSubmitJobPerUserLimit' >&2; exit 1";

/// Has `sbatch` run the job, or all members of the array.
const RUNS: &str = "for script; do :; done; bash \"$script\" >/dev/null 2>&1 &";

#[test]
fn a_full_queue_is_asked_for_less_and_then_left_alone_for_a_while() {
    let sandbox = of_stand_ins("echo '{\"jobs\": []}'");
    let script = format!(
        "echo \"$@\" >> tried; case \"$*\" in *--array=*) {FULL};; esac
         test $(wc -l < tried) -eq 3 && {{ {FULL}; }}\n{RUNS}\nwc -l < tried"
    );
    stand_in(&sandbox, "sbatch", &script);
    let said = run_with_stand_ins(&sandbox, "examples");
    assert_eq!((said.code, said.stages("RAN").len()), (0, 2), "{}", said.stderr);
    // Both, one, the other in vain, and the other.
    assert_eq!(sandbox.read("tried").lines().count(), 4);
    assert_eq!(said.stderr.matches("was not taken: `sbatch`: QOSMaxSubmit").count(), 1, "{}", said.stderr);
}

#[test]
fn what_waits_for_room_is_not_said_to_be_left() {
    let sandbox = of_stand_ins("echo '{\"jobs\": []}'");
    stand_in(&sandbox, "sbatch", &format!("echo tried >> tried; {FULL}"));
    let engine = start_with_stand_ins(&sandbox, &["examples@sentiment", "--on-interrupt", "leave"]);
    until("it was refused", || sandbox.path("tried").exists());
    std::thread::sleep(std::time::Duration::from_millis(300));
    signal(engine.id(), libc::SIGINT);
    let (story, code) = ended(engine);
    assert_eq!(code, Some(130), "{story}");
    assert!(story.contains("STOPPED") && !story.contains("LEFT"), "{story}");
    assert_eq!(sandbox.names_in("artifacts/tmp"), [""; 0]);
}

#[test]
fn a_submission_that_shows_late_is_not_made_again() {
    // Not when it is first looked for, a second after `sbatch` gave up.
    let sandbox = of_stand_ins(
        r#"test -f name && echo asked >> asked; test -f asked && test $(wc -l < asked) -gt 1 || exec echo '{"jobs": []}'
           echo "{\"jobs\": [{\"job_id\": 9, \"name\": \"$(cat name)\", \"job_state\": \"PENDING\"}]}"
           test -f began || bash "$(cat script)" >/dev/null 2>&1 & touch began"#,
    );
    stand_in(
        &sandbox,
        "sbatch",
        "echo tried >> tried
         for word; do case $word in --job-name=*) echo \"${word#--job-name=}\" > name;; esac; done
         echo \"$word\" > script
         echo 'sbatch: error: Batch job submission failed: Socket timed out on send/recv operation' >&2; exit 1",
    );
    let said = run_with_stand_ins(&sandbox, "examples@sentiment");
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert_eq!(sandbox.read("tried").lines().count(), 1, "it was submitted once");
}

#[test]
fn a_job_of_a_submission_that_was_given_up_is_cancelled() {
    let sandbox = of_stand_ins(
        r#"test -f names && test $(wc -l < names) -gt 1 || exec echo '{"jobs": []}'
           echo "{\"jobs\": [{\"job_id\": 9, \"name\": \"$(sed -n 1p names)\", \"job_state\": \"RUNNING\"},
                             {\"job_id\": 10, \"name\": \"$(sed -n 2p names)\", \"job_state\": \"RUNNING\"}]}""#,
    );
    stand_in(
        &sandbox,
        "sbatch",
        &format!(
            "for word; do case $word in --job-name=*) echo \"${{word#--job-name=}}\" >> names;; esac; done
             test $(wc -l < names) -lt 2 && {{ echo 'sbatch: error: Socket timed out on send/recv operation' >&2; exit 1; }}
             {RUNS}\necho 10"
        ),
    );
    stand_in(&sandbox, "scancel", "echo \"$@\" >> cancelled");
    sandbox.write("behaviour.json", r#"{"examples@sentiment": "steps", "steps": 30}"#);
    let said = run_with_stand_ins(&sandbox, "examples@sentiment");
    assert_eq!(said.code, 0, "{}", said.stderr);
    let cancelled = fs::read_to_string(sandbox.path("cancelled")).unwrap();
    assert!(!cancelled.is_empty() && cancelled.lines().all(|line| line == "--quiet 9"), "{cancelled}");
}

#[test]
fn jobs_are_told_to_end_together_and_a_run_that_ends_at_once_waits_until_they_were() {
    let sandbox = of_stand_ins("exec sleep 60");
    stand_in(
        &sandbox,
        "sbatch",
        "for script; do :; done
         for index in 0 1; do SLURM_ARRAY_TASK_ID=$index bash \"$script\" >/dev/null 2>&1 & echo $! >> pids; done\necho 7",
    );
    let all = "case \"$*\" in *--*--*) ;; *) sleep 3; kill -9 $(cat pids); echo all >> cancelled;; esac";
    stand_in(&sandbox, "scancel", &format!("echo \"$@\" >> cancelled; {all}"));
    let behaviour = r#"{"examples@sentiment": "steps", "examples@entailment": "steps", "steps": 600}"#;
    sandbox.write("behaviour.json", behaviour);
    let engine = start_with_stand_ins(&sandbox, &["examples"]);
    let is_at_it = |task: &str| sandbox.path(&format!("at-step-examples@{task}")).exists();
    until("both are at it", || is_at_it("sentiment") && is_at_it("entailment"));
    signal(engine.id(), libc::SIGINT);
    let told = || fs::read_to_string(sandbox.path("cancelled")).unwrap_or_default();
    until("they are told", || told().contains("--signal=TERM"));
    signal(engine.id(), libc::SIGINT);
    let (story, code) = ended(engine);
    assert_eq!(code, Some(130), "{story}");
    assert!(told().contains("--quiet --batch --signal=TERM 7_0 7_1\n"), "{}", told());
    assert!(told().contains("--quiet 7_0 7_1\nall\n"), "{}", told());
}

#[test]
fn a_job_that_did_not_hear_that_it_is_to_end_is_told_again() {
    let sandbox = of_stand_ins(super::LISTED);
    sandbox.write("state", "RUNNING");
    stand_in(&sandbox, "sbatch", &format!("{}\nbash \"$word\" >/dev/null 2>&1 & echo $! > pid\necho 7", super::TAKES));
    let second = "case \"$*\" in *TERM*) echo told >> told; test $(wc -l < told) -gt 1 && kill -TERM $(cat pid);; esac";
    stand_in(&sandbox, "scancel", second);
    sandbox.write("behaviour.json", r#"{"examples@sentiment": "steps", "steps": 600}"#);
    let engine = start_with_stand_ins(&sandbox, &["examples@sentiment"]);
    until("it is at it", || sandbox.path("at-step-examples@sentiment").exists());
    signal(engine.id(), libc::SIGINT);
    let (story, code) = ended(engine);
    assert!(code == Some(130) && story.contains("STOPPED"), "{story}");
}
