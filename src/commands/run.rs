//! `bam run`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::{Instant, SystemTime};

use anyhow::Result;
use bam_contract::artifact::ArtifactKind;
use bam_contract::artifact::comparison::Comparison;
use bam_contract::artifact::scores::Scores;
use bam_contract::digest::Fingerprint;
use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use serde_json::{Value, json};

use super::fetch::{fetch, read_all, warn_of_branches};
use super::remote::remote;
use super::signals;
use crate::cli::{ChoiceArgs, LimitArgs, PipelineArgs, RunArgs};
use crate::executor::{Cluster, Executor, Local, MOST_WAITING};
use crate::hub::Hub;
use crate::machine;
use crate::pipeline::{Pipeline, Stage};
use crate::profile::{OnInterrupt, Profile};
use crate::run::{self, Interrupt, Limits, Observer, Options, Outcome, PLENTY, RunEvent};
use crate::store::{RUNNING, Store};
use crate::ui;

/// Exit code of a run that was stopped: what shells report of a program that SIGINT ended.
pub(super) const INTERRUPTED: u8 = 130;

pub(super) fn run(args: &RunArgs, store: &Store) -> Result<ExitCode> {
    let hub = Hub::from_env(args.offline.offline);
    let (mut pipeline, mut forced) = choose(&args.source, &args.choice, &hub)?;
    let profile = args.elsewhere.profile.as_deref().map(Profile::load).transpose()?;
    let limits = limits(&args.limits, profile.as_ref());
    let remote = remote(&args.source.remote, &pipeline, args.offline.offline, store)?;
    if args.dry_run {
        profile.map(Cluster::check).transpose()?;
        super::plan::tell(&pipeline, store, remote.as_ref(), forced, &limits, args.json)?;
        return Ok(ExitCode::SUCCESS);
    }
    let on_interrupt = on_interrupt(args, profile.as_ref());
    let executor: Box<dyn Executor> = match profile {
        Some(profile) => Box::new(Cluster::begin(profile, !matches!(on_interrupt, Interrupt::Leave))?),
        None => Box::new(Local::find()?),
    };
    let mut record = Record::new(args, &pipeline, &limits, store);
    let mut told: Box<dyn Observer> =
        if args.json { Box::new(ui::json::JsonLines) } else { Box::new(ui::story::Story::new()) };
    let (sender, messages) = mpsc::sync_channel(MOST_WAITING);
    signals::watch(executor.as_ref(), sender.clone())?;
    let observers: &mut [&mut dyn Observer] = &mut [told.as_mut(), &mut record];
    // What was fetched may show a mistake, which is told before more is fetched.
    while !pipeline.unfetched().is_empty() {
        if !fetch(&pipeline, &hub, &messages, observers)? {
            return Ok(ExitCode::from(INTERRUPTED));
        }
        (pipeline, forced) = choose(&args.source, &args.choice, &hub)?;
    }
    read_all(&pipeline, store)?;
    warn_of_branches(&pipeline);
    let options = Options { limits, forced, fail_fast: args.failure.fail_fast, on_interrupt, remote: remote.as_ref() };
    let outcome = run::run(&pipeline, store, executor.as_ref(), options, (sender, messages), observers);
    if let Err(error) = record.save(outcome.name()) {
        ui::error::warn(&error);
    }
    tell_results(&pipeline, &record.made, store, args.json)?;
    Ok(match outcome {
        Outcome::Done => ExitCode::SUCCESS,
        Outcome::Failed => ExitCode::from(1),
        Outcome::Interrupted => ExitCode::from(INTERRUPTED),
    })
}

/// What Ctrl-C does to workers: as the user says, or the profile; else who sits at a terminal is asked about jobs.
fn on_interrupt(args: &RunArgs, profile: Option<&Profile>) -> Interrupt {
    let Some(profile) = profile else { return Interrupt::Stop };
    match args.elsewhere.on_interrupt.or(profile.settings.on_interrupt) {
        Some(OnInterrupt::Leave) => Interrupt::Leave,
        None if !args.json && ui::ask::is_possible() => Interrupt::Ask(ui::ask::leave_or_cancel),
        Some(OnInterrupt::Cancel) | None => Interrupt::Stop,
    }
}

