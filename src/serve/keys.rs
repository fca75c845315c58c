//! Keys that requests must bring.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use anyhow::{Context, Result, bail, ensure};
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use bam_contract::fault::Fault;
use subtle::{Choice, ConstantTimeEq};

use super::app::App;
use super::error::ApiError;

/// Digests of the keys in a file: all of one length, so that comparing them takes one time.
pub(super) struct Keys {
    path: PathBuf,
    digests: RwLock<Vec<[u8; 32]>>,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} keys", self.number())
    }
}

impl Keys {
    pub(super) fn read(path: &Path) -> Result<Self> {
        Ok(Self { path: path.to_owned(), digests: RwLock::new(digests(path)?) })
    }

    /// Reads the file again; where it can't be, those read before stay.
    pub(super) fn reread(&self) -> Result<usize> {
        let digests = digests(&self.path)?;
        *self.digests.write().unwrap_or_else(PoisonError::into_inner) = digests;
        Ok(self.number())
    }

    fn number(&self) -> usize {
        self.read_lock().len()
    }

    fn know(&self, key: &str) -> bool {
        let given = digest(key);
        self.read_lock().iter().fold(Choice::from(0), |known, key| known | key.ct_eq(&given)).into()
    }

    fn read_lock(&self) -> RwLockReadGuard<'_, Vec<[u8; 32]>> {
        self.digests.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One key a line; empty lines and lines that begin with `#` are none.
fn digests(path: &Path) -> Result<Vec<[u8; 32]>> {
    let text = std::fs::read_to_string(path).with_context(|| {
        Fault::new(format!("the keys in `{}` can't be read", path.display()), "`--api-keys FILE` has one key a line")
    })?;
    let lines = text.lines().map(str::trim).enumerate();
    let lines: Vec<_> = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')).collect();
    // A header can't bring any other; a byte order mark would be a part of the first key.
    if let Some((number, _)) = lines.iter().find(|(_, key)| !key.bytes().all(|byte| byte.is_ascii_graphic())) {
        bail!(Fault::new(
            format!("line {} of `{}` is a key that no request can bring", number + 1, path.display()),
            "keys are of ASCII letters, digits and signs, without spaces; save the file without a byte order mark"
        ));
    }
    let keys: Vec<_> = lines.into_iter().map(|(_, key)| digest(key)).collect();
    ensure!(!keys.is_empty(), Fault::new(format!("`{}` holds no key", path.display()), "write one key a line into it"));
    Ok(keys)
}

fn digest(key: &str) -> [u8; 32] {
    *blake3::hash(key.as_bytes()).as_bytes()
}

/// Lets a request through that brings a key, or any if none are asked for.
pub(super) async fn check(State(app): State<Arc<App>>, request: Request, next: Next) -> Result<Response, ApiError> {
    if let Some(keys) = &app.keys {
        let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let given =
            given.and_then(|value| value.split_once(' ')).filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let (code, message) = match given {
            Some((_, key)) if keys.know(key.trim()) => return Ok(next.run(request).await),
            Some(_) => ("unknown_key", "the key is not known"),
            None => ("no_key", "this server asks for a key"),
        };
        let hint = "send the header `authorization: Bearer KEY`";
        return Err(ApiError::new(StatusCode::UNAUTHORIZED, code, message, hint));
    }
    Ok(next.run(request).await)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        std::fs::write(&path, "# ours\n\n  one\ntwo \n").unwrap();
        let keys = Keys::read(&path).unwrap();
        assert_eq!(["one", "two", "# ours", "", "on"].map(|key| keys.know(key)), [true, true, false, false, false]);
        assert_eq!(format!("{keys:?}"), "2 keys");
        for (text, line) in [("\u{feff}one\n", 1), ("clé\n", 1), ("# ours\n\none two\n", 3)] {
            std::fs::write(&path, text).unwrap();
            let said = Keys::read(&path).unwrap_err().to_string();
            assert!(said.starts_with(&format!("line {line} of `")), "{said}");
            assert!(said.ends_with("keys` is a key that no request can bring"), "{said}");
        }
        std::fs::write(&path, "#\n").unwrap();
        assert!(Keys::read(&path).unwrap_err().to_string().ends_with("keys` holds no key"));
    }
}
