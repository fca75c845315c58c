//! The stage from its parameters to the rows it wrote, on small files.

use std::io::Write;

use bam_contract::artifact::examples::Examples;
use bam_contract::digest::Fingerprint;
use bam_contract::fault::hint_of;
use bam_contract::stage::StageSpec;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;

/// Runs the stage in a folder that holds these files; `params` lacks only `from`.
fn run_on(files: &[(&str, &[u8])], params: Value) -> (TempDir, Result<Outcome>) {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    let mut params = params;
    if params.get("grammar").is_none() {
        params["from"] = json!(folder.path());
    }
    let params: DataParams = serde_json::from_value(params).unwrap();
    let output = folder.path().join("output");
    std::fs::create_dir(&output).unwrap();
    let job = Job {
        stage: "examples".to_owned(),
        pipeline: std::path::PathBuf::new(),
        fingerprint: Fingerprint::of("test"),
        spec: StageSpec::Data(Box::new(params.clone())),
        inputs: Vec::new(),
        output,
        resume: std::path::PathBuf::new(),
        threads: 1,
        device: "cpu".to_owned(),
    };
    let outcome = run(&params, &job, &Reporter::default());
    (folder, outcome)
}

fn rows(folder: &TempDir, split: Split) -> Vec<(String, Option<String>, Option<f64>)> {
    let examples = Examples::open(&folder.path().join("output")).unwrap();
    let batches = examples.rows(split).unwrap().flat_map(Result::unwrap);
    batches.map(|example| (example.text, example.pair, example.label)).collect()
}

/// Rows of single texts, for tasks that must read well.
fn singles(files: &[(&str, &[u8])], params: Value, split: Split) -> Vec<(String, Option<f64>)> {
    let (folder, outcome) = run_on(files, params);
    outcome.unwrap();
    rows(&folder, split).into_iter().map(|(text, _, label)| (text, label)).collect()
}

/// The error's text and hint, with the folder left out.
fn error(files: &[(&str, &[u8])], params: Value) -> (String, String) {
    let (folder, outcome) = run_on(files, params);
    let error = outcome.expect_err("the files are bad");
    let prefix = format!("{}/", folder.path().display());
    (format!("{error:#}").replace(&prefix, ""), hint_of(&error).unwrap_or_default().replace(&prefix, ""))
}

fn text(text: &str, label: f64) -> (String, Option<f64>) {
    (text.to_owned(), Some(label))
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), flate2::Compression::default());
    packed.write_all(bytes).unwrap();
    packed.finish().unwrap()
}

/// A task of one text and two classes, read from `all.<ending>` without being divided.
fn own_task(file: &str, more: &Value) -> Value {
    let mut definition = json!({
        "name": "mood", "files": {"train": file}, "columns": {"text": "text", "label": "mood"},
        "labels": ["bad", "good"], "metrics": ["accuracy"],
    });
    for (name, value) in more.as_object().unwrap() {
        definition[name] = value.clone();
    }
    json!({"task": "mood", "definition": definition})
}

#[test]
fn glue_rows_are_split_at_tabs_and_line_feeds_only() {
    let train = "sentence\tlabel\n\"an opening quote\t1\nnext\u{85}line and\u{2028}more\t0\nit 's \\ \"odd\" \t1";
    let dev = "sentence\tlabel\r\nwith carriage returns\t0\r\n\n";
    let test = "index\tsentence\n0\tno label here\n";
    let (folder, outcome) = run_on(
        &[
            ("SST-2/train.tsv", train.as_bytes()),
            ("SST-2/dev.tsv.gz", &gzip(dev.as_bytes())),
            ("SST-2/test.tsv", test.as_bytes()),
        ],
        json!({"task": "sst2"}),
    );
    assert_eq!(outcome.unwrap().summary, "3 train · 1 dev · 1 test rows");
    let rows = |split| rows(&folder, split).into_iter().map(|(text, _, label)| (text, label)).collect::<Vec<_>>();
    assert_eq!(
        rows(Split::Train),
        [text("\"an opening quote", 1.0), text("next\u{85}line and\u{2028}more", 0.0), text("it 's \\ \"odd\" ", 1.0)]
    );
    assert_eq!(rows(Split::Dev), [text("with carriage returns", 0.0)]);
    assert_eq!(rows(Split::Test), [("no label here".to_owned(), None)]);
}

