//! Redrives and purges of dead letters.

use bytes::Bytes;
use store::{Letter, NewRedrive, Redrive, RedriveAccepted, RedriveKind, Store};

use crate::each;

fn letter(number: usize) -> Letter {
    Letter {
        id: format!("0-{number}"),
        record: Bytes::from(format!("\0record {number}\u{e4}")),
    }
}

fn new(request: &str, letters: impl IntoIterator<Item = usize>) -> NewRedrive {
    NewRedrive {
        id: format!("id of {request}"),
        tenant: "default".to_owned(),
        kind: RedriveKind::Redrive,
        request: request.to_owned(),
        selection: "a".to_owned(),
        version: "active".to_owned(),
        refused: "[]".to_owned(),
        again: true,
        at_ms: 7,
        letters: letters.into_iter().map(letter).collect(),
    }
}

async fn stored(store: &Store, new: NewRedrive) -> Redrive {
    match store.redrive(new).await.unwrap() {
        RedriveAccepted::New(redrive) => redrive,
        other => panic!("{other:?}"),
    }
}

async fn waiting(store: &Store, after: i64) -> Vec<(i64, Bytes)> {
    let rows = store
        .redrive_letters_after(after, 10_000, 1 << 30)
        .await
        .unwrap();
    rows.into_iter()
        .map(|row| (row.number, row.record))
        .collect()
}

#[tokio::test]
async fn a_request_is_one_redrive_and_its_letters_are_numbered_in_the_order_of_commits() {
    each(|store| async move {
        let first = stored(&store, new("a", 0..3)).await;
        assert_eq!((first.letters, first.emitted), (3, 0));
        let again = store.redrive(new("a", 0..9)).await.unwrap();
        assert_eq!(again, RedriveAccepted::Known(first.clone()));
        let other = NewRedrive {
            selection: "b".to_owned(),
            ..new("a", 0..3)
        };
        assert_eq!(
            store.redrive(other).await.unwrap(),
            RedriveAccepted::Conflict
        );
        // the same request for something of another kind is another one
        let purge = NewRedrive {
            kind: RedriveKind::Purge,
            id: "purge".to_owned(),
            ..new("a", 1..2)
        };
        assert_eq!(stored(&store, purge).await.letters, 1);
        let expected: Vec<(i64, Bytes)> = [0, 1, 2, 1]
            .iter()
            .zip(1..)
            .map(|(n, number)| (number, letter(*n).record))
            .collect();
        assert_eq!(waiting(&store, 0).await, expected);
        assert_eq!(waiting(&store, 3).await, expected[3..]);
        let some = store.redrive_letters_after(0, 2, 1 << 30).await.unwrap();
        assert_eq!(some.len(), 2);
        let one = store.redrive_letters_after(0, 9, 1).await.unwrap();
        assert_eq!(one.len(), 1, "the first begins within any");

        let kind = RedriveKind::Redrive;
        let found = store
            .redrive_of_request("default", kind, "a")
            .await
            .unwrap();
        assert_eq!(found.as_ref(), Some(&first));
        let by_id = store.redrive_by_id("default", kind, &first.id).await;
        assert_eq!(by_id.unwrap(), found);
        let others = store.redrive_by_id("other", kind, &first.id).await;
        assert_eq!(others.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn what_is_emitted_is_forgotten_and_shown() {
    each(|store| async move {
        stored(&store, new("a", 0..3)).await;
        stored(&store, new("b", 3..5)).await;
        let shown = async |request: &str| {
            let kind = RedriveKind::Redrive;
            let found = store.redrive_of_request("default", kind, request).await;
            found.unwrap().unwrap().emitted
        };
        store.redrives_emitted(2).await.unwrap();
        assert_eq!((shown("a").await, shown("b").await), (2, 0));
        store.redrives_emitted(1).await.unwrap();
        assert_eq!(store.redrives_emitted_up_to().await.unwrap(), 2);
        store.redrives_emitted(4).await.unwrap();
        assert_eq!((shown("a").await, shown("b").await), (3, 1));
        assert_eq!(waiting(&store, 4).await, [(5, letter(4).record)]);
        let gone = store.redrive_letters_after(0, 9, 1 << 30).await;
        assert!(gone.is_err(), "their bytes are not there any more");

        store.redrives_number_from(100).await.unwrap();
        store.redrives_number_from(50).await.unwrap();
        stored(&store, new("c", 9..10)).await;
        assert_eq!(waiting(&store, 5).await, [(101, letter(9).record)]);
    })
    .await;
}

#[tokio::test]
async fn letters_that_were_taken_are_known() {
    each(|store| async move {
        let first = stored(&store, new("a", 0..3)).await;
        let rest = NewRedrive {
            again: false,
            at_ms: 8,
            ..new("b", 1..5)
        };
        let second = stored(&store, rest).await;
        assert_eq!(second.letters, 2, "3 and 4");
        let again = NewRedrive {
            at_ms: 9,
            ..new("c", 2..3)
        };
        let third = stored(&store, again).await;
        let purge = NewRedrive {
            kind: RedriveKind::Purge,
            id: "purge".to_owned(),
            at_ms: 10,
            again: false,
            ..new("p", 2..3)
        };
        assert_eq!(stored(&store, purge).await.letters, 1);
        let ids: Vec<String> = (0..6).map(|n| letter(n).id).collect();
        let found = store.repaired("default", &ids).await.unwrap();
        let redrive = |id: &str| found.get(id).and_then(|of| of.redrive.clone());
        assert_eq!(redrive("0-0"), Some((first.id, 7)));
        assert_eq!(redrive("0-3"), Some((second.id, 8)));
        assert_eq!(redrive("0-2"), Some((third.id, 9)));
        assert_eq!(found["0-2"].purged_at_ms, Some(10));
        assert_eq!(found["0-1"].purged_at_ms, None);
        assert!(!found.contains_key("0-5"));
        assert!(store.repaired("other", &ids).await.unwrap().is_empty());
    })
    .await;
}

#[tokio::test]
async fn many_and_large_letters_are_stored_whole() {
    each(|store| async move {
        let mut large = new("a", 0..1_700);
        for number in [0, 600, 601, 1_699] {
            large.letters[number].record = Bytes::from(vec![number as u8; 700 << 10]);
        }
        let letters = large.letters.clone();
        stored(&store, large).await;
        let expected: Vec<(i64, Bytes)> =
            (1..).zip(letters.into_iter().map(|l| l.record)).collect();
        assert!(waiting(&store, 0).await == expected);
        let few = store
            .redrive_letters_after(599, 10_000, 1 << 20)
            .await
            .unwrap();
        assert_eq!(few.len(), 3, "the third begins within the MiB");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_at_once_each_letter_is_taken_once() {
    each(|store| async move {
        let ask = |asker: usize| {
            let store = store.clone();
            tokio::spawn(async move {
                let new = NewRedrive {
                    again: false,
                    ..new(&format!("request {}", asker % 4), 0..200)
                };
                store.redrive(new).await.unwrap()
            })
        };
        let asked: Vec<_> = (0..8).map(ask).collect();
        let mut taken = 0;
        for asked in asked {
            if let RedriveAccepted::New(redrive) = asked.await.unwrap() {
                taken += redrive.letters;
            }
        }
        assert_eq!(taken, 200);
        assert_eq!(waiting(&store, 0).await.len(), 200);
    })
    .await;
}
