//! A stopwatch for the measurements.

use std::time::{Duration, Instant};

/// Runs `work` and prints what each of `times` took: processor time, which a busy machine hardly changes, and time.
pub fn timed(what: &str, times: u64, work: impl FnOnce()) {
    #[expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]
    let now = Instant::now;
    let (cpu, start) = (processor_time(), now());
    work();
    let (cpu, wall) = (processor_time() - cpu, start.elapsed());
    let each = |time: Duration| time.as_nanos() / u128::from(times);
    println!("{what}: {} ns of processor time each, {} ns; {} ms in all", each(cpu), each(wall), wall.as_millis());
}

fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.try_into().expect("it is positive")
}
