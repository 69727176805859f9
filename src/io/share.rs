//! Shares of the processor: who stands back, and who is let in at once.
//!
//! Two processes that want one core at a time get it in turn by the kernel's scheduler (EEVDF). A greater nice value makes an
//! application server's part small while proxy and registrar want some. That alone does not bound how long these wait to begin:
//! who runs may finish the slice that it has been granted. A thread whose own slices are shorter is let in at once. So those of
//! proxy and registrar are the shortest that there are, and so are those of every clerk: what waits for a journal waits for its
//! thread to begin. But who has just had more than his part is not let in before the next tick (4 ms at 250 Hz), and a clerk that
//! sleeps and wakes several times for one commit often has. So a shard whose scripts compute without a pause offers the
//! processor after each of their slices ([`offer`]).

use std::time::Duration;

/// The shortest slice that the kernel grants (sched(7): it takes 0.1 to 100 ms).
pub(crate) const SHORTEST_SLICE: Duration = Duration::from_micros(100);

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

/// Gives the calling thread, and those that it starts, a nice value and slices of that length. It makes one system call and
/// nothing else. A kernel before 6.12 knows no slices and leaves them as they are.
pub(crate) fn take(nice: i32, slice: Option<Duration>) -> std::io::Result<()> {
    let attributes = Attributes {
        size: size_of::<Attributes>() as u32,
        policy: libc::SCHED_OTHER as u32,
        flags: 0,
        nice,
        priority: 0,
        runtime: slice.map_or(0, |slice| slice.as_nanos() as u64),
        deadline: 0,
        period: 0,
    };
    // SAFETY: the kernel reads `size` octets of a structure that has them.
    match unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// Has the calling thread let in at once, beside threads of the same nice value, which it keeps. Where the system does not
/// grant that, it waits its turn.
pub(crate) fn be_let_in() {
    let nice = rustix::process::getpriority_process(None).map_err(Into::into);
    if let Err(error) = nice.and_then(|nice| take(nice, Some(SHORTEST_SLICE))) {
        tracing::warn!(%error, "a thread may have to wait for the processor: sched_setattr(2) fails");
    }
}

/// Lets threads begin that wait for this processor. What the calling one gives away by it is one slice of its own at most.
pub(crate) fn offer() {
    rustix::thread::sched_yield();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_stands_back_and_those_that_it_starts_too() {
        let nice = || rustix::process::getpriority_process(None).expect("one's own");
        std::thread::Builder::new()
            .spawn(move || {
                take(7, Some(SHORTEST_SLICE)).unwrap();
                assert_eq!(nice(), 7);
                let child = std::thread::Builder::new().spawn(nice).unwrap();
                assert_eq!(child.join().unwrap(), 7);
                be_let_in();
                assert_eq!(nice(), 7);
            })
            .unwrap()
            .join()
            .unwrap();
    }
}
