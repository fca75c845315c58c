//! Random files: none makes the program panic, each mistake has its place, and what means the same is read the same.

use std::collections::BTreeMap;
use std::fs;

use bam_contract::stage::StageSpec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::*;

/// Parts that YAML, or a pipeline file, gives a meaning to.
const PARTS: [&str; 58] = [
    ":",
    ": ",
    " ",
    "  ",
    "\n",
    "\n  ",
    "\r",
    "\r\n",
    "\t",
    "- ",
    "? ",
    "{",
    "}",
    "[",
    "]",
    ",",
    "&a ",
    "*a",
    "<<: ",
    "'",
    "\"",
    "|",
    ">",
    "#",
    " # ",
    "---\n",
    "...",
    "%YAML 1.2\n",
    "!!int ",
    "!x ",
    "é",
    "日本",
    "\u{2028}",
    "\u{85}",
    "\u{feff}",
    "\0",
    "name",
    "seed",
    "vars",
    "for",
    "tasks",
    "resources",
    "stages",
    "include",
    "data",
    "train",
    "grammar",
    "x@task",
    "$x",
    "${env:HOME",
    "@*",
    "0x1F",
    "1e5",
    ".nan",
    "null",
    "-1",
    "99999999999999999999",
    "\\",
];

const WHOLE: &str = "\
name: small
seed: 17
vars: { encoder: enc, n: 128 }
for:  { task: [sentiment, entailment] }
tasks:
  mood: { files: { train: a.tsv, dev: b.tsv }, columns: { text: 1, label: é }, labels: [good, bad], metrics: [f1] }
resources: { train: { threads: 1, memory: 2GiB } }
stages:
  examples@task: { data: { task: $task, grammar: { train: 20, dev: 10 } } }
  tokens@task: { tokenize: { examples: examples@$task, encoder: $encoder, max_tokens: $n } }
  student: { train: { tokens: [tokens@*], encoder: $encoder, epochs: 6, anneal: { fixed: 0.5 } } }
  onnx:
    export: { model: student }
  scores: { score: { models: [onnx], tokens: [tokens@*] } }
";

fn yaml_like() -> impl Strategy<Value = String> {
    proptest::collection::vec(select(&PARTS[..]), 0..40).prop_map(|parts| parts.concat())
}

/// A whole pipeline with a few stretches replaced.
fn mutilated() -> impl Strategy<Value = String> {
    let change = (any::<Index>(), 0..12_usize, yaml_like());
    proptest::collection::vec(change, 1..4).prop_map(|changes| {
        let mut text: Vec<char> = WHOLE.chars().collect();
        for (start, length, instead) in changes {
            let start = start.index(text.len());
            let end = (start + length).min(text.len());
            text.splice(start..end, instead.chars());
            text.push('\n');
        }
        text.into_iter().collect()
    })
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn load(&self, bytes: &[u8]) -> Result<Pipeline> {
        let path = self.0.path().join("pipeline.yaml");
        fs::write(&path, bytes).unwrap();
        Pipeline::load(&path, &[])
    }
}

/// A file gives a pipeline, or mistakes of which at least one has a place, and all places lie in the file.
fn check(bytes: &[u8]) -> Result<(), TestCaseError> {
    let loaded = Folder::new().load(bytes);
    let Err(error) = loaded else { return Ok(()) };
    let mistakes = error.downcast_ref::<Mistakes>().expect("what is wrong with a file is a mistake");
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<&str> = text.split('\n').collect();
    let mut placed = 0;
    for mistake in &mistakes.list {
        if let Some(Place::File { line, column, .. }) = &mistake.place {
            placed += 1;
            let width = lines.get(line - 1).map(|line| line.chars().count());
            prop_assert!(width.is_some_and(|width| *column <= width + 1), "{mistake:?} in {text:?}");
            mistakes.source.line(0, *line);
        }
    }
    prop_assert!(placed > 0, "{:?} in {text:?}", mistakes.list);
    Ok(())
}

#[test]
fn the_pipeline_that_is_mutilated_is_sound_but_for_its_encoder() {
    let loaded = Folder::new().load(WHOLE.as_bytes());
    let error = loaded.unwrap_err();
    let mistakes = &error.downcast_ref::<Mistakes>().unwrap().list;
    assert!(mistakes.iter().all(|mistake| mistake.message == "encoder folder `enc` does not exist"), "{mistakes:?}");
}

