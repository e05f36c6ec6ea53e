//! Steps whose reused instances answered otherwise than a fresh one: they are run on fresh instances from then on. Kept for each module and
//! graph version, so that a new build or a new version starts with a clean sheet.

use crate::database::sql;
use crate::{Result, Store};

/// A step that is not trusted with reused instances any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demotion {
    pub tenant: String,
    pub graph: String,
    /// The graph's version, in hex.
    pub version: String,
    pub step: String,
    /// The module, `sha256:…`.
    pub digest: String,
    /// The execution at which it showed.
    pub execution: String,
    /// What differed.
    pub difference: String,
    /// When, milliseconds since 1970.
    pub at_ms: i64,
}

impl Store {
    /// Keeps it; `false`: it was known.
    pub async fn demote(&self, demotion: &Demotion) -> Result<bool> {
        let insert = sql(
            "insert into demotions (version, step, digest, tenant, graph, execution, difference, at_ms)
             values ($1, $2, $3, $4, $5, $6, $7, $8) on conflict (version, step) do nothing",
        );
        let insert = insert
            .bind(&demotion.version)
            .bind(&demotion.step)
            .bind(&demotion.digest)
            .bind(&demotion.tenant)
            .bind(&demotion.graph)
            .bind(&demotion.execution)
            .bind(&demotion.difference)
            .bind(demotion.at_ms);
        let mut transaction = self.database.begin().await?;
        let new = transaction.execute(insert).await?;
        transaction.commit().await?;
        Ok(new > 0)
    }

    /// Those of a version. Tenants that have the same version share them: the module is the same.
    pub async fn demotions(&self, version: &str) -> Result<Vec<Demotion>> {
        let select = sql(
            "select tenant, graph, version, step, digest, execution, difference, at_ms from demotions
             where version = $1 order by step",
        );
        type Row = (String, String, String, String, String, String, String, i64);
        let found: Vec<Row> = self.database.all(select.bind(version)).await?;
        let demotion =
            |(tenant, graph, version, step, digest, execution, difference, at_ms)| Demotion {
                tenant,
                graph,
                version,
                step,
                digest,
                execution,
                difference,
                at_ms,
            };
        Ok(found.into_iter().map(demotion).collect())
    }
}
