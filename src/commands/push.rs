//! `bam push`.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::Instant;

use anyhow::Result;
use bam_contract::fault::Fault;
use bam_contract::manifest::Manifest;

use super::fetch::warn_of_unfetched;
use super::remote::needed;
use crate::cli::PushArgs;
use crate::pipeline::Pipeline;
use crate::plan::{Decision, Planner};
use crate::remote::{Parcel, Trouble};
use crate::run::{Observer, RunEvent, Tally};
use crate::store::{Asked, Store};
use crate::ui;

/// Brings what the stages have now to the remote, as far as it lacks it.
pub(super) fn push(args: &PushArgs, store: &Store) -> Result<ExitCode> {
    let started = Instant::now();
    let pipeline = Pipeline::load(&args.source.pipeline, &args.source.overrides)?.only(&args.targets, false)?;
    warn_of_unfetched(&pipeline);
    let remote = needed(&args.source.remote, &pipeline, store)?;
    if !remote.is_writable() {
        let message = format!("remote `{}` is a web server, which only hands out what it has", remote.shown());
        return Err(Fault::new(message, "push to a bucket or a folder").into());
    }
    let mut planner = Planner::new(&pipeline, store, BTreeSet::new()).with_remote(Some(&remote));
    let plan = planner.plan()?;
    planner.finish();
    let troubles = planner.elsewhere().take_troubles();
    if !remote.is_online() {
        return Err(troubles.into_iter().next_back().expect("it went offline for a reason"));
    }
    let mut told: Box<dyn Observer> =
        if args.json { Box::new(ui::json::JsonLines) } else { Box::new(ui::story::Story::of_pushes()) };
    let names: Vec<&str> = pipeline.stages.iter().map(|stage| stage.name.as_str()).collect();
    told.tell(&RunEvent::Started { pipeline: &pipeline.name, stages: &names });
    let mut tally = Tally::default();
    let (sender, done) = mpsc::channel();
    for (index, decision) in plan.decisions.into_iter().enumerate() {
        let stage = names[index];
        let manifest = match decision {
            Decision::Cached(manifest) => manifest,
            Decision::Remote { manifest, .. } => {
                tally.remote += 1;
                told.tell(&RunEvent::Remote { stage, index, manifest: &manifest });
                continue;
            }
            Decision::Run { .. } | Decision::Waits { .. } => {
                tally.absent += 1;
                told.tell(&RunEvent::Absent { stage, index, from: "store" });
                continue;
            }
        };
        let lock = match store.share(manifest.fingerprint)? {
            Asked::Held(lock) => lock,
            Asked::Busy(holder) => {
                tally.failed += 1;
                let text = format!("`{stage}` is being made again by {holder}, and was not pushed");
                told.tell(&RunEvent::Trouble { text, hint: Some("push when that is done".to_owned()) });
                continue;
            }
        };
        let folder = store.folder(&manifest.key.kind, manifest.fingerprint);
        let parcel = Parcel { manifest: Manifest::clone(&manifest), folder, lock, anew: false };
        let sender = sender.clone();
        remote.push(parcel, move |result| drop(sender.send((index, manifest, result))))?;
    }
    drop(sender);
    for (index, manifest, result) in done {
        let stage = names[index];
        match result {
            Ok(pushed) => {
                if let Some(text) = remote.note(&pushed, store) {
                    told.tell(&RunEvent::Trouble { text, hint: None });
                }
                if let Some(bytes) = pushed.bytes {
                    tally.pushed += 1;
                    tally.pushed_bytes += bytes;
                    told.tell(&RunEvent::Pushed { stage, index, manifest: &manifest, bytes });
                } else {
                    tally.remote += 1;
                    told.tell(&RunEvent::Remote { stage, index, manifest: &manifest });
                }
            }
            Err(Trouble::Remote(error)) => return Err(error),
            Err(Trouble::Artifact(error) | Trouble::Local(error)) => {
                tally.failed += 1;
                told.tell(&RunEvent::trouble(&error));
            }
        }
    }
    told.tell(&RunEvent::Finished { seconds: started.elapsed().as_secs_f64(), tally });
    Ok(ExitCode::from(u8::from(tally.failed + tally.absent > 0)))
}
