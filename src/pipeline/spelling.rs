//! Numbers in stages' names: `x@2e-5` is `x@0.00002`, as it is a parameter's value.

/// Whether parts of names are the same, numbers by their value.
pub(super) fn alike(part: &str, other: &str) -> bool {
    let number = |text: &str| text.parse().ok().filter(|number: &f64| number.is_finite());
    part == other || number(part).is_some_and(|value| number(other) == Some(value))
}

/// The stage of that name; where there is none, one that has it but for the spelling of numbers.
pub(super) fn named<'a>(name: &str, mut names: impl Iterator<Item = &'a str> + Clone) -> Option<&'a str> {
    let same = |known: &&str| {
        let (mut parts, mut known) = (name.split('@'), known.split('@'));
        parts.next() == known.next()
            && parts.clone().count() == known.clone().count()
            && parts.zip(known).all(|(a, b)| alike(a, b))
    };
    names.clone().find(|known| *known == name).or_else(|| names.find(same))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_the_same_by_value_and_a_name_as_written_goes_first() {
        let names = ["x@1", "x@01", "x@0.00002@a", "y@2"];
        let found = |name| named(name, names.into_iter());
        assert_eq!(found("x@01"), Some("x@01"));
        assert_eq!(found("x@1.0"), Some("x@1"));
        assert_eq!(found("x@2e-5@a"), Some("x@0.00002@a"));
        assert_eq!(found("x@2e-5"), None);
        assert_eq!(found("x@2"), None);
        assert!(!alike("nan", "NaN"));
    }
}
