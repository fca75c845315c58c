//! The course of each training.

use std::path::Path;

use anyhow::Result;
use bam_contract::artifact::history::{HistoryColumns, read_history};
use serde::Serialize;

/// Points of a curve that are told of; more than these no screen shows.
const MOST_POINTS: usize = 200;

#[derive(Debug, Serialize)]
pub(crate) struct Training {
    pub(crate) stage: String,
    pub(crate) steps: usize,
    /// `loss`, `lambda`, `learning_rate`, `dev/rte/accuracy` …; means over a few steps each where there are many.
    pub(crate) curves: Vec<Curve>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Curve {
    pub(crate) name: String,
    /// Step and value.
    pub(crate) points: Vec<(f64, f64)>,
}

/// Columns that say where a value stands, and those that tell of the machine.
const NO_CURVES: [&str; 3] = ["step", "epoch", "rows_per_second"];

pub(super) fn read(stage: &str, folder: &Path) -> Result<Training> {
    let columns = read_history(folder)?;
    let steps = columns.first().map_or(0, |(_, values)| values.len());
    Ok(Training { stage: stage.to_owned(), steps, curves: curves(&columns) })
}

fn curves(columns: &HistoryColumns) -> Vec<Curve> {
    let curve = |(name, values): &(String, Vec<Option<f64>>)| {
        let points = values.iter().enumerate().filter_map(|(step, value)| Some((step as f64, (*value)?)));
        Curve { name: name.clone(), points: thinned(&points.collect::<Vec<_>>()) }
    };
    columns.iter().filter(|(name, _)| !NO_CURVES.contains(&name.as_str())).map(curve).collect()
}

/// Means of neighbours, so that at most [`MOST_POINTS`] are left.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let together = points.len().div_ceil(MOST_POINTS).max(1);
    let mean = |points: &[(f64, f64)]| {
        let count = points.len() as f64;
        let (x, y) = points.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0, y + point.1));
        (x / count, y / count)
    };
    points.chunks(together).map(mean).collect()
}

impl Training {
    pub(super) fn curve(&self, name: &str) -> Option<&Curve> {
        self.curves.iter().find(|curve| curve.name == name)
    }

    /// Curves of λ, with the task's name where it has one of its own.
    pub(super) fn gold_shares(&self) -> impl Iterator<Item = (Option<&str>, &Curve)> {
        self.curves.iter().filter_map(|curve| match curve.name.strip_prefix("lambda")? {
            "" => Some((None, curve)),
            task => Some((Some(task.strip_prefix('/')?), curve)),
        })
    }

    /// Curves of dev metrics, named `rte/accuracy`.
    pub(super) fn dev(&self) -> impl Iterator<Item = (&str, &Curve)> {
        self.curves.iter().filter_map(|curve| Some((curve.name.strip_prefix("dev/")?, curve)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_points_become_means_of_neighbours() {
        let points: Vec<(f64, f64)> = (0..1000).map(|at| (f64::from(at), f64::from(at * 2))).collect();
        let thin = thinned(&points);
        assert_eq!((thin.len(), thin[0]), (200, (2.0, 4.0)));
        assert_eq!(thinned(&points[..3]), &points[..3]);
        assert_eq!(thinned(&[]), []);
    }
}
