//! CSV by RFC 4180: fields between commas, in double quotes where they hold commas, quotes or line breaks.

use std::io::{BufRead as _, Read as _};

use anyhow::{Context, Result};
use csv::{ByteRecord, ReaderBuilder};

use super::columns;
use super::{Fields, Records, Source};

/// Follows the file, as a row of its own; or, where a quoted field isn't closed, at the end of that one.
const END: &str = "\n\0end\0\n";

const HINT: &str = "put a text with commas, quotes or line breaks in double quotes, and double the quotes within";

pub(crate) fn records(source: Source<'_>) -> Result<Records<'_>> {
    columns::records(source, rows(source)?, HINT)
}

pub(super) fn fields(source: Source<'_>) -> Result<Fields<'_>> {
    Ok(columns::alike(source, rows(source)?, HINT))
}

fn rows(source: Source<'_>) -> Result<impl Iterator<Item = Result<(u64, Vec<String>)>>> {
    // Headers and widths are the same matter in TSV, and checked there.
    let mut input = source.open()?;
    let first = input.fill_buf().with_context(|| source.reading())?;
    // The reader has not passed the `\n` of a `\r\n` where it says at what line the next row begins.
    let lag = u64::from(first.iter().position(|byte| *byte == b'\n').is_some_and(|at| first[..at].ends_with(b"\r")));
    let reader = ReaderBuilder::new().has_headers(false).flexible(true).from_reader(input.chain(END.as_bytes()));
    let is_end = |row: &ByteRecord| row.len() == 1 && row[0] == *END.trim().as_bytes();
    Ok(reader.into_byte_records().take_while(move |row| !row.as_ref().is_ok_and(is_end)).map(move |row| {
        let row = row.with_context(|| source.reading())?;
        let number = row.position().map_or(0, |position| position.line() + lag * u64::from(position.record() > 0));
        if row.iter().next_back().is_some_and(|last| last.ends_with(END.as_bytes())) {
            return Err(source.fault(number, "a double quote opens a field and none closes it", HINT));
        }
        Ok((number, texts(source, number, &row)?))
    }))
}

fn texts(source: Source<'_>, number: u64, row: &ByteRecord) -> Result<Vec<String>> {
    row.iter().map(|field| source.utf8(number, field.to_vec())).collect()
}
