//! Which request headers an event carries, and which one names the trigger. Pure.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use schemas::graph::Scheme;

use crate::problem::Problem;

const COUNT_MAX: usize = 32;
const VALUE_BYTES_MAX: usize = 1 << 10;
const BYTES_MAX: usize = 4 << 10;
const ID_BYTES_MAX: usize = 255;

const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// Carried, besides those that begin like `PREFIXES`.
const NAMES: [&str; 5] = [
    "user-agent",
    "content-encoding",
    "traceparent",
    "tracestate",
    IDEMPOTENCY_KEY,
];
const PREFIXES: [&str; 3] = ["x-", "webhook-", "ce-"];
/// Never carried, wherever it stands in the name: what proves who someone is, and where someone is.
const NEVER: [&str; 14] = [
    "auth",
    "cookie",
    "signature",
    "-sig",
    "hmac",
    "token",
    "secret",
    "key",
    "password",
    "credential",
    "session",
    "csrf",
    "forwarded",
    "-ip",
];

/// The headers that the event carries: useful ones, lower-case, bounded.
pub(crate) fn carried(headers: &HeaderMap) -> Vec<(String, Bytes)> {
    let mut carried = Vec::with_capacity(8);
    let mut bytes = 0;
    for (name, value) in headers {
        let size = name.as_str().len() + value.len();
        if !wanted(name)
            || value.len() > VALUE_BYTES_MAX
            || bytes + size > BYTES_MAX
            || carried.len() == COUNT_MAX
        {
            continue;
        }
        bytes += size;
        carried.push((
            name.as_str().to_owned(),
            Bytes::copy_from_slice(value.as_bytes()),
        ));
    }
    carried
}

fn wanted(name: &HeaderName) -> bool {
    let name = name.as_str();
    NAMES.contains(&name)
        || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
            && !NEVER.iter().any(|never| name.contains(never))
}

/// The content type, or the one to assume.
pub(crate) fn content_type(headers: &HeaderMap, otherwise: &str) -> String {
    let given = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    given
        .filter(|given| given.len() <= ID_BYTES_MAX)
        .unwrap_or(otherwise)
        .to_owned()
}

/// What makes a second delivery the same trigger; `None`: nothing does.
pub(crate) fn trigger_id(
    headers: &HeaderMap,
    scheme: Option<Scheme>,
) -> Result<Option<String>, Problem> {
    let provider = match scheme {
        Some(Scheme::Github) => headers.get("x-github-delivery"),
        Some(Scheme::Standard) => headers.get("webhook-id"),
        None => None,
    };
    let text = |value: &HeaderValue| {
        let text = value
            .to_str()
            .ok()
            .map(str::trim)
            .filter(|text| !text.is_empty() && text.len() <= ID_BYTES_MAX);
        text.map(str::to_owned).ok_or_else(|| {
            Problem::body("the idempotency key or delivery id must be 1 to 255 ASCII characters")
        })
    };
    provider
        .or_else(|| headers.get(IDEMPOTENCY_KEY))
        .map(text)
        .transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(headers: &[(&'static str, &str)]) -> HeaderMap {
        headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn what_proves_or_locates_someone_is_not_carried() {
        let headers = map(&[
            ("x-github-event", "push"),
            ("user-agent", "GitHub-Hookshot/1"),
            ("webhook-id", "1"),
            ("authorization", "Bearer 1"),
            ("cookie", "a=b"),
            ("x-hub-signature-256", "sha256=1"),
            ("webhook-signature", "v1,1"),
            ("x-api-key", "1"),
            ("x-gitlab-token", "1"),
            ("x-forwarded-for", "192.0.2.1"),
            ("x-real-ip", "192.0.2.1"),
            ("accept", "*/*"),
        ]);
        let names: Vec<String> = carried(&headers)
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        assert_eq!(names, ["x-github-event", "user-agent", "webhook-id"]);
    }

    #[test]
    fn what_is_carried_is_bounded() {
        let mut headers = HeaderMap::new();
        for i in 0..200 {
            headers.insert(
                HeaderName::try_from(format!("x-{i}")).unwrap(),
                HeaderValue::from_static("1"),
            );
        }
        assert_eq!(carried(&headers).len(), COUNT_MAX);
        assert_eq!(
            carried(&map(&[("x-a", &"1".repeat(VALUE_BYTES_MAX + 1))])),
            []
        );
    }

    #[test]
    fn the_providers_id_goes_before_ours() {
        let headers = map(&[
            ("x-github-delivery", "d"),
            ("webhook-id", "w"),
            ("idempotency-key", "k"),
        ]);
        let id = |scheme| trigger_id(&headers, scheme).unwrap().unwrap();
        assert_eq!(
            [
                id(Some(Scheme::Github)),
                id(Some(Scheme::Standard)),
                id(None)
            ],
            ["d", "w", "k"]
        );
        assert_eq!(trigger_id(&HeaderMap::new(), None), Ok(None));
        for wrong in ["", " ", &"k".repeat(256)] {
            assert!(trigger_id(&map(&[("idempotency-key", wrong)]), None).is_err());
        }
    }
}
