//! Another queue, by templates: task-spooler, started for a test and stopped with it.

use std::fs;
use std::io::{self, Write as _};
use std::process::{Child, Command, Stdio};

use super::ended;
use crate::support::{Said, Sandbox, said, signal, until};

/// A profile for task-spooler; more lines follow.
const PROFILE: &str = "\
executor: command
command:
  submit: [tsp, -L, '{name}', bash, '{script}']
  poll: [tsp, -s, '{job}']
  cancel: [sh, -c, 'tsp -r {job} || tsp -k {job}']
  gone: [finished, skipped]
  gone_codes: [255]
poll: 1s
";

/// A sandbox whose stages are jobs of a task-spooler of its own.
struct Spooler {
    sandbox: Sandbox,
}

impl Spooler {
    /// Nothing where the machine has none, which is said.
    fn start(profile: &str) -> Option<Self> {
        let mut version = Command::new("tsp");
        if version.arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
            _ = writeln!(io::stderr(), "skipped: no `tsp` (Debian package `task-spooler`), so no other queue to try");
            return None;
        }
        let sandbox = Sandbox::with_small_pipeline();
        sandbox.write("cluster.yaml", &format!("{PROFILE}{profile}"));
        Some(Self { sandbox })
    }

    fn within(&self, mut command: Command) -> Command {
        command.env("TS_SOCKET", self.sandbox.path("socket")).env("TS_SLOTS", "4").env_remove("BAM_JOBS");
        // Where it keeps what jobs print, which is nothing.
        command.env("TMPDIR", self.sandbox.path("."));
        command
    }

    fn run(&self, args: &[&str]) -> Said {
        said(&mut self.within(self.sandbox.command(&[&["run", "--profile", "cluster.yaml"], args].concat())))
    }

    fn start_run(&self, args: &[&str]) -> Child {
        let mut command = self.within(self.sandbox.command(&[&["run", "--profile", "cluster.yaml"], args].concat()));
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("bam starts")
    }

    fn tsp(&self, args: &[&str]) -> String {
        let mut command = self.within(Command::new("tsp"));
        String::from_utf8(command.args(args).output().expect("it is there").stdout).expect("UTF-8")
    }

    /// Lines of its list: jobs that it knows.
    fn jobs(&self) -> usize {
        self.tsp(&[]).lines().count() - 1
    }

    /// A training of so many steps, ten a second, which has taken some.
    fn until_step(&self, step: u32) {
        let at = self.sandbox.path("at-step-teacher@sentiment");
        let reached = || fs::read_to_string(&at).ok().and_then(|text| text.parse().ok()).unwrap_or(0) >= step;
        until("the training takes its steps", reached);
    }
}

impl Drop for Spooler {
    fn drop(&mut self) {
        self.tsp(&["-K"]);
    }
}

const TEACHER: [&str; 2] = ["pipeline.yaml", "teacher@sentiment"];

#[test]
fn another_queue_gives_the_same_artifacts() {
    let Some(spooler) = Spooler::start("setup: [echo set up]\n") else { return };
    let run = spooler.run(&[]);
    assert_eq!((run.code, run.stages("RAN").len()), (0, 11), "{}", run.stderr);
    let local = Sandbox::with_small_pipeline();
    assert_eq!(local.bam(&["run"]).code, 0);
    assert_eq!(spooler.sandbox.contents(), local.contents());
    assert_eq!(spooler.jobs(), 11);
    let made = &spooler.sandbox.manifest("student")["provenance"]["worker"];
    assert_eq!(made["jobs"].as_array().map(Vec::len), Some(1), "{made}");
    let log = spooler.sandbox.read("artifacts/latest/student/log.txt");
    assert!(log.contains("a library prints this\n") && log.contains("set up\n"), "{log}");
    assert_eq!(spooler.sandbox.names_in("artifacts/tmp"), [""; 0]);
}

