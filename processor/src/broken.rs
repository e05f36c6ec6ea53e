//! Deliberately broken variants, chosen by `WEIR_BROKEN`: what the fault tests must catch. Compiled only with the feature
//! `broken`, into a binary of its own.

use std::time::Duration;

use topics::{Lane, LogError, Outgoing, Position};

/// `offsets-outside`: the offsets are committed in a transaction of their own, before the outputs.
pub(crate) fn before_commit(
    port: &mut dyn Lane,
    outgoing: Vec<Outgoing>,
    positions: &mut Vec<Position>,
) -> Result<Vec<Outgoing>, LogError> {
    if std::env::var("WEIR_BROKEN").is_ok_and(|variant| variant == "offsets-outside") {
        port.commit(positions.clone())?;
        // A wider gap than a real one: a kill must have a chance to fall into it.
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(outgoing)
}
