//! What each command prints, whole, as `tests/snapshots/` keeps it. After a change that is meant:
//! `INSTA_UPDATE=always cargo test --release --workspace --test snapshots`, and read the difference.

use std::fs;

use crate::support::{Said, Sandbox};
use insta::assert_snapshot;
use regex::Regex;

/// What a call gave: exit code, standard output, standard error.
fn whole(said: &Said) -> String {
    let part = |name: &str, text: &str| if text.is_empty() { String::new() } else { format!("--- {name}\n{text}") };
    steady(&format!("exit code {}\n{}{}", said.code, part("stdout", &said.stdout), part("stderr", &said.stderr)))
}

/// Without what differs from call to call and machine to machine. Columns are two spaces apart, however wide their
/// times are.
fn steady(text: &str) -> String {
    let rules = [
        (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+Z)?", "<when>"),
        (r"just now|\d+ (second|minute|hour)s? ago", "<ago>"),
        (r"\b[0-9.]+ [KMG]iB", "<size>"),
        (r" on \S+, bam", " on <host>, bam"),
        (r#""(seconds|saved_secs|last_secs|peak_memory_bytes)":[^,}]+"#, r#""$1":0"#),
        (r"[1-9]m \d\ds", "<secs>"),
        (r"([^ \n])   +", "$1  "),
    ];
    rules.iter().fold(text.to_owned(), |text, (pattern, instead)| {
        Regex::new(pattern).unwrap().replace_all(&text, *instead).into_owned()
    })
}

/// The same with the rows of a table sorted, where their order is one of times.
fn sorted(text: &str) -> String {
    let mut lines: Vec<&str> = text.lines().collect();
    let table = lines.iter().position(|line| line.starts_with("STAGE")).expect("a table");
    let end = lines.iter().position(|line| line.is_empty()).expect("its end");
    lines[table + 1..end].sort_unstable();
    lines.join("\n")
}

/// A pipeline of one task that ran, of which then a parameter was changed.
fn changed() -> Sandbox {
    let sandbox = Sandbox::with_small_pipeline();
    sandbox.edit("pipeline.yaml", "[sentiment, entailment]", "[sentiment]");
    assert_eq!(sandbox.bam(&["run", "--threads", "1"]).code, 0);
    sandbox.edit("pipeline.yaml", "max_tokens: 128", "max_tokens: 96");
    sandbox
}

#[test]
fn before_a_run() {
    let sandbox = changed();
    let say = |args: &[&str]| whole(&sandbox.bam(args));
    assert_snapshot!("plan", say(&["plan", "--threads", "1"]));
    assert_snapshot!("plan_why", say(&["plan", "--why", "student"]));
    assert_snapshot!("plan_json", say(&["plan", "--json", "pipeline.yaml", "tokens"]));
    assert_snapshot!("status", say(&["status"]));
    assert_snapshot!("gc_dry_run", say(&["gc", "--dry-run", "--set", "vars.max_tokens=128"]));
    fs::write(
        sandbox.path("other.yaml"),
        "stages: { x: { data: { task: similarity, grammar: { train: 5, dev: 5 } } } }",
    )
    .unwrap();
    assert_snapshot!("gc_dry_run_of_another_pipeline", sorted(&say(&["gc", "--all", "--dry-run", "other.yaml"])));
}

#[test]
fn after_a_run() {
    let sandbox = changed();
    let rerun = sandbox.bam(&["run", "--threads", "1"]);
    let say = |args: &[&str]| whole(&sandbox.bam(args));
    assert_snapshot!("rerun", whole(&rerun));
    assert_snapshot!("show", say(&["show", "scores"]));
    assert_snapshot!("show_two", say(&["show", "teacher@sentiment", "student"]));
    assert_snapshot!("runs", say(&["runs"]));
    let runs = sandbox.names_in("artifacts/runs");
    let started = runs[1]["2026-01-01T".len().."2026-01-01T00-00-00.000Z".len()].replace('-', ":");
    let started = format!("{}{started}", &runs[1][.."2026-01-01T".len()]);
    assert_snapshot!("runs_of_one", say(&["runs", &started]));
    assert_snapshot!("verify", say(&["verify"]));
    let file = fs::canonicalize(sandbox.path("artifacts/latest/onnx/model.onnx")).unwrap();
    fs::write(file, "cut").unwrap();
    assert_snapshot!("verify_damaged", say(&["verify"]));
}

#[test]
fn a_failure() {
    let sandbox = Sandbox::with_fake_worker();
    sandbox.write("own.sh", "for n in 1 2 3 4 5 6 7 8 9 10 11 12; do echo line $n >&2; done; exit 7");
    sandbox.write(
        "pipeline.yaml",
        "stages: { own: { exec: { run: [sh, own.sh] } }, after: { exec: { run: [sh, own.sh], inputs: { x: own } } } }",
    );
    assert_snapshot!("failure", whole(&sandbox.bam(&["run"])));
    assert_snapshot!("failure_json", whole(&sandbox.bam(&["run", "--json", "--threads", "1"])));
    assert_snapshot!("failure_status", whole(&sandbox.bam(&["status"])));
    assert_snapshot!("failure_log", whole(&sandbox.bam(&["log", "own"])));
}

#[test]
fn events() {
    let sandbox = Sandbox::with_small_pipeline();
    sandbox.bam(&["run", "pipeline.yaml", "examples@sentiment"]);
    assert_snapshot!(
        "run_json",
        whole(&sandbox.bam(&["run", "--json", "--threads", "1", "pipeline.yaml", "tokens@sentiment"]))
    );
}

#[test]
fn what_is_shared() {
    let sandbox = changed();
    let say = |args: &[&str]| whole(&sandbox.bam(args));
    fs::create_dir(sandbox.path("shared")).unwrap();
    // All of the first run is there, of the changed pipeline the examples alone.
    let (remote, first) = (["--remote", "shared"], ["--set", "vars.max_tokens=128"]);
    // Several are on their way at a time.
    let in_order = |text: String| {
        let mut lines: Vec<&str> = text.lines().collect();
        lines.sort_unstable_by_key(|line| line.split_once("/7) ").map_or("", |(before, _)| before));
        lines.join("\n")
    };
    assert_snapshot!("push", in_order(say(&[&["push"][..], &remote, &first].concat())));
    assert_snapshot!("push_again", in_order(say(&[&["push"][..], &remote].concat())));
    fs::remove_dir_all(sandbox.path("artifacts/store")).unwrap();
    assert_snapshot!("pull", in_order(say(&[&["pull"][..], &remote, &first].concat())));
    assert_snapshot!("graph", say(&["graph"]));
    fs::remove_file(sandbox.path("pipeline.yaml")).unwrap();
    assert_snapshot!("init", say(&["init", "--encoder", "enc"]));
}

#[test]
fn kubernetes() {
    let sandbox = Sandbox::with_small_pipeline();
    assert_eq!(sandbox.bam(&["run", "--threads", "1"]).code, 0);
    sandbox.edit("pipeline.yaml", "epochs: 6", "epochs: 7");
    sandbox.write(
        "cluster.yaml",
        "executor: slurm\nenvironment: { HF_HOME: /project/hub }\n\
         limits: { train: { time: 4h, cpus: 8, memory: 32GiB, gpus: 1 }, score: { time: 10m } }\n",
    );
    let say = |more: &[&str]| {
        let args =
            ["export", "k8s", "--image", "registry.example/bam:1", "--claim", "bert", "--profile", "cluster.yaml"];
        whole(&sandbox.bam(&[&args, more].concat()))
    };
    assert_snapshot!("export_k8s", say(&[]));
    assert_snapshot!("export_k8s_stdout", say(&["--namespace", "nlp", "-o", "-"]));
}

#[test]
fn help() {
    let sandbox = Sandbox::new();
    let help = |command: &str| {
        let args: Vec<&str> = command.split_whitespace().chain(["--help"]).collect();
        let output = sandbox.command(&args).env_remove("COLUMNS").env_remove("BAM_JOBS").output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    assert_snapshot!("help", help(""));
    let commands = [
        "run",
        "plan",
        "status",
        "show",
        "log",
        "runs",
        "verify",
        "gc",
        "graph",
        "export k8s",
        "init",
        "push",
        "pull",
        "schema",
    ];
    for command in commands {
        assert_snapshot!(format!("help_{}", command.replace(' ', "_")), help(command));
    }
}
