//! Data and encoders from a hub that is a server on 127.0.0.1: what is fetched, what is kept, and what goes wrong.

mod files;
mod refusals;
mod server;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::{Said, Sandbox, said, until};
use bam_contract::artifact::examples::Examples;
use bam_contract::artifact::tokens::Tokens;
use bam_contract::task::Split;
use files::{RTE, encoder, first_release, rte, stsb};
use serde_json::{Value, json};
use server::{COMMIT, HubServer, LATER, Manners, sha256};

const GLUE: &str = "datasets/nyu-mll/glue";
const BERT: &str = "models/google-bert/bert-base-uncased";

/// One task through the stages that read from outside.
fn pipeline(glue: &str, encoder: &str) -> String {
    format!(
        "\
name: hub
vars: {{ glue: 'hub:nyu-mll/glue{glue}', encoder: 'hub:google-bert/bert-base-uncased{encoder}' }}
stages:
  examples: {{ data: {{ task: rte, from: $glue }} }}
  tokens: {{ tokenize: {{ examples: examples, encoder: $encoder, max_tokens: 48 }} }}
  teacher: {{ train: {{ tokens: [tokens], encoder: $encoder, epochs: 1 }} }}
"
    )
}

/// A sandbox whose pipeline reads both from a hub that has them.
fn set_up() -> (HubServer, Sandbox) {
    let hub = HubServer::start();
    hub.add(GLUE, rte(Some(&RTE)));
    hub.add(BERT, encoder());
    let sandbox = Sandbox::with_fake_worker();
    sandbox.write("pipeline.yaml", &pipeline(&format!("@{COMMIT}"), &format!("@{COMMIT}")));
    (hub, sandbox)
}

fn command(hub: &HubServer, sandbox: &Sandbox, args: &[&str]) -> Command {
    let mut command = sandbox.command(args);
    for name in ["HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_TOKEN", "HF_TOKEN_PATH", "HF_HUB_DOWNLOAD_TIMEOUT", "http_proxy"]
    {
        command.env_remove(name);
    }
    for name in ["HTTP_PROXY", "ALL_PROXY", "all_proxy"] {
        command.env_remove(name);
    }
    command.env("HF_HOME", sandbox.path("hf"));
    hub.lead(&mut command);
    command
}

fn bam(hub: &HubServer, sandbox: &Sandbox, args: &[&str]) -> Said {
    told(&said(&mut command(hub, sandbox, args)), hub, sandbox)
}

/// What was said, without what differs from test to test.
fn told(said: &Said, hub: &HubServer, sandbox: &Sandbox) -> Said {
    let folder = sandbox.path("").display().to_string();
    let plain = |text: &str| text.replace(&hub.endpoint(), "<hub>").replace(&folder, "<here>/");
    Said { stdout: plain(&said.stdout), stderr: plain(&said.stderr), code: said.code }
}

/// A run that fails before any stage, and makes nothing.
fn refused(hub: &HubServer, sandbox: &Sandbox) -> String {
    let run = bam(hub, sandbox, &["run"]);
    assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{}", run.stderr);
    assert_eq!(sandbox.names_in("artifacts/store"), [""; 0]);
    run.stderr
}

fn succeeds(hub: &HubServer, sandbox: &Sandbox, args: &[&str]) -> Said {
    let said = bam(hub, sandbox, args);
    assert_eq!(said.code, 0, "{}", said.stderr);
    said
}

fn asked_for<'a>(requests: &'a [String], file: &str) -> Vec<&'a String> {
    requests.iter().filter(|request| request.contains(file)).collect()
}

