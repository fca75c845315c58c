//! TSV as GLUE has it: rows end at `\n` and fields at a tab, and nothing is quoted or escaped.
//!
//! A byte order mark at the file's start and a `\r` before a line's end are dropped. Other Unicode line
//! breaks belong to the sentences they stand in.

use std::io::BufRead;

use anyhow::{Context, Result};

use super::columns;
use super::{Fields, Records, Source};

const HINT: &str =
    "rows are split at line ends and tabs only: look for a lost or an added tab, or a line break within a text";
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

pub(crate) fn records(source: Source<'_>) -> Result<Records<'_>> {
    columns::records(source, rows(source)?, HINT)
}

pub(super) fn fields(source: Source<'_>) -> Result<Fields<'_>> {
    Ok(columns::alike(source, rows(source)?, HINT))
}

fn rows(source: Source<'_>) -> Result<Rows<'_>> {
    Ok(Rows { input: source.open()?, source, number: 0 })
}

/// Lines as fields, with their numbers from 1.
struct Rows<'a> {
    input: Box<dyn BufRead>,
    source: Source<'a>,
    number: u64,
}

impl Rows<'_> {
    fn line(&mut self) -> Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        let read = self.input.read_until(b'\n', &mut line).with_context(|| self.source.reading())?;
        self.number += 1;
        if self.number == 1 && line.starts_with(BYTE_ORDER_MARK) {
            line.drain(..BYTE_ORDER_MARK.len());
        }
        for end in *b"\n\r" {
            line.pop_if(|last| *last == end);
        }
        let blank_last = line.is_empty() && self.input.fill_buf()?.is_empty();
        Ok((read > 0 && !blank_last).then_some(line))
    }
}

impl Iterator for Rows<'_> {
    type Item = Result<(u64, Vec<String>)>;

    fn next(&mut self) -> Option<Self::Item> {
        let line = self.line().transpose()?;
        let line = line.and_then(|line| self.source.utf8(self.number, line));
        Some(line.map(|line| (self.number, line.split('\t').map(ToOwned::to_owned).collect())))
    }
}
