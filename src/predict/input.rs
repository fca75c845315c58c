//! The rows to answer, and the tasks that they fit.

use std::io::BufRead as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use bam_contract::fault::{Fault, closest};
use bam_contract::task::{Column, Columns, Format, TaskSpec};
use bam_inference::rows::{Record, Records, STDIN, Source};

use crate::cli::{InputFormat, PredictArgs};

/// Where rows come from.
#[derive(Debug)]
pub(crate) struct Rows {
    path: PathBuf,
    /// None where each line is a text.
    format: Option<Format>,
    columns: Columns,
}

impl Rows {
    /// The rows that the arguments mean. `heads` are the model's tasks.
    pub(crate) fn of(args: &PredictArgs, heads: &[TaskSpec]) -> Result<Self> {
        let format = format(args)?;
        let is_stdin = args.input == Path::new(STDIN);
        if is_stdin && format == Some(Format::Parquet) {
            bail!(Fault::new(
                "Parquet can't be read from stdin: it is read from its end",
                "give the file with `--input`"
            ));
        }
        ensure!(
            is_stdin || args.input.exists() && !args.input.is_dir(),
            Fault::new(format!("`{}` is no file", args.input.display()), "`--input FILE` names the rows to answer")
        );
        let asked: Vec<_> =
            heads.iter().filter(|head| args.tasks.is_empty() || args.tasks.contains(&head.name)).collect();
        let only_pairs = !asked.is_empty() && asked.iter().all(|task| task.is_pair());
        let pair = match &args.pair {
            Some(pair) => Some(column(pair)),
            None => only_pairs.then(|| column("pair")),
        };
        ensure!(
            format.is_some() || pair.is_none(),
            Fault::new("a line of plain text holds no second text", "give pairs as TSV, CSV, JSONL or Parquet")
        );
        let columns = Columns { header: !args.no_header, text: column(&args.text), pair, label: None };
        Ok(Self { path: args.input.clone(), format, columns })
    }

    /// The tasks `named`, or all that these rows fit.
    ///
    /// # Errors
    /// When one doesn't exist or doesn't fit.
    pub(crate) fn tasks<'a>(&self, named: &[String], heads: &'a [TaskSpec]) -> Result<Vec<&'a TaskSpec>> {
        let has_pairs = self.columns.pair.is_some();
        let known: Vec<&str> = heads.iter().map(|head| head.name.as_str()).collect();
        for name in named {
            let head = heads.iter().find(|head| head.name == *name).ok_or_else(|| {
                let several: Vec<_> = name.split(',').map(|name| format!("--task {}", name.trim())).collect();
                let hint = match closest(name, known.iter().copied()) {
                    _ if several.len() > 1 => format!("name each by itself: `{}`", several.join(" ")),
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("its tasks are {}", known.join(", ")),
                };
                Fault::new(format!("the model has no task `{name}`"), hint)
            })?;
            ensure!(
                head.is_pair() == has_pairs,
                if has_pairs {
                    Fault::new(
                        format!("`{name}` is a task of single texts, and the rows are pairs"),
                        "leave out `--pair`",
                    )
                } else {
                    let message = format!("`{name}` is a task of pairs, and the rows are single texts");
                    Fault::new(message, "name the column of the second text with `--pair`")
                }
            );
        }
        let fits = |head: &&TaskSpec| head.is_pair() == has_pairs && (named.is_empty() || named.contains(&head.name));
        let tasks: Vec<_> = heads.iter().filter(fits).collect();
        ensure!(!tasks.is_empty(), Fault::new("the model has no task of pairs", "leave out `--pair`"));
        Ok(tasks)
    }

    pub(crate) fn records(&self) -> Result<Records<'_>> {
        // A text of plain lines is read as a table of one column.
        let source = Source {
            path: &self.path,
            format: self.format.unwrap_or(Format::Tsv),
            columns: &self.columns,
            label_may_lack: true,
            broken: None,
        };
        if self.format.is_some() { source.records() } else { lines(source) }
    }
}

fn lines(source: Source<'_>) -> Result<Records<'_>> {
    let lines = source.open()?.split(b'\n').zip(1..);
    Ok(Box::new(lines.map(move |(line, number)| {
        let mut line = line.with_context(|| source.reading())?;
        line.pop_if(|last| *last == b'\r');
        Ok(Record { number, text: source.utf8(number, line)?, pair: None, label: None })
    })))
}

fn format(args: &PredictArgs) -> Result<Option<Format>> {
    let ends_in = |path: &Path, ending: &str| path.extension().is_some_and(|own| own.eq_ignore_ascii_case(ending));
    let unpacked = if ends_in(&args.input, "gz") { args.input.with_extension("") } else { args.input.clone() };
    let is_text = ends_in(&unpacked, "txt");
    Ok(match args.input_format {
        Some(InputFormat::Text) => None,
        Some(InputFormat::Jsonl) => Some(Format::Jsonl),
        Some(InputFormat::Csv) => Some(Format::Csv),
        Some(InputFormat::Tsv) => Some(Format::Tsv),
        Some(InputFormat::Parquet) => Some(Format::Parquet),
        None if is_text || args.input == Path::new(STDIN) => None,
        None => Some(Format::of(&args.input).map_err(|_| {
            let message = format!("the ending of `{}` tells no format", args.input.display());
            Fault::new(message, "say `--input-format text`, `jsonl`, `csv`, `tsv` or `parquet`")
        })?),
    })
}

/// A whole number from 1 on is a column's number.
fn column(text: &str) -> Column {
    text.parse().ok().filter(|number| *number > 0).map_or_else(|| Column::Name(text.to_owned()), Column::Number)
}
