//! Tokens: a task's rows as word-piece ids, one Parquet file per split.
//!
//! | column | type | |
//! |---|---|---|
//! | `id` | int64 | the example's row number in its split |
//! | `swapped` | bool | whether this is the example with its two texts swapped |
//! | `label` | int32 class, or float64 value | null where there is none |
//! | `input_ids` | list of int32 | `[CLS] a [SEP]` or `[CLS] a [SEP] b [SEP]`, not padded |
//! | `token_type_ids` | list of int8 | 0 up to the first `[SEP]`, 1 after it |
//! | `lost_tokens` | int32 | tokens cut off to fit `max_tokens` |

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use arrow::array::{Array, BooleanArray, Int8Array, Int32Array, Int64Array, ListArray, RecordBatch};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use parquet::arrow::ArrowWriter;
use serde::{Deserialize, Serialize};

use super::examples::{check_splits, label_column, label_field, labels, open_task};
use super::{TASK, table};
use crate::digest::{Digest, Fingerprint};
use crate::task::{Split, TaskSpec};

const TOKENIZER: &str = "bam.tokenizer";

/// What the tokens were made with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenizerInfo {
    /// Digest of the file that defines the tokenizer (`tokenizer.json` or `vocab.txt`).
    pub digest: Digest,
    pub vocabulary_size: usize,
    pub max_tokens: usize,
    pub pad_id: u32,
}

/// An artifact of tokens.
#[derive(Clone, Debug)]
pub struct Tokens {
    folder: PathBuf,
    pub task: TaskSpec,
    pub splits: Vec<Split>,
    pub tokenizer: TokenizerInfo,
}

/// Rows of one split, ids end to end: row `i` is `input_ids[offsets[i]..offsets[i + 1]]`.
#[derive(Clone, Debug)]
pub struct TokenRows {
    pub ids: Vec<i64>,
    pub swapped: Vec<bool>,
    /// Class index, or value in the task's own range.
    pub labels: Vec<Option<f64>>,
    pub offsets: Vec<usize>,
    pub input_ids: Vec<i32>,
    pub token_type_ids: Vec<i8>,
    pub lost_tokens: Vec<i32>,
}

impl Default for TokenRows {
    fn default() -> Self {
        Self {
            ids: Vec::new(),
            swapped: Vec::new(),
            labels: Vec::new(),
            offsets: vec![0],
            input_ids: Vec::new(),
            token_type_ids: Vec::new(),
            lost_tokens: Vec::new(),
        }
    }
}

impl TokenRows {
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Number of tokens of a row.
    pub fn tokens(&self, row: usize) -> usize {
        self.offsets[row + 1] - self.offsets[row]
    }

    pub fn input_ids(&self, row: usize) -> &[i32] {
        &self.input_ids[self.offsets[row]..self.offsets[row + 1]]
    }

    pub fn token_type_ids(&self, row: usize) -> &[i8] {
        &self.token_type_ids[self.offsets[row]..self.offsets[row + 1]]
    }

    /// Those rows alone, in the given order.
    #[must_use]
    pub fn select(&self, rows: &[usize]) -> Self {
        let mut selected = Self::default();
        for row in rows.iter().copied() {
            selected.ids.push(self.ids[row]);
            selected.swapped.push(self.swapped[row]);
            selected.labels.push(self.labels[row]);
            selected.input_ids.extend(self.input_ids(row));
            selected.token_type_ids.extend(self.token_type_ids(row));
            selected.offsets.push(selected.input_ids.len());
            selected.lost_tokens.push(self.lost_tokens[row]);
        }
        selected
    }

    /// Appends rows.
    pub fn append(&mut self, rows: Self) {
        let before = self.input_ids.len();
        self.ids.extend(rows.ids);
        self.swapped.extend(rows.swapped);
        self.labels.extend(rows.labels);
        self.offsets.extend(rows.offsets[1..].iter().map(|offset| before + offset));
        self.input_ids.extend(rows.input_ids);
        self.token_type_ids.extend(rows.token_type_ids);
        self.lost_tokens.extend(rows.lost_tokens);
    }

    /// Appends a row.
    pub fn push(
        &mut self,
        id: i64,
        swapped: bool,
        label: Option<f64>,
        input_ids: &[u32],
        token_type_ids: &[u32],
        lost: usize,
    ) {
        self.ids.push(id);
        self.swapped.push(swapped);
        self.labels.push(label);
        self.input_ids.extend(input_ids.iter().map(|id| *id as i32));
        self.token_type_ids.extend(token_type_ids.iter().map(|id| *id as i8));
        self.offsets.push(self.input_ids.len());
        self.lost_tokens.push(lost as i32);
    }
}

/// The columns of every split.
fn schema(task: &TaskSpec) -> Schema {
    let list =
        |name: &str, item: DataType| Field::new(name, DataType::List(Arc::new(Field::new("item", item, false))), false);
    Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("swapped", DataType::Boolean, false),
        label_field(task),
        list("input_ids", DataType::Int32),
        list("token_type_ids", DataType::Int8),
        Field::new("lost_tokens", DataType::Int32, false),
    ])
}

