//! Which faults a seed has, and how often: every seed draws its own mixture, so that some run with one kind only.

use crate::broker::{MS, Micros, SECOND};
use crate::random::Random;

/// Chances per million calls; 0: never in this seed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults {
    /// A process dies at any call.
    pub(crate) crash: u64,
    /// A process is stopped for longer than its session, and goes on.
    pub(crate) freeze: u64,
    /// Its slots are given to a new process meanwhile.
    pub(crate) replace: u64,
    /// A lane's owner thread is held, past the transaction's or the poll's time-out.
    pub(crate) hold: u64,
    /// A process is told to stop.
    pub(crate) stop: u64,
    /// A call fails and may be made again.
    pub(crate) unavailable: u64,
    /// A record is not acknowledged.
    pub(crate) delivery: u64,
    /// An answer is lost, or a request.
    pub(crate) lost: u64,
    /// A request arrives later, and its sender sends it again meanwhile, or gives up.
    pub(crate) late: u64,
    /// A partition moves for no reason.
    pub(crate) stir: u64,
    /// Partitions were lost, and the client does not say so (librdkafka#5604).
    pub(crate) unsaid: u64,
    /// Our own trouble while a chunk runs.
    pub(crate) trouble: u64,
    /// A chunk takes long, past the transaction's time-out.
    pub(crate) slow: u64,
}

impl Faults {
    /// The mixture of a seed.
    pub(crate) fn draw(random: &mut Random) -> Self {
        let mut rate = |usual: u64| -> u64 {
            match random.below(4) {
                0 | 1 => 0,
                2 => usual,
                _ => usual * 3,
            }
        };
        Self {
            crash: rate(1_500),
            freeze: rate(1_000),
            replace: rate(300_000),
            hold: rate(800),
            stop: rate(500),
            unavailable: rate(15_000),
            delivery: rate(20_000),
            lost: rate(20_000),
            late: rate(20_000),
            stir: rate(1_500),
            unsaid: rate(300_000),
            trouble: rate(20_000),
            slow: rate(10_000),
        }
    }
}

/// The time-outs of the cluster and its clients, scaled as in the other proofs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timeouts {
    pub(crate) socket: Micros,
    pub(crate) transaction: Micros,
    pub(crate) session: Micros,
    pub(crate) max_poll: Micros,
}

pub(crate) const TIMEOUTS: Timeouts = Timeouts {
    socket: 2 * SECOND,
    transaction: 10 * SECOND,
    session: 6 * SECOND,
    max_poll: 20 * SECOND,
};

/// How long a call's way is.
pub(crate) fn latency(random: &mut Random) -> Micros {
    if random.chance(10_000) {
        random.between(5 * MS, 200 * MS)
    } else {
        random.between(50, 3 * MS)
    }
}
