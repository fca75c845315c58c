//! What `bam gc` removes, and what it leaves.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, SystemTime};

use crate::support::{Sandbox, until};
use serde_json::Value;

#[test]
fn gc_removes_what_was_cut_off() {
    let sandbox = Sandbox::with_small_pipeline();
    sandbox.bam(&["run"]);
    // An artifact that no pipeline has and no manifest tells of, and files that were being written when all ended.
    let folder = format!("artifacts/store/train/{}", "0".repeat(64));
    sandbox.write(&format!("{folder}/model.safetensors"), "half");
    for name in ["artifacts/.tmpold", "artifacts/.tmpyoung"] {
        sandbox.write(name, "half");
    }
    let old = SystemTime::now() - Duration::from_hours(2);
    fs::File::options().write(true).open(sandbox.path("artifacts/.tmpold")).unwrap().set_modified(old).unwrap();
    assert_eq!(sandbox.bam(&["verify"]).code, 1);
    let gc = sandbox.bam(&["gc"]);
    let lines: Vec<String> =
        gc.stdout.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(
        (gc.code, lines.join("\n").as_str()),
        (
            0,
            "LEFTOVER SIZE\nartifacts/store/train/<hex> 4 B\nartifacts/.tmpold 4 B\n\n\
             removed 0 artifacts of 11, 0 B; 2 leftovers, 8 B"
        )
    );
    assert!(!sandbox.path(&folder).exists());
    let left = sandbox.names_in("artifacts").into_iter().filter(|name| name.starts_with(".tmp"));
    assert_eq!(left.collect::<Vec<_>>(), [".tmpyoung"]);
    assert_eq!(sandbox.bam(&["verify"]).code, 0);
}

#[test]
fn gc_removes_links_that_were_being_replaced() {
    let sandbox = Sandbox::with_small_pipeline();
    sandbox.bam(&["run", "pipeline.yaml", "examples@sentiment"]);
    let link = |name: &str| sandbox.path(&format!("artifacts/latest/{name}"));
    for name in [".examples@sentiment-1", ".examples@sentiment-2"] {
        symlink(fs::read_link(link("examples@sentiment")).unwrap(), link(name)).unwrap();
    }
    let aged = Command::new("touch").args(["-h", "-d", "2 hours ago"]).arg(link(".examples@sentiment-1")).status();
    assert!(aged.unwrap().success());
    let gc = sandbox.bam(&["gc"]);
    assert_eq!(gc.code, 0, "{}", gc.stderr);
    assert_eq!(sandbox.names_in("artifacts/latest"), [".examples@sentiment-2", "examples@sentiment"]);
}

#[test]
fn gc_removes_what_no_pipeline_needs() {
    let sandbox = Sandbox::with_small_pipeline();
    sandbox.bam(&["run"]);
    sandbox.bam(&["run", "--set", "vars.max_tokens=96"]);
    sandbox.bam(&["run"]);
    let count = || {
        ["data", "tokenize", "train", "predict", "export", "score"]
            .iter()
            .map(|kind| sandbox.names_in(&format!("artifacts/store/{kind}")).len())
            .sum::<usize>()
    };
    assert_eq!(count(), 20);
    let dry = sandbox.bam(&["gc", "--dry-run"]);
    assert!(dry.stdout.contains("\nwould remove 9 artifacts of 20, "), "{}", dry.stdout);
    let young = sandbox.bam(&["gc", "--older-than", "30d"]);
    assert!(young.stdout.starts_with("removed 0 artifacts of 20, 0 B"), "{}", young.stdout);
    let enough = sandbox.bam(&["gc", "--keep", "1GiB"]);
    assert!(enough.stdout.starts_with("removed 0 artifacts of 20, 0 B"), "{}", enough.stdout);
    assert_eq!(count(), 20);

    // The other setting's artifacts are needed where it is named.
    let other = sandbox.read("pipeline.yaml").replace("max_tokens: 128", "max_tokens: 96");
    sandbox.write("other.yaml", &other);
    let both = sandbox.bam(&["gc", "-n", "pipeline.yaml", "other.yaml"]);
    assert!(both.stdout.starts_with("would remove 0 artifacts"), "{}", both.stdout);

    let gone = sandbox.bam(&["gc"]);
    assert!(gone.stdout.contains("\nremoved 9 artifacts of 20, "), "{}", gone.stdout);
    assert_ne!(sandbox.names_in("artifacts/runs"), [""; 0], "records of runs go by age alone");
    assert_eq!((count(), sandbox.bam(&["run"]).stages("CACHED").len()), (11, 11));
    assert_eq!(sandbox.bam(&["verify"]).code, 0);
    assert_eq!(sandbox.names_in("artifacts/tmp"), [""; 0]);

    // Small enough: the one used longest ago goes first, and no more than must.
    sandbox.write("empty.yaml", "stages:\n  x: { data: { task: sentiment, grammar: { train: 5, dev: 5 } } }\n");
    let size = |stage: &str| {
        let files = fs::read_dir(sandbox.path(&format!("artifacts/latest/{stage}"))).unwrap();
        files.map(|file| file.unwrap().metadata().unwrap().len()).sum::<u64>()
    };
    let total: u64 = sandbox.names_in("artifacts/latest").iter().map(|stage| size(stage)).sum();
    let keep = format!("{}B", total - 1);
    let unreachable = sandbox.bam(&["gc", "-n", "--keep", "10B"]);
    let told = " of artifacts stay, more than 10 B: pipelines need them, or something uses them\n";
    assert!(unreachable.stdout.ends_with(told), "{}", unreachable.stdout);
    let one = sandbox.bam(&["gc", "--all", "--keep", &keep, "empty.yaml"]);
    assert!(one.stdout.contains("\nremoved 1 artifact of 11, "), "{}", one.stdout);
    assert!(!one.stdout.contains(" stay"), "{}", one.stdout);
}

