//! An answered call as the journal keeps it, so that it outlives its process.
//!
//! ```text
//! version       u8, 3
//! flags         u8: mangle, may end (a time follows); what becomes of a REFER in two bits; whether we called the near side too
//! ends at       u64, milliseconds since the Unix epoch, if it may end
//! far leg       u8
//! user          length u16, octets
//! near, far     number of the leg u16; dialog: length u16, octets; way; session timer: interval u32, 0 for none, and whether we refresh u8;
//!               u8: whether UPDATE is allowed, whether the peer has left, whether the first description was ours; our description
//!               of the session that refreshes repeat: length u16, 0 for none, octets; session and version of ours 2 u64, if it was;
//!               times of the leg 3 u64; its texts 7 times length u16, octets
//! ```
//!
//! Numbers are little endian. What cannot be read is no call: the CDR of such a one is lost, and nothing else.

use crate::{
    bridge::{Bridge, End},
    call::Setup,
    cdr::{Facts, Texts},
    established::{Established, State},
    mint::parse_tag,
    origin::Origin,
    shared::Context,
};
use agent::{Flow, ListenerId, Now, Way};
use dialog::{Dialog, DialogState, SessionTimer};
use dialplan::Refer;
use sip::Transport;
use std::{
    net::{IpAddr, SocketAddr},
    rc::Rc,
    time::Duration,
};
use store::{KeptCall, LegDirection, Providers};

const VERSION: u8 = 3;

/// The versions before had no session of ours, which none of their flags says, or no session at all. A newer program takes up the calls
/// of an older one.
const WITHOUT_ORIGIN: u8 = 2;
const WITHOUT_SESSION: u8 = 1;

const MANGLES: u8 = 1;
const MAY_END: u8 = 2;
const REFER_SHIFT: u8 = 2;
const REFER_MASK: u8 = 0b11;
const CALLED_BOTH: u8 = 16;

const ALLOWS_UPDATE: u8 = 1;
/// His call goes on without him, for a transfer that he has asked for.
const HAS_LEFT: u8 = 2;
const HAS_ORIGIN: u8 = 4;

/// A transport's number in a record is its place here; never reorder.
const TRANSPORTS: [Transport; 5] = [Transport::Udp, Transport::Tcp, Transport::Tls, Transport::Ws, Transport::Wss];
const REFERS: [Refer; 3] = [Refer::Refuse, Refer::Pass, Refer::Place];

/// What a record says of one side.
struct SideRecord<'a> {
    end: &'a End,
    facts: &'a Facts,
}

impl Setup {
    /// The record of the call that this leg's answer makes.
    pub fn record(&self, ctx: &Context<'_, '_>, bridge: usize) -> Vec<u8> {
        let early = &self.bridges[bridge];
        let leg = &self.legs[usize::from(early.leg)];
        let far_facts = leg.facts.as_ref().expect("the leg was called, and its record is not written yet");
        let ends_in = self.longest_secs(ctx, early.leg).map(|secs| Duration::from_secs(secs.into()));
        let ends_at = ends_in.map(|longest| (ctx.now.unix + longest).as_millis() as u64);
        let sides = [
            SideRecord { end: &early.bridge.near, facts: &self.caller.facts },
            SideRecord { end: &early.bridge.far, facts: far_facts },
        ];
        encode(&early.bridge, ends_at, early.leg, self.caller.user.as_deref(), sides)
    }
}

impl Established {
    /// Its record as it is now.
    pub fn record(&self, now: Now) -> Vec<u8> {
        let ends_in = self.until.map(|until| until.saturating_sub(now.monotonic));
        let ends_at = ends_in.map(|left| (now.unix + left).as_millis() as u64);
        let sides = [
            SideRecord { end: &self.bridge.near, facts: &self.near_facts },
            SideRecord { end: &self.bridge.far, facts: &self.far_facts },
        ];
        encode(&self.bridge, ends_at, self.far_leg, self.user.as_deref(), sides)
    }

