//! What a stage reads or writes is touched while it runs, by its own program or from outside: nothing wrong is kept.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use crate::support::{Said, Sandbox, redact, said, signal, until};

/// Stages of shell scripts: `NAME.sh` is given the job file, and `$OUT` is where it writes.
fn sandbox(stages: &[(&str, &str, &str)]) -> Sandbox {
    let sandbox = Sandbox::with_fake_worker();
    let mut pipeline = "stages:\n".to_owned();
    for (name, script, reads) in stages {
        sandbox.write(&format!("{name}.sh"), &format!("OUT=\"$(dirname \"$1\")/output\"\n{script}\n"));
        pipeline += &format!("  {name}: {{ exec: {{ run: [sh, {name}.sh]{reads} }} }}\n");
    }
    sandbox.write("pipeline.yaml", &pipeline);
    sandbox
}

fn ended(child: std::process::Child) -> Said {
    let output = child.wait_with_output().unwrap();
    let story = redact(&String::from_utf8(output.stderr).unwrap());
    Said { code: output.status.code().unwrap_or(-1), stdout: String::new(), stderr: story }
}

/// Waits in a script until a file `go` is there.
const WAIT: &str = "touch waits; while [ ! -e go ]; do sleep 0.01; done; ";

#[test]
fn an_input_that_goes_before_its_reader_starts_is_made_again() {
    let sandbox = sandbox(&[
        ("a", "echo a > $OUT/file", ""),
        ("b", &format!("{WAIT} echo b > $OUT/file"), ""),
        ("c", "cat artifacts/latest/a/file > $OUT/file", ", inputs: { all: [a, b] }"),
    ]);
    let run = sandbox.command(&["run"]).stderr(Stdio::piped()).spawn().unwrap();
    until("the second waits", || sandbox.path("waits").exists());
    fs::remove_dir_all(fs::canonicalize(sandbox.path("artifacts/latest/a")).unwrap()).unwrap();
    sandbox.write("go", "");
    let run = ended(run);
    assert_eq!(
        (run.code, run.stages("RAN")),
        (0, ["a", "b", "a", "c"].map(ToOwned::to_owned).to_vec()),
        "{}",
        run.stderr
    );
    assert!(run.stderr.contains("3 stages: 3 ran\n"), "{}", run.stderr);
    assert_eq!(sandbox.read("artifacts/latest/c/file"), "a\n");
}

#[test]
fn a_program_that_adds_to_its_input_has_failed() {
    let sandbox = sandbox(&[
        ("a", "mkdir $OUT/sub; echo a > $OUT/sub/file", ""),
        ("b", "echo stray > artifacts/latest/a/sub/stray; echo b > $OUT/file", ", inputs: { a: a }"),
        ("c", "cat artifacts/latest/a/sub/* > $OUT/file", ", inputs: { all: [a, b] }"),
    ]);
    let run = sandbox.bam(&["run"]);
    assert_eq!((run.code, run.stages("FAILED")), (1, vec!["b".to_owned()]), "{}", run.stderr);
    assert!(run.stderr.contains("its input `a` changed while the stage ran"), "{}", run.stderr);
    // From outside, when nothing runs.
    sandbox.write("b.sh", "echo b > \"$(dirname \"$1\")/output/file\"");
    assert_eq!(sandbox.bam(&["run"]).stages("RAN"), ["a", "b", "c"]);
    sandbox.write("artifacts/latest/a/stray", "more");
    let again = sandbox.bam(&["run"]);
    assert!(again.stderr.contains("because its artifact is damaged: `stray` was added to it"), "{}", again.stderr);
    assert_eq!((again.code, again.stages("RAN")), (0, vec!["a".to_owned()]), "{}", again.stderr);
}

