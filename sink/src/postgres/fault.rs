//! What an error of Postgres is about: a row, or the database. Codes: "PostgreSQL Error Codes", appendix A of its manual.

use sqlx::Error;
use sqlx::postgres::PgDatabaseError;

use crate::error::SinkError;

/// Classes of what is wrong with one row of a user's table, or with that table: nothing that waiting mends.
/// 21 cardinality, 22 data, 23 constraint, 0A not supported, 2F and 38 and 39 routines, 42 access and names, 44 check
/// option, 54 limits, P0 raised by a trigger.
const OF_A_ROW: [&str; 10] = ["21", "22", "23", "0A", "2F", "38", "39", "42", "44", "P0"];
/// 54: too complex, too many columns; 57014: the statement took too long.
const LIMITS: &str = "54";
const TOO_LONG: &str = "57014";

pub(super) fn is_of_a_row(error: &Error) -> bool {
    code(error).is_some_and(|code| {
        code == TOO_LONG
            || code.starts_with(LIMITS)
            || OF_A_ROW.iter().any(|class| code.starts_with(class))
    })
}

/// A row of this key is there already.
pub(super) fn is_double(error: &Error) -> bool {
    code(error) == Some("23505")
}

/// Everything else: the database is down, full, busy, or somebody has to grant something.
pub(super) fn of(destination: &str, error: &Error) -> SinkError {
    SinkError::Unavailable {
        destination: destination.to_owned(),
        reason: reason(error),
    }
}

/// What the database says, with its detail; for people.
pub(super) fn reason(error: &Error) -> String {
    let Some(said) = said(error) else {
        return error.to_string();
    };
    let mut text = format!("{} ({})", said.message(), said.code());
    for (what, more) in [("", said.detail()), ("hint: ", said.hint())] {
        if let Some(more) = more {
            text.push_str("; ");
            text.push_str(what);
            text.push_str(more);
        }
    }
    text
}

fn said(error: &Error) -> Option<&PgDatabaseError> {
    match error {
        Error::Database(error) => error.try_downcast_ref::<PgDatabaseError>(),
        _ => None,
    }
}

fn code(error: &Error) -> Option<&str> {
    said(error).map(PgDatabaseError::code)
}
