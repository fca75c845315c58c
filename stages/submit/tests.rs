use std::fs;
use std::io::Read as _;
use std::path::Path;

use super::*;
use bam_contract::digest::{Digest, Fingerprint};
use bam_contract::fault::hint_of;
use bam_contract::stage::StageSpec;
use bam_contract::task::Split;

/// Predictions of a task's whole test splits: class `row % classes`, or a value that leaves the range on both sides.
fn predict(folder: &Path, task: &str) {
    fs::create_dir(folder.join(task)).unwrap();
    for sheet in SHEETS.iter().filter(|sheet| sheet.task == task) {
        write(&folder.join(task), task, sheet.split, sheet.rows);
    }
}

fn write(folder: &Path, task: &str, split: Split, rows: usize) {
    write_as(folder, &tasks::builtin(task).unwrap(), split, rows);
}

fn write_as(folder: &Path, task: &TaskSpec, split: Split, rows: usize) {
    let outputs = task.outputs();
    let logits = (0..rows * outputs).map(|at| match outputs {
        1 => [-0.1, 0.41237, 1.2][at % 3],
        _ => f32::from(u8::from(at % outputs == at / outputs % outputs)),
    });
    let rows = PredictionRows {
        ids: (0..rows as i64).collect(),
        swapped: vec![false; rows],
        labels: vec![None; rows],
        logits: logits.collect(),
    };
    Predictions::write(folder, split, task, rows, Fingerprint::of("a test")).unwrap();
}

fn job(folder: &Path, given: &[&str], output: &str) -> Job {
    let output = folder.join(output);
    fs::create_dir(&output).unwrap();
    let inputs = given.iter().enumerate().map(|(at, task)| JobInput {
        slot: format!("predictions.{at}"),
        stage: format!("test@{task}"),
        path: folder.join(task),
        digest: Digest::of(b""),
    });
    Job {
        stage: "submission".to_owned(),
        pipeline: std::path::PathBuf::new(),
        fingerprint: Fingerprint::of("submission"),
        spec: StageSpec::Submit(params(&[])),
        inputs: inputs.collect(),
        output,
        resume: folder.join("resume"),
        threads: 1,
        device: "cpu".to_owned(),
    }
}

fn params(filler: &[&str]) -> SubmitParams {
    SubmitParams { predictions: Vec::new(), filler: filler.iter().map(ToString::to_string).collect() }
}

fn submit(job: &Job, filler: &[&str]) -> Result<Outcome> {
    run(&params(filler), job, &Reporter::default())
}

/// Names and texts of the archive's files.
fn files(job: &Job) -> Vec<(String, String)> {
    let mut archive = zip::ZipArchive::new(File::open(job.output.join(ARCHIVE)).unwrap()).unwrap();
    let mut of = |at: usize| {
        let mut file = archive.by_index(at).unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        (file.name().unwrap().into_owned(), text)
    };
    (0..SHEETS.len()).map(&mut of).collect()
}

