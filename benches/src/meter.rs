//! Processor time and how it is made into a number per call. On a shared machine processor time says more than the wall's.

use std::time::Duration;

/// Long enough that a context switch does not show.
const ROUND: Duration = Duration::from_millis(50);
/// Calls between two looks at the clock.
const CALLS: u64 = 200;

/// Processor time of this thread.
pub(crate) fn thread_cpu() -> Duration {
    clock(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// Processor time of this process.
pub(crate) fn process_cpu() -> Duration {
    clock(libc::CLOCK_PROCESS_CPUTIME_ID)
}

#[expect(
    unsafe_code,
    reason = "the kernel's clock of one thread has no safe name in std"
)]
fn clock(id: libc::clockid_t) -> Duration {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the call writes to the one struct that it is given, and nothing else.
    let outcome = unsafe { libc::clock_gettime(id, &mut now) };
    assert_eq!(outcome, 0, "Linux has this clock");
    Duration::new(
        now.tv_sec.unsigned_abs(),
        u32::try_from(now.tv_nsec).unwrap_or_default(),
    )
}

/// µs of this thread per call, over one round.
pub(crate) fn round_us(mut call: impl FnMut()) -> f64 {
    let (started, mut calls) = (thread_cpu(), 0);
    loop {
        for _ in 0..CALLS {
            call();
        }
        calls += CALLS;
        let used = thread_cpu() - started;
        if used >= ROUND {
            return used.as_secs_f64() * 1e6 / calls as f64;
        }
    }
}

/// µs of this thread per call, over so many.
pub(crate) fn round_of(calls: u64, mut call: impl FnMut()) -> f64 {
    let started = thread_cpu();
    for _ in 0..calls {
        call();
    }
    (thread_cpu() - started).as_secs_f64() * 1e6 / calls as f64
}

/// The middle one.
pub(crate) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The three load averages, in words, with the number of processors.
pub(crate) fn load() -> String {
    let averages = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let averages: Vec<&str> = averages.split(' ').take(3).collect();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{cores} cores, load average {}", averages.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), 2.0);
        assert!(median(&mut []).is_nan());
    }

    #[test]
    fn work_takes_time() {
        let before = (thread_cpu(), process_cpu());
        assert!(
            round_us(|| {
                std::hint::black_box((0..1_000).sum::<u64>());
            }) > 0.0
        );
        assert!(thread_cpu() - before.0 >= ROUND && process_cpu() > before.1);
    }
}
