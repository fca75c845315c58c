//! Which fields of a row are the texts and the label.

use anyhow::Result;
use bam_contract::fault::{Fault, closest};
use bam_contract::task::{Column, Format};

use super::{Fields, Record, Records, Source};

/// Positions of a table's columns, from 0.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Positions {
    /// Fields of each row.
    width: usize,
    pub(crate) text: usize,
    pub(crate) pair: Option<usize>,
    pub(crate) label: Option<usize>,
}

impl Positions {
    /// The columns of `source` in a table of `width` columns with these names, if it has any.
    ///
    /// # Errors
    /// When a column is missing; a label may be, where the source says so.
    pub(crate) fn of(source: &Source<'_>, names: Option<&[String]>, width: usize) -> Result<Self> {
        let find = |column: &Column| find(source, column, names, width);
        let label = match source.columns.label.as_ref().map(find) {
            Some(Err(_)) if source.label_may_lack => None,
            found => found.transpose()?,
        };
        let pair = source.columns.pair.as_ref().map(find).transpose()?;
        Ok(Self { width, text: find(&source.columns.text)?, pair, label })
    }

    /// The record in a row's fields.
    ///
    /// # Errors
    /// When the row has more or fewer fields than the table has columns.
    pub(crate) fn record(
        &self,
        source: &Source<'_>,
        number: u64,
        mut fields: Vec<String>,
        hint: &str,
    ) -> Result<Record> {
        if fields.len() != self.width {
            return Err(wrong_width(source, number, fields.len(), self.width, hint));
        }
        // The label first: a task may read its label and its text from the same column.
        let label = self.label.map(|label| fields[label].clone());
        let pair = self.pair.map(|pair| fields[pair].clone());
        Ok(Record { number, text: std::mem::take(&mut fields[self.text]), pair, label })
    }
}

fn wrong_width(source: &Source<'_>, number: u64, found: usize, expected: usize, hint: &str) -> anyhow::Error {
    let columns = if found == 1 { "column" } else { "columns" };
    source.fault(number, format!("{found} {columns}, {expected} expected"), hint)
}

/// Rows that must have as many fields as the first.
pub(super) fn alike<'a>(
    source: Source<'a>,
    rows: impl Iterator<Item = Result<(u64, Vec<String>)>> + 'a,
    hint: &'static str,
) -> Fields<'a> {
    let mut width = None;
    Box::new(rows.map(move |row| {
        let (number, fields) = row?;
        let expected = *width.get_or_insert(fields.len());
        if fields.len() != expected {
            return Err(wrong_width(&source, number, fields.len(), expected, hint));
        }
        Ok((number, fields))
    }))
}

/// Records of a table of text whose rows are numbered fields; the first may name the columns. `hint`
/// helps with a row that has more or fewer fields than the first.
pub(crate) fn records<'a>(
    source: Source<'a>,
    rows: impl Iterator<Item = Result<(u64, Vec<String>)>> + 'a,
    hint: &'static str,
) -> Result<Records<'a>> {
    let mut rows = rows.peekable();
    let names = if source.columns.header { rows.next().transpose()?.map(|(_, names)| names) } else { None };
    if let Some(unreadable) = rows.next_if(Result::is_err) {
        unreadable?;
    }
    let first = rows.peek().and_then(|row| row.as_ref().ok()).map(|(_, fields)| fields.len());
    let Some(width) = names.as_ref().map(Vec::len).or(first) else {
        return Ok(Box::new(std::iter::empty()));
    };
    let positions = Positions::of(&source, names.as_deref(), width)?;
    Ok(Box::new(rows.filter_map(move |row| match (row, source.broken) {
        (Ok((_, fields)), Some(broken)) if fields.len() != width => {
            broken.set(broken.get() + 1);
            None
        }
        (row, _) => Some(row.and_then(|(number, fields)| positions.record(&source, number, fields, hint))),
    })))
}

fn find(source: &Source<'_>, column: &Column, names: Option<&[String]>, width: usize) -> Result<usize> {
    let file = source.path.display();
    match (column, names) {
        (Column::Number(number), _) if *number <= width => Ok(number - 1),
        (Column::Number(number), _) => {
            Err(Fault::new(format!("`{file}` has no column {number}"), format!("it has {width}; they count from 1"))
                .into())
        }
        (Column::Name(name), Some(names)) if names.iter().filter(|known| *known == name).count() > 1 => {
            let message = format!("`{file}` has more than one column `{name}`");
            Err(Fault::new(message, "give the column's number, from 1").into())
        }
        (Column::Name(name), Some(names)) => names.iter().position(|known| known == name).ok_or_else(|| {
            let known = names.iter().map(String::as_str);
            let hint = other_separator(source, names).unwrap_or_else(|| match closest(name, known.clone()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => {
                    format!("its columns are {}", known.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "))
                }
            });
            Fault::new(format!("`{file}` has no column `{name}`"), hint).into()
        }),
        (Column::Name(name), None) => {
            let message = format!("`{file}` has no header to find the column `{name}` in");
            Err(Fault::new(message, "give the column's number, from 1; or read the first row as names").into())
        }
    }
}

/// What to do about a table of one column whose name holds another separator than the file's format has.
pub fn other_separator(source: &Source<'_>, names: &[String]) -> Option<String> {
    let [name] = names else { return None };
    let (own, wanted) = if source.format == Format::Tsv { ('\t', "tabs") } else { (',', "commas") };
    let other = [';', '\t', ',', '|'].into_iter().find(|other| *other != own && name.contains(*other))?;
    let shown = if other == '\t' { "a tab".to_owned() } else { format!("`{other}`") };
    Some(format!("its fields seem to be separated by {shown}: write the file with {wanted}"))
}
