//! `bam schema`: what editors are told is what the program takes.

use std::fs;
use std::path::Path;

use crate::support::Sandbox;
use regex::Regex;
use serde_json::{Map, Value};

fn schema() -> Value {
    let said = Sandbox::new().bam(&["schema"]);
    assert_eq!((said.code, said.stderr.as_str()), (0, ""));
    serde_json::from_str(&said.stdout).expect("JSON")
}

/// The part of JSON Schema that the schema uses. (The `jsonschema` crate would bring other features of crates that libtorch's
/// bindings stand on, and have tests build them all a second time.)
struct Validator {
    schema: Value,
}

fn validator() -> Validator {
    Validator { schema: schema() }
}

impl Validator {
    fn is_valid(&self, value: &Value) -> bool {
        self.accepts(&self.schema, value)
    }

    fn accepts(&self, schema: &Value, value: &Value) -> bool {
        let Value::Object(keywords) = schema else { return schema == &Value::Bool(true) };
        keywords.iter().all(|(keyword, wanted)| self.holds(keyword, wanted, keywords, value))
    }

    fn holds(&self, keyword: &str, wanted: &Value, keywords: &Map<String, Value>, value: &Value) -> bool {
        let all = |schemas: &Value, count: fn(usize) -> bool| {
            let schemas = schemas.as_array().expect("schemas");
            count(schemas.iter().filter(|schema| self.accepts(schema, value)).count())
        };
        let object = value.as_object();
        match keyword {
            "$schema" | "$defs" | "title" | "description" | "default" | "examples" => true,
            "$ref" => {
                let path = wanted.as_str().and_then(|path| path.strip_prefix('#')).expect("a path within the schema");
                self.accepts(self.schema.pointer(path).expect("what a reference leads to"), value)
            }
            "anyOf" => all(wanted, |fitting| fitting > 0),
            "oneOf" => all(wanted, |fitting| fitting == 1),
            "type" => match wanted {
                Value::Array(names) => names.iter().any(|name| is_of_type(value, name)),
                name => is_of_type(value, name),
            },
            "const" => value == wanted,
            "enum" => wanted.as_array().expect("values").contains(value),
            "minimum" => value.as_f64().is_none_or(|number| number >= wanted.as_f64().expect("a number")),
            "minLength" => value.as_str().is_none_or(|text| text.len() as u64 >= wanted.as_u64().expect("a length")),
            "pattern" => {
                let pattern = Regex::new(wanted.as_str().expect("text")).expect("a pattern");
                value.as_str().is_none_or(|text| pattern.is_match(text))
            }
            "required" => object.is_none_or(|map| {
                wanted.as_array().expect("names").iter().all(|name| map.contains_key(name.as_str().expect("a name")))
            }),
            "properties" => object.is_none_or(|map| {
                let known = wanted.as_object().expect("properties");
                map.iter().all(|(name, value)| known.get(name).is_none_or(|schema| self.accepts(schema, value)))
            }),
            "additionalProperties" => object.is_none_or(|map| {
                let known = keywords.get("properties");
                let is_known = |name: &String| known.is_some_and(|known| known.get(name).is_some());
                map.iter().filter(|(name, _)| !is_known(name)).all(|(_, value)| self.accepts(wanted, value))
            }),
            "propertyNames" => {
                object.is_none_or(|map| map.keys().all(|name| self.accepts(wanted, &Value::String(name.clone()))))
            }
            "items" => value.as_array().is_none_or(|items| items.iter().all(|item| self.accepts(wanted, item))),
            "minItems" => value.as_array().is_none_or(|items| items.len() as u64 >= wanted.as_u64().expect("a count")),
            "maxItems" => value.as_array().is_none_or(|items| items.len() as u64 <= wanted.as_u64().expect("a count")),
            keyword => panic!("the schema uses `{keyword}`, which this test does not know"),
        }
    }
}

fn is_of_type(value: &Value, name: &Value) -> bool {
    match name.as_str().expect("a type's name") {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "number" => value.is_number(),
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        name => panic!("the schema uses the type `{name}`"),
    }
}

/// A file's values, as an editor has them.
fn values(yaml: &str) -> Value {
    let mut values: serde_yaml::Value = serde_yaml::from_str(yaml).expect("YAML");
    values.apply_merge().expect("merge keys name mappings");
    serde_json::to_value(values).expect("JSON")
}

#[test]
fn every_pipeline_of_the_tree_is_valid() {
    let validator = validator();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join("pipelines")];
    let mut files = vec![root.join("pipeline.yaml")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files.retain(|file| file.extension().is_some_and(|ending| ending == "yaml"));
    assert!(files.len() >= 3, "{files:?}");
    for file in files {
        let values = values(&fs::read_to_string(&file).expect("a file"));
        assert!(validator.is_valid(&values), "{}", file.display());
    }
}

