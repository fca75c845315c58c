//! Teacher annealing: how the share of the gold label in the target changes over a training.

use std::f64::consts::PI;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// λ, the gold label's share of the target at progress `p` of the training.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Anneal {
    /// λ = p: from the teacher alone to the label alone (teacher annealing).
    #[default]
    Linear,
    /// λ = (1 - cos πp) / 2.
    Cosine,
    /// λ stays as given; 0 is pure distillation.
    Fixed(f64),
    /// λ = `share` up to the progress `until`; from there it rises in a line to 1 at the end.
    Hold(Hold),
}

/// A λ that is held, then rises.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hold {
    /// λ up to there.
    pub share: f64,
    /// Progress of the training at which λ begins to rise, at least 0 and below 1.
    pub until: f64,
}

impl Anneal {
    /// λ at progress `p` in `[0, 1)`.
    pub fn gold_share(self, progress: f64) -> f64 {
        match self {
            Self::Linear => progress,
            Self::Cosine => (1.0 - (PI * progress).cos()) / 2.0,
            Self::Fixed(share) => share,
            Self::Hold(Hold { share, until }) => {
                let risen = ((progress - until) / (1.0 - until)).max(0.0);
                share + (1.0 - share) * risen
            }
        }
    }

    /// What the curve says wrongly, if anything.
    pub(super) fn mistake(self) -> Option<&'static str> {
        let is_share = |share: f64| (0.0..=1.0).contains(&share);
        match self {
            Self::Fixed(share) if !is_share(share) => Some("a fixed share of the gold label lies in 0 to 1"),
            Self::Hold(hold) if !is_share(hold.share) => Some("`share` of the gold label lies in 0 to 1"),
            Self::Hold(hold) if !(0.0..1.0).contains(&hold.until) => {
                Some("`until` is a progress of the training, at least 0 and below 1")
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_by_hand() {
        let hold = |share, until| Anneal::Hold(Hold { share, until });
        for (anneal, shares) in [
            (Anneal::Linear, [0.0, 0.5, 0.9]),
            (Anneal::Cosine, [0.0, 0.5, 0.975_528_258_147_576_8]),
            (Anneal::Fixed(0.5), [0.5, 0.5, 0.5]),
            (hold(0.0, 0.0), [0.0, 0.5, 0.9]),
            // From 0 at 0.4 to 1 at 1: a sixth of the way at 0.5, five sixths at 0.9.
            (hold(0.0, 0.4), [0.0, 1.0 / 6.0, 5.0 / 6.0]),
            // 0.2 + 0.8 * 0.4 / 0.5.
            (hold(0.2, 0.5), [0.2, 0.2, 0.84]),
        ] {
            for (progress, share) in [0.0, 0.5, 0.9].into_iter().zip(shares) {
                assert!((anneal.gold_share(progress) - share).abs() < 1e-12, "{anneal:?} at {progress}");
            }
        }
    }

    #[test]
    fn shares_outside_0_to_1_are_mistakes() {
        for text in
            [r#"{"fixed": 1.1}"#, r#"{"hold": {"share": -0.1, "until": 0}}"#, r#"{"hold": {"share": 0, "until": 1}}"#]
        {
            assert!(serde_json::from_str::<Anneal>(text).unwrap().mistake().is_some(), "{text}");
        }
        for text in [r#""linear""#, r#"{"fixed": 0}"#, r#"{"hold": {"share": 1, "until": 0.5}}"#] {
            assert_eq!(serde_json::from_str::<Anneal>(text).unwrap().mistake(), None, "{text}");
        }
    }
}
