//! A panic as an error, for threads that must outlive it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use anyhow::{Result, anyhow};

/// What `work` returns; an error where it panics. What it changes must be sound at any time, or unused from then on.
pub(super) fn caught<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    // The panic's own words are on stderr already.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(anyhow!("the program stumbled")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_and_the_thread_goes_on() {
        let empty: &[i32] = &[];
        assert_eq!(caught(|| Ok(empty[0])).unwrap_err().to_string(), "the program stumbled");
        assert_eq!(caught(|| Ok(1)).unwrap(), 1);
        assert_eq!(caught(|| Err::<i32, _>(anyhow!("another"))).unwrap_err().to_string(), "another");
    }
}
