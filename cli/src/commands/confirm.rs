//! Asking a person before something is gone.

use std::io::{self, IsTerminal as _, Write as _};

use crate::exit::Failure;

/// Without a person `--yes` has to stand on the command line. `deed`: what this would do; `question`: to be answered with yes.
pub(super) fn confirm(deed: &str, question: &str) -> Result<(), Failure> {
    if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        return Err(Failure::usage(format!(
            "this {deed}, and nobody is there to be asked; say --yes"
        )));
    }
    let asked = write!(io::stderr(), "{question} [y/N] ");
    let mut answer = String::new();
    let read = asked.and_then(|()| io::stdin().read_line(&mut answer));
    let answer = answer.trim();
    if read.is_ok() && (answer.eq_ignore_ascii_case("y") || answer.eq_ignore_ascii_case("yes")) {
        return Ok(());
    }
    Err(Failure::failed("nothing was deleted"))
}
