//! Runs that are stopped or killed: what ends with them, and what they leave.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;

use crate::support::{Sandbox, is_gone, redact, signal, terminal, until, worker_of};

/// Whether a process runs that was given a job of this sandbox.
fn a_worker_runs(sandbox: &Sandbox) -> bool {
    let artifacts = sandbox.path("artifacts/tmp").display().to_string();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let arguments = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    arguments.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).any(|line| line.contains(&artifacts))
}

#[test]
fn an_engine_that_is_killed_leaves_no_half_artifact_and_no_worker() {
    let sandbox = Sandbox::with_small_pipeline();
    sandbox.write("behaviour.json", r#"{"tokens@sentiment": "hang"}"#);
    let run = ["run", "pipeline.yaml", "tokens@sentiment"];
    let mut engine = sandbox.command(&run).stderr(Stdio::null()).spawn().unwrap();
    until("the worker has written half", || sandbox.path("hanging").exists());
    let mut follow = sandbox.command(&["log", "-f", "tokens@sentiment"]);
    let mut follow = follow.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(follow.stderr.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.ends_with("/log.txt (under way)\n"), "{line}");
    let worker = worker_of(engine.id()).expect("the worker hangs");
    assert!(a_worker_runs(&sandbox));
    engine.kill().unwrap();
    engine.wait().unwrap();
    until("the worker ends with the engine", || is_gone(worker));
    assert!(!a_worker_runs(&sandbox));
    // Nobody is there to write more.
    assert_eq!(follow.wait().unwrap().code(), Some(0));
    assert_eq!(sandbox.names_in("artifacts/store"), ["data"]);
    let log = || sandbox.bam(&["log", "tokens@sentiment"]);
    assert_eq!(log().stdout, "working on tokens@sentiment\n");
    // Nor does it go when another run sweeps what was left.
    sandbox.bam(&["run", "pipeline.yaml", "examples@sentiment"]);
    assert_eq!(sandbox.names_in("artifacts/tmp"), [""; 0]);
    assert_eq!(log().stderr, "artifacts/stopped/pipeline.yaml/tokens@sentiment/log.txt\n");
    assert_eq!(log().stdout, "working on tokens@sentiment\n");

    fs::remove_file(sandbox.path("behaviour.json")).unwrap();
    let again = sandbox.bam(&run);
    assert_eq!(sandbox.names_in("artifacts/stopped"), [""; 0]);
    assert_eq!((again.code, again.stages("RAN")), (0, vec!["tokens@sentiment".to_owned()]));
    assert_eq!(sandbox.names_in("artifacts/tmp"), [""; 0], "what the killed engine left is swept");
}

#[test]
fn a_run_under_way_is_told_from_one_that_was_killed() {
    let sandbox = Sandbox::with_small_pipeline();
    sandbox.write("behaviour.json", r#"{"tokens@sentiment": "hang"}"#);
    let run = ["run", "pipeline.yaml", "teacher@sentiment"];
    let mut engine = sandbox.command(&run).stderr(Stdio::null()).spawn().unwrap();
    until("the worker has written half", || sandbox.path("hanging").exists());
    let status = sandbox.bam(&["status"]).stdout;
    let line = status.lines().find(|line| line.starts_with("tokens@sentiment ")).unwrap_or(&status);
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(words[1..], ["running", "`bam", "log", "tokens@sentiment", "-f`", "follows", "it"], "{line}");
    let outcome = || sandbox.bam(&["runs", "--json"]).stdout;
    assert!(outcome().contains(r#""outcome":"running""#), "{}", outcome());

    // A log is waited for while it may still come, and the last one is not shown in its place.
    let last = sandbox.path("artifacts/failed/pipeline.yaml/teacher@sentiment/log.txt");
    sandbox.write("artifacts/failed/pipeline.yaml/teacher@sentiment/log.txt", "of the run before\n");
    let mut follow = sandbox.command(&["log", "-f", "teacher@sentiment"]);
    let mut follow = follow.stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(follow.stderr.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    assert_eq!(line, "waiting for `teacher@sentiment` to start\n");
    fs::remove_file(last).unwrap();
    engine.kill().unwrap();
    engine.wait().unwrap();
    assert!(outcome().contains(r#""outcome":"killed""#), "{}", outcome());
    let runs = sandbox.bam(&["runs"]).stdout;
    let killed = runs.lines().nth(1).unwrap();
    let took = runs.find("  TOOK").map(|at| &killed[at..at + 6]);
    assert_eq!(took, Some("      "), "how long it took is not known: {runs}");
    assert!(outcome().contains(r#""event":"ran""#), "{}", outcome());
    assert_eq!(follow.wait().unwrap().code(), Some(2));
    said.read_line(&mut line).unwrap();
    assert!(line.ends_with("error: no log of a stage `teacher@sentiment`\n"), "{line}");
}

/// A program that has another one write, line after line.
const HANDS_ON: &str = "\
sh -c 'echo $$ > writer; while true; do echo line >> lines; sleep 0.01; done'
true";

#[test]
fn what_a_program_has_started_dies_with_the_engine() {
    let sandbox = Sandbox::with_fake_worker();
    sandbox.write("own.sh", HANDS_ON);
    sandbox.write("pipeline.yaml", "stages: { own: { exec: { run: [sh, own.sh] } } }\n");
    let mut engine = sandbox.command(&["run"]).stderr(Stdio::null()).spawn().unwrap();
    until("it writes", || sandbox.path("lines").exists());
    let writer = sandbox.read("writer").trim().parse().unwrap();
    engine.kill().unwrap();
    engine.wait().unwrap();
    until("the writer ends with the engine", || is_gone(writer));
}

#[test]
fn what_a_program_leaves_behind_ends_with_it() {
    let sandbox = Sandbox::with_fake_worker();
    sandbox.write("own.sh", "sleep 600 & echo $! > left; echo done > \"$(dirname $1)/output/file\"");
    sandbox.write("pipeline.yaml", "stages: { own: { exec: { run: [sh, own.sh] } } }\n");
    let run = sandbox.bam(&["run"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let left = sandbox.read("left").trim().parse().unwrap();
    until("what it started in the background ends", || is_gone(left));
}

#[test]
fn ctrl_c_ends_the_run_with_a_clean_store() {
    let sandbox = Sandbox::with_small_pipeline();
    sandbox.write("behaviour.json", r#"{"tokens@sentiment": "hang"}"#);
    let run = ["run", "pipeline.yaml", "tokens@sentiment"];
    let engine = sandbox.command(&run).stderr(Stdio::piped()).spawn().unwrap();
    until("the worker has written half", || sandbox.path("hanging").exists());
    signal(engine.id(), libc::SIGINT);
    let output = engine.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.ends_with("interrupted: 1 of 2 stages is done and stays cached\n"), "{said}");
    assert!(!a_worker_runs(&sandbox));
    let (store, tmp) = (sandbox.names_in("artifacts/store"), sandbox.names_in("artifacts/tmp"));
    assert_eq!((store, tmp), (vec!["data".to_owned()], vec![]));
}

#[test]
fn a_second_ctrl_c_ends_what_does_not_heed_the_first() {
    let sandbox = Sandbox::with_small_pipeline();
    sandbox.write("behaviour.json", r#"{"examples@sentiment": "stubborn"}"#);
    let mut engine = sandbox.command(&["run"]).stderr(Stdio::piped()).spawn().unwrap();
    let mut story = BufReader::new(engine.stderr.take().unwrap());
    until("the worker waits", || sandbox.path("hanging").exists());
    let worker = worker_of(engine.id()).expect("the worker waits");
    signal(engine.id(), libc::SIGINT);
    let mut line = String::new();
    while !line.starts_with("stopping ") {
        line.clear();
        assert_ne!(story.read_line(&mut line).unwrap(), 0, "it ended at the first");
    }
    assert_eq!(line, "stopping examples@sentiment; Ctrl-C again ends at once\n");
    assert!(!is_gone(worker));
    signal(engine.id(), libc::SIGINT);
    let mut rest = String::new();
    story.read_to_string(&mut rest).unwrap();
    assert_eq!(engine.wait().unwrap().code(), Some(130));
    assert!(rest.ends_with("interrupted: 0 of 11 stages are done and stay cached\n"), "{rest}");
    assert!(is_gone(worker));
    assert_eq!(sandbox.bam(&["log", "examples@sentiment"]).stdout, "working on examples@sentiment\n");
}

/// A file that takes minutes to read, of which the disk holds nothing.
#[test]
fn a_second_ctrl_c_does_not_wait_for_a_file_that_is_read() {
    let sandbox = Sandbox::with_fake_worker();
    sandbox.write("large", "");
    File::options().write(true).open(sandbox.path("large")).unwrap().set_len(1 << 42).unwrap();
    sandbox.write("pipeline.yaml", "stages: { own: { exec: { run: [\"true\"], files: [large] } } }\n");
    let mut engine = sandbox.command(&["run"]).stderr(Stdio::piped()).spawn().unwrap();
    let mut story = BufReader::new(engine.stderr.take().unwrap());
    let mut line = String::new();
    story.read_line(&mut line).unwrap();
    assert_eq!(line, "    Pipeline pipeline: 1 stage\n");
    signal(engine.id(), libc::SIGINT);
    // Two at once would be one.
    sleep(Duration::from_millis(200));
    signal(engine.id(), libc::SIGINT);
    let mut rest = String::new();
    story.read_to_string(&mut rest).unwrap();
    assert_eq!(engine.wait().unwrap().code(), Some(130));
    assert_eq!(redact(&rest), "ended at once; the next run clears away what was being made\n");
}

#[test]
fn the_first_failure_stops_the_others_where_that_is_wanted() {
    let sandbox = Sandbox::with_small_pipeline();
    let run = ["run", "--jobs", "2", "--threads", "2"];
    sandbox.write("behaviour.json", r#"{"examples@sentiment": "fail", "examples@entailment": "hang"}"#);
    let fail_fast = sandbox.bam(&[&run[..], &["--fail-fast"]].concat());
    assert_eq!(fail_fast.stages("FAILED"), ["examples@sentiment"], "{}", fail_fast.stderr);
    assert_eq!(fail_fast.stages("STOPPED"), ["examples@entailment"], "{}", fail_fast.stderr);
    assert_eq!((fail_fast.code, fail_fast.stages("SKIPPED").len()), (1, 9), "{}", fail_fast.stderr);
    let of_stage = |name: &str| {
        let line = fail_fast.stderr.lines().find(|line| line.contains("SKIPPED") && line.contains(name));
        line.unwrap_or_default().to_owned()
    };
    assert!(of_stage("tokens@sentiment").ends_with("needs examples@sentiment"), "{}", fail_fast.stderr);
    assert!(of_stage("tokens@entailment").ends_with("not started: --fail-fast"), "{}", fail_fast.stderr);

    sandbox.write("behaviour.json", r#"{"examples@sentiment": "fail", "examples@entailment": "slow"}"#);
    let keep_going = sandbox.bam(&run);
    let ran = ["examples@entailment", "tokens@entailment", "teacher@entailment", "predictions@entailment"];
    assert_eq!((keep_going.code, keep_going.stages("RAN").as_slice()), (1, ran.map(ToOwned::to_owned).as_slice()));
    assert_eq!(keep_going.stages("SKIPPED").len(), 6, "{}", keep_going.stderr);
}

/// A terminal that is closed takes what it is sent no more: that must not end the engine before the workers have stopped.
#[test]
fn a_terminal_that_is_closed_does_not_end_the_run_in_disorder() {
    let sandbox = Sandbox::with_small_pipeline();
    sandbox.write("behaviour.json", r#"{"tokens@sentiment": "slow"}"#);
    let (terminal, inner) = terminal(100);
    let mut command = sandbox.command(&["run", "pipeline.yaml", "teacher@sentiment"]);
    let streams = [inner.try_clone().unwrap(), inner.try_clone().unwrap()];
    let [stdout, stderr] = streams.map(Stdio::from);
    let mut engine = command.env("TERM", "xterm").stdout(stdout).stderr(stderr).spawn().unwrap();
    drop((command, inner));
    until("the slow stage runs", || sandbox.path("slow-tokens@sentiment").exists());
    drop(terminal);
    assert_eq!(engine.wait().unwrap().code(), Some(0));
    assert_eq!(sandbox.names_in("artifacts/latest").len(), 3);
}

/// In a session of its own it has no terminal, where a program that asks for a password would wait for good.
#[test]
fn a_program_has_a_session_of_its_own_and_so_no_terminal() {
    let sandbox = Sandbox::with_fake_worker();
    sandbox.write(
        "own.sh",
        "read -r pid name state parent group session rest < /proc/$$/stat\n\
         echo \"$session $$\" > \"$(dirname $1)/output/file\"\n",
    );
    sandbox.write("pipeline.yaml", "stages: { own: { exec: { run: [sh, own.sh] } } }\n");
    let run = sandbox.bam(&["run"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let told = sandbox.read("artifacts/latest/own/file");
    let (session, process) = told.trim().split_once(' ').unwrap();
    assert_eq!(session, process);
}
