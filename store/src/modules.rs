//! Modules: WASM components under the sha256 of their bytes.

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::database::{Query, sql};
use crate::{Result, Store};

/// A module as a list shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModuleSummary {
    /// `sha256:<64 hex>`
    pub digest: String,
    /// Its size.
    pub bytes: u64,
}

/// A name that a module was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModuleName {
    pub name: String,
    /// Such as `1.2.0`.
    pub version: String,
    /// `sha256:<64 hex>`
    pub digest: String,
    /// When it was given, milliseconds since 1970.
    pub at_ms: i64,
}

impl Store {
    /// Gives a module a name; a name and version never change their module: gives the one that has it.
    pub async fn name_module(&self, tenant: &str, named: &ModuleName) -> Result<ModuleName> {
        let insert = sql(
            "insert into module_names (tenant, name, version, digest, at_ms) values ($1, $2, $3, $4, $5)
             on conflict (tenant, name, version) do nothing",
        );
        let insert = insert
            .bind(tenant)
            .bind(&named.name)
            .bind(&named.version)
            .bind(&named.digest)
            .bind(named.at_ms);
        let mut transaction = self.database.begin().await?;
        transaction.execute(insert).await?;
        transaction.commit().await?;
        let all = self.module_versions(tenant, &named.name).await?;
        let has = all.into_iter().find(|one| one.version == named.version);
        has.ok_or_else(|| self.database.corrupt("a module's name is gone at once"))
    }

    /// All versions of a name.
    pub async fn module_versions(&self, tenant: &str, name: &str) -> Result<Vec<ModuleName>> {
        let select = sql(
            "select name, version, digest, at_ms from module_names where tenant = $1 and name = $2 order by version",
        );
        let found: Vec<(String, String, String, i64)> =
            self.database.all(select.bind(tenant).bind(name)).await?;
        Ok(found.into_iter().map(named).collect())
    }

    /// The names that these modules have.
    pub async fn module_names(&self, tenant: &str, digests: &[String]) -> Result<Vec<ModuleName>> {
        let select = Query::each(
            "select name, version, digest, at_ms from module_names
             where tenant = $1 and digest in (select value from json_each($2)) order by name, version",
            "select name, version, digest, at_ms from module_names
             where tenant = $1 and digest = any($2) order by name, version",
        );
        let select = select.bind(tenant).bind(digests.to_vec());
        let found: Vec<(String, String, String, i64)> = self.database.all(select).await?;
        Ok(found.into_iter().map(named).collect())
    }

    /// Keeps the module and gives its digest, `sha256:<64 hex>`. The same bytes again are the same module.
    pub async fn put_module(&self, module: &[u8]) -> Result<String> {
        let digest = format!("sha256:{}", hex::encode(Sha256::digest(module)));
        if self
            .has_modules(std::slice::from_ref(&digest))
            .await?
            .is_empty()
        {
            let mut transaction = self.database.begin().await?;
            let insert = sql(
                "insert into modules (digest, bytes) values ($1, $2) on conflict (digest) do nothing",
            );
            transaction
                .execute(insert.bind(&digest).bind(module))
                .await?;
            transaction.commit().await?;
        }
        Ok(digest)
    }

    /// The module's bytes.
    pub async fn module(&self, digest: &str) -> Result<Option<Bytes>> {
        let select = sql("select bytes from modules where digest = $1").bind(digest);
        let found: Option<(Vec<u8>,)> = self.database.optional(select).await?;
        Ok(found.map(|(bytes,)| Bytes::from(bytes)))
    }

    /// Those of the digests whose modules are here, in any order.
    pub async fn has_modules(&self, digests: &[String]) -> Result<Vec<String>> {
        let select = Query::each(
            "select digest from modules where digest in (select value from json_each($1))",
            "select digest from modules where digest = any($1)",
        );
        let found: Vec<(String,)> = self.database.all(select.bind(digests.to_vec())).await?;
        Ok(found.into_iter().map(|(digest,)| digest).collect())
    }

    /// Modules in the order of their digests, those after `after`.
    pub async fn modules(&self, after: Option<&str>, limit: u32) -> Result<Vec<ModuleSummary>> {
        let select = sql(
            "select digest, cast(length(bytes) as bigint) from modules where digest > $1 order by digest limit $2",
        );
        let found: Vec<(String, i64)> = self
            .database
            .all(select.bind(after.unwrap_or("")).bind(limit))
            .await?;
        Ok(found
            .into_iter()
            .map(|(digest, bytes)| ModuleSummary {
                digest,
                bytes: bytes as u64,
            })
            .collect())
    }
}

fn named((name, version, digest, at_ms): (String, String, String, i64)) -> ModuleName {
    ModuleName {
        name,
        version,
        digest,
        at_ms,
    }
}
