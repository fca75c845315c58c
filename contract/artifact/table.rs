//! Parquet files as every artifact writes them: the same settings always, so that equal rows give equal bytes.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use arrow::datatypes::{DataType, Schema};
use arrow::record_batch::RecordBatch;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;

use super::{FINGERPRINT, TASK};
use crate::digest::Fingerprint;
use crate::task::TaskSpec;

/// Rows handed over at a time, in either direction.
pub(super) const BATCH_ROWS: usize = 8192;

/// Rows that a writer holds, as pages, until it writes them: by default a million.
const GROUP_ROWS: usize = 65_536;

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
        .set_max_row_group_row_count(Some(GROUP_ROWS))
        .build();
    let file = File::create(path).with_context(|| format!("creating `{}`", path.display()))?;
    Ok(ArrowWriter::try_new(file, schema, Some(properties))?)
}

/// A Parquet file's batches, and its key-value metadata.
pub(super) fn open(path: &Path) -> Result<(ParquetRecordBatchReader, HashMap<String, String>)> {
    let builder = builder(path)?;
    let pairs = builder.metadata().file_metadata().key_value_metadata().cloned().unwrap_or_default();
    let metadata = pairs.into_iter().filter_map(|pair| Some((pair.key, pair.value?))).collect();
    Ok((builder.with_batch_size(BATCH_ROWS).build()?, metadata))
}

/// Batches of that column alone.
pub(super) fn open_column(path: &Path, name: &str) -> Result<ParquetRecordBatchReader> {
    let builder = builder(path)?;
    let column = ProjectionMask::columns(builder.parquet_schema(), [name]);
    Ok(builder.with_projection(column).with_batch_size(BATCH_ROWS).build()?)
}

fn builder(path: &Path) -> Result<ParquetRecordBatchReaderBuilder<File>> {
    let file = File::open(path).with_context(|| format!("opening `{}`", path.display()))?;
    ParquetRecordBatchReaderBuilder::try_new(file)
        .with_context(|| format!("`{}` is not a Parquet file", path.display()))
}

/// The column of that name and type.
pub(super) fn column<'a, A: 'static>(batch: &'a RecordBatch, name: &str) -> Result<&'a A> {
    let column = batch.column_by_name(name).with_context(|| format!("no column `{name}`"))?;
    column.as_any().downcast_ref().with_context(|| format!("column `{name}` has type {}", column.data_type()))
}

/// Holds a file's columns and task, as another program wrote them, against those it needs.
pub(super) fn check(
    file: &str,
    found: &Schema,
    own_task: Option<&str>,
    wanted: &Schema,
    task: &TaskSpec,
) -> Result<()> {
    if let Some(mistake) = task.mistakes_of_meaning().first() {
        bail!("`{file}`: its task, `{TASK}` of its metadata: {mistake}");
    }
    let own: Option<TaskSpec> = own_task.and_then(|text| serde_json::from_str(text).ok());
    ensure!(own.as_ref() == Some(task), "`{file}`: `{TASK}` of its metadata is not the task of the other splits");
    for column in wanted.fields() {
        let name = column.name();
        let Some((_, field)) = found.column_with_name(name) else { bail!("`{file}` has no column `{name}`") };
        let (is, needs) = (field.data_type(), column.data_type());
        ensure!(same(is, needs), "`{file}`: column `{name}` is {is}, not {needs}");
    }
    Ok(())
}

/// Whether types are the same, whatever the items of lists are called and whether they may be null.
fn same(a: &DataType, b: &DataType) -> bool {
    match (a, b) {
        (DataType::List(a), DataType::List(b)) => same(a.data_type(), b.data_type()),
        (DataType::FixedSizeList(a, n), DataType::FixedSizeList(b, m)) => n == m && same(a.data_type(), b.data_type()),
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::Int64Array;
    use arrow::datatypes::Field;
    use parquet::file::metadata::RowGroupMetaData;

    use super::*;

    #[test]
    fn many_rows_are_written_group_by_group_and_read_as_one_table() {
        let (folder, rows) = (tempfile::tempdir().unwrap(), 2 * GROUP_ROWS as i64 + 5);
        let path = folder.path().join("train.parquet");
        let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false)]));
        let mut writer = create(&path, schema.clone(), Fingerprint::of("a test"), &[]).unwrap();
        for first in (0..rows).step_by(BATCH_ROWS) {
            let ids = Int64Array::from_iter_values(first..rows.min(first + BATCH_ROWS as i64));
            writer.write(&RecordBatch::try_new(schema.clone(), vec![Arc::new(ids)]).unwrap()).unwrap();
        }
        let written = writer.close().unwrap();
        let groups = written.row_groups().iter().map(RowGroupMetaData::num_rows);
        assert!(groups.eq([GROUP_ROWS as i64, GROUP_ROWS as i64, 5]));
        let read = open(&path)
            .unwrap()
            .0
            .flat_map(|batch| column::<Int64Array>(&batch.unwrap(), "id").unwrap().values().to_vec());
        assert!(read.eq(0..rows));
    }
}
