//! The Mann-Whitney U test, two-sided, as scipy's `mannwhitneyu` computes it: by permutations where they can be counted.

use bam_contract::artifact::comparison::MannWhitney;

/// Pairs of trials up to which the exact distribution is counted; beyond, the normal approximation is as good.
const MOST_PAIRS: usize = 2500;

/// Tests whether `a` tends to be greater or smaller than `b`. Both have values; `p_holm` is left as `p`.
pub(super) fn mann_whitney(a: &[f64], b: &[f64]) -> MannWhitney {
    let pairs = a.len() * b.len();
    let wins = |a: &f64, b: &f64| if a > b { 1.0 } else { 0.5 * f64::from(u8::from(a == b)) };
    let u: f64 = a.iter().flat_map(|a| b.iter().map(move |b| wins(a, b))).sum();
    let tied = tie_sizes(a, b);
    let exact = pairs <= MOST_PAIRS;
    let p = if exact {
        exact_p((2.0 * u) as usize, a.len(), b.len(), &tied)
    } else {
        approximate_p(u.max(pairs as f64 - u), a.len(), b.len(), &tied)
    };
    let p = p.min(1.0);
    // One order of all is the most extreme: n! m! / (n + m)!.
    let extreme: f64 = (1..=a.len()).map(|at| at as f64 / (b.len() + at) as f64).product();
    let least_p = (2.0 * extreme).min(1.0);
    MannWhitney { u, p, p_holm: p, exact, least_p }
}

/// How often each value occurs in both samples together, in ascending order of the values.
fn tie_sizes(a: &[f64], b: &[f64]) -> Vec<usize> {
    let mut all = [a, b].concat();
    all.sort_by(f64::total_cmp);
    all.chunk_by(|a, b| a == b).map(<[f64]>::len).collect()
}

/// Twice the smaller of the chances of a `U` as great and as small as half of `twice_u`, if all ways to call `n` of the `n + m`
/// values `a`'s are equally likely: the permutation test, which takes ties as they are.
///
/// `U` is the sum of the ranks of the `n` values, less the least that `n` ranks can sum to; tied values share the mean of their ranks.
/// Sums are counted value by value, twice over so that they are whole. All terms are positive, so that the counts keep nearly
/// all digits though they outgrow whole numbers.
fn exact_p(twice_u: usize, n: usize, m: usize, tied: &[usize]) -> f64 {
    // Of k of all ranks, the greatest sum is twice k (n + m - k) above the least.
    let most = (n + m).pow(2) / 2;
    // ways[k][s]: ways to have placed k values with twice a rank sum s above the least of k distinct ranks.
    let mut ways = vec![vec![0.0_f64; most + 1]; n + 1];
    ways[0][0] = 1.0;
    let mut before = 0;
    for size in tied {
        let twice_rank = 2 * before + size - 1;
        for value in before..before + size {
            for placed in (0..n.min(value + 1)).rev() {
                // Were all distinct, it would be at rank `placed` at the least. The last of tied values may lie below.
                let above = twice_rank as isize - 2 * placed as isize;
                let [from, into] = ways.get_disjoint_mut([placed, placed + 1]).expect("two rows");
                for (sum, ways) in from.iter().enumerate().filter(|(_, ways)| **ways > 0.0) {
                    if let Some(count) = sum.checked_add_signed(above).and_then(|sum| into.get_mut(sum)) {
                        *count += ways;
                    }
                }
            }
        }
        before += size;
    }
    let sum = |counts: &[f64]| counts.iter().sum::<f64>();
    2.0 * sum(&ways[n][twice_u..]).min(sum(&ways[n][..=twice_u])) / sum(&ways[n])
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
