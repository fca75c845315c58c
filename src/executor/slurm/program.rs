//! Slurm's programs, which are given a time to answer.

use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bam_contract::fault::Fault;

/// How long a program may take. Slurm's own wait for its controller is a little shorter.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A program under way.
#[derive(Debug)]
pub(super) struct Asking {
    program: String,
    child: Child,
    stdout: File,
    stderr: File,
    pub(super) started: Instant,
    patience: Duration,
}

/// What a program said.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) stdout: Vec<u8>,
    /// What was wrong, by the program's own words.
    pub(super) trouble: Option<String>,
}

impl Asking {
    pub(super) fn start(program: &str, arguments: &[String], patience: Duration) -> Result<Self> {
        let (stdout, stderr) = (tempfile::tempfile()?, tempfile::tempfile()?);
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(stdout.try_clone()?).stderr(stderr.try_clone()?);
        // In a group of its own a Ctrl-C doesn't reach it, and what it has started ends with it.
        let child = command.process_group(0).spawn().with_context(|| {
            let hint = "Slurm's programs must be on the `PATH` of the machine that `bam` runs on: a login node, mostly";
            Fault::new(format!("starting `{program}`"), hint)
        })?;
        Ok(Self { program: program.to_owned(), child, stdout, stderr, started: Instant::now(), patience })
    }

    /// What it said, once it has ended; it is ended if it takes too long.
    pub(super) fn answer(&mut self) -> Option<Answer> {
        let read = |file: &mut File| {
            let mut bytes = Vec::new();
            _ = file.rewind().and_then(|()| file.read_to_end(&mut bytes));
            bytes
        };
        match self.child.try_wait() {
            Ok(None) if self.started.elapsed() < self.patience => None,
            Ok(None) => {
                self.end();
                let secs = self.patience.as_secs();
                let trouble = Some(format!("`{}` gave no answer within {secs} seconds", self.program));
                Some(Answer { stdout: Vec::new(), trouble })
            }
            Ok(Some(status)) => {
                let said = String::from_utf8_lossy(&read(&mut self.stderr)).into_owned();
                let trouble = (!status.success()).then(|| last_words(&self.program, &said));
                Some(Answer { stdout: read(&mut self.stdout), trouble })
            }
            Err(error) => Some(Answer { stdout: Vec::new(), trouble: Some(error.to_string()) }),
        }
    }

    fn end(&mut self) {
        // SAFETY: a plain system call; the process was not waited for, so its number is its own.
        unsafe { libc::kill(-self.child.id().cast_signed(), libc::SIGKILL) };
        _ = self.child.wait();
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.end();
        }
    }
}

/// Runs a program to its end.
pub(super) fn ask(program: &str, arguments: &[String], patience: Duration) -> Result<Answer> {
    let mut asking = Asking::start(program, arguments, patience)?;
    loop {
        if let Some(answer) = asking.answer() {
            return Ok(answer);
        }
        sleep(LOOK_EVERY);
    }
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

    fn shell(text: &str, patience: Duration) -> Answer {
        ask("sh", &["-c".to_owned(), text.to_owned()], patience).unwrap()
    }

    #[test]
    fn a_program_that_hangs_is_ended() {
        let answer = shell("sleep 600 & sleep 600", Duration::from_millis(50));
        assert_eq!(answer.trouble.as_deref(), Some("`sh` gave no answer within 0 seconds"));
    }

    #[test]
    fn what_was_wrong_is_told_in_the_programs_words() {
        let answer =
            shell("echo said; echo 'sh: error: first' >&2; echo 'sh: error: no account' >&2; exit 1", PATIENCE);
        assert_eq!(
            (answer.stdout.as_slice(), answer.trouble.as_deref()),
            (&b"said\n"[..], Some("`sh`: first; no account"))
        );
        assert_eq!(shell("echo said", PATIENCE).trouble, None);
        assert_eq!(shell("exit 1", PATIENCE).trouble.as_deref(), Some("`sh` failed, and said nothing"));
        let error = format!("{:#}", ask("no-such-program", &[], PATIENCE).unwrap_err());
        assert!(error.starts_with("starting `no-such-program`"), "{error}");
    }
}
