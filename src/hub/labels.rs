//! Which number in a label column is which class: by the names in a Parquet file's own metadata, or in the data set's
//! card; never by their order in the task alone.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context, Result};
use bam_contract::fault::Fault;
use bam_contract::task::{Column, Format, Split, TaskSpec};
use parquet::basic::Type;
use parquet::file::metadata::FileMetaData;
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use serde_json::Value;

/// The data set's card, in the root of its repository.
pub(crate) const CARD: &str = "README.md";

/// Fills in how the files of a data set spell a task's labels, where they number them and the task doesn't say.
///
/// # Errors
/// When nothing names the numbers, or the names are others than the task's.
pub(crate) fn spell(task: &mut TaskSpec, files: &BTreeMap<Split, String>, folder: &Path) -> Result<()> {
    if task.is_regression() || !task.spelled.is_empty() || !task.cuts.is_empty() {
        return Ok(());
    }
    for (split, file) in files {
        let path = folder.join(file);
        let Some(Column::Name(column)) = &task.columns_of(*split).label else { continue };
        if !path.is_file() || task.format.or_else(|| Format::of(&path).ok()) != Some(Format::Parquet) {
            continue;
        }
        let reader = SerializedFileReader::new(File::open(&path)?);
        let reader = reader.with_context(|| format!("`{file}` is not a Parquet file"))?;
        let metadata = reader.metadata().file_metadata();
        if !is_numbered(metadata, column) {
            continue;
        }
        let config = file.split('/').next().unwrap_or_default();
        let names = in_file(metadata, column).or_else(|| in_card(&folder.join(CARD), config, column));
        let spelled = spelled(task, file, names)?;
        if !task.spelled.is_empty() && task.spelled != spelled {
            let message = format!("`{file}` numbers its labels in another order than the files before it");
            return Err(Fault::new(message, "take a revision of the data set whose files agree").into());
        }
        task.spelled = spelled;
    }
    Ok(())
}

/// The number of each of the task's classes, given the names in the order of their numbers.
fn spelled(task: &TaskSpec, file: &str, names: Option<Vec<String>>) -> Result<Vec<String>, Fault> {
    let Some(names) = names else {
        let message = format!("`{file}` numbers its labels, and neither it nor the data set's card names them");
        return Err(Fault::new(message, "say which number is which class: `spelled:` in a task of your own"));
    };
    let number = |label: &String| names.iter().position(|name| name == label).map(|number| number.to_string());
    let numbers: Option<Vec<String>> = task.labels.iter().map(number).collect();
    numbers.filter(|numbers| numbers.len() == names.len()).ok_or_else(|| {
        let message = format!("`{file}` names the labels of `{}` {names:?}, but they are {:?}", task.name, task.labels);
        Fault::new(message, "define a task with those `labels` under `tasks:`, or take another revision")
    })
}

fn is_numbered(metadata: &FileMetaData, column: &str) -> bool {
    let columns = metadata.schema_descr().columns().iter();
    let kinds = columns.filter(|found| found.name() == column).map(|found| found.physical_type());
    kinds.into_iter().any(|kind| matches!(kind, Type::INT32 | Type::INT64))
}

/// The names that the library `datasets` writes into a file's metadata.
fn in_file(metadata: &FileMetaData, column: &str) -> Option<Vec<String>> {
    let entry = metadata.key_value_metadata()?.iter().find(|entry| entry.key == "huggingface")?;
    let told: Value = serde_json::from_str(entry.value.as_ref()?).ok()?;
    let names = told["info"]["features"][column]["names"].as_array()?;
    names.iter().map(|name| name.as_str().map(ToOwned::to_owned)).collect()
}

/// The names that a data set's card gives for a column of one of its configurations.
fn in_card(path: &Path, config: &str, column: &str) -> Option<Vec<String>> {
    let text = fs::read_to_string(path).ok()?;
    let (head, _) = text.strip_prefix("---\n")?.split_once("\n---")?;
    let card: Value = serde_yaml::from_str(head).ok()?;
    let told = match &card["dataset_info"] {
        Value::Array(configs) => configs.iter().find(|told| told["config_name"] == config)?,
        only => only,
    };
    let feature = told["features"].as_array()?.iter().find(|feature| feature["name"] == column)?;
    let names = feature["dtype"]["class_label"]["names"].as_object()?;
    let numbered = names.iter().map(|(number, name)| Some((number.parse().ok()?, name.as_str()?.to_owned())));
    Some(numbered.collect::<Option<BTreeMap<u64, String>>>()?.into_values().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_a_card() {
        let folder = tempfile::tempdir().unwrap();
        let card = folder.path().join(CARD);
        let names = "{ class_label: { names: { '1': b, '0': a, '10': k, '2': c } } }";
        let features = format!("features: [{{ name: text, dtype: string }}, {{ name: label, dtype: {names} }}]");
        let write = |head: String| fs::write(&card, format!("---\nlicense: mit\n{head}\n---\n# A set\n")).unwrap();
        let found = |config: &str, column: &str| in_card(&card, config, column).map(|names| names.join(" "));

        write(format!("dataset_info:\n- config_name: one\n  features: []\n- config_name: two\n  {features}"));
        assert_eq!(found("two", "label").as_deref(), Some("a b c k"));
        assert_eq!((found("one", "label"), found("three", "label"), found("two", "text")), (None, None, None));
        write(format!("dataset_info:\n  {features}"));
        assert_eq!(found("data", "label").as_deref(), Some("a b c k"));
        fs::write(&card, "# A set\n").unwrap();
        assert_eq!(found("two", "label"), None);
    }

    #[test]
    fn labels_are_spelled_by_the_order_of_names() {
        let task = bam_contract::tasks::on_hub("mnli").unwrap();
        let spell = |names: Option<&[&str]>| {
            let names = names.map(|names| names.iter().map(ToString::to_string).collect());
            spelled(&task, "f", names).map_err(|fault| fault.to_string())
        };
        let numbers = |numbers: [&str; 3]| Ok(numbers.map(ToOwned::to_owned).to_vec());
        assert_eq!(spell(Some(&["entailment", "neutral", "contradiction"])), numbers(["0", "1", "2"]));
        assert_eq!(spell(Some(&["contradiction", "entailment", "neutral"])), numbers(["1", "2", "0"]));
        for other in [&["entailment", "neutral"][..], &["entailment", "neutral", "contradiction", "hidden"]] {
            let told = format!(
                "`f` names the labels of `mnli` {other:?}, but they are [\"entailment\", \"neutral\", \"contradiction\"]"
            );
            assert_eq!(spell(Some(other)), Err(told));
        }
        assert!(spell(None).unwrap_err().starts_with("`f` numbers its labels, and neither"));
    }
}
