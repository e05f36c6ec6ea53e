//! The disk fills up while webhooks come in: 503, nothing acknowledged is lost, and all goes on when there is room again.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::http::{Http, deliver};
use crate::kill;
use crate::weir::{Start, Weir, file, guest, until};

/// A small disk of its own, in memory; gone with the value.
pub(crate) struct Disk(PathBuf);

impl Disk {
    pub(crate) fn new(at: &Path, mib: u32) -> Self {
        std::fs::create_dir_all(at).unwrap();
        let disk = Self(at.to_owned());
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "weir-test"])
            .arg(at)
            .status();
        assert!(
            mounted.is_ok_and(|status| status.success()),
            "this test needs a small disk: run it as root, or in `unshare --map-root-user --mount`"
        );
        disk
    }

    fn resize(&self, mib: u32) {
        let resized = Command::new("mount")
            .args(["-o", &format!("remount,size={mib}m")])
            .arg(&self.0)
            .status()
            .unwrap();
        assert!(resized.success());
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Takes all the room that there is.
    pub(crate) fn fill(&self) {
        let filled = Command::new("dd")
            .args(["if=/dev/zero", "bs=64k", "status=none"])
            .arg(format!("of={}", self.0.join("filler").display()))
            .output();
        // it ends because there is no room
        assert!(!filled.unwrap().status.success());
    }

    /// Gives back what `fill` took.
    pub(crate) fn empty(&self) {
        std::fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(&self.0).status().ok();
    }
}

#[test]
fn a_full_disk_refuses_and_loses_nothing() {
    let data = tempfile::tempdir().unwrap();
    let disk = Disk::new(&data.path().join("disk"), 40);
    let folder = disk.0.join("data");
    let text = format!(
        "weir: 1\nname: full\ntriggers:\n  hook: {{ webhook: {{ path: /full, verify: {{ scheme: github, secret: GITHUB_WEBHOOK_SECRET }} }} }}\nsteps:\n  copy: {{ uses: {}, from: [hook], isolation: batch }}\n",
        guest("copy").display()
    );
    let graphs = [file(data.path(), "full.yaml", &text)];
    let weir = Weir::start(&Start::new(&folder, &graphs));

    let body = format!("{{\"fill\":\"{}\"}}", "x".repeat(100_000));
    let mut acknowledged = HashMap::new();
    let mut http = Http::connect(weir.port).unwrap();
    let mut send = |id: &str| {
        let answer = deliver(
            &mut http,
            "/hooks/default/full",
            "push",
            id,
            body.as_bytes(),
        );
        if answer.is_err() {
            http = Http::connect(weir.port).unwrap();
        }
        answer.unwrap()
    };
    let refused = (0..2_000)
        .find_map(|number| {
            let id = format!("d-{number}");
            let answer = send(&id);
            if answer.status == 202 {
                acknowledged.insert(id, answer.json()["execution"].as_str().unwrap().to_owned());
                return None;
            }
            assert_eq!(answer.status, 503, "{}", answer.body);
            assert!(answer.header("retry-after").is_some());
            Some(id)
        })
        .expect("200 MB do not fit on a disk of 40 MiB");
    assert!(!acknowledged.is_empty());

    disk.resize(1_000);
    until("the refused delivery is taken", || {
        send(&refused).status == 202
    });
    acknowledged.insert(
        refused.clone(),
        send(&refused).json()["execution"]
            .as_str()
            .unwrap()
            .to_owned(),
    );
    until("all that was acknowledged has landed", || {
        kill::history(&folder).len() >= acknowledged.len()
    });
    weir.stop();
    let (rows, results) = (kill::history(&folder), kill::results(&folder));
    for (id, execution) in &acknowledged {
        assert_eq!(rows.get(execution), Some(&1), "{id}");
        assert_eq!(results.get(execution), Some(&1), "{id}");
    }
    assert_eq!(
        rows.len(),
        acknowledged.len(),
        "nothing that was refused has run"
    );
}
