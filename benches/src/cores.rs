//! Threads on cores of their own: what is shown of two is not to depend on where the scheduler puts them.

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use std::sync::LazyLock;

/// Those that the process may use.
static CORES: LazyLock<Vec<usize>> = LazyLock::new(|| {
    let set = sched_getaffinity(Pid::from_raw(0)).unwrap_or_default();
    (0..CpuSet::count()).filter(|&cpu| set.is_set(cpu).unwrap_or(false)).collect()
});

/// Keeps the calling thread, and those that it starts, to the `nth` core, counted from 0. Without so many
/// cores, or the right to, it runs where it did.
pub fn keep_to(nth: usize) {
    let mut set = CpuSet::new();
    if let Some(&cpu) = CORES.get(nth)
        && set.set(cpu).is_ok()
    {
        let _ = sched_setaffinity(Pid::from_raw(0), &set);
    }
}
