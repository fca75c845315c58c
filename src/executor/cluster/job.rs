//! By what a queue knows a job.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

/// `4711`, `4711_3` for a member of an array, or whatever word another queue has.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub(crate) struct JobId(String);

impl JobId {
    pub(super) fn member(array: u64, index: u64) -> Self {
        Self(format!("{array}_{index}"))
    }
}

impl From<u64> for JobId {
    fn from(number: u64) -> Self {
        Self(number.to_string())
    }
}

impl FromStr for JobId {
    type Err = Infallible;

    fn from_str(word: &str) -> Result<Self, Infallible> {
        Ok(Self(word.to_owned()))
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Notes and manifests once held bare numbers.
impl<'de> Deserialize<'de> for JobId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Word(String),
            Number(u64),
        }
        Ok(match Written::deserialize(deserializer)? {
            Written::Word(word) => Self(word),
            Written::Number(number) => number.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_bare_numbers_are_read() {
        let ids: Vec<JobId> = serde_json::from_str(r#"["4711_3", 4711, "12.server"]"#).unwrap();
        assert_eq!(ids, [JobId::member(4711, 3), JobId::from(4711), "12.server".parse().unwrap()]);
        assert_eq!(serde_json::to_string(&ids).unwrap(), r#"["4711_3","4711","12.server"]"#);
    }
}
