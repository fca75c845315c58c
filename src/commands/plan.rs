//! `bam plan`.

use anyhow::Result;
use serde_json::json;

use crate::cli::PlanArgs;
use crate::pipeline::Pipeline;
use crate::plan::{Decision, Plan, Planner};
use crate::reason::Reason;
use crate::store::Store;
use crate::ui;
use crate::ui::table::{Align, Table};
use crate::ui::units::{duration, plural};

pub(super) fn plan(args: &PlanArgs, store: &Store) -> Result<()> {
    let pipeline = Pipeline::load(&args.source.pipeline, &args.source.overrides)?;
    let mut planner = Planner::new(&pipeline, store);
    let plan = planner.plan()?;
    planner.finish()?;
    match &args.why {
        Some(stage) => {
            for at in pipeline.find(stage)? {
                let mut text = String::new();
                causes(&pipeline, &plan, at, 0, &mut text);
                ui::data(&text);
            }
        }
        None if args.json => print_json(&pipeline, &plan),
        None => print_table(&pipeline, &plan),
    }
    Ok(())
}

fn print_table(pipeline: &Pipeline, plan: &Plan) {
    let mut table = Table::new([
        ("STAGE", Align::Left),
        ("DECISION", Align::Left),
        ("WHY", Align::Left),
        ("LAST TIME", Align::Right),
    ]);
    for (at, stage) in pipeline.stages.iter().enumerate() {
        let (decision, why) = match &plan.decisions[at] {
            Decision::Cached(_) => ("cached", String::new()),
            Decision::Run { reasons, .. } => ("run", first(reasons)),
            Decision::Waits { reasons, .. } if !reasons.is_empty() => ("run", first(reasons)),
            Decision::Waits { on, .. } => {
                let first = &pipeline.stages[on[0]].name;
                let more = if on.len() > 1 { format!(" and {} more", on.len() - 1) } else { String::new() };
                ("waits", format!("on {first}{more}; cached if the bytes stay the same"))
            }
        };
        let last = plan.last_secs[at].map_or_else(|| "–".to_owned(), duration);
        table.row([stage.name.as_str(), decision, &why, &last]);
    }
    ui::data(&table.render());
    let count = |wanted: fn(&Decision) -> bool| plan.decisions.iter().filter(|decision| wanted(decision)).count();
    let cached = count(|decision| matches!(decision, Decision::Cached(_)));
    let to_run = plan.decisions.len() - cached;
    let mut line = format!("\n{}: {cached} cached, {to_run} to run", plural(plan.decisions.len(), "stage"));
    if to_run > 0 {
        line += &match plan.estimate() {
            (_, unknown) if unknown == to_run => ", which never ran: no estimate".to_owned(),
            (seconds, 0) => format!(", about {}", duration(seconds)),
            (seconds, unknown) => {
                format!(", about {} and {} that never ran", duration(seconds), plural(unknown, "stage"))
            }
        };
    }
    ui::data(&(line + "\n"));
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
        let last_secs = plan.last_secs[at];
        ui::json::line(&match &plan.decisions[at] {
            Decision::Cached(manifest) => json!({
                "stage": stage.name, "decision": "cached", "fingerprint": manifest.fingerprint, "last_secs": last_secs,
            }),
            Decision::Run { key, reasons } => json!({
                "stage": stage.name, "decision": "run", "fingerprint": key.fingerprint(), "reasons": reasons,
                "last_secs": last_secs,
            }),
            Decision::Waits { on, reasons } => {
                let on: Vec<&str> = on.iter().map(|input| pipeline.stages[*input].name.as_str()).collect();
                json!({"stage": stage.name, "decision": "waits", "on": on, "reasons": reasons, "last_secs": last_secs})
            }
        });
    }
}

/// The stage's causes, and those of the stages it waits on, indented below.
fn causes(pipeline: &Pipeline, plan: &Plan, at: usize, depth: usize, text: &mut String) {
    let indent = "  ".repeat(depth);
    let name = &pipeline.stages[at].name;
    let (state, reasons, on): (_, &[Reason], &[usize]) = match &plan.decisions[at] {
        Decision::Cached(manifest) => (format!("is cached ({})", manifest.fingerprint.short()), &[], &[]),
        Decision::Run { reasons, .. } => ("runs".to_owned(), reasons, &[]),
        Decision::Waits { on, reasons } if reasons.is_empty() => ("runs if what it reads changes".to_owned(), &[], on),
        Decision::Waits { on, reasons } => ("runs".to_owned(), reasons, on),
    };
    *text += &format!("{indent}{name} {state}\n");
    for reason in reasons {
        *text += &format!("{indent}  because {reason}\n");
    }
    for input in on {
        causes(pipeline, plan, *input, depth + 1, text);
    }
}