#[test]
fn what_is_there_is_never_asked_for_again() {
    let (hub, sandbox) = set_up();
    let plan = succeeds(&hub, &sandbox, &["plan"]);
    assert_eq!(
        plan.stdout,
        format!(
            "\
STAGE     DECISION  LAST TIME  WHY
examples  may run           –  hub:nyu-mll/glue@{COMMIT} is not fetched yet; cached if its bytes are known
tokens    may run           –  hub:google-bert/bert-base-uncased@{COMMIT} is not fetched yet; cached if its bytes are known
teacher   may run           –  hub:google-bert/bert-base-uncased@{COMMIT} is not fetched yet; cached if its bytes are known

3 stages: 0 cached, 0 to run, 3 may run, which never ran: no estimate
"
        )
    );
    for args in [&["plan", "--why", "teacher"][..], &["status"], &["graph"], &["gc", "-n"], &["run", "-n", "--json"]] {
        succeeds(&hub, &sandbox, args);
    }
    assert_eq!(hub.requests(), [""; 0], "only a run asks the hub");

    let run = succeeds(&hub, &sandbox, &["run"]);
    assert_eq!(run.stages("RAN"), ["examples", "tokens", "teacher"]);
    let fetched: Vec<&str> = run.stderr.lines().filter(|line| line.contains("FETCHED")).collect();
    assert_eq!(fetched.len(), 3, "{}", run.stderr);
    let of_glue = format!("     FETCHED [time]  hub:nyu-mll/glue@{COMMIT}  4 files, ");
    assert!(fetched[0].starts_with(&of_glue), "{}", run.stderr);
    assert_eq!(
        fetched[2],
        format!("     FETCHED [time]  hub:google-bert/bert-base-uncased@{COMMIT}  1 file, 68.4 KiB")
    );
    assert!(run.stderr.find("FETCHED") < run.stderr.find("Pipeline"), "all is fetched before anything runs");
    let requests = hub.requests();
    assert_eq!(asked_for(&requests, "pytorch_model.bin"), [""; 0]);
    assert_eq!(asked_for(&requests, &format!("{COMMIT}/model.safetensors")).len(), 2, "metadata and content");

    let again = succeeds(&hub, &sandbox, &["run"]);
    assert_eq!(again.stages("CACHED"), ["examples", "tokens", "teacher"]);
    let plan = succeeds(&hub, &sandbox, &["plan"]);
    assert!(plan.stdout.ends_with("3 stages: 3 cached, 0 to run\n"), "{}", plan.stdout);
    assert_eq!(hub.requests(), [""; 0]);

    // The layout is that of Hugging Face's libraries.
    let snapshot = format!("hf/hub/models--google-bert--bert-base-uncased/snapshots/{COMMIT}");
    assert_eq!(sandbox.names_in(&snapshot), ["config.json", "model.safetensors", "tokenizer_config.json", "vocab.txt"]);
    let blob = fs::read_link(sandbox.path(&format!("{snapshot}/model.safetensors"))).unwrap();
    assert_eq!(blob.to_str(), Some(format!("../../blobs/{}", sha256(&encoder()["model.safetensors"])).as_str()));

    // What a stage reads is its content: the same files in a folder of one's own change nothing.
    fs::rename(sandbox.path("enc"), sandbox.path("old")).unwrap();
    let copied = Command::new("cp").args(["-rL", &snapshot, "enc"]).current_dir(sandbox.path("")).status().unwrap();
    assert!(copied.success());
    let moved = succeeds(&hub, &sandbox, &["run", "--set", "vars.encoder=enc"]);
    assert_eq!(moved.stages("CACHED"), ["examples", "tokens", "teacher"]);
}

