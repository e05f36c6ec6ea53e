//! Randomness from the record: SHA-256 in counter mode over (execution id, step, attempt). The same call gets the same bytes, another
//! attempt others. Anyone who knows the ids can compute them: fit for ids, samples and hash seeds, never for keys.

use sha2::{Digest, Sha256};
use wasmtime_wasi::p2::bindings::random::{insecure, insecure_seed, random};

use super::Wasi;
use crate::wasm::call::Call;
use crate::wasm::trap::Refusal;

/// Bytes of one request.
const REQUEST_MAX: u64 = 1 << 20;

#[derive(Default)]
pub(super) struct Random {
    seed: [u8; 32],
    secure: Source,
    insecure: Source,
}

/// A place in one of the two streams.
#[derive(Default)]
struct Source {
    blocks: u64,
    block: [u8; 32],
    left: usize,
}

#[derive(Clone, Copy)]
enum Domain {
    Secure = 1,
    Insecure = 2,
    Seed = 3,
}

impl Random {
    pub(super) fn reset(&mut self, call: &Call<'_>) {
        let mut hash = Sha256::new_with_prefix(b"weir step randomness 1\n");
        hash.update(call.execution.0);
        hash.update(call.attempt.to_be_bytes());
        hash.update(call.step.as_bytes());
        *self = Self {
            seed: hash.finalize().into(),
            ..Self::default()
        };
    }

    fn bytes(&mut self, domain: Domain, len: u64) -> wasmtime::Result<Vec<u8>> {
        if len > REQUEST_MAX {
            return Err(wasmtime::Error::new(Refusal::from(
                "it asks for more than 1 MiB of randomness at once",
            )));
        }
        let mut bytes = vec![0; usize::try_from(len)?];
        self.fill(domain, &mut bytes);
        Ok(bytes)
    }

    fn number(&mut self, domain: Domain) -> u64 {
        let mut bytes = [0; 8];
        self.fill(domain, &mut bytes);
        u64::from_le_bytes(bytes)
    }

    fn fill(&mut self, domain: Domain, mut bytes: &mut [u8]) {
        let source = match domain {
            Domain::Secure => &mut self.secure,
            Domain::Insecure | Domain::Seed => &mut self.insecure,
        };
        while !bytes.is_empty() {
            if source.left == 0 {
                source.block = block(&self.seed, domain, source.blocks);
                source.blocks += 1;
                source.left = source.block.len();
            }
            let n = bytes.len().min(source.left);
            let from = source.block.len() - source.left;
            bytes[..n].copy_from_slice(&source.block[from..from + n]);
            source.left -= n;
            bytes = &mut bytes[n..];
        }
    }
}

fn block(seed: &[u8; 32], domain: Domain, n: u64) -> [u8; 32] {
    let mut hash = Sha256::new_with_prefix(seed);
    hash.update([domain as u8]);
    hash.update(n.to_be_bytes());
    hash.finalize().into()
}

impl random::Host for Wasi {
    fn get_random_bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        self.random.bytes(Domain::Secure, len)
    }

    fn get_random_u64(&mut self) -> wasmtime::Result<u64> {
        Ok(self.random.number(Domain::Secure))
    }
}

impl insecure::Host for Wasi {
    fn get_insecure_random_bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        self.random.bytes(Domain::Insecure, len)
    }

    fn get_insecure_random_u64(&mut self) -> wasmtime::Result<u64> {
        Ok(self.random.number(Domain::Insecure))
    }
}

impl insecure_seed::Host for Wasi {
    /// The same at every look: it is a seed, not a stream.
    fn insecure_seed(&mut self) -> wasmtime::Result<(u64, u64)> {
        let block = block(&self.random.seed, Domain::Seed, 0);
        let half = |from: usize| {
            block[from..from + 8]
                .iter()
                .fold(0, |n, byte| n << 8 | u64::from(*byte))
        };
        Ok((half(0), half(8)))
    }
}
