//! Write times: the first base of a partition stays.

use store::Store;

use crate::{each, postgres};

#[tokio::test]
async fn the_first_base_of_a_partition_stays() {
    each(|store| async move {
        assert_eq!(store.write_time_base("id", 0, 70).await.unwrap(), 70);
        assert_eq!(store.write_time_base("id", 0, 99).await.unwrap(), 70);
        assert_eq!(store.write_time_base("id", 1, 99).await.unwrap(), 99);
        // a topic made anew under the same name
        assert_eq!(store.write_time_base("new", 0, 100).await.unwrap(), 100);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_ask_at_once_get_the_same() {
    let url = postgres::database().await;
    let one = Store::connect(&url).await.unwrap();
    let two = Store::connect(&url).await.unwrap();
    for partition in 0..20 {
        let (a, b) = tokio::join!(
            one.write_time_base("id", partition, 1),
            two.write_time_base("id", partition, 2)
        );
        assert_eq!(a.unwrap(), b.unwrap());
    }
    one.close().await;
    two.close().await;
}
