//! What `bam run`, `bam predict` and `bam serve` do about Ctrl-C, SIGTERM and SIGHUP.

mod hangup;

use std::process::exit;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::thread::{self, sleep};
use std::time::Duration;

use anyhow::{Context, Result};

use super::run::INTERRUPTED;
use crate::executor::{Executor, Message};
use crate::profile::OnInterrupt;
use crate::ui;

/// How long a run that is to end at once has to do it itself, and to keep its record.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long it has to say so.
const LAST_WORD: Duration = Duration::from_millis(100);

/// The first signal lets workers keep what they have, the second ends them, and the run too should it be busy, with a large
/// file it reads, say. Where workers outlive the run, a terminal that is gone leaves them.
pub(super) fn watch(executor: &dyn Executor, run: SyncSender<Message>) -> Result<()> {
    let outlives = executor.outlives();
    let (first, workers, other) = (AtomicBool::new(true), executor.reins(), run.clone());
    let act = move || {
        // Told before workers are: they stop because the run does.
        tell(&run, Message::Interrupted);
        if first.swap(false, Ordering::Relaxed) {
            // Those that can outlive the run are stopped by it: it asks whether they are to be left.
            if !outlives {
                workers.stop();
            }
            return;
        }
        let trouble = workers.kill();
        sleep(PATIENCE);
        // Nor is one who doesn't read waited for.
        thread::spawn(move || {
            ui::story("ended at once; the next run clears away what was being made");
            if let Some(trouble) = trouble {
                ui::story(&trouble);
            }
        });
        sleep(LAST_WORD);
        exit(INTERRUPTED.into());
    };
    handle(act)?;
    if outlives && !is_ignored(&libc::SIGHUP) {
        hangup::act_on(move || tell(&other, Message::Answered(OnInterrupt::Leave)))?;
    }
    Ok(())
}

/// One that has ended needs not be told, and one that is behind with its messages, as nobody reads what it says, is not waited for.
fn tell(run: &SyncSender<Message>, message: Message) {
    if let Err(TrySendError::Full(message)) = run.try_send(message) {
        let run = run.clone();
        thread::spawn(move || run.send(message));
    }
}

/// Has the first signal end the program at once, but for what `clear` does.
pub(super) fn end_after(clear: impl Fn() + Send + 'static) -> Result<()> {
    handle(move || {
        clear();
        end(INTERRUPTED)
    })
}

/// Ends the program while other threads compute: `exit` would clear away libraries that they compute with.
pub(super) fn end(code: u8) -> ! {
    // SAFETY: it doesn't return.
    unsafe { libc::_exit(code.into()) }
}

/// Has a thread act on signals, but for those that whoever started this wants ignored.
fn handle(act: impl FnMut() + Send + 'static) -> Result<()> {
    let ignored: Vec<i32> = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP].into_iter().filter(is_ignored).collect();
    ctrlc::set_handler(act).context("watching for Ctrl-C")?;
    for signal in ignored {
        // SAFETY: a plain system call.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
    Ok(())
}

/// Whether whoever started this wants a signal ignored, as `nohup` does.
pub(super) fn is_ignored(signal: &i32) -> bool {
    // SAFETY: `sigaction` is plain data, for which zeros are valid.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer leads to a live local, and nothing is set.
    let asked = unsafe { libc::sigaction(*signal, std::ptr::null(), &raw mut action) };
    asked == 0 && action.sa_sigaction == libc::SIG_IGN
}
