//! Logits of many rows without training, and what they score.

use anyhow::Result;
use bam_contract::artifact::tokens::{TokenRows, Tokens};
use bam_contract::metric::Metric;
use bam_contract::task::{Split, TaskSpec};

use crate::crew::{Crew, Shared};
use crate::encoder::{Batch, Model};
use bam_inference::padding::{OF_LIBTORCH, OF_ONNX_RUNTIME, Padded, in_passes};
use bam_inference::session::OnnxSession;

/// Rows that are held, and sorted by length, at a time: a million take no more memory.
const HELD_ROWS: usize = 16_384;

/// All rows of those chunks in their order, as many at a time as are held.
pub(crate) fn held(mut chunks: impl Iterator<Item = Result<TokenRows>>) -> impl Iterator<Item = Result<TokenRows>> {
    std::iter::from_fn(move || {
        let mut rows = TokenRows::default();
        while rows.len() < HELD_ROWS {
            match chunks.next() {
                Some(Ok(chunk)) => rows.append(chunk),
                Some(error) => return Some(error),
                None => break,
            }
        }
        (!rows.is_empty()).then_some(Ok(rows))
    })
}

/// What `logits` says of all rows of a split.
pub(crate) fn of_split(
    tokens: &Tokens,
    split: Split,
    mut logits: impl FnMut(&TokenRows) -> Result<Vec<f32>>,
) -> Result<Vec<f32>> {
    let mut all = Vec::new();
    for rows in held(tokens.chunks(split)?) {
        all.extend(logits(&rows?)?);
    }
    Ok(all)
}

/// A model's outputs for all rows under libtorch, `outputs` per row in the order of the rows. The rows of a pass are divided
/// among the crew's threads.
pub(crate) fn logits(
    model: &Model,
    head: usize,
    rows: &TokenRows,
    pad_id: u32,
    crew: &Crew,
    progress: impl FnMut(usize),
) -> Vec<f32> {
    let (outputs, shared) = (model.tasks[head].outputs(), Shared(model));
    let pass_logits = |pass: &[usize]| {
        let lengths: Vec<_> = pass.iter().map(|row| rows.tokens(*row)).collect();
        let parts = crew.divide(&lengths);
        let computed = crew.compute(&parts, |part| {
            let model = shared.model();
            let token_rows: Vec<_> = part.iter().map(|place| (rows, pass[*place])).collect();
            let batch = Batch::new(&token_rows, &[part.len()], pad_id, i64::from, model.placement());
            Vec::<f32>::try_from(model.predict_bc(head, &batch).flatten(0, -1))
        });
        let mut logits = vec![0.0; pass.len() * outputs];
        for (part, of_part) in parts.iter().zip(computed) {
            for (place, values) in part.iter().zip(of_part?.chunks(outputs)) {
                logits[place * outputs..(place + 1) * outputs].copy_from_slice(values);
            }
        }
        Ok(logits)
    };
    in_passes(rows, OF_LIBTORCH, outputs, pass_logits, progress).expect("libtorch gives fp32 logits")
}

/// The same under ONNX Runtime, of the task's own output of the graph.
pub(crate) fn onnx_logits(
    session: &mut OnnxSession,
    task: &TaskSpec,
    rows: &TokenRows,
    pad_id: u32,
) -> Result<Vec<f32>> {
    let pass_logits = |pass: &[usize]| {
        let token_rows: Vec<_> = pass.iter().map(|row| (rows, *row)).collect();
        session.run(&Padded::new(&token_rows, pad_id), &task.name)
    };
    in_passes(rows, OF_ONNX_RUNTIME, task.outputs(), pass_logits, |_| {})
}

/// A task's metrics over labelled rows; none where a row has no label.
pub(crate) fn metrics(task: &TaskSpec, labels: &[Option<f64>], logits: &[f32]) -> Vec<(Metric, f64)> {
    let Some(gold) = labels.iter().copied().collect::<Option<Vec<_>>>().filter(|gold| !gold.is_empty()) else {
        return Vec::new();
    };
    let predicted: Vec<_> = logits.chunks(task.outputs()).map(|logits| task.prediction(logits)).collect();
    task.metrics.iter().map(|metric| (*metric, task.score(*metric, &predicted, &gold))).collect()
}

#[cfg(test)]
mod tests {
    use bam_contract::stage::{Precision, RegressionOutput};
    use tch::Device;

