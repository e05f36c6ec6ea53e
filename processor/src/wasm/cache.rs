//! Compiled modules on disk, one file each: `{module's sha256}.{engine key}.{file's length and crc32}.cwasm`.
//!
//! The engine key covers wasmtime's version, every setting that shapes machine code and what `copies` does, so a file of another Weir is never looked at. The
//! file's length and checksum stand in its name: written beside and renamed, it is whole or it is refused and compiled again. That guards against torn
//! and damaged files, not against someone who may write to the folder: the folder is as trusted as the binary. Trouble with the cache
//! is logged and never fails a load.

use std::fs::{self, File};
use std::hash::{BuildHasher as _, Hash, Hasher, RandomState};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

pub(super) struct Cache {
    dir: PathBuf,
    engine_key: String,
}

impl Cache {
    pub(super) fn new(dir: &Path, engine: &Engine) -> Self {
        let mut key = KeyHasher(Sha256::new_with_prefix(b"weir cwasm 3\n"));
        engine.precompile_compatibility_hash().hash(&mut key);
        let mut engine_key = hex::encode(key.0.finalize());
        engine_key.truncate(16);
        Self {
            dir: dir.to_owned(),
            engine_key,
        }
    }

    /// The compiled module, and how many files were refused on the way.
    pub(super) fn get(&self, engine: &Engine, digest: &str) -> (Option<Component>, u64) {
        let prefix = self.prefix(digest);
        let mut rejected = 0;
        let Ok(entries) = fs::read_dir(&self.dir) else {
            return (None, 0);
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(sum) = name
                .to_str()
                .and_then(|name| name.strip_prefix(&prefix)?.strip_suffix(".cwasm"))
            else {
                continue;
            };
            match open(engine, &entry.path(), sum) {
                Ok(component) => return (Some(component), rejected),
                Err(problem) => {
                    rejected += 1;
                    tracing::warn!(path = %entry.path().display(), problem, "a compiled module in the cache is refused and compiled again");
                    drop(fs::remove_file(entry.path()));
                }
            }
        }
        (None, rejected)
    }

    pub(super) fn put(&self, digest: &str, component: &Component) {
        let written = component
            .serialize()
            .map_err(|error| io::Error::other(format!("{error:#}")))
            .and_then(|code| {
                fs::create_dir_all(&self.dir)?;
                let sum = sum(code.len() as u64, crc32fast::hash(&code));
                let path = self.dir.join(format!("{}{sum}.cwasm", self.prefix(digest)));
                // Two processes may write the same file: each has its own beside it. In containers all are process 1.
                let own = RandomState::new().hash_one(std::process::id());
                let beside = path.with_extension(format!("{own:016x}.tmp"));
                fs::write(&beside, &code)?;
                fs::rename(&beside, &path)
            });
        if let Err(error) = written {
            tracing::warn!(dir = %self.dir.display(), %error, "a compiled module could not be kept; it will be compiled again");
        }
    }

    fn prefix(&self, digest: &str) -> String {
        format!("{digest}.{}.", self.engine_key)
    }
}

fn open(engine: &Engine, path: &Path, sum: &str) -> Result<Component, String> {
    if file_sum(path).map_err(|error| error.to_string())? != sum {
        return Err("its content is not what its name says".into());
    }
    // Mapped, not read: pages that no call touches cost no memory.
    #[expect(
        unsafe_code,
        reason = "loading machine code compiled earlier; see the comment"
    )]
    // SAFETY: the file holds, byte for byte, what `put` of an engine with this version and these settings wrote: its name carries the
    // engine's key and its content's checksum, just looked at, and files are only ever renamed into place, never written to.
    let component = unsafe { Component::deserialize_file(engine, path) };
    component.map_err(|error| format!("{error:#}"))
}

/// Not sha256, which takes some tens of milliseconds for what an engine of JavaScript compiles to.
fn file_sum(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let (mut crc, mut length, mut buffer) = (crc32fast::Hasher::new(), 0, vec![0; 256 << 10]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(sum(length, crc.finalize())),
            n => {
                crc.update(&buffer[..n]);
                length += n as u64;
            }
        }
    }
}

fn sum(length: u64, crc: u32) -> String {
    format!("{length:x}-{crc:08x}")
}

/// Feeds `Hash` into SHA-256: the key must be the same in every process.
struct KeyHasher(Sha256);

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let digest = self.0.clone().finalize();
        digest
            .iter()
            .take(8)
            .fold(0, |n, byte| n << 8 | u64::from(*byte))
    }
}
