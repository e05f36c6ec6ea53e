//! What a datum may cost, whatever it says. Each limit reached is an error that names it.

use super::error::Wrong;

/// How deep values may lie in each other; a recursive schema sets no limit of its own.
pub(super) const DEPTH_MAX: usize = 64;
/// Values beyond those that the input's bytes pay for: an array of nulls costs no bytes per item.
pub(super) const FREE_STEPS: usize = 1 << 20;
/// What may come out of one datum.
pub(super) const OUTPUT_BYTES_MAX: usize = 64 << 20;
/// Longer decimals than any database has; turning digits into bytes takes quadratic time.
pub(super) const DECIMAL_BYTES_MAX: usize = 1024;

/// Counts what one datum does.
pub(super) struct Bounds {
    steps_left: usize,
    output_start: usize,
}

impl Bounds {
    /// `input_bytes` pay for as many values; the output begins at `output_start`.
    pub(super) fn new(input_bytes: usize, output_start: usize) -> Self {
        Self {
            steps_left: input_bytes.saturating_add(FREE_STEPS),
            output_start,
        }
    }

    /// Before each value.
    pub(super) fn step(&mut self, depth: usize, output: usize) -> Result<(), Box<Wrong>> {
        if depth > DEPTH_MAX {
            return Err(Wrong::bound(format!(
                "values lie deeper in each other than {DEPTH_MAX} levels"
            )));
        }
        if output - self.output_start > OUTPUT_BYTES_MAX {
            return Err(Wrong::bound(format!(
                "more than {} MiB would come out",
                OUTPUT_BYTES_MAX >> 20
            )));
        }
        self.steps_left = self.steps_left.checked_sub(1).ok_or_else(|| {
            Wrong::bound("more values than the input's size and 1048576".to_owned())
        })?;
        Ok(())
    }
}
