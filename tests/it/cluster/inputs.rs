//! What a node makes sure of before a worker reads its inputs: in the store, or on a disk of its own.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::time::SystemTime;

use super::{LISTED, TAKES, before_others, of_stand_ins, run_with_stand_ins, stand_in};
use crate::support::{Sandbox, said};

/// Tells where it found its input, beside a copy of it.
const SEES: &str = r#"
import json, pathlib, sys
job = json.loads(pathlib.Path(sys.argv[1]).read_text())
(entry,) = job["inputs"]
output = pathlib.Path(job["output"])
(output / "copy").write_bytes((pathlib.Path(entry["path"]) / "train.parquet").read_bytes())
(output / "path").write_text(entry["path"])
"#;

/// A sandbox whose stages are jobs, one at a time, with more lines of the profile and what a job's node does before it begins.
fn cluster(profile: &str, before: &str) -> Sandbox {
    let sandbox = of_stand_ins(LISTED);
    sandbox.write("state", "RUNNING");
    sandbox.write("cluster.yaml", &format!("executor: slurm\npoll: 1s\nmax_jobs: 1\n{profile}"));
    let script = "for script; do :; done\nbash \"$script\" >/dev/null 2>&1 &\necho 7";
    stand_in(&sandbox, "sbatch", &format!("{TAKES}\n{before}\n{script}"));
    sandbox
}

/// The same, with a disk of the node's own, and two programs that read the same.
fn with_scratch() -> Sandbox {
    let sandbox = cluster("", "");
    let scratch = format!("scratch: {}\n", sandbox.path("local").display());
    sandbox.write("cluster.yaml", &(sandbox.read("cluster.yaml") + &scratch));
    sandbox.write("sees.py", SEES);
    let mut pipeline = sandbox.read("pipeline.yaml");
    for name in ["one", "two"] {
        let run =
            format!("{{ run: [python3, sees.py], inputs: {{ rows: examples@sentiment }}, params: {{ is: {name} }} }}");
        pipeline += &format!("  {name}: {{ exec: {run} }}\n");
    }
    sandbox.write("pipeline.yaml", &pipeline);
    sandbox
}

/// Runs a stage, which must end well; what it told.
fn run(sandbox: &Sandbox, stage: &str) -> String {
    let said = run_with_stand_ins(sandbox, stage);
    assert_eq!(said.code, 0, "{}", said.stderr);
    said.stderr
}

#[test]
fn an_input_that_a_node_sees_otherwise_than_it_was_committed_is_not_read() {
    // Of the same size, after the engine has read it.
    let spoil = "for file in artifacts/store/tokenize/*/train.parquet
        do printf X | dd of=\"$file\" bs=1 conv=notrunc 2>/dev/null; done";
    let sandbox = cluster("", &format!("case $(cat name) in bam:teacher*) {spoil};; esac"));
    let said = run_with_stand_ins(&sandbox, "teacher@sentiment");
    assert_eq!(said.code, 1, "{}", said.stderr);
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let told = said.stderr.replace(host.trim(), "HOST");
    let wrong = "its input `tokens@sentiment` is not what was committed, as HOST sees it: \
                 the bytes of `train.parquet` have changed\n";
    assert!(
        told.contains(wrong) && told.contains("hint: run again: what is damaged in the store is made anew"),
        "{told}"
    );
    stand_in(&sandbox, "sbatch", &sandbox.read("bin/sbatch").replace("bam:teacher*)", "bam:none*)"));
    let told = run(&sandbox, "teacher@sentiment");
    assert!(told.contains("damaged"), "{told}");
}

#[test]
fn a_file_that_changed_while_its_job_waited_is_noticed_before_the_worker_starts() {
    let sandbox = with_scratch();
    sandbox.edit("pipeline.yaml", "params: { is: one }", "params: { is: one }, files: [words]");
    sandbox.write("words", "three");
    let script = sandbox.read("bin/sbatch");
    let changes = "case $(cat name) in bam:one*) echo more >> words;; esac\nfor script; do";
    stand_in(&sandbox, "sbatch", &script.replace("#!/bin/sh\n", "").replace("for script; do", changes));
    let said = run_with_stand_ins(&sandbox, "one");
    assert_eq!(said.code, 1, "{}", said.stderr);
    assert!(said.stderr.contains("words` has changed since the job was submitted\n"), "{}", said.stderr);
    assert!(said.stderr.contains("hint: run again; the change is seen then"), "{}", said.stderr);
    stand_in(&sandbox, "sbatch", &script.replace("#!/bin/sh\n", ""));
    run(&sandbox, "one");
}

