//! Stages of the user's own, from outside: cached and explained like any other, and held to what they promise.

use std::fs;
use std::io::Read as _;
use std::process::Stdio;

use crate::support::{Sandbox, redact, terminal, until, worker_of};
use bam_contract::artifact::examples::{Example, ExamplesWriter};
use bam_contract::digest::Fingerprint;
use bam_contract::task::Split;
use bam_contract::tasks;

const PIPELINE: &str = "\
name: own
stages:
  rows:  { data: { task: sentiment, grammar: { train: 5, dev: 5 } } }
  count: { exec: { run: [python3, count.py], inputs: { rows: rows }, files: [words], params: { base: 1 } } }
  twice: { exec: { run: [sh, twice.sh], inputs: { all: [count, rows] }, files: [./copy.py] } }
";

/// Says all that may be said, and writes a file that depends on parameters, inputs and files.
const COUNT: &str = r#"
import json, pathlib, sys
job = json.loads(pathlib.Path(sys.argv[1]).read_text())
def tell(event, **fields):
    print(json.dumps({"event": event, **fields}), flush=True)
print("a line for the log")
tell("progress", done=1, total=2, unit="row")
tell("metric", name="rows", value=5)
tell("warning", text="a word of warning")
words = len(pathlib.Path("words/list.txt").read_text().split())
pathlib.Path(job["output"], "count.txt").write_text(f"{job['spec']['exec']['params']['base'] + words}\n")
tell("done", summary="counted", provenance={"counter": "1.0"})
"#;

/// Says nothing.
const COPY: &str = r#"
import json, pathlib, shutil, sys
job = json.loads(pathlib.Path(sys.argv[1]).read_text())
for entry in job["inputs"]:
    (pathlib.Path(job["output"]) / entry["slot"]).mkdir()
    for path in pathlib.Path(entry["path"]).iterdir():
        if path.name not in ("manifest.json", "log.txt"):
            shutil.copy(path, pathlib.Path(job["output"]) / entry["slot"])
"#;

fn sandbox() -> Sandbox {
    let sandbox = Sandbox::with_fake_worker();
    sandbox.write("pipeline.yaml", PIPELINE);
    sandbox.write("count.py", COUNT);
    sandbox.write("twice.sh", "cp $1 seen.json; exec python3 copy.py $1");
    sandbox.write("copy.py", COPY);
    sandbox.write("words/list.txt", "one two three");
    sandbox
}

#[test]
fn a_program_is_run_cached_and_explained_like_any_stage() {
    let sandbox = sandbox();
    let first = sandbox.bam(&["run"]);
    assert_eq!(
        first.stderr,
        "    Pipeline own: 3 stages
         RAN [time]  (1/3) rows      made by data, peak <memory>  <hex>
warning: count: a word of warning
         RAN [time]  (2/3) count     counted, peak <memory>  <hex>
         RAN [time]  (3/3) twice     3 files, peak <memory>  <hex>
────────────
     Summary [time]  3 stages: 3 ran
"
    );
    assert_eq!(first.code, 0);
    assert_eq!(sandbox.read("artifacts/latest/count/count.txt"), "4\n");
    assert_eq!(sandbox.read("artifacts/latest/count/log.txt"), "a line for the log\n");
    let manifest = sandbox.manifest("count");
    assert_eq!(
        (&manifest["artifact"], &manifest["metrics"], &manifest["provenance"]["worker"]),
        (&"files".into(), &serde_json::json!({"rows": 5.0}), &serde_json::json!({"counter": "1.0"}))
    );
    assert_eq!(sandbox.names_in("artifacts/latest/twice/all.1"), ["dev.parquet", "train.parquet"]);
    assert_eq!(sandbox.bam(&["run"]).stages("CACHED"), ["rows", "count", "twice"]);

    let shown = sandbox.bam(&["show", "twice", "--rows", "0"]).stdout;
    let shown = shown.split("\nmade from\n").nth(1).unwrap().split("\nFILE").next().unwrap().to_owned();
    assert_eq!(
        shown,
        "  input all.0: <hex> count (<hex>)
  input all.1: <hex> rows (<hex>)
  file copy.py: <hex>
  file twice.sh: <hex>
  param params: {}
  param run: [\"sh\",\"twice.sh\"]
  param writes: files
"
    );
}

#[test]
fn the_job_is_as_documented() {
    let sandbox = sandbox();
    sandbox.bam(&["run", "--threads", "3", "--device", "cpu"]);
    let job: serde_json::Value = serde_json::from_str(&sandbox.read("seen.json")).unwrap();
    let root = fs::canonicalize(sandbox.path("artifacts")).unwrap().display().to_string();
    let expected = r#"{
  "device": "cpu",
  "fingerprint": "<hex>",
  "inputs": [
    {
      "digest": "<hex>",
      "path": "ROOT/store/exec/<hex>",
      "slot": "all.0",
      "stage": "count"
    },
    {
      "digest": "<hex>",
      "path": "ROOT/store/data/<hex>",
      "slot": "all.1",
      "stage": "rows"
    }
  ],
  "output": "ROOT/tmp/<hex>.<letters>/output",
  "pipeline": "HERE/pipeline.yaml",
  "resume": "ROOT/resume/<hex>",
  "stage": "twice",
  "threads": 1
}"#;
    let mut plain = job.clone();
    let spec = plain.as_object_mut().unwrap().remove("spec").unwrap();
    let said = redact(&serde_json::to_string_pretty(&plain).unwrap())
        .replace(&root, "ROOT")
        .replace(root.trim_end_matches("/artifacts"), "HERE");
    let letters = regex::Regex::new(r"(tmp/<hex>)\.\w+/").unwrap();
    assert_eq!(letters.replace(&said, "$1.<letters>/"), expected);
    assert_eq!(spec["exec"]["inputs"], serde_json::json!({"all": ["count", "rows"]}));
    let fields: Vec<&String> = spec["exec"].as_object().unwrap().keys().collect();
    assert_eq!(fields, ["files", "inputs", "params", "run", "writes"]);
}

