//! JSONL: one JSON object a line; its names are the columns.

use std::io::BufRead;

use anyhow::{Context, Result};
use bam_contract::fault::{Fault, closest};
use bam_contract::task::Column;
use serde_json::{Map, Value};

use super::{Record, Records, Source};

pub(crate) fn records(source: Source<'_>) -> Result<Records<'_>> {
    let columns = source.columns;
    let text = name(&source, &columns.text)?;
    let pair = columns.pair.as_ref().map(|column| name(&source, column)).transpose()?;
    let label = columns.label.as_ref().map(|column| name(&source, column)).transpose()?;
    Ok(Box::new(objects(source)?.map(move |row| {
        let (number, row) = row?;
        let field = |name: &str| field(&source, number, &row, name);
        Ok(Record {
            number,
            text: field(text)?,
            pair: pair.map(field).transpose()?,
            label: match label {
                Some(label) if source.label_may_lack && matches!(row.get(label), None | Some(Value::Null)) => None,
                Some(label) => Some(field(label)?),
                None => None,
            },
        })
    })))
}

/// The rows as they stand, with their numbers.
pub(super) fn objects(source: Source<'_>) -> Result<impl Iterator<Item = Result<(u64, Map<String, Value>)>>> {
    let lines =
        source.open()?.split(b'\n').zip(1..).filter(|(line, _)| !line.as_ref().is_ok_and(|line| is_blank(line)));
    Ok(lines.map(move |(line, number)| {
        let line = line.with_context(|| source.reading())?;
        Ok((number, object(&source, number, line)?))
    }))
}

fn is_blank(line: &[u8]) -> bool {
    line.trim_ascii().is_empty()
}

fn name<'a>(source: &Source<'_>, column: &'a Column) -> Result<&'a str> {
    match column {
        Column::Name(name) => Ok(name),
        Column::Number(number) => {
            let message = format!("`{}` has no column {number}", source.path.display());
            Err(Fault::new(message, "the columns of JSONL have names, not numbers").into())
        }
    }
}

fn object(source: &Source<'_>, number: u64, line: Vec<u8>) -> Result<Map<String, Value>> {
    let line = source.utf8(number, line)?;
    // The mark that some editors put at a file's start is no JSON.
    serde_json::from_str(line.trim_start_matches('\u{feff}')).map_err(|error| {
        // serde_json counts lines too, and would always say 1.
        let what = error.to_string();
        let what = what.split(" at line ").next().unwrap_or_default();
        source.fault(
            number,
            format!("not a JSON object: {what}"),
            "each line is one object, like {\"text\": \"…\", \"label\": \"…\"}",
        )
    })
}

fn field(source: &Source<'_>, number: u64, row: &Map<String, Value>, name: &str) -> Result<String> {
    match row.get(name) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Number(value)) => Ok(value.to_string()),
        Some(Value::Bool(value)) => Ok(value.to_string()),
        Some(_) => Err(source.fault(
            number,
            format!("`{name}` is neither text nor a number"),
            "give each row a plain value there",
        )),
        None => {
            let hint = match closest(name, row.keys().map(String::as_str)) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "every line needs it".to_owned(),
            };
            Err(source.fault(number, format!("no `{name}`"), hint))
        }
    }
}
