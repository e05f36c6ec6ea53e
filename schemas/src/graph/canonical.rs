//! The canonical form of a graph and its version.
use super::{Graph, Problems};
use sha2::{Digest, Sha256};

/// What `Graph::resolve` asks for: modules and files.
pub trait Resolve {
    /// The digest (`sha256:<64 hex>`) of the module that `uses` names, or why there is none.
    fn module(&mut self, uses: &str) -> Result<String, String>;
    /// The text of a file that the graph names, or why there is none.
    fn file(&mut self, path: &str) -> Result<String, String>;
}

#[derive(Debug, thiserror::Error)]
pub enum CanonicalError {
    /// A `uses` that is no digest.
    #[error("step \"{step}\" uses \"{uses}\", which is not resolved to a digest yet")]
    Unresolved { step: String, uses: String },
    #[error("{0}")]
    Invalid(#[from] Problems),
}

/// The version of a graph: the sha256 of its canonical form, in hex.
pub fn version(canonical: &[u8]) -> String {
    hex::encode(Sha256::digest(canonical))
}

impl Graph {
    pub fn canonical(&self) -> Result<Vec<u8>, CanonicalError> {
        Ok(vec![])
    }
    pub fn from_canonical(_bytes: &[u8]) -> Result<Graph, CanonicalError> {
        Err(CanonicalError::Unresolved { step: String::new(), uses: String::new() })
    }
    pub fn resolve(&self, _with: &mut dyn Resolve) -> Result<Graph, Problems> {
        Ok(self.clone())
    }
}
