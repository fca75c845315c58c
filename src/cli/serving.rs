//! The arguments of `predict` and `serve`.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;

use bytesize::ByteSize;
use clap::{Args, ValueEnum};

use super::at_least_one;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bam predict --input reviews.csv --text review --output answers.parquet
  cat lines.txt | bam predict onnx --task sentiment
  bam predict 4f2a91c0 --input pairs.tsv --text first --pair second --logits

Rows are answered in their order, by all tasks in one pass of the encoder. Without --pair they are single texts, unless \
all tasks asked for are of pairs: then the second text is the column `pair`.")]
pub(crate) struct PredictArgs {
    /// A stage, the start of a fingerprint, or the folder or file of an ONNX model [default: what the last run exported that ended well]
    pub(crate) model: Option<String>,

    /// Rows to answer; `-` is stdin
    #[arg(long, short, value_name = "FILE", default_value = "-")]
    pub(crate) input: PathBuf,

    /// Where answers go; `-` is stdout
    #[arg(long, short, value_name = "FILE", default_value = "-")]
    pub(crate) output: PathBuf,

    /// How the input is laid out [default: by its ending; `text` for stdin]
    #[arg(long, value_name = "FORMAT")]
    pub(crate) input_format: Option<InputFormat>,

    /// How answers are written [default: by the output's ending; `jsonl` for stdout]
    #[arg(long, value_name = "FORMAT")]
    pub(crate) output_format: Option<OutputFormat>,

    /// Column of the text: its name, or its number from 1
    #[arg(long, value_name = "COLUMN", default_value = "text")]
    pub(crate) text: String,

    /// Column of the second text of a pair
    #[arg(long, value_name = "COLUMN")]
    pub(crate) pair: Option<String>,

    /// The first row of a CSV or TSV file holds no names
    #[arg(long)]
    pub(crate) no_header: bool,

    /// Answer only this task. May be given again
    #[arg(long = "task", value_name = "TASK")]
    pub(crate) tasks: Vec<String>,

    /// Write the heads' plain outputs too
    #[arg(long)]
    pub(crate) logits: bool,

    /// CPU threads [default: all cores]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(crate) threads: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum InputFormat {
    /// One text a line
    Text,
    Jsonl,
    Csv,
    Tsv,
    Parquet,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    Jsonl,
    Arrow,
    Parquet,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bam serve                             the last run's export, on this machine
  bam serve onnx --listen 0.0.0.0:8080 --api-keys keys.txt
  curl 127.0.0.1:8080/v1/predict --json '{\"inputs\": \"a fine day\"}'

`/` is a page to try it, `/docs` the API, `/metrics` for Prometheus. A newer model is taken up while requests go on: that of \
the stage, or by default of a run that ended well. SIGTERM or Ctrl-C: no new connections, those there are answered; a second one ends at once.")]
pub(crate) struct ServeArgs {
    /// A stage, the start of a fingerprint, or the folder or file of an ONNX model [default: what the last run exported that ended well]
    pub(crate) model: Option<String>,

    /// Address or name, and port, to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080", value_parser = address)]
    pub(crate) listen: SocketAddr,

    /// File of keys, one a line; requests must then bring one (`Authorization: Bearer KEY`)
    #[arg(long, value_name = "FILE")]
    pub(crate) api_keys: Option<PathBuf>,

    /// Listen where others can reach it though there are no keys
    #[arg(long)]
    pub(crate) insecure: bool,

    /// Let pages of this origin call, such as `https://example.org`. May be given again
    #[arg(long = "cors", value_name = "ORIGIN")]
    pub(crate) cors: Vec<String>,

    /// CPU threads, shared by the sessions [default: all cores]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(crate) threads: Option<usize>,

    /// Copies of the model that share the threads and compute side by side; of several there is one more, of all threads, for few rows that come alone [default: one a thread, while they take a quarter of free memory at most]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(crate) sessions: Option<usize>,

    #[command(flatten)]
    pub(crate) bounds: BoundArgs,
}

#[derive(Debug, Args)]
pub(crate) struct BoundArgs {
    /// Most tokens of a batch, padding included
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = at_least_one)]
    pub(crate) batch_tokens: usize,

    /// Most tokens that wait, whatever they take; beyond them 429
    #[arg(long, value_name = "N", default_value_t = 65_536, value_parser = at_least_one)]
    pub(crate) queue_tokens: usize,

    /// Refuse with 429 an input that would wait longer for a session than this; in a rush, than a quarter of it. Requests of
    /// many inputs may wait longer
    #[arg(long, value_name = "TIME", default_value = "80ms")]
    pub(crate) max_wait: humantime::Duration,

    /// Most inputs of one request
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = at_least_one)]
    pub(crate) max_inputs: usize,

    /// Largest body of a request
    #[arg(long, value_name = "SIZE", default_value = "1MiB")]
    pub(crate) max_body: ByteSize,

    /// Most connections at a time; others wait, and quiet ones give way
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = at_least_one)]
    pub(crate) connections: usize,

    /// A request is given up after this long, from the end of its head on, and a client that does not read its answer
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = some_time)]
    pub(crate) timeout: humantime::Duration,

    /// How long a connection may be quiet
    #[arg(long, value_name = "TIME", default_value = "75s", value_parser = some_time)]
    pub(crate) keep_alive: humantime::Duration,

    /// How long requests may take to end once the server is told to stop
    #[arg(long, value_name = "TIME", default_value = "30s")]
    pub(crate) drain: humantime::Duration,
}

/// An address as it is, or the first that a name leads to: of the older kind if there is one, as most clients try.
fn address(text: &str) -> Result<SocketAddr, String> {
    if let Some(port) = text.strip_prefix(':') {
        return Err(format!("it lacks the host: `127.0.0.1:{port}` for this machine alone, `0.0.0.0:{port}` for all"));
    }
    let found: Vec<SocketAddr> = text
        .to_socket_addrs()
        .map_err(|error| format!("{error}; give host and port, such as `127.0.0.1:8080`"))?
        .collect();
    let older = found.iter().find(|address| address.is_ipv4());
    older.or(found.first()).copied().ok_or_else(|| "the name leads to no address".to_owned())
}

fn some_time(text: &str) -> Result<humantime::Duration, String> {
    let time: humantime::Duration = text.parse().map_err(|error: humantime::DurationError| error.to_string())?;
    if time.is_zero() { Err("give a time above zero, such as `30s`".to_owned()) } else { Ok(time) }
}
