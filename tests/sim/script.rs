//! What the user of a phone does in a call.

use crate::network::Rng;
use std::{net::SocketAddr, time::Duration};

/// What is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Answers with that provisional status; with a session description from 183 on.
    Progress(u16),
    /// Answers with 200.
    Answer,
    /// Answers with that status.
    Refuse(u16),
    /// Answers with 302 and this Contact.
    Redirect(String),
    /// Answers with 407 and a challenge.
    Challenge,
    /// Gives up calling.
    Cancel,
    /// Ends the call.
    HangUp,
    /// Sends a re-INVITE which puts the peer on hold.
    Hold,
    /// Sends a re-INVITE for media at an address of its own, both ways.
    Resume,
    /// Sends a re-INVITE from another address, for media there.
    Move(SocketAddr),
    /// Sends an UPDATE with an offer.
    Update,
    /// Sends an INFO.
    Info,
    /// Sends a REFER to that URI.
    Refer(String),
}

/// From when on time is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// The INVITE is sent or has come.
    Start,
    /// The caller hears of a phone that rings.
    Ringing,
    /// The call is answered: for the caller by the 2xx, for the callee by its ACK.
    Talking,
}

/// One thing that is done.
#[derive(Clone, Debug)]
pub struct Step {
    pub when: When,
    pub after: Duration,
    pub act: Act,
}

/// All that a user does in one call. What does not fit the state of the call any more is not done.
#[derive(Clone, Debug, Default)]
pub struct Script {
    pub steps: Vec<Step>,
    /// Whether the phone supports 100rel.
    pub is_reliable: bool,
    /// Whether the INVITE has no offer.
    pub is_late_offer: bool,
    /// The password that a challenge is answered with.
    pub password: Option<&'static str>,
    /// The formats that the phone describes, if others than PCMU.
    pub formats: Option<&'static str>,
    /// The formats that it describes in answer to a re-INVITE, if others.
    pub fewer_formats: Option<&'static str>,
    /// A format that it does not take: an INVITE that offers it gets 488.
    pub lacks: Option<&'static str>,
    /// Whether it wants its media at another port with each re-INVITE that it takes.
    pub wanders: bool,
}

impl Script {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn step(mut self, when: When, millis: u64, act: Act) -> Self {
        self.steps.push(Step { when, after: Duration::from_millis(millis), act });
        self
    }

    pub fn at_start(self, millis: u64, act: Act) -> Self {
        self.step(When::Start, millis, act)
    }

    pub fn ringing(self, millis: u64, act: Act) -> Self {
        self.step(When::Ringing, millis, act)
    }

    pub fn talking(self, millis: u64, act: Act) -> Self {
        self.step(When::Talking, millis, act)
    }

    /// Rings after 100 milliseconds, and is answered `millis` after the INVITE.
    pub fn answers(millis: u64) -> Self {
        Self::new().at_start(100, Act::Progress(180)).at_start(millis, Act::Answer)
    }

    /// Rings after 100 milliseconds, and refuses `millis` after the INVITE.
    pub fn refuses(millis: u64, status: u16) -> Self {
        Self::new().at_start(100, Act::Progress(180)).at_start(millis, Act::Refuse(status))
    }

    pub fn reliably(mut self) -> Self {
        self.is_reliable = true;
        self
    }

    pub fn with_late_offer(mut self) -> Self {
        self.is_late_offer = true;
        self
    }

    pub fn with_formats(mut self, formats: &'static str) -> Self {
        self.formats = Some(formats);
        self
    }

    pub fn with_fewer_formats(mut self, formats: &'static str) -> Self {
        self.fewer_formats = Some(formats);
        self
    }

    pub fn lacking(mut self, format: &'static str) -> Self {
        self.lacks = Some(format);
        self
    }

    pub fn wandering(mut self) -> Self {
        self.wanders = true;
        self
    }

    pub fn with_password(mut self, password: &'static str) -> Self {
        self.password = Some(password);
        self
    }

    /// A caller who does what comes into his head.
    pub fn any_caller(rng: &mut Rng) -> Self {
        let script = Self { is_reliable: rng.chance(500), is_late_offer: rng.chance(200), ..Self::default() };
        let script = if rng.chance(200) { script.at_start(rng.within(0..4000), Act::Cancel) } else { script };
        script.anything(rng).talking(rng.within(500..20_000), Act::HangUp)
    }

    /// A callee of the same kind.
    pub fn any_callee(rng: &mut Rng) -> Self {
        let mut script = Self { is_reliable: rng.chance(500), ..Self::default() };
        if rng.chance(800) {
            script = script.at_start(rng.within(0..500), Act::Progress(180));
        }
        if rng.chance(300) {
            script = script.at_start(rng.within(500..1000), Act::Progress(183));
        }
        let end = rng.within(0..5000);
        match rng.within(0..10) {
            0 => return script.at_start(end, Act::Refuse(486)),
            1 => return script.at_start(end, Act::Refuse(603)),
            _ => script = script.at_start(end, Act::Answer).anything(rng),
        }
        if rng.chance(500) { script.talking(rng.within(500..20_000), Act::HangUp) } else { script }
    }

    /// One party of a call back, who does what comes into his head.
    pub fn any_party(rng: &mut Rng) -> Self {
        let mut script = Self::any_callee(rng);
        script.wanders = rng.chance(200);
        if rng.chance(300) {
            (script.formats, script.lacks) = (Some("0 8 9"), Some("9").filter(|_| rng.chance(200)));
        }
        script
    }

    /// Things to do while talking.
    fn anything(mut self, rng: &mut Rng) -> Self {
        for act in [Act::Hold, Act::Resume, Act::Update, Act::Info] {
            if rng.chance(300) {
                self = self.talking(rng.within(0..10_000), act);
            }
        }
        self
    }
}
