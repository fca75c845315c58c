//! Runs the real `bam` in a folder of its own, and compares what it prints.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A temporary folder to run `bam` in.
#[derive(Debug)]
pub struct Sandbox {
    folder: tempfile::TempDir,
    worker: Option<PathBuf>,
}

/// What a call of `bam` gave.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub stdout: String,
    /// With times, sizes and fingerprints replaced, see [`redact`].
    pub stderr: String,
}

impl Sandbox {
    /// With the fake worker in the place of `bam-stage`.
    pub fn with_fake_worker() -> Self {
        let worker = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/fake_stage.py");
        Self { folder: tempfile::tempdir().expect("a temporary folder"), worker: Some(worker) }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file, with the folders it lies in.
    pub fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("it lies in a folder")).expect("a folder");
        fs::write(path, text).expect("a file");
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    pub fn command(&self, args: &[impl AsRef<OsStr>]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bam"));
        command.args(args).current_dir(self.folder.path()).stdin(Stdio::null());
        command.env_remove("BAM_ARTIFACTS").env_remove("BAM_STAGE");
        if let Some(worker) = &self.worker {
            command.env("BAM_STAGE", worker);
        }
        command
    }

    pub fn bam(&self, args: &[impl AsRef<OsStr>]) -> Said {
        Said::of(&self.command(args).output().expect("bam starts"))
    }

    /// Names of the entries of a folder, sorted; none if it does not exist.
    pub fn names_in(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(folder)).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    }
}

impl Said {
    fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: redact(&text(&output.stdout)),
            stderr: redact(&text(&output.stderr)),
        }
    }

    /// The verb and stage of each line of the story: `RAN tokens@rte`.
    pub fn decisions(&self) -> Vec<String> {
        let verbs = ["CACHED", "RAN", "FAILED", "SKIPPED"];
        let lines = self.stderr.lines().filter_map(|line| {
            let verb = line.split_whitespace().next().filter(|verb| verbs.contains(verb))?;
            let stage = line.split_once(") ").or_else(|| line.split_once(')'))?.1.split_whitespace().next()?;
            Some(format!("{verb} {stage}"))
        });
        lines.collect()
    }

    /// The stages of one verb.
    pub fn stages(&self, verb: &str) -> Vec<String> {
        let wanted = format!("{verb} ");
        self.decisions().iter().filter_map(|line| line.strip_prefix(&wanted).map(ToOwned::to_owned)).collect()
    }
}

/// Replaces what differs from run to run: times in brackets and in seconds, peak memory, fingerprints.
pub fn redact(text: &str) -> String {
    let words = |line: &str| {
        let mut line = line.to_owned();
        while let Some(start) = line.find("[ ").filter(|_| line.contains("s]") || line.contains("m]")) {
            let end = line[start..].find(']').map_or(line.len(), |end| start + end);
            line.replace_range(start..=end, "<time>");
        }
        let words = line.split(' ').map(|word| {
            let bare = word.trim_matches(['(', ')', ',', '…']);
            let is_hex = bare.len() == 8 && bare.bytes().all(|byte| byte.is_ascii_hexdigit());
            let is_time = bare.ends_with('s') && bare[..bare.len() - 1].parse::<f64>().is_ok();
            match () {
                () if is_hex => word.replace(bare, "<hex>"),
                () if is_time => word.replace(bare, "<secs>"),
                () => word.to_owned(),
            }
        });
        let mut line = words.collect::<Vec<_>>().join(" ");
        if let Some((before, after)) = line.split_once("peak ")
            && let Some((_, rest)) = after.split_once("iB")
        {
            line = format!("{before}peak <memory>{}", rest.trim_start_matches(' ').to_owned().replacen("<hex>", " <hex>", 1));
        }
        line.trim_end().to_owned()
    };
    let lines: Vec<String> = text.lines().map(words).collect();
    lines.iter().map(|line| format!("{line}\n")).collect()
}
