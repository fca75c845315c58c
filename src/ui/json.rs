//! `--json`: one object a line on stdout.

use serde::Serialize;

use super::data;
use crate::run::{Observer, RunEvent};

/// Prints a value on one line.
pub(crate) fn line(value: &impl Serialize) {
    data(&(serde_json::to_string(value).expect("what is reported is plain data") + "\n"));
}

/// Prints each event of a run as it happens.
#[derive(Debug)]
pub(crate) struct JsonLines;

impl Observer for JsonLines {
    fn tell(&mut self, event: &RunEvent<'_>) {
        line(event);
    }
}
