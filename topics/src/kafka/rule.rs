//! The error rule: what a failed call on a transactional producer leaves behind, and what is done about it. One table,
//! pure; `transaction` carries it out.
//!
//! librdkafka flags an error as retriable (call again), as one that requires an abort, or as fatal (the producer is over);
//! what has none of these flags counts as fatal. On top of that:
//! - a call that is out of time may still be carried out: a commit is *uncertain* and never aborted (KAFKA-17754);
//! - so is a call that returned Ok, if a first copy of it may still be under way: librdkafka 2.12 repeats EndTxn,
//!   TxnOffsetCommit and AddOffsetsToTxn by itself after a disconnect or a request's time-out, and knows no KIP-890, so
//!   the broker cannot tell a late copy from a request of the next transaction. [`certain`] says when it can be ruled out.

use std::time::Duration;

use rdkafka::error::RDKafkaErrorCode as Code;

/// A call on a transactional producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Init,
    Begin,
    Send,
    Deliver,
    Offsets,
    Commit,
    Abort,
}

impl Call {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Init => "init",
            Self::Begin => "begin",
            Self::Send => "send",
            Self::Deliver => "deliver",
            Self::Offsets => "offsets",
            Self::Commit => "commit",
            Self::Abort => "abort",
        }
    }
}

/// How librdkafka describes an error.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) code: Code,
    /// The code with which the producer ended, if it did.
    pub(super) fatal: Option<Code>,
    pub(super) retriable: bool,
    pub(super) requires_abort: bool,
    /// rust-rdkafka flushes before it commits: that failed, and the commit was not asked for.
    pub(super) flush: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// The same call again, until its time is over.
    Again,
    /// Abort, rewind, go on with the same producer.
    Abort,
    /// The same, because the group has moved on.
    AbortMoved,
    /// A new producer of the same id settles what the old one left.
    Rebuild,
    /// The same, and only the committed offsets tell what happened.
    RebuildUncertain,
    /// Somebody else has the id (or the broker has given the transaction up): this owner is over.
    Fenced,
    /// Nothing that trying again repairs; the reason and the way out.
    Stop(&'static str),
}

/// What is done about a failed call. `time_left`: whether the call may be made again.
pub(super) fn action(call: Call, seen: Seen, time_left: bool) -> Action {
    let code = seen.fatal.unwrap_or(seen.code);
    if is_fenced(code) {
        return Action::Fenced;
    }
    if let Some(reason) = hopeless(code) {
        return Action::Stop(reason);
    }
    if seen.fatal.is_some() {
        return match call {
            Call::Commit => Action::RebuildUncertain,
            _ => Action::Rebuild,
        };
    }
    if is_moved(code) && !matches!(call, Call::Commit) {
        return Action::AbortMoved;
    }
    if seen.flush {
        return Action::Abort;
    }
    if seen.retriable && time_left {
        return Action::Again;
    }
    match call {
        Call::Send | Call::Deliver => Action::Abort,
        _ if seen.requires_abort => Action::Abort,
        Call::Commit => Action::RebuildUncertain,
        Call::Init | Call::Begin | Call::Offsets | Call::Abort => Action::Rebuild,
    }
}

/// How long librdkafka waits before it repeats a request (`retry.backoff.ms`; less a fifth at most, by its jitter; half a
/// second, fixed, for TxnOffsetCommit). A call that has returned in less than that has not been repeated.
pub(super) const REPEAT_BACKOFF: Duration = Duration::from_millis(500);

/// Whether no copy of a call that returned Ok can still be under way. `took`: the longest transactional call of the
/// transaction; `disturbed`: a connection is known to have broken, or a request to have timed out, since it began.
pub(super) fn certain(took: Duration, disturbed: bool, socket: Duration) -> bool {
    !disturbed && took < (REPEAT_BACKOFF * 7 / 10).min(socket / 2)
}

/// Another producer has this one's transactional id. (A transaction that timed out looks the same: KIP-588 is not there.)
pub(super) fn is_fenced(code: Code) -> bool {
    matches!(
        code,
        Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch | Code::FencedInstanceId
    )
}

