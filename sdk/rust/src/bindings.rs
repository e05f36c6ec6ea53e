//! What `wit-bindgen` makes of `weir:step`. An import costs nothing where it is not called: the linker drops it, and the
//! component then does not ask for it.
#![allow(missing_docs, unreachable_pub, clippy::all)]

wit_bindgen::generate!({
    inline: "
        package weir:step-rust;
        world step-rust {
            include weir:step/step@1.0.0;
            import weir:step/log@1.0.0;
            import weir:step/settings@1.0.0;
            import weir:step/secrets@1.0.0;
        }
    ",
    path: "wit",
    world: "weir:step-rust/step-rust",
    generate_all,
    pub_export_macro: true,
    export_macro_name: "export_bindings",
    default_bindings_module: "weir_step::bindings",
});
