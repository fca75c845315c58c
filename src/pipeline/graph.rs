//! The order of things that read each other: stages, variables.

/// Indices in an order in which each stands after those it reads, as near to the given order as can be.
///
/// # Errors
/// A cycle, each reading the next, the first repeated at the end.
pub(super) fn order(reads: &[Vec<usize>]) -> Result<Vec<usize>, Vec<usize>> {
    let mut order = Vec::with_capacity(reads.len());
    let mut marks = vec![Mark::New; reads.len()];
    for start in 0..reads.len() {
        visit(start, reads, &mut marks, &mut Vec::new(), &mut order)?;
    }
    Ok(order)
}

#[derive(Clone, Copy, PartialEq)]
enum Mark {
    New,
    Open,
    Done,
}

fn visit(
    at: usize,
    reads: &[Vec<usize>],
    marks: &mut [Mark],
    path: &mut Vec<usize>,
    order: &mut Vec<usize>,
) -> Result<(), Vec<usize>> {
    path.push(at);
    if marks[at] == Mark::Open {
        let first = path.iter().position(|step| *step == at).unwrap_or_default();
        return Err(path.split_off(first));
    }
    if marks[at] == Mark::New {
        marks[at] = Mark::Open;
        for read in &reads[at] {
            visit(*read, reads, marks, path, order)?;
        }
        marks[at] = Mark::Done;
        order.push(at);
    }
    path.pop();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_cycle_is_named_in_reading_order() {
        assert_eq!(order(&[vec![], vec![2], vec![3], vec![1]]), Err(vec![1, 2, 3, 1]));
    }

    proptest! {
        #[test]
        fn every_stage_stands_after_what_it_reads(
            reads in proptest::collection::vec(proptest::collection::vec(any::<prop::sample::Index>(), 0..4), 1..30),
            shuffle in any::<u64>(),
        ) {
            // Stage i reads only lower stages; then all are renamed by a permutation.
            let count = reads.len();
            let rename: Vec<usize> = {
                let mut order: Vec<usize> = (0..count).collect();
                order.sort_by_key(|at| (*at as u64 + 1).wrapping_mul(shuffle | 1));
                order
            };
            let mut graph = vec![Vec::new(); count];
            for (at, reads) in reads.iter().enumerate().skip(1) {
                for read in reads {
                    graph[rename[at]].push(rename[read.index(at)]);
                }
            }
            let order = order(&graph).unwrap();
            let mut sorted = order.clone();
            sorted.sort_unstable();
            prop_assert_eq!(sorted, (0..count).collect::<Vec<_>>());
            let position = |stage: usize| order.iter().position(|at| *at == stage).unwrap();
            for (at, reads) in graph.iter().enumerate() {
                for read in reads {
                    prop_assert!(position(*read) < position(at));
                }
            }
        }
    }
}
