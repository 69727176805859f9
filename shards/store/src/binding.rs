//! One binding of an address-of-record to a contact (RFC 3261 §10), as the table and the journal keep it.
//!
//! Packed, a typical binding takes some 130 octets: a flag octet, which says what is there, the numbers, the strings.

use crate::packed::{Malformed, Reader, put_number, put_octets};
use sip::Transport;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// A binding. Read, it borrows from the record; written, from whatever it is made of: the request, the record before.
///
/// An empty slice says that there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding<'a> {
    /// The contact's URI, octet for octet as it was received, without angle brackets.
    pub contact: &'a [u8],
    /// The contact's other header parameters, as received, to be given back: all but `q` and `expires`.
    pub params: &'a [u8],
    /// Preference in thousandths (§20.10); 1000 where the contact gave none. More is cut to 1000.
    pub q: u16,
    /// When it was last registered, in seconds since the Unix epoch.
    pub registered_at: u64,
    /// The second since the Unix epoch from which on it is gone.
    pub expires_at: u64,
    /// Call-ID of the REGISTER that made or last refreshed it (§10.3 step 7).
    pub call_id: &'a [u8],
    /// CSeq number of that REGISTER.
    pub cseq: u32,
    /// Its User-Agent. A record keeps the first [`Self::MAX_USER_AGENT_OCTETS`].
    pub user_agent: &'a [u8],
    /// The flow it came on.
    pub source: Source,
    /// Value of the Path header (RFC 3327); several rows are joined by commas, in their order (RFC 3261 §7.3.1). It is
    /// the Route of a request to this contact.
    pub path: &'a [u8],
    /// `+sip.instance` of the contact (RFC 5626 §4.1), as received.
    pub instance: &'a [u8],
    /// `reg-id` of the contact (RFC 5626 §4.2).
    pub reg_id: Option<u32>,
    /// `methods` of the contact (RFC 3840), as received.
    pub methods: &'a [u8],
}

/// Where a REGISTER came from: the flow, in plain numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// Index of the listener.
    pub listener: u16,
    /// What runs between.
    pub transport: Transport,
    /// The far end as we saw it. An IPv6 flow label is not kept.
    pub peer: SocketAddr,
    /// The connection, on stream transports.
    pub connection: Option<Connection>,
}

/// A stream connection. The record outlives the process, the connection does not: `run` says whose numbers these are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// A number which the process chose at its start; of another run's connection nothing is left.
    pub run: u32,
    /// The shard that owns it.
    pub shard: u16,
    /// Its slot there.
    pub slot: u32,
    /// Tells the users of one slot apart.
    pub generation: u32,
}

const IPV6: u8 = 1;
const CONNECTION: u8 = 1 << 1;
const Q: u8 = 1 << 2;
const REG_ID: u8 = 1 << 3;
const PARAMS: u8 = 1 << 4;
const PATH: u8 = 1 << 5;
const INSTANCE: u8 = 1 << 6;
const METHODS: u8 = 1 << 7;

/// Preference where none is given.
const Q_MAX: u16 = 1000;

/// A transport's number on disk is its place here; never reorder.
const TRANSPORTS: [Transport; 5] = [Transport::Udp, Transport::Tcp, Transport::Tls, Transport::Ws, Transport::Wss];

impl<'a> Binding<'a> {
    /// Octets of a User-Agent which a record keeps; it only informs, so a longer one is cut.
    pub const MAX_USER_AGENT_OCTETS: usize = 128;

    /// Whether it still holds at `now`, in seconds since the Unix epoch.
    pub fn is_live(&self, now: u64) -> bool {
        now < self.expires_at
    }