#[test]
fn gc_by_age_removes_what_is_old_and_not_needed() {
    let sandbox = Sandbox::with_small_pipeline();
    for value in ["vars.max_tokens=64", "vars.max_tokens=96", "vars.max_tokens=128"] {
        sandbox.bam(&["run", "pipeline.yaml", "tokens@sentiment", "--set", value]);
    }
    let age = |fingerprint: &str| {
        let path = format!("artifacts/store/tokenize/{fingerprint}/manifest.json");
        let mut manifest: Value = serde_json::from_str(&sandbox.read(&path)).unwrap();
        manifest["provenance"]["finished_unix_secs"] = 1.into();
        sandbox.write(&path, &manifest.to_string());
        let lock = fs::File::options().write(true).open(sandbox.path(&format!("artifacts/locks/{fingerprint}")));
        lock.unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        manifest["key"]["params"]["max_tokens"].as_u64().unwrap()
    };
    let needed = sandbox.manifest("tokens@sentiment")["fingerprint"].as_str().unwrap().to_owned();
    let other = sandbox.names_in("artifacts/store/tokenize").into_iter().find(|name| *name != needed).unwrap();
    assert_eq!(age(&needed), 128);
    age(&other);
    let gc = sandbox.bam(&["gc", "--older-than", "30d"]);
    assert!(gc.stdout.contains("\nremoved 1 artifact of 4, "), "{}", gc.stdout);
    let left = sandbox.names_in("artifacts/store/tokenize");
    assert!(left.len() == 2 && left.contains(&needed) && !left.contains(&other), "{left:?}");
}

#[test]
fn gc_by_age_leaves_records_of_runs_under_way_and_states_that_were_just_kept() {
    let sandbox = Sandbox::with_small_pipeline();
    sandbox.write("behaviour.json", r#"{"teacher@sentiment": "slow"}"#);
    let state = format!("artifacts/resume/{}", "0".repeat(64));
    sandbox.write(&format!("{state}/row"), "400");
    let mut command = sandbox.command(&["run", "pipeline.yaml", "teacher@sentiment"]);
    let mut run = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    until("the stage runs", || sandbox.path("slow-teacher@sentiment").exists());
    let old = |path: &str| {
        let file = fs::File::open(sandbox.path(path)).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    };
    let record = sandbox.names_in("artifacts/runs").remove(0);
    old(&format!("artifacts/runs/{record}"));
    // Its file was written just now.
    old(&state);
    let gc = sandbox.bam(&["gc", "--older-than", "30d"]);
    assert_eq!((gc.code, gc.stdout.as_str()), (0, "removed 0 artifacts of 2, 0 B\n"));
    assert!(sandbox.path(&format!("{state}/row")).exists());
    assert_eq!(run.wait().unwrap().code(), Some(0));
    assert_eq!(sandbox.names_in("artifacts/runs"), [record]);
}

#[test]
fn gc_leaves_what_a_run_has_made_and_what_a_stage_makes_or_reads() {
    let sandbox = Sandbox::with_small_pipeline();
    sandbox.write("behaviour.json", r#"{"teacher@sentiment": "slow"}"#);
    sandbox.write("empty.yaml", "stages:\n  x: { data: { task: sentiment, grammar: { train: 5, dev: 5 } } }\n");
    let mut command = sandbox.command(&["run", "pipeline.yaml", "teacher@sentiment"]);
    let mut run = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while !sandbox.path("slow-teacher@sentiment").exists() {
        assert!(run.try_wait().unwrap().is_none(), "it ended before it came to the slow stage");
        sleep(Duration::from_millis(5));
    }
    assert_eq!(sandbox.bam(&["gc", "--all", "empty.yaml"]).stdout, "removed 0 artifacts of 2, 0 B\n");
    // Where nothing tells of the run, its locks do.
    fs::remove_dir_all(sandbox.path("artifacts/runs")).unwrap();
    let gc = sandbox.bam(&["gc", "--all", "empty.yaml"]);
    assert!(gc.stdout.contains("removed 1 artifact of 2, ") && gc.stdout.contains("; 1 in use\n"), "{}", gc.stdout);
    assert_eq!(run.wait().unwrap().code(), Some(0));
    assert_eq!(sandbox.names_in("artifacts/latest/teacher@sentiment").len(), 5);
}
