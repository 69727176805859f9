//! The clock.

use std::time::Duration;

/// The kernel's monotonic clock (clock_gettime(2)), the same one in all processes of a machine.
pub(crate) fn clock() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}