/// The stages asked for with all they need, and those of them that are forced.
pub(super) fn choose(source: &PipelineArgs, choice: &ChoiceArgs, hub: &Hub) -> Result<(Pipeline, BTreeSet<usize>)> {
    let pipeline =
        Pipeline::load_with(&source.pipeline, &source.overrides, hub)?.only(&choice.targets, choice.downstream)?;
    let mut forced = BTreeSet::new();
    for name in &choice.force {
        match (name.as_str(), choice.targets.is_empty()) {
            ("", true) => forced.extend(0..pipeline.stages.len()),
            ("", false) => forced.extend(pipeline.find_all(&choice.targets)?),
            (name, _) => forced.extend(pipeline.find(name)?),
        }
    }
    Ok((pipeline, forced))
}

/// What the user allows, else what the machine has, or the profile says.
pub(super) fn limits(args: &LimitArgs, profile: Option<&Profile>) -> Limits {
    if let Some(profile) = profile {
        return Limits {
            threads: PLENTY,
            memory_bytes: u64::MAX,
            gpus: Vec::new(),
            jobs: args.jobs.unwrap_or(profile.settings.max_jobs),
            device: args.device.clone(),
            cluster: Some(profile.resources()),
        };
    }
    let threads = args.threads.unwrap_or_else(machine::cores);
    Limits {
        threads,
        memory_bytes: args.memory.map_or_else(machine::memory_bytes, |memory| memory.as_u64()),
        gpus: machine::gpus(),
        jobs: args.jobs.unwrap_or(threads),
        device: args.device.clone(),
        cluster: None,
    }
}

/// Prints the scores and comparisons of those stages that are `made`.
fn tell_results(pipeline: &Pipeline, made: &BTreeMap<String, Fingerprint>, store: &Store, as_json: bool) -> Result<()> {
    let is_result = |stage: &&Stage| {
        matches!(stage.spec.writes(), ArtifactKind::Scores | ArtifactKind::Comparison) && made.contains_key(&stage.name)
    };
    let results: Vec<&Stage> = pipeline.stages.iter().filter(is_result).collect();
    for stage in &results {
        let folder = store.folder(stage.spec.kind().name, made[&stage.name]);
        let (event, mut line, table) = if stage.spec.writes() == ArtifactKind::Scores {
            let scores = Scores::read(&folder)?;
            ("scores", serde_json::to_value(&scores)?, ui::scores::tables(&scores))
        } else {
            let comparison = Comparison::read(&folder)?;
            ("comparison", serde_json::to_value(&comparison)?, ui::comparison::brief_tables(&comparison, &stage.name))
        };
        if as_json {
            line["event"] = json!(event);
            line["stage"] = json!(stage.name);
            ui::json::line(&line);
        } else {
            ui::story("");
            if results.len() > 1 {
                ui::data(&format!("{}\n", stage.name));
            }
            ui::data(&table);
        }
    }
    Ok(())
}

/// What `artifacts/runs/<name>.json` keeps of a run.
struct Record<'a> {
    store: &'a Store,
    /// When it started (UTC), and its process: two may start at once.
    name: String,
    head: Value,
    stages: Vec<Value>,
    /// What the queue of a cluster said of stages' jobs, and when.
    jobs: BTreeMap<String, Vec<Value>>,
    /// The stages whose artifact is there.
    made: BTreeMap<String, Fingerprint>,
    started: Instant,
    /// The file as it was last saved; see [`Store::save_run`].
    saved: Option<File>,
    /// Whether something has happened since.
    is_behind: bool,
    /// When it may be saved next.
    save_again_at: Instant,
}

