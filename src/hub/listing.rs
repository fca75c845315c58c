//! What a repository holds at a revision.

use std::ffi::OsStr;
use std::path::Path;

use bam_contract::artifact::encoder::WEIGHTS;
use bam_contract::fault::{Fault, closest};
use hf_hub::api::RepoInfo;
use hf_hub::api::sync::ApiRepo;

use super::fetch::Failure;
use super::reference::is_commit;
use super::{Holds, Hub, Reference, Repository};

/// Asks for the commit that a revision stands for, and for the names of its files.
pub(super) fn list(api: &ApiRepo, reference: &Reference, hub: &Hub) -> Result<RepoInfo, Failure> {
    let request = api.info_request().config().http_status_as_error(false).build();
    let mut response = request.call().map_err(|error| {
        let message = format!("the hub at `{}` can't be reached: {error}", hub.endpoint);
        let hint = "is it up, and `HF_ENDPOINT` right? `--offline` does with what is in the cache";
        Failure::Passing(Fault::new(message, hint).into())
    })?;
    let status = response.status().as_u16();
    if status != 200 {
        let code = response.headers().get("x-error-code").and_then(|code| code.to_str().ok()).unwrap_or_default();
        return Err(refused(status, code, reference, hub));
    }
    let listed: RepoInfo = response.body_mut().read_json().map_err(|error| {
        let message = format!("the hub at `{}` gives no list of the files of `{}`: {error}", hub.endpoint, reference);
        Failure::Passing(Fault::new(message, "is `HF_ENDPOINT` right?").into())
    })?;
    if !is_commit(&listed.sha) || reference.is_pinned() && listed.sha != reference.revision() {
        let message = format!("the hub at `{}` names no commit of `{}`", hub.endpoint, reference);
        return Err(Failure::Lasting(Fault::new(message, "is `HF_ENDPOINT` right?").into()));
    }
    Ok(listed)
}

/// Says what a failed request means. The hub answers alike where there is nothing and where nothing may be seen.
fn refused(status: u16, code: &str, reference: &Reference, hub: &Hub) -> Failure {
    let what = match reference.holds {
        Holds::Dataset => "data set",
        Holds::Model => "model",
    };
    let lasting = |message: String, hint: &str| Failure::Lasting(Fault::new(message, hint).into());
    match (status, code) {
        (403, _) | (_, "GatedRepo") => lasting(
            format!("the hub doesn't give `{reference}` to everybody"),
            "accept its terms on the hub, and set `HF_TOKEN` to a token of the account that did",
        ),
        (_, "RevisionNotFound") => {
            let message = format!("`hub:{}` has no revision `{}`", reference.name(), reference.revision());
            lasting(message, "a revision is a commit's 40 digits, a tag or a branch")
        }
        (401 | 404, _) => lasting(
            format!("the hub at `{}` has no {what} `{}`, or keeps it private", hub.endpoint, reference.name()),
            if hub.token().is_none() {
                "is the name right? a private one needs a token in `HF_TOKEN`"
            } else {
                "is the name right, and may the token in use read it?"
            },
        ),
        _ => {
            let message = format!("the hub at `{}` answers with status {status}", hub.endpoint);
            let hint = "try again later; `--offline` does with what is in the cache";
            Failure::Passing(Fault::new(message, hint).into())
        }
    }
}

/// A needed file that the repository doesn't have, told with what it has instead.
pub(super) fn missing(listed: &RepoInfo, repository: &Repository) -> Option<Fault> {
    let names: Vec<&str> = listed.siblings.iter().map(|file| file.rfilename.as_str()).collect();
    let lacks = |name: &str| !names.contains(&name);
    let file = repository.wanted.iter().find(|file| file.is_needed && lacks(&file.name))?;
    let (name, reference) = (&file.name, &repository.reference);
    let ending = |name: &str| Path::new(name).extension().and_then(OsStr::to_str).map(ToOwned::to_owned);
    let is_pickle = |name: &&&str| matches!(ending(name).as_deref(), Some("bin" | "pt" | "ckpt"));
    if name == WEIGHTS
        && let Some(pickle) = names.iter().find(is_pickle)
    {
        let message = format!("`{reference}` has no `{WEIGHTS}`, but a pickled `{pickle}`");
        let hint = "a pickle can run code when it is opened: take a revision with safetensors, or convert it yourself";
        return Some(Fault::new(message, hint));
    }
    let hint = if let Some(near) = closest(name, names.iter().copied()) {
        format!("it has `{near}`")
    } else {
        let some: Vec<String> = names.iter().take(5).map(|name| format!("`{name}`")).collect();
        let more = names.len().checked_sub(5).filter(|more| *more > 0);
        format!("it has {}{}", some.join(", "), more.map(|more| format!(" and {more} more")).unwrap_or_default())
    };
    Some(Fault::new(format!("`{reference}` has no file `{name}`"), hint))
}