#[test]
fn offline_is_what_the_cache_has() {
    let (hub, sandbox) = set_up();
    let missing = |said: Said| {
        assert_eq!(said.code, 2, "{}", said.stderr);
        assert_eq!(
            said.stderr,
            format!(
                "error: `hub:nyu-mll/glue@{COMMIT}` is not in the cache: `rte/train-00000-of-00001.parquet` and 3 more\n\n\
                 hint: run once without `--offline` and `HF_HUB_OFFLINE`, or bring it into `<here>/hf/hub` from another \
                 machine\n"
            )
        );
    };
    missing(bam(&hub, &sandbox, &["run", "--offline"]));
    missing(told(&said(command(&hub, &sandbox, &["run"]).env("HF_HUB_OFFLINE", "1")), &hub, &sandbox));
    succeeds(&hub, &sandbox, &["run"]);
    hub.requests();

    // A cache that came from elsewhere needn't say what the hub doesn't have.
    for repository in ["datasets--nyu-mll--glue", "models--google-bert--bert-base-uncased"] {
        fs::remove_dir_all(sandbox.path(&format!("hf/hub/{repository}/.no_exist"))).ok();
    }
    let offline = succeeds(&hub, &sandbox, &["run", "--offline"]);
    assert_eq!(offline.stages("CACHED").len(), 3);
    fs::rename(sandbox.path("hf/hub"), sandbox.path("elsewhere")).unwrap();
    let mut elsewhere = command(&hub, &sandbox, &["run"]);
    elsewhere.env("HF_HUB_CACHE", sandbox.path("elsewhere")).env("HF_HUB_OFFLINE", "yes");
    assert_eq!(said(&mut elsewhere).stages("CACHED").len(), 3);
    assert_eq!(hub.requests(), [""; 0]);
}

#[test]
fn a_file_that_came_partly_goes_on_where_it_was() {
    let (hub, sandbox) = set_up();
    // Tables are small, and end before the cut.
    hub.behave(Manners { cut: (usize::MAX, 20_000), ..Manners::default() });
    let told = refused(&hub, &sandbox);
    let begun = format!(
        "error: `model.safetensors` of `hub:google-bert/bert-base-uncased@{COMMIT}` can't be fetched from `<hub>`: "
    );
    assert!(told.contains(&begun), "{told}");
    assert!(told.ends_with("\nhint: what has come is kept, and the next run goes on from there\n"), "{told}");
    // Each of its attempts went on where the one before had ended.
    let ranges = |requests: Vec<String>| -> Vec<String> {
        let of_weights = format!("/cdn/{}", sha256(&encoder()["model.safetensors"]));
        let wanted = |request: &String| request.contains(&of_weights) && request.ends_with('-');
        requests.iter().filter(|request| wanted(request)).map(|it| it.rsplit_once(' ').unwrap().1.to_owned()).collect()
    };
    assert_eq!(ranges(hub.requests()), ["0-", "20000-", "40000-"]);
}

#[test]
fn another_run_goes_on_where_one_was_cut_off() {
    let (hub, sandbox) = set_up();
    hub.behave(Manners { cut: (usize::MAX, 20_000), ..Manners::default() });
    refused(&hub, &sandbox);
    hub.requests();
    hub.behave(Manners::default());
    let run = succeeds(&hub, &sandbox, &["run"]);
    assert_eq!(run.stages("RAN").len(), 3);
    let requests = hub.requests();
    assert!(requests.iter().any(|request| request.ends_with(" 60000-")), "{requests:?}");
    let snapshot = format!("hf/hub/models--google-bert--bert-base-uncased/snapshots/{COMMIT}");
    assert_eq!(sandbox.read(&format!("{snapshot}/model.safetensors")), "weight ".repeat(10_000));
}

#[test]
fn a_server_that_knows_no_ranges_is_asked_from_the_beginning() {
    let (hub, sandbox) = set_up();
    hub.behave(Manners { cut: (usize::MAX, 20_000), ..Manners::default() });
    refused(&hub, &sandbox);
    hub.behave(Manners { ignores_ranges: true, ..Manners::default() });
    assert_eq!(succeeds(&hub, &sandbox, &["run"]).stages("RAN").len(), 3);
}

