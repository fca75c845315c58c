//! What is in the columns of a data file: enough to tell texts from labels.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use arrow::array::AsArray;
use arrow::compute::cast;
use arrow::datatypes::DataType;
use bam_contract::fault::Fault;
use bam_contract::task::{self, Columns, Format};
use bam_inference::rows::{Source, other_separator};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;

/// Distinct values of a column are counted up to here; there are no more classes than that.
pub(super) const MOST_VALUES: usize = 200;
/// More numbers than this are values, and not classes.
pub(super) const MOST_NUMBERED_CLASSES: usize = 20;

#[derive(Debug)]
pub(super) struct Table {
    pub(super) path: PathBuf,
    pub(super) format: Format,
    pub(super) has_header: bool,
    pub(super) columns: Vec<Column>,
    pub(super) rows: usize,
}

#[derive(Debug, Default)]
pub(super) struct Column {
    /// Its name in the header, or its number.
    pub(super) name: String,
    /// From 1.
    pub(super) number: usize,
    pub(super) chars: usize,
    /// Rows that have nothing there.
    pub(super) empty: usize,
    /// Those that there are, one more than [`MOST_VALUES`] at most.
    pub(super) values: BTreeSet<String>,
    /// Least and greatest of the numbers.
    pub(super) range: Option<[f64; 2]>,
    /// Rows that have a number there.
    numbers: usize,
    /// The first value that is no number, and its row.
    other: Option<(String, u64)>,
    others: usize,
}

impl Column {
    fn new((number, name): (usize, String)) -> Self {
        Self { name, number, ..Self::default() }
    }

    pub(super) fn is_numeric(&self) -> bool {
        self.others == 0 && self.numbers > 0
    }

    /// The first value that is no number, and its row, of a column of values that are numbers nearly all.
    pub(super) fn odd_among_numbers(&self) -> Option<(&str, u64)> {
        let (value, row) = self.other.as_ref()?;
        let numbers = self.values.iter().filter(|value| number(value).is_some()).count();
        // Nine of ten.
        (numbers > MOST_NUMBERED_CLASSES && self.numbers >= 9 * self.others).then_some((value, *row))
    }

    fn add(&mut self, row: u64, value: &str) {
        let value = value.trim();
        if value.is_empty() {
            self.empty += 1;
            return;
        }
        self.chars += value.chars().count();
        if self.values.len() <= MOST_VALUES {
            self.values.insert(value.to_owned());
        }
        if let Some(number) = number(value) {
            let [least, greatest] = self.range.unwrap_or([number, number]);
            self.range = Some([least.min(number), greatest.max(number)]);
            self.numbers += 1;
        } else {
            self.other.get_or_insert_with(|| (value.to_owned(), row));
            self.others += 1;
        }
    }
}

fn source<'a>(path: &'a Path, format: Format, columns: &'a Columns) -> Source<'a> {
    Source { path, format, columns, label_may_lack: true, broken: None }
}

fn number(value: &str) -> Option<f64> {
    value.parse().ok().filter(|number: &f64| number.is_finite())
}

impl Table {
    /// Reads a file whole, as the stage `data` will.
    pub(super) fn read(path: &Path, has_header: bool) -> Result<Self> {
        const HINT: &str = "`--data` names one file of rows: TSV, CSV, JSONL or Parquet, plain or gzipped";
        let shown = path.display();
        if path.is_dir() {
            return Err(Fault::new(format!("`{shown}` is a folder"), HINT).into());
        }
        if !path.is_file() {
            return Err(Fault::new(format!("data file `{shown}` does not exist"), HINT).into());
        }
        let format = Format::of(path).map_err(|fault| {
            Fault::new(fault.to_string(), "name it by how it is laid out: `.tsv`, `.csv`, `.jsonl` or `.parquet`")
        })?;
        let mut table = Self { path: path.to_owned(), format, has_header, columns: Vec::new(), rows: 0 };
        match format {
            Format::Tsv | Format::Csv => table.separated()?,
            Format::Jsonl => table.json_lines()?,
            Format::Parquet => table.parquet().with_context(|| format!("reading `{shown}`"))?,
        }
        if table.rows == 0 {
            return Err(Fault::new(format!("`{shown}` has no rows"), "give a file with rows").into());
        }
        Ok(table)
    }

    /// Where a row is, for messages.
    pub(super) fn place(&self, row: u64) -> String {
        source(&self.path, self.format, &self.any_column()).place(row)
    }

    /// Rows are read whole, so that which columns are named plays no part.
    fn any_column(&self) -> Columns {
        Columns { header: self.has_header, text: task::Column::Number(1), pair: None, label: None }
    }

    fn separated(&mut self) -> Result<()> {
        let (path, any) = (self.path.clone(), self.any_column());
        let source = source(&path, self.format, &any);
        let mut rows = source.fields()?.peekable();
        if let Some(Ok((_, first))) = rows.peek() {
            if let Some(hint) = other_separator(&source, first) {
                return Err(Fault::new(format!("`{}` has one column only", path.display()), hint).into());
            }
            let name = |(number, name): (usize, &String)| {
                Column::new((number, if self.has_header { name.clone() } else { number.to_string() }))
            };
            self.columns = (1..).zip(first).map(name).collect();
        }
        for row in rows.skip(usize::from(self.has_header)) {
            let (number, fields) = row?;
            self.rows += 1;
            for (column, value) in self.columns.iter_mut().zip(&fields) {
                column.add(number, value);
            }
        }
        Ok(())
    }

    fn json_lines(&mut self) -> Result<()> {
        let (path, any) = (self.path.clone(), self.any_column());
        let source = source(&path, self.format, &any);
        for row in source.objects()? {
            let (number, row) = row?;
            if self.rows == 0 {
                let is_plain = |value: &Value| !value.is_object() && !value.is_array();
                let names = row.iter().filter(|(_, value)| is_plain(value)).map(|(name, _)| name.clone());
                self.columns = (1..).zip(names).map(Column::new).collect();
            }
            self.rows += 1;
            for column in &mut self.columns {
                match row.get(&column.name) {
                    None | Some(Value::Null) => column.add(number, ""),
                    Some(Value::String(text)) => column.add(number, text),
                    Some(other) => column.add(number, &other.to_string()),
                }
            }
        }
        Ok(())
    }

    fn parquet(&mut self) -> Result<()> {
        // Parquet is read from its end, so a packed file is unpacked whole.
        let mut bytes = Vec::new();
        source(&self.path, self.format, &self.any_column()).open()?.read_to_end(&mut bytes)?;
        for batch in ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(bytes))?.build()? {
            let batch = batch?;
            if self.columns.is_empty() {
                let names = batch.schema().fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>();
                self.columns = (1..).zip(names).map(Column::new).collect();
            }
            for (column, values) in self.columns.iter_mut().zip(batch.columns()) {
                // A column of no plain values is no text and no label.
                let Ok(values) = cast(values, &DataType::Utf8) else { continue };
                for (row, value) in (self.rows as u64 + 1..).zip(values.as_string::<i32>()) {
                    column.add(row, value.unwrap_or_default());
                }
            }
            self.rows += batch.num_rows();
        }
        Ok(())
    }
}
