//! Sends signed webhooks as fast as they are answered: connections that stay open, one request under way on each.
//!
//! It shares the machine with what it measures, so it is lean: requests are made and signed before the clock starts, only
//! the delivery id is written anew, and one thread serves all connections.

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::Value;
use sha2::Sha256;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::log::runtime;
use crate::meter::thread_cpu;
use crate::place;

/// 1,142 and 871 bytes: about 1 KiB each.
const PAYLOADS: [&str; 2] = ["push", "issue_comment"];
const ANSWER_BYTES_MAX: usize = 4 << 10;

/// How much to send.
pub(crate) struct Load {
    pub(crate) address: SocketAddr,
    pub(crate) path: &'static str,
    pub(crate) secret: &'static str,
    pub(crate) connections: usize,
    /// It ends with whichever is reached first.
    pub(crate) requests_max: u64,
    pub(crate) time_max: Duration,
    /// Another run's delivery ids are other ones.
    pub(crate) run: u32,
}

/// What became of it; every answer was 202.
pub(crate) struct Sent {
    pub(crate) started: Instant,
    pub(crate) elapsed: Duration,
    /// Processor time of the sender.
    pub(crate) cpu: Duration,
    /// Of each answer, in µs, sorted.
    pub(crate) latencies_us: Vec<u32>,
}

impl Sent {
    pub(crate) fn count(&self) -> u64 {
        self.latencies_us.len() as u64
    }

    pub(crate) fn percentile_ms(&self, percent: usize) -> f64 {
        let at = (self.latencies_us.len() * percent / 100)
            .min(self.latencies_us.len().saturating_sub(1));
        self.latencies_us
            .get(at)
            .map_or(f64::NAN, |&us| f64::from(us) / 1_000.0)
    }
}

/// Blocks until all is answered.
pub(crate) fn send(load: &Load) -> Result<Sent> {
    let requests = PAYLOADS
        .iter()
        .map(|event| request(load, event))
        .collect::<Result<Vec<_>>>()?;
    runtime()?.block_on(async {
        let mut streams = Vec::new();
        for _ in 0..load.connections {
            let stream = TcpStream::connect(load.address).await?;
            stream.set_nodelay(true)?;
            streams.push(stream);
        }
        let (started, cpu, numbers) = (Instant::now(), thread_cpu(), Arc::new(AtomicU64::new(0)));
        let mut connections = JoinSet::new();
        for stream in streams {
            let connection = Connection {
                stream,
                requests: requests.clone(),
                numbers: numbers.clone(),
                requests_max: load.requests_max,
                until: started + load.time_max,
                run: load.run,
            };
            connections.spawn(connection.send());
        }
        let mut latencies_us = Vec::new();
        while let Some(sent) = connections.join_next().await {
            latencies_us.append(&mut sent??);
        }
        let (elapsed, cpu) = (started.elapsed(), thread_cpu() - cpu);
        latencies_us.sort_unstable();
        Ok(Sent {
            started,
            elapsed,
            cpu,
            latencies_us,
        })
    })
}

/// A whole request, and where its delivery id stands.
#[derive(Clone)]
struct Request {
    bytes: Vec<u8>,
    id_at: usize,
}

const ID: &str = "00000000-0000-4000-8000-000000000000";

fn request(load: &Load, event: &str) -> Result<Request> {
    let path = place::root().join(format!("examples/github-activity/payloads/{event}.json"));
    let text = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let written: Value = serde_json::from_slice(&text)?;
    let body = serde_json::to_vec(&written["payload"])?;
    let mut mac = Hmac::<Sha256>::new_from_slice(load.secret.as_bytes())?;
    mac.update(&body);
    let signature = hex::encode(mac.finalize().into_bytes());
    let (Load { path, address, .. }, length) = (load, body.len());
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: {address}\r\nuser-agent: GitHub-Hookshot/044aadd\r\n\
         content-type: application/json\r\nx-github-event: {event}\r\nx-github-delivery: {ID}\r\n\
         x-hub-signature-256: sha256={signature}\r\ncontent-length: {length}\r\n\r\n"
    );
    let id_at = head.find(ID).context("the head names the delivery")?;
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(&body);
    Ok(Request { bytes, id_at })
}

struct Connection {
    stream: TcpStream,
    requests: Vec<Request>,
    /// The next request of all connections.
    numbers: Arc<AtomicU64>,
    requests_max: u64,
    until: Instant,
    run: u32,
}

impl Connection {
    async fn send(mut self) -> Result<Vec<u32>> {
        let mut latencies_us = Vec::with_capacity(1 << 14);
        let mut answer = vec![0; ANSWER_BYTES_MAX];
        let mut now = Instant::now();
        let kinds = self.requests.len() as u64;
        while now < self.until {
            let number = self.numbers.fetch_add(1, Ordering::Relaxed);
            if number >= self.requests_max {
                break;
            }
            let request = &mut self.requests[(number % kinds) as usize];
            let id = &mut request.bytes[request.id_at..request.id_at + ID.len()];
            write!(&mut *id, "{:08x}-0000-4000-8000-{number:012x}", self.run)?;
            self.stream.write_all(&request.bytes).await?;
            self.answer(&mut answer).await?;
            let answered = Instant::now();
            let us = (answered - now).as_micros();
            latencies_us.push(u32::try_from(us).unwrap_or(u32::MAX));
            now = answered;
        }
        Ok(latencies_us)
    }

    /// Reads one answer, which must be a 202.
    async fn answer(&mut self, buffer: &mut [u8]) -> Result<()> {
        let mut length = 0;
        loop {
            let read = self.stream.read(&mut buffer[length..]).await?;
            ensure!(
                read > 0,
                "the connection was closed, or an answer is too long"
            );
            length += read;
            match ends(&buffer[..length])? {
                Some(end) if end == length => break,
                Some(end) if end < length => bail!("more was answered than asked"),
                _ => {}
            }
        }
        let answer = &buffer[..length];
        ensure!(
            answer.starts_with(b"HTTP/1.1 202"),
            "an answer was not 202: {}",
            String::from_utf8_lossy(answer)
        );
        Ok(())
    }
}

/// Where the answer ends; `None`: not all of its head is there.
fn ends(answer: &[u8]) -> Result<Option<usize>> {
    const LENGTH: &[u8] = b"content-length:";
    let Some(head) = answer.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let length = answer[..head]
        .split(|&byte| byte == b'\n')
        .find(|line| {
            line.len() >= LENGTH.len() && line[..LENGTH.len()].eq_ignore_ascii_case(LENGTH)
        })
        .and_then(|line| std::str::from_utf8(&line[LENGTH.len()..]).ok())
        .and_then(|length| length.trim().parse::<usize>().ok());
    let length = length.with_context(|| {
        format!(
            "an answer without its length: {}",
            String::from_utf8_lossy(answer)
        )
    })?;
    Ok(Some(head + 4 + length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_ends_where_its_length_says() {
        let answer = b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\nx: y\r\n\r\n{}";
        assert_eq!(ends(answer).unwrap(), Some(answer.len()));
        assert_eq!(ends(&answer[..30]).unwrap(), None);
        assert!(ends(b"HTTP/1.1 202 Accepted\r\n\r\n").is_err());
    }

    #[test]
    fn a_delivery_id_fits_its_place() {
        assert_eq!(
            ID.len(),
            format!("{:08x}-0000-4000-8000-{:012x}", 1, 2).len()
        );
    }
}
