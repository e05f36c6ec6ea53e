//! The one client. It resolves a name once for a connection, refuses it if any of its addresses is not public, and connects to what it
//! looked at: there is no second lookup that could answer otherwise (DNS rebinding).

use std::collections::HashMap;
use std::error::Error as StdError;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

use super::addresses::Networks;
use super::allow;
use super::breaker::Breaker;
use crate::wasm::{Answer, Ask, HttpError};

/// Unhealthy hosts that are remembered.
const BREAKERS_MAX: usize = 10_000;
const CONNECT: Duration = Duration::from_secs(5);
const IDLE_PER_HOST: usize = 256;

/// Settings of what leaves.
#[derive(Clone, Debug, Default)]
pub struct WebConfig {
    /// Networks that steps may reach beside the public internet.
    pub networks: Networks,
}

/// Resolves names.
pub trait Names: Send + Sync {
    /// All addresses of a host.
    fn addresses(
        &self,
        host: String,
    ) -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;
}

/// As the machine resolves them.
pub struct SystemNames;

impl Names for SystemNames {
    fn addresses(
        &self,
        host: String,
    ) -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>> {
        Box::pin(async move {
            let found = tokio::net::lookup_host((host, 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    }
}

/// By tenant, and host with port; only of those that fail.
type Breakers = HashMap<(Arc<str>, String), Breaker>;

#[derive(Clone)]
pub(super) struct Client {
    http: reqwest::Client,
    networks: Networks,
    breakers: Arc<Mutex<Breakers>>,
}

impl Client {
    pub(super) fn new(config: WebConfig, names: Arc<dyn Names>) -> Result<Self, String> {
        let resolver = Resolver {
            names,
            networks: config.networks.clone(),
        };
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .referer(false)
            .http1_only()
            .connect_timeout(CONNECT)
            .pool_max_idle_per_host(IDLE_PER_HOST)
            .dns_resolver(Arc::new(resolver))
            .build()
            .map_err(|e| format!("no HTTP client for steps can be made: {e}"))?;
        Ok(Self {
            http,
            networks: config.networks,
            breakers: Arc::default(),
        })
    }

    pub(super) async fn send(&self, ask: Ask) -> Result<Answer, HttpError> {
        let started = Instant::now();
        let sent = self.sent(ask).await;
        let outcome = match &sent {
            Ok(_) => "answered",
            Err(HttpError::Denied(_) | HttpError::Address(_)) => "refused",
            Err(HttpError::Open(_)) => "breaker",
            Err(HttpError::Timeout) => "timeout",
            Err(_) => "failed",
        };
        metrics::counter!("weir_http_requests_total", "outcome" => outcome).increment(1);
        metrics::histogram!("weir_http_request_seconds").record(started.elapsed().as_secs_f64());
        sent
    }

    async fn sent(&self, ask: Ask) -> Result<Answer, HttpError> {
        let url = allow::granted(ask.request.uri(), &ask.allow).map_err(HttpError::Denied)?;
        self.literal(&url)?;
        let host = (ask.tenant.clone(), url.authority().to_owned());
        let open = |breakers: &mut HashMap<_, Breaker>| {
            let breaker = breakers.get_mut(&host);
            breaker.is_some_and(|breaker| !breaker.lets_pass(Instant::now()))
        };
        if open(&mut self.breakers.lock()) {
            return Err(HttpError::Open(host.1));
        }
        let left = ask.until.saturating_duration_since(Instant::now());
        let answered = match tokio::time::timeout(left, self.ask(url, ask)).await {
            Ok(answered) => answered,
            Err(_) => Err(HttpError::Timeout),
        };
        self.learn(host, &answered);
        answered
    }

    /// The client connects to an address that a URL names without asking the resolver.
    fn literal(&self, url: &Url) -> Result<(), HttpError> {
        let address = match url.host() {
            Some(Host::Ipv4(v4)) => IpAddr::V4(v4),
            Some(Host::Ipv6(v6)) => IpAddr::V6(v6),
            _ => return Ok(()),
        };
        match self.networks.fault(address) {
            Some(why) => Err(HttpError::Address(format!("{address}: {why}"))),
            None => Ok(()),
        }
    }

    async fn ask(&self, url: Url, ask: Ask) -> Result<Answer, HttpError> {
        let (parts, body) = ask.request.into_parts();
        let request = self
            .http
            .request(parts.method, url)
            .headers(parts.headers)
            .body(body);
        let mut response = request.send().await.map_err(trouble)?;
        let max = ask.answer_bytes_max;
        let too_large = || HttpError::TooLarge(max as u64);
        if response.content_length().is_some_and(|n| n > max as u64) {
            return Err(too_large());
        }
        let headers = response.headers().iter();
        let headers = headers
            .map(|(name, value)| {
                (
                    name.as_str().to_owned(),
                    Bytes::copy_from_slice(value.as_bytes()),
                )
            })
            .collect();
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(trouble)? {
            if body.len() + chunk.len() > max {
                return Err(too_large());
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer {
            status: response.status().as_u16(),
            headers,
            body: body.freeze(),
        })
    }

    fn learn(&self, host: (Arc<str>, String), answered: &Result<Answer, HttpError>) {
        let failed = match answered {
            Ok(answer) => answer.status >= 500,
            Err(HttpError::Connect(_) | HttpError::Timeout | HttpError::Name(_)) => true,
            Err(_) => return,
        };
        let mut breakers = self.breakers.lock();
        if !failed {
            breakers.remove(&host);
            return;
        }
        if breakers.len() >= BREAKERS_MAX && !breakers.contains_key(&host) {
            return;
        }
        let now = Instant::now();
        let breaker = breakers.entry(host).or_default();
        breaker.failed(now);
        let open = breakers.values().filter(|breaker| breaker.is_open(now));
        metrics::gauge!("weir_http_breakers_open").set(open.count() as f64);
    }
}

struct Resolver {
    names: Arc<dyn Names>,
    networks: Networks,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let host = name.as_str().to_owned();
        let (found, networks) = (self.names.addresses(host.clone()), self.networks.clone());
        Box::pin(async move {
            let found = found.await?;
            // one bad address spoils all: whoever mixes them means to be picked
            for address in &found {
                if let Some(why) = networks.fault(*address) {
                    let why = format!("\"{host}\" leads to {address}: {why}");
                    return Err(Box::new(Prohibited(why)) as Box<dyn StdError + Send + Sync>);
                }
            }
            // port 0: the client puts in the URL's
            let addresses = found.into_iter().map(|address| SocketAddr::new(address, 0));
            Ok(Box::new(addresses) as Addrs)
        })
    }
}

/// An address that is refused, on its way through the client's errors.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Prohibited(String);

fn trouble(error: reqwest::Error) -> HttpError {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(&error);
    let mut last = String::new();
    while let Some(this) = cause {
        if let Some(prohibited) = this.downcast_ref::<Prohibited>() {
            return HttpError::Address(prohibited.0.clone());
        }
        last = this.to_string();
        cause = this.source();
    }
    // the error itself would repeat the URL with its query
    match () {
        () if error.is_timeout() => HttpError::Timeout,
        () if last.contains("lookup") || last.contains("resolve") => HttpError::Name(last),
        () if error.is_connect() => HttpError::Connect(last),
        () => HttpError::Protocol(last),
    }
}
