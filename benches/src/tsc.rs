//! The time stamp counter: the unit in which a packet's cost is compared.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// The counter now. It runs at a constant rate, whatever the core's frequency.
#[inline]
pub fn now() -> u64 {
    #[cfg(target_arch = "x86_64")]
    {
        // SAFETY: reads a register, touches no memory; every x86-64 processor has it.
        unsafe { core::arch::x86_64::_rdtsc() }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        // Clocks are nanoseconds where there is no such counter.
        static START: OnceLock<Instant> = OnceLock::new();
        START.get_or_init(Instant::now).elapsed().as_nanos() as u64
    }
}

/// Clocks a nanosecond, measured once against the system's clock.
pub fn per_nanosecond() -> f64 {
    static RATE: OnceLock<f64> = OnceLock::new();
    *RATE.get_or_init(|| {
        let (start, clocks) = (Instant::now(), now());
        while start.elapsed() < Duration::from_millis(100) {
            std::hint::spin_loop();
        }
        (now() - clocks) as f64 / start.elapsed().as_nanos() as f64
    })
}

/// A number of clocks as time.
pub fn duration(clocks: u64) -> Duration {
    Duration::from_nanos((clocks as f64 / per_nanosecond()) as u64)
}
