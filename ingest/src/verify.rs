//! Signatures of webhooks: HMAC-SHA256 over the raw body, compared in constant time. Pure.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use http::HeaderMap;
use schemas::graph::Scheme;
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::secrets::Secret;

const GITHUB_SIGNATURE: &str = "x-hub-signature-256";
const STANDARD_ID: &str = "webhook-id";
const STANDARD_TIMESTAMP: &str = "webhook-timestamp";
const STANDARD_SIGNATURE: &str = "webhook-signature";
/// A `webhook-signature` lists several signatures while a secret is changed; nobody needs more than these.
const SIGNATURES_MAX: usize = 8;

/// What is checked.
pub(crate) struct Signed<'a> {
    pub(crate) headers: &'a HeaderMap,
    pub(crate) body: &'a [u8],
    /// Seconds since 1970 UTC.
    pub(crate) now_s: u64,
    pub(crate) tolerance_s: u64,
}

/// Why a signature does not hold.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The sender's affair. Not said closer: it would help only who guesses.
    Signature,
    /// Ours: with this secret nothing can be checked.
    Secret(&'static str),
}

/// Checks the request's signature.
pub(crate) fn verify(scheme: Scheme, secret: &Secret, signed: &Signed<'_>) -> Result<(), Refused> {
    if secret.expose().is_empty() {
        return Err(Refused::Secret("it is empty"));
    }
    match scheme {
        Scheme::Github => github(secret.expose(), signed),
        Scheme::Standard => standard(secret.expose(), signed),
    }
}

/// `X-Hub-Signature-256: sha256=<64 lower-case hex digits>`
fn github(secret: &[u8], signed: &Signed<'_>) -> Result<(), Refused> {
    let given = signed
        .headers
        .get(GITHUB_SIGNATURE)
        .ok_or(Refused::Signature)?;
    let given = given
        .as_bytes()
        .strip_prefix(b"sha256=")
        .ok_or(Refused::Signature)?;
    let mut expected = [0; 64];
    hex::encode_to_slice(mac(secret, &[signed.body]), &mut expected)
        .expect("32 bytes are 64 digits");
    if bool::from(expected[..].ct_eq(given)) {
        Ok(())
    } else {
        Err(Refused::Signature)
    }
}

/// standardwebhooks.com: `v1,<base64>` over `id.timestamp.body`, several separated by spaces; the secret is base64, with
/// or without `whsec_`.
fn standard(secret: &[u8], signed: &Signed<'_>) -> Result<(), Refused> {
    let secret = secret.strip_prefix(b"whsec_").unwrap_or(secret);
    let secret = STANDARD
        .decode(secret)
        .map_err(|_| Refused::Secret("it is not base64 (with or without \"whsec_\")"))?;
    if secret.is_empty() {
        return Err(Refused::Secret("it is empty"));
    }

    let header = |name| {
        signed
            .headers
            .get(name)
            .map(http::HeaderValue::as_bytes)
            .ok_or(Refused::Signature)
    };
    let (id, timestamp, signatures) = (
        header(STANDARD_ID)?,
        header(STANDARD_TIMESTAMP)?,
        header(STANDARD_SIGNATURE)?,
    );
    let at_s: u64 = std::str::from_utf8(timestamp)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or(Refused::Signature)?;
    if at_s.abs_diff(signed.now_s) > signed.tolerance_s {
        return Err(Refused::Signature);
    }

    let expected = STANDARD.encode(mac(&secret, &[id, b".", timestamp, b".", signed.body]));
    let given = signatures
        .split(|byte| *byte == b' ')
        .take(SIGNATURES_MAX)
        .filter_map(|s| s.strip_prefix(b"v1,"));
    // All are compared, whichever matches.
    let matches = given.fold(0, |matches, given| {
        matches | expected.as_bytes().ct_eq(given).unwrap_u8()
    });
    if matches == 1 {
        Ok(())
    } else {
        Err(Refused::Signature)
    }
}