#[test]
fn a_wrong_byte_is_told_and_not_kept() {
    let (hub, sandbox) = set_up();
    hub.behave(Manners { is_wrong: true, ..Manners::default() });
    assert_eq!(
        refused(&hub, &sandbox),
        format!(
            "error: `rte/train-00000-of-00001.parquet` of `hub:nyu-mll/glue@{COMMIT}` can't be fetched from `<hub>`: its \
             bytes are not those that the hub has a checksum of\n\n\
             hint: they were not kept; is something broken between here and the hub?\n"
        )
    );
    assert_eq!(sandbox.names_in(&format!("hf/hub/datasets--nyu-mll--glue/snapshots/{COMMIT}/rte")), [""; 0]);
    hub.behave(Manners::default());
    succeeds(&hub, &sandbox, &["run"]);
}

#[test]
fn a_byte_that_changed_in_the_cache_is_told_before_anything_runs() {
    let (hub, sandbox) = set_up();
    succeeds(&hub, &sandbox, &["run"]);
    let weights = format!("hf/hub/models--google-bert--bert-base-uncased/snapshots/{COMMIT}/model.safetensors");
    let blob = fs::canonicalize(sandbox.path(&weights)).unwrap();
    let text = fs::read_to_string(&blob).unwrap().replacen("weight", "height", 1);
    let found = sha256(text.as_bytes());
    fs::write(&blob, text).unwrap();
    let run = bam(&hub, &sandbox, &["run", "--set", "stages.examples.data.limit=5"]);
    assert_eq!((run.code, run.stages("RAN").len()), (2, 0), "{}", run.stderr);
    assert_eq!(found.len(), 64);
    assert!(
        run.stderr.starts_with(&format!("error: `<here>/{weights}` isn't the file that the hub has: its hash is "))
    );
    assert!(run.stderr.contains("\nhint: remove `<here>/hf/hub/"), "{}", run.stderr);
    fs::remove_file(&blob).unwrap();
    succeeds(&hub, &sandbox, &["run"]);
}

#[test]
fn a_hub_that_is_down_or_silent() {
    let (hub, sandbox) = set_up();
    hub.behave(Manners { unavailable: 2, ..Manners::default() });
    succeeds(&hub, &sandbox, &["run"]);

    let (hub, sandbox) = set_up();
    hub.behave(Manners { unavailable: usize::MAX, ..Manners::default() });
    assert_eq!(
        refused(&hub, &sandbox),
        "error: the hub at `<hub>` answers with status 503\n\n\
         hint: try again later; `--offline` does with what is in the cache\n"
    );

    let mut down = command(&hub, &sandbox, &["run"]);
    // Nobody listens on the discard port.
    let down = said(down.env("HF_ENDPOINT", "http://127.0.0.1:9/"));
    assert_eq!(down.code, 2);
    let hint = "hint: is it up, and `HF_ENDPOINT` right? `--offline` does with what is in the cache\n";
    assert!(down.stderr.starts_with("error: the hub at `http://127.0.0.1:9` can't be reached: "), "{}", down.stderr);
    assert!(down.stderr.ends_with(hint), "{}", down.stderr);

    hub.behave(Manners { is_silent: true, ..Manners::default() });
    let silent = said(command(&hub, &sandbox, &["run"]).env("HF_HUB_DOWNLOAD_TIMEOUT", "1"));
    let silent = told(&silent, &hub, &sandbox);
    assert_eq!(silent.code, 2);
    assert!(silent.stderr.starts_with("error: the hub at `<hub>` has been silent for "), "{}", silent.stderr);
}

#[test]
fn ctrl_c_ends_a_fetch_and_the_next_run_goes_on() {
    let (hub, sandbox) = set_up();
    hub.behave(Manners { is_silent: true, ..Manners::default() });
    let child = command(&hub, &sandbox, &["run"]).stderr(Stdio::piped()).spawn().expect("bam starts");
    until("a file is asked for", || hub.state().requests.iter().any(|request| request.contains("/cdn/")));
    // SAFETY: a signal to a child that has not been waited for.
    unsafe { libc::kill(child.id() as i32, libc::SIGINT) };
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(130));
    let told = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(told, "interrupted: what has come of the hub is kept, and the next run goes on from there\n");
    hub.behave(Manners::default());
    succeeds(&hub, &sandbox, &["run"]);
}

