//! What the kernel tells about a process: its processor time, its memory, its threads. By `/proc`, so Linux only.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result};

/// Of `/proc/PID/stat`: always 100 a second on Linux.
const TICK_S: f64 = 0.01;

/// Seconds of processor time.
#[derive(Clone, Copy, Default)]
pub(crate) struct Used {
    pub(crate) user_s: f64,
    pub(crate) system_s: f64,
}

impl Used {
    pub(crate) fn sum(self) -> f64 {
        self.user_s + self.system_s
    }

    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            user_s: self.user_s - before.user_s,
            system_s: self.system_s - before.system_s,
        }
    }
}

/// A line of `/proc/PID/status` in MiB.
pub(crate) fn status_mib(pid: u32, name: &str) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kib = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<f64>().ok())
        .with_context(|| format!("the kernel does not tell {name}"))?;
    Ok(kib / 1024.0)
}

/// What the process has used, threads that have ended included.
pub(crate) fn used(pid: u32) -> Result<Used> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    Ok(stat(&text).context("/proc/PID/stat is not as expected")?.1)
}

/// What its threads have used, by their names; of several with one name the second has `.2` behind it, and so on in
/// the order of their start.
pub(crate) fn threads(pid: u32) -> Result<BTreeMap<String, Used>> {
    let folder = Path::new("/proc").join(pid.to_string()).join("task");
    let mut ids: Vec<u32> = std::fs::read_dir(&folder)?
        .filter_map(|task| task.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    ids.sort_unstable();
    let mut counts = BTreeMap::<String, u32>::new();
    let mut threads = BTreeMap::new();
    for id in ids {
        // a thread may end while the list is read
        let Ok(text) = std::fs::read_to_string(folder.join(id.to_string()).join("stat")) else {
            continue;
        };
        let (name, used) = stat(&text).context("/proc/PID/task/TID/stat is not as expected")?;
        let count = counts.entry(name.clone()).or_default();
        *count += 1;
        let number = if *count == 1 {
            String::new()
        } else {
            format!(".{count}")
        };
        threads.insert(name + &number, used);
    }
    Ok(threads)
}

/// Name and processor time out of a `stat` file. The name may hold anything, blanks and brackets too.
fn stat(text: &str) -> Option<(String, Used)> {
    let (name, rest) = (text.find('(')?, text.rfind(')')?);
    let mut fields = text[rest + 1..].split_ascii_whitespace().skip(11);
    let mut seconds = || Some(fields.next()?.parse::<f64>().ok()? * TICK_S);
    let used = Used {
        user_s: seconds()?,
        system_s: seconds()?,
    };
    Some((text[name + 1..rest].to_owned(), used))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_file_is_read_past_a_strange_name() {
        let text = "7 (a) b() S 1 7 7 0 -1 4194560 2 0 0 0 150 25 0 0 20 0 1 0 9 1 1";
        let (name, used) = stat(text).unwrap();
        assert_eq!(name, "a) b(");
        assert_eq!((used.user_s, used.system_s), (1.5, 0.25));
        assert!(stat("7 (a").is_none());
    }
}