#[test]
fn failures_of_another_queue_are_told() {
    let Some(spooler) = Spooler::start("") else { return };
    spooler.sandbox.write("behaviour.json", r#"{"tokens@sentiment": "fail", "tokens@entailment": "crash"}"#);
    let run = spooler.run(&[]);
    assert_eq!((run.code, run.stages("FAILED").len()), (1, 2), "{}", run.stderr);
    assert!(run.stderr.contains("error: line 3 of `train.tsv` has 2 columns"), "{}", run.stderr);
    assert!(run.stderr.contains("error: the worker ended with exit code 3\n"), "{}", run.stderr);
    spooler.sandbox.write("cluster.yaml", &format!("{PROFILE}setup: [echo no module cuda >&2, exit 7]\n"));
    let run = spooler.run(&["pipeline.yaml", "tokens@sentiment"]);
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("error: its job ended with exit code 7 before the worker did\n"), "{}", run.stderr);
    assert!(run.stderr.contains("  | no module cuda\n"), "{}", run.stderr);
}

#[test]
fn another_queues_jobs_are_adopted_and_cancelled() {
    let Some(spooler) = Spooler::start("") else { return };
    spooler.sandbox.write("behaviour.json", r#"{"teacher@sentiment": "steps", "steps": 300}"#);
    let mut engine = spooler.start_run(&TEACHER);
    spooler.until_step(3);
    engine.kill().unwrap();
    engine.wait().unwrap();
    let status = said(&mut spooler.within(spooler.sandbox.command(&["status"]))).stdout;
    let line = status.lines().find(|line| line.starts_with("teacher@sentiment ")).unwrap();
    assert!(line.contains("job 2 submitted") && line.contains("adopts it"), "{line}");
    let jobs = spooler.jobs();

    let engine = spooler.start_run(&TEACHER);
    spooler.until_step(20);
    signal(engine.id(), libc::SIGINT);
    let (story, code) = ended(engine);
    assert_eq!(code, Some(130), "{story}");
    assert!(story.contains("ADOPTED") && story.contains("the next run goes on from there"), "{story}");
    assert_eq!(spooler.jobs(), jobs, "it was submitted once");
    assert_eq!(spooler.sandbox.names_in("artifacts/tmp"), [""; 0]);
    spooler.sandbox.write("behaviour.json", r#"{"teacher@sentiment": "steps", "steps": 30}"#);
    let again = spooler.run(&TEACHER);
    assert_eq!(again.code, 0, "{}", again.stderr);
    let log = spooler.sandbox.read("artifacts/latest/teacher@sentiment/log.txt");
    assert!(log.contains("from step ") && !log.contains("from step 0\n"), "{log}");
}

#[test]
fn a_job_that_another_queue_loses_is_submitted_again() {
    let Some(spooler) = Spooler::start("") else { return };
    // Of the first, nothing is left to run.
    spooler.sandbox.edit(
        "cluster.yaml",
        "bash, '{script}'",
        "sh, -c, 'test -e lost && exec bash {script}; touch lost'",
    );
    let run = spooler.run(&["pipeline.yaml", "examples@sentiment"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stderr.contains("job 0 is gone from the queue"), "{}", run.stderr);
    assert_eq!((run.stages("REQUEUED").len(), spooler.jobs()), (1, 2), "{}", run.stderr);
}

#[test]
fn another_queue_that_is_away_for_a_while_costs_no_job() {
    let Some(spooler) = Spooler::start("") else { return };
    spooler.sandbox.edit(
        "cluster.yaml",
        "poll: [tsp, -s, '{job}']",
        "poll: [sh, -c, 'test ! -e away && tsp -s {job}']",
    );
    spooler.sandbox.write("behaviour.json", r#"{"teacher@sentiment": "steps", "steps": 80}"#);
    let engine = spooler.start_run(&TEACHER);
    spooler.until_step(3);
    spooler.sandbox.write("away", "");
    spooler.until_step(60);
    fs::remove_file(spooler.sandbox.path("away")).unwrap();
    let (story, code) = ended(engine);
    assert_eq!(code, Some(0), "{story}");
    assert!(story.contains("the queue cannot be asked") && !story.contains("REQUEUED"), "{story}");
    assert_eq!(spooler.jobs(), 3, "each stage was submitted once");
}

#[test]
fn what_poll_says_is_shown_whatever_it_is() {
    let Some(spooler) = Spooler::start("") else { return };
    spooler.sandbox.edit("cluster.yaml", "poll: [tsp, -s, '{job}']", "poll: [sh, -c, 'echo {job}: soon to be']");
    spooler.sandbox.write("behaviour.json", r#"{"examples@sentiment": "steps", "steps": 30}"#);
    let run = spooler.run(&["pipeline.yaml", "examples@sentiment"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stderr.contains("job 0 0: soon to be"), "{}", run.stderr);
}

#[test]
fn calls_that_cannot_do_are_told_before_anything_runs() {
    let sandbox = Sandbox::with_small_pipeline();
    let tell = |profile: &str| {
        sandbox.write("cluster.yaml", profile);
        let said = sandbox.bam(&["run", "--profile", "cluster.yaml"]);
        assert_eq!(said.code, 2, "{}", said.stderr);
        said.stderr
    };
    let flawed = "\
executor: command
partition: gpu
limits: { train: { time: 1h } }
command:
  submit: [no-such-queue, '{scirpt}', '{job}']
  poll: [sh, -c, \"stat {id} | awk '{print $1}'\"]
  cancel: [sh, -c, stop]
";
    insta::assert_snapshot!(tell(flawed));
    assert!(
        tell("executor: command\n")
            .starts_with("error: `executor: command` needs `command`\n  --> cluster.yaml:1:11\n")
    );
    let without_submit = tell("executor: command\ncommand: { poll: ['{job}'], cancel: ['{job}'] }\n");
    assert!(without_submit.contains("`submit`") && without_submit.contains("--> cluster.yaml:2:"), "{without_submit}");
    let without_poll = tell("executor: command\ncommand: { submit: [sh, '{script}'], cancel: [sh, '{job}'] }\n");
    assert_eq!(without_poll.matches("`poll`").count(), 1, "{without_poll}");
    let slurms = tell("executor: slurm\ncommand: { submit: ['{script}'], poll: ['{job}'], cancel: ['{job}'] }\n");
    assert!(slurms.starts_with("error: `command` is for `executor: command`\n  --> cluster.yaml:2:1\n"), "{slurms}");
    let absent = tell(
        "executor: command\ncommand: { submit: [no-such-queue, '{script}'], poll: [sh, '{job}'], cancel: [sh, '{job}'] }\n",
    );
    assert!(absent.starts_with("error: `no-such-queue` is not on the `PATH`\n  --> cluster.yaml:2:21\n"), "{absent}");
    assert_eq!(sandbox.names_in("artifacts"), [""; 0], "nothing was run");
}

#[test]
fn a_submit_that_prints_no_job_fails_the_stage() {
    let sandbox = Sandbox::with_small_pipeline();
    let profile =
        "executor: command\ncommand: { submit: [SUBMIT, '{script}'], poll: [sh, '{job}'], cancel: [sh, '{job}'] }\n";
    let tell = |submit: &str| {
        sandbox.write("cluster.yaml", &profile.replace("SUBMIT", submit));
        let said = sandbox.bam(&["run", "--profile", "cluster.yaml", "pipeline.yaml", "examples@sentiment"]);
        assert_eq!(said.code, 1, "{}", said.stderr);
        said.stderr
    };
    assert!(tell("'true'").contains("error: `submit` of the profile printed no job\n\nhint: the last word"), "silent");
    let refused = tell("sh, -c, 'echo no such queue >&2; exit 1'");
    assert!(refused.contains("error: `sh`: no such queue\n\nhint: the profile's `submit`"), "{refused}");
}

#[test]
fn a_job_has_a_name_that_every_queue_takes_and_runs_where_poll_says_so() {
    let sandbox = Sandbox::with_small_pipeline();
    sandbox.write(
        "cluster.yaml",
        "executor: command\npoll: 1s\ncommand:\n  \
         submit: [sh, -c, 'echo $1 >> names; bash $2 >/dev/null 2>&1 & echo 7', sh, '{name}', '{script}']\n  \
         poll: [sh, -c, 'echo R', '{job}']\n  cancel: [sh, '{job}']\n",
    );
    sandbox.write("behaviour.json", r#"{"examples@sentiment": "steps", "steps": 30}"#);
    let run = sandbox.bam(&["run", "--profile", "cluster.yaml", "pipeline.yaml", "examples@sentiment"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let runs = run.stderr.lines().find(|line| line.contains("job 7 running")).expect("it runs");
    assert!(runs.trim_start().starts_with("RUNNING ") && !run.stderr.contains("QUEUED"), "{}", run.stderr);
    let name = sandbox.read("names");
    assert!(name.starts_with("bam.examples_sentiment.") && name.lines().count() == 1, "{name}");
    assert!(name.trim().chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)), "{name}");
}
