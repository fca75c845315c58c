//! What can't be fetched, or used once it is there: told before anything runs.

use serde_json::json;

use super::files::{RTE, pairs, rte};
use super::server::{Access, COMMIT, TOKEN};
use super::{BERT, GLUE, asked_for, command, pipeline, refused, set_up, succeeds};
use crate::support::said;

#[test]
fn what_the_hub_does_not_have_or_give() {
    let (hub, sandbox) = set_up();
    let with = |glue: &str| sandbox.write("pipeline.yaml", &pipeline(glue, &format!("@{COMMIT}")));
    with("s");
    assert_eq!(
        refused(&hub, &sandbox),
        "error: the hub at `<hub>` has no data set `nyu-mll/glues`, or keeps it private\n\n\
         hint: is the name right? a private one needs a token in `HF_TOKEN`\n"
    );
    with("@v1");
    assert_eq!(
        refused(&hub, &sandbox),
        "error: `hub:nyu-mll/glue` has no revision `v1`\n\n\
         hint: a revision is a commit's 40 digits, a tag or a branch\n"
    );
    with(&format!("@{COMMIT}"));
    hub.remove(GLUE, "rte/validation-00000-of-00001.parquet");
    assert_eq!(
        refused(&hub, &sandbox),
        format!(
            "error: `hub:nyu-mll/glue@{COMMIT}` has no file `rte/validation-00000-of-00001.parquet`\n\n\
             hint: it has `rte/train-00000-of-00001.parquet`\n"
        )
    );
    hub.add(GLUE, rte(Some(&RTE)));
    let allow = |access: Access| hub.state().repositories.get_mut(GLUE).expect("it is there").access = access;
    allow(Access::Gated);
    assert_eq!(
        refused(&hub, &sandbox),
        format!(
            "error: the hub doesn't give `hub:nyu-mll/glue@{COMMIT}` to everybody\n\n\
             hint: accept its terms on the hub, and set `HF_TOKEN` to a token of the account that did\n"
        )
    );
    allow(Access::Private);
    assert!(refused(&hub, &sandbox).contains("has no data set `nyu-mll/glue`, or keeps it private"));
    let wrong = said(command(&hub, &sandbox, &["run"]).env("HF_TOKEN", "hf_wrong"));
    assert!(wrong.stderr.ends_with("hint: is the name right, and may the token in use read it?\n"), "{}", wrong.stderr);
    let run = said(command(&hub, &sandbox, &["run", "pipeline.yaml", "examples"]).env("HF_TOKEN", TOKEN));
    assert_eq!(run.code, 0, "{}", run.stderr);
    // Where a login left it.
    allow(Access::Public);
    hub.state().repositories.get_mut(BERT).expect("it is there").access = Access::Private;
    sandbox.write("hf/token", &format!("{TOKEN}\n"));
    succeeds(&hub, &sandbox, &["run"]);
}

