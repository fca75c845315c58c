//! Random pipelines, with workers that are a function: exactly the right stages rerun.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, SyncSender};
use std::time::Instant;

use anyhow::Result;
use bam_contract::digest::Digest;
use bam_contract::event::Event;
use bam_contract::job::Job;
use proptest::prelude::*;

use super::{Interrupt, Limits, Observer, Options, Outcome, RunEvent, run};
use crate::executor::{End, Executor, Launch, MOST_WAITING, Message, Reins, Worker};
use crate::pipeline::Pipeline;
use crate::plan::{Decision, Needed, Planner};
use crate::remote::{Location, Remote};
use crate::store::Store;

/// Writes files that depend on parameters and input bytes alone, or, for one stage, on nothing; and fails in another.
#[derive(Default)]
struct Function {
    constant: Option<String>,
    failing: RefCell<Option<String>>,
    started: Cell<usize>,
}

struct Nobody;

impl Worker for Nobody {
    fn kill(&self) {}
}

impl Reins for Nobody {
    fn stop(&self) {}
    fn kill(&self) -> Option<String> {
        None
    }
}

impl Executor for Function {
    fn start(&self, launch: &Launch<'_>, messages: SyncSender<Message>) -> Result<Box<dyn Worker>> {
        let Launch { stage, job, log, .. } = *launch;
        self.started.set(self.started.get() + 1);
        let job = Job::read(job)?;
        fs::write(log, "")?;
        let inputs: Vec<_> = job.inputs.iter().map(|input| (&input.slot, input.digest)).collect();
        let given = format!("{} {inputs:?}", job.spec.key_params());
        let text = if self.constant.as_deref() == Some(job.stage.as_str()) { String::new() } else { given };
        let body = format!("{} {}", Digest::of(text.as_bytes()), job.fingerprint);
        for name in ["a.parquet", "a.arrow", "config.json", "model.safetensors", "bam.json"] {
            fs::write(job.output.join(name), &body)?;
        }
        let event = if self.failing.borrow().as_deref() == Some(job.stage.as_str()) {
            Event::Failed { causes: vec!["on purpose".to_owned()], hint: None }
        } else {
            Event::Done { summary: String::new(), provenance: serde_json::Map::new() }
        };
        messages.send(Message::Event { stage, event })?;
        let end = End { trouble: None, hint: None, peak_memory_bytes: 0, at: Instant::now(), elsewhere: None };
        messages.send(Message::Ended { stage, end })?;
        Ok(Box::new(Nobody))
    }

    fn reins(&self) -> Box<dyn Reins> {
        Box::new(Nobody)
    }
}

/// Stages that ran, failed, or were skipped for that, and stages whose artifacts were fetched.
#[derive(Default)]
struct Seen {
    ran: BTreeSet<String>,
    failed: BTreeSet<String>,
    skipped: BTreeSet<String>,
    fetched: BTreeSet<String>,
}

impl Observer for Seen {
    fn tell(&mut self, event: &RunEvent<'_>) {
        match event {
            RunEvent::Ran { stage, .. } => drop(self.ran.insert((*stage).to_owned())),
            RunEvent::Failed { stage, .. } => drop(self.failed.insert((*stage).to_owned())),
            RunEvent::Skipped { stage, .. } => drop(self.skipped.insert((*stage).to_owned())),
            RunEvent::Fetched { stage, .. } => drop(self.fetched.insert((*stage).to_owned())),
            RunEvent::Trouble { text, .. } => panic!("{text}"),
            _ => {}
        }
    }
}

const TASKS: [&str; 4] = ["acceptability", "sentiment", "paraphrase", "entailment"];

/// One stage of a random pipeline: its name, its YAML with `VALUE` for one parameter, and what it reads.
type Line = (String, String, Vec<String>);

