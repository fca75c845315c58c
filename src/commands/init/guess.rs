//! Which columns of a table are the texts and the label, and what the labels are.

use anyhow::Result;
use bam_contract::fault::{Fault, closest};
use bam_contract::metric::Metric;
use bam_contract::task::{self, Format, Split, TaskSpec};

use super::table::{Column, MOST_NUMBERED_CLASSES, MOST_VALUES, Table};

/// More classes than this are worth a question.
const MANY_CLASSES: usize = 50;
const LABEL_NAMES: [&str; 9] =
    ["label", "labels", "class", "category", "target", "gold_label", "score", "rating", "sentiment"];
const PAIR_NAMES: [(&str, &str); 6] = [
    ("sentence1", "sentence2"),
    ("text1", "text2"),
    ("text_a", "text_b"),
    ("question1", "question2"),
    ("premise", "hypothesis"),
    ("question", "sentence"),
];

#[derive(Debug)]
pub(super) struct Guess<'a> {
    table: &'a Table,
    text: &'a Column,
    pair: Option<&'a Column>,
    label: &'a Column,
    /// Classes in order; none for values.
    classes: Vec<&'a str>,
}

impl<'a> Guess<'a> {
    /// From the columns that were named, as text, second text and label; the others are chosen by their names and values. A
    /// label that has the task's name goes before all others.
    pub(super) fn of(table: &'a Table, task: &str, named: [Option<&str>; 3]) -> Result<Self> {
        let [text, pair, label] = named.map(|name| name.map(|name| find(table, name)).transpose());
        let (mut text, mut pair, label) = (text?, pair?, label?);
        let named: Vec<&Column> = [text, pair, label].into_iter().flatten().collect();
        let by_name = |name: &str| table.columns.iter().find(|column| column.name.eq_ignore_ascii_case(name));
        if text.is_none() && pair.is_none() {
            let known = PAIR_NAMES.iter().find_map(|(one, other)| Some((by_name(one)?, by_name(other)?)));
            (text, pair) = known.unzip();
        }
        let is = |one: Option<&Column>, other: &Column| one.is_some_and(|one| std::ptr::eq(one, other));
        let of_task = || {
            let may_be = |column: &Column| {
                let is_value = column.is_numeric() || column.odd_among_numbers().is_some();
                is_value || (2..=MOST_VALUES).contains(&column.values.len())
            };
            by_name(task).filter(|column| !is(text, column) && !is(pair, column) && may_be(column))
        };
        let known_label = || LABEL_NAMES.iter().find_map(|name| by_name(name)).filter(|column| !is(text, column));
        let few_values = || {
            let fits = |column: &&Column| {
                (2..=MOST_VALUES).contains(&column.values.len()) && column.values.len() * 2 <= table.rows
            };
            let others = table.columns.iter().filter(|column| !is(text, column) && !is(pair, column));
            others.filter(fits).min_by_key(|column| column.values.len())
        };
        let label = label.or_else(of_task).or_else(known_label).or_else(few_values);
        let label = label.ok_or_else(|| unclear(table, "labels", "--label"))?;
        let longest = || {
            let others = table.columns.iter().filter(|column| !is(pair, column) && !std::ptr::eq(*column, label));
            others.filter(|column| !column.is_numeric() && column.chars > 0).max_by_key(|column| column.chars)
        };
        let text = text.or_else(longest).ok_or_else(|| unclear(table, "texts", "--text"))?;
        for chosen in [Some(text), pair, Some(label)].into_iter().flatten() {
            if !is_unique(table, chosen) && !named.iter().any(|named| std::ptr::eq(*named, chosen)) {
                return Err(doubled(table, &chosen.name));
            }
        }
        if label.empty > 0 {
            let rows = crate::ui::units::plural(label.empty, "row");
            let message = format!("`{}` is empty in {rows} of `{}`", label.name, table.path.display());
            return Err(Fault::new(message, "leave them out, or name the labels' column with `--label`").into());
        }
        Ok(Self { table, text, pair, label, classes: classes(table, label)? })
    }

