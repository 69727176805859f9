//! What the kernel lets a process do beyond its user's rights (capabilities(7)), and how it is given up for good.
//!
//! They belong to threads: what gives them up does so before it starts another one. Afterwards no program that is executed has
//! them either, whoever's it is and whatever its file says.

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{
    CapabilitiesSecureBits, CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_capabilities_secure_bits, set_no_new_privs,
};
use std::io;

/// Whether the calling thread has `wanted` in effect.
pub fn has(wanted: CapabilitySet) -> bool {
    capabilities(None).is_ok_and(|sets| sets.effective.contains(wanted))
}

/// Leaves the calling thread `permitted`, of which `effective` is in effect, and no way back to what it had. A program that it executes has
/// none.
///
/// Without CAP_SETPCAP the bounding set and the secure bits stay as they are; no_new_privs alone then keeps what is executed from
/// gaining anything.
///
/// # Errors
/// The kernel refuses, which it has no reason to as long as the thread has all of `permitted`.
pub fn keep(permitted: CapabilitySet, effective: CapabilitySet) -> io::Result<()> {
    set_no_new_privs(true)?;
    clear_ambient_capability_set()?;
    if has(CapabilitySet::SETPCAP) {
        for number in 0..64 {
            match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << number)) {
                // It is no capability of this kernel's.
                Err(Errno::INVAL) => break,
                removed => removed?,
            }
        }
        use CapabilitiesSecureBits as Bits;
        set_capabilities_secure_bits(
            // A program of root's gets none by that, and changing the user brings none back.
            Bits::NO_ROOT
                | Bits::NO_ROOT_LOCKED
                | Bits::NO_SETUID_FIXUP
                | Bits::NO_SETUID_FIXUP_LOCKED
                | Bits::KEEP_CAPS_LOCKED
                | Bits::NO_CAP_AMBIENT_RAISE
                | Bits::NO_CAP_AMBIENT_RAISE_LOCKED,
        )?;
    }
    set_capabilities(None, CapabilitySets { effective, permitted, inheritable: CapabilitySet::empty() })?;
    Ok(())
}

/// Leaves the calling thread none. What they could do for the switch is done before: as much memory may be locked, for its rings, as ever.
///
/// # Errors
/// As those of [`keep`].
pub fn give_up() -> io::Result<()> {
    let limit = getrlimit(Resource::Memlock);
    let endless = Rlimit { current: None, maximum: None };
    if setrlimit(Resource::Memlock, endless).is_err() {
        // What is too little the first ring tells.
        let _ = setrlimit(Resource::Memlock, Rlimit { current: limit.maximum, ..limit });
    }
    keep(CapabilitySet::empty(), CapabilitySet::empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// Runs `then` on a thread of its own, which no other shares its capabilities with.
    fn apart(then: impl FnOnce() + Send) {
        std::thread::scope(|scope| scope.spawn(then).join().unwrap());
    }

    #[test]
    fn what_was_given_up_does_not_come_back_by_a_program_that_is_executed() {
        apart(|| {
            let before = capabilities(None).unwrap();
            keep(CapabilitySet::empty(), CapabilitySet::empty()).unwrap();
            assert_eq!(capabilities(None).unwrap().permitted, CapabilitySet::empty());
            let again = CapabilitySets { inheritable: CapabilitySet::empty(), ..before };
            assert!(before.permitted.is_empty() || set_capabilities(None, again).is_err());
            let status = Command::new("cat").arg("/proc/self/status").output().unwrap().stdout;
            let status = String::from_utf8(status).unwrap();
            for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
                assert!(status.contains(&format!("{set}:\t0000000000000000")), "{status}");
            }
            assert!(status.contains("NoNewPrivs:\t1"), "{status}");
            assert!(!before.permitted.contains(CapabilitySet::SETPCAP) || status.contains("CapBnd:\t0000000000000000"));
        });
    }
}
