//! The Mann-Whitney U test, two-sided, as scipy's `mannwhitneyu` computes it.

use bam_contract::artifact::comparison::MannWhitney;

/// Pairs of trials up to which the exact distribution is counted; beyond, the normal approximation is as good.
const MOST_PAIRS: usize = 2500;

/// Tests whether `a` tends to be greater or smaller than `b`. Both have values; `p_holm` is left as `p`.
pub(super) fn mann_whitney(a: &[f64], b: &[f64]) -> MannWhitney {
    let pairs = a.len() * b.len();
    let wins = |a: &f64, b: &f64| if a > b { 1.0 } else { 0.5 * f64::from(u8::from(a == b)) };
    let u: f64 = a.iter().flat_map(|a| b.iter().map(move |b| wins(a, b))).sum();
    let tied = tie_sizes(a, b);
    let exact = pairs <= MOST_PAIRS && tied.iter().all(|size| *size == 1);
    let farther = u.max(pairs as f64 - u);
    let p = if exact {
        2.0 * exact_tail(farther as usize, a.len(), b.len())
    } else {
        approximate_p(farther, a.len(), b.len(), &tied)
    };
    let p = p.min(1.0);
    // One order of all is the most extreme: n! m! / (n + m)!.
    let extreme: f64 = (1..=a.len()).map(|at| at as f64 / (b.len() + at) as f64).product();
    let least_p = (2.0 * extreme).min(1.0);
    MannWhitney { u, p, p_holm: p, exact, least_p }
}

/// How often each value occurs in both samples together.
fn tie_sizes(a: &[f64], b: &[f64]) -> Vec<usize> {
    let mut all = [a, b].concat();
    all.sort_by(f64::total_cmp);
    all.chunk_by(|a, b| a == b).map(<[f64]>::len).collect()
}

/// The chance of a `U` of at least `u` if all orders of `n` and `m` distinct values are equally likely.
///
/// `U` is the sum of the ranks of the `n` values, less the least such sum. Sums are counted rank by rank: whether rank `r` is one
/// of the `n`. All terms are positive, so that the counts keep nearly all digits though they outgrow whole numbers.
fn exact_tail(u: usize, n: usize, m: usize) -> f64 {
    let most = n * m;
    // ways[k][s]: ways to have placed k values with a rank sum s above the least of k values.
    let mut ways = vec![vec![0.0_f64; most + 1]; n + 1];
    ways[0][0] = 1.0;
    for rank in 0..n + m {
        for placed in (0..n.min(rank + 1)).rev() {
            // The value placed next would have been at rank `placed` at the least.
            let above = rank - placed;
            for sum in 0..(most + 1).saturating_sub(above) {
                ways[placed + 1][sum + above] += ways[placed][sum];
            }
        }
    }
    let all: f64 = ways[n].iter().sum();
    ways[n][u..].iter().sum::<f64>() / all
}

/// By the normal distribution of `U`, with its variance corrected for ties, and `U` for continuity.
fn approximate_p(farther: f64, n: usize, m: usize, tied: &[usize]) -> f64 {
    let (pairs, all) = ((n * m) as f64, (n + m) as f64);
    let ties: f64 = tied.iter().map(|size| (*size as f64).powi(3) - *size as f64).sum();
    let variance = pairs / 12.0 * (all + 1.0 - ties / (all * (all - 1.0)));
    if variance <= 0.0 {
        // All values are one and the same.
        return 1.0;
    }
    let z = (farther - pairs / 2.0 - 0.5) / variance.sqrt();
    libm::erfc(z / std::f64::consts::SQRT_2)
}
