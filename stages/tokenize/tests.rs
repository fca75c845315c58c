//! The stage from examples to the rows it wrote, with a tokenizer of a few words.

use std::path::Path;

use bam_contract::artifact::examples::ExamplesWriter;
use bam_contract::artifact::tokens::Tokens;
use bam_contract::digest::{Digest, Fingerprint};
use bam_contract::fault::hint_of;
use bam_contract::job::JobInput;
use bam_contract::stage::StageSpec;
use bam_contract::tasks;
use serde_json::json;
use tempfile::TempDir;

use super::*;

/// Ids in this order, from 0.
const VOCABULARY: [&str; 12] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "c", "d", "##x", "é", "."];

fn example(text: &str, pair: Option<&str>, label: f64) -> Example {
    Example { text: text.to_owned(), pair: pair.map(ToOwned::to_owned), label: Some(label) }
}

/// An encoder folder with that vocabulary, and no `tokenizer.json`.
fn encoder(folder: &Path, vocabulary: &[&str]) {
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join("vocab.txt"), vocabulary.join("\n")).unwrap();
}

/// Runs the stage on a task's rows; `params` lacks only `examples` and `encoder`.
fn run_on(task: &str, rows: &[Example], params: serde_json::Value, vocabulary: &[&str]) -> (TempDir, Result<Outcome>) {
    let folder = tempfile::tempdir().unwrap();
    let [examples, output, model] = ["examples", "output", "encoder"].map(|name| folder.path().join(name));
    encoder(&model, vocabulary);
    std::fs::create_dir(&examples).unwrap();
    std::fs::create_dir(&output).unwrap();
    let task = tasks::builtin(task).unwrap();
    let fingerprint = Fingerprint::of("test");
    for split in [Split::Train, Split::Dev] {
        let mut writer = ExamplesWriter::create(&examples, split, &task, fingerprint).unwrap();
        for row in rows {
            writer.push(row.clone()).unwrap();
        }
        writer.finish().unwrap();
    }
    let mut params = params;
    params["examples"] = json!("examples");
    params["encoder"] = json!(model);
    let params: TokenizeParams = serde_json::from_value(params).unwrap();
    let job = Job {
        stage: "tokens".to_owned(),
        pipeline: std::path::PathBuf::new(),
        fingerprint,
        spec: StageSpec::Tokenize(params.clone()),
        inputs: vec![JobInput {
            slot: "examples".to_owned(),
            stage: "examples".to_owned(),
            path: examples,
            digest: Digest::of(b""),
        }],
        output,
        resume: std::path::PathBuf::new(),
        threads: 1,
        device: "cpu".to_owned(),
    };
    let outcome = run(&params, &job, &Reporter::default());
    (folder, outcome)
}

fn tokens(folder: &TempDir, split: Split) -> TokenRows {
    Tokens::open(&folder.path().join("output")).unwrap().read(split).unwrap()
}

#[test]
fn a_vocabulary_is_enough() {
    let rows = [example("Ax É. z", None, 1.0)];
    let (folder, outcome) = run_on("sst2", &rows, json!({}), &VOCABULARY);
    assert_eq!(outcome.unwrap().summary, "1 train rows, 7.0 tokens each, 0 cut");
    // `É` loses its accent with its capital, and `e` is no word of the vocabulary.
    assert_eq!(tokens(&folder, Split::Train).input_ids, [2, 5, 9, 1, 11, 1, 3]);
}

