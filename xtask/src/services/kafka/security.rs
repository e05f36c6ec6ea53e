//! A cluster that lets in whom it knows and allows what it was told: TLS by an authority of its own, SASL, ACLs.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::services::process::{locked, succeed};

/// Who may do everything: the brokers themselves, and whoever sets the cluster up.
pub(super) const ADMIN: &str = "admin";

/// Librdkafka's settings, by name.
pub type Properties = Vec<(String, String)>;

/// What the brokers of one cluster share. Its files lie beside theirs.
#[derive(Clone, Debug)]
pub struct Security {
    folder: PathBuf,
    password: String,
}

impl Security {
    /// Makes keys, certificates and the admin's password in this folder, or finds them there.
    pub(super) fn prepare(folder: PathBuf) -> Result<Self> {
        let _lock = locked(&folder)?;
        let noted = folder.join("password");
        if !noted.exists() {
            certify(&folder)?;
            std::fs::write(&noted, random()?)?;
        }
        let security = Self {
            password: std::fs::read_to_string(&noted).context("reading the admin's password")?,
            folder,
        };
        std::fs::write(security.of_tools(), security.for_tools())?;
        Ok(security)
    }

    /// The certificate by which clients know the brokers.
    pub fn authority(&self) -> PathBuf {
        self.folder.join("authority.pem")
    }

    /// What a client needs to come in as this user, by SCRAM.
    pub fn properties(&self, user: &str, password: &str) -> Properties {
        self.client("SCRAM-SHA-512", user, password)
    }

    /// The same as the admin, by PLAIN.
    pub fn of_admin(&self) -> Properties {
        self.client("PLAIN", ADMIN, &self.password)
    }

    fn client(&self, mechanism: &str, user: &str, password: &str) -> Properties {
        let authority = self.authority().display().to_string();
        own(&[
            ("security.protocol", "SASL_SSL"),
            ("ssl.ca.location", &authority),
            ("sasl.mechanism", mechanism),
            ("sasl.username", user),
            ("sasl.password", password),
        ])
    }

    pub(super) fn password(&self) -> &str {
        &self.password
    }

    /// A file that Kafka's own tools take as `--command-config`, and Java's clients as properties: the admin's.
    pub fn of_tools(&self) -> PathBuf {
        self.folder.join("admin.properties")
    }

    fn for_tools(&self) -> String {
        let mut text = String::new();
        for (name, value) in [
            ("security.protocol", "SASL_SSL".to_owned()),
            ("ssl.truststore.type", "PEM".to_owned()),
            (
                "ssl.truststore.location",
                self.authority().display().to_string(),
            ),
            ("sasl.mechanism", "PLAIN".to_owned()),
            ("sasl.jaas.config", self.plain("")),
        ] {
            // writing to a string does not fail
            writeln!(text, "{name}={value}").ok();
        }
        text
    }

    /// How the admin logs in by PLAIN, and whom else a broker lets in so.
    fn plain(&self, known: &str) -> String {
        format!(
            "org.apache.kafka.common.security.plain.PlainLoginModule required username=\"{ADMIN}\" password=\"{}\"{known};",
            self.password
        )
    }

    /// The brokers' settings. Brokers and controllers talk to each other as the admin.
    pub(super) fn of_brokers(&self) -> Properties {
        let file = |name: &str| self.folder.join(name).display().to_string();
        let plain = self.plain(&format!(" user_{ADMIN}=\"{}\"", self.password));
        let scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;";
        own(&[
            ("sasl.enabled.mechanisms", "SCRAM-SHA-512,PLAIN"),
            ("sasl.mechanism.inter.broker.protocol", "PLAIN"),
            ("sasl.mechanism.controller.protocol", "PLAIN"),
            ("listener.name.sasl_ssl.plain.sasl.jaas.config", &plain),
            (
                "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config",
                scram,
            ),
            ("listener.name.controller.sasl.enabled.mechanisms", "PLAIN"),
            ("listener.name.controller.plain.sasl.jaas.config", &plain),
            ("ssl.keystore.type", "PEM"),
            ("ssl.keystore.location", &file("server.pem")),
            ("ssl.truststore.type", "PEM"),
            ("ssl.truststore.location", &file("authority.pem")),
            (
                "authorizer.class.name",
                "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            ),
            ("allow.everyone.if.no.acl.found", "false"),
            ("super.users", &format!("User:{ADMIN}")),
        ])
    }
}

fn own(pairs: &[(&str, &str)]) -> Properties {
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    pairs.iter().map(own).collect()
}

/// An authority, and the brokers' certificate by it, for as long as anybody may keep the cluster.
fn certify(folder: &Path) -> Result<()> {
    const KEY: [&str; 5] = [
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
    ];
    let openssl = |arguments: &[&str]| {
        let mut openssl = Command::new("openssl");
        // in its folder, so that no path has to be quoted
        openssl.args(arguments).current_dir(folder);
        succeed(&mut openssl, "install OpenSSL (package openssl)")
    };
    let authority = ["-keyout", "authority.key", "-out", "authority.pem"];
    let named = ["-subj", "/CN=Weir's services", "-days", "3650"];
    openssl(&[&["req", "-x509"], &KEY[..], &authority, &named].concat())?;
    let asked = ["-keyout", "server.key", "-out", "server.csr"];
    openssl(&[&["req"], &KEY[..], &asked, &["-subj", "/CN=localhost"]].concat())?;
    std::fs::write(
        folder.join("server.names"),
        "subjectAltName=IP:127.0.0.1,DNS:localhost\n",
    )?;
    let by = [
        "-CA",
        "authority.pem",
        "-CAkey",
        "authority.key",
        "-CAcreateserial",
    ];
    let signed = ["-in", "server.csr", "-out", "server.crt"];
    let more = ["-days", "3650", "-extfile", "server.names"];
    openssl(&[&["x509", "-req"], &signed[..], &by, &more].concat())?;
    let both = ["server.key", "server.crt"].map(|name| std::fs::read_to_string(folder.join(name)));
    let [key, certificate] = both;
    Ok(std::fs::write(
        folder.join("server.pem"),
        key? + &certificate?,
    )?)
}

fn random() -> Result<String> {
    let mut bytes = [0; 16];
    let mut random = File::open("/dev/urandom").context("opening /dev/urandom")?;
    random.read_exact(&mut bytes)?;
    Ok(hex::encode(bytes))
}
