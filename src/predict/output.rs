//! Answers as JSONL, Arrow or Parquet.
//!
//! | column | type | |
//! |---|---|---|
//! | `row` | int64 | the row's number in the input, from 1; a blank line of JSONL is none |
//! | `lost_tokens` | int32 | tokens cut off to fit the model |
//! | `<task>.label` | text | the likeliest class |
//! | `<task>.probabilities` | fixed-size list of float64 | of the classes, in the order of `bam.tasks` in the metadata |
//! | `<task>.value` | float64 | a regression's value in its own range |
//! | `<task>.logits` | fixed-size list of float32 | where asked for |

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use arrow::array::{
    ArrayRef, FixedSizeListArray, Float32Array, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::ipc::writer::FileWriter;
use bam_contract::artifact::FINGERPRINT;
use bam_contract::artifact::checkpoint::ModelInfo;
use bam_contract::artifact::onnx::TASKS;
use bam_contract::fault::Fault;
use bam_contract::task::TaskSpec;
use bam_inference::answer::{Answer, likeliest};
use bam_inference::rows::STDIN;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use serde_json::{Map, Value, json};

use super::pending::Pending;
use super::target::{Target, descriptor};
use crate::cli::{OutputFormat, PredictArgs};

/// Rows that are held until they are written as a group of a Parquet file.
const ROW_GROUP_ROWS: usize = 1 << 16;

/// Where answers go. A file appears when all are written.
pub(crate) struct Sink {
    writer: Writer,
    tasks: Vec<TaskSpec>,
    logits: bool,
    rows: usize,
    pending: Pending,
}

type Output = Box<dyn Write + Send>;

enum Writer {
    Jsonl(Output),
    Arrow(Box<FileWriter<Output>>, SchemaRef),
    Parquet(Box<ArrowWriter<Output>>, SchemaRef),
}

impl Sink {
    pub(crate) fn create(args: &PredictArgs, info: &ModelInfo, tasks: &[&TaskSpec], pending: Pending) -> Result<Self> {
        let (output, is_stream) = open(args, &pending)?;
        let tasks: Vec<TaskSpec> = tasks.iter().map(|task| (*task).clone()).collect();
        let writer = match format(args, is_stream)? {
            OutputFormat::Jsonl => Writer::Jsonl(output),
            OutputFormat::Arrow => {
                let schema = schema(info, &tasks, args.logits)?;
                Writer::Arrow(Box::new(FileWriter::try_new(output, &schema)?), schema)
            }
            OutputFormat::Parquet => {
                let schema = schema(info, &tasks, args.logits)?;
                let metadata = schema.metadata().iter().map(|(name, value)| KeyValue::new(name.clone(), value.clone()));
                let properties = WriterProperties::builder()
                    .set_compression(Compression::ZSTD(ZstdLevel::default()))
                    .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
                    .set_key_value_metadata(Some(metadata.collect()))
                    .build();
                Writer::Parquet(Box::new(ArrowWriter::try_new(output, schema.clone(), Some(properties))?), schema)
            }
        };
        Ok(Self { writer, tasks, logits: args.logits, rows: 0, pending })
    }

    /// Writes rows: the tokens each lost, and its tasks' outputs side by side.
    pub(crate) fn write(&mut self, lost_tokens: &[i32], logits: &[f32]) -> Result<()> {
        let first = self.rows + 1;
        self.rows += lost_tokens.len();
        match &mut self.writer {
            Writer::Jsonl(output) => {
                let width = logits.len() / lost_tokens.len();
                for ((row, lost), logits) in (first..).zip(lost_tokens).zip(logits.chunks(width)) {
                    let object = object(row, *lost, logits, &self.tasks, self.logits);
                    writeln!(output, "{object}").context("writing the answers")?;
                }
            }
            Writer::Arrow(writer, schema) => {
                writer.write(&batch(schema, first, lost_tokens, logits, &self.tasks, self.logits)?)?;
            }
            Writer::Parquet(writer, schema) => {
                writer.write(&batch(schema, first, lost_tokens, logits, &self.tasks, self.logits)?)?;
            }
        }
        Ok(())
    }

    pub(crate) fn finish(self) -> Result<()> {
        let mut output = match self.writer {
            Writer::Jsonl(output) => output,
            Writer::Arrow(writer, _) => writer.into_inner()?,
            Writer::Parquet(writer, _) => writer.into_inner()?,
        };
        output.flush().context("writing the answers")?;
        drop(output);
        self.pending.persist()
    }
}

/// Where answers are written, and whether that was open already.
fn open(args: &PredictArgs, pending: &Pending) -> Result<(Output, bool)> {
    let creating = || {
        let message = format!("`{}` can't be written", args.output.display());
        Fault::new(message, "`--output FILE` lies in an existing folder that you may write to")
    };
    let target = Target::of(&args.output).with_context(creating)?;
    // A file may be read by redirection too.
    let input = if args.input == Path::new(STDIN) { Path::new("/proc/self/fd/0") } else { &args.input };
    if let Target::File(path) = &target
        && let (Ok(own), Ok(read)) = (path.canonicalize(), input.canonicalize())
    {
        let hint = "name another file: answers hold none of the texts";
        ensure!(own != read, Fault::new(format!("`{}` is the input", args.output.display()), hint));
    }
    let is_stream = matches!(target, Target::Stdout | Target::Descriptor(_));
    let file = match target {
        Target::Stdout => return Ok((Box::new(BufWriter::new(io::stdout())), is_stream)),
        Target::Descriptor(number) => descriptor(number),
        Target::Device(path) => File::options().write(true).open(path),
        Target::File(path) => pending.create(&path),
    };
    Ok((Box::new(BufWriter::new(file.with_context(creating)?)), is_stream))
}

fn format(args: &PredictArgs, is_stream: bool) -> Result<OutputFormat> {
    let ending = args.output.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    match (args.output_format, ending.as_str()) {
        (Some(format), _) => Ok(format),
        (None, "jsonl" | "ndjson") => Ok(OutputFormat::Jsonl),
        (None, "arrow" | "feather") => Ok(OutputFormat::Arrow),
        (None, "parquet") => Ok(OutputFormat::Parquet),
        (None, _) if is_stream => Ok(OutputFormat::Jsonl),
        (None, _) => {
            let message = format!("the ending of `{}` tells no format", args.output.display());
            Err(Fault::new(message, "say `--output-format jsonl`, `arrow` or `parquet`").into())
        }
    }
}

fn object(row: usize, lost_tokens: i32, logits: &[f32], tasks: &[TaskSpec], with_logits: bool) -> Value {
    let mut answers = Map::new();
    let mut rest = logits;
    for task in tasks {
        let (own, others) = rest.split_at(task.outputs());
        rest = others;
        let mut answer = match Answer::of(task, own) {
            Answer::Value(value) => json!({ "value": value }),
            Answer::Classes(probabilities) => {
                let named: Map<String, Value> = task
                    .labels
                    .iter()
                    .cloned()
                    .zip(probabilities.iter().map(|probability| json!(probability)))
                    .collect();
                json!({ "label": task.labels[likeliest(&probabilities)], "probabilities": named })
            }
        };
        if with_logits {
            answer["logits"] = json!(own);
        }
        answers.insert(task.name.clone(), answer);
    }
    json!({ "row": row, "lost_tokens": lost_tokens, "tasks": answers })
}

fn list(item: DataType, length: usize) -> DataType {
    DataType::FixedSizeList(Arc::new(Field::new("item", item, false)), length as i32)
}

fn schema(info: &ModelInfo, tasks: &[TaskSpec], with_logits: bool) -> Result<SchemaRef> {
    let mut fields = vec![Field::new("row", DataType::Int64, false), Field::new("lost_tokens", DataType::Int32, false)];
    for task in tasks {
        let mut field = |what: &str, of: DataType| fields.push(Field::new(format!("{}.{what}", task.name), of, false));
        if task.is_regression() {
            field("value", DataType::Float64);
        } else {
            field("label", DataType::Utf8);
            field("probabilities", list(DataType::Float64, task.outputs()));
        }
        if with_logits {
            field("logits", list(DataType::Float32, task.outputs()));
        }
    }
    let metadata =
        [(FINGERPRINT.to_owned(), info.fingerprint.to_string()), (TASKS.to_owned(), serde_json::to_string(tasks)?)];
    Ok(Arc::new(Schema::new_with_metadata(fields, HashMap::from(metadata))))
}

fn batch(
    schema: &SchemaRef,
    first: usize,
    lost_tokens: &[i32],
    logits: &[f32],
    tasks: &[TaskSpec],
    with_logits: bool,
) -> Result<RecordBatch> {
    let rows = lost_tokens.len();
    let width = logits.len() / rows;
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values((first as i64..).take(rows))),
        Arc::new(Int32Array::from(lost_tokens.to_vec())),
    ];
    let mut start = 0;
    for task in tasks {
        let own = |row: usize| &logits[row * width + start..row * width + start + task.outputs()];
        let (mut values, mut labels, mut probabilities) = (Vec::new(), Vec::new(), Vec::new());
        for row in 0..rows {
            match Answer::of(task, own(row)) {
                Answer::Value(value) => values.push(value),
                Answer::Classes(of_classes) => {
                    labels.push(task.labels[likeliest(&of_classes)].as_str());
                    probabilities.extend(of_classes);
                }
            }
        }
        if task.is_regression() {
            columns.push(Arc::new(Float64Array::from(values)));
        } else {
            columns.push(Arc::new(StringArray::from(labels)));
            columns.push(fixed(Arc::new(Float64Array::from(probabilities)), task.outputs())?);
        }
        if with_logits {
            let own: Vec<f32> = (0..rows).flat_map(own).copied().collect();
            columns.push(fixed(Arc::new(Float32Array::from(own)), task.outputs())?);
        }
        start += task.outputs();
    }
    Ok(RecordBatch::try_new(schema.clone(), columns)?)
}

fn fixed(values: ArrayRef, length: usize) -> Result<ArrayRef> {
    let item = Arc::new(Field::new("item", values.data_type().clone(), false));
    Ok(Arc::new(FixedSizeListArray::try_new(item, length as i32, values, None)?))
}