/// Data and tokens of each task, then models that each learn some tasks, some from teachers among those before.
fn random_pipeline() -> impl Strategy<Value = Vec<Line>> {
    let model = (proptest::collection::vec(any::<bool>(), TASKS.len()), any::<u8>());
    proptest::collection::vec(model, 1..5).prop_map(|models| {
        let mut lines: Vec<Line> = Vec::new();
        for task in TASKS {
            let data = format!("{{ data: {{ task: {task}, grammar: {{ train: 5, dev: 5 }}, limit: VALUE }} }}");
            lines.push((format!("x-{task}"), data, vec![]));
            let tokenize = format!("{{ tokenize: {{ examples: x-{task}, encoder: ENCODER, max_tokens: VALUE }} }}");
            lines.push((format!("t-{task}"), tokenize, vec![format!("x-{task}")]));
        }
        let mut predicted: Vec<(usize, &str)> = Vec::new();
        for (number, (mut learns, teachers)) in models.into_iter().enumerate() {
            learns[number % TASKS.len()] = true;
            let tasks: Vec<&str> = TASKS.into_iter().zip(learns).filter_map(|(task, learns)| learns.then_some(task)).collect();
            let tokens: Vec<String> = tasks.iter().map(|task| format!("t-{task}")).collect();
            let teacher = |task: &&str| {
                let known: Vec<_> = predicted.iter().filter(|(_, known)| known == task).collect();
                let chosen = known.get(usize::from(teachers) % (known.len() + 1))?;
                Some(format!("p{}-{task}", chosen.0))
            };
            let teachers: Vec<String> = tasks.iter().filter_map(teacher).collect();
            let (tokens_list, teachers_list) = (tokens.join(", "), teachers.join(", "));
            let train =
                format!("{{ train: {{ tokens: [{tokens_list}], teachers: [{teachers_list}], encoder: ENCODER, layers: {}, batch: VALUE }} }}", number + 1);
            lines.push((format!("m{number}"), train, [tokens, teachers].concat()));
            for task in tasks {
                let predict = format!("{{ predict: {{ model: m{number}, tokens: t-{task} }} }}");
                lines.push((format!("p{number}-{task}"), predict, vec![format!("m{number}"), format!("t-{task}")]));
                predicted.push((number, task));
            }
        }
        lines
    })
}

/// What of a pipeline is run.
#[derive(Default)]
struct Choice {
    forced: BTreeSet<String>,
    target: Option<String>,
    downstream: bool,
}

struct Bench {
    folder: tempfile::TempDir,
    /// Which store is used: one of two machines' that share a remote.
    machine: Cell<bool>,
    remote: Link,
}

/// How things stand with the remote.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Link {
    None,
    Offline,
    Online,
}

impl Bench {
    fn new() -> Self {
        // In memory where there is such a folder: every commit is synced, which takes a disk its time.
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        let encoder = folder.path().join("encoder");
        fs::create_dir(&encoder).unwrap();
        fs::create_dir(folder.path().join("remote")).unwrap();
        for name in ["config.json", "model.safetensors", "vocab.txt"] {
            fs::write(encoder.join(name), "{}").unwrap();
        }
        Self { folder, machine: Cell::new(false), remote: Link::None }
    }

    fn artifacts(&self) -> PathBuf {
        self.folder.path().join(if self.machine.get() { "other" } else { "artifacts" })
    }

    /// Runs with `VALUE` as 64, or 65 in the stage `changed`; returns the stages that ran.
    fn run(&self, lines: &[Line], changed: Option<&str>, executor: &Function) -> BTreeSet<String> {
        let value = |name: &str| if changed == Some(name) { 65 } else { 64 };
        self.run_with(lines, &value, executor, &Choice::default())
    }

