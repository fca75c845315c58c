//! What is in the columns of a data file: enough to tell texts from labels.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use arrow::array::AsArray;
use arrow::compute::cast;
use arrow::datatypes::DataType;
use bam_contract::fault::Fault;
use bam_contract::task::Format;
use flate2::read::MultiGzDecoder;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Map, Value};

/// Distinct values of a column are counted up to here; there are no more classes than that.
pub(super) const MOST_VALUES: usize = 200;

#[derive(Debug)]
pub(super) struct Table {
    pub(super) path: PathBuf,
    pub(super) has_header: bool,
    pub(super) columns: Vec<Column>,
    pub(super) rows: usize,
}

#[derive(Debug, Default)]
pub(super) struct Column {
    /// Its name in the header, or its number from 1.
    pub(super) name: String,
    pub(super) chars: usize,
    /// Rows that have nothing there.
    pub(super) empty: usize,
    /// Those that there are, one more than [`MOST_VALUES`] at most.
    pub(super) values: BTreeSet<String>,
    /// Least and greatest, while all values are numbers.
    pub(super) range: Option<[f64; 2]>,
    all_numbers: bool,
}

impl Column {
    fn new(name: String) -> Self {
        Self { name, all_numbers: true, ..Self::default() }
    }

    pub(super) fn is_numeric(&self) -> bool {
        self.all_numbers && self.range.is_some()
    }

    fn add(&mut self, value: &str) {
        let value = value.trim();
        if value.is_empty() {
            self.empty += 1;
            return;
        }
        self.chars += value.chars().count();
        if self.values.len() <= MOST_VALUES {
            self.values.insert(value.to_owned());
        }
        match value.parse::<f64>() {
            Ok(number) if number.is_finite() && self.all_numbers => {
                let [least, greatest] = self.range.unwrap_or([number, number]);
                self.range = Some([least.min(number), greatest.max(number)]);
            }
            _ => self.all_numbers = false,
        }
    }
}

impl Table {
    /// Reads a file whole.
    pub(super) fn read(path: &Path, has_header: bool) -> Result<Self> {
        if !path.is_file() {
            let hint = "`--data` names one file of rows: TSV, CSV, JSONL or Parquet, plain or gzipped";
            return Err(Fault::new(format!("data file `{}` does not exist", path.display()), hint).into());
        }
        let mut table = Self { path: path.to_owned(), has_header, columns: Vec::new(), rows: 0 };
        let read = match Format::of(path)? {
            Format::Tsv => table.separated(b'\t', false),
            Format::Csv => table.separated(b',', true),
            Format::Jsonl => table.json_lines(),
            Format::Parquet => table.parquet(),
        };
        read.with_context(|| format!("reading `{}`", path.display()))?;
        if table.rows == 0 {
            return Err(Fault::new(format!("`{}` has no rows", path.display()), "give a file with rows").into());
        }
        Ok(table)
    }

    fn open(&self) -> Result<Box<dyn BufRead>> {
        let file = File::open(&self.path)?;
        let is_gzipped = self.path.extension().is_some_and(|ending| ending == "gz");
        Ok(if is_gzipped {
            Box::new(BufReader::new(MultiGzDecoder::new(file)))
        } else {
            Box::new(BufReader::new(file))
        })
    }

    fn separated(&mut self, separator: u8, quoting: bool) -> Result<()> {
        let mut builder = csv::ReaderBuilder::new();
        builder.has_headers(self.has_header).flexible(true).delimiter(separator).quoting(quoting);
        let mut reader = builder.from_reader(self.open()?);
        if self.has_header {
            self.columns = reader.headers()?.iter().map(|name| Column::new(name.to_owned())).collect();
        }
        for row in reader.records() {
            let row = row?;
            if self.columns.is_empty() {
                self.columns = (1..=row.len()).map(|number| Column::new(number.to_string())).collect();
            }
            self.rows += 1;
            for (column, value) in self.columns.iter_mut().zip(row.iter()) {
                column.add(value);
            }
        }
        Ok(())
    }

    fn json_lines(&mut self) -> Result<()> {
        for (line, number) in self.open()?.lines().zip(1..) {
            let line = line?;
            if line.trim().is_empty() {
                continue;
            }
            let row: Map<String, Value> =
                serde_json::from_str(&line).with_context(|| format!("line {number} is no JSON object"))?;
            if self.rows == 0 {
                let is_plain = |value: &Value| !value.is_object() && !value.is_array();
                self.columns = row
                    .iter()
                    .filter(|(_, value)| is_plain(value))
                    .map(|(name, _)| Column::new(name.clone()))
                    .collect();
            }
            self.rows += 1;
            for column in &mut self.columns {
                match row.get(&column.name) {
                    None | Some(Value::Null) => column.add(""),
                    Some(Value::String(text)) => column.add(text),
                    Some(other) => column.add(&other.to_string()),
                }
            }
        }
        Ok(())
    }

    fn parquet(&mut self) -> Result<()> {
        // Parquet is read from its end, so a packed file is unpacked whole.
        let mut bytes = Vec::new();
        self.open()?.read_to_end(&mut bytes)?;
        for batch in ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(bytes))?.build()? {
            let batch = batch?;
            if self.columns.is_empty() {
                self.columns = batch.schema().fields().iter().map(|field| Column::new(field.name().clone())).collect();
            }
            self.rows += batch.num_rows();
            for (column, values) in self.columns.iter_mut().zip(batch.columns()) {
                // A column of no plain values is no text and no label.
                let Ok(values) = cast(values, &DataType::Utf8) else { continue };
                for value in values.as_string::<i32>() {
                    column.add(value.unwrap_or_default());
                }
            }
        }
        Ok(())
    }
}
