//! An S3-compatible service. What `object_store` would bring for it is replaced by what the workspace has: `connector` is
//! its HTTP client, `signing` its cryptography.

mod connector;
mod signing;

use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, S3ConditionalPut};
use object_store::{BackoffConfig, ObjectStore, RetryConfig};

use super::{PayloadError, PayloadSettings};
use connector::Connector;
use signing::Signing;

/// A worker waits so long at most, and tries again later: its lane puts the record aside.
const RETRY: Duration = Duration::from_secs(10);
const RETRIES_MAX: usize = 3;
const REGION: &str = "us-east-1";

pub(super) fn open(
    bucket: &str,
    settings: &PayloadSettings,
) -> Result<Arc<dyn ObjectStore>, PayloadError> {
    let retry = RetryConfig {
        backoff: BackoffConfig::default(),
        max_retries: RETRIES_MAX,
        retry_timeout: RETRY,
    };
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(bucket)
        .with_region(settings.region.as_deref().unwrap_or(REGION))
        .with_http_connector(Connector)
        .with_crypto_provider(Arc::new(Signing))
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .with_retry(retry);
    if let Some(endpoint) = &settings.endpoint {
        let plain = endpoint.starts_with("http://");
        if !plain && !endpoint.starts_with("https://") {
            return Err(PayloadError::invalid(
                "payloads.endpoint is no address; write it as http://HOST:PORT",
            ));
        }
        builder = builder
            .with_endpoint(endpoint.trim_end_matches('/'))
            .with_allow_http(plain);
    }
    builder = match (&settings.access_key, &settings.secret_key) {
        (Some(access), Some(secret)) => builder
            .with_access_key_id(access)
            .with_secret_access_key(secret),
        (None, None) => builder,
        _ => {
            return Err(PayloadError::invalid(
                "payloads.access_key and payloads.secret_key belong together; set both, or neither",
            ));
        }
    };
    let built = builder.build();
    built
        .map(|bucket| Arc::new(bucket) as Arc<dyn ObjectStore>)
        .map_err(|e| PayloadError::invalid(format!("payloads.url cannot be used: {e}")))
}