    /// Runs with a `VALUE` for each stage, and holds the plan made before against what ran.
    fn run_with(
        &self,
        lines: &[Line],
        value: &dyn Fn(&str) -> u32,
        executor: &Function,
        choice: &Choice,
    ) -> BTreeSet<String> {
        let encoder = self.folder.path().join("encoder").display().to_string();
        let mut text = "stages:\n".to_owned();
        for (name, yaml, _) in lines {
            let yaml = yaml.replace("VALUE", &value(name).to_string()).replace("ENCODER", &encoder);
            text += &format!("  {name}: {yaml}\n");
        }
        let file = self.folder.path().join("pipeline.yaml");
        fs::write(&file, text).unwrap();
        let targets: Vec<String> = choice.target.iter().cloned().collect();
        let pipeline = Pipeline::load(&file, &[]).unwrap().only(&targets, choice.downstream).unwrap();
        let forced: BTreeSet<usize> = choice
            .forced
            .iter()
            .filter_map(|name| pipeline.stages.iter().position(|stage| stage.name == *name))
            .collect();
        let store = Store::open(&self.artifacts()).unwrap();
        let location = || Location::parse(self.folder.path().join("remote").to_str().unwrap()).unwrap();
        let remote = |is_offline| Some(Remote::new(location(), is_offline, &store));
        let remote = match self.remote {
            Link::None => None,
            Link::Offline => remote(true),
            Link::Online => remote(false),
        };
        let remote = remote.as_ref();
        let limits = Limits {
            threads: 2,
            memory_bytes: 1 << 30,
            gpus: Vec::new(),
            jobs: 2,
            device: "cpu".to_owned(),
            cluster: None,
        };
        let options =
            Options { limits, forced: forced.clone(), fail_fast: false, on_interrupt: Interrupt::Stop, remote };
        let plan = Planner::new(&pipeline, &store, forced).with_remote(remote).plan().unwrap();
        let mut seen = Seen::default();
        let outcome = run(&pipeline, &store, executor, options, mpsc::sync_channel(MOST_WAITING), &mut [&mut seen]);
        assert_eq!(outcome, if seen.failed.is_empty() { Outcome::Done } else { Outcome::Failed });
        let failing = executor.failing.borrow();
        assert!(seen.failed.iter().all(|failed| failing.as_ref() == Some(failed)), "{:?} failed", seen.failed);
        let lost = seen.failed.iter().flat_map(|failed| descendants(lines, failed)).collect::<BTreeSet<_>>();
        assert!(seen.skipped.is_subset(&lost), "{:?} were skipped, which need none of {lost:?}", seen.skipped);
        for (stage, decision) in pipeline.stages.iter().zip(&plan.decisions) {
            let name = &stage.name;
            let (did_run, did_come) =
                (seen.ran.contains(name) || seen.failed.contains(name), seen.fetched.contains(name));
            if seen.skipped.contains(name) {
                assert!(!matches!(decision, Decision::Cached(_)), "`{name}` was called cached, and was skipped");
                continue;
            }
            match decision {
                Decision::Cached(_) => assert!(!did_run && !did_come, "`{name}` was called cached, and was not"),
                Decision::Remote { needed: Needed::Yes, .. } => {
                    assert!(did_come && !did_run, "`{name}` was to be fetched, and was not");
                }
                Decision::Remote { needed: Needed::No, .. } => {
                    assert!(!did_come && !did_run, "`{name}` was to stay in the remote, and did not");
                }
                Decision::Remote { needed: Needed::Maybe, .. } => assert!(!did_run || !plan.is_online, "`{name}` ran"),
                Decision::Waits { reasons, .. } if reasons.is_empty() => {}
                decision => assert!(did_run, "`{name}` was to run, and did not: {decision:?}"),
            }
        }
        seen.ran
    }
}