/// Changes to the whole pipeline that are mistakes, each by itself, and what is told of them.
const MISTAKES: [(&str, &str, &[&str]); 14] = [
    ("name: small", "name: small\nsed: 3", &["unknown entry `sed`"]),
    ("seed: 17", "seed: 99999999999999999999", &["`seed` is the number `99999999999999999999`, which does not fit"]),
    ("n: 128", "n: 128, n: 64", &["`vars.n` is given twice; first at"]),
    ("[sentiment, entailment] }", "[sentiment], task: [entailment] }", &["`for.task` is given twice; first at"]),
    ("[f1]", "[f2]", &["`metrics` in task `mood` cannot be `f2`"]),
    ("tasks:", "tasks: { mood: {} }\ntasks:", &["`tasks` is given twice", "`tasks.mood` is given twice"]),
    ("threads: 1", "threads: 0", &["a stage needs at least 1 thread"]),
    ("dev: 10 }", "dev: 10, trian: 5 }", &["unknown parameter `trian` in stage `examples@task`"]),
    (
        "max_tokens: $n",
        "max_tokens: [$n]",
        &["`max_tokens` in stage `tokens@task` is a list, not a whole number from 0"],
    ),
    ("epochs: 6", "epochs: 6, epochs: 7", &["`stages.student.train.epochs` is given twice; first at"]),
    (
        "fixed: 0.5",
        "<<: 3, fixed: 2.0",
        &[
            "`stages.student.train.anneal.<<` is not a mapping",
            "`anneal` of stage `student`: a fixed share of the gold label lies in 0 to 1",
        ],
    ),
    (
        " } } }\n  onnx:",
        " }, teachers: [p] } }\n  p: { predict: { model: student, tokens: tokens@sentiment } }\n  onnx:",
        &["stages wait for each other: student → p → student"],
    ),
    ("export: {", "export: { precison: fp16,", &["unknown parameter `precison` in stage `onnx`"]),
    ("  scores: {", "  scores: { score: {} }\n  scores: {", &["`stages.scores` is given twice; first at"]),
];

/// What refers to things that are not there; nothing is told of it where a file is lost that may hold them.
const DANGLING: [(&str, &str, &str); 4] = [
    ("task: $task", "task: $taks", "unknown variable `$taks` in stage `examples@task`"),
    (
        "examples: examples@$task",
        "examples: rows@$task",
        "no stage `rows@sentiment`, which stage `tokens@sentiment` reads",
    ),
    ("[onnx]", "[onyx]", "no stage `onyx`, which stage `scores` reads"),
    ("[tokens@*], encoder", "[token@*], encoder", "`token@*` in stage `student` gathers no stage"),
];

#[test]
fn what_is_nested_without_end_is_a_mistake() {
    for text in ["[".repeat(100_000), "{a: ".repeat(10_000), "- ".repeat(100_000)] {
        check(text.as_bytes()).unwrap();
    }
}

proptest! {
    #[test]
    fn any_bytes_are_a_pipeline_or_have_a_mistake_in_its_place(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        check(&bytes)?;
    }

    #[test]
    fn so_is_anything_like_yaml(text in yaml_like()) {
        check(text.as_bytes())?;
    }

    #[test]
    fn so_is_a_pipeline_with_errors(text in mutilated()) {
        check(text.as_bytes())?;
    }

    #[test]
    fn all_mistakes_are_told_in_one_pass_and_nothing_else(
        made in proptest::collection::vec(any::<bool>(), MISTAKES.len()),
        dangling in proptest::option::of(select(&DANGLING[..])),
        is_lost in any::<bool>(),
    ) {
        let mut text = WHOLE.to_owned();
        let mut expected = vec!["encoder folder `enc` does not exist"];
        for (_, (sound, wrong, told)) in made.iter().zip(MISTAKES).filter(|(made, _)| **made) {
            prop_assert!(text.contains(sound), "{sound:?} in {text}");
            text = text.replacen(sound, wrong, 1);
            expected.extend(told);
        }
        if let Some((sound, wrong, told)) = dangling.filter(|(sound, ..)| text.contains(sound)) {
            text = text.replacen(sound, wrong, 1);
            expected.extend((!is_lost).then_some(told));
        }
        if is_lost {
            text += "include: [none.yaml, broken.yaml]\n";
            expected.extend(["included file", "not YAML: "]);
        }
        let folder = Folder::new();
        fs::write(folder.0.path().join("broken.yaml"), "stages: [").unwrap();
        let error = folder.load(text.as_bytes()).unwrap_err();
        let told: Vec<&str> =
            error.downcast_ref::<Mistakes>().unwrap().list.iter().map(|mistake| mistake.message.as_str()).collect();
        prop_assert_eq!(told.len(), expected.len(), "{:#?} instead of {:#?} in {}", told, expected, text);
        for expected in expected {
            prop_assert!(told.iter().any(|told| told.starts_with(expected)), "no {expected} in {told:#?} of {text}");
        }
    }

    #[test]
    fn an_included_file_of_any_text_hides_nothing_of_the_pipelines_own(text in prop_oneof![yaml_like(), mutilated()]) {
        let folder = Folder::new();
        fs::write(folder.0.path().join("part.yaml"), text).unwrap();
        let error = folder.load(format!("{WHOLE}sed: 3\ninclude: part.yaml\n").as_bytes()).unwrap_err();
        let mistakes = &error.downcast_ref::<Mistakes>().expect("what is wrong with a file is a mistake").list;
        prop_assert!(mistakes.iter().any(|mistake| mistake.message == "unknown entry `sed`"), "{mistakes:?}");
    }

    #[test]
    fn a_stage_stands_for_the_product_of_its_axes(
        sizes in proptest::collection::vec(1..4_usize, 1..4),
        uses in proptest::collection::vec(proptest::collection::vec(any::<bool>(), 3), 1..5),
        backwards in any::<bool>(),
    ) {
        let axes: Vec<usize> = (0..sizes.len()).collect();
        let values = |axis: &usize| (0..sizes[*axis]).map(|value| format!("v{axis}-{value}")).collect::<Vec<_>>().join(", ");
        let mut text = "for:\n".to_owned();
        text.extend(axes.iter().map(|axis| format!("  axis{axis}: [{}]\n", values(axis))));
        text += "stages:\n";
        let mut expected = Vec::new();
        for (at, uses) in uses.iter().enumerate() {
            let mut used: Vec<usize> = axes.iter().copied().filter(|axis| uses[*axis]).collect();
            if backwards {
                used.reverse();
            }
            let name: String = used.iter().map(|axis| format!("@axis{axis}")).collect();
            text += &format!("  s{at}{name}: {{ data: {{ task: sentiment, grammar: {{ train: 5, dev: 5 }} }} }}\n");
            expected.push(used.iter().map(|axis| sizes[*axis]).product::<usize>());
        }
        let pipeline = Folder::new().load(text.as_bytes()).unwrap();
        for (at, count) in expected.iter().enumerate() {
            let found = pipeline.find(&format!("s{at}")).unwrap();
            prop_assert_eq!(found.len(), *count);
            prop_assert!(found.iter().all(|stage| pipeline.stages[*stage].siblings == *count));
        }
        let names: BTreeSet<&str> = pipeline.stages.iter().map(|stage| stage.name.as_str()).collect();
        prop_assert_eq!(names.len(), expected.iter().sum::<usize>());
    }

    #[test]
    fn order_and_comments_change_nothing(first in shuffled(), second in shuffled()) {
        let folder = Folder::new();
        let encoder = folder.0.path().join("enc");
        fs::create_dir(&encoder).unwrap();
        for name in ["config.json", "model.safetensors", "tokenizer.json"] {
            fs::write(encoder.join(name), "{}").unwrap();
        }
        let load = |text: &str| {
            let text = text.replace("ENCODER", &encoder.display().to_string());
            meaning(&folder.load(text.as_bytes()).unwrap_or_else(|error| panic!("{error:?} in {text}")))
        };
        prop_assert_eq!(load(&first), load(&second));
    }
}

