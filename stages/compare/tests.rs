use super::*;
use bam_contract::artifact::predictions::{PredictionRows, Predictions};
use bam_contract::digest::{Digest, Fingerprint};
use bam_contract::job::JobInput;
use bam_contract::stage::StageSpec;
use bam_contract::task::Split;
use bam_contract::tasks;
use proptest::prelude::*;
use serde::Deserialize;
use serde_json::json;

#[derive(Deserialize)]
struct References {
    mann_whitney: Vec<RankCase>,
    holm: Vec<HolmCase>,
    quantiles: Vec<QuantileCase>,
}

#[derive(Deserialize)]
struct RankCase {
    name: String,
    a: Vec<f64>,
    b: Vec<f64>,
    u: f64,
    p: f64,
    exact: bool,
}

#[derive(Deserialize)]
struct HolmCase {
    p: Vec<f64>,
    adjusted: Vec<f64>,
}

#[derive(Deserialize)]
struct QuantileCase {
    values: Vec<f64>,
    shares: Vec<f64>,
    expected: Vec<f64>,
}

const TOLERANCE: f64 = 1e-9;

/// Values of scipy, statsmodels and numpy, dumped by `tests/fixtures/make_statistics.py`.
fn references() -> References {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/statistics.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn rank_tests_equal_scipys() {
    let cases = references().mann_whitney;
    assert_eq!(cases.len(), 16);
    for case in cases {
        let found = rank_test::mann_whitney(&case.a, &case.b);
        assert_eq!((found.u, found.exact), (case.u, case.exact), "{}", case.name);
        assert!((found.p - case.p).abs() < TOLERANCE, "{}: {} is not {}", case.name, found.p, case.p);
    }
}

#[test]
fn adjusted_p_values_equal_statsmodels() {
    for case in references().holm {
        let found = holm::adjusted(&case.p);
        for (found, expected) in found.iter().zip(&case.adjusted) {
            assert!((found - expected).abs() < TOLERANCE, "{:?}: {found} is not {expected}", case.p);
        }
    }
}

#[test]
fn quantiles_equal_numpys() {
    for case in references().quantiles {
        let sorted = sorted(&case.values);
        for (share, expected) in case.shares.iter().zip(&case.expected) {
            assert!((quantile(&sorted, *share) - expected).abs() < TOLERANCE);
        }
    }
}

#[test]
fn the_least_p_is_that_of_complete_separation() {
    for (n, m) in [(1, 1), (2, 2), (3, 3), (4, 4), (20, 20), (3, 11)] {
        let a: Vec<f64> = (0..n).map(f64::from).collect();
        let b: Vec<f64> = (0..m).map(|at| 100.0 + f64::from(at)).collect();
        let found = rank_test::mann_whitney(&a, &b);
        assert!((found.p - found.least_p).abs() < TOLERANCE, "{n} and {m}: {} is not {}", found.p, found.least_p);
    }
}

#[test]
fn equal_trials_are_no_evidence() {
    let found = rank_test::mann_whitney(&[0.5; 6], &[0.5; 6]);
    assert_eq!((found.u, found.p, found.exact), (18.0, 1.0, true));
}

/// Two methods that differ on a known share of the rows.
#[test]
fn a_bootstrap_centres_on_the_difference_and_knows_its_spread() {
    let rows = 400;
    let gold = vec![1.0; rows];
    // Right on 80% and on 70% of the rows, each row of the second a row of the first too.
    let answers = |right: usize| (0..rows).map(|row| f64::from(u8::from(row < right))).collect::<Vec<_>>();
    let (better, worse) = (answers(320), answers(280));
    let on = |predicted: &[f64]| {
        bootstrap::resampled(
            &|predicted: &[f64], gold: &[f64]| bam_contract::metric::Metric::Accuracy.of(predicted, gold, 2),
            &[predicted],
            &gold,
            4000,
            (3, 0),
        )
    };
    let found = bootstrap::paired(&on(&better), &on(&worse));
    // The difference is the share of rows that only one gets right: 0.1, with standard error sqrt(0.1 * 0.9 / 400) = 0.015.
    let [low, high] = found.interval;
    assert!(
        (low - (0.1 - 1.96 * 0.015)).abs() < 0.005 && (high - (0.1 + 1.96 * 0.015)).abs() < 0.005,
        "{low} to {high}"
    );
    assert!((found.p - 2.0 / 4001.0).abs() < TOLERANCE, "{}", found.p);
    assert_eq!(bootstrap::paired(&on(&worse), &on(&worse)).p, 1.0);
}

fn scored(values: &[&[f64]]) -> Scored {
    let subject = Subject::Mean { tasks: values.len() };
    let scores = |values: &&[f64]| Scores { trials: values.to_vec(), resampled: vec![vec![0.5; 100]; values.len()] };
    Scored { subject, methods: values.iter().map(scores).collect() }
}

#[test]
fn with_a_baseline_all_others_are_held_against_it_and_else_all_pairs() {
    let methods: Vec<String> = ["a", "b", "c"].map(ToOwned::to_owned).to_vec();
    let scored = [scored(&[&[0.125, 0.25], &[0.375, 0.5], &[0.625, 0.75]])];
    let pairs = |has_baseline| {
        let tests = tests(&methods, has_baseline, &scored);
        tests.iter().map(|test| format!("{}-{}", test.method, test.other)).collect::<Vec<_>>()
    };
    assert_eq!(pairs(true), ["b-a", "c-a"]);
    assert_eq!(pairs(false), ["b-a", "c-a", "c-b"]);
    let first = &tests(&methods, true, &scored)[0];
    assert_eq!((first.difference, first.cliffs_delta, first.mann_whitney.u), (0.25, 1.0, 4.0));
}

#[test]
fn too_few_trials_are_told_of() {
    let methods: Vec<String> = ["a", "b"].map(ToOwned::to_owned).to_vec();
    let told = |trials: usize, subjects: usize| {
        let values: Vec<f64> = (0..2 * trials).map(|at| at as f64 / 100.0).collect();
        let scored: Vec<Scored> = (0..subjects).map(|_| scored(&[&values[..trials], &values[trials..]])).collect();
        cautions(&methods, &scored, &tests(&methods, true, &scored))
    };
    assert_eq!(told(3, 1), ["too few trials: no Mann-Whitney p can be below 0.10, whatever the scores"]);
    assert_eq!(
        told(4, 2),
        ["too few trials for 2 tests: the least Mann-Whitney p, 2.9e-2, is 0.06 after Holm-Bonferroni"]
    );
    assert_eq!(told(5, 1), [""; 0]);
}

/// What a comparison of two methods with two trials each says of dev rows that were answered so: `answers` of the method, the
/// trial and the row, as the output of a value or of the second class.
fn compared(task: &str, answers: impl Fn(&str, usize, usize) -> f32) -> Vec<String> {
    const ROWS: usize = 40;
    let folder = tempfile::tempdir().unwrap();
    let task = tasks::builtin(task).unwrap();
    let mut inputs = Vec::new();
    for method in ["a", "b"] {
        for trial in 0..2 {
            let stage = format!("{method}@{trial}");
            let path = folder.path().join(&stage);
            std::fs::create_dir(&path).unwrap();
            let output = |row: usize| answers(method, trial, row);
            let rows = PredictionRows {
                ids: (0..ROWS as i64).collect(),
                swapped: vec![false; ROWS],
                labels: (0..ROWS).map(|row| Some((row % 2) as f64)).collect(),
                logits: (0..ROWS)
                    .flat_map(|row| if task.is_regression() { vec![output(row)] } else { vec![0.0, output(row)] })
                    .collect(),
            };
            Predictions::write(&path, Split::Dev, &task, rows, Fingerprint::of("a test")).unwrap();
            let digest = Digest::of(&std::fs::read(path.join("dev.arrow")).unwrap());
            inputs.push(JobInput { slot: format!("methods.{method}.{trial}"), stage, path, digest });
        }
    }
    let methods = json!({ "a": ["a@0", "a@1"], "b": ["b@0", "b@1"] });
    let params: CompareParams =
        serde_json::from_value(json!({ "methods": methods, "baseline": "a", "resamples": 1000 })).unwrap();
    let output = folder.path().join("out");
    std::fs::create_dir(&output).unwrap();
    let job = Job {
        stage: "versus".to_owned(),
        pipeline: std::path::PathBuf::new(),
        fingerprint: Fingerprint::of("versus"),
        spec: StageSpec::Compare(params.clone()),
        inputs,
        output: output.clone(),
        resume: folder.path().join("resume"),
        threads: 1,
        device: "cpu".to_owned(),
    };
    let summary = run(&params, &job, &Reporter::default()).unwrap().summary;
    assert_eq!(summary, "2 methods on 1 task; over seeds, 0 of 1 difference below p 0.05 after Holm-Bonferroni");
    let mut cautions = Comparison::read(&output).unwrap().cautions;
    assert_eq!(cautions.remove(0), "too few trials: no Mann-Whitney p can be below 0.33, whatever the scores");
    cautions
}

/// A model that has learnt nothing scores as the share of a label, which no test would tell from learning.
#[test]
fn trials_that_answer_all_rows_alike_are_told_of() {
    let varied = |trial: usize, row: usize| ((row * 7 + trial) % 5) as f32 - 2.0;
    let said = compared("rte", |method, trial, row| match (method, trial) {
        ("a", _) => 1.0 + varied(trial, row) / 10.0,
        ("b", 0) => -1.0,
        _ => varied(trial, row),
    });
    assert_eq!(
        said,
        [
            "2 of 2 trials of `a` answer all dev rows of `rte` alike",
            "1 of 2 trials of `b` answers all dev rows of `rte` alike",
        ]
    );
    // Values differ by rounding even so.
    let said = compared("stsb", |method, trial, row| match (method, trial) {
        ("a", 1) => 0.5 + row as f32 * 1e-8,
        _ => varied(trial + method.len(), row + usize::from(method == "b")),
    });
    assert_eq!(said, ["1 of 2 trials of `a` answers all dev rows of `stsb` alike"]);
}

/// Of methods that made the same models, no test can say anything.
#[test]
fn methods_with_the_same_predictions_are_told_of() {
    let said = compared("rte", |method, trial, row| {
        let own = usize::from(method == "b" && trial == 1);
        ((row * 7 + trial + own * 2) % 5) as f32 - 2.0
    });
    assert_eq!(said, ["`a@0` of method `a` and `b@0` of `b` are the same predictions, byte for byte"]);
}

proptest! {
    /// By counting all ways to choose which of the values are `a`'s, tied or not.
    #[test]
    fn exact_p_equals_counting(values in proptest::collection::vec(0_u8..6, 2..9), cut: prop::sample::Index) {
        let values: Vec<f64> = values.into_iter().map(f64::from).collect();
        let n = 1 + cut.index(values.len() - 1);
        let found = rank_test::mann_whitney(&values[..n], &values[n..]);
        let u_of = |chosen: u32| {
            let (a, b): (Vec<_>, Vec<_>) = (0..values.len()).partition(|at| chosen >> at & 1 == 1);
            let wins = |a: f64, b: f64| if a > b { 1.0 } else if a == b { 0.5 } else { 0.0 };
            a.iter().flat_map(|a| b.iter().map(|b| wins(values[*a], values[*b]))).sum::<f64>()
        };
        let all: Vec<u32> = (0..1_u32 << values.len()).filter(|chosen| chosen.count_ones() as usize == n).collect();
        let share = |is_in: &dyn Fn(f64) -> bool| {
            all.iter().filter(|chosen| is_in(u_of(**chosen))).count() as f64 / all.len() as f64
        };
        let p = (2.0 * share(&|u| u >= found.u).min(share(&|u| u <= found.u))).min(1.0);
        prop_assert!((found.p - p).abs() < TOLERANCE, "{} is not {p}", found.p);
    }

    #[test]
    fn a_test_does_not_depend_on_which_method_stands_first(
        a in proptest::collection::vec(0_u8..20, 1..12), b in proptest::collection::vec(0_u8..20, 1..12),
    ) {
        let [a, b] = [a, b].map(|values| values.into_iter().map(f64::from).collect::<Vec<_>>());
        let (one, other) = (rank_test::mann_whitney(&a, &b), rank_test::mann_whitney(&b, &a));
        prop_assert!((one.p - other.p).abs() < TOLERANCE);
        prop_assert!((one.u + other.u - (a.len() * b.len()) as f64).abs() < TOLERANCE);
    }
}
