//! Where payloads are kept: what the settings say, and what that comes to. Pure.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::PayloadError;

/// Where payloads are kept, and for how long.
#[derive(Clone, PartialEq, Eq)]
pub struct PayloadSettings {
    /// `file:PATH`, or `s3://BUCKET/PREFIX`.
    pub url: String,
    /// Of an S3-compatible service that is not Amazon's: `http://minio:9000`.
    pub endpoint: Option<String>,
    pub region: Option<String>,
    /// Without the two the machine's own role is asked for (instance metadata).
    pub access_key: Option<String>,
    pub secret_key: Option<String>,
    /// What was last put longer ago than this is swept.
    pub retention: Duration,
}

/// As long as the longest of the topics whose records may refer to a payload (`weir.parked`, `weir.dead-letters`), and a
/// day, for a broker deletes later than it could.
pub const PAYLOAD_RETENTION: Duration = Duration::from_secs(91 * 24 * 3_600);

impl PayloadSettings {
    /// Those of one url, all else as it is by default.
    pub fn of(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            endpoint: None,
            region: None,
            access_key: None,
            secret_key: None,
            retention: PAYLOAD_RETENTION,
        }
    }
}

impl fmt::Debug for PayloadSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PayloadSettings")
            .field("url", &self.url)
            .field("endpoint", &self.endpoint)
            .field("region", &self.region)
            .field("access_key", &self.access_key.as_ref().map(|_| "***"))
            .field("secret_key", &self.secret_key.as_ref().map(|_| "***"))
            .field("retention", &self.retention)
            .finish()
    }
}

/// What a url names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Folder(PathBuf),
    Bucket { name: String, prefix: String },
}

pub(super) fn place(url: &str) -> Result<Place, PayloadError> {
    if let Some(path) = url.strip_prefix("file:") {
        // file:///var/weir, file:/var/weir and file:weir
        let path = path.strip_prefix("//").unwrap_or(path);
        if !path.is_empty() {
            return Ok(Place::Folder(PathBuf::from(path)));
        }
    }
    if let Some(rest) = url.strip_prefix("s3://") {
        let (name, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if !name.is_empty() && !name.contains(['@', ':', '?', '#']) {
            return Ok(Place::Bucket {
                name: name.to_owned(),
                prefix: prefix.trim_matches('/').to_owned(),
            });
        }
    }
    // it is not quoted: somebody may have put a key into it
    Err(PayloadError::invalid(
        "payloads.url is of no known kind; write file:PATH, or s3://BUCKET/PREFIX with the keys in payloads.access_key and payloads.secret_key",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_urls_name() {
        let folder = |path: &str| Ok(Place::Folder(PathBuf::from(path)));
        let bucket = |name: &str, prefix: &str| {
            Ok(Place::Bucket {
                name: name.into(),
                prefix: prefix.into(),
            })
        };
        for (url, expected) in [
            ("file:a/b", folder("a/b")),
            ("file:/a/b", folder("/a/b")),
            ("file:///a/b", folder("/a/b")),
            ("s3://weir", bucket("weir", "")),
            ("s3://weir/", bucket("weir", "")),
            ("s3://weir/a/b/", bucket("weir", "a/b")),
        ] {
            assert_eq!(place(url), expected, "{url}");
        }
        for wrong in [
            "",
            "file:",
            "file://",
            "s3://",
            "s3:///a",
            "/a",
            "s3://key:hunter2@weir/a",
        ] {
            let said = place(wrong).expect_err(wrong).to_string();
            assert!(
                said.contains("file:PATH") && !said.contains("hunter2"),
                "{said}"
            );
        }
    }

    #[test]
    fn keys_are_not_shown() {
        let settings = PayloadSettings {
            access_key: Some("hunter1".into()),
            secret_key: Some("hunter2".into()),
            ..PayloadSettings::of("s3://weir")
        };
        let shown = format!("{settings:?} {settings:#?}");
        assert!(!shown.contains("hunter"), "{shown}");
    }
}
