//! The programs of a queue, which are given a time to answer.

use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bam_contract::fault::Fault;

/// How long a program may take. Slurm's own wait for its controller is a little shorter.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A program and its arguments.
pub(super) type Words = Vec<String>;

/// What a program said.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) stdout: Vec<u8>,
    /// What was wrong, by the program's own words.
    pub(super) trouble: Option<String>,
    /// Its exit code, unless a signal ended it.
    pub(super) code: Option<i32>,
}

impl Answer {
    /// What it said on standard output, as text.
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim().to_owned()
    }
}

/// Runs a program to its end; one that takes too long is ended.
///
/// # Errors
/// When it can't be started, or gave no answer in time.
pub(super) fn ask(words: &[String], patience: Duration) -> Result<Answer> {
    let [program, arguments @ ..] = words else { unreachable!("a call begins with a program") };
    let (mut stdout, mut stderr) = (tempfile::tempfile()?, tempfile::tempfile()?);
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(stdout.try_clone()?).stderr(stderr.try_clone()?);
    // A list of an array's members must not be cut short.
    command.env("SLURM_BITSTR_LEN", "0");
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(is_misleading)) {
        command.env_remove(name);
    }
    // In a group of its own a Ctrl-C doesn't reach it, and what it has started ends with it.
    let mut child = command.process_group(0).spawn().with_context(|| {
        let hint = "the queue's programs must be on the `PATH` of the machine that `bam` runs on: a login node, mostly";
        Fault::new(format!("starting `{program}`"), hint)
    })?;
    let started = Instant::now();
    let status = loop {
        match child.try_wait()? {
            Some(status) => break status,
            None if started.elapsed() < patience => sleep(LOOK_EVERY),
            None => {
                // SAFETY: a plain system call; the process was not waited for, so its number is its own.
                unsafe { libc::kill(-child.id().cast_signed(), libc::SIGKILL) };
                child.wait()?;
                bail!("`{program}` gave no answer within {} seconds", patience.as_secs());
            }
        }
    };
    let read = |file: &mut File| -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        file.rewind()?;
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let said = read(&mut stderr)?;
    let trouble = (!status.success()).then(|| last_words(program, &String::from_utf8_lossy(&said)));
    Ok(Answer { stdout: read(&mut stdout)?, trouble, code: status.code() })
}

/// Whether a variable has Slurm's programs do something else than they are asked for here: what a user likes to see of the queue, and
/// what is about another job than the one that is submitted. Accounts, partitions and the like stay.
fn is_misleading(name: &str) -> bool {
    const OF_JOBS: [&str; 8] = ["ARRAY_INX", "CLUSTERS", "ERROR", "INPUT", "JOB_NAME", "OUTPUT", "TIMELIMIT", "WAIT"];
    name == "SLURM_CLUSTERS"
        || ["SQUEUE_", "SCANCEL_", "SINFO_", "SACCT_"].iter().any(|prefix| name.starts_with(prefix))
        || name.strip_prefix("SBATCH_").is_some_and(|name| OF_JOBS.contains(&name))
}

/// Strings for a call.
pub(super) fn words<const N: usize>(words: [&str; N]) -> Words {
    words.map(ToOwned::to_owned).to_vec()
}

/// Whether a program is there: at its path, or in a folder of `PATH`.
pub(super) fn is_on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = std::env::split_paths(&path);
    if program.contains('/') { Path::new(program).is_file() } else { folders.any(|at| at.join(program).is_file()) }
}

/// What is left of `sbatch: error: Batch job submission failed: Invalid account` for a person to read.
fn last_words(program: &str, said: &str) -> String {
    const MOST_LINES: usize = 3;
    let plain = |line: &str| {
        let line = line.trim();
        let line = line.strip_prefix(program).map_or(line, |rest| rest.trim_start_matches(": "));
        line.strip_prefix("error: ").unwrap_or(line).to_owned()
    };
    let lines: Vec<String> = said.lines().map(plain).filter(|line| !line.is_empty()).collect();
    match lines.as_slice() {
        [] => format!("`{program}` failed, and said nothing"),
        lines => format!("`{program}`: {}", lines[lines.len().saturating_sub(MOST_LINES)..].join("; ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(text: &str) -> Answer {
        ask(&words(["sh", "-c", text]), PATIENCE).unwrap()
    }

    #[test]
    fn a_program_that_hangs_is_ended() {
        let hangs = words(["sh", "-c", "sleep 600 & sleep 600"]);
        let error = ask(&hangs, Duration::from_millis(50)).unwrap_err();
        assert_eq!(error.to_string(), "`sh` gave no answer within 0 seconds");
    }

    #[test]
    fn variables_of_slurms_that_would_mislead_it_are_kept_from_it() {
        for name in ["SQUEUE_USERS", "SCANCEL_STATE", "SBATCH_WAIT", "SBATCH_ARRAY_INX", "SBATCH_CLUSTERS"] {
            assert!(is_misleading(name), "{name}");
        }
        for name in ["SLURM_CONF", "SBATCH_ACCOUNT", "SBATCH_PARTITION", "SBATCH_EXPORT", "PATH"] {
            assert!(!is_misleading(name), "{name}");
        }
    }

    #[test]
    fn what_was_wrong_is_told_in_the_programs_words() {
        let answer = shell("echo said; echo 'sh: error: first' >&2; echo 'sh: error: no account' >&2; exit 1");
        assert_eq!(
            (answer.stdout.as_slice(), answer.trouble.as_deref()),
            (&b"said\n"[..], Some("`sh`: first; no account"))
        );
        assert_eq!(shell("echo said").trouble, None);
        assert_eq!(shell("exit 1").trouble.as_deref(), Some("`sh` failed, and said nothing"));
        let error = format!("{:#}", ask(&words(["no-such-program"]), PATIENCE).unwrap_err());
        assert!(error.starts_with("starting `no-such-program`"), "{error}");
    }
}