#[test]
fn a_vocabulary_with_case_keeps_accents() {
    let folder = tempfile::tempdir().unwrap();
    encoder(folder.path(), &VOCABULARY);
    std::fs::write(folder.path().join("tokenizer_config.json"), r#"{"do_lower_case": false}"#).unwrap();
    let word_pieces = WordPieces::open(folder.path()).unwrap();
    let encoded = word_pieces.encode(["Ax é [SEP]"].into_iter()).unwrap();
    assert_eq!(encoded[0], [1, 10, 3]);
}

#[test]
fn padding_and_truncation_of_a_tokenizer_file_are_switched_off() {
    let folder = tempfile::tempdir().unwrap();
    let vocabulary: serde_json::Map<_, _> =
        VOCABULARY.iter().zip(0..).map(|(word, id)| ((*word).to_owned(), json!(id))).collect();
    let file = json!({
        "version": "1.0",
        "truncation": {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0},
        "padding": {"strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"},
        "added_tokens": [], "normalizer": null, "pre_tokenizer": {"type": "BertPreTokenizer"}, "post_processor": null, "decoder": null,
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100, "vocab": vocabulary},
    });
    std::fs::write(folder.path().join("tokenizer.json"), file.to_string()).unwrap();
    let encoded = WordPieces::open(folder.path()).unwrap().encode(["a b c d", "a"].into_iter()).unwrap();
    assert_eq!([encoded[0].as_slice(), encoded[1].as_slice()], [&[5, 6, 7, 8][..], &[5]]);
}

#[test]
fn a_symmetric_pair_is_written_in_both_orders_to_train_on() {
    let rows = [example("a b", Some("c"), 1.0), example("d", Some("a x"), 0.0)];
    let (folder, outcome) = run_on("mrpc", &rows, json!({}), &VOCABULARY);
    assert_eq!(outcome.unwrap().summary, "4 train rows, 6.0 tokens each, 0 cut");
    let train = tokens(&folder, Split::Train);
    assert_eq!(train.ids, [0, 1, 0, 1]);
    assert_eq!(train.swapped, [false, false, true, true]);
    assert_eq!(train.labels, [Some(1.0), Some(0.0), Some(1.0), Some(0.0)]);
    assert_eq!(train.input_ids(0), [2, 5, 6, 3, 7, 3]);
    assert_eq!(train.token_type_ids(0), [0, 0, 0, 0, 1, 1]);
    assert_eq!(train.input_ids(2), [2, 7, 3, 5, 6, 3]);
    assert_eq!(train.token_type_ids(2), [0, 0, 0, 1, 1, 1]);
    assert_eq!(tokens(&folder, Split::Dev).len(), 2);
    let (folder, _) = run_on("mrpc", &rows, json!({"both_orders": false}), &VOCABULARY);
    assert_eq!(tokens(&folder, Split::Train).len(), 2);
    let (folder, _) = run_on("rte", &rows, json!({}), &VOCABULARY);
    assert_eq!(tokens(&folder, Split::Train).len(), 2, "the order of a pair of rte carries meaning");
}

#[test]
fn long_rows_are_cut_and_say_so() {
    let pairs = [example("a b c d", Some("a b c d"), 1.0), example("a", Some("a b c d"), 0.0)];
    let (folder, outcome) = run_on("rte", &pairs, json!({"max_tokens": 8}), &VOCABULARY);
    assert_eq!(outcome.unwrap().summary, "2 train rows, 8.0 tokens each, 1 cut");
    let train = tokens(&folder, Split::Train);
    assert_eq!(train.input_ids(0), [2, 5, 6, 3, 5, 6, 7, 3]);
    assert_eq!(train.input_ids(1), [2, 5, 3, 5, 6, 7, 8, 3]);
    assert_eq!(train.lost_tokens, [3, 0]);
    let singles = [example("a b c d a", None, 1.0)];
    let (folder, _) = run_on("sst2", &singles, json!({"max_tokens": 5}), &VOCABULARY);
    let train = tokens(&folder, Split::Train);
    assert_eq!((train.input_ids(0), train.lost_tokens[0]), (&[2, 5, 6, 7, 3][..], 2));
}

#[test]
fn a_tokenizer_without_berts_special_tokens_is_refused() {
    let (_, outcome) = run_on("sst2", &[example("a", None, 1.0)], json!({}), &["[PAD]", "[UNK]", "[CLS]", "a"]);
    let error = outcome.unwrap_err();
    assert!(error.to_string().ends_with("/encoder/vocab.txt` has no `[SEP]`"), "{error}");
    assert_eq!(
        hint_of(&error),
        Some("only encoders of BERT's kind fit, whose tokenizer has [CLS], [SEP], [PAD] and [UNK]")
    );
}
