//! `ensemble`: tables of predictions made one, by averaging what models say of the same rows, or by joining what
//! they say of different ones.

use anyhow::{Result, ensure};
use bam_contract::artifact::predictions::{PredictionRows, Predictions};
use bam_contract::fault::Fault;
use bam_contract::job::{Job, JobInput};
use bam_contract::stage::{Average, EnsembleParams};
use bam_contract::task::{Split, TaskSpec};

use crate::report::{Outcome, Reporter};
use crate::text::thousands;

/// Predictions of one stage.
struct Member {
    stage: String,
    predictions: Predictions,
}

pub(crate) fn run(params: &EnsembleParams, job: &Job, reporter: &Reporter) -> Result<Outcome> {
    let open =
        |input: &JobInput| Ok(Member { stage: input.stage.clone(), predictions: Predictions::open(&input.path)? });
    let members = job.inputs_of("predictions").map(open).collect::<Result<Vec<_>>>()?;
    check_alike(&members)?;
    let Predictions { task, splits, .. } = &members[0].predictions;
    let mut total = 0;
    for (done, split) in splits.iter().enumerate() {
        reporter.progress(done as u64, splits.len() as u64, "split", split.name());
        let tables = members.iter().map(|member| Ok((member.stage.as_str(), member.predictions.read(*split)?)));
        let rows = if params.join {
            joined(&tables.collect::<Result<Vec<_>>>()?, task, *split)?
        } else {
            averaged(tables, task, *split, params.average)?
        };
        total += rows.ids.len();
        Predictions::write(&job.output, *split, task, rows, job.fingerprint)?;
    }
    let how = if params.join { "joined from" } else { "averaged over" };
    Ok(format!("{} rows of {}, {how} {} tables", thousands(total), task.name, members.len()).into())
}

/// All must be of one task, with the same labels in the same order, and hold the same splits.
fn check_alike(members: &[Member]) -> Result<()> {
    let (first, others) = members.split_first().expect("an ensemble has a member");
    let (name, one) = (&first.stage, &first.predictions);
    for Member { stage, predictions: other } in others {
        ensure!(
            other.task.name == one.task.name,
            Fault::new(
                format!("`{name}` predicts the task `{}`, `{stage}` the task `{}`", one.task.name, other.task.name),
                "an ensemble is of one task"
            )
        );
        ensure!(
            other.task.labels == one.task.labels && other.task.range == one.task.range,
            Fault::new(
                format!(
                    "`{name}` names the labels of `{}` {:?}, `{stage}` {:?}",
                    one.task.name, one.task.labels, other.task.labels
                ),
                "all must be made from the same task definition"
            )
        );
        ensure!(
            other.splits == one.splits,
            Fault::new(
                format!("`{name}` holds the splits {}, `{stage}` {}", names(&one.splits), names(&other.splits)),
                "give their `predict` stages the same `splits`"
            )
        );
    }
    Ok(())
}

fn names(splits: &[Split]) -> String {
    splits.iter().map(|split| split.name()).collect::<Vec<_>>().join(", ")
}

type Table<'a> = (&'a str, PredictionRows);

/// The mean of what all tables say of each row. Of each but the first only the logits are kept.
fn averaged<'a>(
    mut tables: impl Iterator<Item = Result<Table<'a>>>,
    task: &TaskSpec,
    split: Split,
    average: Average,
) -> Result<PredictionRows> {
    let (name, mut one) = tables.next().expect("an ensemble has a member")?;
    let mut members = vec![std::mem::take(&mut one.logits)];
    for table in tables {
        let (stage, other) = table?;
        ensure!(
            other.ids == one.ids && other.swapped == one.swapped && other.labels == one.labels,
            Fault::new(
                format!("`{name}` and `{stage}` predict different {split} rows of `{}`", task.name),
                "let them predict the same `tokenize` stage; parts that folds left out are put together by `join: true`"
            )
        );
        members.push(other.logits);
    }
    let by_probability = average == Average::Probabilities && !task.is_regression();
    let outputs = task.outputs();
    let mut logits = Vec::with_capacity(members[0].len());
    for row in 0..one.ids.len() {
        let of_row = |member: &Vec<f32>| -> Vec<f64> {
            let logits: Vec<_> =
                member[row * outputs..(row + 1) * outputs].iter().map(|logit| f64::from(*logit)).collect();
            if by_probability { log_probabilities(&logits) } else { logits }
        };
        let said: Vec<_> = members.iter().map(of_row).collect();
        logits.extend((0..outputs).map(|output| {
            let values: Vec<_> = said.iter().map(|member| member[output]).collect();
            let count = values.len() as f64;
            let mean =
                if by_probability { log_sum_exp(&values) - count.ln() } else { values.iter().sum::<f64>() / count };
            mean as f32
        }));
    }
    Ok(PredictionRows { logits, ..one })
}

