//! The curves of each training as event files of `TensorBoard`: records, framed with checksums, of protobuf events.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result};
use bam_contract::artifact::history::read_history;
use bam_contract::manifest::Manifest;
use prost::Message;

/// Around the time in the name of an event file.
const PREFIX: &str = "events.out.tfevents.";
const SUFFIX: &str = ".bam";

/// The fields of TensorFlow's `Event` that are used here.
#[derive(Clone, PartialEq, Message)]
struct Event {
    #[prost(double, tag = "1")]
    wall_secs: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    values: Vec<Scalar>,
}

#[derive(Clone, PartialEq, Message)]
struct Scalar {
    #[prost(string, tag = "1")]
    tag: String,
    /// Optional, so that a 0 is written too.
    #[prost(float, optional, tag = "2")]
    value: Option<f32>,
}

/// Writes a training's history into a folder of its stage's name, in place of what was written there before.
pub(crate) fn write(folder: &Path, stage: &str, checkpoint: &Path, manifest: &Manifest) -> Result<()> {
    let columns = read_history(checkpoint)?;
    let steps = columns.first().map_or(0, |(_, values)| values.len());
    let made = &manifest.provenance;
    let started = made.finished_unix_secs as f64 - made.wall_secs;
    let folder = folder.join(stage);
    fs::create_dir_all(&folder).with_context(|| format!("creating `{}`", folder.display()))?;
    remove_earlier(&folder)?;
    let path = folder.join(format!("{PREFIX}{:010}{SUFFIX}", started as u64));
    let mut file = BufWriter::new(File::create(&path).with_context(|| format!("creating `{}`", path.display()))?);
    let version = Some("brain.Event:2".to_owned());
    record(&mut file, &Event { wall_secs: started, step: 0, file_version: version, summary: None })?;
    for step in 0..steps {
        let scalars = columns
            .iter()
            .filter(|(name, _)| name != "step")
            .filter_map(|(name, values)| Some(Scalar { tag: name.clone(), value: Some(values[step]? as f32) }));
        let summary = Some(Summary { values: scalars.collect() });
        // When each step ended was not kept: they are spread evenly.
        let wall_secs = started + made.wall_secs * (step + 1) as f64 / steps as f64;
        record(&mut file, &Event { wall_secs, step: step as i64, file_version: None, summary })?;
    }
    Ok(file.flush()?)
}

/// Takes away the curves of an earlier training, which would be drawn into those of this one.
fn remove_earlier(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("reading `{}`", folder.display()))? {
        let entry = entry?;
        let name = entry.file_name();
        if name.to_str().is_some_and(|name| name.starts_with(PREFIX) && name.ends_with(SUFFIX)) {
            fs::remove_file(entry.path()).with_context(|| format!("removing `{}`", entry.path().display()))?;
        }
    }
    Ok(())
}

/// Length, its checksum, the event, its checksum.
fn record(file: &mut impl Write, event: &Event) -> Result<()> {
    let bytes = event.encode_to_vec();
    let length = (bytes.len() as u64).to_le_bytes();
    for part in [&length[..], &masked(&length).to_le_bytes(), &bytes, &masked(&bytes).to_le_bytes()] {
        file.write_all(part)?;
    }
    Ok(())
}

/// A checksum of bytes that hold checksums themselves is weak, so the format turns it about.
fn masked(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes that the `RecordWriter` of `TensorBoard` itself makes of the same events.
    #[test]
    fn records_equal_tensorboards() {
        let mut file = Vec::new();
        record(
            &mut file,
            &Event { wall_secs: 1.5, step: 0, file_version: Some("brain.Event:2".to_owned()), summary: None },
        )
        .unwrap();
        let values = vec![
            Scalar { tag: "loss".to_owned(), value: Some(0.25) },
            Scalar { tag: "lambda".to_owned(), value: Some(0.0) },
        ];
        record(&mut file, &Event { wall_secs: 2.5, step: 7, file_version: None, summary: Some(Summary { values }) })
            .unwrap();
        let hex: String = file.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, EXPECTED);
    }

    const EXPECTED: &str = "1800000000000000a37f4b2209000000000000f83f1a0d627261696e2e4576656e743a322a28646c290000000000000037ff\
        5f0009000000000000044010072a1c0a0b0a046c6f7373150000803e0a0d0a066c616d6264611500000000ddd8960f";
}
