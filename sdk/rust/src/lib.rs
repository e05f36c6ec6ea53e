#![doc = include_str!("../README.md")]

#[cfg(all(target_family = "wasm", feature = "allocator"))]
mod alloc;
#[doc(hidden)]
pub mod bindings;
mod failure;
#[cfg(feature = "http")]
pub mod http;
mod input;
mod json;
pub mod log;
mod output;
pub mod secrets;
mod settings;

pub use bindings::{Context, Event, Failure, Output};
pub use input::{edge, single};
pub use settings::settings;

/// A step: one pure function of its input.
pub trait Step {
    /// `input` has one event, but for a step with `join`: then one for each event of its edges.
    fn handle(ctx: &Context, input: Vec<Event>) -> Result<Vec<Output>, Failure>;
}

impl<S: Step> bindings::Guest for S {
    fn handle(ctx: Context, input: Vec<Event>) -> Result<Vec<Output>, Failure> {
        S::handle(&ctx, input)
    }
}

/// Makes `$step` the step that this component is. Once per crate.
#[macro_export]
macro_rules! export {
    ($step:ident) => {
        #[cfg(target_family = "wasm")]
        $crate::bindings::export_bindings!($step with_types_in $crate::bindings);
        // Elsewhere, as in unit tests, it only has to be a step.
        #[cfg(not(target_family = "wasm"))]
        const _: fn(
            &$crate::Context,
            ::std::vec::Vec<$crate::Event>,
        ) -> ::std::result::Result<::std::vec::Vec<$crate::Output>, $crate::Failure> = <$step as $crate::Step>::handle;
    };
}