#[test]
fn mrpc_begins_with_a_byte_order_mark() {
    let train = "\u{feff}Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t7\t8\tHe said \"no.\tHe refused.\n";
    let (folder, outcome) =
        run_on(&[("MRPC/train.tsv", train.as_bytes()), ("MRPC/dev.tsv", train.as_bytes())], json!({"task": "mrpc"}));
    assert_eq!(outcome.unwrap().summary, "1 train · 1 dev rows");
    assert_eq!(rows(&folder, Split::Train), [("He said \"no.".to_owned(), Some("He refused.".to_owned()), Some(1.0))]);
}

#[test]
fn cola_is_read_by_number_and_its_test_file_by_name() {
    let train = b"gj04\t1\t\tThe cat sat.\ngj04\t0\t*\tThe cat sitted";
    let test = b"index\tsentence\n0\tCats sit.\n";
    let files: &[(&str, &[u8])] = &[("CoLA/train.tsv", train), ("CoLA/dev.tsv", train), ("CoLA/test.tsv", test)];
    assert_eq!(
        singles(files, json!({"task": "cola"}), Split::Train),
        [text("The cat sat.", 1.0), text("The cat sitted", 0.0)]
    );
    assert_eq!(singles(files, json!({"task": "cola"}), Split::Test), [("Cats sit.".to_owned(), None)]);
}

#[test]
fn mnli_has_two_dev_sets_and_a_train_file_of_another_name() {
    let rows = b"index\tsentence1\tsentence2\tgold_label\n0\ta\tb\tneutral\n1\tc\td\tcontradiction\n";
    let (folder, outcome) = run_on(
        &[("MNLI/train-partial.tsv", rows), ("MNLI/dev_matched.tsv", rows), ("MNLI/dev_mismatched.tsv", rows)],
        json!({"task": "mnli", "files": {"train": "MNLI/train-partial.tsv"}}),
    );
    assert_eq!(outcome.unwrap().summary, "2 train · 2 dev · 2 dev_mismatched rows");
    let labels: Vec<_> = rows_labels(&folder, Split::DevMismatched);
    assert_eq!(labels, [1.0, 2.0]);
}

fn rows_labels(folder: &TempDir, split: Split) -> Vec<f64> {
    rows(folder, split).into_iter().filter_map(|(_, _, label)| label).collect()
}

#[test]
fn stsb_holds_scores_between_other_columns() {
    let header = "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore\n";
    let train =
        format!("{header}0\tnews\tf\t2012\t1\tnone\tnone\tA \"quote.\tA 'quote'.\t3.600\n1\t\t\t\t\t\t\tc\td\t0\n");
    let test = "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\n0\t\t\t\t\t\t\te\tf\n";
    let files: &[(&str, &[u8])] = &[
        ("STS-B/train.tsv", train.as_bytes()),
        ("STS-B/dev.tsv", train.as_bytes()),
        ("STS-B/test.tsv", test.as_bytes()),
    ];
    let (folder, outcome) = run_on(files, json!({"task": "stsb"}));
    assert_eq!(outcome.unwrap().summary, "2 train · 2 dev · 1 test rows");
    let expected = [("A \"quote.", Some("A 'quote'."), Some(3.6)), ("c", Some("d"), Some(0.0))];
    assert_eq!(rows(&folder, Split::Train), expected.map(owned));
    assert_eq!(rows(&folder, Split::Test), [("e", Some("f"), None)].map(owned));

    let beyond = format!("{header}0\t\t\t\t\t\t\ta\tb\t5.001\n");
    let files: &[(&str, &[u8])] = &[("STS-B/train.tsv", beyond.as_bytes()), ("STS-B/dev.tsv", beyond.as_bytes())];
    let (message, _) = error(files, json!({"task": "stsb"}));
    assert_eq!(message, "`STS-B/train.tsv:2`: value 5.001 is out of range");
}

/// Both name their classes alike; QNLI's question comes first, and its sentences hold quotes and brackets.
#[test]
fn qnli_and_rte_spell_their_labels_out() {
    for (task, folder, header) in
        [("qnli", "QNLI", "index\tquestion\tsentence"), ("rte", "RTE", "index\tsentence1\tsentence2")]
    {
        let train = format!("{header}\tlabel\n7\tWho?\t\"Nobody (1) [2]\tnot_entailment\n9\ta\u{a0}b\tc\tentailment\n");
        let test = format!("{header}\n0\te\tf\n");
        let [train_file, dev_file, test_file] = ["train", "dev", "test"].map(|split| format!("{folder}/{split}.tsv"));
        let files: &[(&str, &[u8])] =
            &[(&train_file, train.as_bytes()), (&dev_file, train.as_bytes()), (&test_file, test.as_bytes())];
        let (made, outcome) = run_on(files, json!({"task": task}));
        assert_eq!(outcome.unwrap().summary, "2 train · 2 dev · 1 test rows", "{task}");
        let expected = [("Who?", Some("\"Nobody (1) [2]"), Some(1.0)), ("a\u{a0}b", Some("c"), Some(0.0))];
        assert_eq!(rows(&made, Split::Train), expected.map(owned), "{task}");
        assert_eq!(rows(&made, Split::Test), [("e", Some("f"), None)].map(owned), "{task}");
    }
}

