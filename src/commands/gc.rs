//! `bam gc`.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use bam_contract::digest::Fingerprint;
use serde_json::json;

use super::remote::remote;
use crate::cli::GcArgs;
use crate::pipeline::{DEFAULT_FILE, Pipeline};
use crate::plan::{Decision, Planner};
use crate::store::{Other, Owner, Store, Stored};
use crate::ui;
use crate::ui::table::{Align, Table};
use crate::ui::units::{ago, bytes, plural};

/// Removes what the pipelines named don't need, nor others had last: all of it, or what the limits ask for, the longest unused
/// first.
pub(super) fn gc(args: &GcArgs, store: &Store) -> Result<()> {
    // Listed before it is asked what is needed: what a run makes meanwhile stays.
    let all = store.by_use();
    let needed = needed(args, store)?;
    let others = store.others(&owners(args, store));
    let is_spared =
        |wanted: Fingerprint| !args.all && others.iter().any(|other| other.is_there && other.had.contains(&wanted));
    let mut spared = Spared::default();
    let since = args.older_than.map(|age| SystemTime::now().checked_sub(age.into()).unwrap_or(UNIX_EPOCH));
    let mut left: u64 = all.iter().map(|stored| stored.size_bytes).sum();
    let mut chosen: Vec<&Stored> = Vec::new();
    for stored in all.iter().filter(|stored| !needed.contains(&stored.manifest.fingerprint)) {
        let is_old = since.is_some_and(|since| stored.used < since);
        let is_too_much = args.keep.is_some_and(|keep| left > keep.as_u64());
        let unlimited = since.is_none() && args.keep.is_none();
        let goes = is_old || is_too_much || unlimited;
        if goes && is_spared(stored.manifest.fingerprint) {
            spared.freed.add(stored.size_bytes);
            spared.fingerprints.insert(stored.manifest.fingerprint);
        } else if goes {
            left -= stored.size_bytes;
            chosen.push(stored);
        }
    }
    let wanted = chosen.iter().map(|stored| stored.manifest.fingerprint).collect();
    let told = files_with(&others, &wanted);
    if !args.dry_run && !told.is_empty() {
        ui::story(&format!("removing what pipelines that you didn't name have or had: {}", told.join(", ")));
    }
    let (mut freed, mut gone, mut failed) = (Freed::default(), BTreeSet::new(), None);
    let mut table = Table::new([
        ("STAGE", Align::Left),
        ("FINGERPRINT", Align::Left),
        ("USED", Align::Left),
        ("SIZE", Align::Right),
    ]);
    for stored in &chosen {
        let manifest = &stored.manifest;
        let goes = if args.dry_run {
            Ok(!store.is_in_use(manifest.fingerprint))
        } else {
            store.remove(&manifest.key.kind, manifest.fingerprint)
        };
        if succeeded(goes, &mut failed) {
            freed.add(stored.size_bytes);
            gone.insert(manifest.fingerprint);
            let used = stored.used.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
            table.row([&manifest.stage, &manifest.fingerprint.short(), &ago(used), &bytes(stored.size_bytes)]);
        } else {
            freed.in_use += 1;
            left += stored.size_bytes;
        }
    }
    let mut leftovers = Freed::default();
    let mut beside = Table::new([("LEFTOVER", Align::Left), ("SIZE", Align::Right)]);
    for leftover in store.leftovers(since) {
        let goes = if args.dry_run { Ok(!store.is_left_in_use(&leftover)) } else { store.remove_leftover(&leftover) };
        if succeeded(goes, &mut failed) {
            leftovers.add(leftover.size_bytes);
            beside.row([store.shown(&leftover.path).display().to_string(), bytes(leftover.size_bytes)]);
        }
    }
    let (spared_for, others) = (files_with(&others, &spared.fingerprints), files_with(&others, &gone));
    if !args.dry_run {
        store.prune_latest();
        store.prune_locks();
        store.save_verified();
    }
    if args.json {
        ui::json::line(&json!({
            "dry_run": args.dry_run, "artifacts": freed.count, "artifacts_bytes": freed.bytes, "in_use": freed.in_use,
            "leftovers": leftovers.count, "leftovers_bytes": leftovers.bytes, "kept": all.len() - freed.count,
            "kept_bytes": left, "of_other_pipelines": others,
            "spared": spared.freed.count, "spared_bytes": spared.freed.bytes, "spared_for": spared_for,
        }));
        return failed.map_or(Ok(()), Err);
    }
    for (table, shown) in [(&table, freed.count), (&beside, leftovers.count)] {
        if shown > 0 {
            ui::data(&(table.render() + "\n"));
        }
    }
    ui::data(&summary(args, &freed, &leftovers, all.len()));
    if !others.is_empty() {
        let (are, others) = (if args.dry_run { "are" } else { "were" }, others.join(", "));
        ui::data(&format!("some {are} what pipelines that you didn't name have or had: {others}\n"));
    }
    if !spared_for.is_empty() {
        let (artifacts, size) = (plural(spared.freed.count, "artifact"), bytes(spared.freed.bytes));
        ui::data(&format!(
            "{artifacts}, {size}, left to pipelines that you didn't name: {}; `--all` takes them too\n",
            spared_for.join(", ")
        ));
    }
    ui::data(&what_stays(args, left, store));
    // What was removed has been told.
    failed.map_or(Ok(()), Err)
}