/// The lines of a mapping in any order, with comments among them.
fn lines(lines: Vec<String>) -> impl Strategy<Value = String> {
    let comment = select(vec!["", "", "\n", "# a comment: { not, read }\n", "    # - another\n"]);
    let count = lines.len();
    (Just(lines).prop_shuffle(), proptest::collection::vec(comment, count)).prop_map(|(lines, comments)| {
        lines.iter().zip(comments).map(|(line, comment)| format!("{comment}{line}\n")).collect()
    })
}

/// One pipeline, written in any order.
fn shuffled() -> impl Strategy<Value = String> {
    let owned = |entries: &[&str]| entries.iter().map(ToString::to_string).collect::<Vec<_>>();
    let vars = lines(owned(&["  encoder: ENCODER", "  n: $m", "  m: 64", "  rows: { dev: 10, train: $n }"]));
    let train = lines(owned(&[
        "      tokens: [tokens@*]",
        "      encoder: $encoder",
        "      epochs: 5e-1",
        "      anneal: { fixed: 0.5 }",
        "      batch: 16",
    ]));
    let axes = lines(owned(&["  task: [sentiment, entailment]", "  seed: [1, 2]"]));
    (vars, train, axes)
        .prop_flat_map(move |(vars, train, axes)| {
            let student = format!("  student@seed:\n    train:\n      seed: $seed\n{}", train.trim_end_matches('\n'));
            let stages = lines(vec![
                "  examples@task: { data: { grammar: $rows, task: $task } }".to_owned(),
                "  tokens@task: { tokenize: { encoder: $encoder, examples: examples@$task, max_tokens: $n } }"
                    .to_owned(),
                student,
                "  onnx: { export: { model: student@1 } }".to_owned(),
            ]);
            (Just(vars), Just(axes), stages)
        })
        .prop_flat_map(|(vars, axes, stages)| {
            let sections = [format!("vars:\n{vars}"), format!("for:\n{axes}"), format!("stages:\n{stages}")];
            let plain = ["name: shuffled", "seed: 3", "resources: { train: { threads: 1 } }"].map(ToOwned::to_owned);
            lines(sections.into_iter().chain(plain).collect())
        })
}

type Meaning = (StageSpec, Resources, Vec<(String, String)>);

/// What a pipeline computes: each stage's parameters, and what it reads in which place.
fn meaning(pipeline: &Pipeline) -> BTreeMap<String, Meaning> {
    let of = |stage: &Stage| {
        let read = |edge: &Edge| (edge.slot.clone(), pipeline.stages[edge.stage].name.clone());
        (stage.spec.clone(), stage.resources, stage.inputs.iter().map(read).collect())
    };
    pipeline.stages.iter().map(|stage| (stage.name.clone(), of(stage))).collect()
}
