//! Runs the real `bam` in a folder of its own, to compare what it says whole.

pub(crate) mod browser;
pub(crate) mod http;
pub(crate) mod model;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::fd::FromRawFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use regex::Regex;
use serde_json::Value;

/// Two tasks through every stage kind, for the fake worker.
const PIPELINE: &str = "\
name: small
seed: 17
vars: { encoder: enc, max_tokens: 128 }
for:  { task: [sentiment, entailment] }
stages:
  examples@task:    { data:     { task: $task, grammar: { train: 20, dev: 10 } } }
  tokens@task:      { tokenize: { examples: examples@$task, encoder: $encoder, max_tokens: $max_tokens } }
  teacher@task:     { train:    { tokens: [tokens@$task], encoder: $encoder, epochs: 3, learning_rate: 5e-5 } }
  predictions@task: { predict:  { model: teacher@$task, tokens: tokens@$task } }
  student:          { train:    { tokens: [tokens@*], teachers: [predictions@*], encoder: $encoder, epochs: 6 } }
  onnx:             { export:   { model: student } }
  scores:           { score:    { models: [teacher@*, student, onnx], tokens: [tokens@*] } }
";

/// A temporary folder to run `bam` in.
#[derive(Debug)]
pub(crate) struct Sandbox {
    folder: tempfile::TempDir,
    worker: Option<PathBuf>,
}

/// What a call of `bam` gave, with times and the like redacted.
#[derive(Debug, PartialEq)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Sandbox {
    /// With the real `bam-stage`, found as a user's is.
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder"), worker: None }
    }

    /// With the fake worker in the place of `bam-stage`, and an encoder folder `enc` for it.
    pub(crate) fn with_fake_worker() -> Self {
        let worker = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/support/fake_stage.py");
        let sandbox = Self { worker: Some(worker), ..Self::new() };
        for name in ["config.json", "model.safetensors", "tokenizer.json"] {
            sandbox.write(&format!("enc/{name}"), "{}");
        }
        sandbox
    }

    /// With the fake worker, and a `pipeline.yaml` of every stage kind.
    pub(crate) fn with_small_pipeline() -> Self {
        let sandbox = Self::with_fake_worker();
        sandbox.write("pipeline.yaml", PIPELINE);
        sandbox
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file, with the folders it lies in.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("it lies in a folder")).expect("a folder");
        fs::write(path, text).expect("a file");
    }

    /// Replaces text that stands in a file exactly once.
    pub(crate) fn edit(&self, name: &str, old: &str, new: &str) {
        let text = self.read(name);
        assert_eq!(text.matches(old).count(), 1, "`{old}` in {text}");
        self.write(name, &text.replace(old, new));
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// The manifest of a stage's artifact.
    pub(crate) fn manifest(&self, stage: &str) -> Value {
        serde_json::from_str(&self.read(&format!("artifacts/latest/{stage}/manifest.json"))).expect("JSON")
    }

    /// Content digest of each stage's artifact.
    pub(crate) fn contents(&self) -> BTreeMap<String, String> {
        let digest = |stage: String| {
            let content = self.manifest(&stage)["content"].as_str().expect("a digest").to_owned();
            (stage, content)
        };
        // A link that was being replaced when its run was killed is left to `bam gc`.
        let stages = self.names_in("artifacts/latest").into_iter().filter(|name| !name.starts_with('.'));
        stages.map(digest).collect()
    }

    pub(crate) fn command(&self, args: &[impl AsRef<OsStr>]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bam"));
        command.args(args).current_dir(self.folder.path()).stdin(Stdio::null());
        command.env("TZ", "UTC");
        // One stage at a time: what is told then has one order.
        command.env_remove("BAM_ARTIFACTS").env_remove("BAM_STAGE").env_remove("BAM_REMOTE").env("BAM_JOBS", "1");
        command.env_remove("BAM_PROFILE");
        if let Some(worker) = &self.worker {
            command.env("BAM_STAGE", worker);
        }
        // Tests that run in a shell's background are started with signals ignored, which programs heed and pass on.
        // SAFETY: between fork and exec only system calls are made that are allowed there.
        unsafe {
            command.pre_exec(|| {
                for number in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
                    libc::signal(number, libc::SIG_DFL);
                }
                Ok(())
            })
        };
        command
    }

    /// Like [`Sandbox::command`], but with no right to what the permissions of a file deny, which root has otherwise; nothing
    /// where such a call can't be made.
    pub(crate) fn humble_command(&self, args: &[&str]) -> Option<Command> {
        let command = self.command(args);
        // SAFETY: a plain system call.
        if unsafe { libc::geteuid() } != 0 {
            return Some(command);
        }
        let mut humble = Command::new("setpriv");
        humble.arg("--bounding-set=-dac_override,-dac_read_search").arg(command.get_program()).args(command.get_args());
        humble.current_dir(self.folder.path()).stdin(Stdio::null());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => humble.env(name, value),
                None => humble.env_remove(name),
            };
        }
        let is_there = Command::new("setpriv").arg("--version").output().is_ok_and(|output| output.status.success());
        is_there.then_some(humble)
    }

    pub(crate) fn bam(&self, args: &[impl AsRef<OsStr>]) -> Said {
        said(&mut self.command(args))
    }

    /// Names of the entries of a folder, sorted; none if it does not exist.
    pub(crate) fn names_in(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(folder)).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    }
}

