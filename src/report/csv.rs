//! The scores as CSV: a line per model, task, split and metric.

use anyhow::Result;

use super::Report;

pub(crate) fn table(report: &Report) -> Result<String> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(["model", "task", "split", "metric", "value", "low", "high", "interval", "rows"])?;
    for line in &report.scores {
        let bound = |value: Option<f64>| value.map(|value| value.to_string()).unwrap_or_default();
        let interval = line.interval;
        writer.write_record([
            line.model.clone(),
            line.task.clone(),
            line.split.to_string(),
            line.metric.name().to_owned(),
            line.value.to_string(),
            bound(interval.map(|interval| interval.low)),
            bound(interval.map(|interval| interval.high)),
            interval.map(|interval| interval.method.name().to_owned()).unwrap_or_default(),
            line.rows.to_string(),
        ])?;
    }
    Ok(String::from_utf8(writer.into_inner()?)?)
}