    /// The call of a record, with the providers that it goes through, and the tags by which it is found. None where the record cannot be read.
    pub fn restore(now: Now, kept: &KeptCall, providers: &Providers, seed: u64) -> Option<(Self, [u64; 2])> {
        let mut rest = &*kept.octets;
        let rest = &mut rest;
        let version = byte(rest)?;
        if !matches!(version, VERSION | WITHOUT_ORIGIN | WITHOUT_SESSION) {
            return None;
        }
        let flags = byte(rest)?;
        let ends_at = if flags & MAY_END != 0 { Some(number(rest)?) } else { None };
        let far_leg = byte(rest)?;
        let user = text(rest)?;
        let direction = if flags & CALLED_BOTH != 0 { LegDirection::Out } else { LegDirection::In };
        let (mut near, near_facts) = side(rest, version, now, direction, seed)?;
        let (mut far, far_facts) = side(rest, version, now, LegDirection::Out, seed.rotate_left(32))?;
        if !rest.is_empty() {
            return None;
        }
        for (end, facts) in [(&mut near, &near_facts), (&mut far, &far_facts)] {
            let Texts { user, provider, .. } = facts.texts();
            end.provider = providers.find(user, provider).filter(|_| !provider.is_empty());
        }
        let tags = [parse_tag(near.dialog.local_tag())?, parse_tag(far.dialog.local_tag())?];
        let refer = *REFERS.get(usize::from(flags >> REFER_SHIFT & REFER_MASK))?;
        let left = ends_at.map(|at| Duration::from_millis(at).saturating_sub(now.unix));
        let established = Self {
            number: kept.key,
            version: kept.version,
            bridge: Bridge::new(near, far, refer, flags & MANGLES != 0),
            near_facts,
            far_facts,
            far_leg,
            user: (!user.is_empty()).then(|| Rc::from(user)),
            until: left.map(|left| now.monotonic + left),
            losers: Vec::new(),
            state: kept.end.map_or(State::Up, |end| State::ended(now, kept.key, end)),
            transfer: None,
            aligning: None,
            is_impersonated: false,
            byes: Vec::new(),
        };
        Some((established, tags))
    }
}

fn encode(
    bridge: &Bridge,
    ends_at: Option<u64>,
    far_leg: u8,
    user: Option<&str>,
    sides: [SideRecord<'_>; 2],
) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    let refer = REFERS.iter().position(|&refer| refer == bridge.refer).expect("all are listed") as u8;
    let flag = |is_set, flag| if is_set { flag } else { 0 };
    let flags = refer << REFER_SHIFT
        | flag(bridge.mangle, MANGLES)
        | flag(ends_at.is_some(), MAY_END)
        | flag(sides[0].facts.direction == LegDirection::Out, CALLED_BOTH);
    out.extend_from_slice(&[VERSION, flags]);
    if let Some(at) = ends_at {
        out.extend_from_slice(&at.to_le_bytes());
    }
    out.push(far_leg);
    put_octets(&mut out, user.unwrap_or_default().as_bytes());
    for SideRecord { end, facts } in sides {
        out.extend_from_slice(&facts.leg.to_le_bytes());
        let at = out.len();
        out.extend_from_slice(&[0; 2]);
        end.dialog.encode(&mut out);
        let octets = u16::try_from(out.len() - at - 2).expect("a dialog is bounded");
        out[at..at + 2].copy_from_slice(&octets.to_le_bytes());
        put_way(&mut out, end.way);
        let interval = end.timer.map_or(0, |timer| timer.interval_secs());
        out.extend_from_slice(&interval.to_le_bytes());
        out.push(u8::from(end.timer.is_some_and(|timer| timer.is_refresher())));
        let has_left = end.dialog.state() == DialogState::Terminated;
        let flags = flag(end.allows_update, ALLOWS_UPDATE) | flag(has_left, HAS_LEFT);
        out.push(flags | flag(end.origin.is_some(), HAS_ORIGIN));
        put_octets(&mut out, end.told.as_deref().unwrap_or_default());
        if let Some(origin) = &end.origin {
            out.extend_from_slice(&origin.session_id.to_le_bytes());
            out.extend_from_slice(&origin.version.to_le_bytes());
        }
        for time in [facts.attempted_at, facts.progress_at, facts.answered_at] {
            out.extend_from_slice(&time.to_le_bytes());
        }
        let Texts { caller, callee, user, plan, provider, account_code, source } = facts.texts();
        for text in [caller, callee, user, plan, provider, account_code, source] {
            put_octets(&mut out, text.as_bytes());
        }
    }
    out
}

