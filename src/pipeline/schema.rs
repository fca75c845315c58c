//! A JSON Schema of pipeline files, for editors. It is made of the structs that the files are read into, so that the two
//! cannot part; what it cannot say, such as which stages there are, `bam plan` does.

use bam_contract::stage::{KINDS, StageSpec};
use bam_contract::task::TaskSpec;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::resources::Resources;

/// The schema, in draft 2020-12.
pub(crate) fn schema() -> Value {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let mut stage = stage(&mut generator);
    // Variables have values in stages alone, so the definitions that only tasks use are taken after.
    let mut definitions = generator.definitions().clone();
    let known = definitions.clone();
    let variables = Variables { definitions: &known };
    variables.allow_below(&mut stage);
    definitions.values_mut().for_each(|definition| variables.allow_below(definition));
    let task = generator.subschema_for::<TaskSpec>();
    let resources = generator.subschema_for::<Resources>();
    for (name, definition) in generator.take_definitions(true) {
        definitions.entry(name).or_insert(definition);
    }
    definitions.insert("Stage".to_owned(), stage);
    definitions.insert("Variable".to_owned(), variable());
    let kinds: Map<String, Value> = KINDS.iter().map(|kind| (kind.name.to_owned(), json!(resources))).collect();
    let files = json!({ "type": "string", "minLength": 1 });
    let mut schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "bam pipeline",
        "description": "Stages that turn text data sets into one small multi-task model.",
        "type": ["object", "null"],
        "additionalProperties": false,
        "properties": {
            "name": { "type": "string", "description": "The pipeline's name; by default the file's." },
            "seed": {
                "type": "integer", "minimum": 0,
                "description": "Seed of every stage that takes one and has none of its own.",
            },
            "remote": {
                "type": "string",
                "description": "Where artifacts are shared: `s3://bucket/prefix`, another URL, or a folder.",
            },
            "include": {
                "description": "Files whose vars, resources, tasks and stages stand above this file's; paths are relative to this file.",
                "anyOf": [files, { "type": "array", "items": files }],
            },
            "vars": {
                "type": ["object", "null"],
                "description": "Values that stages, and other variables, refer to as `$name`.",
            },
            "for": {
                "type": ["object", "null"],
                "description": "Axes: a stage named `…@axis` stands for one stage per value.",
                "additionalProperties": { "type": "array", "minItems": 1 },
            },
            "tasks": {
                "type": ["object", "null"],
                "description": "Tasks of your own: where their rows are, and what they mean.",
                "additionalProperties": task,
            },
            "resources": {
                "type": ["object", "null"],
                "description": "What the stages of a kind may use while they run.",
                "additionalProperties": false,
                "properties": kinds,
            },
            "stages": {
                "type": ["object", "null"],
                "description": "A stage is a name, its kind, and the kind's parameters.",
                "propertyNames": { "pattern": r"^[^@/*$.]+(@[^@/]+)*$" },
                "additionalProperties": { "$ref": "#/$defs/Stage" },
            },
        },
        "$defs": definitions,
    });
    drop_formats(&mut schema);
    schema
}

fn variable() -> Value {
    json!({
        "description": "A variable: `$name`, `${name}`, `${env:NAME}`, `${env:NAME:-default}` or `${bam:share}`, alone or within text.",
        "type": "string",
        "pattern": r"\$",
    })
}

/// One mapping of all kinds rather than a choice of mappings: editors then complete kinds and point at what is wrong.
fn stage(generator: &mut SchemaGenerator) -> Value {
    let kinds = json!(StageSpec::json_schema(generator));
    let mut properties = Map::new();
    for variant in kinds["oneOf"].as_array().into_iter().flatten() {
        properties.extend(variant["properties"].as_object().cloned().unwrap_or_default());
    }
    for kind in KINDS {
        properties[kind.name]["description"] = json!(kind.about);
    }
    let one_kind: Vec<Value> = KINDS.iter().map(|kind| json!({ "required": [kind.name] })).collect();
    // Whole, and not by reference: at the top of the file resources take no variables.
    properties.insert("resources".to_owned(), json!(Resources::json_schema(generator)));
    json!({ "type": "object", "additionalProperties": false, "properties": properties, "oneOf": one_kind })
}

/// Lets a variable stand wherever a value may that isn't text anyway.
struct Variables<'a> {
    definitions: &'a Map<String, Value>,
}

impl Variables<'_> {
    fn allow_below(&self, schema: &mut Value) {
        let Value::Object(keywords) = schema else { return };
        for (keyword, below) in keywords {
            match (keyword.as_str(), below) {
                ("properties", Value::Object(entries)) => entries.values_mut().for_each(|entry| self.allow(entry)),
                ("items" | "additionalProperties", below @ Value::Object(_)) => self.allow(below),
                ("prefixItems", Value::Array(items)) => items.iter_mut().for_each(|item| self.allow(item)),
                ("oneOf" | "anyOf", Value::Array(choices)) => {
                    for choice in choices {
                        self.allow_below(choice);
                    }
                }
                _ => {}
            }
        }
    }

    fn allow(&self, schema: &mut Value) {
        self.allow_below(schema);
        if self.is_text(schema) {
            return;
        }
        let mut around = Map::new();
        if let Value::Object(keywords) = schema {
            for keyword in ["description", "default"] {
                around.extend(keywords.remove_entry(keyword));
            }
        }
        around.insert("anyOf".to_owned(), json!([schema.take(), { "$ref": "#/$defs/Variable" }]));
        *schema = Value::Object(around);
    }

    fn is_text(&self, schema: &Value) -> bool {
        if let Some(name) = schema["$ref"].as_str().and_then(|path| path.strip_prefix("#/$defs/")) {
            return self.definitions.get(name).is_some_and(|definition| self.is_text(definition));
        }
        let is_string = |kind: &Value| kind == "string";
        let takes_strings =
            is_string(&schema["type"]) || schema["type"].as_array().is_some_and(|kinds| kinds.iter().any(is_string));
        takes_strings && schema.get("enum").is_none() && schema.get("pattern").is_none()
    }
}

/// Number formats of Rust, such as `uint64`, are none of JSON Schema's.
pub(crate) fn drop_formats(schema: &mut Value) {
    match schema {
        Value::Object(keywords) => {
            if keywords.get("format").is_some_and(Value::is_string) {
                keywords.remove("format");
            }
            keywords.values_mut().for_each(drop_formats);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_formats),
        _ => {}
    }
}