fn descendants(lines: &[Line], of: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::from([of.to_owned()]);
    for (name, _, reads) in lines {
        if reads.iter().any(|read| found.contains(read)) {
            found.insert(name.clone());
        }
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn a_change_reruns_its_descendants_and_equal_bytes_stop_it(
        lines in random_pipeline(),
        chosen in any::<prop::sample::Index>(),
    ) {
        let changeable: Vec<&str> =
            lines.iter().filter(|(_, yaml, _)| yaml.contains("VALUE")).map(|(name, ..)| name.as_str()).collect();
        let changed = changeable[chosen.index(changeable.len())];
        let all: BTreeSet<String> = lines.iter().map(|(name, ..)| name.clone()).collect();

        let bench = Bench::new();
        let function = Function::default();
        prop_assert_eq!(bench.run(&lines, None, &function), all);
        prop_assert_eq!(bench.run(&lines, None, &function), BTreeSet::new());
        prop_assert_eq!(bench.run(&lines, Some(changed), &function), descendants(&lines, changed));
        // Taking the change back finds everything again.
        prop_assert_eq!(bench.run(&lines, None, &function), BTreeSet::new());

        let bench = Bench::new();
        let constant = Function { constant: Some(changed.to_owned()), ..Function::default() };
        bench.run(&lines, None, &constant);
        prop_assert_eq!(bench.run(&lines, Some(changed), &constant), BTreeSet::from([changed.to_owned()]));
    }
}

/// What happens between two runs.
#[derive(Clone, Debug)]
enum Edit {
    /// A stage gets another value of its parameter.
    Value(prop::sample::Index, u32),
    /// The artifact of a stage is removed.
    Remove(prop::sample::Index),
    /// A stage is called differently; those that read it follow.
    Rename(prop::sample::Index),
    /// A stage is forced.
    Force(prop::sample::Index),
    /// One stage is asked for, with what it needs; or with what needs it too.
    Target(prop::sample::Index, bool),
    /// A stage fails, should it run.
    Fail(prop::sample::Index),
    /// A byte of an artifact is turned.
    Damage(prop::sample::Index),
    /// A file outside the store, which many stages read, gets other bytes.
    File(u8),
    /// The next run is on the other machine.
    Move,
    /// From here on there is no remote, or it can't be asked, or it can.
    Link(Link),
    Nothing,
}

fn edit() -> impl Strategy<Value = Edit> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        3 => (index(), 64_u32..68).prop_map(|(stage, value)| Edit::Value(stage, value)),
        1 => index().prop_map(Edit::Remove),
        1 => index().prop_map(Edit::Rename),
        1 => index().prop_map(Edit::Force),
        2 => (index(), any::<bool>()).prop_map(|(stage, downstream)| Edit::Target(stage, downstream)),
        2 => index().prop_map(Edit::Fail),
        1 => index().prop_map(Edit::Damage),
        1 => (0..3_u8).prop_map(Edit::File),
        2 => Just(Edit::Move),
        1 => prop::sample::select(&[Link::None, Link::Offline, Link::Online][..]).prop_map(Edit::Link),
        1 => Just(Edit::Nothing),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// [`Bench::run_with`] compares, run for run.
    #[test]
    fn a_plan_says_what_the_run_then_does(
        lines in random_pipeline(),
        edits in prop::collection::vec(edit(), 1..9),
        constant in any::<prop::sample::Index>(),
        remote in prop::sample::select(&[Link::None, Link::Online][..]),
    ) {
        let mut bench = Bench::new();
        bench.remote = remote;
        let mut lines = lines;
        let constant = lines[constant.index(lines.len())].0.clone();
        let function = Function { constant: Some(constant), ..Function::default() };
        let mut values: HashMap<String, u32> = HashMap::new();
        bench.run(&lines, None, &function);
        for (number, edit) in edits.into_iter().enumerate() {
            let mut choice = Choice::default();
            *function.failing.borrow_mut() = None;
            let name_of = |stage: prop::sample::Index, lines: &[Line]| lines[stage.index(lines.len())].0.clone();
            match edit {
                Edit::Value(stage, value) => drop(values.insert(name_of(stage, &lines), value)),
                Edit::Remove(stage) => {
                    let link = bench.artifacts().join("latest").join(name_of(stage, &lines));
                    // It may be in the remote alone.
                    if let Ok(artifact) = fs::canonicalize(link) {
                        fs::remove_dir_all(artifact).unwrap();
                    }
                }
                Edit::Rename(stage) => {
                    let old = name_of(stage, &lines);
                    let new = format!("r{number}-{old}");
                    let value = values.get(&old).copied();
                    values.extend(value.map(|value| (new.clone(), value)));
                    // Names end at a comma, a bracket or a blank.
                    let word = regex::Regex::new(&format!(r"([ \[]){}([,\] ])", regex::escape(&old))).unwrap();
                    for (name, yaml, reads) in &mut lines {
                        reads.iter_mut().filter(|read| **read == old).for_each(|read| read.clone_from(&new));
                        *yaml = word.replace_all(yaml, format!("${{1}}{new}${{2}}")).into_owned();
                        if *name == old {
                            name.clone_from(&new);
                        }
                    }
                }
                Edit::Force(stage) => drop(choice.forced.insert(name_of(stage, &lines))),
                Edit::Target(stage, downstream) => {
                    choice = Choice { target: Some(name_of(stage, &lines)), downstream, ..choice };
                }
                Edit::Fail(stage) => {
                    let name = name_of(stage, &lines);
                    choice.forced.insert(name.clone());
                    *function.failing.borrow_mut() = Some(name);
                }
                Edit::Damage(stage) => {
                    let file = bench.artifacts().join("latest").join(name_of(stage, &lines)).join("bam.json");
                    if let Ok(mut bytes) = fs::read(&file) {
                        bytes[0] ^= 1;
                        fs::write(file, bytes).unwrap();
                    }
                }
                Edit::File(byte) => fs::write(bench.folder.path().join("encoder/vocab.txt"), [byte]).unwrap(),
                Edit::Move => bench.machine.set(!bench.machine.get()),
                Edit::Link(link) => bench.remote = link,
                Edit::Nothing => {}
            }
            bench.run_with(&lines, &|name| values.get(name).copied().unwrap_or(64), &function, &choice);
        }
    }
}

#[test]
fn two_stages_of_one_key_are_computed_once() {
    let data = "{ data: { task: sentiment, grammar: { train: 5, dev: 5 }, limit: VALUE } }";
    let lines = [("one".to_owned(), data.to_owned(), vec![]), ("two".to_owned(), data.to_owned(), vec![])];
    let function = Function::default();
    assert_eq!(Bench::new().run(&lines, None, &function), BTreeSet::from(["one".to_owned()]));
    assert_eq!(function.started.get(), 1);
}