/// WNLI's 1 is an entailment, where RTE's and QNLI's class of that number is none.
#[test]
fn wnli_spells_its_labels_as_numbers() {
    let train = b"index\tsentence1\tsentence2\tlabel\n0\tIt fell\tThe cup fell.\t1\n1\ta\tb\t0\n";
    let (folder, outcome) = run_on(&[("WNLI/train.tsv", train), ("WNLI/dev.tsv", train)], json!({"task": "wnli"}));
    assert_eq!(outcome.unwrap().summary, "2 train · 2 dev rows");
    assert_eq!(rows_labels(&folder, Split::Dev), [1.0, 0.0]);
    let labels = bam_contract::tasks::builtin("wnli").unwrap().labels;
    assert_eq!(labels, ["not_entailment", "entailment"]);
}

#[test]
fn the_diagnostic_set_has_test_rows_only() {
    let rows_of_ax = b"index\tsentence1\tsentence2\n0\tNo \"cat\tA cat\n";
    let (folder, outcome) = run_on(&[("diagnostic/diagnostic.tsv", rows_of_ax)], json!({"task": "ax"}));
    assert_eq!(outcome.unwrap().summary, "1 test rows");
    assert_eq!(rows(&folder, Split::Test), [("No \"cat", Some("A cat"), None)].map(owned));
}

fn owned((text, pair, label): (&str, Option<&str>, Option<f64>)) -> (String, Option<String>, Option<f64>) {
    (text.to_owned(), pair.map(ToOwned::to_owned), label)
}

#[test]
fn broken_rows_of_qqp_are_left_out() {
    let train = "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n0\t1\t2\ta?\tb?\t1\n1\t3\t4\tc\nd?\te?\t0\n2\t5\t6\tf?\tg?\t0\n";
    let files: &[(&str, &[u8])] = &[("QQP/train.tsv", train.as_bytes()), ("QQP/dev.tsv", train.as_bytes())];
    let (folder, outcome) = run_on(files, json!({"task": "qqp"}));
    assert_eq!(outcome.unwrap().summary, "2 train · 2 dev rows");
    assert_eq!(rows(&folder, Split::Train)[1], ("f?".to_owned(), Some("g?".to_owned()), Some(0.0)));
}

#[test]
fn a_task_of_ones_own_reads_the_same_from_every_format() {
    let expected = [text("quite good, \"really\"", 1.0), text("bad", 0.0)];
    let tsv = "mood\ttext\ngood\tquite good, \"really\"\nbad\tbad\n";
    let csv = "\u{feff}mood,text\r\ngood,\"quite good, \"\"really\"\"\"\r\nbad,bad\r\n";
    let jsonl =
        "{\"text\": \"quite good, \\\"really\\\"\", \"mood\": \"good\"}\n\n{\"mood\": \"bad\", \"text\": \"bad\"}";
    for (file, bytes) in [("all.tsv", tsv), ("all.csv", csv), ("all.jsonl", jsonl)] {
        let params = own_task(file, &json!({}));
        assert_eq!(singles(&[(file, bytes.as_bytes())], params.clone(), Split::Train), expected, "{file}");
        let packed = gzip(bytes.as_bytes());
        assert_eq!(singles(&[(&format!("{file}.gz"), &packed)], params, Split::Train), expected, "{file}.gz");
    }
    let parquet = parquet_of(&["quite good, \"really\"", "bad"], &["good", "bad"]);
    let params = own_task("all.parquet", &json!({}));
    assert_eq!(singles(&[("all.parquet", &parquet)], params.clone(), Split::Train), expected);
    assert_eq!(singles(&[("all.parquet.gz", &gzip(&parquet))], params, Split::Train), expected);
}

#[test]
fn labels_may_be_numbers() {
    let more = json!({"labels": [0, 1]});
    for (file, text) in [("all.tsv", "mood\ttext\n1\tfine\n0\tgrey\n"), ("all.csv", "mood,text\n1,fine\n0,\"grey\"")] {
        let found = singles(&[(file, text.as_bytes())], own_task(file, &more), Split::Train);
        assert_eq!(found, [self::text("fine", 1.0), self::text("grey", 0.0)], "{file}");
    }
}

