//! `weir dev` looks at what it applied: a graph, or a module or schema of it, that changes on disk is applied again within a second. What
//! cannot be applied is said, and the last good version goes on running. No event is lost: a graph's version changes between two triggers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use super::graph_files;
use crate::client::Client;
use crate::commands::apply;
use crate::logging::say;
use crate::output::Progress;

/// How often it looks: a handful of `stat`s.
const LOOK: Duration = Duration::from_millis(250);

/// What tells that a file has changed.
type Mark = Option<(SystemTime, u64)>;

/// The files behind each graph file, and how they looked when it was applied.
type Applied = BTreeMap<PathBuf, BTreeMap<PathBuf, Mark>>;

pub(super) struct Watch {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// `paths`: what the user named. What there is of it has been applied.
    pub(super) fn start(
        client: Client,
        paths: Vec<PathBuf>,
        progress: Progress,
    ) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let mut applied = Applied::new();
        for file in graph_files(&paths).unwrap_or_default() {
            applied.insert(file.clone(), marks(&file));
        }
        let thread = std::thread::Builder::new()
            .name("watch".into())
            .spawn(move || {
                while !stopped.load(Ordering::Acquire) {
                    std::thread::park_timeout(LOOK);
                    look(&client, &paths, &mut applied, progress);
                }
            })?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            drop(thread.join());
        }
    }
}

fn look(client: &Client, paths: &[PathBuf], applied: &mut Applied, progress: Progress) {
    // a path may be away for a moment, while an editor replaces it
    for file in graph_files(paths).unwrap_or_default() {
        let before = applied.get(&file);
        let unchanged = before.is_some_and(|files| {
            !files.is_empty() && files.iter().all(|(path, was)| mark(path) == *was)
        });
        if unchanged {
            continue;
        }
        // taken first: what changes while it is applied is seen at the next look
        let now = marks(&file);
        if before == Some(&now) {
            continue;
        }
        match apply::apply_file(client, &file, progress) {
            Ok(done) if done["changed"] == true => {
                let version = done["version"].as_str().unwrap_or_default();
                say(&format!(
                    "  graph  {} {} from {}, applied again",
                    done["name"].as_str().unwrap_or_default(),
                    version.get(..12).unwrap_or(version),
                    file.display()
                ));
            }
            Ok(_) => {}
            Err(error) => say(&format!(
                "{error:#}\n  {} is not applied; what was active goes on",
                file.display()
            )),
        }
        applied.insert(file, now);
    }
}

/// The graph's file and those that it names.
fn marks(file: &Path) -> BTreeMap<PathBuf, Mark> {
    let mut files = apply::files_of(file);
    files.push(file.to_owned());
    files
        .into_iter()
        .map(|path| {
            let mark = mark(&path);
            (path, mark)
        })
        .collect()
}

fn mark(path: &Path) -> Mark {
    let about = std::fs::metadata(path).ok()?;
    Some((about.modified().ok()?, about.len()))
}
