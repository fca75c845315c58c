//! Ctrl-C at a terminal, where who sits there is asked what is to become of jobs.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::{Child, Stdio};

use super::Cluster;
use crate::support::{signal, terminal, until};

const TOKENS: [&str; 5] = ["run", "--profile", "cluster.yaml", "pipeline.yaml", "tokens@sentiment"];

/// A run at a terminal whose one job is under way.
fn at_a_terminal(cluster: &Cluster) -> (File, Child) {
    cluster.sandbox.write("behaviour.json", r#"{"tokens@sentiment": "steps", "steps": 600}"#);
    let (outer, inner) = terminal(120);
    let mut command = cluster.command(&TOKENS);
    let [stdin, stdout, stderr] = [(); 3].map(|()| Stdio::from(inner.try_clone().unwrap()));
    let engine = command.env("TERM", "xterm").stdin(stdin).stdout(stdout).stderr(stderr).spawn().unwrap();
    until("the job is at it", || cluster.sandbox.path("at-step-tokens@sentiment").exists());
    (outer, engine)
}

/// What a terminal is shown until it is shown this, or to the end.
fn shown(terminal: &mut File, until: &str) -> String {
    let (mut seen, mut bytes) = (String::new(), [0; 4096]);
    while !seen.contains(until)
        && let Ok(count @ 1..) = terminal.read(&mut bytes)
    {
        seen += &String::from_utf8_lossy(&bytes[..count]);
    }
    seen
}

/// Asks, and answers so; returns what is shown then, and the exit code.
fn answered(mut terminal: File, mut engine: Child, answer: &str) -> (String, Option<i32>) {
    signal(engine.id(), libc::SIGINT);
    let asked = shown(&mut terminal, "[l/c] ");
    assert!(asked.contains("leave the job in the queue, or cancel it? [l/c] "), "{asked}");
    terminal.write_all(answer.as_bytes()).unwrap();
    let rest = shown(&mut terminal, "never shown");
    (rest, engine.wait().unwrap().code())
}

#[test]
fn a_terminal_is_asked_and_jobs_are_left() {
    let Some(cluster) = Cluster::shared("") else { return };
    let (terminal, engine) = at_a_terminal(&cluster);
    // What is no answer is asked again.
    let (rest, code) = answered(terminal, engine, "what?\nl\n");
    assert_eq!(code, Some(130), "{rest}");
    assert!(rest.contains("LEFT") && rest.contains("its job goes on"), "{rest}");
    assert_eq!(cluster.states("tokens@sentiment"), ["RUNNING"]);
    let job = cluster.jobs().last().unwrap()["job_id"].to_string();
    cluster.slurm("scancel", &["--batch", "--signal=TERM", &job]);
}

#[test]
fn a_terminal_is_asked_and_jobs_are_cancelled() {
    let Some(cluster) = Cluster::shared("") else { return };
    let (terminal, engine) = at_a_terminal(&cluster);
    let (rest, code) = answered(terminal, engine, "c\n");
    assert_eq!(code, Some(130), "{rest}");
    assert!(rest.contains("STOPPED"), "{rest}");
    until("the job has ended", || cluster.states("tokens@sentiment") == ["FAILED"]);
}

#[test]
fn a_second_ctrl_c_is_an_answer_too() {
    let Some(cluster) = Cluster::shared("") else { return };
    let (mut terminal, mut engine) = at_a_terminal(&cluster);
    signal(engine.id(), libc::SIGINT);
    shown(&mut terminal, "[l/c] ");
    signal(engine.id(), libc::SIGINT);
    let rest = shown(&mut terminal, "never shown");
    assert_eq!(engine.wait().unwrap().code(), Some(130), "{rest}");
    until("the job is cancelled", || cluster.states("tokens@sentiment") == ["CANCELLED"]);
}

#[test]
fn nobody_is_asked_who_has_said_it_before() {
    let Some(cluster) = Cluster::shared("on_interrupt: cancel\n") else { return };
    let (mut terminal, mut engine) = at_a_terminal(&cluster);
    signal(engine.id(), libc::SIGINT);
    let rest = shown(&mut terminal, "never shown");
    assert_eq!(engine.wait().unwrap().code(), Some(130), "{rest}");
    assert!(rest.contains("STOPPED") && !rest.contains("[l/c]"), "{rest}");
}

/// Ends the one job, which was left.
fn end_it(cluster: &Cluster) {
    assert_eq!(cluster.states("tokens@sentiment"), ["RUNNING"]);
    let job = cluster.jobs().last().unwrap()["job_id"].to_string();
    cluster.slurm("scancel", &["--batch", "--signal=TERM", &job]);
}

#[test]
fn a_terminal_that_is_gone_leaves_jobs() {
    let Some(cluster) = Cluster::shared("on_interrupt: cancel\n") else { return };
    let (mut terminal, mut engine) = at_a_terminal(&cluster);
    // Once by the shell, and once by the kernel.
    signal(engine.id(), libc::SIGHUP);
    signal(engine.id(), libc::SIGHUP);
    let rest = shown(&mut terminal, "never shown");
    assert_eq!(engine.wait().unwrap().code(), Some(130), "{rest}");
    assert!(rest.contains("LEFT"), "{rest}");
    end_it(&cluster);
}

#[test]
fn a_question_that_nobody_can_answer_any_more_leaves_jobs() {
    let Some(cluster) = Cluster::shared("") else { return };
    let (mut terminal, mut engine) = at_a_terminal(&cluster);
    signal(engine.id(), libc::SIGINT);
    shown(&mut terminal, "[l/c] ");
    drop(terminal);
    assert_eq!(engine.wait().unwrap().code(), Some(130));
    end_it(&cluster);
}

#[test]
fn what_is_done_while_the_question_stands_is_done() {
    let Some(cluster) = Cluster::shared("") else { return };
    let quiet = "  quiet: { exec: { run: [sh, quiet.sh] } }\n";
    cluster.sandbox.write("pipeline.yaml", &(cluster.sandbox.read("pipeline.yaml") + quiet));
    let made = r#"touch begun; sleep 3; echo made > "$(sed -n 's/.*"output": "\(.*\)",/\1/p' "$1")/a.txt""#;
    cluster.sandbox.write("quiet.sh", made);
    let (mut terminal, inner) = terminal(120);
    let mut command = cluster.command(&["run", "--profile", "cluster.yaml", "pipeline.yaml", "quiet"]);
    let [stdin, stdout, stderr] = [(); 3].map(|()| Stdio::from(inner.try_clone().unwrap()));
    drop(inner);
    let mut engine = command.env("TERM", "xterm").stdin(stdin).stdout(stdout).stderr(stderr).spawn().unwrap();
    drop(command);
    until("the job is at it", || cluster.sandbox.path("begun").exists());
    signal(engine.id(), libc::SIGINT);
    shown(&mut terminal, "[l/c] ");
    let rest = shown(&mut terminal, "never shown");
    assert_eq!(engine.wait().unwrap().code(), Some(130), "{rest}");
    assert!(rest.contains("RAN"), "{rest}");
    assert_eq!(cluster.sandbox.read("artifacts/latest/quiet/a.txt"), "made\n");
}