impl Tokens {
    pub fn open(folder: &Path) -> Result<Self> {
        let (task, splits) = open_task(folder)?;
        let (_, metadata) = table::open(&folder.join(format!("{}.parquet", splits[0])))?;
        let tokenizer = metadata.get(TOKENIZER).context("the tokens name no tokenizer")?;
        Ok(Self { folder: folder.to_owned(), task, splits, tokenizer: serde_json::from_str(tokenizer)? })
    }

    /// Holds what another program wrote against the format.
    pub(super) fn check(folder: &Path) -> Result<()> {
        let tokens = Self::open(folder)?;
        check_splits(folder, &tokens.task, &tokens.splits, &schema(&tokens.task))
    }

    /// All rows of a split.
    pub fn read(&self, split: Split) -> Result<TokenRows> {
        let mut rows = TokenRows::default();
        self.chunks(split)?.try_for_each(|chunk| chunk.map(|chunk| rows.append(chunk)))?;
        Ok(rows)
    }

    /// The rows of a split, some thousands at a time.
    pub fn chunks(&self, split: Split) -> Result<impl Iterator<Item = Result<TokenRows>>> {
        let (batches, _) = table::open(&self.path_of(split))?;
        Ok(batches.map(|batch| chunk(&batch?)))
    }

    /// The `id` of each row of a split, some thousands at a time.
    pub fn ids(&self, split: Split) -> Result<impl Iterator<Item = Result<Vec<i64>>>> {
        let batches = table::open_column(&self.path_of(split), "id")?;
        Ok(batches.map(|batch| Ok(table::column::<Int64Array>(&batch?, "id")?.values().to_vec())))
    }

    /// The label of each row of a split.
    pub fn labels(&self, split: Split) -> Result<Vec<Option<f64>>> {
        let mut all = Vec::new();
        for batch in table::open_column(&self.path_of(split), "label")? {
            all.extend(labels(&batch?)?);
        }
        Ok(all)
    }

    fn path_of(&self, split: Split) -> PathBuf {
        self.folder.join(format!("{split}.parquet"))
    }
}

fn chunk(batch: &RecordBatch) -> Result<TokenRows> {
    let mut rows = TokenRows {
        ids: table::column::<Int64Array>(batch, "id")?.values().to_vec(),
        swapped: table::column::<BooleanArray>(batch, "swapped")?.iter().map(Option::unwrap_or_default).collect(),
        labels: labels(batch)?,
        lost_tokens: table::column::<Int32Array>(batch, "lost_tokens")?.values().to_vec(),
        ..TokenRows::default()
    };
    let input_ids: &ListArray = table::column(batch, "input_ids")?;
    let token_type_ids: &ListArray = table::column(batch, "token_type_ids")?;
    for row in 0..batch.num_rows() {
        let ids = input_ids.value(row);
        let types = token_type_ids.value(row);
        rows.input_ids
            .extend(ids.as_any().downcast_ref::<Int32Array>().context("`input_ids` is not of int32")?.values());
        rows.token_type_ids
            .extend(types.as_any().downcast_ref::<Int8Array>().context("`token_type_ids` is not of int8")?.values());
        rows.offsets.push(rows.input_ids.len());
    }
    Ok(rows)
}

/// Writes one split, a chunk of rows at a time.
#[derive(Debug)]
pub struct TokensWriter {
    writer: ArrowWriter<File>,
    schema: SchemaRef,
    regression: bool,
}

impl TokensWriter {
    pub fn create(
        folder: &Path,
        split: Split,
        task: &TaskSpec,
        tokenizer: &TokenizerInfo,
        fingerprint: Fingerprint,
    ) -> Result<Self> {
        let schema = Arc::new(schema(task));
        let metadata = [(TASK, serde_json::to_string(task)?), (TOKENIZER, serde_json::to_string(tokenizer)?)];
        let writer = table::create(&folder.join(format!("{split}.parquet")), schema.clone(), fingerprint, &metadata)?;
        Ok(Self { writer, schema, regression: task.is_regression() })
    }

    pub fn write(&mut self, rows: &TokenRows) -> Result<()> {
        let offsets = OffsetBuffer::new(rows.offsets.iter().map(|offset| *offset as i32).collect());
        let list = |item: DataType, values: Arc<dyn Array>| {
            ListArray::try_new(Arc::new(Field::new("item", item, false)), offsets.clone(), values, None)
        };
        let batch = RecordBatch::try_new(
            self.schema.clone(),
            vec![
                Arc::new(Int64Array::from(rows.ids.clone())),
                Arc::new(BooleanArray::from(rows.swapped.clone())),
                label_column(rows.labels.iter().copied(), self.regression),
                Arc::new(list(DataType::Int32, Arc::new(Int32Array::from(rows.input_ids.clone())))?),
                Arc::new(list(DataType::Int8, Arc::new(Int8Array::from(rows.token_type_ids.clone())))?),
                Arc::new(Int32Array::from(rows.lost_tokens.clone())),
            ],
        )?;
        Ok(self.writer.write(&batch)?)
    }

    pub fn finish(self) -> Result<()> {
        self.writer.close()?;
        Ok(())
    }
}
