//! Which of an encoder's layers a model starts from.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserializer, SeqAccess};
use serde::{Deserialize, Serialize, Serializer};

/// `layers: 4`, the first four; `layers: [1, 3, 5]`, those, counted from 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layers {
    First(usize),
    These(Vec<usize>),
}

impl Layers {
    /// How many there are.
    pub fn count(&self) -> usize {
        match self {
            Self::First(count) => *count,
            Self::These(layers) => layers.len(),
        }
    }

    /// Number in the model of the encoder's layer `from`, if it is kept.
    pub fn place(&self, from: usize) -> Option<usize> {
        match self {
            Self::First(count) => Some(from).filter(|from| from < count),
            Self::These(layers) => layers.iter().position(|layer| *layer == from),
        }
    }

    /// What is wrong with them in an encoder of so many layers, if anything.
    pub fn beyond(&self, depth: usize) -> Option<String> {
        match self {
            Self::First(count) if *count > depth => {
                Some(format!("the first {count} are asked for, but there are {depth}"))
            }
            Self::These(layers) => {
                let beyond = layers.iter().find(|layer| **layer >= depth)?;
                Some(format!("layer {beyond} is asked for, but there are {depth}, counted from 0"))
            }
            Self::First(_) => None,
        }
    }

    pub(super) fn mistake(&self) -> Option<&'static str> {
        match self {
            layers if layers.count() == 0 => Some("keeps no layer; give at least 1"),
            Self::These(layers) if !layers.is_sorted_by(|a, b| a < b) => Some("layer numbers ascend, each once"),
            _ => None,
        }
    }
}

impl Serialize for Layers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::First(count) => serializer.serialize_u64(*count as u64),
            Self::These(layers) => layers.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Layers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Layers;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of layers, or a list of layer numbers from 0")
            }
            fn visit_u64<E: de::Error>(self, count: u64) -> Result<Layers, E> {
                Ok(Layers::First(count as usize))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Layers, A::Error> {
                Vec::deserialize(de::value::SeqAccessDeserializer::new(list)).map(Layers::These)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for Layers {
    fn schema_name() -> Cow<'static, str> {
        "Layers".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A number of layers, or a list of layer numbers from 0.",
            "anyOf": [
                { "type": "integer", "minimum": 1 },
                { "type": "array", "items": { "type": "integer", "minimum": 0 }, "minItems": 1 },
            ],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_or_a_list() {
        for (text, layers) in [("4", Layers::First(4)), ("[0,2,5]", Layers::These(vec![0, 2, 5]))] {
            assert_eq!(serde_json::from_str::<Layers>(text).unwrap(), layers);
            assert_eq!(serde_json::to_string(&layers).unwrap(), text);
        }
        let error = serde_json::from_str::<Layers>("-1").unwrap_err().to_string();
        assert!(error.contains("expected a number of layers, or a list of layer numbers from 0"), "{error}");
    }

    #[test]
    fn what_is_wrong_is_said() {
        let these = |layers: &[usize]| Layers::These(layers.to_vec());
        assert_eq!(Layers::First(0).mistake(), Some("keeps no layer; give at least 1"));
        assert_eq!(these(&[1, 1]).mistake(), Some("layer numbers ascend, each once"));
        assert_eq!((these(&[1, 3]).mistake(), these(&[1, 3]).beyond(4)), (None, None));
        assert_eq!(these(&[1, 4]).beyond(4).unwrap(), "layer 4 is asked for, but there are 4, counted from 0");
        assert_eq!([0, 1, 3].map(|from| these(&[1, 3]).place(from)), [None, Some(0), Some(1)]);
        assert_eq!([0, 1, 2].map(|from| Layers::First(2).place(from)), [Some(0), Some(1), None]);
        assert_eq!(Layers::First(9).beyond(3).unwrap(), "the first 9 are asked for, but there are 3");
    }
}
