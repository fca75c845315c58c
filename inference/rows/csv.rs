//! CSV by RFC 4180: fields between commas, in double quotes where they hold commas, quotes or line breaks.

use anyhow::{Context, Result};
use csv::{ByteRecord, ReaderBuilder};

use super::columns;
use super::{Records, Source};

const HINT: &str = "put a text with commas, quotes or line breaks in double quotes, and double the quotes within";

pub(crate) fn records(source: Source<'_>) -> Result<Records<'_>> {
    // Headers and widths are the same matter in TSV, and checked there.
    let reader = ReaderBuilder::new().has_headers(false).flexible(true).from_reader(source.open()?);
    let rows = reader.into_byte_records().map(move |row| {
        let row = row.with_context(|| source.reading())?;
        let number = row.position().map_or(0, csv::Position::line);
        Ok((number, fields(source, number, &row)?))
    });
    columns::records(source, rows, HINT)
}

fn fields(source: Source<'_>, number: u64, row: &ByteRecord) -> Result<Vec<String>> {
    row.iter().map(|field| source.utf8(number, field.to_vec())).collect()
}