#[test]
fn a_script_a_file_and_a_parameter_rerun_it_and_say_old_and_new() {
    let sandbox = sandbox();
    sandbox.bam(&["run"]);
    let because = || {
        let run = sandbox.bam(&["run", "pipeline.yaml", "count"]);
        assert_eq!((run.code, run.stages("RAN")), (0, vec!["count".to_owned()]), "{}", run.stderr);
        let line = run.stderr.lines().find_map(|line| line.trim().strip_prefix("because "));
        line.expect("a reason").to_owned()
    };
    sandbox.write("count.py", &format!("# edited\n{COUNT}"));
    assert_eq!(because(), "file count.py: <hex> → <hex>");
    // The script wrote the same bytes, so what reads them is found.
    assert_eq!(sandbox.bam(&["run"]).stages("RAN"), [""; 0]);
    sandbox.write("words/list.txt", "one two");
    assert_eq!(because(), "file words/list.txt: <hex> → <hex>");
    sandbox.write("words/more.txt", "");
    assert_eq!(because(), "file words/more.txt added");
    sandbox.edit("pipeline.yaml", "base: 1", "base: 2");
    assert_eq!(because(), "param params.base: 1 → 2 (pipeline.yaml:4:102)");
    sandbox.edit("pipeline.yaml", "[python3, count.py]", "[python3, -u, count.py]");
    assert_eq!(because(), r#"param run: ["python3","count.py"] → ["python3","-u","count.py"] (pipeline.yaml:4:25)"#);
}

/// The story of one stage `own`, whose program is a shell's.
fn story_of(script: &str, writes: &str) -> String {
    let sandbox = Sandbox::with_fake_worker();
    sandbox.write("own.sh", script);
    sandbox
        .write("pipeline.yaml", &format!("stages: {{ own: {{ exec: {{ run: [sh, own.sh], writes: {writes} }} }} }}\n"));
    given_examples(&sandbox);
    let run = sandbox.bam(&["run"]);
    assert_eq!(run.code, 1, "{}", run.stderr);
    assert_eq!((sandbox.names_in("artifacts/store"), sandbox.names_in("artifacts/tmp")), (vec![], vec![]));
    let inside = run.stderr.split("(1/1) own\n").nth(1).unwrap_or_else(|| panic!("{}", run.stderr));
    inside.split("────────────").next().unwrap().trim_end().to_owned()
}

/// A folder `given` with examples of the task `sentiment`, one of them with a label that the task does not have.
fn given_examples(sandbox: &Sandbox) {
    let task = tasks::builtin("sentiment").unwrap();
    for (folder, label) in [("given", 1.0), ("beyond", 7.0)] {
        fs::create_dir_all(sandbox.path(folder)).unwrap();
        let mut writer =
            ExamplesWriter::create(&sandbox.path(folder), Split::Dev, &task, Fingerprint::of("x")).unwrap();
        writer.push(Example { text: "fine".to_owned(), pair: None, label: Some(label) }).unwrap();
        writer.finish().unwrap();
    }
}

/// The job's output folder, in a shell's words.
const OUTPUT: &str = r#"output=$(dirname "$1")/output; "#;

#[test]
fn a_program_that_fails_or_breaks_its_promise_fails_its_stage() {
    assert_eq!(
        story_of("echo the cause >&2; exit 3", "files"),
        "error: `sh` ended with exit code 3

the end of its log, `artifacts/failed/pipeline.yaml/own/log.txt`:
  | the cause"
    );
    assert_eq!(
        story_of(r#"echo '{"event": "failed", "causes": ["no rows", "no file"], "hint": "make it"}'; exit 1"#, "files"),
        "error: no rows\n  caused by: no file\n\nhint: make it"
    );
    assert_eq!(story_of("exit 0", "files"), "error: the stage says it is done, but wrote nothing");
    assert_eq!(story_of("exit 0", "examples"), "error: the stage says it is done, but wrote no `*.parquet`");
    assert_eq!(
        story_of(&format!("{OUTPUT} echo x > $output/manifest.json"), "files"),
        "error: the stage wrote `manifest.json`, which is `bam`'s own file in every artifact"
    );
    assert_eq!(story_of("kill -SEGV $$", "files"), "error: `sh` was ended by SIGSEGV (signal 11)");
    assert_eq!(
        story_of(&format!("{OUTPUT} mkdir here; echo x > here/x; rmdir $output; ln -s $PWD/here $output"), "files"),
        "error: the stage put something else in the place of its output folder"
    );
}

#[test]
fn what_a_program_wrote_is_opened_before_it_enters_the_store() {
    let broken = |script: &str, writes: &str| {
        let story = story_of(&format!("{OUTPUT}{script}"), writes);
        let hint = "\n\nhint: `docs/exec.md` says what each kind consists of";
        let lines = story.strip_suffix(hint).unwrap_or_else(|| panic!("{story}"));
        let lines = lines.strip_prefix("error: what the stage wrote is not ").unwrap_or_else(|| panic!("{lines}"));
        regex::Regex::new(r"`/\S*/").unwrap().replace_all(lines, "`").into_owned()
    };
    let examples = broken("echo x > $output/dev.parquet", "examples");
    assert!(examples.starts_with("examples\n  caused by: `dev.parquet` is not a Parquet file\n"), "{examples}");
    assert_eq!(
        broken("cp beyond/dev.parquet $output", "examples"),
        "examples\n  caused by: `dev.parquet`: row 0 has the label 7, which is none of the task's"
    );
    assert_eq!(broken("cp given/dev.parquet $output", "tokens"), "tokens\n  caused by: the tokens name no tokenizer");
    assert_eq!(
        broken("cp given/dev.parquet $output/rows.parquet", "examples"),
        "examples\n  caused by: no split in `output`"
    );
    let predictions = broken("cp given/dev.parquet $output/dev.arrow", "predictions");
    assert!(
        predictions.starts_with("predictions\n  caused by: `dev.arrow` is not an Arrow IPC file\n"),
        "{predictions}"
    );
    let scores = broken("echo '{}' > $output/scores.json", "scores");
    assert!(scores.starts_with("scores\n  caused by: `scores.json` holds no scores\n"), "{scores}");
    let onnx = broken("echo x > $output/model.onnx; echo '{}' > $output/bam.json", "onnx");
    assert!(onnx.starts_with("an ONNX model\n  caused by: `bam.json` describes no model\n"), "{onnx}");
    let checkpoint = "for name in config.json model.safetensors bam.json; do echo '{}' > $output/$name; done";
    let checkpoint = broken(checkpoint, "checkpoint");
    assert!(checkpoint.starts_with("a checkpoint\n  caused by: `bam.json` describes no model\n"), "{checkpoint}");
}

#[test]
fn what_is_right_is_read_by_the_stages_that_read_its_kind() {
    let sandbox = Sandbox::with_fake_worker();
    given_examples(&sandbox);
    sandbox.write("own.sh", &format!("{OUTPUT} cp given/dev.parquet $output"));
    sandbox.write(
        "pipeline.yaml",
        "stages:
  own:    { exec: { run: [sh, own.sh], writes: examples } }
  tokens: { tokenize: { examples: own, encoder: enc } }
",
    );
    let run = sandbox.bam(&["run"]);
    assert_eq!((run.code, run.stages("RAN")), (0, vec!["own".to_owned(), "tokens".to_owned()]), "{}", run.stderr);
    let shown = sandbox.bam(&["show", "own"]).stdout;
    let table = "dev.parquet: 1 row, 4 columns
  id: Int64
  text: Utf8
  pair: Utf8, may be null
  label: Int32, may be null

id  text  pair  label
0   fine  null  1
";
    assert!(shown.ends_with(table), "{shown}");
    sandbox.edit("pipeline.yaml", "writes: examples", "writes: scores");
    let wrong = sandbox.bam(&["plan"]);
    assert_eq!(
        wrong.stderr,
        "error: `examples` of stage `tokens` reads examples, but stage `own` makes scores
  --> pipeline.yaml:3:35
   |
 3 |   tokens: { tokenize: { examples: own, encoder: enc } }
   |                                   ^^^
"
    );
}

#[test]
fn progress_is_told_and_a_program_dies_with_the_engine() {
    let sandbox = Sandbox::with_fake_worker();
    sandbox.write(
        "own.sh",
        r#"echo '{"event": "progress", "done": 1, "total": 2, "unit": "row", "detail": "half"}'; touch there; exec sleep 600"#,
    );
    sandbox.write("pipeline.yaml", "stages: { own: { exec: { run: [sh, own.sh] } } }\n");
    let mut command = sandbox.command(&["run", "--json"]);
    let mut engine = command.stdout(fs::File::create(sandbox.path("said")).unwrap()).spawn().unwrap();
    until("progress is told", || sandbox.read("said").contains(r#""detail":"half""#));
    let program = worker_of(engine.id()).expect("the program runs");
    engine.kill().unwrap();
    engine.wait().unwrap();
    until("the program is gone", || !ends_in_sleep(program));
}

fn ends_in_sleep(process: u32) -> bool {
    fs::read_to_string(format!("/proc/{process}/cmdline")).is_ok_and(|line| line.starts_with("sleep"))
}

#[test]
fn a_program_that_is_asked_to_stop_may_keep_what_it_goes_on_from() {
    let sandbox = Sandbox::with_fake_worker();
    sandbox.write(
        "own.py",
        r#"
import json, pathlib, signal, sys, time
job = json.loads(pathlib.Path(sys.argv[1]).read_text())
kept = pathlib.Path(job["resume"])
def stop(*_):
    kept.mkdir(parents=True)
    (kept / "row").write_text("400")
    print(json.dumps({"event": "stopped", "summary": "row 400"}), flush=True)
    sys.exit(1)
signal.signal(signal.SIGTERM, stop)
if kept.exists():
    pathlib.Path(job["output"], "went-on-from").write_text((kept / "row").read_text())
else:
    pathlib.Path("there").write_text("")
    # Short sleeps: Python misses a signal that comes just before a sleep, until it is over.
    for _ in range(600):
        time.sleep(0.1)
"#,
    );
    sandbox.write("pipeline.yaml", "stages: { own: { exec: { run: [python3, own.py] } } }\n");
    let engine = sandbox.command(&["run"]).stderr(Stdio::piped()).spawn().unwrap();
    until("the program waits", || sandbox.path("there").exists());
    let engine_id = i32::try_from(engine.id()).unwrap();
    assert!(std::process::Command::new("kill").args(["-INT", &engine_id.to_string()]).status().unwrap().success());
    let output = engine.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert!(said.contains("own       row 400; the next run goes on from there\n"), "{said}");
    let again = sandbox.bam(&["run"]);
    assert_eq!(
        (again.code, sandbox.read("artifacts/latest/own/went-on-from").as_str()),
        (0, "400"),
        "{}",
        again.stderr
    );
    assert_eq!(sandbox.names_in("artifacts/resume"), [""; 0]);
}

#[test]
fn mistakes_are_found_before_anything_runs() {
    let sandbox = Sandbox::with_fake_worker();
    sandbox.write(
        "pipeline.yaml",
        "stages:
  a: { exec: { run: [no-such-program] } }
  b: { exec: { run: [./pipeline.yaml] } }
  c: { exec: { run: [] } }
  d: { exec: { run: [sh], files: [absent.txt], inputs: { z.1: c } } }
  e: { exec: { run: [sh], inputs: { x: 5, y: [f, a@*] } } }
  f: { exec: { run: sh, writes: exmples } }
",
    );
    let said = sandbox.bam(&["run"]);
    let errors: Vec<&str> = said.stderr.lines().filter_map(|line| line.strip_prefix("error: ")).collect();
    assert_eq!(
        errors,
        [
            "`run` of stage `a`: no program `no-such-program` in the folders of `PATH`",
            "`run` of stage `b`: `./pipeline.yaml` is no program: no such file, or not executable",
            "`run` of stage `c`: names no program",
            "file `absent.txt` does not exist",
            "`inputs` of stage `d`: `z.1` is no name for an input: it needs letters, and no dot",
            "`x` in stage `e` is the number `5`, not a stage or a list of stages",
            "`a@*` in stage `e` gathers no stage",
            "`run` in stage `f` is the text \"sh\", not a list",
            "`writes` in stage `f` cannot be `exmples`",
        ]
    );
    assert!(said.stderr.contains("hint: did you mean `examples`?"), "{}", said.stderr);
    assert_eq!((said.code, sandbox.names_in("artifacts")), (2, vec![]));
}

#[test]
fn what_it_writes_fits_wherever_that_kind_does() {
    let sandbox = sandbox();
    sandbox.write(
        "pipeline.yaml",
        "stages:
  rows:     { data: { task: sentiment, grammar: { train: 5, dev: 5 } } }
  tokens:   { tokenize: { examples: rows, encoder: enc } }
  teacher:  { train: { tokens: [tokens], encoder: enc } }
  answers:  { predict: { model: teacher, tokens: tokens } }
  cleaned:  { exec: { run: [python3, copy.py], inputs: { rows: rows }, writes: examples } }
  cleaner:  { tokenize: { examples: cleaned, encoder: enc } }
  averaged: { exec: { run: [python3, copy.py], inputs: { all: [answers] }, writes: predictions } }
  student:  { train: { tokens: [cleaner], teachers: [averaged], encoder: enc } }
  other:    { train: { tokens: [cleaner], teachers: [answers], encoder: enc } }
  onnx:     { exec: { run: [python3, copy.py], inputs: { model: student }, writes: onnx } }
  scores:   { score: { models: [student, onnx], tokens: [cleaner] } }
  report:   { exec: { run: [python3, copy.py], inputs: { scores: scores }, writes: files } }
",
    );
    let plan = sandbox.bam(&["plan"]);
    assert_eq!((plan.code, plan.stderr.as_str()), (0, ""));
}

#[test]
fn escape_sequences_of_a_program_do_not_reach_a_terminal() {
    let sandbox = Sandbox::with_fake_worker();
    sandbox.write("own.yaml", "stages: { loud: { exec: { run: [sh, loud.sh] } } }");
    sandbox.write("loud.sh", r"printf 'a \033[2Jword\007\n'; exit 3");
    let run = sandbox.bam(&["run", "own.yaml"]);
    assert!(run.stderr.contains("\n  | a word\n"), "{:?}", run.stderr);

    let (mut shown, inner) = terminal(80);
    let mut command = sandbox.command(&["log", "loud"]);
    let mut log = command.stdout(Stdio::from(inner)).stderr(Stdio::null()).spawn().unwrap();
    drop(command);
    assert_eq!(log.wait().unwrap().code(), Some(0));
    let mut read = [0; 1024];
    let length = shown.read(&mut read).unwrap();
    assert_eq!(String::from_utf8_lossy(&read[..length]), "a word\r\n");
    assert_eq!(sandbox.bam(&["log", "loud"]).stdout, "a \u{1b}[2Jword\u{7}\n", "a file gets every byte");
}
