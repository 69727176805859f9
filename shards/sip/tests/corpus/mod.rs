//! Messages to begin from, and what may happen to them.

/// RFC 4475's and RFC 5118's messages that exercise most of the grammar.
pub const SEEDS: &[&[u8]] = &[
    include_bytes!("../vectors/rfc4475/dat/wsinv.dat"),
    include_bytes!("../vectors/rfc4475/dat/intmeth.dat"),
    include_bytes!("../vectors/rfc4475/dat/esc01.dat"),
    include_bytes!("../vectors/rfc4475/dat/escnull.dat"),
    include_bytes!("../vectors/rfc4475/dat/lwsdisp.dat"),
    include_bytes!("../vectors/rfc4475/dat/longreq.dat"),
    include_bytes!("../vectors/rfc4475/dat/dblreq.dat"),
    include_bytes!("../vectors/rfc4475/dat/semiuri.dat"),
    include_bytes!("../vectors/rfc4475/dat/transports.dat"),
    include_bytes!("../vectors/rfc4475/dat/mpart01.dat"),
    include_bytes!("../vectors/rfc4475/dat/unreason.dat"),
    include_bytes!("../vectors/rfc4475/dat/noreason.dat"),
    include_bytes!("../vectors/rfc4475/dat/badinv01.dat"),
    include_bytes!("../vectors/rfc4475/dat/quotbal.dat"),
    include_bytes!("../vectors/rfc4475/dat/cparam01.dat"),
    include_bytes!("../vectors/rfc4475/dat/inv2543.dat"),
    include_bytes!("../vectors/rfc4475/dat/regescrt.dat"),
    include_bytes!("../vectors/rfc4475/dat/scalar02.dat"),
    include_bytes!("../vectors/rfc4475/dat/unksm2.dat"),
    include_bytes!("../vectors/rfc4475/dat/multi01.dat"),
    include_bytes!("../vectors/rfc5118/wire/mult-ip-in-header.dat"),
    include_bytes!("../vectors/rfc5118/wire/via-received-param-with-delim.dat"),
    include_bytes!("../vectors/rfc5118/wire/ipv4-mapped-ipv6.dat"),
    include_bytes!("../vectors/rfc3665/3.2_F4.msg"),
    include_bytes!("../vectors/rfc3665/3.2_F10.msg"),
];

/// Octets that mean something somewhere in the grammar.
const MEANINGFUL: &[u8] = b"\r\n \t:;,=<>\"\\/@?&[]%.0129aA*-+\0\x7f\x80\xff";

/// One accident. The numbers are taken modulo what they choose from, so any will do.
#[derive(Clone, Copy, Debug)]
pub struct Mutation {
    pub kind: u8,
    pub at: u16,
    pub what: u16,
}

impl Mutation {
    pub fn apply(self, octets: &mut Vec<u8>) {
        let Self { kind, at, what } = self;
        let at = usize::from(at) % (octets.len() + 1);
        let run = at..octets.len().min(at + 1 + usize::from(what % 40));
        match kind % 7 {
            0 if at < octets.len() => octets[at] ^= 1 << (what % 8),
            1 if at < octets.len() => octets[at] = MEANINGFUL[usize::from(what) % MEANINGFUL.len()],
            2 => octets.insert(at, MEANINGFUL[usize::from(what) % MEANINGFUL.len()]),
            3 => drop(octets.drain(run)),
            4 => {
                let again = octets[run.clone()].to_vec();
                octets.splice(run.end..run.end, again);
            }
            5 => {
                let seed = SEEDS[usize::from(what) % SEEDS.len()];
                let from = usize::from(what) * 31 % seed.len();
                octets.splice(at..at, seed[from..seed.len().min(from + 60)].iter().copied());
            }
            6 => octets.splice(at..at, *b"\r\n ").for_each(drop),
            _ => {}
        }
    }
}