#[test]
fn everything_a_pipeline_file_may_hold_is_valid() {
    let yaml = "\
include: [a.yaml, b/c.yaml]
name: all
seed: 3
vars: { a: 1, b: [x], c: { d: \"${env:HOME}\" } }
for: { task: [rte, mood], seed: [1, 2] }
tasks:
  mood:
    files: { all: mood.csv }
    split: { dev: 0.1 }
    columns: { header: false, text: 1, label: mood }
    labels: [bad, good]
    metrics: [accuracy]
resources: { train: { threads: 2, memory: 2GiB, gpus: 0 }, score: { memory: 1000000 } }
stages:
  examples@task: { data: { task: $task, grammar: $rows, limit: $limit } }
  more: { data: { task: rte, from: \"${dir}/x\", files: { train: part.tsv } } }
  t@rte: { tokenize: { examples: more, encoder: $encoder, max_tokens: \"${env:MAX:-64}\", both_orders: $both } }
  m@task@seed:
    train: { tokens: [t@*, $x], teachers: $teachers, encoder: e, epochs: 0.5, anneal: { fixed: $share }, keep: $keep }
    resources: { threads: $threads, gpus: 1 }
  n: { train: { tokens: [t@rte], encoder: e, anneal: cosine, precision: bf16, layers: 4 } }
  p: { predict: { model: n, tokens: t@rte, splits: [train, dev] } }
  o: { export: { model: n, precision: int8 } }
  s: { score: { models: [n, o], tokens: [t@rte], tolerance: 1e-3, max_drop: 0.5 } }
";
    assert!(validator().is_valid(&values(yaml)));
}

#[test]
fn what_the_program_refuses_is_invalid() {
    let validator = validator();
    let valid = "stages: { x: { train: { tokens: [t], encoder: e, epochs: 3 } } }";
    assert!(validator.is_valid(&values(valid)));
    for broken in [
        "stagse: {}",
        "stages: []",
        "stages: { x: { trian: { tokens: [t], encoder: e } } }",
        "stages: { x: { train: { tokens: [t], encoder: e, epoch: 3 } } }",
        "stages: { x: { train: { tokens: [t], encoder: e, epochs: many } } }",
        "stages: { x: { train: { tokens: t, encoder: e } } }",
        "stages: { x: { train: { tokens: [5], encoder: e } } }",
        "stages: { x: { train: { tokens: [t] } } }",
        "stages: { x: { train: { tokens: [t], encoder: e, anneal: linaer } } }",
        "stages: { x: { train: { tokens: [t], encoder: e, batch: -1 } } }",
        "stages: { x: { train: { tokens: [t], encoder: e, batch: 1.5 } } }",
        "stages: { x: { export: { model: m }, predict: { model: m, tokens: t } } }",
        "stages: { x: { resources: { threads: 1 } } }",
        "stages: { x: { export: { model: m, precision: bf16 } } }",
        "stages: { x: { export: { model: m }, resources: { cores: 1 } } }",
        "stages: { x/y: { export: { model: m } } }",
        "resources: { trian: { threads: 1 } }",
        "for: { task: [] }",
        "for: { task: rte }",
        "seed: -1",
        "name: 5",
        "include: { a: b }",
        "tasks: { mood: { files: { all: a.tsv }, columns: { label: 2 }, metrics: [accuracy] } }",
        "tasks: { mood: { files: { al: a.tsv }, columns: { text: 0 }, metrics: [acuracy] } }",
    ] {
        assert!(!validator.is_valid(&values(broken)), "{broken}");
        let sandbox = Sandbox::with_fake_worker();
        sandbox.write("pipeline.yaml", broken);
        assert_eq!(sandbox.bam(&["plan"]).code, 2, "{broken}");
    }
}

/// What an editor shows of an entry under the pointer.
#[test]
fn every_entry_is_described() {
    fn undescribed(at: &str, schema: &Value, found: &mut Vec<String>) {
        let Value::Object(keywords) = schema else { return };
        for (keyword, below) in keywords {
            let at = format!("{at}/{keyword}");
            if let ("properties", Value::Object(entries)) = (keyword.as_str(), below) {
                for (name, entry) in entries {
                    let refers = entry.get("$ref").is_some() || entry.get("anyOf").is_some();
                    if entry.get("description").is_none() && !refers {
                        found.push(format!("{at}/{name}"));
                    }
                    undescribed(&format!("{at}/{name}"), entry, found);
                }
            } else {
                undescribed(&at, below, found);
            }
        }
    }
    let mut found = Vec::new();
    undescribed("", &schema(), &mut found);
    assert_eq!(found, [""; 0]);
}

/// `docs/parameters.md` is what `bam schema --markdown` prints; `BAM_UPDATE_FIXTURES=1` writes it anew.
#[test]
fn the_page_of_parameters_is_that_of_this_program() {
    // As it is: a sandbox takes what is in brackets for times.
    let said = Sandbox::new().command(&["schema", "--markdown"]).output().unwrap();
    let page = String::from_utf8(said.stdout).unwrap();
    assert!(said.status.success() && said.stderr.is_empty());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/parameters.md");
    if std::env::var_os("BAM_UPDATE_FIXTURES").is_some() {
        fs::write(&path, &page).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap();
    assert!(page == kept, "{} is of another program; BAM_UPDATE_FIXTURES=1 writes it anew", path.display());
    // Each link has its place, and each place is led to.
    let found = |pattern: &str| -> std::collections::BTreeSet<String> {
        Regex::new(pattern).unwrap().captures_iter(&kept).map(|found| found[1].to_lowercase()).collect()
    };
    let places = found("(?m)^### (.*)$");
    assert!(places.contains("anneal") && places.contains("columns"));
    assert_eq!(found(r"\(#([a-z]+)\)"), places);
}