#[test]
fn a_branch_is_resolved_once_and_its_commit_told() {
    let (hub, sandbox) = set_up();
    sandbox.write("pipeline.yaml", &pipeline("", &format!("@{COMMIT}")));
    let warning = format!(
        "warning: `hub:nyu-mll/glue` names no commit: `main` was {COMMIT} when it was fetched\n\n\
         hint: write `hub:nyu-mll/glue@{COMMIT}`, and everybody gets the same\n"
    );
    let run = succeeds(&hub, &sandbox, &["run"]);
    assert!(run.stderr.contains(&warning), "{}", run.stderr);
    assert_eq!(sandbox.read("hf/hub/datasets--nyu-mll--glue/refs/main"), COMMIT);
    hub.requests();
    {
        let mut state = hub.state();
        let glue = state.repositories.get_mut(GLUE).expect("it is there");
        glue.commits.insert(LATER.to_owned(), rte(Some(&["not_entailment", "entailment"])));
        LATER.clone_into(&mut glue.main);
    }
    let again = succeeds(&hub, &sandbox, &["run"]);
    assert_eq!(again.stages("CACHED").len(), 3);
    assert!(again.stderr.contains(&warning), "{}", again.stderr);
    assert_eq!(hub.requests(), [""; 0]);
    sandbox.write("pipeline.yaml", &pipeline(&format!("@{LATER}"), &format!("@{COMMIT}")));
    let later = succeeds(&hub, &sandbox, &["run"]);
    assert_eq!(later.stages("RAN").first().map(String::as_str), Some("examples"), "{}", later.stderr);
}

