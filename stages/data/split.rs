//! The seeded split of a file by its rows' content.

use bam_contract::artifact::examples::Example;
use bam_contract::task::{Split, SplitShares};

/// The splits that a file `all` is divided into.
pub(super) fn sides(shares: &SplitShares) -> impl Iterator<Item = Split> {
    let test = (shares.test > 0.0).then_some(Split::Test);
    [Split::Train, Split::Dev].into_iter().chain(test)
}

/// The split a row belongs to: told by the seed and its texts alone, so that it stays where it is when
/// other rows come or go. The order of a symmetric pair does not count.
pub(super) fn side_of(example: &Example, shares: &SplitShares, symmetric: bool) -> Split {
    let mut texts = vec![example.text.as_str()];
    texts.extend(example.pair.as_deref());
    if symmetric {
        texts.sort_unstable();
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update(&shares.seed.to_le_bytes());
    for text in texts {
        // With its length, so that `ab`, `c` and `a`, `bc` differ.
        hasher.update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes());
    }
    let first: [u8; 8] = std::array::from_fn(|index| hasher.finalize().as_bytes()[index]);
    // The top 53 bits are a float in [0, 1) without rounding.
    let position = (u64::from_le_bytes(first) >> 11) as f64 / (1_u64 << 53) as f64;
    if position < shares.dev {
        Split::Dev
    } else if position < shares.dev + shares.test {
        Split::Test
    } else {
        Split::Train
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn example(text: &str, pair: Option<&str>) -> Example {
        Example { text: text.to_owned(), pair: pair.map(ToOwned::to_owned), label: None }
    }

    #[test]
    fn shares_come_out_and_seeds_differ() {
        let shares = SplitShares { dev: 0.2, test: 0.1, seed: 1 };
        let sides = |shares: &SplitShares| -> Vec<Split> {
            (0..10_000).map(|row| side_of(&example(&format!("row {row}"), None), shares, false)).collect()
        };
        let first = sides(&shares);
        let count = |split| first.iter().filter(|side| **side == split).count();
        assert!((1_900..2_100).contains(&count(Split::Dev)), "{}", count(Split::Dev));
        assert!((900..1_100).contains(&count(Split::Test)), "{}", count(Split::Test));
        assert_ne!(first, sides(&SplitShares { seed: 2, ..shares }));
    }

    #[test]
    fn known_places_stay() {
        // A change here moves rows between the splits of everyone's data.
        let shares = SplitShares { dev: 0.4, test: 0.3, seed: 7 };
        let places: Vec<_> =
            ["a", "b", "c", "d", "e", "f"].map(|text| side_of(&example(text, None), &shares, false)).into();
        assert_eq!(places, [Split::Dev, Split::Dev, Split::Train, Split::Dev, Split::Dev, Split::Dev]);
    }

    proptest! {
        #[test]
        fn a_place_depends_on_the_texts_alone(text: String, pair: String, label in prop::option::of(0.0..1.0), seed: u64) {
            let shares = SplitShares { dev: 0.4, test: 0.3, seed };
            let row = Example { label, ..example(&text, Some(&pair)) };
            let unlabelled = example(&text, Some(&pair));
            prop_assert_eq!(side_of(&row, &shares, false), side_of(&unlabelled, &shares, false));
            let swapped = example(&pair, Some(&text));
            prop_assert_eq!(side_of(&row, &shares, true), side_of(&swapped, &shares, true));
        }

        #[test]
        fn no_share_no_rows(text: String, seed: u64) {
            let shares = SplitShares { dev: 0.5, test: 0.0, seed };
            prop_assert_ne!(side_of(&example(&text, None), &shares, false), Split::Test);
        }
    }
}