fn mac(secret: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes keys of any length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(
        scheme: Scheme,
        secret: &str,
        headers: &[(&'static str, &str)],
        body: &str,
    ) -> Result<(), Refused> {
        let headers = headers
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()));
        let signed = Signed {
            headers: &headers.collect(),
            body: body.as_bytes(),
            now_s: 1_614_265_330,
            tolerance_s: 300,
        };
        verify(scheme, &Secret::new(secret), &signed)
    }

    /// The vector of GitHub's documentation ("Validating webhook deliveries").
    const GITHUB_SECRET: &str = "It's a Secret to Everybody";
    const GITHUB_GIVEN: &str =
        "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";

    #[test]
    fn github_as_documented() {
        let check = |given: &str| {
            check(
                Scheme::Github,
                GITHUB_SECRET,
                &[(GITHUB_SIGNATURE, given)],
                "Hello, World!",
            )
        };
        assert_eq!(check(GITHUB_GIVEN), Ok(()));
        for wrong in [
            "",
            "sha256=",
            &GITHUB_GIVEN[..GITHUB_GIVEN.len() - 1],
            &format!("{GITHUB_GIVEN}0"),
            &GITHUB_GIVEN.to_uppercase(),
            &GITHUB_GIVEN.to_uppercase().replacen("SHA256", "sha256", 1),
            &GITHUB_GIVEN.replacen("sha256", "sha1", 1),
            &GITHUB_GIVEN[7..],
            &GITHUB_GIVEN.replacen("=7", "=8", 1),
        ] {
            assert_eq!(check(wrong), Err(Refused::Signature), "{wrong}");
        }
        assert_eq!(
            super::tests::check(
                Scheme::Github,
                GITHUB_SECRET,
                &[(GITHUB_SIGNATURE, GITHUB_GIVEN)],
                "Hello, World"
            ),
            Err(Refused::Signature)
        );
        assert_eq!(
            super::tests::check(
                Scheme::Github,
                GITHUB_SECRET,
                &[("x-hub-signature", GITHUB_GIVEN)],
                "Hello, World!"
            ),
            Err(Refused::Signature)
        );
        assert!(matches!(
            super::tests::check(Scheme::Github, "", &[], ""),
            Err(Refused::Secret(_))
        ));
    }

    /// The vector of the standardwebhooks libraries' tests.
    #[test]
    fn standard_as_specified() {
        const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        const GIVEN: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        let check = |timestamp: &str, given: &str| {
            let headers = [
                (STANDARD_ID, "msg_p5jXN8AQM9LWM0D4loKWxJek"),
                (STANDARD_TIMESTAMP, timestamp),
                (STANDARD_SIGNATURE, given),
            ];
            check(
                Scheme::Standard,
                SECRET,
                &headers,
                r#"{"test": 2432232314}"#,
            )
        };
        assert_eq!(check("1614265330", GIVEN), Ok(()));
        assert_eq!(
            check("1614265330", &format!("v1,AAAA v2,x {GIVEN}")),
            Ok(()),
            "one of several"
        );
        for (timestamp, given) in [
            ("1614265331", GIVEN),
            ("1614265029", GIVEN),
            ("1614265631", GIVEN),
            ("-5", GIVEN),
            ("soon", GIVEN),
            ("1614265330", "v1,"),
            ("1614265330", ""),
            ("1614265330", &GIVEN.replacen("v1", "v2", 1)),
            ("1614265330", &GIVEN[..20]),
        ] {
            assert_eq!(
                check(timestamp, given),
                Err(Refused::Signature),
                "{timestamp} {given}"
            );
        }
        let headers = [(STANDARD_SIGNATURE, GIVEN)];
        assert_eq!(
            super::tests::check(Scheme::Standard, SECRET, &headers, ""),
            Err(Refused::Signature)
        );
        assert!(matches!(
            super::tests::check(Scheme::Standard, "no base64!", &headers, ""),
            Err(Refused::Secret(_))
        ));
    }
}
