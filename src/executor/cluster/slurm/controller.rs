//! A controller that can't be reached, or gives no answer.

use bam_contract::fault::Fault;

/// What Slurm's programs say where they could not pass anything on to it.
const OUT_OF_REACH: [&str; 4] = ["(connect failure)", "Connection refused", "Unable to resolve", "No route to host"];

/// And where it is away or busy, and may have heard them.
const CONTACT: &str = "contact slurm controller";
const NO_ANSWER: [&str; 6] =
    [CONTACT, "timed out", "no answer within", "temporar", "try again", "Zero Bytes were transmitted"];

pub(super) fn is_out_of_reach(said: &str) -> bool {
    OUT_OF_REACH.iter().any(|sign| said.contains(sign))
}

/// Whether it is away, and not just busy.
pub(super) fn is_away(said: &str) -> bool {
    is_out_of_reach(said) || said.contains(CONTACT)
}

/// Whether another try may help.
pub(super) fn is_silent(said: &str) -> bool {
    is_out_of_reach(said) || NO_ANSWER.iter().any(|sign| said.contains(sign))
}

/// The error of a call that it did not answer.
pub(super) fn away(said: String) -> Fault {
    Fault::new(said, "is Slurm's controller up? `scontrol ping` and `sinfo` tell")
}