#[test]
fn lines_of_csv_are_counted_whatever_ends_them() {
    for end in ["\n", "\r\n"] {
        let rows = ["mood,text", "good,fine", "bad,\"two", "lines\"", "good,fine", "sad,grey"].join(end) + end;
        let (message, _) = error(&[("all.csv", rows.as_bytes())], own_task("all.csv", &json!({})));
        assert_eq!(message, "`all.csv:6`: unknown label `sad`", "{end:?}");
    }
}

fn parquet_of(texts: &[&str], moods: &[&str]) -> Vec<u8> {
    use arrow::array::{ArrayRef, LargeStringArray, RecordBatch, StringArray};
    let column = |texts: &[&str]| -> ArrayRef { std::sync::Arc::new(LargeStringArray::from(texts.to_vec())) };
    let other: ArrayRef = std::sync::Arc::new(StringArray::from(vec!["x"; texts.len()]));
    let batch =
        RecordBatch::try_from_iter([("mood", column(moods)), ("other", other), ("text", column(texts))]).unwrap();
    let mut bytes = Vec::new();
    let mut writer = ::parquet::arrow::ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    bytes
}

#[test]
fn a_number_is_cut_into_classes() {
    let more = json!({"labels": ["low", "middle", "high"], "cuts": [-1.0, 2.0], "format": "tsv",
        "columns": {"header": false, "text": 3, "label": 2}});
    let file = b"1\t-1.5\ta\r\n2\t-1\tb\r\n3\t1.99\tc\r\n4\t2.0\td\r\n";
    let found = singles(&[("ratings.txt", file)], own_task("ratings.txt", &more), Split::Train);
    assert_eq!(found, [text("a", 0.0), text("b", 1.0), text("c", 1.0), text("d", 2.0)]);
}

#[test]
fn a_file_is_divided_by_its_rows_content() {
    let lines: Vec<_> = (0..200).map(|row| format!("row {row}\t{}", row % 5)).collect();
    let more = json!({"labels": [], "range": [0.0, 4.0], "metrics": ["spearman"], "files": {"all": "all.tsv"},
        "columns": {"header": false, "text": 1, "label": 2}, "split": {"dev": 0.2, "test": 0.1, "seed": 3}});
    let divide = |lines: &[String]| {
        let (folder, outcome) = run_on(&[("all.tsv", lines.join("\n").as_bytes())], own_task("all.tsv", &more));
        outcome.unwrap();
        [Split::Train, Split::Dev, Split::Test].map(|split| rows(&folder, split))
    };
    let whole = divide(&lines);
    assert_eq!(whole.iter().map(Vec::len).sum::<usize>(), 200);
    // Without every third row, the others stay where they were.
    let fewer: Vec<_> =
        lines.iter().enumerate().filter(|(row, _)| row % 3 != 0).map(|(_, line)| line.clone()).collect();
    for (before, after) in whole.iter().zip(divide(&fewer)) {
        assert!(after.iter().all(|row| before.contains(row)));
    }
}

#[test]
fn a_limit_keeps_the_first_rows_of_each_split() {
    let file = b"sentence\tlabel\na\t0\nb\t1\nc\t0\n";
    let (folder, outcome) =
        run_on(&[("SST-2/train.tsv", file), ("SST-2/dev.tsv", file)], json!({"task": "sst2", "limit": 2}));
    assert_eq!(outcome.unwrap().summary, "2 train · 2 dev rows");
    assert_eq!(rows_labels(&folder, Split::Train), [0.0, 1.0]);
}

#[test]
fn the_grammar_writes_the_rows_asked_for() {
    let (folder, outcome) = run_on(&[], json!({"task": "entailment", "grammar": {"train": 9000, "dev": 50}}));
    assert_eq!(outcome.unwrap().summary, "9,000 train · 50 dev rows");
    assert_eq!(rows(&folder, Split::Train).len(), 9000);
}

