//! `bam plan`.

use std::collections::BTreeSet;

use anyhow::Result;
use serde_json::json;

use super::remote::remote;
use super::run::{choose, limits};
use crate::cli::PlanArgs;
use crate::hub::Hub;
use crate::pipeline::{Pipeline, Stage};
use crate::plan::{Decision, Estimate, Needed, Plan, Planner};
use crate::reason::Reason;
use crate::remote::Remote;
use crate::run::Limits;
use crate::store::Store;
use crate::ui;
use crate::ui::table::{Align, Table};
use crate::ui::units::{duration, plural};

/// Said of a stage that made nothing when it was last run; `bam status` says why.
const FAILED: &str = "failed the last time";

pub(super) fn plan(args: &PlanArgs, store: &Store) -> Result<()> {
    let hub = Hub::from_env(args.offline.offline);
    let (pipeline, forced) = choose(&args.source, &args.choice, &hub)?;
    let remote = remote(&args.source.remote, &pipeline, args.offline.offline, store)?;
    let Some(stage) = &args.why else {
        return tell(&pipeline, store, remote.as_ref(), forced, &limits(&args.limits, None), args.json);
    };
    let plan = decide(&pipeline, store, remote.as_ref(), forced)?;
    for at in pipeline.find(stage)? {
        let mut tree = Causes { pipeline: &pipeline, plan: &plan, told: BTreeSet::new(), text: String::new() };
        tree.add(at, 0);
        ui::data(&tree.text);
    }
    Ok(())
}

/// Prints what a run would do.
pub(super) fn tell(
    pipeline: &Pipeline,
    store: &Store,
    remote: Option<&Remote>,
    forced: BTreeSet<usize>,
    limits: &Limits,
    as_json: bool,
) -> Result<()> {
    let plan = decide(pipeline, store, remote, forced)?;
    if as_json {
        print_json(pipeline, &plan);
    } else {
        print_table(pipeline, &plan, limits, store);
    }
    Ok(())
}

pub(super) fn decide(
    pipeline: &Pipeline,
    store: &Store,
    remote: Option<&Remote>,
    forced: BTreeSet<usize>,
) -> Result<Plan> {
    let mut planner = Planner::new(pipeline, store, forced).with_remote(remote);
    let plan = planner.plan()?;
    planner.finish();
    planner.elsewhere().take_troubles().iter().for_each(ui::error::warn);
    Ok(plan)
}

fn print_table(pipeline: &Pipeline, plan: &Plan, limits: &Limits, store: &Store) {
    let mut table = Table::new([
        ("STAGE", Align::Left),
        ("DECISION", Align::Left),
        ("LAST TIME", Align::Right),
        ("WHY", Align::Left),
    ]);
    let owner = store.owner(&pipeline.file);
    let with_failure = |reasons: &[Reason], stage: &Stage| match store.failure(&owner, &stage.name) {
        None => first(reasons),
        Some(_) if reasons == [Reason::NeverRan] => FAILED.to_owned(),
        Some(_) => format!("{}; {FAILED}", first(reasons)),
    };
    for (at, stage) in pipeline.stages.iter().enumerate() {
        let why = match &plan.decisions[at] {
            Decision::Cached(_) => String::new(),
            Decision::Remote { needed: Needed::Yes, .. } => "in the remote".to_owned(),
            Decision::Remote { needed: Needed::Maybe, .. } => "in the remote; a stage that may run reads it".to_owned(),
            Decision::Remote { needed: Needed::No, .. } => "in the remote; nothing needs it here".to_owned(),
            Decision::Run { reasons, key } => {
                let state = store
                    .has_state(key.fingerprint())
                    .then(|| "goes on from the state that was kept, if it is whole".to_owned());
                [Some(with_failure(reasons, stage)), state].into_iter().flatten().collect::<Vec<_>>().join("; ")
            }
            Decision::Waits { reasons, .. } if !reasons.is_empty() => with_failure(reasons, stage),
            Decision::Waits { .. } if stage.unfetched().is_some() => unfetched(stage),
            Decision::Waits { on, .. } => {
                let first = &pipeline.stages[on[0]].name;
                let more = if on.len() > 1 { format!(" and {} more", on.len() - 1) } else { String::new() };
                format!("waits on {first}{more}; cached if the bytes stay the same")
            }
        };
        let last = plan.last[at].map_or_else(|| "–".to_owned(), |last| duration(last.secs));
        table.row([stage.name.as_str(), word(plan, at), &last, &why]);
    }
    ui::data(&table.render());
    ui::data(&format!("\n{}\n", summary(pipeline, plan, limits)));
}

