//! A source file: where it lies, how it is laid out, and its rows one by one.

mod columns;
mod csv;
mod jsonl;
mod label;
mod parquet;
mod tsv;

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use anyhow::{Context, Result};
use bam_contract::fault::Fault;
use bam_contract::task::{Columns, Format, Split, TaskSpec};
use flate2::read::MultiGzDecoder;

/// The path that stands for standard input.
pub const STDIN: &str = "-";

/// A row as the file has it, its label not yet understood.
#[derive(Debug, PartialEq)]
pub struct Record {
    /// Line of the file, or row of a Parquet file, from 1.
    pub number: u64,
    pub text: String,
    pub pair: Option<String>,
    pub label: Option<String>,
}

/// Rows, read as they are asked for.
pub type Records<'a> = Box<dyn Iterator<Item = Result<Record>> + 'a>;

#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    pub path: &'a Path,
    pub format: Format,
    pub columns: &'a Columns,
    /// Test files may come without labels.
    pub label_may_lack: bool,
    /// Counts rows of the wrong width, which are left out then; without it they are errors.
    pub broken: Option<&'a Cell<usize>>,
}

impl<'a> Source<'a> {
    /// Rows that the task lets be left out are counted in `broken`.
    ///
    /// # Errors
    /// When neither the task nor the file's ending tells the format.
    pub fn new(path: &'a Path, task: &'a TaskSpec, split: Split, broken: &'a Cell<usize>) -> Result<Self> {
        let format = match task.format {
            Some(format) => format,
            None => Format::of(path)?,
        };
        Ok(Self {
            path,
            format,
            columns: task.columns_of(split),
            label_may_lack: split.is_test(),
            broken: task.skip_broken.then_some(broken),
        })
    }

    /// The file's rows.
    ///
    /// # Errors
    /// When the file cannot be opened, or lacks a column; each row when it cannot be read.
    pub fn records(&self) -> Result<Records<'a>> {
        match self.format {
            Format::Tsv => tsv::records(*self),
            Format::Csv => csv::records(*self),
            Format::Jsonl => jsonl::records(*self),
            Format::Parquet => parquet::records(*self),
        }
    }

    /// The file's bytes, unpacked where its name ends in `.gz`.
    pub fn open(&self) -> Result<Box<dyn BufRead>> {
        if self.path == Path::new(STDIN) {
            return Ok(Box::new(io::stdin().lock()));
        }
        let file = File::open(self.path).with_context(|| format!("opening `{}`", self.path.display()))?;
        if self.is_gzipped() {
            return Ok(Box::new(BufReader::new(MultiGzDecoder::new(file))));
        }
        Ok(Box::new(BufReader::new(file)))
    }

    /// What failed where its bytes did not come.
    pub fn reading(&self) -> Fault {
        let hint = if self.is_gzipped() {
            "`gzip -t FILE` says whether it is whole"
        } else {
            "is it a file, on a disk that is there?"
        };
        Fault::new(format!("reading `{}`", self.path.display()), hint)
    }

    pub fn is_gzipped(&self) -> bool {
        self.path.extension().is_some_and(|ending| ending == "gz")
    }

    /// Where a row is, for messages.
    pub fn place(&self, number: u64) -> String {
        match self.format {
            Format::Parquet => format!("`{}` row {number}", self.path.display()),
            _ => format!("`{}:{number}`", self.path.display()),
        }
    }

    /// A mistake in a row.
    pub fn fault(&self, number: u64, what: impl AsRef<str>, hint: impl Into<String>) -> anyhow::Error {
        Fault::new(format!("{}: {}", self.place(number), what.as_ref()), hint).into()
    }

    /// A field's text.
    pub fn utf8(&self, number: u64, bytes: Vec<u8>) -> Result<String> {
        String::from_utf8(bytes).map_err(|_| {
            let hint = "convert the file, for example with `iconv -f WINDOWS-1252 -t UTF-8`";
            self.fault(number, "not valid UTF-8", hint)
        })
    }
}
