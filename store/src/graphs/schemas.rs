//! The Avro schemas that a version's topic sinks write. They are taken when the version becomes active for the first time and
//! never change after that: a version writes the same bytes for ever, and lanes write without asking a registry.

use crate::database::{Transaction, sql};
use crate::{Result, Store, StoreError};

/// A topic sink's schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkSchema {
    pub sink: String,
    /// The registry's.
    pub id: u32,
    /// An Avro schema's text.
    pub schema: String,
}

impl Store {
    /// The schemas of a version's topic sinks, in the order of the sinks' names.
    pub async fn sink_schemas(&self, version: &str) -> Result<Vec<SinkSchema>> {
        let select = sql(
            "select sink, schema_id, schema from sink_schemas where version = $1 order by sink",
        );
        let rows: Vec<(String, i64, String)> = self.database.all(select.bind(version)).await?;
        let schema = |(sink, id, schema)| {
            let id = u32::try_from(id).map_err(|_| {
                self.database
                    .corrupt(&format!("schema id {id} of sink \"{sink}\""))
            })?;
            Ok(SinkSchema { sink, id, schema })
        };
        rows.into_iter()
            .map(schema)
            .collect::<Result<_, StoreError>>()
    }
}

/// What was noted first stays.
pub(super) async fn note(
    transaction: &mut Transaction<'_>,
    version: &str,
    schemas: &[SinkSchema],
) -> Result<()> {
    for SinkSchema { sink, id, schema } in schemas {
        let insert = sql(
            "insert into sink_schemas (version, sink, schema_id, schema) values ($1, $2, $3, $4)
             on conflict (version, sink) do nothing",
        );
        let insert = insert
            .bind(version)
            .bind(sink)
            .bind(i64::from(*id))
            .bind(schema);
        transaction.execute(insert).await?;
    }
    Ok(())
}
