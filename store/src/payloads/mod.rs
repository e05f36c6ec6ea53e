//! Payloads that are too large for a record, each under its sha256: a folder, or a bucket of an S3-compatible service.
//!
//! Invariants: an object is put before the record that refers to it is committed, so a reference that can be read has its
//! object; what is read is what was put, or an error; the same payload is one object, however often it is put.
//!
//! Nothing counts references: they lie in topics and rows. An object whose last put is older than all that may refer to it
//! is an orphan (`sweep`), and so is what was put for a record that was never committed. Putting a payload that is there
//! makes it young again.

mod error;
mod s3;
mod settings;
mod sweep;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, Stream, StreamExt as _, TryStreamExt as _};
use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use object_store::{GetResult, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions};
use sha2::{Digest as _, Sha256};

pub use error::PayloadError;
pub use settings::{PAYLOAD_RETENTION, PayloadSettings};
use settings::{Place, place};
pub use sweep::{Sweep, Swept};

type Result<T, E = PayloadError> = std::result::Result<T, E>;

/// A payload that is there is put again only when it is older than this: that is how it stays young.
const REFRESH: Duration = Duration::from_secs(24 * 3_600);
/// Between a sweep's last look at an object and its end there is less than this.
const SWEEPING: Duration = Duration::from_secs(1);
/// Puts of one object that a sweep may undo, one after the other.
const PUTS_MAX: usize = 3;

/// What a record says instead of the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reference {
    pub sha256: [u8; 32],
    pub bytes: u64,
}

impl Reference {
    /// The payload's.
    pub fn of(data: &[u8]) -> Self {
        Self {
            sha256: Sha256::digest(data).into(),
            bytes: data.len() as u64,
        }
    }
}

/// Where payloads are kept. Cheap to clone.
#[derive(Clone)]
pub struct Payloads(Arc<Inner>);

struct Inner {
    objects: Arc<dyn ObjectStore>,
    /// In front of every key; may be empty.
    prefix: Key,
    /// For messages; it holds no secret.
    place: String,
    /// Where it is a folder.
    folder: Option<PathBuf>,
    retention: Duration,
}

impl Payloads {
    /// What the settings name. A folder is made if it is missing; a bucket is not asked for anything (see `check`).
    pub fn open(settings: &PayloadSettings) -> Result<Self> {
        let (name, prefix) = match place(&settings.url)? {
            Place::Folder(path) => return Self::folder(&path, settings.retention),
            Place::Bucket { name, prefix } => (name, prefix),
        };
        let at = settings.endpoint.as_deref().unwrap_or("amazon");
        Ok(Self(Arc::new(Inner {
            objects: s3::open(&name, settings)?,
            place: format!("s3://{name}/{prefix} ({at})"),
            prefix: Key::from(prefix),
            folder: None,
            retention: settings.retention,
        })))
    }

    fn folder(path: &Path, retention: Duration) -> Result<Self> {
        let place = path.display().to_string();
        let made = std::fs::create_dir_all(path).map_err(|e| e.to_string());
        let opened = made
            .and_then(|()| LocalFileSystem::new_with_prefix(path).map_err(|e| e.to_string()))
            .map_err(|reason| {
                PayloadError::invalid(format!(
                    "the folder \"{place}\" for payloads cannot be used: {reason}"
                ))
            })?;
        Ok(Self(Arc::new(Inner {
            objects: Arc::new(opened.with_fsync(true)),
            prefix: Key::default(),
            place,
            folder: Some(path.to_owned()),
            retention,
        })))
    }

    /// Where it is, for messages.
    pub fn place(&self) -> &str {
        &self.0.place
    }

    /// Whether it can be read at all.
    pub async fn check(&self) -> Result<()> {
        let mut listed = self.0.objects.list(Some(&self.root()));
        match listed.next().await {
            None | Some(Ok(_)) => Ok(()),
            Some(Err(e)) => Err(self.failed(&e)),
        }
    }

    /// Puts a payload under its reference; durable when it says so. One that is there already is left, or made young again.
    pub async fn put(&self, reference: &Reference, data: Bytes) -> Result<()> {
        debug_assert_eq!(*reference, Reference::of(&data), "a payload's own");
        if self.write(reference, &data, PutMode::Create).await? {
            return Ok(());
        }
        let Some(age) = self.age(reference).await? else {
            // swept this very moment
            return self
                .write(reference, &data, PutMode::Overwrite)
                .await
                .map(drop);
        };
        if age < REFRESH {
            return Ok(());
        }
        for _ in 0..PUTS_MAX {
            self.write(reference, &data, PutMode::Overwrite).await?;
            if age + REFRESH < self.0.retention {
                break;
            }
            // A sweep may have seen it as it was, and remove what has just been put.
            tokio::time::sleep(SWEEPING).await;
            if self.age(reference).await?.is_some() {
                break;
            }
        }
        Ok(())
    }

