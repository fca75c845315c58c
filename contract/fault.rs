//! Errors a user reads: what, where, why, and what to do about it.

/// An error with a hint. It travels inside an [`anyhow::Error`] chain; [`hint_of`] finds it there.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    message: String,
    hint: String,
}

impl Fault {
    pub fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: hint.into() }
    }

    pub fn hint(&self) -> &str {
        &self.hint
    }
}

/// The first hint in an error's chain of causes.
pub fn hint_of(error: &anyhow::Error) -> Option<&str> {
    // A fault that was added as context is found by the first, one that lies below others by the second.
    let fault = error.downcast_ref::<Fault>().or_else(|| error.chain().find_map(|cause| cause.downcast_ref()));
    fault.map(Fault::hint)
}

/// The name in `known` that `name` was most likely meant to be, for "did you mean" hints.
pub fn closest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let length = name.chars().count();
    let limit = 1 + length / 3;
    known
        .into_iter()
        // No nearer than their lengths are; a name may be a megabyte.
        .filter(|candidate| candidate.chars().count().abs_diff(length) <= limit)
        .map(|candidate| (edit_distance(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein distance, by the two-row recurrence.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hint_is_found_below_added_context() {
        let error = anyhow::Error::new(Fault::new("no such file", "make it")).context("while reading");
        assert_eq!(hint_of(&error), Some("make it"));
        let error = anyhow::anyhow!("no such file").context(Fault::new("while reading", "look")).context("at first");
        assert_eq!(hint_of(&error), Some("look"));
    }

    #[test]
    fn closest_names() {
        let known = ["epochs", "batch", "learning_rate"];
        assert_eq!(closest("epoch", known), Some("epochs"));
        assert_eq!(closest("learning_rat", known), Some("learning_rate"));
        assert_eq!(closest("zebra", known), None);
        assert_eq!(closest(&"batch".repeat(1 << 20), known), None);
    }
}
