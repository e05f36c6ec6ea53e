//! What travels on `weir.graphs`: that a version of a graph became its active one.
//!
//! The key is `tenant/graph` and the topic is compacted, so each graph's last change stays. Epochs grow along the
//! topic. The value is JSON; a reader passes over fields that it does not know.

use bytes::Bytes;

/// One change of a graph.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Activation {
    pub tenant: String,
    pub graph: String,
    /// Active after the change: sha256 in hex.
    pub version: String,
    /// The number of the change, of all graphs' changes.
    pub epoch: i64,
    pub kind: ActivationKind,
}

/// What happened to the graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ActivationKind {
    /// A version became the active one.
    Applied,
}

/// Why bytes are no activation.
#[derive(Debug, thiserror::Error)]
#[error("a record of weir.graphs is no activation: {0}")]
pub struct ActivationError(#[from] serde_json::Error);

impl Activation {
    /// The record's key.
    pub fn key(&self) -> Bytes {
        Bytes::from(format!("{}/{}", self.tenant, self.graph))
    }

    /// The record's value.
    pub fn encode(&self) -> Bytes {
        Bytes::from(serde_json::to_vec(self).expect("strings and numbers are always JSON"))
    }

    pub fn decode(value: &[u8]) -> Result<Self, ActivationError> {
        Ok(serde_json::from_slice(value)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that were once written are read for ever.
    #[test]
    fn golden() {
        let activation = Activation {
            tenant: "default".into(),
            graph: "orders".into(),
            version: "ab12".into(),
            epoch: 7,
            kind: ActivationKind::Applied,
        };
        let bytes =
            br#"{"tenant":"default","graph":"orders","version":"ab12","epoch":7,"kind":"applied"}"#;
        assert_eq!(&activation.encode()[..], bytes);
        assert_eq!(Activation::decode(bytes).ok(), Some(activation.clone()));
        assert_eq!(&activation.key()[..], b"default/orders");
        let newer = br#"{"tenant":"default","graph":"orders","version":"ab12","epoch":7,"kind":"applied","since":1}"#;
        assert_eq!(Activation::decode(newer).ok(), Some(activation));
        assert!(Activation::decode(b"{}").is_err());
    }
}