#[test]
fn a_node_brings_what_its_jobs_read_to_its_own_disk_once() {
    let sandbox = with_scratch();
    run(&sandbox, "one");
    let fingerprint = sandbox.manifest("examples@sentiment")["fingerprint"].as_str().unwrap().to_owned();
    let folder = sandbox.path("local/inputs/store/data").join(&fingerprint);
    assert_eq!(sandbox.read("artifacts/latest/one/path"), folder.display().to_string());
    let inode = || fs::metadata(folder.join("train.parquet")).unwrap().ino();
    let first = inode();
    run(&sandbox, "two");
    assert_eq!(sandbox.read("artifacts/latest/two/path"), folder.display().to_string());
    assert_eq!(inode(), first, "it was there");
    assert_eq!(
        sandbox.read("artifacts/latest/one/copy"),
        sandbox.read("artifacts/latest/examples@sentiment/train.parquet")
    );
    assert_eq!(sandbox.names_in("local/inputs/tmp"), [""; 0]);
    assert_eq!(sandbox.names_in("artifacts/tmp"), [""; 0]);

    // One that has changed there is brought again.
    fs::remove_file(sandbox.path("artifacts/latest/two")).unwrap();
    fs::write(folder.join("train.parquet"), "else").unwrap();
    sandbox.edit("pipeline.yaml", "is: two", "is: other");
    run(&sandbox, "two");
    assert_eq!(sandbox.read("artifacts/latest/two/copy"), sandbox.read("artifacts/latest/one/copy"));
    assert_ne!(inode(), first);
}

#[test]
fn jobs_that_want_the_same_at_once_bring_it_once() {
    let sandbox = with_scratch();
    sandbox.edit("cluster.yaml", "max_jobs: 1", "max_jobs: 2");
    // Which of two names the queue lists doesn't matter: both jobs end by what their node writes.
    sandbox.write(
        "both.py",
        &SEES.replace("import json", "import time, json").replace("(entry,)", "time.sleep(1)\n(entry,)"),
    );
    sandbox.edit(
        "pipeline.yaml",
        "sees.py], inputs: { rows: examples@sentiment }, params: { is: one }",
        "both.py], inputs: { rows: examples@sentiment }, params: { is: one }",
    );
    run(&sandbox, "examples@sentiment");
    let mut command = sandbox.command(&["run", "--profile", "cluster.yaml", "pipeline.yaml", "one", "two"]);
    before_others(&mut command, &sandbox);
    let both = said(command.env_remove("BAM_JOBS"));
    assert_eq!(both.code, 0, "{}", both.stderr);
    assert_eq!(sandbox.read("artifacts/latest/one/path"), sandbox.read("artifacts/latest/two/path"));
    assert!(!both.stderr.contains("not on a disk of"), "{}", both.stderr);
    assert_eq!(sandbox.names_in("local/inputs/store/data").len(), 1);
}

#[test]
fn an_input_that_cannot_be_brought_there_is_read_in_the_store_and_the_others_are_not() {
    let sandbox = with_scratch();
    run(&sandbox, "tokens@sentiment");
    // A file where the folder of that kind is to be.
    sandbox.write("local/inputs/store/train", "no folder");
    let told = run(&sandbox, "predictions@sentiment");
    assert!(told.contains("its input `teacher@sentiment` is read in the store, not on a disk of "), "{told}");
    assert_eq!(sandbox.names_in("local/inputs/store/tokenize").len(), 1);
}

#[test]
fn the_nodes_own_disk_changes_no_artifact() {
    let (sandbox, local) = (with_scratch(), Sandbox::with_small_pipeline());
    run(&sandbox, "scores");
    assert_eq!(local.bam(&["run"]).code, 0);
    assert_eq!(sandbox.contents(), local.contents());
    let read = ["tokenize", "train", "predict", "export"]
        .map(|kind| sandbox.names_in(&format!("local/inputs/store/{kind}")).len());
    assert_eq!(read, [2, 3, 2, 1], "each that some stage reads");
}

#[test]
fn what_no_job_has_read_for_a_week_leaves_a_nodes_disk() {
    let sandbox = with_scratch();
    run(&sandbox, "one");
    let folder = sandbox.names_in("local/inputs/store/data").remove(0);
    let manifest = format!("local/inputs/store/data/{folder}/manifest.json");
    let made = sandbox.manifest("examples@sentiment")["provenance"]["finished_unix_secs"].to_string();
    sandbox.edit(&manifest, &format!("\"finished_unix_secs\": {made}"), "\"finished_unix_secs\": 1");
    run(&sandbox, "teacher@sentiment");
    assert!(sandbox.path(&manifest).exists(), "it was read a moment ago");
    let lock = File::options().write(true).open(sandbox.path(&format!("local/inputs/locks/{folder}"))).unwrap();
    lock.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    run(&sandbox, "predictions@sentiment");
    assert!(!sandbox.path(&manifest).exists());
}

#[test]
fn a_node_whose_disk_takes_nothing_reads_in_the_store_and_says_so() {
    let sandbox = with_scratch();
    sandbox.write("local", "no folder");
    let told = run(&sandbox, "one");
    assert!(told.contains("inputs are read in the store, not on a disk of "), "{told}");
    let path = sandbox.read("artifacts/latest/one/path");
    assert!(path.starts_with(&sandbox.path("artifacts").display().to_string()), "{path}");
}
