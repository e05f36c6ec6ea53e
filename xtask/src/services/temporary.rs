//! Servers that end with the process that started them, also by a panic or `kill -9`.
//!
//! `Folder` starts a shell that waits for the end of a pipe which only this process holds; then it kills what the
//! folder's `pid` files name and removes the folder. A server notes its pid before it becomes itself, so that none is
//! missed; a stopped (frozen) one is killed as well.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::{Context, Result, ensure};

/// A folder with servers in it, one in each folder below.
pub(super) struct Folder {
    path: PathBuf,
    shell: Child,
    /// Dropped before the shell is waited for.
    pipe: Option<ChildStdin>,
}

impl Folder {
    pub(super) fn new(path: PathBuf) -> Result<Self> {
        std::fs::create_dir_all(&path).with_context(|| format!("making {}", path.display()))?;
        let script = r#"cat >/dev/null
for noted in "$1"/*/pid; do [ -e "$noted" ] && kill -9 "$(cat "$noted")"; done 2>/dev/null
for try in 1 2 3 4 5; do rm -rf "$1" 2>/dev/null && exit; sleep 0.3; done"#;
        let mut shell = Command::new("sh");
        shell.args(["-c", script, "sh"]).arg(&path);
        shell
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        // its own process group: Ctrl-C must not end it before its work
        std::os::unix::process::CommandExt::process_group(&mut shell, 0);
        let mut shell = shell.spawn().context("running sh")?;
        let pipe = shell.stdin.take();
        Ok(Self { path, shell, pipe })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(self.pipe.take());
        if let Err(error) = self.shell.wait() {
            eprintln!("waiting for the end of {}: {error}", self.path.display());
        }
    }
}

/// One server in a `Folder`.
pub(super) struct Server {
    child: Child,
    folder: PathBuf,
}

impl Server {
    /// Starts it; what it says goes to `log` in its folder, and what an earlier one said to `log.before`.
    pub(super) fn start(folder: &Path, command: &[String]) -> Result<Self> {
        let log = folder.join("log");
        if log.exists() {
            std::fs::rename(&log, folder.join("log.before"))?;
        }
        let log = File::create(&log).with_context(|| format!("making {}", log.display()))?;
        let mut sh = Command::new("sh");
        sh.args(["-c", r#"echo $$ >"$1" || exit; shift; exec "$@""#, "sh"])
            .arg(folder.join("pid"))
            .args(command);
        sh.current_dir("/")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        std::os::unix::process::CommandExt::process_group(&mut sh, 0);
        let child = sh.spawn().context("running sh")?;
        Ok(Self {
            child,
            folder: folder.to_path_buf(),
        })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// kill -9, and waits until it is gone.
    pub(super) fn kill(&mut self) -> Result<()> {
        // the number may soon be somebody else's
        std::fs::remove_file(self.folder.join("pid")).ok();
        self.child.kill().context("killing a server")?;
        self.child.wait().context("waiting for a server's end")?;
        Ok(())
    }

    /// Sends a signal by its name, as `kill` takes it.
    pub(super) fn signal(&self, name: &str) -> Result<()> {
        let sent = Command::new("kill")
            .args([name, &self.pid().to_string()])
            .status()
            .context("running kill")?;
        ensure!(sent.success(), "kill {name} {} failed", self.pid());
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            eprintln!("{error:#}");
        }
    }
}