    /// A task's own conditions.
    pub(super) fn check(&self, name: &str, file: &str) -> Result<()> {
        let column = |column: &Column| {
            if self.by_number(column) {
                task::Column::Number(column.number)
            } else {
                task::Column::Name(column.name.clone())
            }
        };
        let spec = TaskSpec {
            name: name.to_owned(),
            files: [(Split::All, file.to_owned())].into(),
            format: None,
            columns: task::Columns {
                header: self.table.has_header,
                text: column(self.text),
                pair: self.pair.map(column),
                label: Some(column(self.label)),
            },
            test_columns: None,
            labels: self.classes.iter().map(ToString::to_string).collect(),
            spelled: Vec::new(),
            cuts: Vec::new(),
            range: self.classes.is_empty().then(|| self.range()),
            symmetric: false,
            skip_broken: false,
            metrics: self.metric_list(),
            split: Some(task::SplitShares { dev: 0.1, test: 0.1, seed: 1 }),
            head: None,
        };
        match spec.mistakes().into_iter().next() {
            Some(mistake) => Err(Fault::new(mistake, "name the columns with `--text`, `--pair` and `--label`").into()),
            None => Ok(()),
        }
    }

    /// Whether a column is found by its number only.
    fn by_number(&self, column: &Column) -> bool {
        !self.table.has_header || column.name.is_empty() || !is_unique(self.table, column)
    }

    /// What looks like a mistake, though it may be meant.
    pub(super) fn doubts(&self) -> Vec<Fault> {
        let (label, file, classes) = (&self.label.name, self.table.path.display(), self.classes.len());
        let mut doubts = Vec::new();
        if classes > MANY_CLASSES || classes * 5 > self.table.rows * 4 {
            let rows = crate::ui::units::plural(self.table.rows, "row");
            let message = format!("`{label}` of `{file}` has {classes} classes in {rows}: is it a label?");
            doubts.push(Fault::new(message, "`--label` names another column"));
        }
        let is_text = matches!(self.table.format, Format::Tsv | Format::Csv);
        let is_value = self.label.values.contains(self.label.name.trim())
            || self.label.is_numeric() && self.label.name.trim().parse::<f64>().is_ok();
        if is_text && self.table.has_header && is_value {
            let message = format!("the header of `{file}` reads like a row: the label's column is named `{label}`");
            doubts.push(Fault::new(message, "`--no-header` takes the first line for a row"));
        }
        doubts
    }

    pub(super) fn columns(&self) -> String {
        let column = |name: &str, column: &Column| {
            let written = if self.by_number(column) { column.number.to_string() } else { quoted(&column.name) };
            format!("{name}: {written}")
        };
        let mut parts = if self.table.has_header { Vec::new() } else { vec!["header: false".to_owned()] };
        parts.push(column("text", self.text));
        parts.extend(self.pair.map(|pair| column("pair", pair)));
        parts.push(column("label", self.label));
        format!("{{ {} }}", parts.join(", "))
    }

    /// What was chosen, and what is left unread, for the user to object to.
    pub(super) fn choice(&self) -> String {
        let kind = match self.classes.len() {
            0 => "values".to_owned(),
            classes => format!("{classes} classes"),
        };
        let texts: Vec<String> = [Some(self.text), self.pair].into_iter().flatten().map(ticked).collect();
        let is_read = |column: &Column| {
            [Some(self.text), self.pair, Some(self.label)].into_iter().flatten().any(|read| std::ptr::eq(read, column))
        };
        let unread: Vec<String> = self.table.columns.iter().filter(|column| !is_read(column)).map(ticked).collect();
        let unread = if unread.is_empty() { String::new() } else { format!("; not read: {}", unread.join(", ")) };
        let (label, number) = (ticked(self.label), if texts.len() == 1 { "text" } else { "texts" });
        format!("label: {label}, {kind}; {number}: {}{unread}", texts.join(", "))
    }

    pub(super) fn labels(&self) -> String {
        if self.classes.is_empty() {
            let [least, greatest] = self.range();
            return format!("# The least and the greatest value.\n    range: [{least}, {greatest}]");
        }
        let classes: Vec<String> = self.classes.iter().map(|class| quoted(class)).collect();
        format!("# The classes, as the file spells them.\n    labels: [{}]", classes.join(", "))
    }

    pub(super) fn metrics(&self) -> String {
        let names: Vec<&str> = self.metric_list().into_iter().map(Metric::name).collect();
        format!("[{}]", names.join(", "))
    }

