//! What `sdk/wit` looks like from Rust. The world here is the step's plus what a component may or may not import.

#![allow(missing_docs, reason = "generated; documented in sdk/wit")]

wasmtime::component::bindgen!({
    path: "../sdk/wit",
    inline: "
        package weir:host;
        world linked {
            include weir:step/step@1.0.0;
            import weir:step/log@1.0.0;
            import weir:step/settings@1.0.0;
            import weir:step/secrets@1.0.0;
        }
    ",
    world: "weir:host/linked",
    imports: { default: trappable },
    ownership: Borrowing { duplicate_if_necessary: false },
});

pub(super) use weir::step::{log, secrets, settings, types};