impl<'a> Record<'a> {
    fn new(args: &RunArgs, pipeline: &Pipeline, limits: &Limits, store: &'a Store) -> Self {
        let owner = store.owner(&pipeline.file);
        let now = DateTime::<Utc>::from(SystemTime::now()).to_rfc3339_opts(SecondsFormat::Millis, true);
        let head = json!({
            "started": now,
            "pipeline": args.source.pipeline,
            "owner": owner.name(),
            "overrides": args.source.overrides,
            "targets": args.choice.targets,
            "forced": args.choice.force,
            "threads": limits.cluster.is_none().then_some(limits.threads),
            "profile": args.elsewhere.profile,
            "device": limits.device,
            "bam_version": env!("CARGO_PKG_VERSION"),
        });
        let (name, started) = (format!("{}-{}", now.replace(':', "-"), std::process::id()), Instant::now());
        Self {
            store,
            name,
            head,
            stages: Vec::new(),
            jobs: BTreeMap::new(),
            made: BTreeMap::new(),
            started,
            saved: None,
            is_behind: false,
            save_again_at: started,
        }
    }

    fn save(&mut self, outcome: &str) -> Result<()> {
        #[derive(Serialize)]
        struct Saved<'a> {
            #[serde(flatten)]
            head: &'a Value,
            outcome: &'a str,
            seconds: f64,
            stages: &'a [Value],
            #[serde(skip_serializing_if = "BTreeMap::is_empty")]
            jobs: &'a BTreeMap<String, Vec<Value>>,
        }
        let begun = Instant::now();
        let Self { head, stages, jobs, .. } = &*self;
        let record = Saved { head, outcome, seconds: self.started.elapsed().as_secs_f64(), stages, jobs };
        self.saved = Some(self.store.save_run(&self.name, &serde_json::to_vec_pretty(&record)?)?);
        self.is_behind = false;
        self.save_again_at = Instant::now() + begun.elapsed() * SAVE_SHARE;
        Ok(())
    }

    /// Saves what has happened, for who looks meanwhile, or after a crash; that it can't be written is told when the run is
    /// over. The record of many stages is saved less often than they end.
    fn save_if_due(&mut self) {
        if self.is_behind && self.save_again_at <= Instant::now() {
            _ = self.save(RUNNING);
        }
    }
}

/// How much of what a queue said of a stage is kept: the beginning, and the end.
const MOST_SAID: usize = 100;

/// Saving the record takes at most one of so many parts of a run's time.
const SAVE_SHARE: u32 = 20;

impl Observer for Record<'_> {
    fn tell(&mut self, event: &RunEvent<'_>) {
        let settled = matches!(
            event,
            RunEvent::Cached { .. }
                | RunEvent::Remote { .. }
                | RunEvent::Fetched { .. }
                | RunEvent::Ran { .. }
                | RunEvent::Failed { .. }
                | RunEvent::Skipped { .. }
                | RunEvent::Stopped { .. }
        );
        if let RunEvent::Cached { stage, manifest, .. }
        | RunEvent::Fetched { stage, manifest, .. }
        | RunEvent::Ran { stage, manifest, .. } = event
        {
            self.made.insert((*stage).to_owned(), manifest.fingerprint);
        }
        if let RunEvent::Queued { stage, .. } | RunEvent::Requeued { stage, .. } = event {
            let mut said = serde_json::to_value(event).expect("an event is plain data");
            said["seconds"] = json!(self.started.elapsed().as_secs_f64());
            let all = self.jobs.entry((*stage).to_owned()).or_default();
            // A queue may change its mind about why a job waits for days.
            if all.len() == MOST_SAID {
                all.remove(MOST_SAID / 2);
            }
            all.push(said);
        }
        if let RunEvent::Started { stages, .. } = event {
            self.head["planned"] = json!(stages);
        }
        if settled {
            self.stages.push(serde_json::to_value(event).expect("an event is plain data"));
        }
        self.is_behind |= matches!(
            event,
            RunEvent::Waiting { .. } | RunEvent::Running { .. } | RunEvent::Ran { .. } | RunEvent::Failed { .. }
        );
        self.save_if_due();
    }

    fn rest(&mut self) -> bool {
        self.save_if_due();
        self.is_behind
    }
}
