//! What a process has cost.

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on has failed")]

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use wait4::Wait4 as _;

/// What a run has cost.
#[derive(Clone, Copy)]
pub struct Cost {
    /// From its start to its end.
    pub wall: Duration,
    /// Of all its threads, in user and kernel mode.
    #[allow(dead_code, reason = "one benchmark's figure")]
    pub cpu: Duration,
    /// Peak memory in bytes.
    pub memory: u64,
}

/// Runs a process to its end, which must be a good one.
///
/// Its peak memory is what the kernel tells of the process itself while it runs (`VmHWM`, looked at every five
/// milliseconds). What `wait4` tells afterwards counts the memory of the process that has started it, too.
pub fn run(mut command: Command) -> Cost {
    let begun = Instant::now();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let (peak, over) = (AtomicU64::new(0), AtomicBool::new(false));
    let used = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let text = std::fs::read_to_string(&status).unwrap_or_default();
                // Until it has become the other program, it is a copy of this one.
                if !text.starts_with(&format!("Name:\t{}\n", own_name())) {
                    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
                    let number = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
                    peak.fetch_max(number.unwrap_or_default() * 1024, Ordering::Relaxed);
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let used = child.wait4().unwrap();
        over.store(true, Ordering::Relaxed);
        used
    });
    assert!(used.status.success(), "{command:?}: {:?}", used.status);
    let cpu = used.rusage.utime + used.rusage.stime;
    Cost { wall: begun.elapsed(), cpu, memory: peak.into_inner() }
}

fn own_name() -> String {
    std::fs::read_to_string("/proc/self/comm").unwrap().trim_end().to_owned()
}
