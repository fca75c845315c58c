//! All that is printed. The story of a run goes to stderr, data to stdout; colour only underlines what words say.

pub(crate) mod ask;
pub(crate) mod comparison;
pub(crate) mod error;
pub(crate) mod graph;
pub(crate) mod json;
pub(crate) mod rows;
pub(crate) mod scores;
pub(crate) mod serving;
pub(crate) mod story;
pub(crate) mod table;
pub(crate) mod units;

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::OnceLock;

use anyhow::{Result, anyhow};

/// Why data could not be written, the first time.
static LOST: OnceLock<io::Error> = OnceLock::new();

/// `NO_COLOR` wins over what else the environment says of colours.
pub(crate) fn respect_no_color() {
    if std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()) {
        console::set_colors_enabled(false);
        console::set_colors_enabled_stderr(false);
    }
}

/// Writes data to stdout.
pub(crate) fn data(text: &str) {
    feed(text.as_bytes());
}

/// Writes data to stdout; says whether it goes on being read. A reader that has seen enough (`| head`) is no error.
pub(crate) fn feed(bytes: &[u8]) -> bool {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(bytes).and_then(|()| stdout.flush());
    let is_read = written.is_ok();
    if let Err(error) = written
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        _ = LOST.set(error);
    }
    is_read
}

/// Whether all data was written, but for what nobody wanted to read.
pub(crate) fn all_written() -> Result<()> {
    LOST.get().map_or(Ok(()), |error| Err(anyhow!("writing to standard output: {error}")))
}

/// Said of a stage that a failure elsewhere kept from being started.
pub(crate) const NOT_STARTED: &str = "not started: --fail-fast";

/// A program's words without what would move a terminal's cursor, colour it or wipe it.
pub(crate) fn harmless(text: &str) -> String {
    let is_harmless = |c: &char| !c.is_control() || matches!(c, '\n' | '\t');
    console::strip_ansi_codes(text).chars().filter(is_harmless).collect()
}

/// Whether data goes to a terminal.
pub(crate) fn is_shown() -> bool {
    io::stdout().is_terminal()
}

/// Writes part of the story to stderr.
pub(crate) fn story(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}
