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

use anyhow::{Context, Result, bail};
use bam_contract::fault::Fault;
use bam_contract::task::{Columns, Format, Split, TaskSpec};
use flate2::read::MultiGzDecoder;
use serde_json::{Map, Value};

pub use columns::other_separator;

/// What a gzipped file begins with, and what UTF-16 does.
const GZIP: [u8; 2] = [0x1f, 0x8b];
const UTF_16: [[u8; 2]; 2] = [[0xff, 0xfe], [0xfe, 0xff]];

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

/// Rows of a table of text by their fields, with their numbers from 1.
pub type Fields<'a> = Box<dyn Iterator<Item = Result<(u64, Vec<String>)>> + 'a>;

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

    /// The rows of TSV or CSV as they stand, the names among them where there are any.
    ///
    /// # Errors
    /// When the file cannot be opened; each row when it cannot be read, or is not as wide as the first.
    pub fn fields(&self) -> Result<Fields<'a>> {
        match self.format {
            Format::Tsv => tsv::fields(*self),
            Format::Csv => csv::fields(*self),
            Format::Jsonl | Format::Parquet => bail!("`{}` has no fields of text", self.path.display()),
        }
    }

    /// The rows of JSONL as they stand, with their numbers from 1.
    ///
    /// # Errors
    /// When the file cannot be opened; each row when it cannot be read.
    pub fn objects(&self) -> Result<impl Iterator<Item = Result<(u64, Map<String, Value>)>> + use<'a>> {
        jsonl::objects(*self)
    }

    /// The file's bytes, unpacked where its name ends in `.gz`, or where what comes on stdin begins as such a file does.
    pub fn open(&self) -> Result<Box<dyn BufRead>> {
        if self.is_stdin() {
            let mut input = io::stdin().lock();
            let is_packed = input.fill_buf().with_context(|| self.reading())?.starts_with(&GZIP);
            return Ok(if is_packed { Box::new(BufReader::new(MultiGzDecoder::new(input))) } else { Box::new(input) });
        }
        let file = File::open(self.path).with_context(|| format!("opening `{}`", self.path.display()))?;
        if self.is_gzipped() {
            return Ok(Box::new(BufReader::new(MultiGzDecoder::new(file))));
        }
        Ok(Box::new(BufReader::new(file)))
    }

    /// What failed where its bytes did not come.
    pub fn reading(&self) -> Fault {
        let hint = if self.is_stdin() {
            "is it whole? what is gzipped, `gzip -t` says it of"
        } else if self.is_gzipped() {
            "`gzip -t FILE` says whether it is whole"
        } else {
            "is it a file, on a disk that is there?"
        };
        Fault::new(format!("reading `{}`", self.path.display()), hint)
    }

    fn is_stdin(&self) -> bool {
        self.path == Path::new(STDIN)
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
        String::from_utf8(bytes).map_err(|error| {
            let is_utf_16 = UTF_16.iter().any(|mark| error.as_bytes().starts_with(mark));
            let (what, encoding) =
                if is_utf_16 { ("UTF-16, not UTF-8", "UTF-16") } else { ("not valid UTF-8", "WINDOWS-1252") };
            self.fault(number, what, format!("convert the file, for example with `iconv -f {encoding} -t UTF-8`"))
        })
    }
}