/// Waits until something holds, and fails after half a minute.
pub(crate) fn until(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..3000 {
        if holds() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("in vain: {what}");
}

/// A terminal of so many columns: what it would show can be read from the first, and the second is a program's side.
pub(crate) fn terminal(columns: u16) -> (File, File) {
    let (mut outer, mut inner) = (0, 0);
    let size = libc::winsize { ws_row: 60, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    let none = std::ptr::null_mut();
    // SAFETY: the pointers lead to live locals; name and settings may be null.
    assert_eq!(unsafe { libc::openpty(&raw mut outer, &raw mut inner, none, none.cast(), &raw const size) }, 0);
    // Programs that other tests start would keep them open.
    for end in [outer, inner] {
        // SAFETY: a plain system call.
        assert_eq!(unsafe { libc::fcntl(end, libc::F_SETFD, libc::FD_CLOEXEC) }, 0);
    }
    // SAFETY: both were just opened, and nobody else has them.
    unsafe { (File::from_raw_fd(outer), File::from_raw_fd(inner)) }
}

/// What a call of `bam` says.
pub(crate) fn said(command: &mut Command) -> Said {
    Said::of(&command.output().expect("bam starts"))
}

/// A worker that an engine under way has started.
pub(crate) fn worker_of(engine: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{engine}/task/{engine}/children")).ok()?;
    let mut children = children.split_whitespace().filter_map(|child| child.parse().ok());
    let is_guardian = |child: u32| {
        fs::read(format!("/proc/{child}/cmdline")).is_ok_and(|words| words.starts_with(b"stages\0guard-stages"))
    };
    children.find(|child| !is_guardian(*child))
}

/// Whether a process is gone, though perhaps nobody has waited for it yet.
pub(crate) fn is_gone(process: u32) -> bool {
    let state = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    state.is_empty() || state.contains(") Z ")
}

pub(crate) fn signal(process: u32, number: i32) {
    // SAFETY: a plain system call; the process was not waited for, so its number is its own.
    assert_eq!(unsafe { libc::kill(process.cast_signed(), number) }, 0);
}

impl Said {
    fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| redact(std::str::from_utf8(bytes).expect("UTF-8"));
        Self { code: output.status.code().unwrap_or(-1), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }

    /// Stages whose line in the story begins with this verb, in the story's order.
    pub(crate) fn stages(&self, verb: &str) -> Vec<String> {
        let line = Regex::new(&format!(r"(?m)^ *{verb} +(?:\[time\])? +\( *\d+/\d+\) (\S+)")).expect("a pattern");
        line.captures_iter(&self.stderr).map(|found| found[1].to_owned()).collect()
    }
}

/// Replaces what differs from call to call: times, peak memory, fingerprints; and ends no line in spaces.
pub(crate) fn redact(text: &str) -> String {
    let rules = [
        (r"\[ *[0-9][0-9a-z. ]*\]", "[time]"),
        (r"\b[0-9a-f]{64}\b|\b[0-9a-f]{8}\b", "<hex>"),
        (r"peak [0-9.]+ [KMG]?i?B *", "peak <memory>  "),
        (r" \([^)]* saved\)", ""),
        (r"(?m)^ +Slowest .*\n", ""),
        (r"\b[0-9.]+m?s\b", "<secs>"),
        (r"(?m) +$", ""),
    ];
    rules.iter().fold(text.to_owned(), |text, (pattern, instead)| {
        Regex::new(pattern).expect("a pattern").replace_all(&text, *instead).into_owned()
    })
}
