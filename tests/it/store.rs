//! What is in the store stays right, or is noticed: damage, garbage, crashes, full disks.

use std::fs;
use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, SystemTime};

use crate::support::{Said, Sandbox, said, worker_of};
use serde_json::Value;

/// Changes a byte of a file and nothing else that the file system shows.
fn flip_a_byte(path: &Path, keep_time: bool) {
    let modified = fs::metadata(path).unwrap().modified().unwrap();
    let mut bytes = fs::read(path).unwrap();
    bytes[3] ^= 1;
    fs::write(path, bytes).unwrap();
    let time = if keep_time { modified } else { modified + Duration::from_secs(5) };
    fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}

#[test]
fn a_changed_byte_is_noticed_named_and_made_good() {
    let sandbox = Sandbox::with_small_pipeline();
    sandbox.bam(&["run"]);
    let sound = sandbox.contents();
    flip_a_byte(&sandbox.path("artifacts/latest/tokens@sentiment/train.parquet"), false);
    let why = "its artifact is damaged: the bytes of `train.parquet` have changed";
    let plan = sandbox.bam(&["plan"]);
    assert!(plan.stdout.contains(why), "{}", plan.stdout);
    let run = sandbox.bam(&["run"]);
    assert_eq!((run.code, run.stages("RAN")), (0, vec!["tokens@sentiment".to_owned()]), "{}", run.stderr);
    assert!(run.stderr.contains(&format!("because {why}\n")), "{}", run.stderr);
    assert!(run.stderr.contains("its damaged artifact now lies in `artifacts/damaged/"), "{}", run.stderr);
    assert_eq!(sandbox.contents(), sound);
}

#[test]
fn a_byte_that_changed_with_its_time_put_back_is_noticed() {
    let sandbox = Sandbox::with_small_pipeline();
    sandbox.bam(&["run"]);
    let sound = sandbox.contents();
    flip_a_byte(&sandbox.path("artifacts/latest/tokens@sentiment/train.parquet"), true);
    let run = sandbox.bam(&["run"]);
    assert_eq!((run.code, run.stages("RAN")), (0, vec!["tokens@sentiment".to_owned()]), "{}", run.stderr);
    assert_eq!(sandbox.contents(), sound);
}

