//! Where a remote is: `s3://bucket/prefix`, a URL of another kind, or a folder.

use std::io;
use std::path::{Component, Path as FilePath, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use bam_contract::digest::Digest;
use bam_contract::fault::Fault;
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::http::HttpBuilder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, ObjectStoreScheme, RetryConfig};
use url::Url;

const KNOWN: &str = "a remote is `s3://bucket/prefix`, `gs://…`, `az://…`, `https://…`, or a folder";

/// A path from the root on, without `..`, which no URL can have.
fn absolute(path: &FilePath) -> io::Result<PathBuf> {
    let mut plain = PathBuf::new();
    for part in std::path::absolute(path)?.components() {
        match part {
            Component::ParentDir => drop(plain.pop()),
            part => plain.push(part),
        }
    }
    Ok(path.canonicalize().unwrap_or(plain))
}

/// A remote's address, which needn't lead anywhere yet.
#[derive(Clone, Debug)]
pub(crate) struct Location {
    url: Url,
    scheme: ObjectStoreScheme,
    prefix: Path,
    /// As the user wrote it.
    shown: String,
}

impl Location {
    /// Reads an address; asks nobody.
    pub(crate) fn parse(text: &str) -> Result<Self, Fault> {
        let wrong = |how: &str| Fault::new(format!("remote `{text}`: {how}"), KNOWN);
        let url = if text.contains("://") {
            Url::parse(text).map_err(|error| wrong(&error.to_string()))?
        } else {
            let folder = absolute(text.as_ref()).map_err(|error| wrong(&error.to_string()))?;
            Url::from_directory_path(folder).map_err(|()| wrong("it is no folder"))?
        };
        if !url.username().is_empty() || url.password().is_some() {
            // The text itself stays out of the message.
            let hint =
                "credentials are read from the environment, such as `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`";
            return Err(Fault::new("the remote's URL has a user name or password in it", hint));
        }
        let (scheme, prefix) = ObjectStoreScheme::parse(&url).map_err(|_| match (url.scheme(), url.host_str()) {
            ("s3" | "s3a" | "gs" | "az" | "adl" | "azure" | "abfs" | "abfss", None) => wrong("it names no bucket"),
            ("file", Some(_)) => wrong("a `file` URL has three slashes"),
            (scheme, _) => wrong(&format!("unknown scheme `{scheme}`")),
        })?;
        if scheme == ObjectStoreScheme::Memory {
            return Err(wrong("unknown scheme `memory`"));
        }
        Ok(Self { url, scheme, prefix, shown: text.trim_end_matches('/').to_owned() })
    }

    /// What is remembered of a remote is kept under this.
    pub(super) fn id(&self) -> String {
        Digest::of(self.url.as_str().trim_end_matches('/').as_bytes()).to_string()[..16].to_owned()
    }

    pub(super) fn shown(&self) -> &str {
        &self.shown
    }

    /// Whether artifacts can be put there: a plain web server only hands out what it has.
    pub(super) fn is_writable(&self) -> bool {
        self.scheme != ObjectStoreScheme::Http
    }

