//! One kept-alive HTTP/1.1 connection to a loopback address: all that the sender needs, and nothing that could reach
//! farther. It does not read chunked answers, follow redirects or speak TLS.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

const TIMEOUT: Duration = Duration::from_secs(30);
const LINE_BYTES_MAX: u64 = 8 << 10;
const HEADERS_MAX: usize = 100;
const BODY_BYTES_MAX: u64 = 1 << 20;

pub(super) struct Connection {
    authority: String,
    path: String,
    address: SocketAddr,
    stream: BufReader<TcpStream>,
}

pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
}

impl Connection {
    /// Refuses every host that is not this machine, whatever it resolves to elsewhere.
    pub(super) fn open(url: &str) -> Result<Self> {
        let rest = url
            .strip_prefix("http://")
            .with_context(|| format!("\"{url}\" does not begin with http://"))?;
        let (authority, path) = rest
            .find('/')
            .map_or((rest, "/"), |slash| rest.split_at(slash));
        let with_port = authority
            .rsplit_once(':')
            .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let host = if with_port {
            authority.to_owned()
        } else {
            format!("{authority}:80")
        };
        let addresses: Vec<SocketAddr> = host
            .to_socket_addrs()
            .with_context(|| format!("\"{authority}\" is no address"))?
            .collect();
        let Some(&address) = addresses.iter().find(|address| address.ip().is_loopback()) else {
            bail!(
                "\"{authority}\" is not this machine; webhooks are only sent to loopback, such as 127.0.0.1"
            );
        };
        let stream = connect(address)?;
        Ok(Self {
            authority: authority.to_owned(),
            path: path.to_owned(),
            address,
            stream,
        })
    }

    pub(super) fn post(&mut self, headers: &[(&str, &str)], body: &[u8]) -> Result<Answer> {
        let mut request = format!(
            "POST {} HTTP/1.1\r\nhost: {}\r\n",
            self.path, self.authority
        );
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
        let mut request = request.into_bytes();
        request.extend_from_slice(body);
        self.stream.get_mut().write_all(&request)?;
        let (answer, keep) = read(&mut self.stream)?;
        if !keep {
            self.stream = connect(self.address)?;
        }
        Ok(answer)
    }
}

fn connect(address: SocketAddr) -> Result<BufReader<TcpStream>> {
    let stream = TcpStream::connect_timeout(&address, TIMEOUT)
        .with_context(|| format!("nothing answers at {address}; is `weir dev` running?"))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    Ok(BufReader::new(stream))
}

/// The answer, and whether the connection stays open.
fn read(stream: &mut impl BufRead) -> Result<(Answer, bool)> {
    let status_line = line(stream)?;
    let status = status_line
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let status = status.with_context(|| format!("\"{status_line}\" is no HTTP answer"))?;
    let (mut length, mut keep) = (0, true);
    for _ in 0..HEADERS_MAX {
        let header = line(stream)?;
        if header.is_empty() {
            ensure!(
                length <= BODY_BYTES_MAX,
                "the answer of {length} bytes is too long"
            );
            let mut body = vec![0; usize::try_from(length)?];
            stream.read_exact(&mut body)?;
            return Ok((Answer { status, body }, keep));
        }
        let (name, value) = header
            .split_once(':')
            .with_context(|| format!("\"{header}\" is no header"))?;
        match (name.to_ascii_lowercase().as_str(), value.trim()) {
            ("content-length", value) => {
                length = value.parse().context("in the answer's content-length")?
            }
            ("connection", value) => keep = !value.eq_ignore_ascii_case("close"),
            ("transfer-encoding", value) => {
                bail!("the answer is \"{value}\", which this sender does not read")
            }
            _ => {}
        }
    }
    bail!("the answer has more than {HEADERS_MAX} headers")
}

fn line(stream: &mut impl BufRead) -> Result<String> {
    let mut line = Vec::new();
    stream.take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
    ensure!(
        line.ends_with(b"\r\n"),
        "the connection ended in the middle of an answer"
    );
    line.truncate(line.len() - 2);
    Ok(String::from_utf8(line)?)
}
