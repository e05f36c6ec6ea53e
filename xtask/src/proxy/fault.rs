//! What the proxy can do to a request or its answer, and who decides when.

use std::time::Duration;

use super::frame::{Request, api};

/// What happens to one request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// On its way to the broker.
    Request(Trouble),
    /// The answer, when the broker has done what was asked.
    Answer(Trouble),
    /// The broker gets it twice; the second answer is kept from the client.
    Twice,
    /// The broker does not get it yet, and the client's connection is cut, so that the client asks once more over another
    /// one. Only then, and without the client's knowing, the broker gets the first copy.
    Late(Until),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Trouble {
    /// It waits; with `rest` all that follows in its direction on its connection waits behind it, else it is overtaken.
    Delay { by: Duration, rest: bool },
    /// It never arrives; with `cut` its connection is cut as well.
    Drop { cut: bool },
}

/// When a held copy goes on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Until {
    Elapsed(Duration),
    /// Right before the request of this kind in the same transactional id's next transaction; that request is then held
    /// back itself for so long.
    Next {
        api: i16,
        held: Duration,
    },
}

/// Who decides. Asked about every request, from the threads of all connections, one after the other.
pub trait Decide: Send {
    fn decide(&mut self, request: &Request) -> Option<Fault>;
}

impl<F: FnMut(&Request) -> Option<Fault> + Send> Decide for F {
    fn decide(&mut self, request: &Request) -> Option<Fault> {
        self(request)
    }
}

/// A fault that was done.
#[derive(Clone, Debug, PartialEq)]
pub struct Injected {
    pub api: i16,
    pub transactional_id: Option<String>,
    /// Of `END_TXN`: whether it commits.
    pub commits: Option<bool>,
    pub fault: Fault,
    /// What the broker said to what was held or repeated: 0 if it obeyed. None if it got no such thing, or has not
    /// answered.
    pub answered: Option<i16>,
}

impl Injected {
    pub(super) fn new(request: &Request, fault: Fault) -> Self {
        Self {
            api: request.api,
            transactional_id: request.transactional_id.clone(),
            commits: request.commits,
            fault,
            answered: None,
        }
    }
}

/// Repeatable pseudo-random numbers (splitmix64).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Below `end`; 0 if that is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)).checked_rem(end).unwrap_or(0)
    }

    pub fn duration(&mut self, from: Duration, to: Duration) -> Duration {
        let span = to.saturating_sub(from).as_millis() as u64;
        from + Duration::from_millis(self.below(span + 1))
    }
}

/// Draws all kinds of faults on transactions' requests and their answers; of each transactional id it leaves a few requests
/// alone between two, so that lanes also get on.
pub struct Seeded {
    dice: Dice,
    left: usize,
    delay_min: Duration,
    delay_max: Duration,
    /// By transactional id: how many requests more are left alone.
    spared: std::collections::HashMap<String, u64>,
}

impl Seeded {
    /// At most `faults` of them; delays of 0.1 to 12 s.
    pub fn new(seed: u64, faults: usize) -> Self {
        Self {
            dice: Dice::new(seed),
            left: faults,
            delay_min: Duration::from_millis(100),
            delay_max: Duration::from_secs(12),
            spared: std::collections::HashMap::new(),
        }
    }

    /// Short ones more often: half of them are below the root of the range.
    fn delay(&mut self) -> Duration {
        let max = if self.dice.below(2) == 0 {
            self.delay_max / 8
        } else {
            self.delay_max
        };
        self.dice.duration(self.delay_min, max)
    }

    fn trouble(&mut self) -> Trouble {
        match self.dice.below(2) {
            0 => Trouble::Delay {
                by: self.delay(),
                rest: self.dice.below(2) == 0,
            },
            _ => Trouble::Drop {
                cut: self.dice.below(4) > 0,
            },
        }
    }

    fn fault(&mut self) -> Fault {
        match self.dice.below(8) {
            0 | 1 => Fault::Request(self.trouble()),
            2 | 3 => Fault::Answer(self.trouble()),
            4 => Fault::Twice,
            5 => Fault::Late(Until::Elapsed(self.delay())),
            _ => Fault::Late(Until::Next {
                api: [
                    api::ADD_OFFSETS_TO_TXN,
                    api::TXN_OFFSET_COMMIT,
                    api::END_TXN,
                ][self.dice.below(3) as usize],
                held: self
                    .dice
                    .duration(Duration::ZERO, Duration::from_millis(900)),
            }),
        }
    }
}

impl Decide for Seeded {
    fn decide(&mut self, request: &Request) -> Option<Fault> {
        let id = request.transactional_id.as_ref()?;
        let kinds = [
            api::ADD_OFFSETS_TO_TXN,
            api::TXN_OFFSET_COMMIT,
            api::END_TXN,
        ];
        if self.left == 0 || !kinds.contains(&request.api) {
            return None;
        }
        if let Some(spared) = self.spared.get_mut(id)
            && *spared > 0
        {
            *spared -= 1;
            return None;
        }
        let spared = self.dice.below(12);
        self.spared.insert(id.clone(), spared);
        self.left -= 1;
        Some(self.fault())
    }
}
