//! The pipelines that come with `bam`: all are sound, and they run from end to end at a tiny size.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::{Said, Sandbox};
use serde_json::{Value, json};

/// Rows of each task's train and dev files. A fifth of the train rows and more is in each of five folds.
const ROWS: [usize; 2] = [40, 8];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A row's line in its task's file, from its number and its two texts.
type Line = fn(usize, &[String; 2]) -> String;

/// A folder `glue` of all tasks, as GLUE's download lays them out, with texts made of numbers and few words.
fn write_glue(sandbox: &Sandbox) {
    let texts = |row: usize| {
        let (subject, verb) = (["dog", "bird", "child"][row % 3], ["sees", "follows"][row % 2]);
        [format!("the {subject} {verb} the house number {row}"), format!("house {row} is old")]
    };
    let tasks: [(&str, &str, Line); 8] = [
        ("CoLA", "", |row, [a, _]| format!("x\t{}\t\t{a}", row % 2)),
        ("SST-2", "sentence\tlabel", |row, [a, _]| format!("{a}\t{}", row % 2)),
        ("MRPC", "Quality\t#1 String\t#2 String", |row, [a, b]| format!("{}\t{a}\t{b}", row % 2)),
        ("STS-B", "sentence1\tsentence2\tscore", |row, [a, b]| format!("{a}\t{b}\t{}.5", row % 5)),
        ("QQP", "question1\tquestion2\tis_duplicate", |row, [a, b]| format!("{a}\t{b}\t{}", row % 2)),
        ("MNLI", "sentence1\tsentence2\tgold_label", |row, [a, b]| {
            format!("{a}\t{b}\t{}", ["entailment", "neutral", "contradiction"][row % 3])
        }),
        ("QNLI", "question\tsentence\tlabel", |row, [a, b]| format!("{a}\t{b}\t{}", ENTAILED[row % 2])),
        ("RTE", "sentence1\tsentence2\tlabel", |row, [a, b]| format!("{a}\t{b}\t{}", ENTAILED[row % 2])),
    ];
    for (folder, header, line) in tasks {
        let names: &[&str] =
            if folder == "MNLI" { &["train", "dev_matched", "dev_mismatched"] } else { &["train", "dev"] };
        for name in names {
            let rows = ROWS[usize::from(*name != "train")];
            let lines = (0..rows).map(|row| line(row, &texts(row)));
            let text = Some(header.to_owned()).filter(|header| !header.is_empty()).into_iter().chain(lines);
            sandbox.write(&format!("glue/{folder}/{name}.tsv"), &(text.collect::<Vec<_>>().join("\n") + "\n"));
        }
    }
}

const ENTAILED: [&str; 2] = ["entailment", "not_entailment"];

/// All pipeline files of the tree on GLUE.
fn recipes() -> Vec<PathBuf> {
    let in_folder = |folder: &str| fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path());
    let mut recipes: Vec<_> = in_folder("pipelines").chain(in_folder("pipelines/paper")).collect();
    recipes.retain(|path| {
        path.extension().is_some_and(|ending| ending == "yaml")
            && fs::read_to_string(path).unwrap().contains("from: $glue")
    });
    recipes.sort();
    recipes
}

fn set_up(recipe: &Path) -> Sandbox {
    let sandbox = Sandbox::new();
    write_glue(&sandbox);
    sandbox.write("recipe.yaml", &fs::read_to_string(recipe).unwrap());
    sandbox
}

fn bam(sandbox: &Sandbox, command: &str, settings: &[&str]) -> Said {
    let encoder = format!("vars.encoder={}", root().join("tests/fixtures/tiny-bert").display());
    // The small encoder has 64 positions and three layers.
    let mut args = vec![command, "recipe.yaml", "--set", &encoder, "--set", "vars.max_tokens=48"];
    args.extend(settings.iter().flat_map(|setting| ["--set", *setting]));
    sandbox.bam(&args)
}

#[test]
fn every_recipe_is_planned_without_a_mistake() {
    let recipes = recipes();
    assert!(recipes.len() > 10, "{recipes:?}");
    for recipe in recipes {
        let sandbox = set_up(&recipe);
        let layers = if recipe.ends_with("small-student.yaml") { &["vars.layers=[0, 2]"][..] } else { &[] };
        let plan = bam(&sandbox, "plan", layers);
        assert_eq!((plan.code, plan.stderr.as_str()), (0, ""), "{}", recipe.display());
    }
}

