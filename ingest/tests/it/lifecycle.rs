//! Triggers of graphs that are paused, deleted, and applied again.

use crate::line::{GRAPH, Line, apply};

const HAND: &str = "/api/v1/graphs/orders/triggers/hand";
const HOOK: &str = "/hooks/default/open/orders";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_graph_takes_triggers_and_a_deleted_one_takes_none() {
    let line = Line::new().await;
    let both = async |status: u16, why: &str| {
        for path in [HAND, HOOK] {
            let answer = line.post(path, &[], "{}").await;
            assert_eq!(answer.status, status, "{why}: {path} {}", answer.body);
        }
    };
    both(202, "active").await;
    line.store.pause("default", "orders", 1).await.unwrap();
    line.ingest.forget("default", "orders");
    both(202, "paused").await;
    line.store.resume("default", "orders", 2).await.unwrap();
    line.ingest.forget("default", "orders");
    both(202, "resuming").await;
    line.store.delete("default", "orders", 3).await.unwrap();
    line.ingest.forget("default", "orders");
    both(404, "deleted").await;
    assert_eq!(line.triggers().len(), 6);
    let batch = line.post(&format!("{HAND}/batch"), &[], "{}\n").await;
    assert_eq!(batch.status, 404);
    let unknown = line
        .post("/api/v1/graphs/none/triggers/hand", &[], "{}")
        .await;
    let deleted = line.post(HAND, &[], "{}").await;
    assert_eq!(
        (deleted.status, &deleted.body["title"]),
        (unknown.status, &unknown.body["title"]),
        "like one that never was"
    );

    let buried = line.store.active("default", "orders").await.unwrap();
    let buried = buried.unwrap().epoch;
    assert!(
        line.store
            .settled("default", "orders", buried)
            .await
            .unwrap()
    );
    apply(&line.store, GRAPH).await;
    both(202, "applied again").await;
}
