//! The JSON Schema of pipeline files as a Markdown page, for people.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use bam_contract::stage::KINDS;
use serde_json::Value;

const HEAD: &str = "# Parameters

All that stages, tasks and resources of a [pipeline file](pipelines.md) may say, as `bam schema --markdown` prints it. Wherever a value isn't text anyway, a variable may stand.
";
/// Names of things that are told in words wherever they stand.
const IN_WORDS: [(&str, &str); 3] =
    [("StageRef", "a stage"), ("Stages", "a stage, or a list of stages"), ("Variable", "a variable")];

/// The page of a schema as [`schema`](super::schema::schema) makes it: each kind's parameters, then the values that have
/// parameters or choices of their own.
pub(crate) fn reference(schema: &Value) -> String {
    let mut page =
        Page { definitions: &schema["$defs"], text: HEAD.to_owned(), open: Vec::new(), told: BTreeSet::new() };
    for kind in KINDS {
        // Or a variable.
        let parameters = &schema["$defs"]["Stage"]["properties"][kind.name]["anyOf"][0];
        _ = write!(page.text, "\n## `{}`\n\n{}.\n", kind.name, capitalized(kind.about));
        page.table(&schema["$defs"][referred(parameters).expect("a kind has parameters")]);
    }
    page.text += "\n## A task, under `tasks`\n";
    page.table(&schema["$defs"]["TaskSpec"]);
    page.text += "\n## Resources, of a kind or a stage\n";
    page.table(&schema["$defs"]["Resources"]);
    page.text += "\n## Values\n";
    page.values();
    page.text
}

struct Page<'a> {
    definitions: &'a Value,
    text: String,
    /// Definitions that the page refers to and has not told yet.
    open: Vec<&'a str>,
    told: BTreeSet<&'a str>,
}

impl<'a> Page<'a> {
    /// Tells each definition that is referred to, and those that it refers to.
    fn values(&mut self) {
        while !self.open.is_empty() {
            self.open.sort_unstable();
            for name in std::mem::take(&mut self.open) {
                let definition = &self.definitions[name];
                _ = write!(self.text, "\n### {name}\n");
                if let Some(about) = definition["description"].as_str() {
                    _ = write!(self.text, "\n{}\n", in_one_line(about));
                }
                match choices(definition) {
                    Some(choices) => self.list(choices),
                    None if definition["properties"].is_object() => self.table(definition),
                    None => {}
                }
            }
        }
    }

    fn list(&mut self, choices: &'a [Value]) {
        self.text.push('\n');
        for choice in choices {
            let value = self.takes(choice);
            let about = choice["description"].as_str().map(|about| format!(": {}", in_one_line(about)));
            _ = writeln!(self.text, "- {value}{}", about.unwrap_or_default());
        }
    }

    /// A line for each property; those that must be given first.
    fn table(&mut self, definition: &'a Value) {
        let Some(properties) = definition["properties"].as_object() else { return };
        self.text += "\n| | takes | by default | |\n|---|---|---|---|\n";
        let required: Vec<&str> =
            definition["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let mut properties: Vec<(&String, &Value)> = properties.iter().collect();
        properties.sort_by_key(|(name, _)| !required.contains(&name.as_str()));
        for (name, property) in properties {
            let takes = self.takes(property);
            let default = match &property["default"] {
                _ if required.contains(&name.as_str()) => "must be given".to_owned(),
                Value::Null => String::new(),
                Value::Array(items) if items.is_empty() => "none".to_owned(),
                Value::Object(entries) if entries.is_empty() => "none".to_owned(),
                Value::String(text) if text.is_empty() => String::new(),
                Value::String(text) => format!("`{text}`"),
                value => format!("`{value}`"),
            };
            let about = property["description"].as_str().map(in_one_line).unwrap_or_default();
            _ = writeln!(self.text, "| `{name}` | {takes} | {default} | {} |", about.replace('|', r"\|"));
        }
        let alternatives = definition["oneOf"].as_array().into_iter().flatten();
        let alternatives = alternatives.filter_map(|one| one["required"][0].as_str()).map(|name| format!("`{name}`"));
        let alternatives = joined(alternatives);
        if !alternatives.is_empty() {
            _ = write!(self.text, "\nOne must be given: {alternatives}.\n");
        }
    }

    /// What may stand there, in words.
    fn takes(&mut self, schema: &'a Value) -> String {
        if let Some(name) = referred(schema) {
            return self.named(name);
        }
        if let Some(value) = schema["const"].as_str() {
            return format!("`{value}`");
        }
        if let Some(values) = schema["enum"].as_array() {
            return joined(values.iter().filter_map(Value::as_str).map(|value| format!("`{value}`")));
        }
        if let Some(choices) = schema["anyOf"].as_array() {
            let counts = |choice: &&Value| choice["type"] != "null" && referred(choice) != Some("Variable");
            return joined(choices.iter().filter(counts).map(|choice| self.takes(choice)));
        }
        let types: Vec<&str> = match &schema["type"] {
            Value::Array(types) => types.iter().filter_map(Value::as_str).filter(|name| *name != "null").collect(),
            name => name.as_str().into_iter().collect(),
        };
        match types[..] {
            ["array"] => {
                let items = schema.get("items").map(|items| self.takes(items));
                format!("list: {}", items.unwrap_or_else(|| "anything".to_owned()))
            }
            ["object"] => self.mapping(schema),
            [] => "anything".to_owned(),
            _ => joined(types.iter().map(|name| of_type(name).to_owned())),
        }
    }

    fn mapping(&mut self, schema: &'a Value) -> String {
        if let Some(entries) = schema["properties"].as_object() {
            let entries: Vec<String> =
                entries.iter().map(|(name, entry)| format!("{name}: {}", self.takes(entry))).collect();
            return format!("{{{}}}", entries.join(", "));
        }
        match &schema["additionalProperties"] {
            values @ Value::Object(_) => format!("by name: {}", self.takes(values)),
            _ => "mapping".to_owned(),
        }
    }

    fn named(&mut self, name: &'a str) -> String {
        if let Some((_, words)) = IN_WORDS.iter().find(|(of, _)| *of == name) {
            return (*words).to_owned();
        }
        let definition = &self.definitions[name];
        // Choices without a word about them, and plain values, need no place of their own.
        if choices(definition).is_none() && !definition["properties"].is_object() {
            return self.takes(definition);
        }
        if self.told.insert(name) {
            self.open.push(name);
        }
        format!("[{name}](#{})", name.to_lowercase())
    }
}

fn choices(definition: &Value) -> Option<&[Value]> {
    // Beside properties it says which of them exclude each other.
    let has_choices = !definition["properties"].is_object();
    definition["oneOf"].as_array().filter(|_| has_choices).map(Vec::as_slice)
}

/// The definition that a schema refers to.
fn referred(schema: &Value) -> Option<&str> {
    schema["$ref"].as_str()?.strip_prefix("#/$defs/")
}

fn of_type(name: &str) -> &str {
    match name {
        "integer" => "whole number",
        "boolean" => "`true` or `false`",
        "string" => "text",
        "array" => "list",
        "object" => "mapping",
        other => other,
    }
}

fn joined(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(" or ")
}

fn in_one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}