/// The group has moved on since this member last heard of it.
pub(super) fn is_moved(code: Code) -> bool {
    matches!(
        code,
        Code::IllegalGeneration
            | Code::UnknownMemberId
            | Code::RebalanceInProgress
            | Code::StaleMemberEpoch
    )
}

fn hopeless(code: Code) -> Option<&'static str> {
    Some(match code {
        Code::TransactionalIdAuthorizationFailed => {
            "kafka refuses the transactional id; grant WRITE on it"
        }
        Code::TopicAuthorizationFailed => "kafka refuses a topic; grant READ and WRITE on it",
        Code::GroupAuthorizationFailed => "kafka refuses the consumer group; grant READ on it",
        Code::ClusterAuthorizationFailed => {
            "kafka refuses idempotent writes; grant WRITE on a topic, or before Kafka 2.8 IDEMPOTENT_WRITE on the cluster"
        }
        Code::SaslAuthenticationFailed | Code::Authentication => {
            "kafka refuses the credentials; look at sasl.* among kafka's properties"
        }
        Code::InvalidTransactionTimeout => {
            "the broker's transaction.max.timeout.ms is below the transaction time-out; raise the one or lower the other"
        }
        Code::UnsupportedVersion | Code::UnsupportedFeature => {
            "the broker is too old: transactions with a group's offsets need Kafka 2.5 (KIP-447)"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Seen = Seen {
        code: Code::RequestTimedOut,
        fatal: None,
        retriable: false,
        requires_abort: false,
        flush: false,
    };

    #[test]
    fn a_commit_whose_outcome_is_not_known_is_never_aborted() {
        let retriable = Seen {
            retriable: true,
            ..PLAIN
        };
        assert_eq!(action(Call::Commit, retriable, true), Action::Again);
        for seen in [
            retriable,
            PLAIN,
            Seen {
                fatal: Some(Code::Fatal),
                ..PLAIN
            },
        ] {
            assert_eq!(action(Call::Commit, seen, false), Action::RebuildUncertain);
        }
        // before EndTxn was sent, or answered with an abortable error
        assert_eq!(
            action(
                Call::Commit,
                Seen {
                    flush: true,
                    ..PLAIN
                },
                true
            ),
            Action::Abort
        );
        assert_eq!(
            action(
                Call::Commit,
                Seen {
                    requires_abort: true,
                    ..PLAIN
                },
                true
            ),
            Action::Abort
        );
    }

    #[test]
    fn what_has_no_flag_counts_as_fatal() {
        for call in [Call::Init, Call::Begin, Call::Offsets, Call::Abort] {
            assert_eq!(action(call, PLAIN, true), Action::Rebuild, "{call:?}");
            assert_eq!(
                action(
                    call,
                    Seen {
                        retriable: true,
                        ..PLAIN
                    },
                    true
                ),
                Action::Again
            );
            assert_eq!(
                action(
                    call,
                    Seen {
                        retriable: true,
                        ..PLAIN
                    },
                    false
                ),
                Action::Rebuild
            );
        }
    }

    #[test]
    fn fenced_moved_and_hopeless_go_before_the_flags() {
        let with = |code| Seen {
            code,
            retriable: true,
            requires_abort: true,
            ..PLAIN
        };
        for call in [
            Call::Init,
            Call::Begin,
            Call::Send,
            Call::Deliver,
            Call::Offsets,
            Call::Commit,
            Call::Abort,
        ] {
            assert_eq!(
                action(call, with(Code::ProducerFenced), true),
                Action::Fenced
            );
            assert_eq!(
                action(
                    call,
                    Seen {
                        fatal: Some(Code::Fenced),
                        ..PLAIN
                    },
                    true
                ),
                Action::Fenced
            );
            assert!(matches!(
                action(call, with(Code::GroupAuthorizationFailed), true),
                Action::Stop(_)
            ));
        }
        assert_eq!(
            action(Call::Offsets, with(Code::IllegalGeneration), true),
            Action::AbortMoved
        );
    }

    #[test]
    fn slow_or_disturbed_is_not_certain() {
        let socket = Duration::from_secs(2);
        assert!(certain(Duration::from_millis(349), false, socket));
        assert!(!certain(Duration::from_millis(350), false, socket));
        assert!(!certain(Duration::from_millis(300), false, socket / 4));
        assert!(!certain(Duration::ZERO, true, socket));
    }
}
