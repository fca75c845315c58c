//! Words for classes: text, or a whole number, which stands for its digits (`labels: [0, 1]`).

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, Visitor};

pub(super) struct Spelling(String);

pub(super) fn words<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Ok(Vec::<Spelling>::deserialize(deserializer)?.into_iter().map(|Spelling(word)| word).collect())
}

impl<'de> Deserialize<'de> for Spelling {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Word;
        impl Visitor<'_> for Word {
            type Value = Spelling;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text or a whole number")
            }
            fn visit_str<E: Error>(self, word: &str) -> Result<Spelling, E> {
                Ok(Spelling(word.to_owned()))
            }
            fn visit_i64<E: Error>(self, number: i64) -> Result<Spelling, E> {
                Ok(Spelling(number.to_string()))
            }
            fn visit_u64<E: Error>(self, number: u64) -> Result<Spelling, E> {
                Ok(Spelling(number.to_string()))
            }
        }
        deserializer.deserialize_any(Word)
    }
}

impl JsonSchema for Spelling {
    fn schema_name() -> Cow<'static, str> {
        "Spelling".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A class's name, or its spelling in a file.",
            "anyOf": [{ "type": "string" }, { "type": "integer" }],
        })
    }
}
