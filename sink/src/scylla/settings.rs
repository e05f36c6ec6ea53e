//! Where a ScyllaDB destination is, and how its tables are kept.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use openssl::ssl::{SslConnector, SslMethod};
use scylla::client::execution_profile::ExecutionProfile;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::policies::load_balancing::{DefaultPolicy, LoadBalancingPolicy};
use scylla::statement::Consistency;

const PORT: u16 = 9042;
const CONNECT: Duration = Duration::from_secs(5);
/// Of one request with its retries; whoever waits for the batch waits no longer.
const REQUEST: Duration = Duration::from_secs(10);

/// Settings of one destination.
#[derive(Clone, Debug)]
pub struct ScyllaSettings {
    /// `host:port` of some nodes; the others are asked for.
    pub nodes: Vec<String>,
    /// There already: only whoever runs the cluster knows how it shall be replicated.
    pub keyspace: String,
    /// User and password.
    pub login: Option<(String, String)>,
    /// The datacenter that is spoken to; the others only replicate.
    pub datacenter: Option<String>,
    pub tls: Option<Tls>,
}

/// Nodes are known by certificates for their addresses.
#[derive(Clone, Debug)]
pub struct Tls {
    /// Who signs them; `None`: whom this machine trusts.
    pub ca: Option<PathBuf>,
}

impl ScyllaSettings {
    /// `scylla://[USER:PASSWORD@]HOST[:PORT][,HOST…]/KEYSPACE[?datacenter=NAME&tls=true&ca=PATH]`. It may hold a password: no
    /// message quotes it.
    pub fn parse(url: &str) -> Result<Self, String> {
        let wrong = |what: &str| format!("{what}; write scylla://USER:PASSWORD@HOST:PORT/KEYSPACE");
        let rest = url
            .strip_prefix("scylla://")
            .or_else(|| url.strip_prefix("cassandra://"))
            .ok_or_else(|| wrong("the URL is not one of ScyllaDB"))?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, keyspace) = rest
            .split_once('/')
            .ok_or_else(|| wrong("the URL names no keyspace"))?;
        if keyspace.is_empty()
            || !keyspace
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'_')
        {
            return Err(wrong("the keyspace is not letters, digits and _"));
        }
        let (login, hosts) = match authority.rsplit_once('@') {
            None => (None, authority),
            Some((login, hosts)) => {
                let (user, password) = login
                    .split_once(':')
                    .ok_or_else(|| wrong("the URL has a user without a password"))?;
                let decoded = plain(user).zip(plain(password));
                (
                    Some(decoded.ok_or_else(|| wrong("the user or password has a wrong %"))?),
                    hosts,
                )
            }
        };
        let nodes: Vec<String> = hosts
            .split(',')
            .filter(|host| !host.is_empty())
            .map(|host| match host.rsplit_once(':') {
                Some((_, port)) if port.parse::<u16>().is_ok() => host.to_owned(),
                _ => format!("{host}:{PORT}"),
            })
            .collect();
        if nodes.is_empty() {
            return Err(wrong("the URL names no host"));
        }
        let mut settings = Self {
            nodes,
            keyspace: keyspace.to_owned(),
            login,
            datacenter: None,
            tls: None,
        };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = plain(value).ok_or_else(|| wrong("the URL has a wrong %"))?;
            match (name, value.as_str()) {
                ("datacenter", _) => settings.datacenter = Some(value),
                ("tls", "true") => settings.tls = settings.tls.or(Some(Tls { ca: None })),
                ("tls", "false") => settings.tls = None,
                ("ca", _) => {
                    settings.tls = Some(Tls {
                        ca: Some(value.into()),
                    })
                }
                _ => return Err(wrong(&format!("\"{name}\" is not known in the URL"))),
            }
        }
        Ok(settings)
    }

    /// A session to read with; the tables are there or not.
    pub async fn connect(&self) -> Result<Session, String> {
        let session = self.session(self.policy())?.build().await;
        session.map_err(|e| e.to_string())
    }

    /// Where it is, without a password.
    pub fn place(&self) -> String {
        format!("cql {}/{}", self.nodes.join(","), self.keyspace)
    }

    /// Replicas first, those of the datacenter if one is set.
    pub(super) fn policy(&self) -> Arc<dyn LoadBalancingPolicy> {
        let mut policy = DefaultPolicy::builder().token_aware(true);
        if let Some(datacenter) = &self.datacenter {
            policy = policy.prefer_datacenter(datacenter.clone());
        }
        policy.build()
    }

    pub(super) fn session(
        &self,
        policy: Arc<dyn LoadBalancingPolicy>,
    ) -> Result<SessionBuilder, String> {
        let profile = ExecutionProfile::builder()
            .consistency(Consistency::LocalQuorum)
            .request_timeout(Some(REQUEST))
            .load_balancing_policy(policy)
            .build();
        let mut builder = SessionBuilder::new()
            .known_nodes(&self.nodes)
            .use_keyspace(&self.keyspace, true)
            .connection_timeout(CONNECT)
            .default_execution_profile_handle(profile.into_handle());
        if let Some((user, password)) = &self.login {
            builder = builder.user(user, password);
        }
        if let Some(tls) = &self.tls {
            let mut connector =
                SslConnector::builder(SslMethod::tls_client()).map_err(|e| e.to_string())?;
            if let Some(ca) = &tls.ca {
                let loaded = connector.set_ca_file(ca);
                loaded.map_err(|e| format!("reading \"{}\": {e}", ca.display()))?;
            }
            builder = builder.tls_context(Some(connector));
        }
        Ok(builder)
    }
}

/// `%2F` → `/`.
fn plain(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(if byte == b'%' {
            let digits = [rest.next()?, rest.next()?];
            u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
        } else {
            byte
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let full = ScyllaSettings::parse(
            "scylla://u:p%40ss@one:1,two,[::1]:3/weir?datacenter=dc1&ca=%2Fca.pem",
        );
        let full = full.unwrap();
        assert_eq!(full.nodes, ["one:1", "two:9042", "[::1]:3"]);
        assert_eq!(full.login, Some(("u".into(), "p@ss".into())));
        assert_eq!(full.keyspace, "weir");
        assert_eq!(full.datacenter.as_deref(), Some("dc1"));
        assert_eq!(full.tls.and_then(|tls| tls.ca), Some("/ca.pem".into()));
        for wrong in [
            "postgres://h/k",
            "scylla://h",
            "scylla://h/",
            "scylla:///k",
            "scylla://h/k;drop",
            "scylla://secret@h/k",
            "scylla://u:secret%2@h/k",
            "scylla://u:secret@h/k?tls=perhaps",
        ] {
            let refused = ScyllaSettings::parse(wrong).unwrap_err();
            assert!(!refused.contains("secret"), "{refused}");
        }
    }
}
