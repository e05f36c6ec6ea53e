//! The one API key that guards `/api`, until accounts exist.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::{StatusCode, header};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::problem::{Problem, Result};
use crate::router::ControlState;

/// Lets a request through that carries the key, and every request where no key is set.
pub(crate) async fn check(
    State(state): State<ControlState>,
    request: Request,
    next: Next,
) -> Result<Response> {
    let Some(expected) = &state.api_key else {
        return Ok(next.run(request).await);
    };
    let given = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(bearer);
    match given {
        Some(given) if same(given, expected) => Ok(next.run(request).await),
        Some(_) => Err(Problem::new(
            StatusCode::UNAUTHORIZED,
            "this API key is not the server's",
        )),
        None => Err(Problem::new(
            StatusCode::UNAUTHORIZED,
            "this server asks for its API key: Authorization: Bearer KEY",
        )),
    }
}

fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Takes the same time wherever the keys differ, and whatever their lengths.
fn same(given: &str, expected: &str) -> bool {
    Sha256::digest(given)
        .ct_eq(&Sha256::digest(expected))
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_key_is_the_key() {
        assert!(same("k", "k") && !same("", "k") && !same("kk", "k") && !same("K", "k"));
        assert_eq!(bearer("bearer  x "), Some("x"));
        assert_eq!(bearer("Basic x"), None);
        assert_eq!(bearer("x"), None);
    }
}
