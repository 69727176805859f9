//! What a call back has of its own in a run: the INVITE that asks for it is refused, then both parties are called and joined
//! (RFC 3725 §4.4). From then on it is a call like any other.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    time::Duration,
};

use super::{
    Begins,
    phone::End,
    run::{Run, Stage},
};

/// Where the parties of a call back want their media.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Media {
    /// On the loopback.
    Loopback,
    /// In the networks for documentation (RFC 5737), which are nobody's: the first party's at 198.51.100.N, the second's at
    /// 203.0.113.N, all N in turn and each with a port of its own for long.
    Documentation,
}

impl Media {
    /// Where one party wants it.
    pub fn address(self, ordinal: u64, end: End) -> SocketAddrV4 {
        let host = (ordinal % 254) as u8 + 1;
        let port = 1024 + 2 * (ordinal / 254 % 32_000) as u16;
        match (self, end) {
            (Self::Loopback, _) => SocketAddrV4::new(Ipv4Addr::LOCALHOST, 40_376),
            (Self::Documentation, End::Caller) => SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, host), port),
            (Self::Documentation, End::Callee) => SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, host), port),
        }
    }
}

impl Run<'_> {
    pub(super) fn calls_back(&self) -> bool {
        matches!(self.calls.begins, Begins::CalledBack(_))
    }

    /// The INVITE that asked has been refused, as it is to be. The parties may be joined already.
    pub(super) fn asked(&mut self, now: Duration, ordinal: u64) {
        let call = &mut self.table[ordinal as usize];
        call.stage = Stage::CallingBack;
        if call.is_answer_heard {
            self.talk(now, ordinal);
        }
    }

    /// The first party has heard what the second one answered: his 200 to a re-INVITE has its ACK.
    pub(super) fn joined(&mut self, now: Duration, ordinal: u64) {
        let call = &self.table[ordinal as usize];
        let is_asked = match call.stage {
            Stage::Calling | Stage::Proceeding => false,
            Stage::CallingBack => true,
            _ => return,
        };
        if !call.is_answer_heard && self.calls_back() {
            self.answered(now, ordinal);
            if is_asked {
                self.talk(now, ordinal);
            }
        }
    }

    /// It came to nothing, at a stage that is told by who has been called.
    pub(super) fn fail_to_join(&mut self, ordinal: u64, why: &str) {
        let call = &self.table[ordinal as usize];
        let awaited = match (&call.caller, &call.callee) {
            (None, _) => "the call of the first party",
            (_, None) => "the call of the second party",
            _ => "the joining",
        };
        self.fail(ordinal, format!("{why} in place of {awaited}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn what_impersonates_never_goes_to_a_party_whom_somebody_has() {
        let places: HashSet<_> = (0..100_000).map(|n| Media::Documentation.address(n, End::Caller)).collect();
        assert_eq!(places.len(), 100_000);
        assert!(places.iter().all(|place| place.ip().octets()[..3] == [198, 51, 100] && place.port() >= 1024));
        let second = Media::Documentation.address(254, End::Callee);
        assert_eq!(second, "203.0.113.1:1026".parse().expect("an address"));
    }
}
