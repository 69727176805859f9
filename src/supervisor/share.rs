//! Shares of the processor: who stands back, and who is let in at once.
//!
//! Two processes that want one core at a time get it in turn by the kernel's scheduler (EEVDF). A greater nice value makes an
//! application server's part small while proxy and registrar want some. That alone does not bound how long these wait to begin:
//! who runs may finish the slice that it has been granted. A process whose own slices are shorter is let in at once, so those
//! of proxy and registrar are the shortest that there are.

use std::time::Duration;

/// The shortest slice that the kernel grants (sched(7): it takes 0.1 to 100 ms).
pub(super) const SHORTEST_SLICE: Duration = Duration::from_micros(100);

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
pub(super) fn take(nice: i32, slice: Option<Duration>) -> std::io::Result<()> {
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
            })
            .unwrap()
            .join()
            .unwrap();
    }
}