const TRAINED: [&str; 9] = ["cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "ax"];

#[test]
fn the_archive_is_what_the_leaderboard_takes() {
    let folder = tempfile::tempdir().unwrap();
    for task in TRAINED {
        predict(folder.path(), task);
    }
    let job = job(folder.path(), &TRAINED, "out");
    assert_eq!(submit(&job, &[]).unwrap().summary, "11 files, constant answers in WNLI.tsv");
    let files = files(&job);
    let shape: Vec<(&str, usize)> = files.iter().map(|(name, text)| (name.as_str(), text.lines().count())).collect();
    // The official counts, and a header each.
    assert_eq!(
        shape,
        [
            ("CoLA.tsv", 1064),
            ("SST-2.tsv", 1822),
            ("MRPC.tsv", 1726),
            ("STS-B.tsv", 1380),
            ("QQP.tsv", 390_966),
            ("MNLI-m.tsv", 9797),
            ("MNLI-mm.tsv", 9848),
            ("QNLI.tsv", 5464),
            ("RTE.tsv", 3001),
            ("WNLI.tsv", 147),
            ("AX.tsv", 1105),
        ]
    );
    let start = |name: &str| {
        let (_, text) = files.iter().find(|(file, _)| file == name).unwrap();
        text.lines().take(4).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(start("CoLA.tsv"), "index\tprediction\n0\t0\n1\t1\n2\t0");
    assert_eq!(start("STS-B.tsv"), "index\tprediction\n0\t0.000\n1\t2.062\n2\t5.000");
    assert_eq!(start("MNLI-mm.tsv"), "index\tprediction\n0\tentailment\n1\tneutral\n2\tcontradiction");
    assert_eq!(start("AX.tsv"), start("MNLI-m.tsv"));
    assert_eq!(start("RTE.tsv"), "index\tprediction\n0\tentailment\n1\tnot_entailment\n2\tentailment");
    assert_eq!(start("WNLI.tsv"), "index\tprediction\n0\t0\n1\t0\n2\t0");

    let again = self::job(folder.path(), &TRAINED, "again");
    submit(&again, &[]).unwrap();
    assert_eq!(fs::read(job.output.join(ARCHIVE)).unwrap(), fs::read(again.output.join(ARCHIVE)).unwrap());
}

#[test]
fn what_is_missing_or_short_is_one_error_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("rte")).unwrap();
    write(&folder.path().join("rte"), "rte", Split::Test, 10);
    fs::create_dir(folder.path().join("mnli")).unwrap();
    write(&folder.path().join("mnli"), "mnli", Split::Test, 9796);
    let job = job(folder.path(), &["rte", "mnli"], "out");
    let error = submit(&job, &["qqp", "cola", "sst2", "mrpc", "stsb", "qnli"]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "no submission without its files: MNLI-mm.tsv: `test@mnli` has no split `test_mismatched`; is the test file in the \
         data folder?; RTE.tsv: `test@rte`: 10 rows of `test`, and the official test set has 3000; AX.tsv: no predictions of `ax`"
    );
    assert!(hint_of(&error).unwrap().contains("filler: [TASK]"));
    assert_eq!(fs::read_dir(&job.output).unwrap().count(), 0);
}

#[test]
fn untrained_tasks_are_filled_where_that_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    predict(folder.path(), "cola");
    let job = job(folder.path(), &["cola"], "out");
    let filler = ["sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "ax"];
    submit(&job, &filler).unwrap();
    let told = Submission::read(&job.output).unwrap();
    assert_eq!(told.answers[0].from, Source::Predictions("predictions.0".to_owned()));
    assert_eq!(told.answers[3].from, Source::Constant("0.000".to_owned()));
    assert_eq!(told.answers[5].from, Source::Constant("entailment".to_owned()));
    assert!(files(&job)[4].1.starts_with("index\tprediction\n0\t0\n"));
}

/// The hub numbers its labels, and may number them otherwise than we do.
#[test]
fn answers_of_a_task_from_the_hub_are_spelled_as_the_leaderboard_does() {
    let folder = tempfile::tempdir().unwrap();
    for task in ["cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "ax"] {
        predict(folder.path(), task);
    }
    let turned = TaskSpec {
        labels: vec!["not_entailment".to_owned(), "entailment".to_owned()],
        spelled: vec!["0".to_owned(), "1".to_owned()],
        ..tasks::on_hub("rte").unwrap()
    };
    let sheet = SHEETS.iter().find(|sheet| sheet.task == "rte").unwrap();
    fs::create_dir(folder.path().join("rte")).unwrap();
    write_as(&folder.path().join("rte"), &turned, sheet.split, sheet.rows);
    let given = ["cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "ax", "rte"];
    let job = job(folder.path(), &given, "of-the-hub");
    submit(&job, &[]).unwrap();
    let mut archive = zip::ZipArchive::new(File::open(job.output.join(ARCHIVE)).unwrap()).unwrap();
    let mut text = String::new();
    archive.by_name("RTE.tsv").unwrap().read_to_string(&mut text).unwrap();
    assert!(
        text.starts_with("index\tprediction\n0\tnot_entailment\n1\tentailment\n2\tnot_entailment\n"),
        "{}",
        &text[..90]
    );
}
