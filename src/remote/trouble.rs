//! What can go wrong with a remote, in words.

use std::error::Error;

use bam_contract::fault::Fault;

/// Why something could not be had from a remote, or brought there.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// It is with this artifact alone.
    Artifact(anyhow::Error),
    /// It is with this machine.
    Local(anyhow::Error),
    /// It is with the remote: there is no use in asking again.
    Remote(anyhow::Error),
}

impl Trouble {
    pub(crate) fn into_error(self) -> anyhow::Error {
        match self {
            Self::Artifact(error) | Self::Local(error) | Self::Remote(error) => error,
        }
    }
}

/// Says what a failed request means.
pub(super) fn explain(error: &object_store::Error, shown: &str) -> Trouble {
    let whole = error.to_string();
    let detail = detail(error);
    let (what, hint) = if matches!(error, object_store::Error::Generic { store: "LocalFileSystem", .. }) {
        (
            "can't be used",
            "a folder must be there, have room, and be the user's to read and write; `--offline` does without it",
        )
    } else if whole.contains("NoSuchBucket") || matches!(error, object_store::Error::NotFound { .. }) {
        ("has no such bucket or folder", "create it, or mend the name: nothing is created on its own")
    } else if is_about_credentials(&whole) {
        (
            "needs credentials, and there are none",
            "set `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, or `AWS_SKIP_SIGNATURE=true` for none",
        )
    } else {
        match error {
            object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => (
                "denies access",
                "do the credentials in the environment belong to it, and may they read and write there?",
            ),
            object_store::Error::NotImplemented { .. } | object_store::Error::NotSupported { .. } => {
                ("can't do that", "`bam` needs get, head and put of it")
            }
            _ if is_about_reaching(error) => (
                "can't be reached",
                "is it up, and its address right (`AWS_ENDPOINT_URL` for S3)? `--offline` does without it",
            ),
            _ => ("failed", "`--offline` does without it"),
        }
    };
    Trouble::Remote(Fault::new(format!("remote `{shown}` {what}: {detail}"), hint).into())
}

fn is_about_credentials(whole: &str) -> bool {
    ["latest/api/token", "latest/meta-data", "computeMetadata", "metadata/identity"]
        .iter()
        .any(|part| whole.contains(part))
}

fn is_about_reaching(error: &(dyn Error + 'static)) -> bool {
    causes(error).any(|cause| {
        let io = cause.downcast_ref::<std::io::Error>().is_some();
        io || ["error trying to connect", "operation timed out", "dns error"].contains(&cause.to_string().as_str())
    })
}

/// The innermost cause in one line; of an answer in XML, its code and message.
fn detail(error: &(dyn Error + 'static)) -> String {
    let text = causes(error).last().map(ToString::to_string).unwrap_or_default();
    let tag = |name: &str| {
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        Some(rest.split_once(&format!("</{name}>"))?.0.to_owned())
    };
    match (tag("Code"), tag("Message")) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (Some(code), None) => code,
        _ => text.lines().next().unwrap_or_default().trim().to_owned(),
    }
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| (*error).source())
}
