//! `bam predict`.

use std::io;
use std::path::Path;

use anyhow::{Error, Result};
use bam_contract::task::TaskSpec;
use bam_inference::model::OnnxModel;
use bam_inference::word_pieces::keep_to_threads;

use super::{model, signals};
use crate::cli::PredictArgs;
use crate::machine;
use crate::predict::{self, Pending, Rows, Sink};
use crate::store::{Store, read_manifest};
use crate::ui::rows::RowsStory;

pub(super) fn predict(args: &PredictArgs, store: &Store) -> Result<()> {
    let threads = args.threads.unwrap_or_else(machine::cores);
    keep_to_threads(threads)?;
    let (folder, whose) = if let Some(named) = &args.model {
        (model::named(named, store)?.canonicalize()?, String::new())
    } else {
        let last = model::last(store)?;
        let whose = format!(" of {}", last.origin());
        (last.folder, whose)
    };
    let model = OnnxModel::open(&folder)?;
    let rows = Rows::of(args, &model.info.tasks)?;
    let tasks = rows.tasks(&args.tasks, &model.info.tasks)?;
    let mut session = model.session(threads)?;
    model.test(&mut session)?;
    let pending = Pending::default();
    signals::end_after(pending.discarder())?;
    let sink = Sink::create(args, &model.info, &tasks, pending)?;
    let mut story = RowsStory::new();
    let done = match predict::run(&model, &mut session, &rows, &tasks, sink, |done| story.progress(done)) {
        // A reader that has seen enough (`| head`) is no error.
        Err(error) if is_broken_pipe(&error) => return Ok(()),
        done => done?,
    };
    let left_out: Vec<&str> = if args.tasks.is_empty() {
        let is_left_out = |head: &&TaskSpec| !tasks.iter().any(|task| task.name == head.name);
        model.info.tasks.iter().filter(is_left_out).map(|head| head.name.as_str()).collect()
    } else {
        Vec::new()
    };
    story.finish((done.rows, done.cut), &(name_of(&folder) + &whose), tasks.len(), &left_out);
    Ok(())
}

fn is_broken_pipe(error: &Error) -> bool {
    let mut causes = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    causes.any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}

/// A model by the stage that made it, or by its folder.
fn name_of(folder: &Path) -> String {
    match read_manifest(folder) {
        Ok(manifest) => format!("{} ({})", manifest.stage, manifest.fingerprint.short()),
        Err(_) => format!("`{}`", folder.display()),
    }
}
