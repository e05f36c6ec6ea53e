//! Weir's own schemas in the registry, so that everybody else can read Weir's topics.

use schemas::records::wire::{Kind, OwnIds, schemas};

use super::error::RegistryError;
use super::known::Registry;
use crate::catalog;

/// Registers what Weir writes under `TOPIC-value`; the ids are what `wire::use_ids` takes. Any number of processes may do
/// so at once: the same schema has the same id.
pub async fn register_own(registry: &Registry) -> Result<OwnIds, RegistryError> {
    let mut ids = OwnIds::default();
    for (kind, version, schema) in schemas() {
        let topic = match kind {
            Kind::Trigger => catalog::TRIGGERS,
            Kind::Hop => catalog::HOPS,
            Kind::Result => catalog::RESULTS,
        };
        let subject = format!("{topic}-value");
        let id = registry.register(&subject, schema).await?;
        ids.add(kind, version, id)
            .map_err(|error| RegistryError::Refused {
                at: registry.at().to_owned(),
                what: format!("an id for subject \"{subject}\""),
                reason: error.to_string(),
            })?;
    }
    Ok(ids)
}
