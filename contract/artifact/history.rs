//! The course of a training: `history.parquet` in a checkpoint, a row per step.
//!
//! Columns of float64: `step` (from 0), `epoch`, `loss`, `lambda` (of `anneal`), `learning_rate`, `gradient_norm` (before
//! clipping), `rows_per_second`, `lambda/<task>` of tasks whose λ is another, and `dev/<task>/<metric>`, null but on steps after
//! which was evaluated.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use arrow::array::{Array, Float64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};

use super::table;
use crate::digest::Fingerprint;

/// A record, not content: it holds times, and no stage reads it.
pub const FILE: &str = "history.parquet";

/// Columns by name, all of one length.
pub type HistoryColumns = Vec<(String, Vec<Option<f64>>)>;

pub fn write_history(folder: &Path, columns: &HistoryColumns, fingerprint: Fingerprint) -> Result<()> {
    let fields: Vec<_> = columns.iter().map(|(name, _)| Field::new(name, DataType::Float64, true)).collect();
    let schema = Arc::new(Schema::new(fields));
    let arrays = columns.iter().map(|(_, values)| Arc::new(Float64Array::from(values.clone())) as Arc<dyn Array>);
    let batch = RecordBatch::try_new(schema.clone(), arrays.collect())?;
    let mut writer = table::create(&folder.join(FILE), schema, fingerprint, &[])?;
    writer.write(&batch)?;
    writer.close()?;
    Ok(())
}

pub fn read_history(folder: &Path) -> Result<HistoryColumns> {
    let (batches, _) = table::open(&folder.join(FILE))?;
    let mut columns = HistoryColumns::new();
    for batch in batches {
        let batch = batch?;
        for (at, field) in batch.schema().fields().iter().enumerate() {
            let values = batch.column(at).as_any().downcast_ref::<Float64Array>();
            let values = values.with_context(|| format!("`{}` is not of float64", field.name()))?;
            if columns.len() <= at {
                columns.push((field.name().clone(), Vec::new()));
            }
            columns[at].1.extend(values);
        }
    }
    Ok(columns)
}
