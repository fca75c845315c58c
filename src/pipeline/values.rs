//! The values of a YAML text. Where the library would give the whole text up, reading goes on: what is wrong is kept with its path,
//! and told together with everything else.

use std::fmt;
use std::mem;

use serde::de::{DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, VariantAccess, Visitor};
use serde_yaml::mapping::Entry;
use serde_yaml::value::{Tag, TaggedValue};
use serde_yaml::{Mapping, Value as Yaml};

use super::draft::entry_name;
use super::places::{EntryPath, MERGE};

/// What is wrong at a path.
#[derive(Debug, PartialEq)]
pub(super) enum Wrong {
    /// A name that its mapping has already.
    Twice,
    /// A whole number of more than 64 bits, as written.
    TooLarge(String),
    /// An infinity, or what is no number: JSON, which artifacts are described in, has neither.
    NotFinite(&'static str),
    /// `<<` with something else than a mapping, or a list of them.
    NotMerged,
}

impl Wrong {
    /// The whole sentence, and a hint.
    pub(super) fn message(&self, path: &[String]) -> (String, Option<String>) {
        let path = path.join(".");
        match self {
            Self::Twice => (format!("`{path}` is given twice"), None),
            Self::TooLarge(number) if path.is_empty() => {
                (format!("the number `{number}` does not fit in 64 bits"), None)
            }
            Self::TooLarge(number) => (
                format!("`{path}` is the number `{number}`, which does not fit in 64 bits"),
                Some("what is meant as text stands in quotes".to_owned()),
            ),
            Self::NotFinite(number) if path.is_empty() => (format!("`{number}` is not a finite number"), None),
            Self::NotFinite(number) => (format!("`{path}` is `{number}`, not a finite number"), None),
            Self::NotMerged => (format!("`{path}` is not a mapping, or a list of mappings"), None),
        }
    }
}

/// Reads a text: its values, merged, and what is wrong with them. A number that is too large, or endless, stands as a 1.
///
/// # Errors
/// When the text is no YAML.
pub(super) fn read(text: &str) -> Result<(Yaml, Vec<(EntryPath, Wrong)>), serde_yaml::Error> {
    let mut reading = Reading::default();
    let root = reading.deserialize(serde_yaml::Deserializer::from_str(text))?;
    Ok((root, reading.wrong))
}

#[derive(Default)]
struct Reading {
    path: EntryPath,
    wrong: Vec<(EntryPath, Wrong)>,
}

impl Reading {
    fn add(&mut self, wrong: Wrong) {
        self.wrong.push((self.path.clone(), wrong));
    }

    fn too_large(&mut self, number: String) -> Yaml {
        self.add(Wrong::TooLarge(number));
        Yaml::from(1)
    }

    /// A value under a name that its mapping has already.
    fn again(&mut self, known: &mut Yaml, value: Yaml) {
        self.add(Wrong::Twice);
        match (self.path.as_slice(), known, value) {
            // What a whole section holds, and the values of an axis, are referred to from elsewhere: all count.
            ([_], Yaml::Mapping(known), Yaml::Mapping(more)) => {
                for (name, value) in more {
                    self.path.push(entry_name(&name));
                    self.insert(known, name, value);
                    self.path.pop();
                }
            }
            ([section, _], Yaml::Sequence(known), Yaml::Sequence(more)) if section == "for" => {
                let new: Vec<Yaml> = more.into_iter().filter(|value| !known.contains(value)).collect();
                known.extend(new);
            }
            // Else what stands in one of them alone would be missed.
            (_, Yaml::Mapping(known), Yaml::Mapping(more)) => known.extend(more),
            (_, known, value) => *known = value,
        }
    }

    fn insert(&mut self, entries: &mut Mapping, name: Yaml, value: Yaml) {
        match entries.entry(name) {
            Entry::Vacant(entry) => {
                entry.insert(value);
            }
            Entry::Occupied(mut entry) => self.again(entry.get_mut(), value),
        }
    }

