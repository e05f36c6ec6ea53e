//! Processes of `weir serve` on a real Kafka, while things go wrong: what T1 to T5, T8, T9, T11, T12, T17, T19, T26 and T28 of `make prove`
//! are, in a short form here and at their full size there.
//!
//! Whatever is done to them, `ledger` counts the same: every trigger has one result, its payload is unchanged, each key's
//! order is kept, and nothing is seen that was aborted. It reads with another client library (xtask's checker).

mod avro;
mod bad_input_tests;
mod checked;
mod cluster;
mod deploys;
mod detours;
mod hanging;
mod kill;
mod ledger;
mod load;
mod pauses;
mod process;
mod redrive;
mod secure;
mod seed;
mod sinks;
mod slots;
mod storm;
mod strangers;
mod three;
mod variants;
mod zombie;
