//! `compare`: methods over seeds on dev rows, from predictions made before; no model is run again.

mod bootstrap;
mod holm;
mod inputs;
mod rank_test;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use anyhow::Result;
use bam_contract::artifact::comparison::{Comparison, Subject, Summary, Test, Trial};
use bam_contract::job::Job;
use bam_contract::resample::{median, quantile, sorted};
use bam_contract::stage::CompareParams;

use self::inputs::TaskTrials;
use crate::alike;
use crate::report::{Outcome, Reporter};
use crate::text::plural;

/// Above it a p value is called no evidence.
const LEVEL: f64 = 0.05;

/// Scores of all methods on one subject.
struct Scored {
    subject: Subject,
    /// In the order of the methods.
    methods: Vec<Scores>,
}

/// Scores of one method's trials: on the dev rows, and `[trial][resample]` on draws of them.
struct Scores {
    trials: Vec<f64>,
    resampled: Vec<Vec<f64>>,
}

pub(crate) fn run(params: &CompareParams, job: &Job, reporter: &Reporter) -> Result<Outcome> {
    let methods = methods(params);
    let tasks = inputs::read(&methods, job)?;
    let mut scored = Vec::new();
    for (number, task) in tasks.iter().enumerate() {
        reporter.progress(number as u64, tasks.len() as u64, "task", task.spec.name.clone());
        scored.push(score(task, params, number as u32));
    }
    let trials = trials(&methods, &tasks, &scored);
    scored.extend(mean(&scored));
    let mut tests = tests(&methods, params.baseline.is_some(), &scored);
    adjust(&mut tests);
    for scored in &scored {
        for (method, scores) in methods.iter().zip(&scored.methods) {
            let subject = match &scored.subject {
                Subject::Task { task, metric, .. } => format!("{task}/{}", metric.name()),
                Subject::Mean { .. } => "mean".to_owned(),
            };
            reporter.metric(&format!("median/{method}/{subject}"), median(&scores.trials));
        }
    }
    let comparison = Comparison {
        fingerprint: job.fingerprint,
        summaries: scored.iter().flat_map(|scored| summaries(&methods, scored)).collect(),
        // Of the tests first: there are few, and a run shows no more than the first ones.
        cautions: [cautions(&methods, &scored, &tests), copies(&methods, &tasks), constants(&methods, &tasks)].concat(),
        tests,
        methods,
        baseline: params.baseline.clone(),
    };
    comparison.write(&job.output, &trials)?;
    let significant = comparison.tests.iter().filter(|test| test.mann_whitney.p_holm < LEVEL).count();
    Ok(Outcome::from(format!(
        "{} on {}; over seeds, {significant} of {} below p {LEVEL} after Holm-Bonferroni",
        plural(comparison.methods.len(), "method"),
        plural(tasks.len(), "task"),
        plural(comparison.tests.len(), "difference")
    )))
}

/// The baseline first, the others by name.
fn methods(params: &CompareParams) -> Vec<String> {
    let others = params.methods.keys().filter(|name| params.baseline.as_ref() != Some(*name));
    params.baseline.iter().chain(others).cloned().collect()
}

fn score(task: &TaskTrials, params: &CompareParams, stream: u32) -> Scored {
    let metric = task.metric();
    let measure = |predicted: &[f64], gold: &[f64]| task.spec.score(metric, predicted, gold);
    let of_method = |trials: &Vec<Vec<f64>>| Scores {
        trials: trials.iter().map(|predicted| measure(predicted, &task.gold)).collect(),
        resampled: bootstrap::resampled(
            &measure,
            &trials.iter().map(Vec::as_slice).collect::<Vec<_>>(),
            &task.gold,
            params.resamples,
            (params.seed, stream),
        ),
    };
    let subject = Subject::Task { task: task.spec.name.clone(), metric, rows: task.gold.len() };
    Scored { subject, methods: task.methods.iter().map(of_method).collect() }
}

