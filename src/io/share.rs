//! Shares of the processor: who stands back, and who is let in at once.
//!
//! Threads that want one core at a time get it in turn by the kernel's scheduler (EEVDF). A greater nice value makes the part
//! small of shards that run scripts, while proxy and registrar want some. It is those threads' alone: others wait for a clerk,
//! and it computes no scripts.
//!
//! Who runs may finish the slice that it has been granted, unless a thread with a shorter one wakes (kernel 6.12 or later). So the slices
//! of our threads are the shortest that there are, and those of threads that stand back are longer than these. But who
//! has just had more than his part is not let in before the next tick (4 ms at 250 Hz), and a clerk that
//! sleeps and wakes for each commit often has. So a shard whose scripts compute without a pause offers the processor after each of
//! their slices ([`offer`]).

use std::time::Duration;

/// The shortest slice that the kernel grants (sched(7): it takes 0.1 to 100 ms).
const SHORTEST_SLICE: Duration = Duration::from_micros(100);

/// The slice of those that stand back: longer, so that the others need not wait for its end.
const LONGER_SLICE: Duration = Duration::from_micros(400);

/// The first version of what sched_setattr(2) reads.
#[repr(C)]
struct Attributes {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

/// Has the calling thread, and those that it starts, let in at once beside threads of the same nice value, and adds `nice` to its
/// own. Where the system does not grant that, it waits its turn. A kernel before 6.12 knows no slices and leaves them as they
/// are.
pub(crate) fn be_let_in(nice: u8) {
    let own = rustix::process::getpriority_process(None).map_err(std::io::Error::from);
    let slice = if nice > 0 { LONGER_SLICE } else { SHORTEST_SLICE };
    if let Err(error) = own.and_then(|own| take((own + i32::from(nice)).min(19), slice)) {
        tracing::warn!(%error, "a thread may have to wait for the processor: sched_setattr(2) fails");
    }
}

fn take(nice: i32, slice: Duration) -> std::io::Result<()> {
    let attributes = Attributes {
        size: size_of::<Attributes>() as u32,
        policy: libc::SCHED_OTHER as u32,
        flags: 0,
        nice,
        priority: 0,
        runtime: slice.as_nanos() as u64,
        deadline: 0,
        period: 0,
    };
    // SAFETY: the kernel reads `size` octets of a structure that has them.
    match unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// Lets threads begin that wait for this processor. What the calling one gives away by it is one slice of its own at most.
pub(crate) fn offer() {
    rustix::thread::sched_yield();
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nice value and slice of the calling thread; a kernel before 6.12 tells no slice.
    fn granted() -> (i32, u64) {
        let mut told: Attributes =
            Attributes { size: 0, policy: 0, flags: 0, nice: 0, priority: 0, runtime: 0, deadline: 0, period: 0 };
        let size = size_of::<Attributes>();
        // SAFETY: the kernel writes at most `size` octets of a structure that has them.
        assert_eq!(unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut told, size, 0) }, 0);
        (told.nice, told.runtime)
    }

    #[test]
    fn a_thread_is_let_in_or_stands_back_and_those_that_it_starts_too() {
        std::thread::Builder::new()
            .spawn(|| {
                let (before, _) = granted();
                be_let_in(0);
                let (nice, shortest) = granted();
                assert_eq!(nice, before);
                assert!([0, SHORTEST_SLICE.as_nanos() as u64].contains(&shortest), "{shortest} ns");
                be_let_in(7);
                let (nice, slice) = granted();
                assert_eq!(nice, (before + 7).min(19));
                assert!([0, LONGER_SLICE.as_nanos() as u64].contains(&slice), "{slice} ns");
                let child = std::thread::Builder::new().spawn(granted).unwrap();
                assert_eq!(child.join().unwrap(), (nice, slice));
            })
            .unwrap()
            .join()
            .unwrap();
    }
}
