//! Bounds and places of the engine.

use std::path::PathBuf;
use std::time::Duration;

/// How an [`Engine`](super::Engine) is built. Everything is a ceiling; a step's own limits stand in its graph.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Folder for compiled modules; made if it is missing. `None`: compile again in each process. It holds machine code that is
    /// run as it is, so it must be writable by nobody but Weir.
    pub cache_dir: Option<PathBuf>,
    /// Instances alive at once in the whole process, those kept for `batch` included. Each reserves addresses, not memory.
    pub instances_max: u32,
    /// Linear memory of one instance, whatever the graph says.
    pub memory_max_bytes: u64,
    /// Memory of a free slot that stays resident for the next instance, which spares page faults.
    pub resident_bytes: usize,
    /// Stack of the guest, taken from the calling thread's.
    pub stack_bytes: usize,
    /// The time limit's resolution: how often running calls are looked at.
    pub tick: Duration,
    /// A larger module is refused by `load`.
    pub module_bytes_max: usize,
    /// Outputs of one call.
    pub outputs_max: usize,
    /// Headers of one output.
    pub headers_max: usize,
    /// Of calls on reused instances one of so many is run again on a fresh one and compared; 0: none.
    pub audit_one_in: u32,
    /// A kept instance is replaced after so many calls, which bounds what a leaking guest can gather.
    pub reuse_calls_max: u32,
    /// A kept instance is replaced when its memory has grown beyond this.
    pub reuse_memory_bytes: u64,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            cache_dir: None,
            instances_max: 2_048,
            memory_max_bytes: 256 << 20,
            resident_bytes: 2 << 20,
            stack_bytes: 512 << 10,
            tick: Duration::from_millis(5),
            module_bytes_max: 64 << 20,
            outputs_max: 10_000,
            headers_max: 1_000,
            audit_one_in: 1_000,
            reuse_calls_max: 100_000,
            reuse_memory_bytes: 64 << 20,
        }
    }
}
