//! Payloads in a folder, and in a bucket of a real MinIO.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use store::{Disposition, PayloadError, PayloadSettings, Payloads, Reference, Sweep, Swept};
use xtask::proof::Row;
use xtask::services::minio::{PASSWORD, Temporary, USER};

const DAY: Duration = Duration::from_secs(86_400);

fn payload(byte: u8, mib: usize) -> (Reference, Bytes) {
    let mut data = vec![byte; mib << 20];
    data.extend_from_slice(b"end");
    (Reference::of(&data), Bytes::from(data))
}

fn folder(path: &Path) -> Payloads {
    Payloads::open(&PayloadSettings::of(format!("file:{}", path.display()))).unwrap()
}

/// What any place for payloads has to do.
async fn contract(payloads: Payloads) {
    payloads.check().await.unwrap();
    let (reference, data) = payload(b'a', 5);
    let lost = payloads.get(&reference).await.unwrap_err();
    assert!(matches!(lost, PayloadError::Lost { .. }), "{lost}");
    assert_eq!(lost.disposition(), Disposition::Reject);
    let said = lost.to_string();
    assert!(said.contains(&hex::encode(reference.sha256)), "{said}");
    assert!(said.contains(payloads.place()), "{said}");

    payloads.put(&reference, data.clone()).await.unwrap();
    assert_eq!(payloads.get(&reference).await.unwrap(), data);
    let pieces: Vec<Bytes> = payloads
        .stream(&reference)
        .await
        .unwrap()
        .try_collect()
        .await
        .unwrap();
    assert_eq!(pieces.concat(), data);

    // the same again is the same object, also at the same time
    let puts = (0..8).map(|_| payloads.put(&reference, data.clone()));
    futures_util::future::try_join_all(puts).await.unwrap();
    let (other, small) = (Reference::of(b"small"), Bytes::from_static(b"small"));
    payloads.put(&other, small.clone()).await.unwrap();
    let empty = Reference::of(b"");
    payloads.put(&empty, Bytes::new()).await.unwrap();
    assert_eq!(payloads.get(&empty).await.unwrap(), Bytes::new());
    let all = Swept {
        kept: 3,
        kept_bytes: data.len() as u64 + 5,
        ..Swept::default()
    };
    assert_eq!(payloads.sweep(Sweep::Remove).await.unwrap(), all);

    // a reference of another size is not this payload
    let cut = Reference { bytes: 4, ..other };
    let damaged = payloads.get(&cut).await.unwrap_err();
    assert!(matches!(damaged, PayloadError::Damaged { .. }), "{damaged}");

    // 92 days later nothing refers to them
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + 92 * DAY;
    let later_ms = since.as_millis() as i64;
    let gone = Swept {
        orphans: all.kept,
        orphan_bytes: all.kept_bytes,
        ..Swept::default()
    };
    assert_eq!(
        payloads.sweep_at(Sweep::Look, later_ms).await.unwrap(),
        gone
    );
    assert_eq!(payloads.get(&other).await.unwrap(), small, "only looked at");
    assert_eq!(
        payloads.sweep_at(Sweep::Remove, later_ms).await.unwrap(),
        gone
    );
    assert!(matches!(
        payloads.get(&other).await,
        Err(PayloadError::Lost { .. })
    ));
    assert_eq!(
        payloads.sweep(Sweep::Remove).await.unwrap(),
        Swept::default()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder() {
    let root = tempfile::tempdir().unwrap();
    contract(folder(&root.path().join("new/payloads"))).await;
}

/// A real MinIO, which dies between put and get. Its row of `make prove` is `S3`.
#[test]
#[ignore = "builds MinIO: make prove"]
fn a_bucket() {
    let begun = Instant::now();
    let mut minio = Temporary::start().unwrap();
    minio.bucket("payloads").unwrap();
    let endpoint = minio.url();
    let settings = |bucket: &str| PayloadSettings {
        endpoint: Some(endpoint.clone()),
        access_key: Some(USER.to_owned()),
        secret_key: Some(PASSWORD.to_owned()),
        ..PayloadSettings::of(format!("s3://{bucket}/some/where"))
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let payloads = Payloads::open(&settings("payloads")).unwrap();
    runtime.block_on(contract(payloads.clone()));

    let (reference, data) = payload(b'y', 2);
    runtime
        .block_on(payloads.put(&reference, data.clone()))
        .unwrap();
    minio.kill().unwrap();
    let away = runtime.block_on(payloads.get(&reference)).unwrap_err();
    assert_eq!(away.disposition(), Disposition::Retry, "{away}");
    minio.restart().unwrap();
    assert_eq!(runtime.block_on(payloads.get(&reference)).unwrap(), data);

    runtime.block_on(foreign(settings));
    let row = Row {
        id: "S3",
        title: "payloads in a bucket of MinIO, which is killed",
        injected: 1,
        expected: "what was put is there again; while it is away, and with a wrong key or bucket, it is asked again and nothing counts as lost; orphans are swept".into(),
        passed: true,
        took: begun.elapsed(),
        ..Row::default()
    };
    row.keep().unwrap();
}

async fn foreign(settings: impl Fn(&str) -> PayloadSettings) {
    // a bucket that is not there has lost nothing, and neither has one behind a wrong key
    let (reference, data) = payload(b'x', 1);
    let none = Payloads::open(&settings("weir-no-such-bucket")).unwrap();
    let mut wrong = settings("payloads");
    wrong.secret_key = Some("wrong".to_owned());
    for payloads in [none, Payloads::open(&wrong).unwrap()] {
        for error in [
            payloads.get(&reference).await.unwrap_err(),
            payloads.put(&reference, data.clone()).await.unwrap_err(),
            payloads.check().await.unwrap_err(),
        ] {
            assert_eq!(error.disposition(), Disposition::Retry, "{error}");
        }
    }
}

#[tokio::test]
async fn nobody_there_is_no_loss() {
    let settings = PayloadSettings {
        // the discard port: nobody listens
        endpoint: Some("http://127.0.0.1:9".to_owned()),
        access_key: Some("a".to_owned()),
        secret_key: Some("hunter2".to_owned()),
        ..PayloadSettings::of("s3://weir")
    };
    let payloads = Payloads::open(&settings).unwrap();
    let error = payloads.get(&Reference::of(b"x")).await.unwrap_err();
    assert!(matches!(error, PayloadError::Unavailable { .. }), "{error}");
    assert!(!error.to_string().contains("hunter2"), "{error}");
    // nor is a folder that is not mounted
    let root = tempfile::tempdir().unwrap();
    let payloads = folder(&root.path().join("mount"));
    std::fs::remove_dir(root.path().join("mount")).unwrap();
    let error = payloads.get(&Reference::of(b"x")).await.unwrap_err();
    assert!(matches!(error, PayloadError::Unavailable { .. }), "{error}");
}

#[test]
fn settings_that_can_never_work() {
    for (settings, said) in [
        (PayloadSettings::of("ftp://a"), "payloads.url"),
        (PayloadSettings::of("file:/proc/no/such"), "/proc/no/such"),
        (
            PayloadSettings {
                access_key: Some("a".to_owned()),
                ..PayloadSettings::of("s3://a")
            },
            "payloads.secret_key",
        ),
        (
            PayloadSettings {
                endpoint: Some("minio:9000".to_owned()),
                ..PayloadSettings::of("s3://a")
            },
            "payloads.endpoint",
        ),
    ] {
        let error = Payloads::open(&settings).err().unwrap();
        assert_eq!(error.disposition(), Disposition::Invalid);
        assert!(error.to_string().contains(said), "{error}");
    }
}

fn file_of(root: &Path, reference: &Reference) -> PathBuf {
    let sha256 = hex::encode(reference.sha256);
    root.join("sha256").join(&sha256[..2]).join(&sha256[2..])
}

fn put_ago(path: &Path, ago: Duration) {
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - ago).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_put_again_is_young_again() {
    let root = tempfile::tempdir().unwrap();
    let payloads = folder(root.path());
    let (reference, data) = payload(b'b', 1);
    let file = file_of(root.path(), &reference);
    for ago in [2 * DAY, 90 * DAY, 100 * DAY] {
        payloads.put(&reference, data.clone()).await.unwrap();
        put_ago(&file, ago);
        payloads.put(&reference, data.clone()).await.unwrap();
        let swept = payloads.sweep(Sweep::Remove).await.unwrap();
        assert_eq!((swept.kept, swept.orphans), (1, 0), "{ago:?}");
        let since = file
            .metadata()
            .unwrap()
            .modified()
            .unwrap()
            .elapsed()
            .unwrap();
        assert!(since < DAY, "{since:?}");
    }
    put_ago(&file, 92 * DAY);
    assert_eq!(payloads.sweep(Sweep::Remove).await.unwrap().orphans, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_said() {
    let root = tempfile::tempdir().unwrap();
    let payloads = folder(root.path());
    let (reference, data) = payload(b'c', 1);
    payloads.put(&reference, data.clone()).await.unwrap();
    let mut other = data.to_vec();
    other[7] ^= 1;
    std::fs::write(file_of(root.path(), &reference), other).unwrap();
    let error = payloads.get(&reference).await.unwrap_err();
    assert!(matches!(error, PayloadError::Damaged { .. }), "{error}");
    let pieces = payloads.stream(&reference).await.unwrap();
    let read: Result<Vec<Bytes>, PayloadError> = pieces.try_collect().await;
    assert!(
        matches!(read, Err(PayloadError::Damaged { .. })),
        "{read:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_writer_leaves_goes() {
    let root = tempfile::tempdir().unwrap();
    let payloads = folder(root.path());
    let (reference, data) = payload(b'd', 1);
    payloads.put(&reference, data).await.unwrap();
    let file = file_of(root.path(), &reference);
    let (old, young) = (file.with_extension("#1"), file.with_extension("#2"));
    for left in [&old, &young] {
        std::fs::write(left, b"half of").unwrap();
    }
    put_ago(&old, 2 * DAY);
    let swept = payloads.sweep(Sweep::Remove).await.unwrap();
    assert_eq!((swept.kept, swept.orphans), (1, 0));
    assert!(!old.exists() && young.exists() && file.exists());
}
