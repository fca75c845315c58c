//! What `bam` does where its output goes to no terminal, to nobody, or nowhere.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Stdio;

use crate::support::{Sandbox, redact, until};

/// What `bam plan` prints in an environment.
fn plan_with(sandbox: &Sandbox, environment: &[(&str, &str)]) -> String {
    let mut command = sandbox.command(&["plan"]);
    for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE"] {
        command.env_remove(name);
    }
    let output = command.envs(environment.iter().copied()).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn colour_is_for_terminals_and_those_who_ask() {
    let sandbox = Sandbox::with_small_pipeline();
    let plain = plan_with(&sandbox, &[]);
    assert!(!plain.contains('\x1b'), "{plain}");
    let forced = plan_with(&sandbox, &[("CLICOLOR_FORCE", "1")]);
    assert_eq!(forced.replace("\x1b[1m", "").replace("\x1b[0m", ""), plain);
    assert!(forced.contains('\x1b'), "{forced}");
    assert_eq!(plan_with(&sandbox, &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]), plain);
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let sandbox = Sandbox::with_small_pipeline();
    sandbox.bam(&["run"]);
    for args in [&["status"][..], &["show", "student"], &["run", "--json"], &["runs", "--json"], &["verify"], &["plan"]]
    {
        let mut command = sandbox.command(args);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // Closed before a word is read.
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), said.as_str()), (Some(0), ""), "{args:?}");
    }
}

#[test]
fn a_full_disk_is_one() {
    let sandbox = Sandbox::with_small_pipeline();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let output = sandbox.command(&["plan"]).stdout(full).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.starts_with("error: writing to standard output: "), "{said}");
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_log_is_followed_to_its_end_and_no_longer_than_it_is_read() {
    let sandbox = Sandbox::with_fake_worker();
    sandbox.write(
        "own.sh",
        "touch there; for n in 1 2 3; do echo line $n >&2; done
         while [ ! -e go ]; do echo more >&2; sleep 0.05; done; echo last >&2",
    );
    sandbox.write("pipeline.yaml", "stages: { own: { exec: { run: [sh, own.sh] } } }\n");
    let mut run = sandbox.command(&["run"]).stderr(Stdio::null()).spawn().unwrap();
    until("the stage runs", || sandbox.path("there").exists());
    let follow = || {
        let mut command = sandbox.command(&["log", "-f", "own"]);
        command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
    };
    let first_line = |from| BufReader::new(from).lines().next().unwrap().unwrap();

    // The reader goes after one line, while the stage goes on.
    let mut bored = follow();
    assert_eq!(first_line(bored.stdout.take().unwrap()), "line 1");
    assert_eq!(bored.wait().unwrap().code(), Some(0));
    assert!(!sandbox.path("go").exists() && run.try_wait().unwrap().is_none());

    let patient = follow();
    sandbox.write("go", "");
    let output = patient.wait_with_output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.starts_with("line 1\nline 2\nline 3\n") && said.trim_end().ends_with("last"), "{said}");
    run.wait().unwrap();
}

/// What a terminal of so many columns shows: the last screen on which a stage was running, and the one at the end.
fn seen_on_a_terminal(sandbox: &Sandbox, columns: u16) -> (String, String) {
    let (mut terminal, inner) = crate::support::terminal(columns);
    let mut command = sandbox.command(&["run", "pipeline.yaml", "tokens@sentiment"]);
    let streams = [inner.try_clone().unwrap(), inner.try_clone().unwrap()];
    let [stdout, stderr] = streams.map(Stdio::from);
    let mut run = command.env("TERM", "xterm").env("NO_COLOR", "1").stdout(stdout).stderr(stderr).spawn().unwrap();
    drop((command, inner));
    let mut screen = vt100::Parser::new(60, columns, 0);
    let (mut running, mut bytes) = (String::new(), [0; 4096]);
    // Once nobody has the other end, reading fails.
    while let Ok(count @ 1..) = terminal.read(&mut bytes) {
        screen.process(&bytes[..count]);
        let shown = screen.screen().contents();
        if shown.contains("RUNNING") {
            running = shown;
        }
    }
    assert!(run.wait().unwrap().success());
    (running, screen.screen().contents())
}

#[test]
fn a_terminal_shows_what_runs_and_in_the_end_what_a_file_would_hold() {
    let sandbox = Sandbox::with_small_pipeline();
    sandbox.write("behaviour.json", r#"{"tokens@sentiment": "slow"}"#);
    let (running, end) = seen_on_a_terminal(&sandbox, 120);
    let running: Vec<&str> = running.lines().filter(|line| line.contains("RUNNING")).collect();
    let [line] = running[..] else { panic!("one stage runs: {running:?}") };
    assert!(line.contains("tokens@sentiment") && line.contains("step 1/2") && line.contains("loss 0.5"), "{line}");
    assert!(line.contains('━'), "{line}");

    fs::remove_dir_all(sandbox.path("artifacts")).unwrap();
    let plain = sandbox.bam(&["run", "pipeline.yaml", "tokens@sentiment"]);
    assert_eq!(redact(&(end + "\n")).trim_end(), plain.stderr.trim_end());
}

#[test]
fn a_narrow_terminal_is_left_clean() {
    let sandbox = Sandbox::with_small_pipeline();
    sandbox.write("behaviour.json", r#"{"tokens@sentiment": "slow"}"#);
    // The bar goes before what it stands for.
    let (running, _) = seen_on_a_terminal(&sandbox, 72);
    assert!(running.contains("step 1/2  loss 0.5") && !running.contains('━'), "{running}");
    fs::remove_dir_all(sandbox.path("artifacts")).unwrap();
    let (running, end) = seen_on_a_terminal(&sandbox, 40);
    assert_eq!(running.matches("RUNNING").count(), 1, "{running}");
    assert!(!end.contains("RUNNING") && end.contains("2 stages: 2 ran"), "{end}");
}
