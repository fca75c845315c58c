//! `bam pull`.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;
use bam_contract::manifest::Manifest;

use super::fetch::warn_of_unfetched;
use super::remote::needed;
use crate::cli::PullArgs;
use crate::pipeline::Pipeline;
use crate::plan::{Decision, Planner};
use crate::remote::{Remote, Trouble};
use crate::run::{Observer, RunEvent, Tally};
use crate::store::{Asked, Failure, Found, Owner, Store};
use crate::ui;

/// How often is looked whether a run is done with an artifact.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Fetches what the remote has of the stages named, or of all, and runs nothing.
pub(super) fn pull(args: &PullArgs, store: &Store) -> Result<ExitCode> {
    let started = Instant::now();
    let pipeline = Pipeline::load(&args.source.pipeline, &args.source.overrides)?.only(&args.targets, false)?;
    warn_of_unfetched(&pipeline);
    let remote = needed(&args.source.remote, &pipeline, store)?;
    let mut told: Box<dyn Observer> =
        if args.json { Box::new(ui::json::JsonLines) } else { Box::new(ui::story::Story::new()) };
    let wanted: Vec<usize> =
        (0..pipeline.stages.len()).filter(|at| args.targets.is_empty() || pipeline.is_goal(*at)).collect();
    let names: Vec<&str> = wanted.iter().map(|at| pipeline.stages[*at].name.as_str()).collect();
    let mut planner = Planner::new(&pipeline, store, BTreeSet::new()).with_remote(Some(&remote));
    let plan = planner.plan()?;
    planner.finish();
    let mut troubles = planner.elsewhere().take_troubles();
    if !remote.is_online() {
        return Err(troubles.pop().expect("it went offline for a reason"));
    }
    store.sweep();
    let owner = store.owner(&pipeline.file);
    told.tell(&RunEvent::Started { pipeline: &pipeline.name, stages: &names });
    let mut tally = Tally::default();
    for (index, at) in wanted.iter().enumerate() {
        let stage = names[index];
        match &plan.decisions[*at] {
            Decision::Cached(manifest) => {
                store.forget_end(&owner, stage);
                tally.cached += 1;
                told.tell(&RunEvent::Cached { stage, index, manifest, reran: &[] });
            }
            Decision::Remote { manifest, .. } => {
                let (began, bytes) = (Instant::now(), manifest.files_bytes());
                told.tell(&RunEvent::Fetching { stage, index, bytes });
                match fetch(&owner, stage, manifest, &remote, store) {
                    Ok(()) => {
                        store.forget_end(&owner, stage);
                        tally.fetched += 1;
                        let fetch_seconds = began.elapsed().as_secs_f64();
                        told.tell(&RunEvent::Fetched { stage, index, manifest, bytes, fetch_seconds });
                    }
                    Err(Trouble::Remote(error)) => return Err(error),
                    Err(Trouble::Artifact(error) | Trouble::Local(error)) => {
                        tally.failed += 1;
                        store.forget_known(remote.id(), manifest.fingerprint);
                        let Failure { causes, hint } = &error.into();
                        let (hint, seconds) = (hint.as_deref(), began.elapsed().as_secs_f64());
                        let (inputs, log, log_tail) = (&[], None, &[]);
                        told.tell(&RunEvent::Failed { stage, index, inputs, causes, hint, log, log_tail, seconds });
                    }
                }
            }
            Decision::Run { .. } | Decision::Waits { .. } => {
                tally.absent += 1;
                told.tell(&RunEvent::Absent { stage, index, from: "remote" });
            }
        }
    }
    store.save_verified();
    for error in &troubles {
        told.tell(&RunEvent::trouble(error));
    }
    told.tell(&RunEvent::Finished { seconds: started.elapsed().as_secs_f64(), tally });
    Ok(ExitCode::from(u8::from(tally.failed + tally.absent > 0 || !troubles.is_empty())))
}

fn fetch(owner: &Owner, stage: &str, manifest: &Manifest, remote: &Remote, store: &Store) -> Result<(), Trouble> {
    let (kind, fingerprint) = (&manifest.key.kind, manifest.fingerprint);
    let lock = loop {
        match store.lock(fingerprint).map_err(Trouble::Local)? {
            Asked::Held(lock) => break lock,
            Asked::Busy(_) => sleep(LOOK_EVERY),
        }
    };
    match store.find(kind, fingerprint).map_err(Trouble::Local)? {
        Found::Sound(_) => return Ok(()),
        Found::Damaged(_) => drop(store.set_aside(kind, fingerprint).map_err(Trouble::Local)?),
        Found::Absent => {}
    }
    let pending = store.begin(kind, fingerprint, lock).map_err(Trouble::Local)?;
    let (sender, done) = mpsc::channel();
    let finish = move |result| drop(sender.send(result));
    remote.fetch(manifest.clone(), pending.output(), |_| {}, finish).map_err(Trouble::Remote)?;
    done.recv().expect("a transfer tells how it ended")?;
    let stamps = remote.adopt(manifest, &pending)?;
    store.committed(manifest.fingerprint, stamps);
    store.set_latest(owner, stage, kind, fingerprint).map_err(Trouble::Local)
}
