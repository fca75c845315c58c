//! `bam predict`.

use anyhow::Result;
use bam_inference::model::OnnxModel;

use super::model;
use crate::cli::PredictArgs;
use crate::machine;
use crate::predict::{self, Rows, Sink};
use crate::store::Store;
use crate::ui::rows::RowsStory;

pub(super) fn predict(args: &PredictArgs, store: &Store) -> Result<()> {
    let folder = model::find(args.model.as_deref(), store)?.canonicalize()?;
    let model = OnnxModel::open(&folder)?;
    let rows = Rows::of(args, &model.info.tasks)?;
    let tasks = rows.tasks(&args.tasks, &model.info.tasks)?;
    let mut session = model.session(args.threads.unwrap_or_else(machine::cores))?;
    model.test(&mut session)?;
    let sink = Sink::create(args, &model.info, &tasks)?;
    let mut story = RowsStory::new();
    let done = predict::run(&model, &mut session, &rows, &tasks, sink, |done| story.progress(done))?;
    story.finish(done.rows, done.cut, tasks.len());
    Ok(())
}
