//! The audit of isolation `batch`: some calls on a reused instance are run again on a fresh one, with the answers that the first run had from
//! outside, and compared byte by byte. A step that answers otherwise keeps something between calls: it is not to be reused.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::runtime::Handle;

use super::call::{Broken, Call, Called, Outcome};
use super::outside::{Answer, Ask, HttpError, Outside, Sending};

/// What was asked, and what came of it, in the order of asking.
pub(super) type Asked = (http::Request<bytes::Bytes>, Result<Answer, HttpError>);

/// Whether this call is audited. The first reuse of an instance always is: what a step keeps mostly shows at once; later ones are chosen
/// by a hash of the execution, so that nobody can tell which.
pub(super) fn chosen(call: &Call<'_>, calls_before: u32, one_in: u32) -> bool {
    if one_in == 0 || calls_before == 0 {
        return false;
    }
    // the tail of an execution's id is the tail of a sha256
    let tail = u32::from_be_bytes(call.execution.0[12..16].try_into().unwrap_or_default());
    calls_before == 1 || tail.is_multiple_of(one_in)
}

/// A run whose end says nothing of the step: it depends on the machine.
pub(super) fn says_nothing(outcome: &Outcome) -> bool {
    matches!(
        outcome,
        Outcome::Broken(Broken::Timeout | Broken::HostBusy, _)
    )
}

/// How the two runs differ; `None`: they do not.
pub(super) fn difference(reused: &Called, fresh: &Called) -> Option<String> {
    if reused.outcome == fresh.outcome && reused.logs == fresh.logs {
        return None;
    }
    Some(match (&reused.outcome, &fresh.outcome) {
        (Outcome::Outputs(a), Outcome::Outputs(b)) if a == b => "its log lines differ".to_owned(),
        (Outcome::Outputs(a), Outcome::Outputs(b)) if a.len() != b.len() => {
            format!(
                "{} outputs on a reused instance, {} on a fresh one",
                a.len(),
                b.len()
            )
        }
        (Outcome::Outputs(a), Outcome::Outputs(b)) => {
            let at = a.iter().zip(b).position(|(a, b)| a != b).unwrap_or(0);
            format!("output {} differs", at + 1)
        }
        (a, b) => format!(
            "{} on a reused instance, {} on a fresh one",
            word(a),
            word(b)
        ),
    })
}

fn word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Outputs(_) => "outputs",
        Outcome::Retry { .. } => "retry",
        Outcome::Reject(_) => "reject",
        Outcome::Fatal(_) => "fatal",
        Outcome::Broken(broken, _) => broken.name(),
    }
}

/// Gives the answers of an earlier run, as long as the same is asked.
pub(super) struct Again {
    world: Arc<dyn Outside>,
    asked: Mutex<VecDeque<Asked>>,
}

impl Again {
    pub(super) fn new(world: Arc<dyn Outside>, asked: Vec<Asked>) -> Self {
        Self {
            world,
            asked: Mutex::new(asked.into()),
        }
    }
}

impl Outside for Again {
    fn secret(&self, tenant: &str, name: &str) -> Result<Option<Arc<str>>, String> {
        self.world.secret(tenant, name)
    }

    fn send(&self, ask: Ask) -> Sending {
        let mut asked = self.asked.lock();
        let same = |(before, _): &Asked| {
            before.method() == ask.request.method()
                && before.uri() == ask.request.uri()
                && before.headers() == ask.request.headers()
                && before.body() == ask.request.body()
        };
        // several may be under way at once, and reach here in any order
        let answer = match asked.iter().position(same).and_then(|at| asked.remove(at)) {
            Some((_, answer)) => answer,
            None => Err(HttpError::Denied(
                "the same call asked for something else before".into(),
            )),
        };
        Box::pin(std::future::ready(answer))
    }

    fn runtime(&self) -> Option<&Handle> {
        self.world.runtime()
    }
}
