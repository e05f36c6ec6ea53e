//! Secrets of tenants by name, sealed: the database holds AES-256-GCM ciphertexts (NIST SP 800-38D) whose key it never sees. The tenant
//! and the name are authenticated with each, so that a row that is moved to another name cannot be opened.

use std::fmt;
use std::sync::Arc;

use openssl::symm::{Cipher, decrypt_aead, encrypt_aead};
use sha2::{Digest, Sha256};

use crate::database::sql;
use crate::{Result, Store, StoreError};

const NONCE_BYTES: usize = 12;
const TAG_BYTES: usize = 16;
/// The largest value.
pub const SECRET_BYTES_MAX: usize = 64 << 10;

/// What secrets are sealed with: 32 bytes.
#[derive(Clone)]
pub struct SecretsKey {
    key: [u8; 32],
    /// Tells keys apart without telling them.
    id: String,
}

impl fmt::Debug for SecretsKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretsKey({})", self.id)
    }
}

impl SecretsKey {
    pub fn new(key: [u8; 32]) -> Self {
        let digest = Sha256::new_with_prefix(b"weir secrets key\n").chain_update(key);
        let mut id = hex::encode(digest.finalize());
        id.truncate(16);
        Self { key, id }
    }

    /// 64 hex digits, with white space around them.
    pub fn parse(text: &str) -> Result<Self> {
        let mut key = [0; 32];
        hex::decode_to_slice(text.trim(), &mut key).map_err(|_| {
            StoreError::invalid(
                "a key for secrets is 64 hex digits; `openssl rand -hex 32` makes one",
            )
        })?;
        Ok(Self::new(key))
    }

    /// A new one.
    pub fn random() -> Result<Self> {
        let mut key = [0; 32];
        openssl::rand::rand_bytes(&mut key).map_err(|e| crypto(&e))?;
        Ok(Self::new(key))
    }

    /// As `parse` reads it: for the file that keeps it, never for a message.
    pub fn expose(&self) -> String {
        hex::encode(self.key)
    }

    fn seal(&self, about: &str, value: &[u8]) -> Result<Vec<u8>> {
        let mut sealed = vec![0; NONCE_BYTES];
        openssl::rand::rand_bytes(&mut sealed).map_err(|e| crypto(&e))?;
        let mut tag = [0; TAG_BYTES];
        let (cipher, nonce) = (Cipher::aes_256_gcm(), sealed.clone());
        let text = encrypt_aead(
            cipher,
            &self.key,
            Some(&nonce),
            about.as_bytes(),
            value,
            &mut tag,
        );
        sealed.extend(text.map_err(|e| crypto(&e))?);
        sealed.extend(tag);
        Ok(sealed)
    }

    /// `None`: it was sealed with another key, for another name, or is damaged.
    fn open(&self, about: &str, sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, rest) = sealed.split_at_checked(NONCE_BYTES)?;
        let (text, tag) = rest.split_at_checked(rest.len().checked_sub(TAG_BYTES)?)?;
        let cipher = Cipher::aes_256_gcm();
        decrypt_aead(cipher, &self.key, Some(nonce), about.as_bytes(), text, tag).ok()
    }
}

fn crypto(error: &openssl::error::ErrorStack) -> StoreError {
    StoreError::invalid(format!("OpenSSL cannot seal secrets: {error}"))
}

/// A secret as a list shows it: never its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretSummary {
    pub name: String,
    /// When it was last set, milliseconds since 1970.
    pub at_ms: i64,
}

/// The sealed secrets of a store.
#[derive(Clone)]
pub struct Vault {
    store: Store,
    key: SecretsKey,
}

impl Vault {
    pub fn new(store: Store, key: SecretsKey) -> Self {
        Self { store, key }
    }

