//! What travels on `weir.graphs`: that something happened to a graph, and what it is after that.
//!
//! The key is `tenant/graph` and the topic is compacted, so each graph's last change stays. Epochs grow along the
//! topic. The value is JSON; a reader passes over fields that it does not know, and takes kinds and states that it does
//! not know for `Unknown`: whatever happened, what it holds of the graph is out of date.

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
    /// After the change. Programs before 0.2 wrote none: then there was only the one.
    #[serde(default)]
    pub state: ActivationState,
}

/// What happened to the graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ActivationKind {
    /// A version became the active one.
    Applied,
    /// An earlier version became the active one again.
    RolledBack,
    /// Its records are parked from now on.
    Paused,
    /// Its parked records are released from now on.
    Resumed,
    /// It is gone; its parked records become dead letters.
    Deleted,
    /// Its parked records are all released, or all dead letters.
    Settled,
    /// What only a newer program knows.
    #[serde(other)]
    Unknown,
}

/// What the graph is after the change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ActivationState {
    #[default]
    Active,
    Paused,
    Resuming,
    Deleted,
    /// What only a newer program knows.
    #[serde(other)]
    Unknown,
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

    fn activation(kind: ActivationKind, state: ActivationState) -> Activation {
        Activation {
            tenant: "default".into(),
            graph: "orders".into(),
            version: "ab12".into(),
            epoch: 7,
            kind,
            state,
        }
    }

    /// Bytes that were once written are read for ever.
    #[test]
    fn golden() {
        use ActivationKind as Kind;
        use ActivationState as State;
        for (bytes, kind, state) in [
            // before there were states
            (r#""kind":"applied"}"#, Kind::Applied, State::Active),
            (
                r#""kind":"applied","state":"active"}"#,
                Kind::Applied,
                State::Active,
            ),
            (
                r#""kind":"rolled-back","state":"paused"}"#,
                Kind::RolledBack,
                State::Paused,
            ),
            (
                r#""kind":"paused","state":"paused"}"#,
                Kind::Paused,
                State::Paused,
            ),
            (
                r#""kind":"resumed","state":"resuming"}"#,
                Kind::Resumed,
                State::Resuming,
            ),
            (
                r#""kind":"deleted","state":"deleted"}"#,
                Kind::Deleted,
                State::Deleted,
            ),
            (
                r#""kind":"settled","state":"active"}"#,
                Kind::Settled,
                State::Active,
            ),
        ] {
            let bytes = format!(
                r#"{{"tenant":"default","graph":"orders","version":"ab12","epoch":7,{bytes}"#
            );
            let expected = activation(kind, state);
            assert_eq!(
                Activation::decode(bytes.as_bytes()).ok(),
                Some(expected.clone()),
                "{bytes}"
            );
            if bytes.contains("state") {
                assert_eq!(&expected.encode()[..], bytes.as_bytes());
            }
            assert_eq!(&expected.key()[..], b"default/orders");
        }
        assert!(Activation::decode(b"{}").is_err());
    }

    /// What a newer program writes is a change all the same.
    #[test]
    fn newer() {
        let bytes = br#"{"tenant":"default","graph":"orders","version":"ab12","epoch":7,"kind":"renamed","state":"moving","since":1}"#;
        assert_eq!(
            Activation::decode(bytes).ok(),
            Some(activation(
                ActivationKind::Unknown,
                ActivationState::Unknown
            ))
        );
    }
}
