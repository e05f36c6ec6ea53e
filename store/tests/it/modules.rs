//! Modules.

use crate::each;

#[tokio::test]
async fn a_module_is_kept_under_its_digest() {
    each(|store| async move {
        let digest = store.put_module(b"abc").await.unwrap();
        assert_eq!(
            digest,
            "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(store.put_module(b"abc").await.unwrap(), digest, "again");
        assert_eq!(
            store.module(&digest).await.unwrap().as_deref(),
            Some(&b"abc"[..])
        );
        assert_eq!(store.module("sha256:00").await.unwrap(), None);
        let asked = [digest.clone(), "sha256:00".to_owned()];
        assert_eq!(store.has_modules(&asked).await.unwrap(), [digest]);
    })
    .await;
}

#[tokio::test]
async fn lists_go_on_where_they_ended() {
    each(|store| async move {
        let mut digests = Vec::new();
        for i in 0..5_u8 {
            digests.push(
                store
                    .put_module(&vec![i; 10 + usize::from(i)])
                    .await
                    .unwrap(),
            );
        }
        digests.sort();
        let first = store.modules(None, 3).await.unwrap();
        let rest = store.modules(Some(&first[2].digest), 3).await.unwrap();
        let listed: Vec<&str> = first
            .iter()
            .chain(&rest)
            .map(|module| module.digest.as_str())
            .collect();
        assert_eq!(listed, digests);
        let mut sizes: Vec<u64> = first
            .iter()
            .chain(&rest)
            .map(|module| module.bytes)
            .collect();
        sizes.sort_unstable();
        assert_eq!(sizes, [10, 11, 12, 13, 14]);
    })
    .await;
}
