//! `bam serve`.

use std::convert::Infallible;

use anyhow::Result;

use super::run::INTERRUPTED;
use super::{model, signals};
use crate::cli::ServeArgs;
use crate::serve::{self, Ended, Source};
use crate::store::Store;
use crate::ui::serving as story;

pub(super) fn serve(args: &ServeArgs, store: &Store) -> Result<Infallible> {
    let source = match &args.model {
        Some(named) => Source::Folder(model::named(named, store)?),
        None => Source::LastRun(model::last(store)?),
    };
    let code = match serve::serve(args, source, store, signals::is_ignored(&libc::SIGHUP))? {
        Ended::Drained => {
            story::drained();
            0
        }
        Ended::CutOff(connections) => {
            story::cut_off(connections);
            1
        }
        Ended::Interrupted => INTERRUPTED,
    };
    // Sessions may still compute what nobody waits for any more.
    signals::end(code)
}
