//! The story of a server, on stderr.

use console::style;

use super::story;
use super::units::plural;

fn line(verb: &str, text: &str) {
    story(&format!("{} {text}", style(format!("{verb:>12}")).for_stderr().cyan().bold()));
}

pub(crate) fn listening(url: &str) {
    line("LISTENING", &format!("on {url}"));
}

/// Whose run the model is of, where none was named.
pub(crate) fn chosen(origin: &str) {
    line("MODEL", &format!("of the last run that ended well, {origin}"));
}

/// What is served from now on, and what was before.
pub(crate) fn ready(model: &str, before: Option<&str>, probes: usize, tasks: usize) {
    let tested = match probes {
        0 => "tested for finite answers".to_owned(),
        probes => format!("{} of its export answered as then", plural(probes, "row")),
    };
    let before = before.map(|before| format!(" instead of {before}")).unwrap_or_default();
    line("READY", &format!("{model}{before}, {}, {tested}", plural(tasks, "task")));
}

pub(crate) fn keys_read(keys: usize) {
    line("KEYS", &format!("read again, {}", plural(keys, "key")));
}

pub(crate) fn draining(connections: usize) {
    line("DRAINING", &format!("no new connections, {} to end", plural(connections, "connection")));
}

pub(crate) fn drained() {
    line("ENDED", "all that was accepted has been answered");
}

pub(crate) fn cut_off(connections: usize) {
    line("ENDED", &format!("{} cut off at the deadline", plural(connections, "connection")));
}