/// What came of a removal; of several errors all but the last are told here.
fn succeeded(goes: Result<bool>, failed: &mut Option<anyhow::Error>) -> bool {
    goes.unwrap_or_else(|error| {
        failed.replace(error).iter().for_each(ui::error::warn);
        false
    })
}

/// The pipelines named, or the default one.
fn files(args: &GcArgs) -> Vec<PathBuf> {
    if args.pipelines.is_empty() { vec![PathBuf::from(DEFAULT_FILE)] } else { args.pipelines.clone() }
}

fn owners(args: &GcArgs, store: &Store) -> Vec<Owner> {
    files(args).iter().filter_map(|file| Some(store.owner(&fs::canonicalize(file).ok()?))).collect()
}

/// Files of pipelines that had any of these last.
fn files_with(others: &[Other], fingerprints: &BTreeSet<Fingerprint>) -> Vec<String> {
    let with = others.iter().filter(|other| !other.had.is_disjoint(fingerprints));
    with.map(|other| other.shown.clone()).collect()
}

/// What would go, were it not for pipelines that weren't named.
#[derive(Debug, Default)]
struct Spared {
    freed: Freed,
    fingerprints: BTreeSet<Fingerprint>,
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
    let mut needed = store.named_by_runs_under_way();
    needed.extend(store.read_by_jobs());
    for file in files(args) {
        let pipeline = Pipeline::load(&file, &args.overrides)?;
        // What is known of the remote tells what stages are; it isn't asked, and nothing there is removed.
        let remote = remote(&args.remote, &pipeline, false, store)?;
        let mut planner = Planner::new(&pipeline, store, BTreeSet::new()).with_known(remote.as_ref());
        let plan = planner.plan()?;
        planner.finish();
        let owner = store.owner(&pipeline.file);
        for (stage, decision) in pipeline.stages.iter().zip(&plan.decisions) {
            if let Decision::Cached(manifest) | Decision::Remote { manifest, .. } = decision {
                needed.insert(manifest.fingerprint);
            }
            // The last artifact says why the stage is to run, may be what it finds, and what another run goes on from.
            needed.extend(store.last(&owner, &stage.name).map(|(last, _)| last));
        }
    }
    Ok(needed)
}

fn summary(args: &GcArgs, freed: &Freed, leftovers: &Freed, all: usize) -> String {
    let verb = if args.dry_run { "would remove" } else { "removed" };
    let mut line = format!("{verb} {} of {all}, {}", plural(freed.count, "artifact"), bytes(freed.bytes));
    if leftovers.count > 0 {
        line += &format!("; {}, {}", plural(leftovers.count, "leftover"), bytes(leftovers.bytes));
    }
    if freed.in_use > 0 {
        line += &format!("; {} in use", freed.in_use);
    }
    line + "\n"
}

/// What lies beside the artifacts is worth a word from here on.
const MUCH_BYTES: u64 = 1 << 20;

/// What is left though it may not be wanted, and why.
fn what_stays(args: &GcArgs, left: u64, store: &Store) -> String {
    let mut text = String::new();
    if let Some(keep) = args.keep.filter(|keep| left > keep.as_u64()) {
        let (left, keep) = (bytes(left), bytes(keep.as_u64()));
        text += &format!("{left} of artifacts stay, more than {keep}: pipelines need them, or something uses them\n");
    }
    let beside = store.beside();
    let is_much = beside.iter().map(|(_, _, size_bytes)| size_bytes).sum::<u64>() >= MUCH_BYTES;
    if args.older_than.is_none() && is_much {
        let told =
            beside.iter().map(|(what, count, size_bytes)| format!("{}, {}", plural(*count, what), bytes(*size_bytes)));
        text +=
            &format!("beside them: {}; `--older-than 7d` removes such by age\n", told.collect::<Vec<_>>().join("; "));
    }
    text
}
