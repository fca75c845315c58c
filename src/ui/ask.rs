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

/// What is to become of so many jobs. Without an answer they are cancelled; but where the terminal is gone, nobody wants that.
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
        match line() {
            Said::Line(answer) => {
                if let Some(answer) = understood(&answer) {
                    return answer;
                }
            }
            Said::Nothing => {
                story("\nno answer: cancelled");
                return OnInterrupt::Cancel;
            }
            Said::Gone => return OnInterrupt::Leave,
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

/// What came of waiting for an answer.
enum Said {
    Line(String),
    Nothing,
    /// The terminal has ended.
    Gone,
}

/// A line of standard input.
fn line() -> Said {
    let mut stdin = libc::pollfd { fd: libc::STDIN_FILENO, events: libc::POLLIN, revents: 0 };
    let ready = loop {
        // SAFETY: the pointer leads to a live local, and there is one of it.
        let ready = unsafe { libc::poll(&raw mut stdin, 1, PATIENCE.as_millis() as i32) };
        // A signal is no answer.
        if ready >= 0 || io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            break ready;
        }
    };
    let mut line = String::new();
    match ready {
        0 => Said::Nothing,
        1.. if io::stdin().lock().read_line(&mut line).is_ok_and(|read| read > 0) => Said::Line(line),
        _ => Said::Gone,
    }
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