    /// A client for it. Credentials, region and endpoint come from the variables that the provider's own tools read.
    pub(super) fn open(&self) -> Result<Arc<dyn ObjectStore>> {
        macro_rules! client {
            ($builder:ty, $variables:literal) => {{
                let variables: Vec<(String, String)> =
                    std::env::vars().filter(|(name, _)| name.starts_with($variables)).collect();
                let builder = <$builder>::new().with_client_options(self.options(&variables)).with_retry(retries());
                let configured = variables.into_iter().fold(builder, |builder, (name, value)| {
                    match name.to_ascii_lowercase().parse() {
                        Ok(key) => builder.with_config(key, value),
                        Err(_) => builder,
                    }
                });
                Arc::new(PrefixStore::new(configured.with_url(self.url.as_str()).build()?, self.prefix.clone()))
            }};
        }
        Ok(match self.scheme {
            ObjectStoreScheme::AmazonS3 => client!(AmazonS3Builder, "AWS_"),
            ObjectStoreScheme::GoogleCloudStorage => client!(GoogleCloudStorageBuilder, "GOOGLE_"),
            ObjectStoreScheme::MicrosoftAzure => client!(MicrosoftAzureBuilder, "AZURE_"),
            ObjectStoreScheme::Http => {
                let builder = HttpBuilder::new().with_client_options(self.options(&[])).with_retry(retries());
                Arc::new(builder.with_url(self.url.as_str()).build()?)
            }
            _ => {
                let folder: PathBuf = self.url.to_file_path().unwrap_or_default();
                if folder.is_file() {
                    return Err(Fault::new(format!("the remote `{}` is a file", self.shown), KNOWN).into());
                }
                if !folder.is_dir() {
                    // Not made on its own: it may be a disk that isn't mounted.
                    let hint = format!("`mkdir {}` makes it", folder.display());
                    return Err(Fault::new(format!("the remote's folder `{}` does not exist", self.shown), hint).into());
                }
                Arc::new(LocalFileSystem::new_with_prefix(folder)?.with_fsync(true))
            }
        })
    }

    /// Short waits for a server that is down, none for a transfer that takes its time.
    fn options(&self, variables: &[(String, String)]) -> ClientOptions {
        let is_plain = |(name, value): &(String, String)| name.contains("ENDPOINT") && value.starts_with("http://");
        ClientOptions::new()
            .with_connect_timeout(Duration::from_secs(5))
            .with_timeout_disabled()
            .with_read_timeout(Duration::from_mins(1))
            .with_allow_http(self.url.scheme() == "http" || variables.iter().any(is_plain))
    }
}

fn retries() -> RetryConfig {
    let backoff = BackoffConfig {
        init_backoff: Duration::from_millis(100),
        max_backoff: Duration::from_secs(2),
        ..BackoffConfig::default()
    };
    RetryConfig { backoff, max_retries: 3, retry_timeout: Duration::from_secs(30) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let parsed = |text: &str| {
            let location = Location::parse(text).map_err(|fault| fault.to_string())?;
            Ok::<_, String>((location.scheme, location.prefix.to_string()))
        };
        assert_eq!(parsed("s3://b/some/where/"), Ok((ObjectStoreScheme::AmazonS3, "some/where".to_owned())));
        assert_eq!(parsed("gs://b"), Ok((ObjectStoreScheme::GoogleCloudStorage, String::new())));
        assert_eq!(parsed("az://c/p"), Ok((ObjectStoreScheme::MicrosoftAzure, "p".to_owned())));
        assert_eq!(parsed("http://h/p"), Ok((ObjectStoreScheme::Http, "p".to_owned())));
        assert_eq!(parsed("/some/folder"), Ok((ObjectStoreScheme::Local, "some/folder".to_owned())));
        assert_eq!(parsed("/some/other/../folder/."), Ok((ObjectStoreScheme::Local, "some/folder".to_owned())));
        assert_eq!(parsed("s4://b"), Err("remote `s4://b`: unknown scheme `s4`".to_owned()));
        assert_eq!(parsed("s3:///p"), Err("remote `s3:///p`: it names no bucket".to_owned()));
        assert_eq!(parsed("file://p"), Err("remote `file://p`: a `file` URL has three slashes".to_owned()));
        let told = parsed("s3://key:secret@b").unwrap_err();
        assert!(!told.contains("secret"), "{told}");
    }

    #[test]
    fn one_remote_has_one_name_to_remember_it_by() {
        let id = |text: &str| Location::parse(text).unwrap().id();
        assert_eq!(id("s3://b/p"), id("s3://b/p/"));
        assert_ne!(id("s3://b/p"), id("s3://b/q"));
        assert_eq!(id("/some/folder"), id("file:///some/folder"));
    }
}
