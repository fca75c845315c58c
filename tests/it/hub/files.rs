//! What the repositories of the tests' hub hold, made up here.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float32Array, Int32Array, Int64Array, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;
use parquet::file::metadata::KeyValue;
use serde_json::{Value, json};

pub(crate) const RTE: [&str; 2] = ["entailment", "not_entailment"];

/// A table of columns as the library `datasets` writes it, with the names of the classes if they are given.
pub(crate) fn table(columns: Vec<(&str, ArrayRef)>, names: Option<&[&str]>) -> Vec<u8> {
    let batch = RecordBatch::try_from_iter(columns).expect("columns of one length");
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None).expect("a writer");
    if let Some(names) = names {
        let features = json!({
            "sentence1": { "dtype": "string", "_type": "Value" },
            "label": { "names": names, "_type": "ClassLabel" },
        });
        let told = json!({ "info": { "features": features } }).to_string();
        writer.append_key_value_metadata(KeyValue::new("huggingface".to_owned(), told));
    }
    writer.write(&batch).expect("rows");
    writer.close().expect("a file");
    bytes
}

fn texts(what: &str, rows: usize) -> ArrayRef {
    Arc::new(StringArray::from_iter_values((0..rows).map(|row| format!("{what} {row}"))))
}

/// Pairs of made-up texts with the numbers of their classes.
pub(crate) fn pairs(rows: usize, label: impl Fn(usize) -> i64, names: Option<&[&str]>) -> Vec<u8> {
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("sentence1", texts("A house of number", rows)),
        ("sentence2", texts("number", rows)),
        ("label", Arc::new(Int64Array::from_iter_values((0..rows).map(label)))),
        ("idx", Arc::new(Int32Array::from_iter_values(0..rows as i32))),
    ];
    table(columns, names)
}

/// The folder `rte` of the hub's GLUE, its classes in this order.
pub(crate) fn rte(names: Option<&[&str]>) -> BTreeMap<String, Vec<u8>> {
    let file = |split: &str, bytes| (format!("rte/{split}-00000-of-00001.parquet"), bytes);
    let label = |row: usize| (row % 2) as i64;
    [
        file("train", pairs(40, label, names)),
        file("validation", pairs(10, label, names)),
        file("test", pairs(10, |_| -1, names)),
        ("README.md".to_owned(), b"# GLUE\n".to_vec()),
    ]
    .into()
}

/// An encoder's files as text, which the fake worker reads.
pub(crate) fn encoder() -> BTreeMap<String, Vec<u8>> {
    let vocabulary = "[PAD]\n[UNK]\n[CLS]\n[SEP]\na\n".to_owned();
    let weights = "weight ".repeat(10_000);
    let config =
        json!({ "model_type": "bert", "vocab_size": 5, "num_hidden_layers": 2, "max_position_embeddings": 64 });
    [
        ("config.json", config.to_string()),
        ("model.safetensors", weights),
        ("vocab.txt", vocabulary),
        ("tokenizer_config.json", "{}".to_owned()),
        ("pytorch_model.bin", "a pickle".to_owned()),
        ("README.md", "# BERT\n".to_owned()),
    ]
    .map(|(name, text)| (name.to_owned(), text.into_bytes()))
    .into()
}

/// The folder `stsb`: values in the place of classes, and -1 where there is none.
pub(crate) fn stsb() -> BTreeMap<String, Vec<u8>> {
    let file = |split: &str, rows: usize, score: fn(usize) -> f32| {
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("sentence1", texts("a bird of number", rows)),
            ("sentence2", texts("number", rows)),
            ("label", Arc::new(Float32Array::from_iter_values((0..rows).map(score)))),
        ];
        (format!("stsb/{split}-00000-of-00001.parquet"), table(columns, None))
    };
    let score = |row: usize| row as f32 % 25.0 / 5.0;
    [file("train", 40, score), file("validation", 10, score), file("test", 10, |_| -1.0)].into()
}

/// The small BERT of the fixtures, cased, with the names that BERT's first release gave its tensors.
pub(crate) fn first_release() -> BTreeMap<String, Vec<u8>> {
    let read = |name: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny-bert").join(name);
        fs::read(path).expect("a fixture")
    };
    // Eight bytes of length, a header in JSON, and the tensors.
    let weights = read("model.safetensors");
    let length = u64::from_le_bytes(weights[..8].try_into().expect("eight bytes")) as usize;
    let (header, tensors) = weights[8..].split_at(length);
    let header: serde_json::Map<String, Value> = serde_json::from_slice(header).expect("JSON");
    let renamed = header.into_iter().map(|(name, entry)| {
        if name == "__metadata__" {
            return (name, entry);
        }
        let name = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta");
        (format!("bert.{name}"), entry)
    });
    let header = Value::Object(renamed.collect()).to_string().into_bytes();
    let weights = [&(header.len() as u64).to_le_bytes()[..], &header, tensors].concat();
    [
        ("config.json", read("config.json")),
        ("vocab.txt", read("vocab.txt")),
        ("tokenizer_config.json", br#"{ "do_lower_case": false }"#.to_vec()),
        ("model.safetensors", weights),
    ]
    .map(|(name, bytes)| (name.to_owned(), bytes))
    .into()
}