    /// Sets it, or sets it anew.
    pub async fn set(&self, tenant: &str, name: &str, value: &str, at_ms: i64) -> Result<()> {
        if value.is_empty() || value.len() > SECRET_BYTES_MAX {
            return Err(StoreError::invalid(format!(
                "a secret has 1 to {SECRET_BYTES_MAX} bytes"
            )));
        }
        let sealed = self.key.seal(&about(tenant, name), value.as_bytes())?;
        let upsert = sql(
            "insert into secrets (tenant, name, key_id, sealed, at_ms) values ($1, $2, $3, $4, $5)
             on conflict (tenant, name) do update set key_id = excluded.key_id, sealed = excluded.sealed, at_ms = excluded.at_ms",
        );
        let upsert = upsert.bind(tenant).bind(name).bind(&self.key.id);
        let mut transaction = self.store.database.begin().await?;
        transaction.execute(upsert.bind(sealed).bind(at_ms)).await?;
        transaction.commit().await
    }

    /// Its value; `None`: it is not set.
    pub async fn get(&self, tenant: &str, name: &str) -> Result<Option<Arc<str>>> {
        let select = sql("select key_id, sealed from secrets where tenant = $1 and name = $2");
        let found: Option<(String, Vec<u8>)> = self
            .store
            .database
            .optional(select.bind(tenant).bind(name))
            .await?;
        let Some((key_id, sealed)) = found else {
            return Ok(None);
        };
        if key_id != self.key.id {
            return Err(StoreError::invalid(format!(
                "the secret \"{name}\" was sealed with the key {key_id}, this process has {}; give all processes the same key, or set the secret anew",
                self.key.id
            )));
        }
        let opened = self.key.open(&about(tenant, name), &sealed);
        let value = opened.and_then(|value| String::from_utf8(value).ok());
        value.map(|value| Some(value.into())).ok_or_else(|| {
            StoreError::invalid(format!("the secret \"{name}\" is damaged; set it anew"))
        })
    }
}

impl Store {
    /// The names of a tenant's secrets, in their order, those after `after`.
    pub async fn secrets(
        &self,
        tenant: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<SecretSummary>> {
        let select = sql(
            "select name, at_ms from secrets where tenant = $1 and name > $2 order by name limit $3",
        );
        let select = select.bind(tenant).bind(after.unwrap_or("")).bind(limit);
        let found: Vec<(String, i64)> = self.database.all(select).await?;
        let summary = |(name, at_ms)| SecretSummary { name, at_ms };
        Ok(found.into_iter().map(summary).collect())
    }

    /// Removes a secret; `false`: there was none.
    pub async fn remove_secret(&self, tenant: &str, name: &str) -> Result<bool> {
        let delete = sql("delete from secrets where tenant = $1 and name = $2");
        let mut transaction = self.database.begin().await?;
        let gone = transaction.execute(delete.bind(tenant).bind(name)).await?;
        transaction.commit().await?;
        Ok(gone > 0)
    }
}

fn about(tenant: &str, name: &str) -> String {
    format!("{tenant}\0{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_with_its_key_and_name_only() {
        let key = SecretsKey::new([7; 32]);
        let sealed = key.seal("t\0a", b"hunter2").unwrap();
        assert!(!sealed.windows(7).any(|part| part == b"hunter2"));
        assert_eq!(key.open("t\0a", &sealed).as_deref(), Some(&b"hunter2"[..]));
        assert_eq!(key.open("t\0b", &sealed), None);
        assert_eq!(SecretsKey::new([8; 32]).open("t\0a", &sealed), None);
        let mut damaged = sealed.clone();
        damaged[14] ^= 1;
        assert_eq!(key.open("t\0a", &damaged), None);
        assert_eq!(key.open("t\0a", &sealed[..10]), None);
        assert_ne!(
            key.seal("t\0a", b"hunter2").unwrap(),
            sealed,
            "a nonce is used once"
        );
        assert!(!format!("{key:?}").contains("0707"));
        assert_eq!(SecretsKey::parse(&key.expose()).unwrap().id, key.id);
    }
}
