//! All that is printed. The story of a run goes to stderr, data to stdout; colour only underlines what words say.

pub(crate) mod comparison;
pub(crate) mod error;
pub(crate) mod json;
pub(crate) mod scores;
pub(crate) mod story;
pub(crate) mod table;
pub(crate) mod units;

use std::io::{self, Write as _};

/// Writes data to stdout. A reader that has seen enough (`| head`) is no error.
pub(crate) fn data(text: &str) {
    let mut stdout = io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

/// Writes part of the story to stderr.
pub(crate) fn story(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}