    /// Whether it was written; `false`: it was there.
    async fn write(&self, reference: &Reference, data: &Bytes, mode: PutMode) -> Result<bool> {
        // it would be made, where a mount is missing
        if let Some(folder) = self.0.folder.as_ref().filter(|folder| !folder.is_dir()) {
            return Err(PayloadError::Unavailable {
                place: self.0.place.clone(),
                reason: format!("there is no folder {}", folder.display()),
            });
        }
        let options = PutOptions {
            mode,
            ..PutOptions::default()
        };
        let key = self.key(reference);
        let put = self.0.objects.put_opts(&key, data.clone().into(), options);
        match put.await {
            Ok(_) => Ok(true),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(false),
            Err(e) => Err(self.failed(&e)),
        }
    }

    /// How long ago it was last put; `None`: it is not there.
    async fn age(&self, reference: &Reference) -> Result<Option<Duration>> {
        match self.0.objects.head(&self.key(reference)).await {
            Ok(found) => Ok(Some(sweep::age(
                found.last_modified.timestamp_millis(),
                now_ms(),
            ))),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(self.failed(&e)),
        }
    }

    /// The payload, whole.
    pub async fn get(&self, reference: &Reference) -> Result<Bytes> {
        let found = self.find(reference).await?;
        let data = found.bytes().await.map_err(|e| self.failed(&e))?;
        if Reference::of(&data) == *reference {
            return Ok(data);
        }
        Err(self.damaged(reference, "its bytes have another sha256"))
    }

    /// The payload, piece by piece. Of a damaged one the last piece is missing, and an error comes instead.
    pub async fn stream(
        &self,
        reference: &Reference,
    ) -> Result<impl Stream<Item = Result<Bytes>> + Send + use<>> {
        let pieces = self.find(reference).await?.into_stream();
        let reading = Reading {
            payloads: self.clone(),
            reference: *reference,
            pieces: Some(pieces),
            hash: Sha256::new(),
            held: None,
        };
        Ok(stream::try_unfold(reading, Reading::next))
    }

    async fn find(&self, reference: &Reference) -> Result<GetResult> {
        let found = match self.0.objects.get(&self.key(reference)).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { source, .. }) if self.is_there(&*source) => {
                return Err(PayloadError::Lost {
                    sha256: hex::encode(reference.sha256),
                    place: self.0.place.clone(),
                });
            }
            Err(e) => return Err(self.failed(&e)),
        };
        if found.meta.size == reference.bytes {
            return Ok(found);
        }
        let reason = format!(
            "it has {} bytes instead of {}",
            found.meta.size, reference.bytes
        );
        Err(self.damaged(reference, &reason))
    }

    /// Whether it is the object that was not found, not all of them: a folder that is not mounted, a bucket that is not
    /// there, is no loss.
    fn is_there(&self, not_found: &(dyn std::error::Error + 'static)) -> bool {
        match &self.0.folder {
            Some(folder) => folder.is_dir(),
            None => {
                let mut cause = Some(not_found);
                while let Some(error) = cause {
                    if error.to_string().contains("NoSuchBucket") {
                        return false;
                    }
                    cause = error.source();
                }
                true
            }
        }
    }

    /// Below it lie all payloads.
    fn root(&self) -> Key {
        self.0.prefix.clone().join("sha256")
    }

    /// `sha256/ab/cdef…`: a folder of one file system is not to hold them all.
    fn key(&self, reference: &Reference) -> Key {
        let sha256 = hex::encode(reference.sha256);
        let (first, rest) = sha256.split_at(2);
        self.root().join(first).join(rest)
    }

    fn failed(&self, error: &object_store::Error) -> PayloadError {
        PayloadError::of(&self.0.place, error)
    }

    fn damaged(&self, reference: &Reference, reason: &str) -> PayloadError {
        PayloadError::Damaged {
            sha256: hex::encode(reference.sha256),
            place: self.0.place.clone(),
            reason: reason.to_owned(),
        }
    }
}

/// A payload that is being read.
struct Reading {
    payloads: Payloads,
    reference: Reference,
    /// `None`: all have come.
    pieces: Option<BoxStream<'static, object_store::Result<Bytes>>>,
    hash: Sha256,
    held: Option<Bytes>,
}

impl Reading {
    /// Each piece is given out when the next has come, and the last one when all of it is known to be right: whoever
    /// counts the bytes sees that a damaged one is cut.
    async fn next(mut self) -> Result<Option<(Bytes, Self)>> {
        while let Some(pieces) = &mut self.pieces {
            let piece = pieces.try_next().await;
            match piece.map_err(|e| self.payloads.failed(&e))? {
                Some(piece) => {
                    self.hash.update(&piece);
                    if let Some(before) = self.held.replace(piece) {
                        return Ok(Some((before, self)));
                    }
                }
                None => {
                    self.pieces = None;
                    let sha256: [u8; 32] = self.hash.clone().finalize().into();
                    if sha256 != self.reference.sha256 {
                        let reason = "its bytes have another sha256";
                        return Err(self.payloads.damaged(&self.reference, reason));
                    }
                    return Ok(self.held.take().map(|last| (last, self)));
                }
            }
        }
        Ok(None)
    }
}

/// Milliseconds since 1970 UTC.
fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as i64)
}
