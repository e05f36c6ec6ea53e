//! Orphans go. The criterion is age alone: how long ago an object was last put.

use std::path::Path;
use std::time::{Duration, SystemTime};

use futures_util::stream::TryStreamExt as _;
use object_store::ObjectStoreExt as _;

use super::{PayloadError, Payloads, Result, now_ms};

/// What a writer that was killed leaves behind in a folder is removed after so long.
const UNFINISHED: Duration = Duration::from_secs(24 * 3_600);

/// Whether orphans are removed, or only looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sweep {
    Look,
    Remove,
}

/// What a sweep found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Payloads that stay.
    pub kept: u64,
    pub kept_bytes: u64,
    /// Those that are removed, or would be.
    pub orphans: u64,
    pub orphan_bytes: u64,
}

/// How long ago; 0 for what another clock says lies ahead.
pub(super) fn age(put_ms: i64, now_ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(now_ms.saturating_sub(put_ms)).unwrap_or(0))
}

/// Whether nothing refers to it any more.
fn is_orphan(put_ms: i64, now_ms: i64, retention: Duration) -> bool {
    age(put_ms, now_ms) > retention
}

impl Payloads {
    /// Goes through all payloads. Any number of processes may do so at the same time.
    pub async fn sweep(&self, how: Sweep) -> Result<Swept> {
        self.sweep_at(how, now_ms()).await
    }

    /// As `sweep`, at this time.
    pub async fn sweep_at(&self, how: Sweep, now_ms: i64) -> Result<Swept> {
        let mut swept = Swept::default();
        let orphan = |put_ms| is_orphan(put_ms, now_ms, self.0.retention);
        let mut listed = self.0.objects.list(Some(&self.root()));
        while let Some(found) = listed.try_next().await.map_err(|e| self.failed(&e))? {
            let mut is_orphan = orphan(found.last_modified.timestamp_millis());
            if is_orphan && how == Sweep::Remove {
                // it may have been put again since it was listed
                is_orphan = match self.0.objects.head(&found.location).await {
                    Ok(now) => orphan(now.last_modified.timestamp_millis()),
                    Err(object_store::Error::NotFound { .. }) => continue,
                    Err(e) => return Err(self.failed(&e)),
                };
                if is_orphan {
                    match self.0.objects.delete(&found.location).await {
                        Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                        Err(e) => return Err(self.failed(&e)),
                    }
                }
            }
            if is_orphan {
                swept.orphans += 1;
                swept.orphan_bytes += found.size;
            } else {
                swept.kept += 1;
                swept.kept_bytes += found.size;
            }
        }
        if let (Some(folder), Sweep::Remove) = (&self.0.folder, how) {
            let folder = folder.join("sha256");
            let cleared = tokio::task::spawn_blocking(move || clear(&folder)).await;
            let reason = match cleared {
                Ok(Ok(())) => return Ok(swept),
                Ok(Err(e)) => e.to_string(),
                Err(e) => e.to_string(),
            };
            let place = self.0.place.clone();
            return Err(PayloadError::Unavailable { place, reason });
        }
        Ok(swept)
    }
}

/// Removes files that were never given their names: they have a `#` in them, and are no objects.
fn clear(folder: &Path) -> std::io::Result<()> {
    if !folder.is_dir() {
        return Ok(());
    }
    let before = SystemTime::now() - UNFINISHED;
    for part in std::fs::read_dir(folder)? {
        let part = part?.path();
        if !part.is_dir() {
            continue;
        }
        for file in std::fs::read_dir(part)? {
            let file = file?;
            let unfinished = file.file_name().to_string_lossy().contains('#');
            if unfinished && file.metadata()?.modified()? < before {
                std::fs::remove_file(file.path())?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn age_alone_decides() {
        let (day, retention) = (86_400_000, Duration::from_secs(30 * 86_400));
        for (put_ms, now_ms, orphan) in [
            (0, 0, false),
            (0, 30 * day, false),
            (0, 30 * day + 1, true),
            (31 * day, 30 * day, false),
            (i64::MIN, i64::MAX, true),
        ] {
            assert_eq!(
                is_orphan(put_ms, now_ms, retention),
                orphan,
                "{put_ms} {now_ms}"
            );
        }
    }
}
