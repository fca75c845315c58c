//! In which order Jobs are applied.

/// The wave of each stage that runs, counted from 1: the one after the last of those it waits for. Stages stand after those
/// they wait for.
pub(crate) fn waves(waits_for: &[Vec<usize>], runs: &[bool]) -> Vec<Option<usize>> {
    let mut reached: Vec<usize> = Vec::with_capacity(runs.len());
    for (waits_for, runs) in waits_for.iter().zip(runs) {
        let before = waits_for.iter().map(|at| reached[*at]).max().unwrap_or_default();
        reached.push(before + usize::from(*runs));
    }
    reached.into_iter().zip(runs).map(|(wave, runs)| runs.then_some(wave)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_does_not_run_takes_no_wave() {
        let reads = [vec![], vec![0], vec![1], vec![], vec![2, 3]];
        assert_eq!(waves(&reads, &[true; 5]), [Some(1), Some(2), Some(3), Some(1), Some(4)]);
        assert_eq!(waves(&reads, &[true, false, true, false, true]), [Some(1), None, Some(2), None, Some(3)]);
        assert_eq!(waves(&reads, &[false; 5]), [None; 5]);
    }

    proptest! {
        #[test]
        fn each_stage_comes_after_those_it_waits_for_and_no_wave_is_empty(
            reads in proptest::collection::vec((proptest::collection::vec(any::<prop::sample::Index>(), 0..4), any::<bool>()), 1..30),
        ) {
            let (reads, runs): (Vec<_>, Vec<_>) = reads.into_iter().unzip();
            let before = |at: usize, reads: Vec<prop::sample::Index>| match at {
                0 => Vec::new(),
                _ => reads.iter().map(|read| read.index(at)).collect(),
            };
            let reads: Vec<Vec<usize>> = reads.into_iter().enumerate().map(|(at, reads)| before(at, reads)).collect();
            let waves = waves(&reads, &runs);
            for (at, reads) in reads.iter().enumerate() {
                prop_assert_eq!(waves[at].is_some(), runs[at]);
                for read in reads.iter().filter(|read| runs[at] && runs[**read]) {
                    prop_assert!(waves[*read] < waves[at]);
                }
            }
            for wave in 1..=waves.iter().flatten().copied().max().unwrap_or_default() {
                prop_assert!(waves.contains(&Some(wave)));
            }
        }
    }
}