    pub(crate) fn pack(&self, out: &mut Vec<u8>) {
        let Source { listener, transport, peer, connection } = self.source;
        let q = self.q.min(Q_MAX);
        let optional = [(PARAMS, self.params), (PATH, self.path), (INSTANCE, self.instance), (METHODS, self.methods)];
        let mut flags = 0;
        for (flag, holds) in [
            (IPV6, peer.is_ipv6()),
            (CONNECTION, connection.is_some()),
            (Q, q != Q_MAX),
            (REG_ID, self.reg_id.is_some()),
        ] {
            flags |= if holds { flag } else { 0 };
        }
        for (flag, octets) in optional {
            flags |= if octets.is_empty() { 0 } else { flag };
        }
        out.push(flags);
        put_number(out, self.registered_at);
        // The difference is short; wrapping keeps any two numbers as they are.
        put_number(out, self.expires_at.wrapping_sub(self.registered_at));
        put_number(out, self.cseq.into());
        let place = TRANSPORTS.iter().position(|&t| t == transport).expect("all transports are listed");
        out.push(place as u8);
        put_number(out, listener.into());
        out.extend_from_slice(&peer.port().to_le_bytes());
        match peer {
            SocketAddr::V4(peer) => out.extend_from_slice(&peer.ip().octets()),
            SocketAddr::V6(peer) => {
                out.extend_from_slice(&peer.ip().octets());
                // A link-local peer is reached only over its interface.
                put_number(out, peer.scope_id().into());
            }
        }
        if let Some(Connection { run, shard, slot, generation }) = connection {
            for number in [run, shard.into(), slot, generation] {
                put_number(out, number.into());
            }
        }
        if flags & Q != 0 {
            put_number(out, q.into());
        }
        if let Some(reg_id) = self.reg_id {
            put_number(out, reg_id.into());
        }
        put_octets(out, self.contact);
        put_octets(out, self.call_id);
        put_octets(out, &self.user_agent[..self.user_agent.len().min(Self::MAX_USER_AGENT_OCTETS)]);
        for (_, octets) in optional.into_iter().filter(|(_, octets)| !octets.is_empty()) {
            put_octets(out, octets);
        }
    }

