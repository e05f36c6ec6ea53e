//! The simulation's own runs: many seeds of the true lane, and the broken variants that they must catch.

mod seeds;
mod variants;