    /// Gives a mapping the entries of those that it merges, but for names that it has.
    fn merge(&mut self, entries: &mut Mapping) {
        let Some(merged) = entries.shift_remove(MERGE) else { return };
        let all = match merged {
            Yaml::Sequence(all) => all,
            one => vec![one],
        };
        for one in all {
            if let Yaml::Mapping(one) = one {
                for (name, value) in one {
                    entries.entry(name).or_insert(value);
                }
            } else {
                self.path.push(MERGE.to_owned());
                self.add(Wrong::NotMerged);
                self.path.pop();
            }
        }
    }
}

impl<'de> DeserializeSeed<'de> for &mut Reading {
    type Value = Yaml;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Yaml, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for &mut Reading {
    type Value = Yaml;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any YAML value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Yaml, E> {
        Ok(Yaml::from(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Yaml, E> {
        Ok(Yaml::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Yaml, E> {
        Ok(Yaml::from(value))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Yaml, E> {
        Ok(self.too_large(value.to_string()))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Yaml, E> {
        Ok(self.too_large(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Yaml, E> {
        if value.is_finite() {
            return Ok(Yaml::from(value));
        }
        self.add(Wrong::NotFinite(if value.is_nan() {
            ".nan"
        } else if value > 0.0 {
            ".inf"
        } else {
            "-.inf"
        }));
        Ok(Yaml::from(1))
    }

    fn visit_str<E>(self, value: &str) -> Result<Yaml, E> {
        Ok(Yaml::from(value))
    }

    fn visit_unit<E>(self) -> Result<Yaml, E> {
        Ok(Yaml::Null)
    }

    fn visit_none<E>(self) -> Result<Yaml, E> {
        Ok(Yaml::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Yaml, A::Error> {
        let mut items = Vec::new();
        loop {
            self.path.push(items.len().to_string());
            let item = seq.next_element_seed(&mut *self)?;
            self.path.pop();
            match item {
                Some(item) => items.push(item),
                None => return Ok(Yaml::Sequence(items)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Yaml, A::Error> {
        let mut entries = Mapping::new();
        let mut of_name = Reading::default();
        while let Some(mut name) = map.next_key_seed(&mut of_name)? {
            // A name is text, however large a number it is.
            if let Some((_, Wrong::TooLarge(number))) = mem::take(&mut of_name.wrong).pop() {
                name = Yaml::String(number);
            }
            self.path.push(entry_name(&name));
            let value = map.next_value_seed(&mut *self)?;
            self.insert(&mut entries, name, value);
            self.path.pop();
        }
        self.merge(&mut entries);
        Ok(Yaml::Mapping(entries))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<Yaml, A::Error> {
        let (tag, contents) = data.variant::<String>()?;
        if tag.is_empty() {
            return Err(A::Error::custom("empty YAML tag is not allowed"));
        }
        let value = contents.newtype_variant_seed(self)?;
        Ok(Yaml::Tagged(Box::new(TaggedValue { tag: Tag::new(tag), value })))
    }
}

#[cfg(test)]
mod tests {
    use super::super::places::entry_path;
    use super::*;

    fn wrongs(text: &str) -> Vec<(EntryPath, Wrong)> {
        read(text).unwrap().1
    }

    #[test]
    fn reads_what_the_library_reads_and_merges_alike() {
        for text in [
            "",
            "a: { b: [1, -2, 0x1F, 1e5, ~, true, '1', !x y] }\n1: 2\n[k]: v\n",
            "base: &base { a: 1, b: { c: 2 } }\nmore: &more { b: 3 }\none: { <<: *base, b: 5 }\ntwo: { <<: [*more, *base] }\n",
        ] {
            let mut expected: Yaml = serde_yaml::from_str(text).unwrap();
            expected.apply_merge().unwrap();
            let (root, wrong) = read(text).unwrap();
            assert_eq!((format!("{root:?}"), wrong), (format!("{expected:?}"), Vec::new()));
        }
    }

    #[test]
    fn what_is_wrong_is_kept_and_the_rest_is_read() {
        let text = "a: { b: 1, b: 99999999999999999999 }\n-99999999999999999999: { <<: [{ d: 1 }, 2] }\n";
        let (root, wrong) = read(text).unwrap();
        assert_eq!(root, serde_yaml::from_str::<Yaml>("a: { b: 1 }\n'-99999999999999999999': { d: 1 }").unwrap());
        assert_eq!(
            wrong,
            [
                (entry_path("a.b"), Wrong::TooLarge("99999999999999999999".to_owned())),
                (entry_path("a.b"), Wrong::Twice),
                (entry_path("-99999999999999999999.<<"), Wrong::NotMerged),
            ]
        );
    }

    #[test]
    fn endless_numbers_are_told() {
        let text = "a: { b: .inf, c: [-.inf], d: .nan, e: 1e5, f: '.inf' }\n";
        let expected = [("a.b", ".inf"), ("a.c.0", "-.inf"), ("a.d", ".nan")]
            .map(|(path, number)| (entry_path(path), Wrong::NotFinite(number)));
        assert_eq!(wrongs(text), expected);
        let (message, _) = Wrong::NotFinite(".inf").message(&entry_path("a.b"));
        assert_eq!(message, "`a.b` is `.inf`, not a finite number");
    }

    #[test]
    fn sections_and_axes_that_are_given_twice_count_whole() {
        let text = "for: { x: [a], x: [a, b] }\nstages: { s: 1, t: 2 }\nstages: { t: 3, u: 4 }\n";
        let expected = "for: { x: [a, b] }\nstages: { s: 1, t: 3, u: 4 }\n";
        assert_eq!(read(text).unwrap().0, serde_yaml::from_str::<Yaml>(expected).unwrap());
        let twice = ["for.x", "stages", "stages.t"].map(|path| (entry_path(path), Wrong::Twice));
        assert_eq!(wrongs(text), twice);
    }
}