#[test]
fn what_a_remote_does_not_keep_an_artifact_does_not_have() {
    let sandbox = sandbox(&[("a", "mkdir -p $OUT/empty/too; ln tool $OUT/tool", "")]);
    sandbox.write("tool", "echo hi\n");
    let mode = |path: &str| fs::metadata(sandbox.path(path)).unwrap().permissions().mode() & 0o777;
    fs::set_permissions(sandbox.path("tool"), fs::Permissions::from_mode(0o755)).unwrap();
    let run = sandbox.bam(&["run"]);
    assert_eq!((run.code, mode("artifacts/latest/a/tool"), mode("tool")), (0, 0o644, 0o755), "{}", run.stderr);
    // The user's own is another file.
    sandbox.write("tool", "echo bye\n");
    assert_eq!(sandbox.read("artifacts/latest/a/tool"), "echo hi\n");
    assert_eq!(sandbox.bam(&["verify"]).code, 0);
    assert!(!sandbox.path("artifacts/latest/a/empty").exists());
}

#[test]
fn a_program_that_writes_into_its_input_has_failed() {
    let sandbox = sandbox(&[
        ("a", "echo a > $OUT/file", ""),
        ("b", "echo worse > artifacts/latest/a/file; echo b > $OUT/file", ", inputs: { a: a }"),
        ("c", "cp artifacts/latest/a/file $OUT/file", ", inputs: { all: [a, b] }"),
    ]);
    let run = sandbox.bam(&["run"]);
    assert_eq!(
        (run.code, run.stages("FAILED"), run.stages("SKIPPED")),
        (1, vec!["b".to_owned()], vec!["c".to_owned()])
    );
    assert!(run.stderr.contains("error: its input `a` changed while the stage ran\n"), "{}", run.stderr);
    sandbox.write("b.sh", "echo b > \"$(dirname $1)/output/file\"");
    let mended = sandbox.bam(&["run"]);
    assert_eq!((mended.code, mended.stages("RAN")), (0, ["a", "b", "c"].map(ToOwned::to_owned).to_vec()));
    assert_eq!(sandbox.read("artifacts/latest/c/file"), "a\n");
}

#[test]
fn a_file_that_is_added_to_an_artifact_is_noticed_before_it_is_read() {
    let sandbox =
        sandbox(&[("a", "echo a > $OUT/file", ""), ("b", "ls artifacts/latest/a > $OUT/file", ", inputs: { a: a }")]);
    sandbox.bam(&["run"]);
    sandbox.write("artifacts/latest/a/more", "");
    let verified = sandbox.bam(&["verify"]);
    assert!(
        verified.code == 1 && verified.stdout.contains("a (<hex>): `more` was added to it\n"),
        "{}",
        verified.stdout
    );
    let run = sandbox.bam(&["run", "--force=b"]);
    assert_eq!((run.code, run.stages("RAN")), (0, ["a", "b"].map(ToOwned::to_owned).to_vec()), "{}", run.stderr);
    assert_eq!(sandbox.read("artifacts/latest/b/file"), "file\nlog.txt\nmanifest.json\n");
}

#[test]
fn a_file_that_is_added_to_what_a_program_reads_fails_the_stage() {
    let sandbox =
        sandbox(&[("a", "[ -e folder/more ] || touch folder/more; cat folder/* > $OUT/file", ", files: [folder]")]);
    sandbox.write("folder/one", "1");
    let run = sandbox.bam(&["run"]);
    assert!(
        run.code == 1 && run.stderr.contains("error: `folder/more` changed while the stage ran\n"),
        "{}",
        run.stderr
    );
    assert_eq!(sandbox.bam(&["run"]).code, 0);
}

#[test]
fn a_file_that_is_changed_and_put_back_fails_the_stage() {
    let sandbox = sandbox(&[
        ("a", "echo one > $OUT/file", ""),
        (
            "b",
            &format!("{WAIT} cat \"$(dirname \"$1\")\"/../../latest/a/file words > $OUT/file"),
            ", inputs: { a: a }, files: [words]",
        ),
    ]);
    sandbox.write("words", "one\n");
    for path in ["words", "artifacts/latest/a/file"] {
        let run = sandbox.command(&["run"]).stderr(Stdio::piped()).spawn().unwrap();
        until("it waits", || sandbox.path("waits").exists());
        sandbox.write(path, "two\n");
        sandbox.write(path, "one\n");
        sandbox.write("go", "");
        let run = ended(run);
        assert_eq!((run.code, run.stages("FAILED")), (1, vec!["b".to_owned()]), "{}", run.stderr);
        assert!(run.stderr.contains("was written while the stage ran\n"), "{}", run.stderr);
        fs::remove_file(sandbox.path("waits")).unwrap();
        fs::remove_file(sandbox.path("go")).unwrap();
    }
    sandbox.write("go", "");
    assert_eq!(sandbox.bam(&["run"]).code, 0);
    assert_eq!(sandbox.read("artifacts/latest/b/file"), "one\none\n");
}

