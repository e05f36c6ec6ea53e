//! Secrets by name. Where they come from is the caller's affair.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

/// A secret's value; prints nothing.
#[derive(Clone)]
pub struct Secret(Arc<[u8]>);

impl Secret {
    pub fn new(value: impl AsRef<[u8]>) -> Self {
        Self(Arc::from(value.as_ref()))
    }

    /// The value itself: for a signature, never for a message.
    pub(crate) fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Finds secrets.
pub trait Secrets: Send + Sync {
    /// The tenant's secret of this name.
    fn get<'a>(&'a self, tenant: &'a str, name: &'a str) -> Finding<'a>;
}

/// A secret that is being looked up.
pub type Finding<'a> = Pin<Box<dyn Future<Output = Option<Secret>> + Send + 'a>>;

impl<F: Fn(&str, &str) -> Option<Secret> + Send + Sync> Secrets for F {
    fn get<'a>(&'a self, tenant: &'a str, name: &'a str) -> Finding<'a> {
        Box::pin(std::future::ready(self(tenant, name)))
    }
}
