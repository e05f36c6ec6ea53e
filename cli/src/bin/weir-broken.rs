//! `weir` with the deliberately broken variants compiled in (feature `broken`): for the fault tests, which must catch
//! them. Nothing else may run it.

fn main() -> std::process::ExitCode {
    cli::main()
}
