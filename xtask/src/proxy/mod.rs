//! A proxy before a real Kafka broker that understands frames: it delays, loses and repeats requests and answers, and
//! delivers a first copy late, after the client has sent another one without telling anybody (KAFKA-17754).
//!
//! The broker must advertise the proxy's address on the listener that the proxy leads to (`Proxy::listeners`), so that
//! clients come back to it for every connection; another listener leads past it. What it does is decided by a `Decide`
//! and can be counted afterwards. It knows frames, not Kafka: it makes no request of its own. Threads: two for each
//! connection and one for each frame that is held.

mod fault;
mod frame;
mod link;

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

pub use fault::{Decide, Dice, Fault, Injected, Seeded, Trouble, Until};
pub use frame::{Request, api};
use link::{Ambush, Link};

/// What all connections share.
pub(crate) struct Shared {
    upstream: SocketAddr,
    decide: Mutex<Box<dyn Decide>>,
    injected: Mutex<Vec<Injected>>,
    ambushes: Mutex<Vec<Ambush>>,
    links: Mutex<Vec<Weak<Link>>>,
    over: AtomicBool,
    /// Wakes those that hold frames.
    ended: (Mutex<()>, Condvar),
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Waits; less if the proxy ends.
    fn wait(&self, time: Duration) {
        let until = Instant::now() + time;
        let mut guard = lock(&self.ended.0);
        while !self.over.load(Ordering::Acquire) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let woken = self.ended.1.wait_timeout(guard, left);
            guard = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn answered(&self, number: usize, error: Option<i16>) {
        if let Some(injected) = lock(&self.injected).get_mut(number) {
            injected.answered = error;
        }
    }
}

/// Where a proxy will listen: known before its broker starts, which has to advertise it.
pub struct Place {
    listener: TcpListener,
    behind: u16,
}

impl Place {
    pub fn new() -> Result<Self> {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("a port to listen on")?;
        let held = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("a free port")?;
        let behind = held.local_addr()?.port();
        Ok(Self { listener, behind })
    }

    fn port(&self) -> Result<u16> {
        Ok(self.listener.local_addr()?.port())
    }

    /// The broker's settings that make it listen behind the proxy too, as well as where it listens anyway.
    pub fn listeners(&self) -> Result<[(&'static str, String); 3]> {
        let (behind, before) = (self.behind, self.port()?);
        Ok([
            (
                "listeners",
                format!(
                    "PLAINTEXT://127.0.0.1:{{broker}},PROXIED://127.0.0.1:{behind},CONTROLLER://127.0.0.1:{{controller}}"
                ),
            ),
            (
                "advertised.listeners",
                format!("PLAINTEXT://127.0.0.1:{{broker}},PROXIED://127.0.0.1:{before}"),
            ),
            (
                "listener.security.protocol.map",
                "PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT".to_owned(),
            ),
        ])
    }

    /// Starts to serve; nothing is done to anything until `decide` says so.
    pub fn open(self, decide: impl Decide + 'static) -> Result<Proxy> {
        let upstream = SocketAddr::from((Ipv4Addr::LOCALHOST, self.behind));
        Proxy::serve(self.listener, upstream, decide)
    }
}

/// A serving proxy; it ends when it is dropped, and with it its connections.
pub struct Proxy {
    shared: Arc<Shared>,
    address: SocketAddr,
    accepting: Option<std::thread::JoinHandle<()>>,
}

impl Proxy {
    fn serve(
        listener: TcpListener,
        upstream: SocketAddr,
        decide: impl Decide + 'static,
    ) -> Result<Self> {
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            upstream,
            decide: Mutex::new(Box::new(decide)),
            injected: Mutex::default(),
            ambushes: Mutex::default(),
            links: Mutex::default(),
            over: AtomicBool::new(false),
            ended: Default::default(),
        });
        let serving = shared.clone();
        let accepting = std::thread::Builder::new()
            .name("proxy".into())
            .spawn(move || {
                for client in listener.incoming() {
                    if serving.over.load(Ordering::Acquire) {
                        return;
                    }
                    // a client that is gone again, or a broker that is not there: the client sees its connection end
                    if let Ok(client) = client {
                        Link::open(&serving, client).ok();
                    }
                }
            })?;
        Ok(Self {
            shared,
            address,
            accepting: Some(accepting),
        })
    }

    /// `host:port` for clients.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Somebody else decides from now on.
    pub fn decide(&self, decide: impl Decide + 'static) {
        *lock(&self.shared.decide) = Box::new(decide);
    }

    /// What was done so far, in order.
    pub fn injected(&self) -> Vec<Injected> {
        lock(&self.shared.injected).clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Release);
        drop(lock(&self.shared.ended.0));
        self.shared.ended.1.notify_all();
        for link in lock(&self.shared.links).iter().filter_map(Weak::upgrade) {
            link.cut();
        }
        // wakes the thread that accepts
        TcpStream::connect(self.address).ok();
        if let Some(accepting) = self.accepting.take() {
            accepting.join().ok();
        }
    }
}

#[cfg(test)]
mod tests;
