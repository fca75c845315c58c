//! The order of things that read each other: stages, variables.

/// Indices in an order in which each stands after those it reads, as near to the given order as can be; and the cycles that
/// hinder that, in each of which one reads the next, the first repeated at the end. All there are, unless they share steps:
/// without the last step of each there is none.
pub(super) fn order(reads: &[Vec<usize>]) -> (Vec<usize>, Vec<Vec<usize>>) {
    let mut search = Search { reads, marks: vec![Mark::New; reads.len()], order: Vec::new(), cycles: Vec::new() };
    for start in 0..reads.len() {
        search.visit(start, &mut Vec::new());
    }
    (search.order, search.cycles)
}

struct Search<'a> {
    reads: &'a [Vec<usize>],
    marks: Vec<Mark>,
    order: Vec<usize>,
    cycles: Vec<Vec<usize>>,
}

#[derive(Clone, Copy, PartialEq)]
enum Mark {
    New,
    Open,
    Done,
}

impl Search<'_> {
    fn visit(&mut self, at: usize, path: &mut Vec<usize>) {
        path.push(at);
        if self.marks[at] == Mark::Open {
            let first = path.iter().position(|step| *step == at).unwrap_or_default();
            self.cycles.push(path[first..].to_vec());
        } else if self.marks[at] == Mark::New {
            self.marks[at] = Mark::Open;
            for read in &self.reads[at] {
                self.visit(*read, path);
            }
            self.marks[at] = Mark::Done;
            self.order.push(at);
        }
        path.pop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_cycle_is_named_in_reading_order() {
        assert_eq!(order(&[vec![], vec![2], vec![3], vec![1]]).1, [[1, 2, 3, 1]]);
        assert_eq!(order(&[vec![1], vec![0], vec![2]]).1, [vec![0, 1, 0], vec![2, 2]]);
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
            let (order, cycles) = order(&graph);
            prop_assert!(cycles.is_empty());
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

        #[test]
        fn without_the_last_step_of_each_cycle_there_is_none(
            mut reads in proptest::collection::vec(proptest::collection::vec(any::<prop::sample::Index>(), 0..4), 1..12),
        ) {
            let count = reads.len();
            let mut graph: Vec<Vec<usize>> =
                reads.iter_mut().map(|reads| reads.iter().map(|read| read.index(count)).collect()).collect();
            for cycle in order(&graph).1 {
                let (last, first) = (cycle[cycle.len() - 2], cycle[0]);
                graph[last].retain(|read| *read != first);
            }
            prop_assert_eq!(order(&graph).1, Vec::<Vec<usize>>::new());
        }
    }
}