fn side(rest: &mut &[u8], version: u8, now: Now, direction: LegDirection, seed: u64) -> Option<(End, Facts)> {
    let leg = u16::from_le_bytes(take(rest)?);
    let mut dialog = Dialog::decode(take_octets(rest)?).ok()?;
    let way = take_way(rest)?;
    let interval = u32::from_le_bytes(take(rest)?);
    let (is_refresher, flags) = (byte(rest)? != 0, byte(rest)?);
    if flags & HAS_LEFT != 0 {
        dialog.terminate();
    }
    let told = if version == WITHOUT_SESSION { &[] } else { take_octets(rest)? };
    let told = (!told.is_empty()).then(|| told.into());
    let origin = match flags & HAS_ORIGIN {
        0 => None,
        _ => Some(Box::new(Origin::resumed(number(rest)?, number(rest)?))),
    };
    let timer = (interval > 0).then(|| SessionTimer::resumed(now, interval, is_refresher, seed));
    let times = [number(rest)?, number(rest)?, number(rest)?];
    let texts = Texts {
        caller: text(rest)?,
        callee: text(rest)?,
        user: text(rest)?,
        plan: text(rest)?,
        provider: text(rest)?,
        account_code: text(rest)?,
        source: text(rest)?,
    };
    let end = End { timer, told, origin, ..End::new(dialog, way, flags & ALLOWS_UPDATE != 0) };
    Some((end, Facts::kept(leg, direction, times, texts)))
}

pub(crate) fn put_octets(out: &mut Vec<u8>, octets: &[u8]) {
    let octets = &octets[..octets.len().min(usize::from(u16::MAX))];
    out.extend_from_slice(&(octets.len() as u16).to_le_bytes());
    out.extend_from_slice(octets);
}

/// A way: 0 by its URI; else 4 or 6, listener, transport, address, port. A connection does not outlive the process; the proxy
/// takes another one to the same peer.
pub(crate) fn put_way(out: &mut Vec<u8>, way: Way) {
    let Way::Flow(Flow { listener, transport, peer, .. }) = way else { return out.push(0) };
    out.push(if peer.is_ipv4() { 4 } else { 6 });
    out.extend_from_slice(&listener.0.to_le_bytes());
    out.push(TRANSPORTS.iter().position(|&t| t == transport).expect("all transports are listed") as u8);
    match peer.ip() {
        IpAddr::V4(v4) => out.extend_from_slice(&v4.octets()),
        IpAddr::V6(v6) => out.extend_from_slice(&v6.octets()),
    }
    out.extend_from_slice(&peer.port().to_le_bytes());
}

pub(crate) fn take_way(rest: &mut &[u8]) -> Option<Way> {
    let kind = byte(rest)?;
    if kind == 0 {
        return Some(Way::Uri);
    }
    let listener = ListenerId(u16::from_le_bytes(take(rest)?));
    let transport = *TRANSPORTS.get(usize::from(byte(rest)?))?;
    let ip = match kind {
        4 => IpAddr::from(take::<4>(rest)?),
        6 => IpAddr::from(take::<16>(rest)?),
        _ => return None,
    };
    let peer = SocketAddr::new(ip, u16::from_le_bytes(take(rest)?));
    Some(Way::Flow(Flow { listener, transport, peer, connection: None }))
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, behind) = rest.split_first_chunk()?;
    *rest = behind;
    Some(*taken)
}

fn byte(rest: &mut &[u8]) -> Option<u8> {
    take(rest).map(|[byte]| byte)
}

fn number(rest: &mut &[u8]) -> Option<u64> {
    take(rest).map(u64::from_le_bytes)
}

pub(crate) fn take_octets<'r>(rest: &mut &'r [u8]) -> Option<&'r [u8]> {
    let len = usize::from(u16::from_le_bytes(take(rest)?));
    let (octets, behind) = rest.split_at_checked(len)?;
    *rest = behind;
    Some(octets)
}

fn text<'r>(rest: &mut &'r [u8]) -> Option<&'r str> {
    str::from_utf8(take_octets(rest)?).ok()
}