#[test]
fn an_artifact_that_is_there_is_found_though_others_read_it() {
    let sandbox = sandbox(&[
        ("a", "echo a > $OUT/file", ""),
        ("b", &format!("{WAIT} echo b > $OUT/file"), ", inputs: { a: a }"),
        ("c", "touch asked; echo c > $OUT/file", ", inputs: { a: a }"),
    ]);
    // As it is for a run that decided before it was made.
    let reads = sandbox.command(&["run", "pipeline.yaml", "b"]).stderr(Stdio::piped()).spawn().unwrap();
    until("it is read", || sandbox.path("waits").exists());
    let run = sandbox.bam(&["run", "pipeline.yaml", "c", "--force=c"]);
    assert_eq!((run.code, run.stages("CACHED")), (0, vec!["a".to_owned()]), "{}", run.stderr);
    sandbox.write("go", "");
    assert_eq!(ended(reads).code, 0);
}

#[test]
fn what_was_written_when_a_program_was_asked_to_end_is_not_kept() {
    let script = format!("trap 'exit 0' TERM; echo half > $OUT/file; {WAIT}");
    let sandbox = sandbox(&[("a", &script, "")]);
    let run = sandbox.command(&["run"]).stderr(Stdio::piped()).spawn().unwrap();
    until("it waits", || sandbox.path("waits").exists());
    signal(run.id(), libc::SIGINT);
    let run = ended(run);
    assert_eq!((run.code, run.stages("STOPPED")), (130, vec!["a".to_owned()]), "{}", run.stderr);
    assert_eq!(sandbox.names_in("artifacts/store"), [""; 0]);
}

#[test]
fn a_worker_that_stops_unasked_has_failed() {
    let sandbox = sandbox(&[("a", r#"echo '{"event": "stopped", "summary": "half of it"}'"#, "")]);
    let run = sandbox.bam(&["run"]);
    let told = "error: the worker stopped, though `bam` did not ask it to: half of it\n";
    assert!(run.code == 1 && run.stderr.contains(told), "{}", run.stderr);
}

#[test]
fn what_keeps_its_stdout_open_elsewhere_does_not_hold_a_stage_up() {
    let sandbox = sandbox(&[("a", "echo a > $OUT/file; setsid sleep 600 & echo $! > left", "")]);
    let run = sandbox.bam(&["run"]);
    assert_eq!((run.code, run.stages("RAN")), (0, vec!["a".to_owned()]), "{}", run.stderr);
    let left: i32 = sandbox.read("left").trim().parse().unwrap();
    // SAFETY: a plain system call; the process has left the group, so that it is nobody's to end but this test's.
    unsafe { libc::kill(left, libc::SIGKILL) };
}

#[test]
fn a_run_that_is_to_ignore_a_hangup_does() {
    let sandbox = sandbox(&[("a", &format!("{WAIT} echo a > $OUT/file"), "")]);
    let bam = sandbox.command(&["run"]);
    let mut shell = Command::new("sh");
    shell.args(["-c", "trap '' HUP; exec \"$0\" run"]).arg(bam.get_program()).current_dir(sandbox.path(""));
    let run = shell.stderr(Stdio::piped()).spawn().unwrap();
    until("it waits", || sandbox.path("waits").exists());
    signal(run.id(), libc::SIGHUP);
    sandbox.write("go", "");
    assert_eq!(ended(run).code, 0);
    assert_eq!(said(&mut sandbox.command(&["verify"])).code, 0);
}