/// The mean over tasks, trial by trial, where there are several tasks and each has as many trials.
fn mean(tasks: &[Scored]) -> Option<Scored> {
    let of_method = |method: usize| {
        let trials = tasks[0].methods[method].trials.len();
        let all: Vec<&Scores> = tasks.iter().map(|task| &task.methods[method]).collect();
        let mean =
            |value: &dyn Fn(&Scores) -> f64| all.iter().map(|scores| value(scores)).sum::<f64>() / all.len() as f64;
        all.iter().all(|scores| scores.trials.len() == trials).then(|| Scores {
            trials: (0..trials).map(|trial| mean(&|scores| scores.trials[trial])).collect(),
            resampled: (0..trials)
                .map(|trial| {
                    let samples = all[0].resampled[trial].len();
                    (0..samples).map(|sample| mean(&|scores| scores.resampled[trial][sample])).collect()
                })
                .collect(),
        })
    };
    if tasks.len() < 2 {
        return None;
    }
    let methods = (0..tasks[0].methods.len()).map(of_method).collect::<Option<_>>()?;
    Some(Scored { subject: Subject::Mean { tasks: tasks.len() }, methods })
}

fn summaries(methods: &[String], scored: &Scored) -> Vec<Summary> {
    let summary = |(method, scores): (&String, &Scores)| {
        let sorted = sorted(&scores.trials);
        Summary {
            method: method.clone(),
            subject: scored.subject.clone(),
            trials: sorted.len(),
            median: quantile(&sorted, 0.5),
            mean: sorted.iter().sum::<f64>() / sorted.len() as f64,
            least: sorted[0],
            greatest: sorted[sorted.len() - 1],
            quartiles: [0.25, 0.75].map(|share| quantile(&sorted, share)),
        }
    };
    methods.iter().zip(&scored.methods).map(summary).collect()
}

/// Each method against the baseline, which stands first; or each against those before it.
fn tests(methods: &[String], has_baseline: bool, scored: &[Scored]) -> Vec<Test> {
    let pairs = (1..methods.len())
        .flat_map(|method| (0..if has_baseline { 1 } else { method }).map(move |other| (method, other)));
    let pairs: Vec<(usize, usize)> = pairs.collect();
    let mut tests = Vec::new();
    for scored in scored {
        for (method, other) in &pairs {
            let (ours, theirs) = (&scored.methods[*method], &scored.methods[*other]);
            let mann_whitney = rank_test::mann_whitney(&ours.trials, &theirs.trials);
            let pairs_of_trials = (ours.trials.len() * theirs.trials.len()) as f64;
            tests.push(Test {
                method: methods[*method].clone(),
                other: methods[*other].clone(),
                subject: scored.subject.clone(),
                difference: median(&ours.trials) - median(&theirs.trials),
                cliffs_delta: 2.0 * mann_whitney.u / pairs_of_trials - 1.0,
                mann_whitney,
                bootstrap: bootstrap::paired(&ours.resampled, &theirs.resampled),
            });
        }
    }
    tests
}

/// Both kinds of test answer their own question, so each is a family.
fn adjust(tests: &mut [Test]) {
    let of_ranks = holm::adjusted(&tests.iter().map(|test| test.mann_whitney.p).collect::<Vec<_>>());
    let of_rows = holm::adjusted(&tests.iter().map(|test| test.bootstrap.p).collect::<Vec<_>>());
    for ((test, of_ranks), of_rows) in tests.iter_mut().zip(of_ranks).zip(of_rows) {
        test.mann_whitney.p_holm = of_ranks;
        test.bootstrap.p_holm = of_rows;
    }
}