/// Other programs take some names without an owner, and names without `hub:` before them.
#[test]
fn names_as_other_programs_take_them() {
    let (hub, sandbox) = set_up();
    let written = |data: &str, encoder: &str| {
        let stages = format!(
            "stages:\n  examples: {{ data: {{ task: rte, from: '{data}' }} }}\n  \
             tokens: {{ tokenize: {{ examples: examples, encoder: '{encoder}' }} }}\n"
        );
        sandbox.write("pipeline.yaml", &stages);
        refused(&hub, &sandbox)
    };
    let said = written("hub:glue", "hub:bert-base-cased@main");
    for part in [
        "error: `hub:glue` names no owner\n  --> pipeline.yaml:2:40\n",
        "hint: write `hub:owner/glue`, with the repository's owner; the hub's page of it has both\n",
        "error: `hub:bert-base-cased@main` names no owner\n  --> pipeline.yaml:3:54\n",
        "hint: write `hub:google-bert/bert-base-cased`, with the repository's owner",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    for name in ["bert-base-uncased", "google-bert/bert-base-uncased"] {
        let said = written("hub:nyu-mll/glue", name);
        let hint = "; the Hugging Face hub's is written `hub:google-bert/bert-base-uncased`";
        assert!(said.contains(&format!("encoder folder `{name}` does not exist\n")), "{said}");
        assert!(said.contains(hint), "{said}");
    }
    assert_eq!(hub.requests(), [""; 0]);
}

#[test]
fn references_that_cannot_be_read() {
    let (hub, sandbox) = set_up();
    sandbox.write(
        "pipeline.yaml",
        "\
stages:
  examples: { data: { task: rte, from: hub:nyu-mll/glue/rte } }
  tokens: { tokenize: { examples: examples, encoder: hub:google-bert/bert-base-uncased@ } }
",
    );
    assert_eq!(
        refused(&hub, &sandbox),
        "error: `hub:nyu-mll/glue/rte` names no repository of the hub
  --> pipeline.yaml:2:40
   |
 2 |   examples: { data: { task: rte, from: hub:nyu-mll/glue/rte } }
   |                                        ^^^^^^^^^^^^^^^^^^^^

hint: write `hub:owner/name@revision`; the revision is a commit's 40 digits, a tag or a branch

error: `hub:google-bert/bert-base-uncased@` has no revision after its `@`
  --> pipeline.yaml:3:54
   |
 3 |   tokens: { tokenize: { examples: examples, encoder: hub:google-bert/bert-base-uncased@ } }
   |                                                      ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^

hint: write `hub:owner/name@revision`; the revision is a commit's 40 digits, a tag or a branch

2 mistakes in `pipeline.yaml`; nothing was run
"
    );
    assert_eq!(hub.requests(), [""; 0]);
}

#[test]
fn a_pickled_encoder_is_refused() {
    let (hub, sandbox) = set_up();
    hub.remove(BERT, "model.safetensors");
    assert_eq!(
        refused(&hub, &sandbox),
        format!(
            "error: `hub:google-bert/bert-base-uncased@{COMMIT}` has no `model.safetensors`, but a pickled \
             `pytorch_model.bin`\n\n\
             hint: a pickle can run code when it is opened: take a revision with safetensors, or convert it yourself\n"
        )
    );
    assert_eq!(asked_for(&hub.requests(), "google-bert/bert-base-uncased/resolve"), [""; 0]);
}

#[test]
fn what_small_files_tell_is_told_before_the_weights_come() {
    let (hub, sandbox) = set_up();
    let place = format!(
        "
  --> pipeline.yaml:2:76
   |
 2 | vars: {{ glue: 'hub:nyu-mll/glue@{COMMIT}', encoder: 'hub:google-bert/bert-base-uncased@{COMMIT}' }}
   |                                                                                        \
         ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^

hint: "
    );
    let error_of = |told: String| {
        let error = told.split_once("error: ").expect("an error").1.to_owned();
        assert_eq!(error.matches("error: ").count(), 0, "{told}");
        let (message, rest) = error.split_once("\n  --> ").expect("a place");
        let (_, hint) = rest.rsplit_once("hint: ").expect("a hint");
        (message.to_owned(), hint.to_owned())
    };
    assert!(place.contains("encoder"));
    hub.put(BERT, "vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\na\nb\n");
    assert_eq!(
        error_of(refused(&hub, &sandbox)),
        (
            format!(
                "the tokenizer in `hub:google-bert/bert-base-uncased@{COMMIT}` has 6 pieces, the encoder 5 word vectors"
            ),
            "take config.json, weights and tokenizer from the same encoder\n".to_owned()
        )
    );
    let (other, sandbox) = set_up();
    other.put(BERT, "config.json", json!({ "model_type": "roberta" }).to_string());
    assert_eq!(
        error_of(refused(&other, &sandbox)),
        (
            format!("the encoder in `hub:google-bert/bert-base-uncased@{COMMIT}` is of type `roberta`"),
            "encoders are of type `bert`, of any size\n".to_owned()
        )
    );
    for requests in [hub.requests(), other.requests()] {
        assert_eq!(asked_for(&requests, "model.safetensors"), [""; 0]);
    }
}

#[test]
fn labels_that_nobody_names_or_that_are_others() {
    let (hub, sandbox) = set_up();
    let error_of = |told: String| {
        let (_, error) = told.split_once("error: ").expect("an error");
        error.split_once("\n  --> pipeline.yaml:2:15\n").expect("a place").0.to_owned()
    };
    hub.add(GLUE, rte(Some(&["yes", "no"])));
    assert_eq!(
        error_of(refused(&hub, &sandbox)),
        format!(
            "`rte/train-00000-of-00001.parquet` names the labels of `rte` [\"yes\", \"no\"], but they are \
             [\"entailment\", \"not_entailment\"] (in `hub:nyu-mll/glue@{COMMIT}`)"
        )
    );
    let (hub, sandbox) = set_up();
    hub.add(GLUE, rte(None));
    assert_eq!(
        error_of(refused(&hub, &sandbox)),
        format!(
            "`rte/train-00000-of-00001.parquet` numbers its labels, and neither it nor the data set's card names them \
             (in `hub:nyu-mll/glue@{COMMIT}`)"
        )
    );
    let (hub, sandbox) = set_up();
    hub.put(GLUE, "rte/validation-00000-of-00001.parquet", pairs(10, |_| 0, Some(&["not_entailment", "entailment"])));
    assert_eq!(
        error_of(refused(&hub, &sandbox)),
        format!(
            "`rte/validation-00000-of-00001.parquet` numbers its labels in another order than the files before it (in \
             `hub:nyu-mll/glue@{COMMIT}`)"
        )
    );
}