    pub(crate) fn unpack(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        let flags = reader.octet()?;
        let registered_at: u64 = reader.number()?;
        let expires_at = registered_at.wrapping_add(reader.number()?);
        let cseq = reader.number()?;
        let transport = *TRANSPORTS.get(usize::from(reader.octet()?)).ok_or(Malformed::Transport)?;
        let listener = reader.number()?;
        let port = u16::from_le_bytes(reader.array()?);
        let peer = if flags & IPV6 == 0 {
            SocketAddr::new(IpAddr::V4(Ipv4Addr::from(reader.array::<4>()?)), port)
        } else {
            let address = Ipv6Addr::from(reader.array::<16>()?);
            SocketAddr::V6(SocketAddrV6::new(address, port, 0, reader.number()?))
        };
        let connection = if flags & CONNECTION == 0 {
            None
        } else {
            Some(Connection {
                run: reader.number()?,
                shard: reader.number()?,
                slot: reader.number()?,
                generation: reader.number()?,
            })
        };
        let q = if flags & Q == 0 { Q_MAX } else { reader.number()? };
        if q > Q_MAX {
            return Err(Malformed::Q);
        }
        let reg_id = if flags & REG_ID == 0 { None } else { Some(reader.number()?) };
        let contact = reader.octets()?;
        let call_id = reader.octets()?;
        let user_agent = reader.octets()?;
        if user_agent.len() > Self::MAX_USER_AGENT_OCTETS {
            return Err(Malformed::UserAgent);
        }
        let mut optional = |flag| if flags & flag == 0 { Ok(&[][..]) } else { reader.octets() };
        Ok(Self {
            contact,
            params: optional(PARAMS)?,
            q,
            registered_at,
            expires_at,
            call_id,
            cseq,
            user_agent,
            source: Source { listener, transport, peer, connection },
            path: optional(PATH)?,
            instance: optional(INSTANCE)?,
            reg_id,
            methods: optional(METHODS)?,
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    /// What a desk phone registers.
    pub(crate) fn typical() -> Binding<'static> {
        Binding {
            contact: b"sip:alice1234@192.168.100.27:49152;line=a1b2c3",
            params: b"",
            q: 1000,
            registered_at: 1_800_000_000,
            expires_at: 1_800_003_600,
            call_id: b"3848276298220188511@192.168.100.27:49152",
            cseq: 4711,
            user_agent: b"Yealink T46S 66.85.0",
            source: Source {
                listener: 0,
                transport: Transport::Udp,
                peer: "203.0.113.77:49152".parse().unwrap(),
                connection: None,
            },
            path: b"",
            instance: b"",
            reg_id: None,
            methods: b"",
        }
    }

    #[test]
    fn every_field_comes_back() {
        let full = Binding {
            params: b";+sip.ice;foo=\"bar\"",
            q: 250,
            source: Source {
                listener: 300,
                transport: Transport::Wss,
                peer: SocketAddr::V6(SocketAddrV6::new("fe80::1".parse().unwrap(), 5061, 0, 3)),
                connection: Some(Connection { run: u32::MAX, shard: 7, slot: 70_000, generation: 1 }),
            },
            path: b"<sip:edge1.example.com;lr>,<sip:edge2.example.com;lr>",
            instance: b"<urn:uuid:00000000-0000-1000-8000-000A95A0E128>",
            reg_id: Some(2),
            methods: b"\"INVITE, ACK, BYE\"",
            ..typical()
        };
        for binding in [typical(), full] {
            let mut packed = Vec::new();
            binding.pack(&mut packed);
            let mut reader = Reader(&packed);
            assert_eq!(Binding::unpack(&mut reader), Ok(binding));
            assert!(reader.0.is_empty());
        }
    }

    #[test]
    fn a_long_user_agent_is_cut_and_a_q_above_one_is_one() {
        let mut packed = Vec::new();
        Binding { user_agent: &[b'x'; 200], q: 5000, ..typical() }.pack(&mut packed);
        let read = Binding::unpack(&mut Reader(&packed)).unwrap();
        assert_eq!((read.user_agent.len(), read.q), (Binding::MAX_USER_AGENT_OCTETS, 1000));
    }

    #[test]
    fn an_unknown_transport_is_refused() {
        let mut packed = Vec::new();
        let binding = Binding { registered_at: 0, expires_at: 0, cseq: 0, ..typical() };
        binding.pack(&mut packed);
        packed[4] = 5;
        assert_eq!(Binding::unpack(&mut Reader(&packed)), Err(Malformed::Transport));
    }

    proptest! {
        #[test]
        fn any_numbers_and_octets_come_back(
            (q, registered_at, expires_at, cseq, reg_id) in (0..=1000u16, any::<u64>(), any::<u64>(), any::<u32>(), any::<Option<u32>>()),
            (listener, transport, ip, port) in (any::<u16>(), 0..5usize, any::<IpAddr>(), any::<u16>()),
            connection in any::<Option<(u32, u16, u32, u32)>>(),
            strings in vec(vec(any::<u8>(), 0..200), 7),
        ) {
            let [contact, params, call_id, user_agent, path, instance, methods] = [0, 1, 2, 3, 4, 5, 6].map(|n| &strings[n][..]);
            let connection = connection
                .map(|(run, shard, slot, generation)| Connection { run, shard, slot, generation });
            let source = Source { listener, transport: TRANSPORTS[transport], peer: SocketAddr::new(ip, port), connection };
            let user_agent = &user_agent[..user_agent.len().min(Binding::MAX_USER_AGENT_OCTETS)];
            let binding = Binding {
                contact, params, q, registered_at, expires_at, call_id, cseq, user_agent, source, path, instance, reg_id, methods,
            };
            let mut packed = Vec::new();
            binding.pack(&mut packed);
            prop_assert_eq!(Binding::unpack(&mut Reader(&packed)), Ok(binding));
        }

        #[test]
        fn any_octets_are_a_binding_or_an_error(octets: Vec<u8>) {
            let _ = Binding::unpack(&mut Reader(&octets));
        }
    }
}