/// Trials that answer all rows of a task alike: what they score says nothing of a method, but that it has learnt nothing.
fn constants(methods: &[String], tasks: &[TaskTrials]) -> Vec<String> {
    let mut cautions = Vec::new();
    for task in tasks {
        for (method, trials) in methods.iter().zip(&task.methods) {
            let alike = trials.iter().filter(|predicted| alike::spread(&task.spec, predicted).is_some()).count();
            if alike > 0 {
                let (of, name) = (plural(trials.len(), "trial"), &task.spec.name);
                let answer = if alike == 1 { "answers" } else { "answer" };
                cautions.push(format!("{alike} of {of} of `{method}` {answer} all dev rows of `{name}` alike"));
            }
        }
    }
    cautions
}

/// Predictions that two methods share.
fn copies(methods: &[String], tasks: &[TaskTrials]) -> Vec<String> {
    let mut cautions = Vec::new();
    for (one, other) in tasks.iter().flat_map(TaskTrials::copies) {
        let [(method, stage), (second, copy)] = [one, other].map(|(at, stage)| (&methods[at], stage));
        cautions.push(format!(
            "`{stage}` of method `{method}` and `{copy}` of `{second}` are the same predictions, byte for byte"
        ));
    }
    cautions
}

fn cautions(methods: &[String], scored: &[Scored], tests: &[Test]) -> Vec<String> {
    let mut cautions = Vec::new();
    let family = tests.len();
    // Of the test that could say most, and of the pair of methods that could say least.
    let least_ps = || tests.iter().map(|test| test.mann_whitney.least_p);
    let least = least_ps().fold(1.0, f64::min);
    if least >= LEVEL {
        cautions.push(format!("too few trials: no Mann-Whitney p can be below {least:.2}, whatever the scores"));
    } else {
        if least * family as f64 >= LEVEL {
            cautions.push(format!(
                "too few trials for {family} tests: the least Mann-Whitney p, {least:.1e}, is {:.2} after Holm-Bonferroni",
                least * family as f64
            ));
        }
        let short = tests.iter().filter(|test| test.mann_whitney.least_p >= LEVEL);
        let short: BTreeSet<String> = short.map(|test| format!("{} − {}", test.method, test.other)).collect();
        if !short.is_empty() {
            let pairs: Vec<String> = short.into_iter().collect();
            cautions.push(format!("too few trials for any Mann-Whitney p below {LEVEL}: {}", pairs.join(", ")));
        }
    }
    let resamples = tests.first().map_or(0, |test| test.bootstrap.resamples);
    let least = 2.0 / (resamples as f64 + 1.0);
    if family > 0 && least * family as f64 >= LEVEL {
        cautions.push(format!(
            "too few resamples for {family} tests: the least p over rows, {least:.1e}, is {:.2} after Holm-Bonferroni; raise `resamples`",
            least * family as f64
        ));
    }
    let approximate = tests.iter().filter(|test| !test.mann_whitney.exact).count();
    if approximate > 0 {
        cautions.push(format!(
            "{approximate} of {family} Mann-Whitney p values are normal approximations, for many trials"
        ));
    }
    let has_mean = scored.iter().any(|scored| matches!(scored.subject, Subject::Mean { .. }));
    if scored.len() > 1 && !has_mean {
        let counts = methods.iter().enumerate().map(|(at, method)| {
            let counts: Vec<String> = scored.iter().map(|task| task.methods[at].trials.len().to_string()).collect();
            format!("{method} {}", counts.join(", "))
        });
        let counts: Vec<String> = counts.collect();
        cautions.push(format!("no mean over tasks: their numbers of trials differ ({})", counts.join("; ")));
    }
    cautions
}

fn trials(methods: &[String], tasks: &[TaskTrials], scored: &[Scored]) -> Vec<Trial> {
    let mut trials = Vec::new();
    for (task, scored) in tasks.iter().zip(scored) {
        for (method, scores) in methods.iter().zip(&scored.methods) {
            trials.extend(scores.trials.iter().enumerate().map(|(trial, score)| Trial {
                method: method.clone(),
                task: task.spec.name.clone(),
                metric: task.metric(),
                trial,
                score: *score,
            }));
        }
    }
    trials
}