#[test]
fn two_runs_at_once_fetch_side_by_side() {
    let (hub, sandbox) = set_up();
    let start = |artifacts: &str| {
        let mut command = command(&hub, &sandbox, &["run", "--artifacts", artifacts]);
        command.stderr(Stdio::piped()).spawn().expect("bam starts")
    };
    let runs = [start("one"), start("two")];
    for run in runs {
        let output = run.wait_with_output().expect("it ends");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn events_of_a_fetch_as_json() {
    let (hub, sandbox) = set_up();
    // As it comes: figures are redacted elsewhere, and then it is JSON no longer.
    let raw = |args: &[&str]| {
        let output = command(&hub, &sandbox, args).output().expect("bam starts");
        let stdout = String::from_utf8(output.stdout).expect("UTF-8");
        let read = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let events: Vec<Value> = stdout.lines().map(read).collect();
        (stdout, events)
    };
    let (stdout, events) = raw(&["run", "--json", "pipeline.yaml", "examples"]);
    let named = |name: &str| events.iter().filter(|event| event["event"] == name).collect::<Vec<_>>();
    assert_eq!(named("downloaded").len(), 1, "{stdout}");
    let [first, ..] = named("downloading")[..] else { panic!("{stdout}") };
    assert_eq!(first["repository"], format!("hub:nyu-mll/glue@{COMMIT}"));
    assert_eq!(first["file"], "rte/train-00000-of-00001.parquet");
    assert_eq!(named("downloaded")[0]["files"], 4);
    let unfetched = raw(&["plan", "--json"]).1;
    assert_eq!(unfetched[1]["unfetched"], format!("hub:google-bert/bert-base-uncased@{COMMIT}"));
    assert_eq!(unfetched[1]["decision"], "may_run");
}

#[test]
fn the_card_names_what_files_only_number() {
    let (hub, sandbox) = set_up();
    hub.add(GLUE, rte(None));
    let card = "---\ndataset_info:\n- config_name: rte\n  features:\n  - name: label\n    dtype:\n      class_label:\n        \
                names:\n          '0': not_entailment\n          '1': entailment\n---\n# GLUE\n";
    hub.put(GLUE, "README.md", card);
    succeeds(&hub, &sandbox, &["run"]);
    assert_eq!(sandbox.manifest("examples")["key"]["params"]["definition"]["spelled"], json!(["1", "0"]));
}

#[test]
fn a_task_of_ones_own_names_files_of_a_repository() {
    let (hub, sandbox) = set_up();
    hub.add("datasets/somebody/ratings", [("all.csv".to_owned(), b"text,label\na,low\nb,high\n".to_vec())].into());
    sandbox.write(
        "pipeline.yaml",
        "\
tasks:
  ratings:
    files: { all: all.csv }
    split: { dev: 0.5 }
    columns: { text: text, label: label }
    labels: [low, high]
    metrics: [accuracy]
stages:
  examples: { data: { task: ratings, from: 'hub:somebody/ratings@main' } }
",
    );
    let run = succeeds(&hub, &sandbox, &["run"]);
    assert_eq!(run.stages("RAN"), ["examples"]);
    assert_eq!(sandbox.read(&format!("hf/hub/datasets--somebody--ratings/.no_exist/{COMMIT}/README.md")), "");
    hub.requests();
    succeeds(&hub, &sandbox, &["run"]);
    assert_eq!(hub.requests(), [""; 0]);
}

#[test]
fn a_cased_bert_of_the_first_release_learns_from_the_hubs_glue() {
    let worker = Path::new(env!("CARGO_BIN_EXE_bam")).with_file_name("bam-stage");
    assert!(worker.is_file(), "`bam-stage` is not built: run `cargo build --workspace` with the same profile first");
    let (hub, sandbox) = (HubServer::start(), Sandbox::new());
    // Numbered otherwise than the task's own order.
    let mut glue = rte(Some(&["not_entailment", "entailment"]));
    glue.extend(stsb());
    hub.add(GLUE, glue);
    hub.add(BERT, first_release());
    sandbox.write(
        "pipeline.yaml",
        "\
vars: { encoder: 'hub:google-bert/bert-base-uncased' }
for: { task: [rte, stsb] }
stages:
  examples@task: { data: { task: $task, from: 'hub:nyu-mll/glue' } }
  tokens@task: { tokenize: { examples: examples@$task, encoder: $encoder, max_tokens: 48 } }
  student: { train: { tokens: [tokens@*], encoder: $encoder, epochs: 1, learning_rate: 1e-3 } }
  scores: { score: { models: [student], tokens: [tokens@*] } }
",
    );
    let run = succeeds(&hub, &sandbox, &["run", "--threads", "1"]);
    assert_eq!(run.stages("RAN").len(), 6, "{}", run.stderr);
    let examples = |task: &str, split: Split| {
        let artifact =
            Examples::open(&sandbox.path(&format!("artifacts/latest/examples@{task}"))).expect("an artifact");
        let rows: Vec<_> = artifact.rows(split).expect("rows").flat_map(|batch| batch.expect("a batch")).collect();
        rows
    };
    let labels = |task: &str, split| examples(task, split).iter().map(|row| row.label).collect::<Vec<_>>();
    // Row 0 has number 0, which is `not_entailment`: class 1.
    assert_eq!(labels("rte", Split::Train)[..3], [Some(1.0), Some(0.0), Some(1.0)]);
    assert_eq!(labels("rte", Split::Test), [None; 10]);
    assert_eq!(labels("stsb", Split::Dev)[..3], [Some(0.0), Some(0.2), Some(0.4)]);
    assert_eq!(labels("stsb", Split::Test), [None; 10]);
    assert_eq!(examples("rte", Split::Dev)[3].text, "A house of number 3");
    let tokens = Tokens::open(&sandbox.path("artifacts/latest/tokens@rte")).and_then(|tokens| tokens.read(Split::Dev));
    // `A` is no word of the small vocabulary, which a cased tokenizer leaves as it is.
    assert_eq!(tokens.expect("rows").input_ids(0)[..2], [2, 1]);
}