/// Bad files of the task `sst2`: its train file, and what is said about it.
#[test]
fn errors_name_the_file_and_the_line() {
    for (train, message, hint) in [
        (
            &b"sentence\tlabel\nfine\t1\nlost its tab 0\n"[..],
            "`SST-2/train.tsv:3`: 1 column, 2 expected",
            "rows are split at line ends and tabs only: look for a lost or an added tab, or a line break within a text",
        ),
        (
            b"sentence\tlabel\nfine\t1\n\nmore\t0\n",
            "`SST-2/train.tsv:3`: 1 column, 2 expected",
            "rows are split at line ends and tabs only: look for a lost or an added tab, or a line break within a text",
        ),
        (b"sentence\tlabel\nfine\t2\n", "`SST-2/train.tsv:2`: unknown label `2`", "the labels of `sst2` are `0`, `1`"),
        (b"sentence\tlabel\nfine\t\n", "`SST-2/train.tsv:2`: no label", "only rows of test files may lack theirs"),
        (
            b"sentence\tlabel\ncaf\xe9\t1\n",
            "`SST-2/train.tsv:2`: not valid UTF-8",
            "convert the file, for example with `iconv -f WINDOWS-1252 -t UTF-8`",
        ),
        (
            b"sentence\tlabel\n",
            "`SST-2/train.tsv` holds no train rows",
            "a split needs at least one row: is the file cut short, or its share in `split` too small?",
        ),
        (
            b"",
            "`SST-2/train.tsv` holds no train rows",
            "a split needs at least one row: is the file cut short, or its share in `split` too small?",
        ),
        (b"sentance\tlabel\nfine\t1\n", "`SST-2/train.tsv` has no column `sentence`", "did you mean `sentance`?"),
        (b"a\tlabel\nfine\t1\n", "`SST-2/train.tsv` has no column `sentence`", "its columns are `a`, `label`"),
    ] {
        let files: &[(&str, &[u8])] = &[("SST-2/train.tsv", train), ("SST-2/dev.tsv", b"sentence\tlabel\na\t0\n")];
        assert_eq!(error(files, json!({"task": "sst2"})), (message.to_owned(), hint.to_owned()));
    }
}

#[test]
fn errors_in_values_and_in_other_formats() {
    let regression = json!({"labels": [], "range": [0.0, 5.0], "metrics": ["spearman"]});
    let numbered = json!({"columns": {"header": false, "text": 1, "label": 3}});
    let headless = json!({"columns": {"header": false, "text": "text", "label": 2}});
    for (file, bytes, more, message, hint) in [
        (
            "all.csv",
            "text,mood\n\"two\nlines\",1\nx,5.5\n",
            &regression,
            "`all.csv:4`: value 5.5 is out of range",
            "the values of `mood` lie between 0 and 5",
        ),
        (
            "all.csv",
            "text,mood\nx,high\n",
            &regression,
            "`all.csv:2`: `high` is not a number",
            "is `label` the right column?",
        ),
        (
            "all.csv",
            "text,mood\nx,NaN\n",
            &regression,
            "`all.csv:2`: `NaN` is not a number",
            "is `label` the right column?",
        ),
        (
            "all.csv",
            "mood,text\ngood,\"fine\nbad,\"\"grey\"\"\ngood,fine\n",
            &json!({}),
            "`all.csv:2`: a double quote opens a field and none closes it",
            "put a text with commas, quotes or line breaks in double quotes, and double the quotes within",
        ),
        (
            "all.csv",
            "mood,text,mood\ngood,fine,bad\n",
            &json!({}),
            "`all.csv` has more than one column `mood`",
            "give the column's number, from 1",
        ),
        (
            "all.csv",
            "text,mood\nx, y,good\n",
            &json!({}),
            "`all.csv:2`: 3 columns, 2 expected",
            "put a text with commas, quotes or line breaks in double quotes, and double the quotes within",
        ),
        ("all.tsv", "x\tgood\n", &numbered, "`all.tsv` has no column 3", "it has 2; they count from 1"),
        (
            "all.tsv",
            "x\tgood\n",
            &headless,
            "`all.tsv` has no header to find the column `text` in",
            "give the column's number, from 1; or read the first row as names",
        ),
        (
            "all.jsonl",
            "{\"text\": \"a\", \"mood\": \"good\"}\n{\"txt\": \"b\"}\n",
            &json!({}),
            "`all.jsonl:2`: no `text`",
            "did you mean `txt`?",
        ),
        (
            "all.jsonl",
            "[1]\n",
            &json!({}),
            "`all.jsonl:1`: not a JSON object: invalid type: sequence, expected a map",
            "each line is one object, like {\"text\": \"…\", \"label\": \"…\"}",
        ),
        (
            "all.dat",
            "",
            &json!({}),
            "the ending of `all.dat` tells no format",
            "say `format: tsv`, `csv`, `jsonl` or `parquet` in the task's definition",
        ),
    ] {
        let found = error(&[(file, bytes.as_bytes())], own_task(file, more));
        assert_eq!(found, (message.to_owned(), hint.to_owned()));
    }
    let parquet = parquet_of(&["a", "b"], &["good", "so-so"]);
    let found = error(&[("all.parquet", &parquet)], own_task("all.parquet", &json!({})));
    assert_eq!(found.0, "`all.parquet` row 2: unknown label `so-so`");
}
