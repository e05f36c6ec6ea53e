//! An HTTP server on loopback, for steps to call: counts, waits, redirects, answers too much, breaks off.

use std::collections::HashMap;
use std::future::Future;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use processor::wasm::Outside;
use processor::web::{Names, Networks, WebConfig, World};
use tokio::runtime::Runtime;

pub(crate) struct Upstream {
    port: u16,
    pub(crate) asked: Arc<AtomicU64>,
    /// `idempotency-key`s, as they came.
    pub(crate) keys: Arc<Mutex<Vec<String>>>,
    pub(crate) runtime: Runtime,
}

impl Upstream {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (asked, keys) = (
            Arc::new(AtomicU64::new(0)),
            Arc::new(Mutex::new(Vec::new())),
        );
        let (counts, noted) = (asked.clone(), keys.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (counts, noted) = (counts.clone(), noted.clone());
                std::thread::spawn(move || serve(stream, &counts, &noted));
            }
        });
        Self {
            port,
            asked,
            keys,
            runtime: tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .unwrap(),
        }
    }

    pub(crate) fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// The true client, with loopback opened; one secret is set.
    pub(crate) fn world(&self) -> Arc<dyn Outside> {
        self.world_with(&["127.0.0.0/8"], HashMap::new())
    }

    /// The true client, with these networks opened and these names known.
    pub(crate) fn world_with(
        &self,
        networks: &[&str],
        names: HashMap<String, Vec<Vec<IpAddr>>>,
    ) -> Arc<dyn Outside> {
        let networks: Vec<String> = networks.iter().map(|&net| net.to_owned()).collect();
        let config = WebConfig {
            networks: Networks::parse(&networks).unwrap(),
        };
        let secrets = |tenant: &str, name: &str| match (tenant, name) {
            ("default", "KEY") => Ok(Some(Arc::from("hunter2"))),
            (_, "DOWN") => Err("the store is away".to_owned()),
            _ => Ok(None),
        };
        let names = Arc::new(Known(Mutex::new(names)));
        let handle = self.runtime.handle().clone();
        Arc::new(World::new(handle, Arc::new(secrets), config, names).unwrap())
    }
}

/// What each name leads to, one answer after the other; the last one stays.
struct Known(Mutex<HashMap<String, Vec<Vec<IpAddr>>>>);

impl Names for Known {
    fn addresses(
        &self,
        host: String,
    ) -> Pin<Box<dyn Future<Output = std::io::Result<Vec<IpAddr>>> + Send>> {
        let mut known = self.0.lock().unwrap();
        let found = known.get_mut(&host).map(|answers| {
            if answers.len() > 1 {
                answers.remove(0)
            } else {
                answers[0].clone()
            }
        });
        let found = found.ok_or_else(|| std::io::Error::other("failed to lookup address"));
        Box::pin(std::future::ready(found))
    }
}

fn serve(stream: TcpStream, asked: &AtomicU64, keys: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut writer = stream;
    loop {
        let mut first = String::new();
        if reader.read_line(&mut first).unwrap_or(0) == 0 {
            return;
        }
        let (mut length, mut key) = (0, String::new());
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            let line = line.trim();
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse().unwrap(),
                "idempotency-key" => key = value.trim().to_owned(),
                "transfer-encoding" => panic!("a body is sent whole, with its length"),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let count = asked.fetch_add(1, Ordering::SeqCst) + 1;
        keys.lock().unwrap().push(key);
        let path = first.split(' ').nth(1).unwrap_or("/").to_owned();
        let (status, headers, body) = match path.as_str() {
            "/count" => ("200 OK", String::new(), count.to_string().into_bytes()),
            "/echo" => ("200 OK", String::new(), body),
            "/large" => ("200 OK", String::new(), vec![b'x'; 9 << 20]),
            "/fails" => ("500 Internal Server Error", String::new(), b"no".to_vec()),
            "/breaks" => return,
            "/slow" => {
                std::thread::sleep(Duration::from_secs(3));
                ("200 OK", String::new(), b"late".to_vec())
            }
            path if path.starts_with("/to?") => {
                let location = format!("location: {}\r\n", &path[4..]);
                ("302 Found", location, Vec::new())
            }
            _ => {
                std::thread::sleep(Duration::from_millis(20));
                ("200 OK", String::new(), b"ok".to_vec())
            }
        };
        let head = format!(
            "HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n",
            body.len()
        );
        if writer
            .write_all(head.as_bytes())
            .and_then(|()| writer.write_all(&body))
            .is_err()
        {
            return;
        }
    }
}
