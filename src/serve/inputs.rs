//! What a request asks answers for.
//!
//! Read by visitors: serde's untagged enums would say neither which of many inputs is wrong nor why.

use std::fmt;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use utoipa::openapi::schema::{ArrayBuilder, OneOfBuilder, Schema, Type};
use utoipa::openapi::{ObjectBuilder, Ref, RefOr};
use utoipa::{PartialSchema, ToSchema};

/// A text, and for tasks of pairs a second one.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Texts {
    #[schema(example = "Nobody came.")]
    pub(super) text: String,
    #[schema(example = "The room was empty.")]
    pub(super) pair: Option<String>,
}

impl Texts {
    /// Of both texts.
    pub(super) fn bytes(&self) -> usize {
        self.text.len() + self.pair.as_ref().map_or(0, String::len)
    }
}

/// One input or a list of them.
#[derive(Debug)]
pub(super) struct Inputs(pub(super) Vec<Texts>);

/// A text, or [`Texts`].
struct Input(Texts);

impl<'de> Deserialize<'de> for Inputs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OneOrMany)
    }
}

impl<'de> Deserialize<'de> for Input {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(One)
    }
}

struct One;

impl<'de> Visitor<'de> for One {
    type Value = Input;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or an object of `text` and `pair`")
    }

    fn visit_str<E>(self, text: &str) -> Result<Input, E> {
        Ok(Input(Texts { text: text.to_owned(), pair: None }))
    }

    fn visit_string<E>(self, text: String) -> Result<Input, E> {
        Ok(Input(Texts { text, pair: None }))
    }

    fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<Input, A::Error> {
        Texts::deserialize(MapAccessDeserializer::new(fields)).map(Input)
    }
}

struct OneOrMany;

impl<'de> Visitor<'de> for OneOrMany {
    type Value = Inputs;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, an object of `text` and `pair`, or a list of such")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Inputs, E> {
        One.visit_str(text).map(one)
    }

    fn visit_string<E: Error>(self, text: String) -> Result<Inputs, E> {
        One.visit_string(text).map(one)
    }

    fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<Inputs, A::Error> {
        One.visit_map(fields).map(one)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Inputs, A::Error> {
        let inputs = Vec::<Input>::deserialize(SeqAccessDeserializer::new(list))?;
        Ok(Inputs(inputs.into_iter().map(|Input(texts)| texts).collect()))
    }
}

fn one(Input(texts): Input) -> Inputs {
    Inputs(vec![texts])
}

impl ToSchema for Inputs {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((Input::name().into_owned(), Input::schema()));
        Input::schemas(schemas);
    }
}

impl PartialSchema for Inputs {
    fn schema() -> RefOr<Schema> {
        let input = || Ref::from_schema_name(Input::name());
        let one_or_many = OneOfBuilder::new().item(input()).item(ArrayBuilder::new().items(input()));
        one_or_many.description(Some("What is to be answered: one input or a list of them.")).into()
    }
}

impl ToSchema for Input {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((Texts::name().into_owned(), Texts::schema()));
    }
}

impl PartialSchema for Input {
    fn schema() -> RefOr<Schema> {
        let text = ObjectBuilder::new().schema_type(Type::String);
        OneOfBuilder::new().item(text).item(Ref::from_schema_name(Texts::name())).into()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn each_form_of_the_schema_is_read() {
        let read = |inputs: Value| serde_json::from_value::<Inputs>(inputs).map(|Inputs(inputs)| inputs);
        let texts = |inputs: Value| -> Vec<_> {
            read(inputs).unwrap().into_iter().map(|Texts { text, pair }| (text, pair)).collect()
        };
        let (a, pair) = (|| ("a".to_owned(), None), || ("a".to_owned(), Some("b".to_owned())));
        assert_eq!(texts(json!("a")), [a()]);
        assert_eq!(texts(json!({ "text": "a" })), [a()]);
        assert_eq!(texts(json!({ "text": "a", "pair": null })), [a()]);
        assert_eq!(texts(json!({ "text": "a", "pair": "b" })), [pair()]);
        assert_eq!(texts(json!(["a", { "text": "a", "pair": "b" }])), [a(), pair()]);
        assert_eq!(texts(json!([])), []);
        for wrong in [json!(null), json!(7), json!([["a", "b"]]), json!({ "pair": "b" }), json!({ "text": null })] {
            assert!(read(wrong.clone()).is_err(), "{wrong}");
        }
    }
}
