//! `bam predict` from outside: rows of every format in, answers of every format out.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::symlink;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::Duration;

use crate::support::model::{exported, write_with_a_broken_word};
use crate::support::{Said, Sandbox};
use arrow::array::{AsArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Float32Type, Float64Type, Int32Type, Int64Type, Schema};
use arrow::ipc::reader::FileReader;
use flate2::Compression;
use flate2::write::GzEncoder;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::metadata::RowGroupMetaData;
use serde_json::{Value, json};

const TOLERANCE: f64 = 1e-5;

fn predict(args: &[&str]) -> Said {
    exported().bam(&[&["predict"], args].concat())
}

/// Answers as they are printed. Not redacted: they are compared whole.
fn answers(args: &[&str]) -> Vec<Value> {
    predict_from("", args)
}

/// The same with `input` on stdin.
fn predict_from(input: impl AsRef<[u8]>, args: &[&str]) -> Vec<Value> {
    let mut command = exported().command(&[&["predict"], args].concat());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.as_ref().to_owned();
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn probability(answer: &Value, task: &str) -> f64 {
    let answer = &answer["tasks"][task];
    answer["probabilities"][answer["label"].as_str().unwrap()].as_f64().unwrap()
}

#[test]
fn every_format_gives_the_same_answers() {
    let sandbox = exported();
    let rows = [("a \"fine\" day, he said", "x"), ("dull", "y"), ("", "z"), ("naïve 👍", "w")];
    let plain: String = rows.iter().map(|(text, _)| format!("{text}\r\n")).collect();
    let tsv: String = rows.iter().map(|(text, id)| format!("{id}\t{text}\n")).collect();
    let csv: String = rows.iter().map(|(text, id)| format!("\"{}\",{id}\n", text.replace('"', "\"\""))).collect();
    let jsonl: String = rows.iter().map(|(text, id)| json!({ "id": id, "said": text }).to_string() + "\n").collect();
    sandbox.write("plain.txt", &plain);
    sandbox.write("rows.tsv", &tsv);
    sandbox.write("rows.csv", &format!("said,id\n{csv}"));
    sandbox.write("rows.jsonl", &jsonl);
    write_parquet("rows.parquet", &rows.map(|(text, _)| text));
    fs::write(sandbox.path("plain.txt.gz"), packed(&plain)).unwrap();
    let expected = predict_from(&plain, &[]);
    assert_eq!(predict_from(&jsonl, &["--input-format", "jsonl", "--text", "said"]), expected);
    assert_eq!(predict_from(packed(&jsonl), &["--input-format", "jsonl", "--text", "said"]), expected);
    assert_eq!(predict_from(packed(&plain), &[]), expected);
    assert_eq!(expected.len(), 4);
    assert_eq!(expected[0]["tasks"].as_object().unwrap().keys().collect::<Vec<_>>(), ["acceptability", "sentiment"]);
    for args in [
        &["--input", "plain.txt"][..],
        &["--input", "plain.txt.gz"],
        &["--input", "rows.tsv", "--no-header", "--text", "2"],
        &["--input", "rows.csv", "--text", "said"],
        &["--input", "rows.jsonl", "--text", "said"],
        &["--input", "rows.parquet", "--text", "said"],
    ] {
        assert_eq!(answers(args), expected, "{args:?}");
    }
}

fn packed(text: &str) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(text.as_bytes()).unwrap();
    packed.finish().unwrap()
}

