//! Artifacts shared by machines: two sandboxes and a remote, an S3 server or a folder.

mod s3;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use crate::support::{Said, Sandbox, said};
use s3::{Manners, S3, files_below};
use serde_json::Value;

const REMOTE: &str = "s3://shared/team/bert";

/// `bam` with the remote.
fn command(sandbox: &Sandbox, s3: &S3, args: &[&str]) -> Command {
    let mut command = sandbox.command(args);
    s3.lead(&mut command);
    command.env("BAM_REMOTE", REMOTE);
    command
}

fn bam(sandbox: &Sandbox, s3: &S3, args: &[&str]) -> Said {
    said(&mut command(sandbox, s3, args))
}

/// Another machine: the same pipeline, an empty store, and workers of which none can do anything.
fn second_machine() -> Sandbox {
    let sandbox = Sandbox::with_small_pipeline();
    let stages = ["examples", "tokens", "teacher", "predictions"];
    let each = stages.iter().flat_map(|family| ["sentiment", "entailment"].map(|task| format!("{family}@{task}")));
    let all = each.chain(["student", "onnx", "scores"].map(ToOwned::to_owned));
    let crash: Vec<String> = all.map(|stage| format!("\"{stage}\": \"crash\"")).collect();
    sandbox.write("behaviour.json", &format!("{{{}}}", crash.join(",")));
    sandbox
}

