use bam_contract::tasks;

use super::*;

fn draw(task: &str, seed: u64, rows: usize) -> Vec<Example> {
    examples(task, seed).unwrap().take(rows).collect::<Result<_>>().unwrap()
}

#[test]
fn every_grammar_task_is_written() {
    assert_eq!(GRAMMARS.map(|grammar| grammar.task), tasks::GRAMMAR_TASKS);
}

#[test]
fn the_seed_decides_every_row() {
    for task in tasks::GRAMMAR_TASKS {
        assert_eq!(draw(task, 1, 200), draw(task, 1, 200));
        assert_ne!(draw(task, 1, 200), draw(task, 2, 200));
    }
}

#[test]
fn no_row_comes_twice_in_either_order() {
    for task in tasks::GRAMMAR_TASKS {
        let rows = draw(task, 3, 5000);
        let different: HashSet<_> = rows.iter().map(content).collect();
        assert_eq!(different.len(), rows.len(), "{task}");
        assert!(rows.iter().all(|row| row.pair.as_ref() != Some(&row.text)), "{task}");
    }
}

#[test]
fn labels_fit_the_task_and_are_near_balance() {
    for name in tasks::GRAMMAR_TASKS {
        let task = tasks::builtin(name).unwrap();
        let labels: Vec<_> = draw(name, 4, 3000).iter().map(|row| row.label.unwrap()).collect();
        if let Some([least, greatest]) = task.range {
            assert!(labels.iter().all(|value| (least..=greatest).contains(value) && (value * 5.0).fract() == 0.0));
            let quarters = [0, 1, 2, 3]
                .map(|quarter| labels.iter().filter(|value| ((*value / 1.250_000_1) as usize) == quarter).count());
            assert!(quarters.iter().all(|count| *count > 400), "{name}: {quarters:?}");
        } else {
            for class in 0..task.labels.len() {
                let share = labels.iter().filter(|label| **label == class as f64).count() * task.labels.len();
                assert!((2700..3300).contains(&share), "{name}: class {class} has {share}");
            }
        }
    }
}

#[test]
fn a_pair_has_a_second_text_and_a_single_has_none() {
    for name in tasks::GRAMMAR_TASKS {
        let pairs = tasks::builtin(name).unwrap().is_pair();
        assert!(draw(name, 5, 100).iter().all(|row| row.pair.is_some() == pairs), "{name}");
    }
}
