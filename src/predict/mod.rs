//! Rows of a file through an exported model: read, cut, answered and written window by window, so that a file of any
//! length takes the same memory.

mod input;
mod output;
mod pending;
mod target;

use anyhow::Result;
use bam_contract::fault::Fault;
use bam_contract::task::TaskSpec;
use bam_inference::model::{OnnxModel, Texts};
use bam_inference::padding::{OF_ONNX_RUNTIME, in_passes};
use bam_inference::rows::Record;
use bam_inference::session::OnnxSession;

pub(crate) use input::Rows;
pub(crate) use output::Sink;
pub(crate) use pending::Pending;

/// Rows and characters that are sorted by length together.
const WINDOW_ROWS: usize = 4096;
const WINDOW_BYTES: usize = 4 << 20;

/// What came of a file.
#[derive(Debug, Default)]
pub(crate) struct Done {
    pub(crate) rows: usize,
    /// Rows that lost tokens.
    pub(crate) cut: usize,
}

/// Answers all rows, in their order. `progress` hears of the rows done.
pub(crate) fn run(
    model: &OnnxModel,
    session: &mut OnnxSession,
    rows: &Rows,
    tasks: &[&TaskSpec],
    mut sink: Sink,
    mut progress: impl FnMut(usize),
) -> Result<Done> {
    let mut done = Done::default();
    let mut records = rows.records()?;
    loop {
        let window = window(&mut records)?;
        if window.is_empty() {
            sink.finish()?;
            return Ok(done);
        }
        let texts: Vec<_> =
            window.iter().map(|record| Texts { text: &record.text, pair: record.pair.as_deref() }).collect();
        let tokens = model.encode(&texts)?;
        let names: Vec<&str> = tasks.iter().map(|task| task.name.as_str()).collect();
        let outputs: Vec<usize> = tasks.iter().map(|task| task.outputs()).collect();
        let width = outputs.iter().sum();
        let of_pass = |pass: &[usize]| {
            let token_rows: Vec<_> = pass.iter().map(|row| (&tokens, *row)).collect();
            let by_task = model.run(session, &token_rows, &names)?;
            Ok(side_by_side(&by_task, &outputs, pass.len()))
        };
        let logits = in_passes(&tokens, OF_ONNX_RUNTIME, width, of_pass, |ready| progress(done.rows + ready))?;
        if let Some(at) = logits.iter().position(|logit| !logit.is_finite()) {
            let message = format!("the model's answer to row {} is not a number", done.rows + at / width + 1);
            return Err(Fault::new(message, "train and export the model again: its weights are broken").into());
        }
        sink.write(&tokens.lost_tokens, &logits)?;
        done.rows += tokens.len();
        done.cut += tokens.lost_tokens.iter().filter(|lost| **lost > 0).count();
    }
}

fn window(records: &mut impl Iterator<Item = Result<Record>>) -> Result<Vec<Record>> {
    let (mut window, mut bytes) = (Vec::new(), 0);
    while window.len() < WINDOW_ROWS && bytes < WINDOW_BYTES {
        let Some(record) = records.next().transpose()? else { break };
        bytes += record.text.len() + record.pair.as_ref().map_or(0, String::len);
        window.push(record);
    }
    Ok(window)
}

/// Outputs by task, each row by row, as rows that have all tasks' outputs.
fn side_by_side(by_task: &[Vec<f32>], outputs: &[usize], rows: usize) -> Vec<f32> {
    let of_row = |row: usize| {
        by_task.iter().zip(outputs).flat_map(move |(values, outputs)| &values[row * outputs..(row + 1) * outputs])
    };
    (0..rows).flat_map(of_row).copied().collect()
}
