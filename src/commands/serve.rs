//! `bam serve`.

use std::process::ExitCode;

use anyhow::Result;

use super::model;
use crate::cli::ServeArgs;
use crate::serve::{self, Ended, Source};
use crate::store::Store;
use crate::ui::serving as story;

pub(super) fn serve(args: &ServeArgs, store: &Store) -> Result<ExitCode> {
    let source = match &args.model {
        Some(named) => Source::Folder(model::named(named, store)?),
        None => Source::LastRun(model::last(store)?),
    };
    Ok(match serve::serve(args, source, store)? {
        Ended::Drained => {
            story::drained();
            ExitCode::SUCCESS
        }
        Ended::CutOff(connections) => {
            story::cut_off(connections);
            ExitCode::from(1)
        }
        Ended::Interrupted => ExitCode::from(130),
    })
}
