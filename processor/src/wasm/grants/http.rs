//! `wasi:http/outgoing-handler`, to the hosts that the graph grants. The types are wasmtime's; who may be asked, how often and for how
//! long is Weir's ([`Outside::send`]). A request leaves whole and its answer arrives whole, so that a call can be run again with the answers
//! that it had.
//!
//! Each request carries `Idempotency-Key: EXECUTION/STEP/CALL`, unless the step has set one: the same for every try of the same request, so
//! that an upstream which honours it acts once. Weir cannot promise that for it.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use http_body_util::{BodyExt as _, Full, Limited};
use parking_lot::Mutex;
use wasmtime::component::Linker;
use wasmtime_wasi_http::p2::bindings::sync::http::{outgoing_handler, types};
use wasmtime_wasi_http::{
    Error, RequestOptions, WasiBody, WasiHttp, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks,
};

use crate::wasm::audit::Asked;
use crate::wasm::call::{Call, Level};
use crate::wasm::logs::{SharedLogs, printable};
use crate::wasm::outside::{Answer, Ask, HttpError, Outside};
use crate::wasm::state::State;

/// Where an upstream finds what makes a request one and the same.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

pub(in crate::wasm) struct Http {
    ctx: WasiHttpCtx,
    hooks: Hooks,
}

struct Hooks {
    tenant: Arc<str>,
    allow: Arc<[String]>,
    outside: Arc<dyn Outside>,
    logs: SharedLogs,
    in_flight: Arc<AtomicU32>,
    /// `EXECUTION/STEP/CALL`, to which the request's number is added.
    key: String,
    until: Instant,
    asked: u32,
    /// Of an audited call: what it asked and what came of it.
    kept: Option<Arc<Mutex<Vec<Asked>>>>,
    requests_max: u32,
    bytes_max: usize,
}

impl Http {
    pub(super) fn new(tenant: Arc<str>, allow: &[String], outside: Arc<dyn Outside>) -> Self {
        Self {
            ctx: WasiHttpCtx::new(),
            hooks: Hooks {
                tenant,
                allow: allow.into(),
                outside,
                logs: SharedLogs::default(),
                in_flight: Arc::default(),
                key: String::new(),
                until: Instant::now(),
                asked: 0,
                kept: None,
                requests_max: 0,
                bytes_max: 0,
            },
        }
    }

    /// How many requests are under way; lines of what was refused go to `logs`.
    pub(in crate::wasm) fn in_flight(&mut self, logs: SharedLogs) -> Arc<AtomicU32> {
        self.hooks.logs = logs;
        self.hooks.in_flight.clone()
    }

    /// Keeps what this call asks, until the next one begins.
    pub(in crate::wasm) fn keep(&mut self) -> Arc<Mutex<Vec<Asked>>> {
        self.hooks.kept.insert(Arc::default()).clone()
    }

    pub(super) fn begin(&mut self, call: &Call<'_>, until: Instant) {
        let hooks = &mut self.hooks;
        hooks.key = format!("{}/{}/{}", call.execution, call.step, call.number);
        hooks.until = until;
        hooks.asked = 0;
        hooks.kept = None;
        hooks.requests_max = call.limits.requests;
        hooks.bytes_max = usize::try_from(call.limits.output_bytes).unwrap_or(usize::MAX);
    }
}

pub(super) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    outgoing_handler::add_to_linker::<_, WasiHttp>(linker, view)?;
    let options = types::LinkOptions::default();
    types::add_to_linker::<_, WasiHttp>(linker, &options, view)
}

fn view(state: &mut State) -> WasiHttpCtxView<'_> {
    const WHY: &str = "functions of wasi:http are called only by components that import them, and those have the state";
    let http = state
        .grants
        .as_mut()
        .and_then(|grants| grants.http.as_mut())
        .expect(WHY);
    WasiHttpCtxView {
        ctx: &mut http.ctx,
        table: state.wasi.as_mut().expect(WHY).table(),
        hooks: &mut http.hooks,
    }
}

