//! `bam status`.

mod behind;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::Result;
use bam_contract::manifest::{Manifest, Provenance};
use chrono::DateTime;
use serde_json::{Value, json};

use super::plan::unfetched;
use super::remote::remote;
use crate::cli::StatusArgs;
use crate::executor::{Queued, jobs_of};
use crate::pipeline::{Pipeline, Stage};
use crate::plan::{Decision, Planner};
use crate::reason::Reason;
use crate::remote::Remote;
use crate::store::{Owner, Store};
use crate::ui;
use crate::ui::story::in_words;
use crate::ui::table::{Align, Table};
use crate::ui::units::{ago, bytes, plural};
use behind::{Wanted, behind};

/// How one stage stands.
pub(super) struct Standing {
    name: String,
    pub(super) state: &'static str,
    /// Its current artifact, or the last one it had.
    pub(super) manifest: Option<Manifest>,
    note: String,
}

pub(super) fn status(args: &StatusArgs, store: &Store) -> Result<()> {
    let pipeline = Pipeline::load(&args.source.pipeline, &args.source.overrides)?;
    let remote = remote(&args.source.remote, &pipeline, false, store)?;
    let owner = store.owner(&pipeline.file);
    let (standings, wanted) = looked_at(&pipeline, store, remote.as_ref())?;
    let behind = behind(&wanted, store, &owner);
    let all = store.all();
    let stored_bytes: u64 = all.iter().map(|(folder, manifest)| Store::size_bytes(folder, manifest)).sum();
    let beside = store.beside();
    let differences = differences(&standings);
    let last_run: Option<Value> = store.last_run(&owner);
    if args.json {
        let stages: Vec<Value> = standings
            .iter()
            .map(|Standing { name, state, manifest, note }| {
                let fingerprint = manifest.as_ref().map(|manifest| manifest.fingerprint);
                let size_bytes = manifest.as_ref().map(Manifest::files_bytes);
                json!({"stage": name, "state": state, "fingerprint": fingerprint, "size_bytes": size_bytes, "note": note})
            })
            .collect();
        ui::json::line(&json!({
            "pipeline": pipeline.name, "stages": stages, "differences": differences,
            "left_behind": behind.iter().map(behind::Behind::json).collect::<Vec<_>>(),
            "artifacts": all.len(), "artifacts_bytes": stored_bytes, "last_run": last_run,
            "other": beside.iter().map(|(what, count, size_bytes)| json!({"what": what, "count": count, "size_bytes": size_bytes})).collect::<Vec<_>>(),
        }));
        return Ok(());
    }
    print_table(&standings);
    let mut text: String = behind.iter().map(|behind| behind.line(store)).collect();
    for (what, values) in &differences {
        let values = values.iter().map(|(value, stages)| format!("{value} ({})", few(stages)));
        text += &format!("{what} differs: {}\n", values.collect::<Vec<_>>().join(", "));
    }
    if let Some(run) = last_run {
        let field = |name: &str| run[name].as_str().unwrap_or("?");
        let started = DateTime::parse_from_rfc3339(field("started")).map(|time| ago(time.timestamp().unsigned_abs()));
        text += &format!("last run: {}, {}\n", started.as_deref().unwrap_or("?"), field("outcome"));
    }
    text += &format!("store: {}, {}", plural(all.len(), "artifact"), bytes(stored_bytes));
    for (what, count, size_bytes) in beside {
        text += &format!("; {}, {}", plural(count, what), bytes(size_bytes));
    }
    text.push('\n');
    ui::data(&format!("\n{text}"));
    Ok(())
}

/// How all stages of a pipeline stand, as far as is known of a remote without asking it.
pub(super) fn standings(pipeline: &Pipeline, store: &Store, remote: Option<&Remote>) -> Result<Vec<Standing>> {
    looked_at(pipeline, store, remote).map(|(standings, _)| standings)
}

fn looked_at(pipeline: &Pipeline, store: &Store, remote: Option<&Remote>) -> Result<(Vec<Standing>, Wanted)> {
    let mut planner = Planner::new(pipeline, store, BTreeSet::new()).with_known(remote);
    let plan = planner.plan()?;
    planner.finish();
    let left = |decision: &Decision| match decision {
        Decision::Run { key, .. } => store.left(key.fingerprint()),
        _ => Vec::new(),
    };
    let left: Vec<Vec<PathBuf>> = plan.decisions.iter().map(left).collect();
    let is_open =
        |(stage, decision): (&Stage, &Decision)| matches!(decision, Decision::Waits { .. }).then(|| stage.name.clone());
    let open = pipeline.stages.iter().zip(&plan.decisions).filter_map(is_open).collect();
    let wanted = Wanted { attempts: left.concat(), open };
    let owner = store.owner(&pipeline.file);
    let looked = Looked { store, cut_off: store.cut_off_of(&owner), owner, jobs: jobs_of_any(&wanted.attempts) };
    let stages = pipeline.stages.iter().zip(plan.decisions).zip(left);
    let standings = stages
        .map(|((stage, decision), left)| {
            let standing = looked.standing(&stage.name, decision, left.first());
            if standing.note.is_empty() && stage.unfetched().is_some() {
                return Standing { note: unfetched(stage), ..standing };
            }
            standing
        })
        .collect();
    Ok((standings, wanted))
}

fn jobs_of_any(attempts: &[PathBuf]) -> BTreeMap<PathBuf, Queued> {
    if attempts.is_empty() { BTreeMap::new() } else { jobs_of(attempts) }
}