    use super::*;
    use crate::onnx::fixture::{Export, nli_and_sim};

    fn rows(count: u32) -> TokenRows {
        let mut rows = TokenRows::default();
        for row in 0..count {
            let length = 2 + row * 7 % 13;
            let ids: Vec<u32> = (0..length).map(|place| 5 + (row * 37 + place * 101) % 250).collect();
            rows.push(i64::from(row), false, None, &ids, &vec![0; ids.len()], 0);
        }
        rows
    }

    fn model(precision: Precision) -> Model {
        let export = Export::of(nli_and_sim(), RegressionOutput::default());
        Model::open(&export.model(), precision, Device::Cpu).unwrap().0
    }

    fn greatest_difference(one: &[f32], other: &[f32]) -> f32 {
        assert_eq!(one.len(), other.len());
        one.iter().zip(other).map(|(one, other)| (one - other).abs()).fold(0.0, f32::max)
    }

    #[test]
    fn rows_that_threads_share_are_answered_as_by_one_and_in_their_order() {
        let (model, rows) = (model(Precision::Fp32), rows(300));
        let by = |crew: &Crew| logits(&model, 0, &rows, 0, crew, |_| {});
        let (alone, shared) = (by(&Crew::alone()), by(&Crew::new(3, Device::Cpu).unwrap()));
        let difference = greatest_difference(&alone, &shared);
        assert!(difference < 1e-5, "{difference}");
        assert_eq!(alone.len(), 300 * model.tasks[0].outputs());
        assert_ne!(alone[..3], alone[3..6]);
    }

    #[test]
    fn no_row_has_no_answer_and_one_that_which_it_has_among_others() {
        let (model, all) = (model(Precision::Fp32), rows(9));
        for crew in [Crew::alone(), Crew::new(3, Device::Cpu).unwrap()] {
            let of = |rows: &TokenRows| logits(&model, 0, rows, 0, &crew, |_| {});
            assert_eq!(of(&rows(0)), Vec::<f32>::new());
            for (row, among) in of(&all).chunks(3).enumerate() {
                let difference = greatest_difference(&of(&all.select(&[row])), among);
                assert!(difference < 1e-5, "row {row}: {difference}");
            }
        }
    }

    #[test]
    fn answers_in_bf16_are_near_those_in_fp32() {
        let (rows, crew) = (rows(100), Crew::new(2, Device::Cpu).unwrap());
        for head in [0, 1] {
            let [one, other] = [Precision::Fp32, Precision::Bf16]
                .map(|precision| logits(&model(precision), head, &rows, 0, &crew, |_| {}));
            let difference = greatest_difference(&one, &other);
            assert!(difference > 0.0 && difference < 0.05, "head {head}: {difference}");
        }
    }

    #[test]
    fn chunks_of_any_size_are_held_in_their_order_and_no_more_than_need_be() {
        for size in [1_u32, 700, 8192, 20_000] {
            let chunks = (0..40_000 / size).map(|chunk| {
                let mut rows = TokenRows::default();
                for id in chunk * size..(chunk + 1) * size {
                    rows.push(i64::from(id), false, None, &[id % 300, 3], &[0, 0], 0);
                }
                Ok(if chunk % 3 == 1 { TokenRows::default() } else { rows })
            });
            let windows: Vec<TokenRows> = held(chunks).map(Result::unwrap).collect();
            let (last, others) = windows.split_last().unwrap();
            let most = HELD_ROWS + size as usize;
            assert!(others.iter().all(|rows| (HELD_ROWS..most).contains(&rows.len())), "chunks of {size}");
            assert!(!last.is_empty() && last.len() < most, "chunks of {size}");
            let ids: Vec<i64> = windows.iter().flat_map(|rows| rows.ids.iter().copied()).collect();
            let expected = (0..40_000 / size * size).filter(|id| id / size % 3 != 1).map(i64::from);
            assert!(expected.eq(ids), "chunks of {size}");
            let first_of = |rows: &TokenRows, row: usize| i64::from(rows.input_ids(row)[0]) == rows.ids[row] % 300;
            assert!(windows.iter().all(|rows| (0..rows.len()).all(|row| first_of(rows, row))), "chunks of {size}");
        }
        let failing = [Ok(rows(3)), Err(anyhow::anyhow!("broken")), Ok(rows(3))];
        assert!(held(failing.into_iter()).next().unwrap().is_err());
    }
}
