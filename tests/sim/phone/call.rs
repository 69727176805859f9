//! A phone's part of one call.

use crate::script::Script;
use agent::Flow;
use dialog::{Acknowledging, Dialog, Reliable, Sdp, Session};
use sip::Message;
use std::{net::IpAddr, time::Duration};
use transaction::{ClientId, ServerId};

/// How far a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// No answer, and no ringing.
    Start,
    /// A phone rings.
    Ringing,
    /// The callee has answered and waits for the ACK.
    Answered,
    /// Both know that they talk.
    Talking,
    /// It has ended, or is being ended.
    Over,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With a final response other than 2xx.
    Refused(u16),
    /// Nobody responded.
    TimedOut,
    /// By a BYE of ours.
    HungUp,
    /// By a BYE of the peer's.
    HungUpByPeer,
}

pub struct Call {
    pub is_caller: bool,
    pub script: Script,
    pub phase: Phase,
    pub outcome: Option<Outcome>,
    /// When that was.
    pub ended_at: Option<Duration>,
    /// Whether the call was ever answered.
    pub was_answered: bool,
    /// The Request-URI, for a caller.
    pub target: String,
    pub call_id: String,
    pub local_tag: String,
    /// The INVITE as it was sent or as it came.
    pub invite: Vec<u8>,
    /// CSeq of the caller's INVITE.
    pub cseq: u32,
    /// The flow that the INVITE came on.
    pub flow: Option<Flow>,
    pub client: Option<ClientId>,
    pub server: Option<ServerId>,
    pub has_tried_password: bool,
    pub is_cancelled: bool,
    /// Offer and answer as they stood when the INVITE went out.
    pub session: Session,
    pub reliable: Option<Reliable>,
    pub legs: Vec<Leg>,
    /// The leg on which they talk.
    pub talking: Option<usize>,
    /// How often the phone has described its media.
    pub descriptions: u32,
    pub is_holding: bool,
    /// Where the peer wants media, as it last said.
    pub media: Option<IpAddr>,
    /// Whether the peer has put us on hold.
    pub is_held: bool,
    /// Methods of the requests that came inside the dialog.
    pub received: Vec<String>,
    /// The Reason of the BYE that came.
    pub reason: Option<String>,
    /// The sessions that the peer has described: their names, and the version of the latest description.
    pub sessions: Vec<(String, u64)>,
    /// The port of the latest media line.
    pub peer_port: u16,
    port: u16,
}

/// One dialog of a call: a caller has several where the INVITE forked.
pub struct Leg {
    pub dialog: Dialog,
    pub session: Session,
    pub acknowledging: Acknowledging,
    /// The ACKs that were sent, by the CSeq of their INVITE.
    pub acks: Vec<(u32, Vec<u8>)>,
}

impl Leg {
    pub fn new(dialog: Dialog, session: Session) -> Self {
        Self { dialog, session, acknowledging: Acknowledging::default(), acks: Vec::new() }
    }
}

impl Call {
    pub fn new(is_caller: bool, script: Script, call_id: String, local_tag: String) -> Self {
        Self {
            is_caller,
            script,
            phase: Phase::Start,
            outcome: None,
            ended_at: None,
            was_answered: false,
            target: String::new(),
            call_id,
            local_tag,
            invite: Vec::new(),
            cseq: 0,
            flow: None,
            client: None,
            server: None,
            has_tried_password: false,
            is_cancelled: false,
            session: Session::new(),
            reliable: None,
            legs: Vec::new(),
            talking: None,
            descriptions: 0,
            is_holding: false,
            media: None,
            is_held: false,
            received: Vec::new(),
            reason: None,
            sessions: Vec::new(),
            peer_port: 0,
            port: 49170,
        }
    }

    /// Takes note of the media that a message describes.
    pub fn see_media(&mut self, message: &Message<'_>) {
        if let Some(sdp) = Sdp::of(message) {
            self.media = sdp.connection().and_then(|network| network.ip);
            self.is_held = sdp.is_hold();
            self.peer_port = sdp.media().next().map_or(0, |media| media.port);
            let Some(origin) = sdp.origin() else { return };
            let text = |octets| String::from_utf8_lossy(octets).into_owned();
            let (name, version) = (text(origin.session_id), text(origin.version).parse().unwrap_or(0));
            match self.sessions.last_mut() {
                Some((last, latest)) if *last == name => *latest = version,
                _ => self.sessions.push((name, version)),
            }
        }
    }

    /// Whether an offer has a format that the phone lacks.
    pub fn lacks_format(&self, message: &Message<'_>) -> bool {
        let (Some(sdp), Some(lacking)) = (Sdp::of(message), self.script.lacks) else { return false };
        sdp.media().any(|media| media.formats().any(|format| format == lacking.as_bytes()))
    }

    /// Takes a re-INVITE.
    pub fn wander(&mut self) {
        self.script.formats = self.script.fewer_formats.or(self.script.formats);
        self.port += if self.script.wanders { 2 } else { 0 };
    }

    /// Where the phone wants its media.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A session description of ours.
    pub fn describe(&mut self, address: IpAddr) -> String {
        self.descriptions += 1;
        let direction = if self.is_holding { "sendonly" } else { "sendrecv" };
        let (version, port, formats) = (self.descriptions, self.port, self.script.formats.unwrap_or("0"));
        format!(
            "v=0\r\no=phone 1 {version} IN IP4 {address}\r\ns=-\r\nc=IN IP4 {address}\r\nt=0 0\r\n\
             m=audio {port} RTP/AVP {formats}\r\na={direction}\r\n"
        )
    }
}
