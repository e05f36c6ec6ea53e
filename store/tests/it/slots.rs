//! Slots: the lowest free numbers, freed with their owner, and lost aloud.

use std::time::Duration;

use store::Store;

use crate::{each, postgres};

#[tokio::test]
async fn the_lowest_free_numbers_are_given() {
    each(|store| async move {
        let slots = store.slots();
        let first = slots.claim("processor", 3).await.unwrap();
        assert_eq!(first.numbers(), [0, 1, 2]);
        let second = slots.claim("processor", 2).await.unwrap();
        assert_eq!(second.numbers(), [3, 4]);
        let other = slots.claim("sink", 1).await.unwrap();
        assert_eq!(other.numbers(), [0], "a role has numbers of its own");
        first.release().await;
        let third = slots.claim("processor", 4).await.unwrap();
        assert_eq!(third.numbers(), [0, 1, 2, 5]);
        assert!(!third.is_lost());
        assert!(slots.claim("none", 0).await.unwrap().numbers().is_empty());
        assert!(slots.claim("many", 1 << 20).await.is_err());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_share_the_numbers_and_free_them_with_their_connection() {
    let url = postgres::database().await;
    let one = Store::connect(&url).await.unwrap();
    let two = Store::connect(&url).await.unwrap();
    let (a, b) = tokio::join!(one.slots().claim("p", 4), two.slots().claim("p", 4));
    let (a, b) = (a.unwrap(), b.unwrap());
    let mut all: Vec<u32> = a.numbers().iter().chain(b.numbers()).copied().collect();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 8, "{:?} and {:?}", a.numbers(), b.numbers());

    let lost = a.lost();
    let kept = b.lost();
    let terminate = format!(
        "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' and objid = {}
         and database = (select oid from pg_database where datname = current_database())",
        a.numbers()[0]
    );
    postgres::execute(&url, terminate).await;
    tokio::time::timeout(Duration::from_secs(60), lost)
        .await
        .expect("the owner learns of it");
    assert!(a.is_lost());
    assert!(!b.is_lost());
    let numbers = a.numbers().to_vec();
    drop(a);
    let again = one.slots().claim("p", 4).await.unwrap();
    assert_eq!(again.numbers(), numbers, "they were free");
    b.release().await;
    // let go of on purpose is not lost
    assert!(
        tokio::time::timeout(Duration::from_millis(50), kept)
            .await
            .is_err()
    );
}