/// All tables' rows, each from the one table that has it, in the order that tokens have: by `swapped`, then by `id`.
fn joined(tables: &[Table<'_>], task: &TaskSpec, split: Split) -> Result<PredictionRows> {
    let mut places: Vec<_> = tables
        .iter()
        .enumerate()
        .flat_map(|(table, (_, rows))| {
            (0..rows.ids.len()).map(move |row| (rows.swapped[row], rows.ids[row], table, row))
        })
        .collect();
    places.sort_unstable();
    if let Some(twice) = places.windows(2).find(|pair| (pair[0].0, pair[0].1) == (pair[1].0, pair[1].1)) {
        let [(_, id, one, _), (_, _, other, _)] = [twice[0], twice[1]];
        let message =
            format!("`{}` and `{}` both hold the {split} row {id} of `{}`", tables[one].0, tables[other].0, task.name);
        return Err(
            Fault::new(message, "tables are joined where each holds other rows; leave `join` out to average").into()
        );
    }
    let outputs = task.outputs();
    let mut rows = PredictionRows::default();
    for (swapped, id, table, row) in places {
        let from = &tables[table].1;
        rows.ids.push(id);
        rows.swapped.push(swapped);
        rows.labels.push(from.labels[row]);
        rows.logits.extend(&from.logits[row * outputs..(row + 1) * outputs]);
    }
    Ok(rows)
}

fn log_probabilities(logits: &[f64]) -> Vec<f64> {
    let total = log_sum_exp(logits);
    logits.iter().map(|logit| logit - total).collect()
}

fn log_sum_exp(values: &[f64]) -> f64 {
    let greatest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    greatest + values.iter().map(|value| (value - greatest).exp()).sum::<f64>().ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bam_contract::tasks;

    fn table(ids: &[i64], logits: &[f32]) -> PredictionRows {
        PredictionRows {
            ids: ids.to_vec(),
            swapped: vec![false; ids.len()],
            labels: vec![Some(1.0); ids.len()],
            logits: logits.to_vec(),
        }
    }

    fn near(computed: &[f32], expected: &[f64]) {
        assert_eq!(computed.len(), expected.len());
        for (computed, expected) in computed.iter().zip(expected) {
            assert!((f64::from(*computed) - expected).abs() < 1e-6, "{computed} != {expected}");
        }
    }

    /// Two models of a task of two classes. Row 0: logits (0, ln 3) and (ln 4, 0), so probabilities (1/4, 3/4) and
    /// (4/5, 1/5), whose mean is (21/40, 19/40). Row 1: logits that would overflow without care.
    #[test]
    fn averages_by_hand() {
        let task = tasks::builtin("rte").unwrap();
        let tables = [
            ("a", table(&[0, 1], &[0.0, 3.0_f32.ln(), 2000.0, 0.0])),
            ("b", table(&[0, 1], &[4.0_f32.ln(), 0.0, 0.0, 0.0])),
        ];
        let averaged = |average| averaged(tables.clone().into_iter().map(Ok), &task, Split::Train, average).unwrap();
        let probabilities = averaged(Average::Probabilities);
        near(&probabilities.logits, &[0.525_f64.ln(), 0.475_f64.ln(), 0.75_f64.ln(), 0.25_f64.ln()]);
        near(&averaged(Average::Logits).logits, &[4.0_f64.ln() / 2.0, 3.0_f64.ln() / 2.0, 1000.0, 0.0]);
        assert_eq!((probabilities.ids, probabilities.labels), (vec![0, 1], vec![Some(1.0); 2]));
    }

    #[test]
    fn values_are_averaged_as_they_are() {
        let task = tasks::builtin("stsb").unwrap();
        let tables = [("a", table(&[0], &[0.2])), ("b", table(&[0], &[0.6])), ("c", table(&[0], &[1.0]))];
        let averaged = averaged(tables.into_iter().map(Ok), &task, Split::Train, Average::Probabilities);
        near(&averaged.unwrap().logits, &[0.6]);
    }

    #[test]
    fn other_rows_are_refused() {
        let task = tasks::builtin("stsb").unwrap();
        let tables = [("a", table(&[0], &[0.2])), ("b", table(&[1], &[0.6]))];
        let averaged = averaged(tables.into_iter().map(Ok), &task, Split::Train, Average::Logits);
        let error = averaged.unwrap_err().to_string();
        assert_eq!(error, "`a` and `b` predict different train rows of `stsb`");
    }

    #[test]
    fn parts_are_joined_in_the_order_of_tokens() {
        let task = tasks::builtin("stsb").unwrap();
        let mut both_orders = table(&[1, 1], &[0.1, 0.9]);
        both_orders.swapped[1] = true;
        let parts = [("a", both_orders), ("b", table(&[2, 0], &[0.2, 0.0]))];
        let rows = joined(&parts, &task, Split::Train).unwrap();
        assert_eq!((rows.ids, rows.swapped), (vec![0, 1, 2, 1], vec![false, false, false, true]));
        assert_eq!(rows.logits, [0.0, 0.1, 0.2, 0.9]);

        let overlapping = [("a", table(&[0, 1], &[0.0, 0.1])), ("b", table(&[1], &[0.2]))];
        let error = joined(&overlapping, &task, Split::Train).unwrap_err().to_string();
        assert_eq!(error, "`a` and `b` both hold the train row 1 of `stsb`");
    }
}
