//! `bam gc`.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use bam_contract::digest::Fingerprint;
use serde_json::json;

use super::remote::remote;
use crate::cli::GcArgs;
use crate::pipeline::{DEFAULT_FILE, Pipeline};
use crate::plan::{Decision, Planner};
use crate::store::{Store, Stored};
use crate::ui;
use crate::ui::table::{Align, Table};
use crate::ui::units::{ago, bytes, plural};

/// Removes what no pipeline named needs: all of it, or what the limits ask for, the longest unused first.
pub(super) fn gc(args: &GcArgs, store: &Store) -> Result<()> {
    // Listed before it is asked what is needed: what a run makes meanwhile stays.
    let all = store.by_use();
    let needed = needed(args, store)?;
    let since = args.older_than.map(|age| SystemTime::now().checked_sub(age.into()).unwrap_or(UNIX_EPOCH));
    let mut left: u64 = all.iter().map(|stored| stored.size_bytes).sum();
    let mut chosen: Vec<&Stored> = Vec::new();
    for stored in all.iter().filter(|stored| !needed.contains(&stored.manifest.fingerprint)) {
        let is_old = since.is_some_and(|since| stored.used < since);
        let is_too_much = args.keep.is_some_and(|keep| left > keep.as_u64());
        let unlimited = since.is_none() && args.keep.is_none();
        if is_old || is_too_much || unlimited {
            left -= stored.size_bytes;
            chosen.push(stored);
        }
    }
    let mut freed = Freed::default();
    let mut table = Table::new([
        ("STAGE", Align::Left),
        ("FINGERPRINT", Align::Left),
        ("USED", Align::Left),
        ("SIZE", Align::Right),
    ]);
    for stored in &chosen {
        let manifest = &stored.manifest;
        let goes = if args.dry_run {
            !store.is_in_use(manifest.fingerprint)
        } else {
            store.remove(&manifest.key.kind, manifest.fingerprint)?
        };
        if goes {
            freed.add(stored.size_bytes);
            let used = stored.used.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
            table.row([&manifest.stage, &manifest.fingerprint.short(), &ago(used), &bytes(stored.size_bytes)]);
        } else {
            freed.in_use += 1;
        }
    }
    let mut leftovers = Freed::default();
    for leftover in store.leftovers(since) {
        if args.dry_run || store.remove_leftover(&leftover)? {
            leftovers.add(leftover.size_bytes);
        }
    }
    if !args.dry_run {
        store.sweep();
        store.prune_latest();
        store.prune_locks();
        store.save_verified();
    }
    tell(args, &table, &freed, &leftovers, all.len());
    Ok(())
}

#[derive(Debug, Default)]
struct Freed {
    count: usize,
    bytes: u64,
    in_use: usize,
}

impl Freed {
    fn add(&mut self, bytes: u64) {
        self.count += 1;
        self.bytes += bytes;
    }
}

/// What the pipelines' stages have now, what they last had, and what runs under way have.
fn needed(args: &GcArgs, store: &Store) -> Result<BTreeSet<Fingerprint>> {
    let default = PathBuf::from(DEFAULT_FILE);
    let files = if args.pipelines.is_empty() { vec![default] } else { args.pipelines.clone() };
    let mut needed = store.named_by_runs_under_way();
    needed.extend(store.read_by_jobs());
    for file in files {
        let pipeline = Pipeline::load(&file, &args.overrides)?;
        // What is known of the remote tells what stages are; it isn't asked, and nothing there is removed.
        let remote = remote(&args.remote, &pipeline, false, store)?;
        let mut planner = Planner::new(&pipeline, store, BTreeSet::new()).with_known(remote.as_ref());
        let plan = planner.plan()?;
        planner.finish();
        for (stage, decision) in pipeline.stages.iter().zip(&plan.decisions) {
            if let Decision::Cached(manifest) | Decision::Remote { manifest, .. } = decision {
                needed.insert(manifest.fingerprint);
            }
            // The last artifact says why the stage is to run, may be what it finds, and what another run goes on from.
            needed.extend(store.latest(&stage.name).map(|(last, _)| last));
        }
    }
    Ok(needed)
}

fn tell(args: &GcArgs, table: &Table, freed: &Freed, leftovers: &Freed, all: usize) {
    if args.json {
        return ui::json::line(&json!({
            "dry_run": args.dry_run, "artifacts": freed.count, "artifacts_bytes": freed.bytes, "in_use": freed.in_use,
            "leftovers": leftovers.count, "leftovers_bytes": leftovers.bytes, "kept": all - freed.count,
        }));
    }
    if freed.count > 0 {
        ui::data(&table.render());
        ui::data("\n");
    }
    let verb = if args.dry_run { "would remove" } else { "removed" };
    let mut line = format!("{verb} {} of {all}, {}", plural(freed.count, "artifact"), bytes(freed.bytes));
    if leftovers.count > 0 {
        line += &format!("; {}, {}", plural(leftovers.count, "leftover"), bytes(leftovers.bytes));
    }
    if freed.in_use > 0 {
        line += &format!("; {} in use", freed.in_use);
    }
    ui::data(&(line + "\n"));
}
