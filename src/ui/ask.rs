//! The one question to who sits at the terminal.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::time::Duration;

use super::story;
use crate::profile::OnInterrupt;

/// Who was told to end by a program, and not by Ctrl-C, is not kept waiting for a person.
const PATIENCE: Duration = Duration::from_mins(1);

/// Whether there is somebody to ask.
pub(crate) fn is_possible() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// What is to become of so many jobs. Without an answer they are cancelled.
pub(crate) fn leave_or_cancel(jobs: usize) -> OnInterrupt {
    if !is_in_foreground() {
        return OnInterrupt::Cancel;
    }
    let question = match jobs {
        1 => "leave the job in the queue, or cancel it? [l/c] ".to_owned(),
        jobs => format!("leave the {jobs} jobs in the queue, or cancel them? [l/c] "),
    };
    // After the `^C` that the terminal shows.
    story("");
    loop {
        let mut stderr = io::stderr().lock();
        _ = stderr.write_all(question.as_bytes()).and_then(|()| stderr.flush());
        drop(stderr);
        let Some(answer) = line() else {
            story("\nno answer: cancelled");
            return OnInterrupt::Cancel;
        };
        if let Some(answer) = understood(&answer) {
            return answer;
        }
    }
}

fn understood(answer: &str) -> Option<OnInterrupt> {
    match answer.trim().to_ascii_lowercase().as_str() {
        "l" | "leave" => Some(OnInterrupt::Leave),
        "c" | "cancel" => Some(OnInterrupt::Cancel),
        _ => None,
    }
}

/// A line of standard input; nothing at its end, or if none comes.
fn line() -> Option<String> {
    let mut stdin = libc::pollfd { fd: libc::STDIN_FILENO, events: libc::POLLIN, revents: 0 };
    // SAFETY: the pointer leads to a live local, and there is one of it.
    let ready = unsafe { libc::poll(&raw mut stdin, 1, PATIENCE.as_millis() as i32) };
    let mut line = String::new();
    (ready == 1 && io::stdin().lock().read_line(&mut line).is_ok_and(|read| read > 0)).then_some(line)
}

/// A program that is not would be halted when it reads.
fn is_in_foreground() -> bool {
    // SAFETY: plain system calls.
    let (foreground, own) = unsafe { (libc::tcgetpgrp(libc::STDIN_FILENO), libc::getpgrp()) };
    // A terminal that is not this session's has none to tell.
    foreground < 0 || foreground == own
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_a_letter_or_a_word() {
        assert_eq!(understood("L\n"), Some(OnInterrupt::Leave));
        assert_eq!(understood(" cancel\n"), Some(OnInterrupt::Cancel));
        assert_eq!((understood("\n"), understood("y\n")), (None, None));
    }
}
