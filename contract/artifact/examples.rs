//! Examples: a task's rows as text, one Parquet file per split.
//!
//! | column | type | |
//! |---|---|---|
//! | `id` | int64 | row number in the split, from 0 |
//! | `text` | string | the text, or the first of a pair |
//! | `pair` | string, null in tasks of single texts | the second text |
//! | `label` | int32 class, or float64 value | null where the file gave none |

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use arrow::array::{Array, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatchReader as _;
use parquet::arrow::ArrowWriter;

use super::{TASK, table};
use crate::digest::Fingerprint;
use crate::task::{Split, TaskSpec};

/// One row. `label` is a class index or a value in the task's own range.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    pub text: String,
    pub pair: Option<String>,
    pub label: Option<f64>,
}

impl Example {
    /// Whether a text of it is nothing but white space.
    pub fn is_blank(&self) -> bool {
        let is_blank = |text: &str| text.trim().is_empty();
        is_blank(&self.text) || self.pair.as_deref().is_some_and(is_blank)
    }
}

/// An artifact of examples.
#[derive(Debug)]
pub struct Examples {
    folder: PathBuf,
    pub task: TaskSpec,
    pub splits: Vec<Split>,
}

/// Writes one split.
#[derive(Debug)]
pub struct ExamplesWriter {
    writer: ArrowWriter<File>,
    schema: SchemaRef,
    rows: Vec<Example>,
    written: usize,
    regression: bool,
}

pub(super) fn label_field(task: &TaskSpec) -> Field {
    let data_type = if task.is_regression() { DataType::Float64 } else { DataType::Int32 };
    Field::new("label", data_type, true)
}

/// A label column of the task's type.
pub(super) fn label_column(labels: impl Iterator<Item = Option<f64>>, regression: bool) -> Arc<dyn Array> {
    if regression {
        Arc::new(labels.collect::<Float64Array>())
    } else {
        Arc::new(labels.map(|label| label.map(|class| class as i32)).collect::<Int32Array>())
    }
}

/// The label column of a batch, whichever its type.
pub(super) fn labels(batch: &RecordBatch) -> Result<Vec<Option<f64>>> {
    let column = batch.column_by_name("label").context("no column `label`")?;
    if let Some(values) = column.as_any().downcast_ref::<Float64Array>() {
        return Ok(values.iter().collect());
    }
    let classes =
        column.as_any().downcast_ref::<Int32Array>().context("column `label` is neither int32 nor float64")?;
    Ok(classes.iter().map(|class| class.map(f64::from)).collect())
}

/// The columns of every split.
fn schema(task: &TaskSpec) -> Schema {
    Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("text", DataType::Utf8, false),
        Field::new("pair", DataType::Utf8, true),
        label_field(task),
    ])
}

impl Examples {
    pub fn open(folder: &Path) -> Result<Self> {
        let (task, splits) = open_task(folder)?;
        Ok(Self { folder: folder.to_owned(), task, splits })
    }

    /// Holds what another program wrote against the format: columns, task, labels.
    pub(super) fn check(folder: &Path) -> Result<()> {
        let examples = Self::open(folder)?;
        check_splits(folder, &examples.task, &examples.splits, &schema(&examples.task))?;
        for split in &examples.splits {
            let mut row = 0;
            for batch in examples.rows(*split)? {
                for example in batch? {
                    if let Some(label) = example.label.filter(|label| !examples.task.has_label(*label)) {
                        bail!("`{split}.parquet`: row {row} has the label {label}, which is none of the task's");
                    }
                    row += 1;
                }
            }
        }
        Ok(())
    }

    /// The rows of a split, in the file's order.
    pub fn rows(&self, split: Split) -> Result<impl Iterator<Item = Result<Vec<Example>>>> {
        let (batches, _) = table::open(&self.folder.join(format!("{split}.parquet")))?;
        Ok(batches.map(|batch| {
            let batch = batch?;
            let text: &StringArray = table::column(&batch, "text")?;
            let pair: &StringArray = table::column(&batch, "pair")?;
            let rows = text.iter().zip(pair).zip(labels(&batch)?);
            Ok(rows
                .map(|((text, pair), label)| Example {
                    text: text.unwrap_or_default().to_owned(),
                    pair: pair.map(ToOwned::to_owned),
                    label,
                })
                .collect())
        }))
    }
}

/// The task and splits of a folder of Parquet files, one per split.
pub(super) fn open_task(folder: &Path) -> Result<(TaskSpec, Vec<Split>)> {
    let path_of = |split: Split| folder.join(format!("{split}.parquet"));
    let splits: Vec<_> = Split::ALL_IN_ARTIFACTS.into_iter().filter(|split| path_of(*split).is_file()).collect();
    let first = splits.first().with_context(|| format!("no split in `{}`", folder.display()))?;
    let (_, metadata) = table::open(&path_of(*first))?;
    let task = metadata.get(TASK).with_context(|| format!("`{}` names no task", path_of(*first).display()))?;
    Ok((serde_json::from_str(task)?, splits))
}

/// Holds the Parquet files of a folder against the columns they need and the task they share.
pub(super) fn check_splits(folder: &Path, task: &TaskSpec, splits: &[Split], wanted: &Schema) -> Result<()> {
    for split in splits {
        let name = format!("{split}.parquet");
        let (batches, metadata) = table::open(&folder.join(&name))?;
        table::check(&name, &batches.schema(), metadata.get(TASK).map(String::as_str), wanted, task)?;
    }
    Ok(())
}

impl ExamplesWriter {
    pub fn create(folder: &Path, split: Split, task: &TaskSpec, fingerprint: Fingerprint) -> Result<Self> {
        let schema = Arc::new(schema(task));
        let task = task.of_artifact();
        let path = folder.join(format!("{split}.parquet"));
        let writer = table::create(&path, schema.clone(), fingerprint, &[(TASK, serde_json::to_string(&task)?)])?;
        Ok(Self { writer, schema, rows: Vec::new(), written: 0, regression: task.is_regression() })
    }

    pub fn push(&mut self, example: Example) -> Result<()> {
        self.rows.push(example);
        if self.rows.len() == table::BATCH_ROWS { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        let rows = std::mem::take(&mut self.rows);
        let first = self.written as i64;
        self.written += rows.len();
        let batch = RecordBatch::try_new(
            self.schema.clone(),
            vec![
                Arc::new(Int64Array::from_iter_values(first..self.written as i64)),
                Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &row.text))),
                Arc::new(rows.iter().map(|row| row.pair.as_deref()).collect::<StringArray>()),
                label_column(rows.iter().map(|row| row.label), self.regression),
            ],
        )?;
        Ok(self.writer.write(&batch)?)
    }

    /// Ends the file; returns the number of rows written.
    pub fn finish(mut self) -> Result<usize> {
        self.flush()?;
        self.writer.close()?;
        Ok(self.written)
    }
}
