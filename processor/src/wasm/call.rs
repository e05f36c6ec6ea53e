//! One call of a step: what goes in and what comes out.

use bytes::Bytes;
use schemas::graph::{Isolation, Limits};
use schemas::{Event, ExecutionId};

/// Everything a step may know. The call is a pure function of this.
#[derive(Clone, Copy)]
pub struct Call<'a> {
    pub tenant: &'a str,
    pub graph: &'a str,
    /// sha256 of the canonical graph, in hex.
    pub version: &'a str,
    pub execution: ExecutionId,
    pub step: &'a str,
    /// 1 for the first try.
    pub attempt: u32,
    /// Which of the step's calls in this execution it is, for what must be told apart outside: `0`, or `SEGMENT-0`.
    pub number: CallNumber,
    /// The trigger's time, microseconds since 1970 UTC: all that the step's clocks show.
    pub time_us: u64,
    pub input: &'a [StepEvent<'a>],
    pub limits: Limits,
    pub isolation: Isolation,
    /// `weir:step/log` is granted.
    pub log: bool,
    /// The step's settings as JSON.
    pub settings: &'a str,
    /// Names of secrets that are granted.
    pub secrets: &'a [String],
    /// Hosts that are granted: `host` or `host:port`.
    pub http_allow: &'a [String],
}

/// Which of a step's calls in its execution: that of its segment, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallNumber {
    /// `None`: the execution's first segment.
    pub segment: Option<[u8; 16]>,
    pub number: u32,
}

impl std::fmt::Display for CallNumber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.segment {
            None => write!(f, "{}", self.number),
            Some(segment) => write!(f, "{}-{}", hex::encode(&segment[..8]), self.number),
        }
    }
}

/// An event and the edge it came over.
#[derive(Clone, Copy)]
pub struct StepEvent<'a> {
    /// `trigger` or `step.port`.
    pub edge: &'a str,
    pub event: &'a Event,
}

/// The end of a call.
#[derive(Debug)]
pub struct Called {
    pub outcome: Outcome,
    /// What the step logged and what it wrote to stdout (info) and stderr (warn), in order; escape sequences removed.
    pub logs: Vec<Log>,
    /// Lines beyond the call's budget of 1,000 lines and 64 KiB.
    pub logs_dropped: u32,
    /// The instance was made for this call.
    pub fresh: bool,
    /// A reused instance answered otherwise than the fresh one whose answer this is: the step is not to be reused. How they differ.
    pub demoted: Option<String>,
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// In the order the step gave them. The port need not exist: that is the kernel's to check.
    Outputs(Vec<StepOutput>),
    /// The step asks to be called again.
    Retry {
        delay_ms: Option<u64>,
        reason: String,
    },
    /// This input can never work.
    Reject(String),
    /// Nothing of this graph can work any more.
    Fatal(String),
    /// The step failed by accident, with a message for people: what happened, which limit, which setting raises it.
    Broken(Broken, String),
}

/// One event that the step emits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepOutput {
    pub port: String,
    /// `None`: the key of the input.
    pub key: Option<Bytes>,
    /// `None`: the content type of the input.
    pub content_type: Option<String>,
    pub headers: Vec<(String, Bytes)>,
    pub data: Bytes,
}

/// How a step can fail without meaning to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Broken {
    /// A panic, an abort, a division by zero …
    Trap,
    /// `limits.time`.
    Timeout,
    /// `limits.memory`.
    OutOfMemory,
    /// `limits.output`, or too many outputs or headers.
    OutputTooLarge,
    /// The step calls itself too deeply.
    StackOverflow,
    /// What the step gave back cannot be read: invalid UTF-8, a pointer outside its memory, a call that was not granted.
    Protocol,
    /// Not the step's fault: no instance is free. The call did not run; try it again.
    HostBusy,
}

impl Broken {
    /// A stable word for records and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Trap => "trap",
            Self::Timeout => "timeout",
            Self::OutOfMemory => "out-of-memory",
            Self::OutputTooLarge => "output-too-large",
            Self::StackOverflow => "stack-overflow",
            Self::Protocol => "protocol",
            Self::HostBusy => "host-busy",
        }
    }
}

/// One line of a step's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    pub level: Level,
    pub message: String,
}

/// As in `weir:step/log`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    Debug,
    Info,
    Warn,
    Error,
}
