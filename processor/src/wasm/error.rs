//! What can go wrong before a step runs. What goes wrong in a step is an [`Outcome`](super::Outcome), not an error.

use std::time::Duration;

/// Why an engine could not be built or a module not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The machine refuses what the configuration asks for.
    #[error("the wasm engine cannot start: {0} (lower `instances_max` or `memory_max_bytes`)")]
    Start(String),
    /// A setting makes no sense.
    #[error("wasm engine: \"{setting}\" {problem}")]
    Config {
        /// The setting's name.
        setting: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The file is too large to compile.
    #[error("the module is {bytes} bytes, more than the {max} allowed")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The bound.
        max: usize,
    },
    /// The bytes are not those that the graph names.
    #[error("the module's sha256 is {actual}, not {expected} as asked for")]
    Digest {
        /// What was asked for.
        expected: String,
        /// What the bytes are.
        actual: String,
    },
    /// No component, or one that uses what Weir does not allow.
    #[error("the module does not compile: {0}")]
    Compile(String),
    /// A component of another world.
    #[error("the module is no step: {0}")]
    World(String),
}

/// What a caller does about an [`EngineError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// Refuse the module or the configuration: it cannot work.
    Invalid,
    /// Try again after a while: this machine lacks something at the moment.
    Retry(Duration),
}

impl EngineError {
    /// What to do about it.
    pub fn disposition(&self) -> Disposition {
        match self {
            Self::Start(_) => Disposition::Retry(Duration::from_secs(1)),
            Self::Config { .. }
            | Self::TooLarge { .. }
            | Self::Digest { .. }
            | Self::Compile(_)
            | Self::World(_) => Disposition::Invalid,
        }
    }
}
