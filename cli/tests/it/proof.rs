//! What a fault test counted, as a row of `make prove`.

pub(crate) use xtask::proof::{Row, full};