/// As a disk may change a byte: nothing that the file system says of the file changes.
#[test]
fn a_byte_that_changed_without_a_trace_is_noticed_before_a_stage_reads_it() {
    let sandbox = Sandbox::with_small_pipeline();
    sandbox.bam(&["run"]);
    let sound = sandbox.contents();
    let file = sandbox.path("artifacts/latest/tokens@sentiment/train.parquet");
    flip_a_byte(&file, true);
    let fingerprint = sandbox.manifest("tokens@sentiment")["fingerprint"].as_str().unwrap().to_owned();
    let mut verified: Value = serde_json::from_str(&sandbox.read("artifacts/verified.json")).unwrap();
    let metadata = fs::metadata(&file).unwrap();
    verified[&fingerprint]["train.parquet"]["changed_ns"] =
        (metadata.ctime() * 1_000_000_000 + metadata.ctime_nsec()).into();
    sandbox.write("artifacts/verified.json", &verified.to_string());
    // Nothing shows, and nothing reads it.
    assert_eq!(sandbox.bam(&["run"]).stages("RAN"), [""; 0]);
    let run = sandbox.bam(&["run", "--force=teacher"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let mut ran = run.stages("RAN");
    ran.sort();
    assert_eq!(ran, ["teacher@entailment", "teacher@sentiment", "tokens@sentiment"], "{}", run.stderr);
    assert_eq!(sandbox.contents(), sound);
}

#[test]
fn verify_reads_every_byte() {
    let sandbox = Sandbox::with_small_pipeline();
    sandbox.bam(&["run"]);
    let sound = sandbox.bam(&["verify"]);
    assert_eq!(sound.code, 0);
    assert!(sound.stdout.starts_with("11 sound artifacts, 0 damaged ("), "{}", sound.stdout);
    flip_a_byte(&sandbox.path("artifacts/latest/onnx/model.onnx"), true);
    fs::write(sandbox.path("artifacts/latest/student/manifest.json"), "{").unwrap();
    let damaged = sandbox.bam(&["verify"]);
    let lines: Vec<&str> = damaged.stdout.lines().collect();
    assert_eq!(lines[0], "onnx (<hex>): the bytes of `model.onnx` have changed");
    assert!(lines[1].starts_with("unknown train stage (<hex>): `manifest.json` is no manifest: "), "{}", lines[1]);
    assert!(lines[2].starts_with("9 sound artifacts, 2 damaged ("), "{}", lines[2]);
    let hint = "error: 2 artifacts damaged\n\nhint: `bam run` moves aside what it needs and finds damaged, and makes it again; \
        `bam gc` removes what is not needed\n";
    assert_eq!((damaged.code, damaged.stderr.as_str()), (1, hint));
    assert_eq!(sandbox.bam(&["verify", "tokens@sentiment"]).code, 0);
    let json = sandbox.bam(&["verify", "--json", "onnx"]);
    let line: Value = serde_json::from_str(json.stdout.trim()).unwrap();
    assert_eq!((json.code, &line["sound"], &line["stage"]), (1, &Value::Bool(false), &Value::from("onnx")));

    let run = sandbox.bam(&["run"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!(run.stages("RAN"), ["student", "onnx"], "{}", run.stderr);
    assert_eq!(sandbox.bam(&["verify"]).code, 0);
}

#[test]
fn a_manifest_that_was_changed_is_noticed() {
    let sandbox = Sandbox::with_small_pipeline();
    sandbox.bam(&["run"]);
    let sound = sandbox.contents();
    let manifest = "artifacts/latest/tokens@sentiment/manifest.json";
    let content = sound["tokens@sentiment"].clone();
    let other = content.replace(|digit: char| digit.is_ascii_digit(), "7");
    sandbox.write(
        manifest,
        &sandbox.read(manifest).replace(&format!("\"content\": \"{content}\""), &format!("\"content\": \"{other}\"")),
    );
    let why = "`manifest.json` has digests that do not agree";
    assert!(sandbox.bam(&["verify"]).stdout.contains(why));
    let status = sandbox.bam(&["status"]).stdout;
    let line = status.lines().find(|line| line.starts_with("tokens@sentiment ")).unwrap();
    assert!(line.contains(" damaged ") && line.contains(why), "{line}");
    let run = sandbox.bam(&["run"]);
    assert_eq!((run.code, run.stages("RAN")), (0, vec!["tokens@sentiment".to_owned()]), "{}", run.stderr);
    assert_eq!(sandbox.contents(), sound);

    // With a manifest that says something else of a file, its bytes are read again.
    let digest = sandbox.manifest("onnx")["files"]["model.onnx"]["digest"].as_str().unwrap().to_owned();
    let manifest = "artifacts/latest/onnx/manifest.json";
    let changed =
        sandbox.read(manifest).replacen(&digest, &digest.replace(|digit: char| digit.is_ascii_digit(), "7"), 1);
    sandbox.write(manifest, &changed);
    let plan = sandbox.bam(&["plan"]);
    assert!(plan.stdout.contains("its artifact is damaged: the bytes of `model.onnx` have changed"), "{}", plan.stdout);
}

/// As `cp -rL` copies it.
#[test]
fn a_copy_of_a_store_that_followed_links_is_a_store() {
    let sandbox = Sandbox::with_small_pipeline();
    sandbox.bam(&["run"]);
    let copied = Command::new("cp").args(["-rL", "artifacts", "copy"]).current_dir(sandbox.path("")).status();
    assert!(copied.unwrap().success());
    let copy = ["--artifacts", "copy"];
    assert_eq!(sandbox.bam(&[&["run"][..], &copy].concat()).stages("CACHED").len(), 11);
    let run = sandbox.bam(&[&["run", "--set", "vars.max_tokens=96"][..], &copy].concat());
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stderr.contains("because param max_tokens: 128 → 96"), "{}", run.stderr);
    assert!(sandbox.path("copy/latest/tokens@sentiment").is_symlink());
}

/// Numbers that follow from a seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

#[test]
fn kills_at_any_moment_lose_nothing_and_leave_nothing_wrong() {
    let undisturbed = Sandbox::with_small_pipeline();
    assert_eq!(undisturbed.bam(&["run"]).code, 0);
    let expected = undisturbed.contents();

    let seed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as u64;
    println!("seed {seed}");
    let mut random = Random(seed);
    for _ in 0..6 {
        let sandbox = Sandbox::with_small_pipeline();
        for _ in 0..4 {
            let mut command = sandbox.command(&["run", "--threads", "2"]);
            command.env_remove("BAM_JOBS").stdout(Stdio::null()).stderr(Stdio::null());
            let mut engine = command.spawn().unwrap();
            sleep(Duration::from_millis(random.below(350)));
            let victim = if random.below(2) == 0 { worker_of(engine.id()) } else { None }.unwrap_or(engine.id());
            // SAFETY: a plain system call. A worker may be waited for meanwhile; it is its engine's to tell.
            unsafe { libc::kill(victim.cast_signed(), libc::SIGKILL) };
            if victim == engine.id() {
                engine.wait().unwrap();
                break;
            }
            engine.wait().unwrap();
        }
        let last = sandbox.bam(&["run"]);
        assert_eq!(last.code, 0, "seed {seed}: {}", last.stderr);
        assert_eq!(sandbox.contents(), expected, "seed {seed}");
        assert_eq!(sandbox.bam(&["verify"]).code, 0, "seed {seed}");
        assert_eq!(sandbox.names_in("artifacts/tmp"), [""; 0], "seed {seed}");
        assert_eq!(sandbox.names_in("artifacts/failed"), [""; 0], "seed {seed}");
    }
}

#[test]
fn what_only_spares_work_need_not_be_written() {
    let sandbox = Sandbox::with_small_pipeline();
    // Folders stand where the files would be written.
    for name in ["digests.json", "verified.json"] {
        fs::create_dir_all(sandbox.path(&format!("artifacts/{name}/in-the-way"))).unwrap();
    }
    assert_eq!(sandbox.bam(&["run"]).code, 0);
    let second = sandbox.bam(&["run"]);
    assert_eq!((second.code, second.stages("CACHED").len()), (0, 11), "{}", second.stderr);
}

#[test]
fn artifacts_that_is_a_file_is_told() {
    let sandbox = Sandbox::with_small_pipeline();
    sandbox.write("artifacts", "");
    let run = sandbox.bam(&["run"]);
    assert_eq!(run.code, 2);
    assert!(run.stderr.starts_with("error: `artifacts` is not a folder\n\nhint: "), "{}", run.stderr);
}

#[test]
fn an_artifact_that_may_not_be_read_is_told_and_not_taken_to_be_damaged() {
    let sandbox = Sandbox::with_small_pipeline();
    sandbox.bam(&["run", "pipeline.yaml", "tokens@sentiment"]);
    let file = sandbox.path("artifacts/latest/examples@sentiment/dev.parquet");
    let mode = |mode: u32| fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
    mode(0);
    let Some(mut plan) = sandbox.humble_command(&["plan", "pipeline.yaml", "tokens@sentiment"]) else {
        println!("skipped: without `setpriv` root may read everything");
        return mode(0o644);
    };
    let plan = said(&mut plan);
    mode(0o644);
    let told =
        "error: `artifacts/store/data/<hex>` cannot be read: `dev.parquet`: Permission denied (os error 13)\n\nhint: ";
    assert!(plan.code == 2 && plan.stderr.starts_with(told), "{}", plan.stderr);
    assert_eq!(sandbox.bam(&["run", "pipeline.yaml", "tokens@sentiment"]).stages("CACHED").len(), 2);
}

#[test]
fn a_store_that_can_not_be_read_is_told_and_not_taken_to_be_empty() {
    let sandbox = Sandbox::with_small_pipeline();
    let hint = "\nhint: give the user that runs `bam` the right to read it, or name another with `--artifacts DIR`\n";
    sandbox.write("artifacts/store", "in the way");
    for command in ["run", "plan", "status", "verify"] {
        let said = sandbox.bam(&[command]);
        let told = format!("error: `artifacts/store` cannot be read: Not a directory (os error 20)\n{hint}");
        assert_eq!((said.code, said.stdout, said.stderr), (2, String::new(), told));
    }
    fs::remove_file(sandbox.path("artifacts/store")).unwrap();
    sandbox.bam(&["run", "pipeline.yaml", "examples"]);
    let Some(mut plan) = sandbox.humble_command(&["plan"]) else {
        return println!("skipped: `setpriv` is not here to give up root's rights");
    };
    let allow = |mode| fs::set_permissions(sandbox.path("artifacts/store"), Permissions::from_mode(mode)).unwrap();
    allow(0o0);
    let plan = said(&mut plan);
    allow(0o755);
    let told = format!("error: `artifacts/store` cannot be read: Permission denied (os error 13)\n{hint}");
    assert_eq!((plan.code, plan.stdout, plan.stderr), (2, String::new(), told));
}

#[test]
fn a_damaged_artifact_is_told_by_status_and_show() {
    let sandbox = Sandbox::with_small_pipeline();
    sandbox.bam(&["run", "pipeline.yaml", "tokens@sentiment"]);
    let of_stage =
        |said: Said| said.stdout.lines().find(|line| line.starts_with("tokens@sentiment ")).unwrap().to_owned();
    let told = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let show = sandbox.bam(&["show", "tokens@sentiment"]);
    assert!(show.code == 0 && !show.stdout.contains("damaged"), "{}", show.stdout);

    flip_a_byte(&sandbox.path("artifacts/latest/tokens@sentiment/train.parquet"), false);
    let status = of_stage(sandbox.bam(&["status"]));
    let how = "the bytes of `train.parquet` have changed";
    assert!(status.contains(" damaged ") && status.ends_with(how), "{status}");
    let show = sandbox.bam(&["show", "tokens@sentiment"]);
    assert!(show.code == 0 && show.stdout.contains(&format!("\ndamaged      {how}; `bam run` makes it again\n")));
    let as_json = sandbox.bam(&["show", "--json", "tokens@sentiment"]).stdout;
    assert!(as_json.contains(&format!("\"damaged\":\"{how}\"")), "{as_json}");

    let manifest = fs::canonicalize(sandbox.path("artifacts/latest/tokens@sentiment/manifest.json")).unwrap();
    fs::write(manifest, "{").unwrap();
    let status = told(&of_stage(sandbox.bam(&["status"])));
    assert!(status.starts_with("tokens@sentiment damaged its artifact is damaged: "), "{status}");
    let show = sandbox.bam(&["show", "tokens@sentiment"]);
    let gone =
        "error: the artifact of `tokens@sentiment` (<hex>) is gone or damaged\n\nhint: `bam run` makes it again\n";
    assert_eq!((show.code, show.stderr.as_str()), (2, gone));
    assert_eq!(sandbox.bam(&["run", "pipeline.yaml", "tokens@sentiment"]).stages("RAN"), ["tokens@sentiment"]);
}

/// Puts the store on a disk of 128 KiB; nothing where none can be mounted.
fn on_a_small_disk(sandbox: &Sandbox) -> Option<PathBuf> {
    let disk = sandbox.path("artifacts");
    fs::create_dir(&disk).unwrap();
    let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=128k", "tmpfs"]).arg(&disk).output();
    if mount.is_ok_and(|mount| mount.status.success()) {
        return Some(disk);
    }
    println!("skipped: a small disk can't be mounted here");
    None
}

#[test]
fn a_full_disk_is_told_where_a_program_says_nothing_of_it() {
    let sandbox = Sandbox::with_fake_worker();
    sandbox.write(
        "own.sh",
        "head -c 1000000 /dev/zero > \"$(dirname $1)/output/file\" 2> /dev/null; echo one word; echo another >&2; exit 1",
    );
    sandbox.write("pipeline.yaml", "stages: { own: { exec: { run: [sh, own.sh] } } }\n");
    let Some(disk) = on_a_small_disk(&sandbox) else { return };
    let run = sandbox.bam(&["run"]);
    assert!(Command::new("umount").arg(&disk).status().unwrap().success());
    assert_eq!(run.code, 1, "{}", run.stderr);
    let hint = "error: `sh` ended with exit code 1\n\nhint: the store's disk has ";
    assert!(run.stderr.contains(hint) && run.stderr.contains(" left; `bam gc` makes room\n"), "{}", run.stderr);
    // What it says when the disk is full has a place.
    let mut said: Vec<&str> = run.stderr.lines().filter(|line| line.starts_with("  | ")).collect();
    said.sort_unstable();
    assert_eq!(said, ["  | another", "  | one word"]);
}

#[test]
fn a_full_disk_is_told_and_leaves_the_store_whole() {
    let sandbox = Sandbox::with_small_pipeline();
    let Some(disk) = on_a_small_disk(&sandbox) else { return };
    let run = sandbox.bam(&["run"]);
    let verified = sandbox.bam(&["verify"]);
    // With room again the run goes on.
    let more = Command::new("mount").args(["-o", "remount,size=16m"]).arg(&disk).status();
    let again = sandbox.bam(&["run"]);
    let unmounted = Command::new("umount").arg(&disk).status();
    assert!(more.unwrap().success() && unmounted.unwrap().success());
    assert_eq!(run.code, 1, "{}", run.stderr);
    assert!(run.stderr.contains("hint: the store's disk has "), "{}", run.stderr);
    assert_eq!(verified.code, 0, "{}", verified.stdout);
    assert_eq!(again.code, 0, "{}", again.stderr);
}