/// How many stages go which way, and how long that may take.
fn summary(pipeline: &Pipeline, plan: &Plan, limits: &Limits) -> String {
    let stages = 0..plan.decisions.len();
    let count = |wanted: &str| stages.clone().filter(|at| word(plan, *at) == wanted).count();
    let mut line = format!("{}: {} cached", plural(stages.len(), "stage"), count("cached"));
    for (decision, what) in [("fetch", "to fetch"), ("may fetch", "may be fetched"), ("remote", "in the remote")] {
        let number = count(decision);
        if number > 0 {
            line += &format!(", {number} {what}");
        }
    }
    let (to_run, may_run) = (count("run"), count("may run"));
    line += &format!(", {to_run} to run");
    if may_run > 0 {
        line += &format!(", {may_run} may run");
    }
    if to_run + may_run > 0 {
        line += &match plan.estimate(pipeline, limits) {
            Estimate { unknown, .. } if unknown == to_run + may_run => ", which never ran: no estimate".to_owned(),
            Estimate { secs, unknown, is_of_other } => {
                let by = if is_of_other { ", by runs of other settings" } else { "" };
                let (stages, are) = (plural(unknown, "stage"), if unknown == 1 { "is" } else { "are" });
                let comma = if is_of_other { "," } else { "" };
                let like = format!("{comma} if {stages} that never ran {are} like the others");
                format!(", about {}{by}{}", duration(secs), if unknown == 0 { "" } else { &like })
            }
        };
    }
    line
}

/// What is decided about a stage, in a word or two.
fn word(plan: &Plan, at: usize) -> &'static str {
    match &plan.decisions[at] {
        Decision::Cached(_) => "cached",
        Decision::Remote { needed: Needed::Yes, .. } => "fetch",
        Decision::Remote { needed: Needed::Maybe, .. } if plan.is_online => "may fetch",
        Decision::Remote { needed: Needed::No, .. } => "remote",
        Decision::Waits { reasons, .. } if !reasons.is_empty() => "run",
        Decision::Run { .. } => "run",
        Decision::Remote { .. } | Decision::Waits { .. } => "may run",
    }
}

/// Why it isn't known whether a stage runs that reads files of a hub.
pub(super) fn unfetched(stage: &Stage) -> String {
    let repository = stage.unfetched().map(|repository| repository.reference.to_string()).unwrap_or_default();
    format!("{repository} is not fetched yet; cached if its bytes are known")
}

fn first(reasons: &[Reason]) -> String {
    match reasons {
        [] => String::new(),
        [only] => only.to_string(),
        [first, more @ ..] => format!("{first} (and {} more)", more.len()),
    }
}

fn print_json(pipeline: &Pipeline, plan: &Plan) {
    for (at, stage) in pipeline.stages.iter().enumerate() {
        let last_secs = plan.last[at].map(|last| last.secs);
        let decision = word(plan, at).replace(' ', "_");
        let mut line = json!({ "stage": stage.name, "decision": decision, "last_secs": last_secs });
        match &plan.decisions[at] {
            Decision::Cached(manifest) => line["fingerprint"] = json!(manifest.fingerprint),
            Decision::Remote { manifest, .. } => {
                line["fingerprint"] = json!(manifest.fingerprint);
                line["bytes"] = json!(manifest.files_bytes());
            }
            Decision::Run { key, reasons } => {
                line["fingerprint"] = json!(key.fingerprint());
                line["reasons"] = json!(reasons);
            }
            Decision::Waits { on, reasons } => {
                let on: Vec<&str> = on.iter().map(|input| pipeline.stages[*input].name.as_str()).collect();
                line["on"] = json!(on);
                line["reasons"] = json!(reasons);
                if let Some(repository) = stage.unfetched() {
                    line["unfetched"] = json!(repository.reference.to_string());
                }
            }
        }
        ui::json::line(&line);
    }
}

/// The tree of a stage's causes, as text.
struct Causes<'a> {
    pipeline: &'a Pipeline,
    plan: &'a Plan,
    told: BTreeSet<usize>,
    text: String,
}

impl Causes<'_> {
    /// Adds a stage's causes, and those of the stages it waits on below; each stage is told of once.
    fn add(&mut self, at: usize, depth: usize) {
        let indent = "  ".repeat(depth);
        let stage = &self.pipeline.stages[at];
        let name = &stage.name;
        let (state, reasons, on): (_, &[Reason], &[usize]) = match &self.plan.decisions[at] {
            Decision::Cached(manifest) => (format!("is cached ({})", manifest.fingerprint.short()), &[], &[]),
            Decision::Remote { manifest, .. } => {
                (format!("is in the remote ({})", manifest.fingerprint.short()), &[], &[])
            }
            Decision::Run { reasons, .. } => ("runs".to_owned(), reasons, &[]),
            Decision::Waits { on, reasons } if reasons.is_empty() => {
                ("runs if what it reads changes".to_owned(), &[], on)
            }
            Decision::Waits { on, reasons } => ("runs".to_owned(), reasons, on),
        };
        if !self.told.insert(at) {
            self.text += &format!("{indent}{name}: see above\n");
            return;
        }
        self.text += &format!("{indent}{name} {state}\n");
        if stage.unfetched().is_some() {
            self.text += &format!("{indent}  because {}\n", unfetched(stage));
        }
        for reason in reasons {
            self.text += &format!("{indent}  because {reason}\n");
        }
        for input in on {
            self.add(*input, depth + 1);
        }
    }
}