fn write_parquet(name: &str, texts: &[&str]) {
    let schema = Arc::new(Schema::new(vec![Field::new("said", DataType::Utf8, false)]));
    let batch = RecordBatch::try_new(schema.clone(), vec![Arc::new(StringArray::from(texts.to_vec()))]).unwrap();
    let mut writer = ArrowWriter::try_new(File::create(exported().path(name)).unwrap(), schema, None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

#[test]
fn rows_keep_their_order_over_windows_and_lengths() {
    let texts: Vec<String> = (0..5000).map(|row| format!("{row} {}", "on and ".repeat(row * 7 % 23))).collect();
    let answers = predict_from(texts.join("\n"), &["--task", "sentiment", "--logits"]);
    assert_eq!(answers.len(), 5000);
    for (index, answer) in answers.iter().enumerate() {
        assert_eq!(answer["row"], index + 1);
    }
    let some: Vec<usize> = (0..5000).step_by(397).collect();
    for row in some {
        let alone = &predict_from(&texts[row], &["--task", "sentiment", "--logits"])[0];
        let logit = |answer: &Value| answer["tasks"]["sentiment"]["logits"][0].as_f64().unwrap();
        assert!((logit(alone) - logit(&answers[row])).abs() < TOLERANCE, "row {row}");
        assert_eq!(alone["lost_tokens"], answers[row]["lost_tokens"]);
    }
    assert!(answers.iter().any(|answer| answer["lost_tokens"].as_u64().unwrap() > 0));
}

#[test]
fn tables_hold_what_lines_do() {
    let sandbox = exported();
    sandbox.write("pairs.tsv", "text\tpair\nit rains\tit is wet\nno\tyes\nthe end\tthe start\n");
    let args = ["--input", "pairs.tsv", "--pair", "pair", "--logits"];
    let expected = answers(&args);
    assert_eq!(expected.len(), 3);
    for name in ["out.arrow", "out.parquet"] {
        let said = predict(&[&args[..], &["--output", name]].concat());
        assert_eq!((said.code, said.stdout.as_str()), (0, ""), "{}", said.stderr);
        assert!(said.stderr.contains("3 rows") && said.stderr.contains("for 2 tasks"), "{}", said.stderr);
        let (batch, metadata) = read(name);
        assert_eq!(batch.num_rows(), 3);
        let column = |name: &str| batch.column_by_name(name).unwrap_or_else(|| panic!("no `{name}`"));
        for (row, answer) in expected.iter().enumerate() {
            assert_eq!(column("row").as_primitive::<Int64Type>().value(row), row as i64 + 1);
            assert_eq!(column("lost_tokens").as_primitive::<Int32Type>().value(row), 0);
            let value = column("similarity.value").as_primitive::<Float64Type>().value(row);
            assert_eq!(value, answer["tasks"]["similarity"]["value"].as_f64().unwrap());
            assert_eq!(
                column("entailment.label").as_string::<i32>().value(row),
                answer["tasks"]["entailment"]["label"]
            );
            let probabilities = column("entailment.probabilities").as_fixed_size_list().value(row);
            let greatest = probabilities.as_primitive::<Float64Type>().values().iter().copied().fold(0.0, f64::max);
            assert_eq!(greatest, probability(answer, "entailment"));
            let logits = column("entailment.logits").as_fixed_size_list().value(row);
            let logits: Vec<f64> =
                logits.as_primitive::<Float32Type>().values().iter().map(|l| f64::from(*l)).collect();
            assert_eq!(logits.len(), answer["tasks"]["entailment"]["logits"].as_array().unwrap().len());
        }
        assert_eq!(metadata["bam.fingerprint"], exported().manifest("onnx")["fingerprint"].as_str().unwrap());
        assert!(metadata["bam.tasks"].contains("\"entailment\""));
    }
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(sandbox.path("out.arrow")).unwrap().permissions());
    assert_eq!(mode & 0o400, 0o400);
}

/// The first batch of a table, and the file's metadata.
fn read(name: &str) -> (RecordBatch, BTreeMap<String, String>) {
    let file = File::open(exported().path(name)).unwrap();
    if name.ends_with("arrow") {
        let mut reader = FileReader::try_new(file, None).unwrap();
        let schema = reader.schema();
        let metadata = schema.metadata().iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        return (reader.next().unwrap().unwrap(), metadata);
    }
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    let pairs = reader.metadata().file_metadata().key_value_metadata().unwrap().clone();
    let metadata = pairs.into_iter().filter_map(|pair| Some((pair.key, pair.value?))).collect();
    (reader.build().unwrap().next().unwrap().unwrap(), metadata)
}

#[test]
fn models_are_named_by_stage_fingerprint_and_path() {
    let fingerprint = exported().manifest("onnx")["fingerprint"].as_str().unwrap().to_owned();
    let folder = format!("artifacts/store/export/{fingerprint}");
    let file = format!("{folder}/model.onnx");
    let expected = predict_from("a day", &[]);
    for name in ["onnx", &fingerprint[..8], &folder, &file, "artifacts/latest/onnx"] {
        assert_eq!(predict_from("a day", &[name]), expected, "{name}");
    }
}

#[test]
fn mistakes_are_told_with_their_place_and_leave_no_output() {
    let sandbox = exported();
    sandbox.write("bad.jsonl", "{\"text\": \"fine\"}\n\n{\"text\": 3, \"pair\"}\n");
    sandbox.write("lacks.jsonl", "{\"text\": \"fine\"}\n{\"txt\": \"fine\"}\n");
    sandbox.write("bad.tsv", "text\tpair\na\tb\nc\n");
    sandbox.write("bad.txt", "fine\n");
    sandbox.write("null.jsonl", "{\"text\": \"fine\"}\n{\"text\": null}\n");
    fs::write(sandbox.path("latin.txt"), b"fine\ncaf\xe9\n").unwrap();
    fs::write(sandbox.path("wide.csv"), b"\xff\xfet\0e\0x\0t\0\n\0").unwrap();
    fs::write(sandbox.path("cut.txt.gz"), &packed(&"a fine day\n".repeat(1000))[..30]).unwrap();
    fs::create_dir(sandbox.path("never")).unwrap();
    for (args, error) in [
        (&["--input", "bad.jsonl"][..], "`bad.jsonl:3`: not a JSON object: expected `:`"),
        (&["--input", "lacks.jsonl"], "`lacks.jsonl:2`: no `text`\n\nhint: did you mean `txt`?"),
        (&["--input", "bad.tsv", "--pair", "pair"], "`bad.tsv:3`: 1 column, 2 expected"),
        (&["--input", "null.jsonl"], "`null.jsonl:2`: `text` is neither text nor a number"),
        (&["--input", "latin.txt"], "`latin.txt:2`: not valid UTF-8"),
        (
            &["--input", "wide.csv"],
            "`wide.csv:1`: UTF-16, not UTF-8\n\nhint: convert the file, for example with `iconv -f UTF-16 -t UTF-8`",
        ),
        (&["--input", "cut.txt.gz"], "reading `cut.txt.gz`"),
        (&["--input", "bad.tsv", "--no-header"], "`bad.tsv` has no header to find the column `text` in"),
        (
            &["--input", "bad.txt", "--task", "sentiment,acceptability"],
            "the model has no task `sentiment,acceptability`\n\nhint: name each by itself: \
             `--task sentiment --task acceptability`",
        ),
        (&["--input", "bad.tsv", "--text", "texd"], "`bad.tsv` has no column `texd`\n\nhint: did you mean `text`?"),
        (&["--input", "none.csv"], "`none.csv` is no file"),
        (&["--input", "pipeline.yaml"], "the ending of `pipeline.yaml` tells no format"),
        (
            &["--input", "bad.txt", "--task", "sentimnt"],
            "the model has no task `sentimnt`\n\nhint: did you mean `sentiment`?",
        ),
        (&["--input", "bad.txt", "--task", "entailment"], "a line of plain text holds no second text"),
        (
            &["--input", "bad.tsv", "--task", "sentiment", "--pair", "pair"],
            "`sentiment` is a task of single texts, and the rows",
        ),
        (&["--input", "bad.txt", "student"], "`student` is no exported model: it has no `model.onnx`"),
        (&["--input-format", "parquet"], "Parquet can't be read from stdin"),
    ] {
        let said = predict(&[&["--output", "never/answers.jsonl"], args].concat());
        assert_eq!(said.code, 2, "{args:?}: {}", said.stderr);
        assert!(
            said.stderr.starts_with(&format!("error: {error}")) && said.stderr.contains("\nhint: "),
            "{args:?}: {}",
            said.stderr
        );
        assert_eq!(sandbox.names_in("never"), <[&str; 0]>::default(), "{args:?}");
    }
    let said = predict(&["--input", "bad.txt", "--output", "answers.xml"]);
    assert!(said.stderr.starts_with("error: the ending of `answers.xml` tells no format"), "{}", said.stderr);
    let said = predict(&["--input", "bad.txt", "--output", "no/folder/answers.jsonl"]);
    assert!(said.stderr.starts_with("error: `no/folder/answers.jsonl` can't be written"), "{}", said.stderr);
}

#[test]
fn a_link_stays_one_and_leads_to_the_answers() {
    let sandbox = exported();
    sandbox.write("linked.txt", "a fine day\n");
    sandbox.write("linked/before.jsonl", "before\n");
    for (link, to) in [("to-file.jsonl", "linked/before.jsonl"), ("to-nothing.jsonl", "linked/new.jsonl")] {
        symlink(to, sandbox.path(link)).unwrap();
        let said = predict(&["--input", "linked.txt", "--output", link]);
        assert_eq!(said.code, 0, "{}", said.stderr);
        assert!(sandbox.path(link).is_symlink(), "{link}");
        assert_eq!(sandbox.read(to).lines().count(), 1, "{to}");
    }
    assert_eq!(sandbox.names_in("linked"), ["before.jsonl", "new.jsonl"]);
}

#[test]
fn whose_run_answers_is_told_where_no_model_is_named() {
    let sandbox = exported();
    sandbox.write("whose.txt", "a fine day\n");
    let said = sandbox.bam(&["predict", "--input", "whose.txt"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert!(said.stderr.contains(" of `pipeline.yaml`\n"), "{}", said.stderr);
    let named = sandbox.bam(&["predict", "onnx", "--input", "whose.txt"]);
    assert!(named.stderr.contains("ANSWERED") && !named.stderr.contains("pipeline.yaml"), "{}", named.stderr);
}

#[test]
fn answers_do_not_take_the_place_of_the_texts() {
    let sandbox = exported();
    sandbox.write("rows.jsonl", "{\"text\": \"a fine day\"}\n");
    symlink("rows.jsonl", sandbox.path("rows-too.jsonl")).unwrap();
    for output in ["rows.jsonl", "rows-too.jsonl"] {
        let said = predict(&["--input", "rows.jsonl", "--output", output]);
        assert_eq!(said.code, 2, "{}", said.stderr);
        assert!(said.stderr.starts_with(&format!("error: `{output}` is the input\n")), "{}", said.stderr);
        assert_eq!(sandbox.read("rows.jsonl"), "{\"text\": \"a fine day\"}\n");
        let mut redirected = sandbox.command(&["predict", "--input-format", "jsonl", "--output", output]);
        let redirected = redirected.stdin(File::open(sandbox.path("rows.jsonl")).unwrap()).output().unwrap();
        assert_eq!(redirected.status.code(), Some(2), "{}", String::from_utf8_lossy(&redirected.stderr));
        assert_eq!(sandbox.read("rows.jsonl"), "{\"text\": \"a fine day\"}\n");
    }
}

#[test]
fn a_descriptor_is_written_on_where_it_stands() {
    let sandbox = exported();
    sandbox.write("stream.txt", "a fine day\n");
    for name in ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"] {
        let mut file = File::create(sandbox.path("stream.out")).unwrap();
        writeln!(file, "before").unwrap();
        let mut command = sandbox.command(&["predict", "--input", "stream.txt", "--output", name]);
        let status = command.stdout(file.try_clone().unwrap()).stderr(Stdio::null()).status().unwrap();
        assert!(status.success(), "{name}");
        writeln!(file, "after").unwrap();
        let written = sandbox.read("stream.out");
        let lines: Vec<&str> = written.lines().collect();
        let [before, answer, after] = lines[..] else { panic!("{name}: {written}") };
        assert_eq!((before, after), ("before", "after"), "{name}");
        assert_eq!(serde_json::from_str::<Value>(answer).unwrap()["row"], 1, "{name}");
    }
    let said = predict(&["--input", "stream.txt", "--output", "/dev/fd/77"]);
    assert!(said.code == 2 && said.stderr.starts_with("error: `/dev/fd/77` can't be written"), "{}", said.stderr);
}

#[test]
fn nothing_in_is_nothing_out() {
    assert_eq!(predict_from("", &[]), Vec::<Value>::new());
    let said = predict(&["--output", "empty.parquet", "--input", "/dev/null", "--input-format", "text"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    let file = File::open(exported().path("empty.parquet")).unwrap();
    assert_eq!(ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap().count(), 0);
}

#[test]
fn an_answer_that_is_not_a_number_is_told_and_not_written() {
    let sandbox = Sandbox::new();
    write_with_a_broken_word(&sandbox, "day");
    sandbox.write("rows.txt", &("it rains\n".repeat(5000) + "a fine day\nit rains\n"));
    for output in ["answers.jsonl", "answers.parquet"] {
        let said = sandbox.bam(&["predict", "model", "--input", "rows.txt", "--output", output]);
        assert_eq!(said.code, 2, "{}", said.stderr);
        let told = "error: the model's answer to row 5001 is not a number\n\nhint: ";
        assert!(said.stderr.contains(told), "{}", said.stderr);
        assert!(!sandbox.path(output).exists());
    }
}

/// Starts `bam predict` with rows to come on stdin.
fn start(args: &[&str]) -> Child {
    let mut command = exported().command(&[&["predict"], args].concat());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn who_has_read_enough_ends_it_well() {
    for format in ["jsonl", "arrow"] {
        let mut child = start(&["--output-format", format]);
        let mut stdin = child.stdin.take().unwrap();
        // More answers than a pipe holds.
        let writer = std::thread::spawn(move || stdin.write_all("a fine day\n".repeat(20_000).as_bytes()));
        let mut stdout = child.stdout.take().unwrap();
        stdout.read_exact(&mut [0; 4]).unwrap();
        drop(stdout);
        let output = child.wait_with_output().unwrap();
        drop(writer.join().unwrap());
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), said.as_ref()), (Some(0), ""), "{format}");
    }
}

#[test]
fn a_signal_leaves_no_file_behind() {
    let folder = exported().path("interrupted");
    fs::create_dir(&folder).unwrap();
    let files = || fs::read_dir(&folder).unwrap().count();
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        let mut child = start(&["--output", "interrupted/answers.jsonl"]);
        // It stays open: it isn't the end of the rows that ends it.
        let _stdin = child.stdin.take();
        while files() == 0 {
            assert!(child.try_wait().unwrap().is_none(), "it waits for rows");
            std::thread::sleep(Duration::from_millis(5));
        }
        let names = exported().names_in("interrupted");
        assert!(names.iter().all(|name| name.starts_with(".answers.jsonl.bam-")), "{names:?}");
        // SAFETY: a signal to a child that is not yet waited for.
        unsafe { libc::kill(child.id().cast_signed(), signal) };
        assert_eq!((child.wait().unwrap().code(), files()), (Some(130), 0), "signal {signal}");
    }
}

/// The most memory that `bam predict` held for so many rows of a kilobyte, in bytes.
#[expect(clippy::zombie_processes, reason = "`wait4` waits for it, and tells of its memory")]
fn most_memory(rows: usize, output: &str) -> usize {
    let mut child = start(&["--task", "sentiment", "--logits", "--output", output]);
    let mut stdin = child.stdin.take().unwrap();
    // A word that is too long to be cut, so that time goes into rows, not tokens; and numbers, so that no two rows are alike.
    let word = "w".repeat(1000);
    for row in 0..rows {
        writeln!(stdin, "{word} {:010}", row * 7919).unwrap();
    }
    drop(stdin);
    let mut status = 0;
    // SAFETY: zeros are a valid `rusage`, which is plain numbers.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the child is not yet waited for, and both pointers lead to locals.
    let ended = unsafe { libc::wait4(child.id().cast_signed(), &raw mut status, 0, &raw mut usage) };
    assert_eq!((ended, status), (child.id().cast_signed(), 0));
    usage.ru_maxrss as usize * 1024
}

#[test]
fn a_file_of_any_length_takes_the_same_memory() {
    for output in ["memory.jsonl", "memory.parquet"] {
        let (few, many) = (most_memory(20_000, output), most_memory(100_000, output));
        // A fifth of the bytes that came on top.
        assert!(many < few + 15_000_000, "{output}: {few} bytes, then {many}");
    }
    let file = File::open(exported().path("memory.parquet")).unwrap();
    let groups = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    let rows: Vec<i64> = groups.metadata().row_groups().iter().map(RowGroupMetaData::num_rows).collect();
    assert_eq!(rows, [65_536, 34_464]);
}
