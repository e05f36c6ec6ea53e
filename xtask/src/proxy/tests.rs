//! The proxy's frames, on bytes as librdkafka 2.12.1 and Kafka 4.3.1 send them, and on garbage.

use super::fault::{Dice, Seeded, Trouble};
use super::frame::{self, Request, api};
use super::{Decide as _, Fault};

/// An EndTxn, version 1: client id `rdkafka`, id `lane-0`, producer 7, epoch 3, commit.
fn end_txn(commits: bool) -> Vec<u8> {
    let mut bytes = vec![0, 26, 0, 1, 0, 0, 0, 9, 0, 7];
    bytes.extend(b"rdkafka");
    bytes.extend([0, 6]);
    bytes.extend(b"lane-0");
    bytes.extend([0, 0, 0, 0, 0, 0, 0, 7, 0, 3, u8::from(commits)]);
    bytes
}

/// A TxnOffsetCommit, version 3: flexible header, id `lane-0`.
fn txn_offset_commit() -> Vec<u8> {
    let mut bytes = vec![0, 28, 0, 3, 0, 0, 0, 10, 0, 7];
    bytes.extend(b"rdkafka");
    bytes.extend([0, 7]);
    bytes.extend(b"lane-0");
    bytes.extend([6, b'g', b'r', b'o', b'u', b'p']);
    bytes
}

#[test]
fn a_request_tells_its_transaction() {
    let end = Request::parse(&end_txn(true)).unwrap();
    assert_eq!(
        (end.api, end.version, end.correlation, end.commits),
        (api::END_TXN, 1, 9, Some(true))
    );
    assert_eq!(end.transactional_id.as_deref(), Some("lane-0"));
    assert_eq!(
        Request::parse(&end_txn(false)).unwrap().commits,
        Some(false)
    );
    let offsets = Request::parse(&txn_offset_commit()).unwrap();
    assert_eq!(offsets.transactional_id.as_deref(), Some("lane-0"));
    assert_eq!(offsets.commits, None);
}

#[test]
fn an_answer_tells_its_error() {
    let end = Request::parse(&end_txn(true)).unwrap();
    // correlation, throttle time, error
    let answer = [0, 0, 0, 9, 0, 0, 0, 0, 0, 51];
    assert_eq!(frame::error(&end, &answer), Some(51));
    let offsets = Request::parse(&txn_offset_commit()).unwrap();
    // correlation, tags, throttle time, one topic "t", two partitions, tags
    let mut answer = vec![0, 0, 0, 10, 0, 0, 0, 0, 0, 2, 2, b't', 3];
    answer.extend([0, 0, 0, 0, 0, 0, 0]);
    answer.extend([0, 0, 0, 1, 0, 22, 0]);
    answer.extend([0, 0]);
    assert_eq!(frame::error(&offsets, &answer), Some(22));
}

#[test]
fn a_copy_gets_a_correlation_id_of_its_own() {
    let mut copy = end_txn(true);
    frame::correlate(&mut copy, -5);
    assert_eq!(Request::parse(&copy).unwrap().correlation, -5);
    frame::correlate(&mut [0, 1], -5);
}

#[test]
fn garbage_harms_nothing() {
    let mut dice = Dice::new(1);
    for length in 0..200 {
        for _ in 0..200 {
            let mut bytes: Vec<u8> = (0..length).map(|_| dice.below(256) as u8).collect();
            if let Some(kind) = bytes.get_mut(..4) {
                let known = [0, 22, 24, 25, 26, 28][dice.below(6) as usize];
                kind.copy_from_slice(&[0, known, 0, dice.below(12) as u8]);
            }
            if let Some(request) = Request::parse(&bytes) {
                frame::error(&request, &bytes);
            }
            while let Ok(Some(frame)) = frame::read(&mut &bytes[..]) {
                bytes.drain(..frame.len() + 4);
            }
        }
    }
}

#[test]
fn frames_are_read_as_they_were_written() {
    let mut wire = Vec::new();
    frame::write(&mut wire, b"one").unwrap();
    frame::write(&mut wire, b"").unwrap();
    let mut from = &wire[..];
    assert_eq!(
        frame::read(&mut from).unwrap().as_deref(),
        Some(&b"one"[..])
    );
    assert_eq!(frame::read(&mut from).unwrap().as_deref(), Some(&b""[..]));
    assert_eq!(frame::read(&mut from).unwrap(), None);
    assert!(frame::read(&mut &wire[..5]).is_err());
    assert!(frame::read(&mut &[0xff, 0xff, 0xff, 0xff][..]).is_err());
    assert!(frame::read(&mut &[0x7f, 0xff, 0xff, 0xff, 1][..]).is_err());
}

#[test]
fn a_seed_is_a_sequence_of_faults() {
    let draw = |seed| {
        let mut decide = Seeded::new(seed, 40);
        let request = Request::parse(&end_txn(true)).unwrap();
        (0..2_000)
            .filter_map(|_| decide.decide(&request))
            .collect::<Vec<_>>()
    };
    assert_eq!(draw(7), draw(7));
    assert_ne!(draw(7), draw(8));
    assert_eq!(draw(7).len(), 40);
    let drops = draw(7).into_iter().filter(|fault| {
        matches!(
            fault,
            Fault::Request(Trouble::Drop { .. }) | Fault::Answer(Trouble::Drop { .. })
        )
    });
    assert!(drops.count() > 0);
}
