//! Parquet files as every artifact writes them: the same settings always, so that equal rows give equal bytes.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result};
use arrow::record_batch::RecordBatch;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;

use super::FINGERPRINT;
use crate::digest::Fingerprint;

/// Rows handed over at a time, in either direction.
pub(super) const BATCH_ROWS: usize = 8192;

/// Opens a Parquet file for writing. `metadata` goes into its key-value metadata beside the fingerprint.
pub(super) fn create(
    path: &Path,
    schema: arrow::datatypes::SchemaRef,
    fingerprint: Fingerprint,
    metadata: &[(&str, String)],
) -> Result<ArrowWriter<File>> {
    let mut pairs = vec![KeyValue::new(FINGERPRINT.to_owned(), fingerprint.to_string())];
    pairs.extend(metadata.iter().map(|(name, value)| KeyValue::new((*name).to_owned(), value.clone())));
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?))
        // The default names the library's version: an upgrade would change every byte's digest.
        .set_created_by("bam".to_owned())
        .set_key_value_metadata(Some(pairs))
        .build();
    let file = File::create(path).with_context(|| format!("creating `{}`", path.display()))?;
    Ok(ArrowWriter::try_new(file, schema, Some(properties))?)
}

/// A Parquet file's batches, and its key-value metadata.
pub(super) fn open(path: &Path) -> Result<(ParquetRecordBatchReader, HashMap<String, String>)> {
    let file = File::open(path).with_context(|| format!("opening `{}`", path.display()))?;
    let builder = ParquetRecordBatchReaderBuilder::try_new(file)
        .with_context(|| format!("`{}` is not a Parquet file", path.display()))?;
    let pairs = builder.metadata().file_metadata().key_value_metadata().cloned().unwrap_or_default();
    let metadata = pairs.into_iter().filter_map(|pair| Some((pair.key, pair.value?))).collect();
    Ok((builder.with_batch_size(BATCH_ROWS).build()?, metadata))
}

/// The column of that name and type.
pub(super) fn column<'a, A: 'static>(batch: &'a RecordBatch, name: &str) -> Result<&'a A> {
    let column = batch.column_by_name(name).with_context(|| format!("no column `{name}`"))?;
    column.as_any().downcast_ref().with_context(|| format!("column `{name}` has type {}", column.data_type()))
}