/// What a call prints, nothing of it redacted.
fn json(command: &mut Command) -> Vec<Value> {
    let stdout = command.output().unwrap().stdout;
    std::str::from_utf8(&stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn flip_a_byte(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    bytes[3] ^= 1;
    fs::write(path, bytes).unwrap();
}

/// Where the remote keeps a file of a stage's artifact.
fn blob(sandbox: &Sandbox, stage: &str, file: &str) -> String {
    format!("team/bert/blobs/{}", sandbox.manifest(stage)["files"][file]["digest"].as_str().unwrap())
}

#[test]
fn a_second_machine_gets_the_scores_without_running_anything() {
    let (first, s3) = (Sandbox::with_small_pipeline(), S3::start(Manners::Good));
    let made = bam(&first, &s3, &["run"]);
    assert_eq!((made.code, made.stages("RAN").len()), (0, 11), "{}", made.stderr);
    assert!(made.stderr.contains("\n      Pushed 11 artifacts, "), "{}", made.stderr);

    let second = second_machine();
    let plan = bam(&second, &s3, &["plan"]);
    let found = bam(&second, &s3, &["run"]);
    let size = regex::Regex::new(r", [0-9.]+ [KM]?i?B +").unwrap();
    assert_eq!(
        size.replace(&found.stderr, ", <size> "),
        "    Pipeline small: 11 stages
      REMOTE             ( 1/11) examples@sentiment      made by data                              <hex>
      REMOTE             ( 2/11) examples@entailment     made by data                              <hex>
      REMOTE             ( 3/11) tokens@sentiment        made by tokenize                          <hex>
      REMOTE             ( 4/11) tokens@entailment       made by tokenize                          <hex>
      REMOTE             ( 5/11) teacher@sentiment       made by train                             <hex>
      REMOTE             ( 6/11) teacher@entailment      made by train                             <hex>
      REMOTE             ( 7/11) predictions@sentiment   made by predict                           <hex>
      REMOTE             ( 8/11) predictions@entailment  made by predict                           <hex>
      REMOTE             ( 9/11) student                 made by train                             <hex>
      REMOTE             (10/11) onnx                    made by export                            <hex>
     FETCHED [time]  (11/11) scores                  made by score, <size> <hex>
────────────
     Summary [time]  11 stages: 10 in the remote, 1 fetched

"
    );
    assert_eq!((found.code, &found.stdout), (0, &made.stdout));
    let last_line = plan.stdout.lines().last().unwrap();
    assert_eq!(last_line, "11 stages: 0 cached, 1 to fetch, 10 in the remote, 0 to run", "{}", plan.stdout);
    assert!(plan.stdout.contains("scores                  fetch          <secs>  in the remote\n"), "{}", plan.stdout);

    // What is known needn't be asked for.
    let asked = s3.requests();
    let again = bam(&second, &s3, &["run"]);
    assert!(again.stderr.ends_with("11 stages: 1 cached, 10 in the remote\n\n"), "{}", again.stderr);
    assert_eq!(said(&mut second.command(&["run", "--remote", REMOTE, "--offline"])).code, 0);
    assert_eq!(s3.requests(), asked);

    let pulled = bam(&second, &s3, &["pull"]);
    assert_eq!((pulled.code, pulled.stages("FETCHED").len()), (0, 10), "{}", pulled.stderr);
    assert_eq!(second.contents(), first.contents());
    assert_eq!(second.bam(&["verify"]).code, 0);
    let log = second.bam(&["log", "student"]).stdout;
    assert!(log.starts_with("fetched from s3://shared/team/bert; made on "), "{log}");
}

#[test]
fn what_runs_has_its_inputs_fetched_and_nothing_else() {
    let (first, s3) = (Sandbox::with_small_pipeline(), S3::start(Manners::Good));
    bam(&first, &s3, &["run"]);
    let second = Sandbox::with_small_pipeline();
    second.edit("pipeline.yaml", "epochs: 6", "epochs: 7");
    let decisions = json(&mut command(&second, &s3, &["plan", "pipeline.yaml", "onnx", "--json"]));
    let decided = |decision: &str| -> BTreeSet<String> {
        let fitting = decisions.iter().filter(|line| line["decision"] == decision);
        fitting.map(|line| line["stage"].as_str().unwrap().to_owned()).collect()
    };
    let run = bam(&second, &s3, &["run", "pipeline.yaml", "onnx"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let fetched =
        ["predictions@entailment", "predictions@sentiment", "tokens@entailment", "tokens@sentiment"].map(str::to_owned);
    assert_eq!(run.stages("FETCHED").into_iter().collect::<BTreeSet<_>>(), fetched.clone().into(), "{}", run.stderr);
    assert_eq!(run.stages("RAN"), ["student", "onnx"]);
    assert_eq!(decided("fetch"), fetched.into());
    assert_eq!((decided("run"), decided("may_run")), (["student".to_owned()].into(), ["onnx".to_owned()].into()));
    assert_eq!(decided("remote").len(), 4);
    // What it made is there for the first.
    first.edit("pipeline.yaml", "epochs: 6", "epochs: 7");
    let back = bam(&first, &s3, &["run", "pipeline.yaml", "onnx"]);
    assert_eq!((back.stages("FETCHED"), back.stages("RAN")), (vec!["onnx".to_owned()], vec![]), "{}", back.stderr);
}

#[test]
fn a_wrong_byte_in_the_remote_is_told_made_here_and_mended_there() {
    let (first, s3) = (Sandbox::with_small_pipeline(), S3::start(Manners::Good));
    bam(&first, &s3, &["run"]);
    flip_a_byte(&s3.path(&blob(&first, "tokens@sentiment", "train.parquet")));
    let second = Sandbox::with_small_pipeline();
    let run = bam(&second, &s3, &["run", "pipeline.yaml", "tokens"]);
    let warning = "warning: `tokens@sentiment` (<hex>) in remote `s3://shared/team/bert` is damaged: `train.parquet` came \
                   with other bytes than were sent\n";
    assert_eq!((run.code, run.stderr.matches(warning).count()), (0, 1), "{}", run.stderr);
    assert_eq!(run.stages("RAN"), ["tokens@sentiment"], "{}", run.stderr);
    let contents = second.contents();
    assert_eq!(contents["tokens@sentiment"], first.contents()["tokens@sentiment"]);
    // And a lost blob, and a manifest that was tampered with.
    fs::remove_file(s3.path(&blob(&first, "tokens@entailment", "dev.parquet"))).unwrap();
    let fingerprint = first.manifest("examples@sentiment")["fingerprint"].as_str().unwrap().to_owned();
    let manifest = s3.path(&format!("team/bert/manifests/data/{fingerprint}.json"));
    let text = fs::read_to_string(&manifest).unwrap().replace("train.parquet", "../train.parquet");
    fs::write(&manifest, text).unwrap();
    let third = Sandbox::with_small_pipeline();
    let run = bam(&third, &s3, &["run", "pipeline.yaml", "tokens"]);
    assert_eq!((run.code, run.stderr.matches("warning: ").count()), (0, 2), "{}", run.stderr);
    let mut ran = run.stages("RAN");
    ran.sort();
    assert_eq!(ran, ["examples@sentiment", "tokens@entailment"], "{}", run.stderr);

    let fourth = second_machine();
    let pulled = bam(&fourth, &s3, &["pull"]);
    assert_eq!((pulled.code, pulled.stderr.matches("warning: ").count()), (0, 0), "{}", pulled.stderr);
    assert_eq!(fourth.contents(), first.contents());
}

#[test]
fn a_remote_that_is_down_is_told_once_and_what_is_missing_there_comes_later() {
    let (sandbox, s3) = (Sandbox::with_small_pipeline(), S3::start(Manners::Good));
    let mut down = command(&sandbox, &s3, &["run"]);
    let run = said(down.env("AWS_ENDPOINT_URL", "http://127.0.0.1:9"));
    assert_eq!((run.code, run.stages("RAN").len()), (0, 11), "{}", run.stderr);
    assert_eq!(run.stderr.matches("warning: ").count(), 1, "{}", run.stderr);
    let told = "warning: remote `s3://shared/team/bert` can't be reached: Connection refused (os error 111)\n\nhint: is it up, \
                and its address right (`AWS_ENDPOINT_URL` for S3)? `--offline` does without it\n";
    assert!(run.stderr.contains(told), "{}", run.stderr);
    let next = bam(&sandbox, &s3, &["run"]);
    assert_eq!(next.stages("CACHED").len(), 11, "{}", next.stderr);
    assert!(next.stderr.contains("\n      Pushed 11 artifacts, "), "{}", next.stderr);
    // What would come from it is made here.
    let other = Sandbox::with_small_pipeline();
    bam(&other, &s3, &["run"]);
    other.edit("pipeline.yaml", "epochs: 6", "epochs: 7");
    let mut down = command(&other, &s3, &["run", "--offline"]);
    let run = said(down.env("AWS_ENDPOINT_URL", "http://127.0.0.1:9"));
    assert_eq!((run.code, run.stages("FETCHED").len()), (0, 0), "{}", run.stderr);
    assert_eq!(run.stderr.matches("warning: ").count(), 0, "{}", run.stderr);
    assert_eq!(run.stages("RAN").len(), 11, "{}", run.stderr);
}

#[test]
fn two_writers_at_once_leave_one_whole_artifact_each() {
    for manners in [Manners::Good, Manners::IgnoresCreateOnly] {
        let s3 = S3::start(manners);
        let both = [Sandbox::with_small_pipeline(), Sandbox::with_small_pipeline()];
        let start = |sandbox: &Sandbox| -> Child {
            let mut command = command(sandbox, &s3, &["run"]);
            skip_signature(&mut command, manners).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
        };
        let running = both.each_ref().map(start);
        for mut child in running {
            assert!(child.wait().unwrap().success());
        }
        let third = second_machine();
        let pulled = said(skip_signature(&mut command(&third, &s3, &["pull"]), manners));
        assert_eq!(pulled.code, 0, "{}", pulled.stderr);
        assert_eq!(third.contents(), both[0].contents());
        let manifests = files_below(&s3.path("team/bert/manifests"));
        assert_eq!(manifests.len(), 11, "{manifests:?}");
    }
}

/// That server takes requests of anybody, and none that are signed.
fn skip_signature(command: &mut Command, manners: Manners) -> &mut Command {
    if manners == Manners::IgnoresCreateOnly {
        command.env("AWS_SKIP_SIGNATURE", "true");
    }
    command
}

#[test]
fn a_server_that_ignores_create_only_is_found_out_once() {
    let (sandbox, s3) = (Sandbox::with_small_pipeline(), S3::start(Manners::IgnoresCreateOnly));
    let run = |args: &[&str]| said(skip_signature(&mut command(&sandbox, &s3, args), Manners::IgnoresCreateOnly));
    let first = run(&["run"]);
    let told = "warning: the server of remote `s3://shared/team/bert` ignores \"create only\"";
    assert_eq!((first.code, first.stderr.matches(told).count()), (0, 1), "{}", first.stderr);
    let second = run(&["run", "--set", "vars.max_tokens=96"]);
    assert_eq!((second.code, second.stderr.matches("warning").count()), (0, 0), "{}", second.stderr);
    assert_eq!(files_below(&s3.path("team/bert/manifests")).len(), 20);
}

#[test]
fn a_push_that_was_cut_off_leaves_no_manifest() {
    let (sandbox, s3) = (Sandbox::with_small_pipeline(), S3::start(Manners::Good));
    s3.get_stuck(true);
    let mut start = command(&sandbox, &s3, &["run"]);
    let mut run = start.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while !s3.hangs() || sandbox.names_in("artifacts/latest").len() < 11 {
        assert_eq!(run.try_wait().unwrap(), None);
        sleep(Duration::from_millis(10));
    }
    run.kill().unwrap();
    run.wait().unwrap();
    assert_eq!(files_below(&s3.path("team/bert")), ["create-only"]);
    s3.get_stuck(false);
    let next = bam(&sandbox, &s3, &["push"]);
    assert_eq!((next.code, next.stages("PUSHED").len()), (0, 11), "{}", next.stderr);
    assert!(next.stderr.contains("\n      Pushed 11 artifacts, "), "{}", next.stderr);
    let events = json(&mut command(&sandbox, &s3, &["push", "--json"]));
    assert_eq!(events.iter().filter(|event| event["event"] == "remote").count(), 11, "{events:?}");
    assert_eq!(events.last().unwrap()["pushed"], 0);
}

#[test]
fn a_folder_is_a_remote_too_and_no_key_knows_of_it() {
    let shared = tempfile::tempdir().unwrap();
    let line = format!("seed: 17\nremote: {}", shared.path().display());
    let first = Sandbox::with_small_pipeline();
    first.bam(&["run"]);
    first.edit("pipeline.yaml", "seed: 17", &line);
    let pushed = first.bam(&["push", "pipeline.yaml", "teacher"]);
    assert_eq!((pushed.code, pushed.stages("PUSHED").len()), (0, 6), "{}", pushed.stderr);
    let run = first.bam(&["run"]);
    assert_eq!((run.stages("CACHED").len(), run.stages("RAN").len()), (11, 0), "{}", run.stderr);
    assert!(run.stderr.contains("\n      Pushed 5 artifacts, "), "{}", run.stderr);

    let second = second_machine();
    second.edit("pipeline.yaml", "seed: 17", &line);
    let pulled = second.bam(&["pull", "pipeline.yaml", "teacher"]);
    assert_eq!(pulled.stages("FETCHED"), ["teacher@sentiment", "teacher@entailment"], "{}", pulled.stderr);
    assert_eq!(second.names_in("artifacts/latest"), ["teacher@entailment", "teacher@sentiment"]);
    let status = second.bam(&["status"]);
    assert!(status.stdout.contains("\nteacher@sentiment       current "), "{}", status.stdout);
    assert!(status.stdout.contains("\ntokens@sentiment        remote "), "{}", status.stdout);
    assert_eq!(second.bam(&["run"]).code, 0);
    assert!(second.bam(&["gc", "--dry-run"]).stdout.starts_with("would remove 0 artifacts of 3, "));

    let digest = first.manifest("tokens@entailment")["files"]["dev.parquet"]["digest"].as_str().unwrap().to_owned();
    flip_a_byte(&shared.path().join("blobs").join(digest));
    let damaged = second.bam(&["pull", "pipeline.yaml", "tokens@entailment"]);
    let told = "error: `tokens@entailment` (<hex>) in remote `";
    assert_eq!((damaged.code, damaged.stages("FAILED").len()), (1, 1), "{}", damaged.stderr);
    assert!(damaged.stderr.contains(told) && damaged.stderr.contains("1 failed"), "{}", damaged.stderr);

    // What is lost there is brought again, by whoever has it.
    fs::remove_dir_all(shared.path().join("blobs")).unwrap();
    let mended = first.bam(&["push", "pipeline.yaml", "tokens@entailment"]);
    assert_eq!((mended.code, mended.stages("PUSHED").len()), (0, 2), "{}", mended.stderr);
    let pulled = second.bam(&["pull", "pipeline.yaml", "tokens@entailment"]);
    assert_eq!((pulled.code, pulled.stages("FETCHED").len()), (0, 1), "{}", pulled.stderr);

    let lacking = second.bam(&["pull", "--set", "vars.max_tokens=96"]);
    assert_eq!((lacking.code, lacking.stages("ABSENT").len()), (1, 9), "{}", lacking.stderr);
    assert!(second.bam(&["run", "--no-remote", "--set", "vars.max_tokens=96"]).code == 1);
}

#[test]
fn mistakes_about_the_remote() {
    let (sandbox, s3) = (Sandbox::with_small_pipeline(), S3::start(Manners::Good));
    sandbox.edit("pipeline.yaml", "seed: 17", "seed: 17\nremote: s4://bucket/there");
    assert_eq!(
        sandbox.bam(&["plan"]).stderr,
        "error: remote `s4://bucket/there`: unknown scheme `s4`
  --> pipeline.yaml:3:9
   |
 3 | remote: s4://bucket/there
   |         ^^^^^^^^^^^^^^^^^

hint: a remote is `s3://bucket/prefix`, `gs://…`, `az://…`, `https://…`, or a folder
"
    );
    sandbox.edit("pipeline.yaml", "remote: s4://bucket/there", "remote: [s3]");
    assert!(sandbox.bam(&["plan"]).stderr.starts_with("error: `remote` is not text\n  --> pipeline.yaml:3:9\n"));
    sandbox.edit("pipeline.yaml", "remote: [s3]", "remote: ${env:NO_SUCH_VARIABLE:-}");
    assert_eq!(sandbox.bam(&["plan"]).code, 0);
    let pull = sandbox.bam(&["pull"]);
    assert_eq!(pull.code, 2);
    assert!(pull.stderr.starts_with("error: no remote is named\n\nhint: give `--remote s3://"), "{}", pull.stderr);
    sandbox.bam(&["run", "pipeline.yaml", "examples"]);
    let wrong = |how: &dyn Fn(&mut Command)| {
        let mut command = command(&sandbox, &s3, &["push", "pipeline.yaml", "examples"]);
        how(&mut command);
        let said = said(&mut command);
        assert_eq!(said.code, 2, "{}", said.stderr);
        said.stderr.lines().find(|line| line.starts_with("error: ")).unwrap_or_default().to_owned()
    };
    let begins = |told: &str, with: &str| assert!(told.starts_with(with), "{told}");
    begins(
        &wrong(&|command| _ = command.env("AWS_SECRET_ACCESS_KEY", "wrong")),
        "error: remote `s3://shared/team/bert` denies access: SignatureDoesNotMatch",
    );
    begins(
        &wrong(&|command| _ = command.env("BAM_REMOTE", "not/there")),
        "error: the remote's folder `not/there` does not exist",
    );
    begins(
        &wrong(&|command| {
            command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
            command.env("AWS_METADATA_ENDPOINT", "http://127.0.0.1:9");
        }),
        "error: remote `s3://shared/team/bert` needs credentials, and there are none",
    );
}

#[test]
fn without_a_remote_no_thread_is_started_for_one() {
    let threads = |remote: Option<&S3>| {
        let sandbox = Sandbox::with_small_pipeline();
        sandbox.write("behaviour.json", r#"{"examples@sentiment": "hang"}"#);
        let mut command = remote.map_or_else(|| sandbox.command(&["run"]), |s3| command(&sandbox, s3, &["run"]));
        let mut run = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        while !sandbox.path("hanging").exists() {
            sleep(Duration::from_millis(10));
        }
        let tasks = fs::read_dir(format!("/proc/{}/task", run.id())).unwrap().flatten();
        let names = tasks.map(|task| fs::read_to_string(task.path().join("comm")).unwrap());
        let count = names.filter(|name| name.starts_with("bam-remote")).count();
        run.kill().unwrap();
        run.wait().unwrap();
        count
    };
    assert_eq!(threads(None), 0);
    assert!(threads(Some(&S3::start(Manners::Good))) > 0);
}
