//! What a label's text means: a class index, or a value in the task's range.

use anyhow::Result;
use bam_contract::task::TaskSpec;

use super::{Record, Source};

impl Source<'_> {
    /// The label of a record in the task's terms.
    ///
    /// # Errors
    /// When it is none of the task's labels, no number, or out of range.
    pub fn label(&self, task: &TaskSpec, record: &Record) -> Result<Option<f64>> {
        let Some(raw) = record.label.as_deref().map(str::trim) else {
            return Ok(None);
        };
        if raw.is_empty() {
            return if self.label_may_lack { Ok(None) } else { Err(self.no_label(record.number)) };
        }
        let label = match task.range {
            Some(range) => self.value(task, range, raw, record.number)?,
            None if task.cuts.is_empty() => self.class(task, raw, record.number)?,
            None => {
                let value = self.number(raw, record.number)?;
                task.cuts.iter().filter(|cut| value >= **cut).count() as f64
            }
        };
        Ok(Some(label))
    }

    fn no_label(&self, number: u64) -> anyhow::Error {
        self.fault(number, "no label", "only rows of test files may lack theirs")
    }

    fn class(&self, task: &TaskSpec, raw: &str, number: u64) -> Result<f64> {
        let spellings = if task.spelled.is_empty() { &task.labels } else { &task.spelled };
        if let Some(class) = spellings.iter().position(|spelling| spelling == raw) {
            return Ok(class as f64);
        }
        let known: Vec<_> = spellings.iter().map(|spelling| format!("`{spelling}`")).collect();
        let hint = format!("the labels of `{}` are {}", task.name, known.join(", "));
        Err(self.fault(number, format!("unknown label `{raw}`"), hint))
    }

    fn value(&self, task: &TaskSpec, [least, greatest]: [f64; 2], raw: &str, number: u64) -> Result<f64> {
        let value = self.number(raw, number)?;
        if (least..=greatest).contains(&value) {
            return Ok(value);
        }
        let hint = format!("the values of `{}` lie between {least} and {greatest}", task.name);
        Err(self.fault(number, format!("value {raw} is out of range"), hint))
    }

    fn number(&self, raw: &str, number: u64) -> Result<f64> {
        let value = raw.parse().ok().filter(|value: &f64| value.is_finite());
        value.ok_or_else(|| self.fault(number, format!("`{raw}` is not a number"), "is `label` the right column?"))
    }
}