/// Runs a recipe with the real worker.
fn ran(recipe: &str, settings: &[&str]) -> Sandbox {
    let sandbox = set_up(&root().join("pipelines").join(recipe));
    let said = bam(&sandbox, "run", settings);
    assert_eq!(said.code, 0, "{recipe}: {}", said.stderr);
    assert!(!said.stdout.is_empty(), "{recipe} scores its models");
    sandbox
}

/// Runs a recipe, and tells the summaries of some stages.
fn run(recipe: &str, settings: &[&str], stages: &[&str]) -> Vec<String> {
    let sandbox = ran(recipe, settings);
    stages.iter().map(|stage| sandbox.manifest(stage)["summary"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn variants_stand_side_by_side_and_each_answers() {
    let sandbox = set_up(&root().join("pipelines/variants.yaml"));
    // Of eight dev rows, one is worth more than any loss that is allowed elsewhere.
    let settings = [ONE_TASK, "vars.epochs=1", "vars.student_epochs=1", "vars.max_drop=100"];
    let said = bam(&sandbox, "run", &settings);
    assert_eq!(said.code, 0, "{}", said.stderr);
    for column in ["ONNX FP32", "ONNX FP16", "ONNX INT8", "ONNX MODEL", "SIZE", "ROWS/S", "LOSES MOST"] {
        assert!(said.stdout.contains(column), "{}", said.stdout);
    }
    sandbox.write("pairs.jsonl", "{\"text\": \"a dog\", \"pair\": \"the dog\"}\n");
    let mut sizes = Vec::new();
    for precision in ["fp32", "fp16", "int8"] {
        let stage = format!("onnx@{precision}");
        let summary = sandbox.manifest(&stage)["summary"].as_str().unwrap().to_owned();
        assert!(summary.starts_with(&format!("1 head, {precision}, ")), "{summary}");
        sizes.push(sandbox.path(&format!("artifacts/latest/{stage}/model.onnx")).metadata().unwrap().len());
        // Its probes are asked before that.
        let answered = sandbox.bam(&["predict", &stage, "--input", "pairs.jsonl", "--text", "text", "--pair", "pair"]);
        assert_eq!((answered.code, answered.stdout.lines().count()), (0, 1), "{}", answered.stderr);
    }
    assert!(sizes.is_sorted_by(|larger, smaller| larger > smaller), "{sizes:?}");
    // Other times were taken, and they are no content.
    let content = || sandbox.manifest("scores")["content"].as_str().unwrap().to_owned();
    let before = content();
    fs::remove_dir_all(sandbox.path("artifacts/store/score")).unwrap();
    let again = bam(&sandbox, "run", &settings);
    assert_eq!((again.code, again.stages("RAN")), (0, vec!["scores".to_owned()]), "{}", again.stderr);
    assert_eq!(content(), before);
}

const ONE_TASK: &str = "for.task=[mrpc]";

/// Each as small as can be; those that only put the same stages together otherwise are planned above.
#[test]
fn recipes_run() {
    run("glue.yaml", &["for.task=[cola, stsb]", "vars.epochs=1", "vars.student_epochs=1"], &[]);
    let settings = ["for.task=[cola, stsb]", "stages.teacher@task.train.epochs=1", "stages.student.train.epochs=1"];
    let glue_small = ran("glue-small.yaml", &settings);
    // Of the last run of this century.
    let report = glue_small.command(&["report", "20", "--format", "json", "-o", "-"]).output().unwrap();
    let report: Value = serde_json::from_slice(&report.stdout).unwrap();
    assert_eq!(report["missing"], json!([]), "all that a report can tell is there");
    let early = run("hinton.yaml", &[ONE_TASK, "vars.layers=2", "vars.student_epochs=30"], &["alone@mrpc"]);
    assert!(early[0].contains(", stopped after ") && early[0].ends_with(" of 75 steps"), "{early:?}");
    run("stilts.yaml", &[ONE_TASK, "vars.epochs=1"], &[]);
    run("small-student.yaml", &[ONE_TASK, "vars.layers=[0, 2]", "vars.student_epochs=2"], &[]);

    let ensemble = run("mtdnn-kd.yaml", &["for.task=[stsb]", "for.trial=[1, 2]"], &["predictions@stsb"]);
    assert_eq!(ensemble, ["80 rows of stsb, averaged over 2 tables"]);
    let ensemble =
        run("mtdnn-kd.yaml", &[ONE_TASK, "for.trial=[1, 2]", "vars.student_epochs=1"], &["predictions@mrpc"]);
    assert_eq!(ensemble, ["80 rows of mrpc, averaged over 2 tables"]);
    run("precision.yaml", &[ONE_TASK, "for.seed=[1, 2]", "vars.epochs=1"], &[]);
    let joined = run("out-of-fold.yaml", &[ONE_TASK, "vars.epochs=1"], &["predictions@mrpc"]);
    assert_eq!(joined, ["80 rows of mrpc, joined from 5 tables"]);
}

/// All layers thaw, the embeddings last, and where the epochs are too few for that it is told.
#[test]
fn ulmfits_layers_thaw() {
    let weights = |file: &Path, name: &str| {
        let bytes = fs::read(file).unwrap();
        let (head, data) = bytes[8..].split_at(u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize);
        let head: Value = serde_json::from_slice(head).unwrap();
        let place = &head[name]["data_offsets"];
        let [from, to] = [0, 1].map(|at| place[at].as_u64().unwrap_or_else(|| panic!("`{name}` in {head}")) as usize);
        data[from..to].to_vec()
    };
    // The small encoder has three layers: after four epochs its embeddings are still frozen, and thaw with the fifth.
    for (epochs, moves) in [(4, false), (5, true)] {
        let sandbox = set_up(&root().join("pipelines/ulmfit.yaml"));
        let said = bam(&sandbox, "run", &[ONE_TASK, &format!("vars.epochs={epochs}")]);
        assert_eq!(said.code, 0, "{}", said.stderr);
        let before =
            weights(&root().join("tests/fixtures/tiny-bert/model.safetensors"), "embeddings.word_embeddings.weight");
        let after = weights(
            &sandbox.path("artifacts/latest/model@mrpc/model.safetensors"),
            "bert.embeddings.word_embeddings.weight",
        );
        assert_eq!(before != after, moves, "after {epochs} epochs");
        let told =
            "`unfreeze: gradual` takes 5 epochs to train all of 3 layers; after 4, the embeddings stay as they were";
        assert_eq!(said.stderr.contains(told), !moves, "{}", said.stderr);
    }
}

/// Patience has none with epochs in which layers are frozen.
#[test]
fn frozen_epochs_try_no_patience() {
    let settings = |epochs: usize| {
        [ONE_TASK.to_owned(), "stages.model@task.train.patience=1".to_owned(), format!("vars.epochs={epochs}")]
    };
    let of = |epochs: usize| {
        let settings = settings(epochs);
        run("ulmfit.yaml", &settings.each_ref().map(String::as_str), &["model@mrpc"]).remove(0)
    };
    // Of 40 rows in both orders an epoch is 2.5 steps: the fifth, the first that counts, ends with the 13th step at the earliest.
    let early = of(30);
    let stopped = early.split(", stopped after ").nth(1).and_then(|rest| rest.split(' ').next()?.parse::<u32>().ok());
    assert!(stopped.is_some_and(|steps| (13..75).contains(&steps)), "{early}");
    assert!(!of(4).contains("stopped after"));
}

/// The zip for the leaderboard, by the real binaries from test files of the official length. Five tasks are filled in.
#[test]
fn the_leaderboards_zip_is_made() {
    let sandbox = Sandbox::new();
    write_glue(&sandbox);
    let recipe = fs::read_to_string(root().join("pipelines/glue.yaml")).unwrap();
    assert_eq!(recipe.matches("\n  #+ ").count(), 7);
    sandbox.write("recipe.yaml", &recipe.replace("\n  #+ ", "\n  "));
    let rows = |header: &str, rows: usize, line: &dyn Fn(usize) -> String| {
        format!("{header}\n") + &(0..rows).map(|row| line(row) + "\n").collect::<String>()
    };
    let pair = |row: usize| format!("house {row} is old\tthe dog sees house {}", row % 7);
    sandbox.write("glue/CoLA/test.tsv", &rows("index\tsentence", 1063, &|row| format!("{row}\thouse {row} is old")));
    sandbox.write("glue/STS-B/test.tsv", &rows("sentence1\tsentence2", 1379, &pair));
    sandbox.write("glue/MNLI/test_matched.tsv", &rows("sentence1\tsentence2", 9796, &pair));
    sandbox.write("glue/MNLI/test_mismatched.tsv", &rows("sentence1\tsentence2", 9847, &pair));
    sandbox.write("glue/diagnostic/diagnostic.tsv", &rows("sentence1\tsentence2", 1104, &pair));
    let settings = [
        "for.task=[cola, stsb, mnli]",
        "for.plain=[cola, stsb]",
        "vars.epochs=1",
        "vars.student_epochs=1",
        "stages.submission.submit.filler=[sst2, mrpc, qqp, qnli, rte]",
    ];
    let said = bam(&sandbox, "run", &settings);
    assert_eq!(said.code, 0, "{}", said.stderr);
    let summary = sandbox.manifest("submission")["summary"].as_str().unwrap().to_owned();
    assert!(summary.starts_with("11 files, constant answers in "), "{summary}");
    let made: Value = serde_json::from_str(&sandbox.read("artifacts/latest/submission/submission.json")).unwrap();
    let filled = |answers: &&Value| answers["from"]["predictions"].is_null();
    let answers = made["answers"].as_array().unwrap();
    let filled: Vec<&str> = answers.iter().filter(filled).map(|answers| answers["file"].as_str().unwrap()).collect();
    assert_eq!(filled, ["SST-2.tsv", "MRPC.tsv", "QQP.tsv", "QNLI.tsv", "RTE.tsv", "WNLI.tsv"]);
    let zip = fs::read(sandbox.path("artifacts/latest/submission/submission.zip")).unwrap();
    assert!(zip.starts_with(b"PK") && answers.len() == 11);
}

/// Each says of its methods that they were compared, the paper's with two seeds.
#[test]
fn recipes_that_compare_run() {
    let two = ["for.task=[mrpc, rte]", "for.seed=[1, 2]", "vars.epochs=1", "vars.multi_epochs=1"];
    let methods = ["single", "multi", "multi-multi", "single-multi", "single-single"];
    let ablations = ["whole", "fine-tuned", "half", "no-sampling", "one-rate", "teacher-alone"];
    let transfers = ["alone", "with-all", "with-mnli", "with-unlike"];
    let generations = ["first", "last", "second", "third", "together"];
    let all = ["for.seed=[1]", "vars.epochs=1", "vars.multi_epochs=0.2"];
    for (recipe, settings, expected) in [
        ("paper/methods.yaml", &two[..], &methods[..]),
        ("paper/ablations.yaml", &two, &ablations),
        ("paper/rte-transfer.yaml", &all, &transfers),
        ("born-again.yaml", &[ONE_TASK, "vars.epochs=1"], &generations),
    ] {
        let sandbox = set_up(&root().join("pipelines").join(recipe));
        let said = bam(&sandbox, "run", settings);
        assert_eq!(said.code, 0, "{recipe}: {}", said.stderr);
        let comparison: Value =
            serde_json::from_str(&sandbox.read("artifacts/latest/comparison/comparison.json")).unwrap();
        assert_eq!(comparison["methods"], json!(expected), "{recipe}");
        let trials =
            comparison["summaries"].as_array().unwrap().iter().map(|summary| summary["trials"].as_u64().unwrap());
        let wanted = if recipe.starts_with("paper/rte") || recipe.starts_with("born") { 1 } else { 2 };
        assert!(trials.clone().count() >= expected.len() && trials.clone().all(|trials| trials == wanted), "{recipe}");
    }
}

/// Tasks of the user's own: ratings by tab, some lines with CRLF, as the data set has them.
#[test]
fn the_sentiment_pipeline_runs() {
    let sandbox = set_up(&root().join("pipelines/sentiment.yaml"));
    let sets = ["movieReviewSnippets", "amazonReviewSnippets", "tweets", "nytEditorialSnippets"];
    for (at, set) in sets.into_iter().enumerate() {
        let line = |row: usize| {
            let rating = (row * 7 + at) % 9;
            let end = ["\n", "\r\n"][row % 2];
            format!("{row}_{at}\t{}\tnumber {row} was felt as {rating} of nine{end}", rating as f64 - 4.0)
        };
        sandbox.write(&format!("ratings/{set}_GroundTruth.txt"), &(0..120).map(line).collect::<String>());
    }
    let settings = ["vars.ratings=ratings", "stages.teacher@task.train.epochs=1", "stages.student.train.epochs=1"];
    let said = bam(&sandbox, "run", &settings);
    assert_eq!(said.code, 0, "{}", said.stderr);
    for task in ["films", "products", "tweets", "editorials"] {
        assert!(said.stdout.contains(&format!("\n{task}")), "{}", said.stdout);
    }
}
