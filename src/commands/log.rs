//! `bam log`.

use std::fs::{self, File};
use std::io::Read as _;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};
use bam_contract::fault::Fault;

use crate::cli::LogArgs;
use crate::store::Store;
use crate::ui;

/// Between two looks at a log that grows.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Prints what a stage's worker said: of the one under way, else of the last one.
pub(super) fn log(args: &LogArgs, store: &Store) -> Result<()> {
    if args.follow && store.is_yet_to_start(&args.stage) {
        ui::story(&format!("waiting for `{}` to start", args.stage));
        while store.is_yet_to_start(&args.stage) {
            sleep(LOOK_EVERY);
        }
    }
    let Some(log) = store.log_of(&args.stage) else {
        if tell_failure(args, store) {
            return Ok(());
        }
        let hint = "`bam status` lists the stages; one that was found in the store has the log of the run that made it";
        return Err(Fault::new(format!("no log of a stage `{}`", args.stage), hint).into());
    };
    let is_under_way = store.is_under_way(&log);
    let is_empty = fs::metadata(&log).is_ok_and(|metadata| metadata.len() == 0);
    let how = match (is_under_way, is_empty) {
        (true, _) => " (under way)",
        (false, true) => " (nothing was said)",
        (false, false) => "",
    };
    ui::story(&format!("{}{how}", store.shown(&log).display()));
    let reading = || format!("reading `{}`", store.shown(&log).display());
    let mut file = File::open(&log).with_context(reading)?;
    let mut piece = vec![0; 1 << 16];
    // What a terminal gets is told by whole lines, so that no escape sequence comes in two parts.
    let (is_shown, mut begun) = (ui::is_shown(), Vec::new());
    loop {
        // Asked before reading, so that nothing written last is missed.
        let goes_on = args.follow && store.is_under_way(&log);
        loop {
            let read = file.read(&mut piece).with_context(reading)?;
            let goes_on = if is_shown {
                begun.extend_from_slice(&piece[..read]);
                let end = if read == 0 { Some(begun.len()) } else { after_last_line(&begun) };
                let whole: Vec<u8> = begun.drain(..end.unwrap_or(0)).collect();
                ui::feed(ui::harmless(&String::from_utf8_lossy(&whole)).as_bytes())
            } else {
                ui::feed(&piece[..read])
            };
            if !goes_on {
                return Ok(());
            }
            if read == 0 {
                break;
            }
        }
        if !goes_on {
            break;
        }
        sleep(LOOK_EVERY);
    }
    if args.follow || !is_under_way {
        tell_failure(args, store);
    }
    Ok(())
}

fn after_last_line(text: &[u8]) -> Option<usize> {
    text.iter().rposition(|byte| *byte == b'\n').map(|at| at + 1)
}

/// Tells why the stage failed, if it did; says whether.
fn tell_failure(args: &LogArgs, store: &Store) -> bool {
    let Some(failure) = store.last_words(&args.stage).failure else { return false };
    ui::story(&ui::error::failure(&failure.causes, failure.hint.as_deref()));
    true
}
