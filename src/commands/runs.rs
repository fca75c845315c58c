//! `bam runs`.

use anyhow::Result;
use bam_contract::fault::Fault;
use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::cli::RunsArgs;
use crate::store::{KILLED, RUNNING, Store};
use crate::ui;
use crate::ui::table::{Align, Table};
use crate::ui::units::{bytes, duration, local};

/// Lists the runs there were, the last one first, or tells of one.
pub(super) fn runs(args: &RunsArgs, store: &Store) -> Result<()> {
    let Some(named) = &args.run else {
        let shown = store.runs().take(args.last);
        if args.json {
            shown.for_each(|run| ui::json::line(&run));
        } else {
            ui::data(&overview(shown));
        }
        return Ok(());
    };
    let Some(run) = find_run(named, store) else {
        return Err(
            Fault::new(format!("no run started at `{named}`"), "`bam runs` lists the times they started").into()
        );
    };
    if args.json {
        ui::json::line(&run);
    } else {
        ui::data(&of_one(&run));
    }
    Ok(())
}

/// The last run that started then, by a time as it is listed or as records have it, or by the beginning of one.
pub(super) fn find_run(named: &str, store: &Store) -> Option<Value> {
    if named.is_empty() {
        return None;
    }
    let as_listed = store.runs().find(|run| local(text(run, "started")).starts_with(named));
    as_listed.or_else(|| store.runs().find(|run| text(run, "started").starts_with(named)))
}

fn overview(runs: impl Iterator<Item = Value>) -> String {
    let mut table = Table::new([
        ("STARTED", Align::Left),
        ("PIPELINE", Align::Left),
        ("OUTCOME", Align::Left),
        ("RAN", Align::Right),
        ("CACHED", Align::Right),
        ("FETCHED", Align::Right),
        ("FAILED", Align::Right),
        ("TOOK", Align::Right),
        ("SAVED", Align::Right),
        ("PEAK", Align::Right),
    ]);
    for run in runs {
        let run = &run;
        let stages = |event: &str| stages(run).filter(|stage| text(stage, "event") == event).count().to_string();
        table.row([
            &local(text(run, "started")),
            text(run, "pipeline"),
            text(run, "outcome"),
            &stages("ran"),
            &stages("cached"),
            &stages("fetched"),
            &stages("failed"),
            &seconds(run).map(duration).unwrap_or_default(),
            &saved(run),
            &peak(run),
        ]);
    }
    table.render()
}

fn of_one(run: &Value) -> String {
    let mut table = Table::new([
        ("STAGE", Align::Left),
        ("WHAT", Align::Left),
        ("TOOK", Align::Right),
        ("PEAK", Align::Right),
        ("SUMMARY", Align::Left),
    ]);
    for stage in stages(run) {
        let is_new = !FOUND.contains(&text(stage, "event"));
        let took = stage["seconds"].as_f64().filter(|_| is_new).map(duration).unwrap_or_default();
        let peak = stage["peak_memory_bytes"].as_u64().filter(|_| is_new).map(bytes).unwrap_or_default();
        let summary = match text(stage, "event") {
            "failed" => stage["causes"][0].as_str().unwrap_or_default().to_owned(),
            "skipped" => stage["needs"].as_str().map_or(ui::NOT_STARTED.to_owned(), |needs| format!("needs {needs}")),
            "stopped" => text(stage, "kept").to_owned(),
            _ => text(stage, "summary").to_owned(),
        };
        table.row([text(stage, "stage"), text(stage, "event"), &took, &peak, &summary]);
    }
    format!(
        "{}: {}, {}\n\n{}",
        local(text(run, "started")),
        text(run, "pipeline"),
        text(run, "outcome"),
        table.render()
    )
}

fn stages(run: &Value) -> impl Iterator<Item = &Value> {
    run["stages"].as_array().into_iter().flatten()
}

/// What a run took, or has taken so far.
fn seconds(run: &Value) -> Option<f64> {
    match text(run, "outcome") {
        RUNNING => {}
        // Nothing tells when it ended.
        KILLED => return None,
        _ => return run["seconds"].as_f64(),
    }
    let started = DateTime::parse_from_rfc3339(text(run, "started")).ok()?;
    Some((Utc::now() - started.to_utc()).as_seconds_f64())
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

/// Events of stages whose artifacts were there: their figures are of when they ran.
const FOUND: [&str; 3] = ["cached", "remote", "fetched"];

/// What those stages took.
fn saved(run: &Value) -> String {
    let found = stages(run).filter(|stage| FOUND.contains(&text(stage, "event")));
    let secs: f64 = found.filter_map(|stage| stage["seconds"].as_f64()).sum();
    if secs > 0.0 { duration(secs) } else { String::new() }
}

/// The most that one stage took.
fn peak(run: &Value) -> String {
    let ran = stages(run).filter(|stage| text(stage, "event") == "ran");
    ran.filter_map(|stage| stage["peak_memory_bytes"].as_u64()).max().map(bytes).unwrap_or_default()
}
