//! What a job does on its node: it runs the worker as the engine itself would have run it here, keeps what that says in a
//! file, and tells how it ended in another.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bam_contract::event::Event;

use super::super::{End, Executor as _, Launch, Local, MOST_WAITING, Message, Needs};
use super::files::{Call, Files, NodeEnd, sizes, write_whole};
use super::inputs;
use crate::machine;

/// The first argument of a `bam` that attends to a worker on a node; the attempt's folder and the submission's number follow.
pub(crate) const ATTENDANT: &str = "attend-stage";

/// How long words that can't be written, for a disk is full, are tried again; and after which a worker whose progress can't be is
/// asked to end, so that it keeps its state while it can.
const PATIENCE: Duration = Duration::from_mins(2);
const TRY_EVERY: Duration = Duration::from_secs(1);

/// Runs a worker to its end.
pub(crate) fn attend(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let folder = arguments.next().map(PathBuf::from);
    let number = arguments.next().and_then(|number| number.to_str()?.parse().ok());
    let (Some(folder), Some(number)) = (folder, number) else { return ExitCode::from(2) };
    let (files, started) = (Files::new(&folder, number), Instant::now());
    let is_signalled = Arc::new(AtomicBool::new(false));
    let (trouble, peak_memory_bytes) = match work(&files, &is_signalled) {
        Ok(End { trouble, peak_memory_bytes, .. }) => (trouble, peak_memory_bytes),
        Err(error) => (Some(format!("{error:#}")), 0),
    };
    let code = if trouble.is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    let is_signalled = is_signalled.load(Ordering::Relaxed);
    let wall_secs = started.elapsed().as_secs_f64();
    let output = if trouble.is_none() { sizes(&files.output()).unwrap_or_default() } else { BTreeMap::new() };
    let events_bytes = fs::metadata(files.events()).map_or(0, |metadata| metadata.len());
    let host = machine::host();
    let end = NodeEnd { trouble, peak_memory_bytes, wall_secs, host, is_signalled, output, events_bytes };
    let bytes = serde_json::to_vec(&end).expect("an end is plain data");
    // Where it can't be written, the engine goes by what Slurm says.
    if again_and_again(|| write_whole(&files.end(), &bytes)).is_err() { ExitCode::FAILURE } else { code }
}

fn work(files: &Files, is_signalled: &Arc<AtomicBool>) -> Result<End> {
    let call: Call = serde_json::from_slice(&fs::read(files.call()).context("reading what to run")?)?;
    let events = File::options().create(true).append(true).open(files.events()).context("opening the events")?;
    let mut events = Lines { file: events, is_torn: false };
    let local = Local::find()?;
    let (sender, messages) = mpsc::sync_channel(MOST_WAITING);
    // Before there is a worker: a signal then ends it as soon as it is there.
    let (reins, by_signal, signalled) = (local.reins(), local.reins(), is_signalled.clone());
    ctrlc::set_handler(move || {
        signalled.store(true, Ordering::Relaxed);
        by_signal.stop();
    })
    .context("watching for signals")?;
    let inputs = inputs::made_sure_of(files, call.scratch.as_deref(), is_signalled, |event| _ = events.add(&event));
    let inputs = inputs.or_else(|error| {
        // What is no fault of the input's is judged by why the job was to end.
        if !is_signalled.load(Ordering::Relaxed) {
            let failed = Event::failed(&error);
            again_and_again(|| events.add(&failed)).context("writing the events")?;
        }
        Err(error)
    })?;
    let (mut job, log) = (files.job(), files.log());
    if let Some(placed) = &inputs.placed {
        job = files.placed();
        let bytes = serde_json::to_vec_pretty(placed)?;
        again_and_again(|| write_whole(&job, &bytes)).context("writing where inputs are")?;
    }
    let launch = Launch {
        stage: 0,
        program: call.program.as_deref(),
        job: &job,
        log: &log,
        threads: call.threads,
        gpus: (!call.sees_gpus).then_some(&[]),
        needs: Needs::default(),
    };
    local.start(&launch, sender)?;
    if is_signalled.load(Ordering::Relaxed) {
        reins.stop();
    }
    let mut failing_since = None;
    loop {
        match messages.recv()? {
            Message::Event {
                event: event @ (Event::Done { .. } | Event::Stopped { .. } | Event::Failed { .. }),
                ..
            } => {
                again_and_again(|| events.add(&event)).context("writing the events")?;
            }
            Message::Event { event, .. } => match events.add(&event) {
                Ok(()) => failing_since = None,
                // How far it is can be said the next time.
                Err(_) if failing_since.get_or_insert_with(Instant::now).elapsed() < PATIENCE => {}
                Err(_) => {
                    is_signalled.store(true, Ordering::Relaxed);
                    reins.stop();
                }
            },
            Message::Ended { end, .. } => {
                events.file.sync_all().context("writing the events")?;
                return Ok(end);
            }
            _ => {}
        }
    }
}

/// A file of one event a line.
struct Lines {
    file: File,
    /// Whether it ends with a part of one.
    is_torn: bool,
}

impl Lines {
    fn add(&mut self, event: &Event) -> io::Result<()> {
        let line = serde_json::to_string(event)? + "\n";
        let begin = if self.is_torn { "\n" } else { "" };
        let written = self.file.write_all(format!("{begin}{line}").as_bytes());
        self.is_torn = written.is_err();
        written
    }
}

/// Does what a full disk may keep from being done, until it has room.
fn again_and_again(mut act: impl FnMut() -> io::Result<()>) -> io::Result<()> {
    let started = Instant::now();
    loop {
        match act() {
            Err(_) if started.elapsed() < PATIENCE => sleep(TRY_EVERY),
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_a_full_disk_has_cut_off_costs_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events");
        let event = Event::Warning { text: "hot".to_owned() };
        let full = File::options().write(true).open("/dev/full").unwrap();
        let mut lines = Lines { file: full, is_torn: false };
        assert!(lines.add(&event).is_err());
        fs::write(&path, r#"{"event": "warn"#).unwrap();
        lines.file = File::options().append(true).open(&path).unwrap();
        lines.add(&event).unwrap();
        lines.add(&event).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let read: Vec<bool> = text.lines().map(|line| serde_json::from_str::<Event>(line).is_ok()).collect();
        assert_eq!(read, [false, true, true], "{text}");
    }
}
