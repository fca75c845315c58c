//! Predictions: a model's logits for a task's rows, one Arrow IPC file (Feather v2) per split.
//!
//! | column | type | |
//! |---|---|---|
//! | `id` | int64 | the example's row number in its split |
//! | `swapped` | bool | whether this is the example with its two texts swapped |
//! | `label` | int32 class, or float64 value | null where there is none |
//! | `logits` | fixed-size list of float32 | one per class, or one scaled value of a regression |

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use arrow::array::{Array, BooleanArray, FixedSizeListArray, Float32Array, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use arrow::ipc::reader::FileReader;
use arrow::ipc::writer::FileWriter;

use super::examples::{label_column, label_field, labels};
use super::{FINGERPRINT, TASK, table};
use crate::digest::Fingerprint;
use crate::task::{Split, TaskSpec};

/// An artifact of predictions.
#[derive(Debug)]
pub struct Predictions {
    folder: PathBuf,
    pub task: TaskSpec,
    pub splits: Vec<Split>,
}

/// Rows of one split; row `i` has the logits `logits[i * outputs..(i + 1) * outputs]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PredictionRows {
    pub ids: Vec<i64>,
    pub swapped: Vec<bool>,
    pub labels: Vec<Option<f64>>,
    pub logits: Vec<f32>,
}

/// The columns of every split.
fn schema(task: &TaskSpec) -> Schema {
    let (item, outputs) = logits_type(task);
    Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("swapped", DataType::Boolean, false),
        label_field(task),
        Field::new("logits", DataType::FixedSizeList(item, outputs), false),
    ])
}

/// What a row's logits consist of, and how many there are.
fn logits_type(task: &TaskSpec) -> (FieldRef, i32) {
    (Arc::new(Field::new("item", DataType::Float32, false)), task.outputs() as i32)
}

impl Predictions {
    pub fn open(folder: &Path) -> Result<Self> {
        let path_of = |split: Split| folder.join(format!("{split}.arrow"));
        let splits: Vec<_> = Split::ALL_IN_ARTIFACTS.into_iter().filter(|split| path_of(*split).is_file()).collect();
        let first = splits.first().with_context(|| format!("no predictions in `{}`", folder.display()))?;
        let reader = open_file(&path_of(*first))?;
        let schema = reader.schema();
        let task = schema.metadata().get(TASK).context("the predictions name no task")?;
        Ok(Self { folder: folder.to_owned(), task: serde_json::from_str(task)?, splits })
    }

    /// Holds what another program wrote against the format.
    pub(super) fn check(folder: &Path) -> Result<()> {
        let predictions = Self::open(folder)?;
        for split in &predictions.splits {
            let name = format!("{split}.arrow");
            let found = open_file(&folder.join(&name))?.schema();
            let task = found.metadata().get(TASK).map(String::as_str);
            table::check(&name, &found, task, &schema(&predictions.task), &predictions.task)?;
        }
        Ok(())
    }

    pub fn read(&self, split: Split) -> Result<PredictionRows> {
        let mut rows = PredictionRows::default();
        for batch in open_file(&self.folder.join(format!("{split}.arrow")))? {
            let batch = batch?;
            rows.ids.extend(table::column::<Int64Array>(&batch, "id")?.values());
            rows.swapped
                .extend(table::column::<BooleanArray>(&batch, "swapped")?.iter().map(Option::unwrap_or_default));
            rows.labels.extend(labels(&batch)?);
            let logits: &FixedSizeListArray = table::column(&batch, "logits")?;
            let values =
                logits.values().as_any().downcast_ref::<Float32Array>().context("`logits` is not of float32")?;
            rows.logits.extend(values.values());
        }
        Ok(rows)
    }

    /// Writes one split.
    pub fn write(
        folder: &Path,
        split: Split,
        task: &TaskSpec,
        rows: PredictionRows,
        fingerprint: Fingerprint,
    ) -> Result<()> {
        let mut writer = PredictionsWriter::create(folder, split, task, fingerprint)?;
        writer.write(rows)?;
        writer.finish()
    }
}

/// Writes one split, some rows at a time.
pub struct PredictionsWriter {
    writer: FileWriter<File>,
    task: TaskSpec,
}

impl fmt::Debug for PredictionsWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PredictionsWriter").field("task", &self.task.name).finish_non_exhaustive()
    }
}

impl PredictionsWriter {
    pub fn create(folder: &Path, split: Split, task: &TaskSpec, fingerprint: Fingerprint) -> Result<Self> {
        let metadata = HashMap::from([
            (FINGERPRINT.to_owned(), fingerprint.to_string()),
            (TASK.to_owned(), serde_json::to_string(task)?),
        ]);
        let path = folder.join(format!("{split}.arrow"));
        let file = File::create(&path).with_context(|| format!("creating `{}`", path.display()))?;
        let writer = FileWriter::try_new(file, &schema(task).with_metadata(metadata))?;
        Ok(Self { writer, task: task.clone() })
    }

    pub fn write(&mut self, rows: PredictionRows) -> Result<()> {
        let (item, outputs) = logits_type(&self.task);
        let logits = FixedSizeListArray::try_new(item, outputs, Arc::new(Float32Array::from(rows.logits)), None)?;
        let batch = RecordBatch::try_new(
            self.writer.schema().clone(),
            vec![
                Arc::new(Int64Array::from(rows.ids)),
                Arc::new(BooleanArray::from(rows.swapped)),
                label_column(rows.labels.into_iter(), self.task.is_regression()),
                Arc::new(logits),
            ],
        )?;
        for first in (0..batch.num_rows()).step_by(table::BATCH_ROWS) {
            self.writer.write(&batch.slice(first, table::BATCH_ROWS.min(batch.num_rows() - first)))?;
        }
        Ok(())
    }

    pub fn finish(mut self) -> Result<()> {
        Ok(self.writer.finish()?)
    }
}

fn open_file(path: &Path) -> Result<FileReader<File>> {
    let file = File::open(path).with_context(|| format!("opening `{}`", path.display()))?;
    FileReader::try_new(file, None).with_context(|| format!("`{}` is not an Arrow IPC file", path.display()))
}
