//! Schema and first rows of Parquet and Arrow files.

use std::fs::File;
use std::path::Path;

use anyhow::Result;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::ipc::reader::FileReader;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::ui::table::{Align, Table};
use crate::ui::units::plural;

/// Characters of a cell that are shown.
const MOST_CHARS: usize = 48;

/// The file's schema and its first rows; `None` for a file that is no table.
pub(super) fn preview(path: &Path, rows: usize) -> Option<Result<String>> {
    match path.extension()?.to_str()? {
        "parquet" => Some(parquet(path, rows)),
        "arrow" => Some(ipc(path, rows)),
        _ => None,
    }
}

fn parquet(path: &Path, rows: usize) -> Result<String> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(path)?)?;
    let total = builder.metadata().file_metadata().num_rows();
    let schema = builder.schema().clone();
    let batches = builder.with_batch_size(rows.max(1)).build()?;
    let first = batches.take(usize::from(rows > 0)).collect::<Result<Vec<_>, _>>()?;
    render(&schema, total as u64, &first, rows)
}

fn ipc(path: &Path, rows: usize) -> Result<String> {
    let reader = FileReader::try_new(File::open(path)?, None)?;
    let schema = reader.schema();
    let batches = reader.collect::<Result<Vec<_>, _>>()?;
    let total = batches.iter().map(|batch| batch.num_rows() as u64).sum();
    render(&schema, total, &batches, rows)
}

fn render(schema: &SchemaRef, total: u64, batches: &[RecordBatch], rows: usize) -> Result<String> {
    let columns = plural(schema.fields().len(), "column");
    let mut text = format!("{}, {columns}\n", plural(total as usize, "row"));
    for field in schema.fields() {
        let null = if field.is_nullable() { ", may be null" } else { "" };
        text += &format!("  {}: {}{null}\n", field.name(), field.data_type());
    }
    let mut table = Table::new(schema.fields().iter().map(|field| (field.name().clone(), Align::Left)));
    let options = FormatOptions::default().with_null("null");
    let mut left = rows;
    for batch in batches {
        let columns = batch.columns().iter().map(|column| ArrayFormatter::try_new(column.as_ref(), &options));
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        for row in 0..batch.num_rows().min(left) {
            table.row(columns.iter().map(|column| short(&column.value(row).to_string())));
        }
        left = left.saturating_sub(batch.num_rows());
    }
    if rows > 0 {
        text += "\n";
        text += &table.render();
    }
    Ok(text)
}

fn short(cell: &str) -> String {
    let cell = cell.replace(['\n', '\t', '\r'], " ");
    if cell.chars().count() <= MOST_CHARS { cell } else { cell.chars().take(MOST_CHARS).chain(['…']).collect() }
}