impl WasiHttpHooks for Hooks {
    fn set_host_header(&mut self) -> bool {
        // the client writes it from the URL
        false
    }

    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<
        dyn Future<
                Output = Result<
                    (
                        http::Response<WasiBody>,
                        Box<dyn Future<Output = Result<(), Error>> + Send>,
                    ),
                    Error,
                >,
            > + Send,
    > {
        self.asked += 1;
        let under_way = UnderWay::one(&self.in_flight);
        let kept = self.kept.clone();
        let until = options
            .and_then(|options| options.first_byte_timeout)
            .and_then(|time| Instant::now().checked_add(time))
            .map_or(self.until, |until| until.min(self.until));
        let shown = printable(
            &format!("{} {}", request.method(), without_query(request.uri())),
            256,
        );
        let refused = (self.asked > self.requests_max).then(|| {
            HttpError::Denied(format!(
                "more than {} requests in one call (`limits: {{ requests }}` allows more)",
                self.requests_max
            ))
        });
        let (tenant, allow, outside) = (
            self.tenant.clone(),
            self.allow.clone(),
            self.outside.clone(),
        );
        let (key, bytes_max, logs) = (
            format!("{}.{}", self.key, self.asked),
            self.bytes_max,
            self.logs.clone(),
        );
        Box::new(async move {
            let _under_way = under_way;
            let sent = async {
                if let Some(refused) = refused {
                    return Err(refused);
                }
                let (mut parts, body) = request.into_parts();
                let body = Limited::new(body, bytes_max)
                    .collect()
                    .await
                    .map_err(|e| HttpError::Denied(format!("the request's body: {e}")))?;
                if !parts.headers.contains_key(IDEMPOTENCY_KEY)
                    && let Ok(key) = http::HeaderValue::from_str(&key)
                {
                    parts.headers.insert(IDEMPOTENCY_KEY, key);
                }
                let request = http::Request::from_parts(parts, body.to_bytes());
                let ask = Ask {
                    tenant,
                    allow,
                    request,
                    until,
                    answer_bytes_max: bytes_max,
                };
                let asked = kept.is_some().then(|| ask.request.clone());
                let answer = outside.send(ask).await;
                if let (Some(kept), Some(asked)) = (kept, asked) {
                    kept.lock().push((asked, answer.clone()));
                }
                answer
            };
            match sent.await.and_then(response) {
                Ok(response) => {
                    let end: Box<dyn Future<Output = Result<(), Error>> + Send> =
                        Box::new(std::future::ready(Ok(())));
                    Ok((response, end))
                }
                Err(error) => {
                    logs.lock().line(Level::Warn, &format!("{shown}: {error}"));
                    Err(code(error))
                }
            }
        })
    }
}

/// A query may hold what is nobody's business.
fn without_query(uri: &http::Uri) -> String {
    let scheme = uri.scheme_str().unwrap_or("https");
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    format!("{scheme}://{host}{}", uri.path())
}

fn response(answer: Answer) -> Result<http::Response<WasiBody>, HttpError> {
    let mut response = http::Response::builder().status(answer.status);
    for (name, value) in &answer.headers {
        response = response.header(name, value.as_ref());
    }
    let body = Full::new(answer.body).map_err(|never| match never {});
    response
        .body(body.boxed_unsync())
        .map_err(|e| HttpError::Protocol(e.to_string()))
}

fn code(error: HttpError) -> Error {
    match error {
        HttpError::Denied(_) => Error::HttpRequestDenied,
        HttpError::Address(_) => Error::DestinationIpProhibited,
        HttpError::Name(why) => Error::DnsError {
            rcode: Some(why),
            info_code: None,
        },
        HttpError::Connect(_) => Error::ConnectionRefused,
        HttpError::Timeout => Error::HttpResponseTimeout,
        HttpError::TooLarge(bytes) => Error::HttpResponseBodySize(Some(bytes)),
        HttpError::Protocol(_) => Error::HttpProtocolError,
        HttpError::Open(_) => Error::DestinationUnavailable,
    }
}

/// Counts a request from the moment the guest has handed it over until its answer is there, or it is given up.
struct UnderWay(Arc<AtomicU32>);

impl UnderWay {
    fn one(count: &Arc<AtomicU32>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
