//! The stage `data`: a task's files, or rows written by grammar, become examples.

mod grammar;
mod outlet;
mod split;
#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::path::Path;

use anyhow::Result;
use bam_contract::artifact::examples::Example;
use bam_contract::job::Job;
use bam_contract::stage::DataParams;
use bam_contract::task::{Split, TaskSpec};
use bam_inference::rows::Source;

use crate::report::{Outcome, Reporter};
use crate::text::{plural, thousands};
use outlet::Outlet;

/// Writes one Parquet file of examples per split into the job's output folder.
///
/// # Errors
/// At the first row that cannot be read, with its file and line; or when a split has no rows.
pub(crate) fn run(params: &DataParams, job: &Job, reporter: &Reporter) -> Result<Outcome> {
    let task = params.definition()?;
    let create = |split| Outlet::create(job, &task, split, params.limit);
    let mut counts = Vec::new();
    if let Some(rows) = &params.grammar {
        // The train rows last: more of them leave the others as they are.
        let splits = [(Split::Dev, rows.dev), (Split::Test, rows.test), (Split::Train, rows.train)];
        let total = splits.iter().map(|(_, rows)| *rows as u64).sum();
        let mut examples = grammar::examples(&task.name, rows.seed)?;
        for (split, rows) in splits.into_iter().filter(|(_, rows)| *rows > 0) {
            let mut outlet = create(split)?;
            for example in examples.by_ref().take(rows) {
                outlet.push(example?)?;
            }
            counts.push(outlet.finish("the grammar")?);
            reporter.progress(counts.iter().map(|(_, rows)| *rows as u64).sum(), total, "rows", split.name());
        }
    } else {
        let files = params.source_files()?;
        for (done, (split, path)) in files.iter().enumerate() {
            let outlets = match (split, task.split) {
                (Split::All, Some(shares)) => split::sides(&shares).map(create).collect::<Result<Vec<_>>>()?,
                _ => vec![create(*split)?],
            };
            counts.extend(read(path, *split, &task, outlets, reporter)?);
            reporter.progress(done as u64 + 1, files.len() as u64, "files", split.name());
        }
    }
    counts.sort_by_key(|(split, _)| *split);
    let counts: Vec<_> = counts.iter().map(|(split, rows)| format!("{} {split}", thousands(*rows))).collect();
    Ok(format!("{} rows", counts.join(" · ")).into())
}

/// Reads a source file into its split's outlet, or into the outlets of the splits it is divided into.
fn read(
    path: &Path,
    split: Split,
    task: &TaskSpec,
    mut outlets: Vec<Outlet>,
    reporter: &Reporter,
) -> Result<Vec<(Split, usize)>> {
    let (broken, mut empty) = (Cell::new(0), 0);
    let source = Source::new(path, task, split, &broken)?;
    for record in source.records()? {
        let record = record?;
        let label = source.label(task, &record)?;
        let example = Example { text: record.text, pair: record.pair, label };
        empty += usize::from(example.is_blank());
        let side = match (split, &task.split) {
            (Split::All, Some(shares)) => split::side_of(&example, shares, task.symmetric),
            _ => split,
        };
        if let Some(outlet) = outlets.iter_mut().find(|outlet| outlet.split == side) {
            outlet.push(example)?;
        }
        if outlets.iter().all(Outlet::is_full) {
            break;
        }
    }
    if broken.get() > 0 {
        reporter.warning(format!("`{}`: left out {}", path.display(), plural(broken.get(), "broken row")));
    }
    if empty > 0 {
        reporter.warning(format!("`{}`: {} without text", path.display(), plural(empty, "row")));
    }
    outlets.into_iter().map(|outlet| outlet.finish(&format!("`{}`", path.display()))).collect()
}
