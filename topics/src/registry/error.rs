//! Why the registry did not do what it was asked to.

use crate::error::Disposition;

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// It cannot be reached, is overloaded, or does not know this user.
    #[error("the registry at {at} cannot be asked: {reason}; try again")]
    Unavailable { at: String, reason: String },
    /// What was written under the subject so far could not be read with the schema, or the other way around.
    #[error(
        "the schema is not compatible with those of subject \"{subject}\": {reason}; change the schema, or the subject's compatibility level in the registry"
    )]
    Incompatible { subject: String, reason: String },
    #[error("the registry at {at} refuses {what}: {reason}")]
    Refused {
        at: String,
        what: String,
        reason: String,
    },
    /// A wrong call or setting.
    #[error("{reason}")]
    Invalid { reason: String },
}

impl RegistryError {
    /// What the caller does about it.
    pub fn disposition(&self) -> Disposition {
        match self {
            Self::Unavailable { .. } => Disposition::Retry,
            Self::Incompatible { .. } | Self::Refused { .. } | Self::Invalid { .. } => {
                Disposition::Invalid
            }
        }
    }
}
