//! `POST /hooks/{tenant}/{path}`: what a provider sends.
//!
//! The order of checks: the hook (404), the method (405), the size (413), the signature (401), the id (400), the schema
//! and the key (422). Only then is anything written.

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, Method};
use schemas::Event;

use crate::accept::{Accepted, Arrival, Ready};
use crate::headers;
use crate::problem::Problem;
use crate::router::{Ingest, count, outcome, unhurried};
use crate::secrets::Secret;
use crate::targets::{Lookup, Target};
use crate::verify::{Refused, Signed, verify};

const PREFIX: &str = "/hooks";

pub(crate) async fn receive(State(ingest): State<Ingest>, request: Request) -> Response {
    let accepted = take(&ingest, request).await;
    count("webhook", outcome(&accepted), 1);
    accepted.into_response()
}

async fn take(ingest: &Ingest, request: Request) -> Result<Accepted, Problem> {
    let (head, body) = request.into_parts();
    let time_us = ingest.parts.clock.now_us();
    let target = find(ingest, time_us, head.uri.path()).await?;
    if head.method != Method::POST {
        return Err(Problem::method());
    }
    target.ready(time_us)?;
    let read = ingest.read(&head.headers, body).await?;
    let (checking, headers, bytes) = (ingest.clone(), head.headers, read.bytes.clone());
    let secret = match &target.verify {
        Some(verify) => {
            ingest
                .parts
                .secrets
                .get(&target.tenant, &verify.secret)
                .await
        }
        None => None,
    };
    let check = move || checked(&checking, &target, secret, &headers, bytes, time_us);
    let ready = unhurried(read.bytes.len(), check).await?;
    ingest.accept(ready).await
}

/// What comes after the size.
fn checked(
    ingest: &Ingest,
    target: &Target,
    secret: Option<Secret>,
    headers: &HeaderMap,
    body: Bytes,
    time_us: u64,
) -> Result<Ready, Problem> {
    check_signature(ingest, target, secret, headers, &body, time_us)?;
    let id = headers::trigger_id(headers, target.verify.as_ref().map(|verify| verify.scheme))?;
    target.validate(&body)?;
    let event = Event {
        key: None,
        content_type: headers::content_type(headers, "application/octet-stream"),
        headers: headers::carried(headers),
        data: body,
    };
    Ready::new(target, Arrival { event, time_us, id })
}

/// The hook of this path; `/hooks/TENANT/PATH`, percent-encoding as it was sent.
async fn find(
    ingest: &Ingest,
    now_us: u64,
    uri_path: &str,
) -> Result<std::sync::Arc<Target>, Problem> {
    let unknown = || Problem::unknown("no webhook has this path");
    // "/default/orders" names the hook in the cache.
    let name = uri_path.strip_prefix(PREFIX).ok_or_else(unknown)?;
    let slash = name[1..].find('/').ok_or_else(unknown)? + 1;
    let lookup = Lookup::Webhook {
        tenant: &name[1..slash],
        path: &name[slash..],
    };
    ingest
        .parts
        .webhooks
        .find(&ingest.parts.store, now_us, name, lookup)
        .await?
        .ok_or_else(unknown)
}

fn check_signature(
    ingest: &Ingest,
    target: &Target,
    secret: Option<Secret>,
    headers: &HeaderMap,
    body: &[u8],
    now_us: u64,
) -> Result<(), Problem> {
    let Some(expected) = &target.verify else {
        return Ok(());
    };
    let Some(secret) = secret else {
        target.warn(
            now_us,
            &format!("secret \"{}\" is not set; set it", expected.secret),
        );
        return Err(Problem::not_ready());
    };
    let signed = Signed {
        headers,
        body,
        now_s: now_us / 1_000_000,
        tolerance_s: ingest.parts.config.signature_tolerance_s,
    };
    match verify(expected.scheme, &secret, &signed) {
        Ok(()) => Ok(()),
        Err(Refused::Signature) => Err(Problem::unauthorized()),
        Err(Refused::Secret(reason)) => {
            target.warn(
                now_us,
                &format!("secret \"{}\" cannot be used: {reason}", expected.secret),
            );
            Err(Problem::not_ready())
        }
    }
}