/// What is looked at beside decisions.
struct Looked<'a> {
    store: &'a Store,
    owner: Owner,
    /// Stages that were killed, and whose logs no run has kept yet.
    cut_off: BTreeSet<String>,
    jobs: BTreeMap<PathBuf, Queued>,
}

impl Looked<'_> {
    /// How a stage stands, of which a cluster may have an attempt.
    fn standing(&self, name: &str, decision: Decision, attempt: Option<&PathBuf>) -> Standing {
        let is_under_way = matches!(&decision, Decision::Run { key, .. } if self.store.is_locked(key.fingerprint()));
        let (state, manifest, note) = match decision {
            Decision::Cached(manifest) => ("current", Some(*manifest), String::new()),
            Decision::Remote { manifest, .. } => ("remote", Some(*manifest), String::new()),
            Decision::Run { reasons, .. } | Decision::Waits { reasons, .. } => self.to_run(name, &reasons),
        };
        let name = name.to_owned();
        if let Some(attempt) = attempt {
            let note = match self.jobs.get(attempt) {
                Some(queued) => in_words(queued),
                None => "the queue says nothing of its job, which it has not taken yet or has forgotten".to_owned(),
            };
            let watched = if is_under_way { "" } else { "; `bam run` with its profile adopts it" };
            return Standing { name, state: "submitted", manifest, note: note + watched };
        }
        if is_under_way {
            let note = format!("`bam log {name} -f` follows it");
            return Standing { name, state: "running", manifest, note };
        }
        if matches!(state, "current" | "remote" | "damaged") {
            return Standing { name, state, manifest, note };
        }
        match self.failure(&name) {
            Some(note) => Standing { name, state: "failed", manifest, note },
            None if self.cut_off.contains(&name) || self.store.was_stopped(&self.owner, &name) => {
                let note = format!("`bam log {name}` has what it said");
                Standing { name, state: "stopped", manifest, note }
            }
            None => Standing { name, state, manifest, note },
        }
    }

    /// Of a stage that runs, or may run: in what state it is, what it had last, and why it runs.
    fn to_run(&self, name: &str, reasons: &[Reason]) -> (&'static str, Option<Manifest>, String) {
        let last = self.store.last(&self.owner, name);
        let is_new = last.is_none();
        let last = last.and_then(|(_, manifest)| manifest);
        let is_damaged = matches!(reasons.first(), Some(Reason::Damaged { .. }));
        let state = match reasons.first() {
            Some(Reason::Damaged { .. }) => "damaged",
            _ if is_new => "never ran",
            Some(_) => "stale",
            None => "may run",
        };
        let told = reasons.first().filter(|_| !is_new || is_damaged).map(ToString::to_string);
        (state, last, told.unwrap_or_default())
    }

    /// Why a stage failed when it was last run, and where its log is.
    fn failure(&self, name: &str) -> Option<String> {
        let why = self.store.failure(&self.owner, name)?.line();
        let log = self.store.failed_log(&self.owner, name);
        let log = log.map(|log| format!("; log: {}", self.store.shown(&log).display()));
        Some(why + &log.unwrap_or_default())
    }
}

fn print_table(standings: &[Standing]) {
    let mut table = Table::new([
        ("STAGE", Align::Left),
        ("STATE", Align::Left),
        ("MADE", Align::Left),
        ("SIZE", Align::Right),
        ("WHAT", Align::Left),
    ]);
    for Standing { name, state, manifest, note } in standings {
        let made = manifest.as_ref().map(|manifest| ago(manifest.provenance.finished_unix_secs));
        let size = manifest.as_ref().map(|manifest| bytes(manifest.files_bytes()));
        let summary = manifest.as_ref().map(|manifest| manifest.summary.clone());
        let what = if note.is_empty() { summary.unwrap_or_default() } else { note.clone() };
        table.row([name.as_str(), state, &made.unwrap_or_default(), &size.unwrap_or_default(), &what]);
    }
    ui::data(&table.render());
}

/// What was recorded but not hashed, where current artifacts do not agree: by name, then by value, the stages.
fn differences(standings: &[Standing]) -> BTreeMap<String, BTreeMap<String, Vec<String>>> {
    let mut seen = BTreeMap::<String, BTreeMap<String, Vec<String>>>::new();
    for Standing { name, state, manifest, .. } in standings {
        let Some(manifest) = manifest.as_ref().filter(|_| *state == "current") else { continue };
        // Threads differ by default, and their number is `bam`'s own business.
        let Provenance { host, device, bam_version, worker, .. } = &manifest.provenance;
        let ours = [("host", host), ("device", device), ("bam", bam_version)];
        let ours = ours.map(|(what, value)| (what.to_owned(), value.clone()));
        // Versions are texts; figures, such as rows per second, differ anyway.
        let versions = worker.iter().filter(|(what, _)| what.as_str() != "device");
        let versions = versions.filter_map(|(what, value)| Some((what.clone(), value.as_str()?.to_owned())));
        for (what, value) in ours.into_iter().chain(versions) {
            seen.entry(what).or_default().entry(value).or_default().push(name.clone());
        }
    }
    seen.retain(|_, values| values.len() > 1);
    seen
}

fn few(stages: &[String]) -> String {
    match stages {
        [] => String::new(),
        [one] => one.clone(),
        [first, more @ ..] => format!("{first} and {} more", more.len()),
    }
}