    fn metric_list(&self) -> Vec<Metric> {
        match self.classes.len() {
            0 => vec![Metric::Spearman, Metric::Pearson],
            2 => vec![Metric::Accuracy, Metric::F1],
            _ => vec![Metric::Accuracy],
        }
    }

    /// Whole numbers around all values.
    fn range(&self) -> [f64; 2] {
        let [least, greatest] = self.label.range.unwrap_or_default();
        [least.floor(), greatest.ceil()]
    }
}

/// The column of that name; or else, in a table of text, of that number.
fn find<'a>(table: &'a Table, name: &str) -> Result<&'a Column> {
    let mut of_name = table.columns.iter().filter(|column| column.name == name);
    if let Some(column) = of_name.next() {
        return if of_name.next().is_none() { Ok(column) } else { Err(doubled(table, name)) };
    }
    let number = name.parse().ok().filter(|_: &usize| matches!(table.format, Format::Tsv | Format::Csv));
    if let Some(number) = number {
        return table.columns.iter().find(|column| column.number == number).ok_or_else(|| {
            let hint = format!("it has {}; they count from 1", table.columns.len());
            Fault::new(format!("`{}` has no column {number}", table.path.display()), hint).into()
        });
    }
    let hint = match closest(name, table.columns.iter().map(|column| column.name.as_str())) {
        Some(near) => format!("did you mean `{near}`?"),
        None => its_columns(table),
    };
    Err(Fault::new(format!("`{}` has no column `{name}`", table.path.display()), hint).into())
}

fn is_unique(table: &Table, column: &Column) -> bool {
    table.columns.iter().filter(|other| other.name == column.name).count() == 1
}

fn doubled(table: &Table, name: &str) -> anyhow::Error {
    let message = format!("`{}` has more than one column `{name}`", table.path.display());
    let hint = "give the column's number, from 1, to `--text`, `--pair` or `--label`";
    Fault::new(message, hint).into()
}

fn unclear(table: &Table, what: &str, option: &str) -> anyhow::Error {
    let message = format!("no column of `{}` looks like {what}", table.path.display());
    Fault::new(message, format!("name it with `{option}`; {}", its_columns(table))).into()
}

fn ticked(column: &Column) -> String {
    if column.name.is_empty() { format!("column {}", column.number) } else { format!("`{}`", column.name) }
}

fn its_columns(table: &Table) -> String {
    let names: Vec<String> = table.columns.iter().map(ticked).collect();
    format!("its columns are {}", names.join(", "))
}

/// The classes of a label column, numbers in their order; none where it holds values.
fn classes<'a>(table: &Table, label: &'a Column) -> Result<Vec<&'a str>> {
    let is_fraction = |value: &String| value.parse::<f64>().is_ok_and(|value| value.fract() != 0.0);
    if label.is_numeric() && (label.values.len() > MOST_NUMBERED_CLASSES || label.values.iter().any(is_fraction)) {
        return Ok(Vec::new());
    }
    if let Some((value, row)) = label.odd_among_numbers() {
        let message =
            format!("{}: `{value}` is no number, as nearly all other values of `{}` are", table.place(row), label.name);
        let hint = "leave out the rows whose value isn't known, or name another column with `--label`";
        return Err(Fault::new(message, hint).into());
    }
    if !(2..=MOST_VALUES).contains(&label.values.len()) {
        let count = if label.values.len() == 1 {
            "one value only".to_owned()
        } else {
            format!("more than {MOST_VALUES} values")
        };
        let message = format!("`{}` of `{}` has {count}: it is no label", label.name, table.path.display());
        return Err(Fault::new(message, "name the labels' column with `--label`").into());
    }
    let mut classes: Vec<&str> = label.values.iter().map(String::as_str).collect();
    if label.is_numeric() {
        let number = |value: &&str| value.parse::<f64>().unwrap_or_default();
        classes.sort_by(|a, b| number(a).total_cmp(&number(b)));
    }
    Ok(classes)
}

/// Text as YAML takes it for text: as it stands where that is beyond doubt, else in quotes.
pub(super) fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
    let value = serde_json::Value::String(text.to_owned());
    let reads_back = || serde_yaml::from_str::<serde_json::Value>(text).is_ok_and(|read| read == value);
    if text.chars().all(plain) && reads_back() { text.to_owned() } else { value.to_string() }
}
