//! Holm-Bonferroni: p values of a family of tests, adjusted so that the chance of any false alarm stays below the level.

/// The adjusted p values, in the order given.
pub(super) fn adjusted(p_values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|a, b| p_values[*a].total_cmp(&p_values[*b]));
    let mut adjusted = vec![0.0; p_values.len()];
    let mut least = 0.0_f64;
    for (before, at) in order.iter().enumerate() {
        let left = (p_values.len() - before) as f64;
        least = least.max((p_values[*at] * left).min(1.0));
        adjusted[*at] = least;
    }
    adjusted
}
