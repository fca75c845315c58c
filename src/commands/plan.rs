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
use crate::run::{Limits, bytes_of};
use crate::store::Store;
use crate::ui;
use crate::ui::table::{Align, Table};
use crate::ui::units::{duration, plural};

pub(super) fn plan(args: &PlanArgs, store: &Store) -> Result<()> {
    let hub = Hub::from_env(args.offline.offline);
    let (pipeline, forced) = choose(&args.source, &args.choice, &hub)?;
    let remote = remote(&args.source.remote, &pipeline, args.offline.offline, store)?;
    let Some(stage) = &args.why else {
        return tell(&pipeline, store, remote.as_ref(), forced, &limits(&args.limits), args.json);
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
    for (at, stage) in pipeline.stages.iter().enumerate() {
        let (decision, why) = match &plan.decisions[at] {
            Decision::Cached(_) => ("cached", String::new()),
            Decision::Remote { needed, .. } => match needed {
                Needed::Yes => ("fetch", "in the remote".to_owned()),
                Needed::Maybe if plan.is_online => {
                    ("may fetch", "in the remote; a stage that may run reads it".to_owned())
                }
                Needed::Maybe => ("may run", "in the remote; a stage that may run reads it".to_owned()),
                Needed::No => ("remote", "in the remote; nothing needs it here".to_owned()),
            },
            Decision::Run { reasons, key } if store.has_state(key.fingerprint()) => {
                ("run", format!("{}; goes on from the state that was kept", first(reasons)))
            }
            Decision::Run { reasons, .. } => ("run", first(reasons)),
            Decision::Waits { reasons, .. } if !reasons.is_empty() => ("run", first(reasons)),
            Decision::Waits { .. } if stage.unfetched().is_some() => ("may run", unfetched(stage)),
            Decision::Waits { on, .. } => {
                let first = &pipeline.stages[on[0]].name;
                let more = if on.len() > 1 { format!(" and {} more", on.len() - 1) } else { String::new() };
                ("may run", format!("waits on {first}{more}; cached if the bytes stay the same"))
            }
        };
        let last = plan.last[at].map_or_else(|| "–".to_owned(), |last| duration(last.secs));
        table.row([stage.name.as_str(), decision, &last, &why]);
    }
    ui::data(&table.render());
    let count = |wanted: fn(&Decision) -> bool| plan.decisions.iter().filter(|decision| wanted(decision)).count();
    let cached = count(|decision| matches!(decision, Decision::Cached(_)));
    let fetch = count(|decision| matches!(decision, Decision::Remote { needed: Needed::Yes, .. }));
    let remote = count(|decision| matches!(decision, Decision::Remote { .. })) - fetch;
    let to_run = plan.decisions.len() - cached - fetch - remote;
    let mut line = format!("\n{}: {cached} cached", plural(plan.decisions.len(), "stage"));
    for (number, what) in [(fetch, "to fetch"), (remote, "in the remote")] {
        if number > 0 {
            line += &format!(", {number} {what}");
        }
    }
    line += &format!(", {to_run} to run");
    if to_run > 0 {
        line += &match plan.estimate(pipeline, limits) {
            Estimate { unknown, .. } if unknown == to_run => ", which never ran: no estimate".to_owned(),
            Estimate { secs, unknown: 0 } => format!(", about {}", duration(secs)),
            Estimate { secs, unknown } => {
                format!(", about {} if {} that never ran are like the others", duration(secs), plural(unknown, "stage"))
            }
        };
    }
    ui::data(&(line + "\n"));
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
        ui::json::line(&match &plan.decisions[at] {
            Decision::Cached(manifest) => json!({
                "stage": stage.name, "decision": "cached", "fingerprint": manifest.fingerprint, "last_secs": last_secs,
            }),
            Decision::Remote { manifest, needed } => json!({
                "stage": stage.name,
                "decision": match needed {
                    Needed::Yes => "fetch",
                    Needed::Maybe if plan.is_online => "may_fetch",
                    Needed::Maybe => "may_run",
                    Needed::No => "remote",
                },
                "fingerprint": manifest.fingerprint, "bytes": bytes_of(manifest), "last_secs": last_secs,
            }),
            Decision::Run { key, reasons } => json!({
                "stage": stage.name, "decision": "run", "fingerprint": key.fingerprint(), "reasons": reasons,
                "last_secs": last_secs,
            }),
            Decision::Waits { on, reasons } => {
                let decision = if reasons.is_empty() { "may_run" } else { "run" };
                let on: Vec<&str> = on.iter().map(|input| pipeline.stages[*input].name.as_str()).collect();
                let mut line = json!({
                    "stage": stage.name, "decision": decision, "on": on, "reasons": reasons, "last_secs": last_secs,
                });
                if let Some(repository) = stage.unfetched() {
                    line["unfetched"] = json!(repository.reference.to_string());
                }
                line
            }
        });
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
