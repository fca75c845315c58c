//! Parquet: rows of any column types that read as text and numbers.

use std::fs::File;
use std::io::Read;

use anyhow::{Context, Result};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::reader::ChunkReader;

use super::columns::Positions;
use super::{Record, Records, Source};

pub(crate) fn records(source: Source<'_>) -> Result<Records<'_>> {
    let opening = || format!("opening `{}`", source.path.display());
    if !source.is_gzipped() {
        return rows(source, File::open(source.path).with_context(opening)?);
    }
    // Parquet is read from its end, so a packed file is unpacked whole.
    let mut unpacked = Vec::new();
    source.open()?.read_to_end(&mut unpacked).with_context(|| source.reading())?;
    rows(source, Bytes::from(unpacked))
}

fn rows<R: ChunkReader + 'static>(source: Source<'_>, file: R) -> Result<Records<'_>> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(file)
        .with_context(|| format!("`{}` is not a Parquet file", source.path.display()))?;
    let names: Vec<String> = builder.schema().fields().iter().map(|field| field.name().clone()).collect();
    let positions = Positions::of(&source, Some(&names), names.len())?;
    let wanted = [Some(positions.text), positions.pair, positions.label];
    let mask = ProjectionMask::roots(builder.parquet_schema(), wanted.into_iter().flatten());
    let wanted = wanted.map(|position| position.map(|position| names[position].clone()));
    let batches = builder.with_projection(mask).build()?;
    let mut before = 0;
    Ok(Box::new(batches.flat_map(move |batch| {
        let records = batch
            .with_context(|| format!("reading `{}`", source.path.display()))
            .and_then(|batch| Fields::of(&source, &batch, &wanted));
        let fields = match records {
            Ok(fields) => fields,
            Err(error) => return vec![Err(error)],
        };
        let first = before + 1;
        before += fields.text.len() as u64;
        (0..fields.text.len()).zip(first..).map(|(row, number)| fields.record(&source, row, number)).collect()
    })))
}

/// The columns of a batch that a record is made of, as text.
struct Fields {
    text: ArrayRef,
    pair: Option<ArrayRef>,
    label: Option<ArrayRef>,
}

impl Fields {
    fn of(source: &Source<'_>, batch: &RecordBatch, names: &[Option<String>; 3]) -> Result<Self> {
        let column = |name: &String| {
            let column = batch.column_by_name(name).context("a projected column is in its batch")?;
            cast(column, &DataType::Utf8)
                .with_context(|| format!("column `{name}` of `{}` is neither text nor numbers", source.path.display()))
        };
        let [text, pair, label] = names.each_ref().map(|name| name.as_ref().map(column).transpose());
        Ok(Self { text: text?.context("a record has a text")?, pair: pair?, label: label? })
    }

    fn record(&self, source: &Source<'_>, row: usize, number: u64) -> Result<Record> {
        let field = |column: &ArrayRef| column.is_valid(row).then(|| column.as_string::<i32>().value(row).to_owned());
        let need = |column: &ArrayRef, what: &str| {
            field(column)
                .ok_or_else(|| source.fault(number, format!("the {what} is null"), "fill it in, or leave the row out"))
        };
        Ok(Record {
            number,
            text: need(&self.text, "text")?,
            pair: self.pair.as_ref().map(|pair| need(pair, "second text")).transpose()?,
            label: match &self.label {
                Some(label) if source.label_may_lack => field(label),
                Some(label) => Some(need(label, "label")?),
                None => None,
            },
        })
    }
}
