//! Session timers (RFC 4028): a session that nobody refreshes ends, so that no dead call lives on. Each leg of a back-to-back
//! user agent negotiates its own.

use agent::Now;
use sip::{Error, HeaderName, Message, Method, Octets, Parameterized, StatusCode};
use std::time::Duration;

/// Who sends the refresh: the UAC or the UAS of the request that negotiates it (§4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refresher {
    /// Who sent the request.
    Uac,
    /// Who answered it.
    Uas,
}

/// The value of Session-Expires (§4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionExpires {
    /// The session interval in seconds.
    pub secs: u32,
    /// The `refresher` parameter.
    pub refresher: Option<Refresher>,
}

impl SessionExpires {
    /// The one that a message has.
    ///
    /// # Errors
    /// It breaks the grammar.
    pub fn of(message: &Message<'_>) -> Result<Option<Self>, Error> {
        message.value(HeaderName::SessionExpires).map(Self::parse).transpose()
    }

    /// Reads a value.
    ///
    /// # Errors
    /// It breaks the grammar, or its refresher is neither `uac` nor `uas`.
    pub fn parse(value: &[u8]) -> Result<Self, Error> {
        let bad = Error::Malformed(HeaderName::SessionExpires);
        let parsed = Parameterized::parse(value).ok_or(bad)?;
        let refresher = match parsed.params.value("refresher") {
            None => None,
            Some(v) if v.eq_ignore_ascii_case(b"uac") => Some(Refresher::Uac),
            Some(v) if v.eq_ignore_ascii_case(b"uas") => Some(Refresher::Uas),
            Some(_) => return Err(bad),
        };
        Ok(Self { secs: sip::number(parsed.value).ok_or(bad)?, refresher })
    }

    /// Writes the value.
    pub fn write(&self, out: &mut impl Octets) {
        out.put_number(self.secs.into());
        match self.refresher {
            None => {}
            Some(Refresher::Uac) => out.put(b";refresher=uac"),
            Some(Refresher::Uas) => out.put(b";refresher=uas"),
        }
    }
}

/// Whether a message names `option` in Supported (RFC 3261 §20.37).
pub fn supports(message: &Message<'_>, option: &str) -> bool {
    message.tokens(HeaderName::Supported).any(|t| t.eq_ignore_ascii_case(option.as_bytes()))
}

/// Whether a message names `method` in Allow (RFC 3261 §20.5).
pub fn allows(message: &Message<'_>, method: Method<'_>) -> bool {
    message.tokens(HeaderName::Allow).any(|t| t == method.as_bytes())
}

/// What we ask for and what we bear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimerSettings {
    /// The session interval that we propose.
    pub session_expires_secs: u32,
    /// The shortest that we take. §4: at least [`TimerSettings::LEAST_SECS`].
    pub min_se_secs: u32,
}

impl Default for TimerSettings {
    /// §4 and §5 of RFC 4028 recommend these.
    fn default() -> Self {
        Self { session_expires_secs: 1800, min_se_secs: Self::LEAST_SECS }
    }
}

/// The interval is shorter than this many seconds, which is what Min-SE tells the peer (§6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooSmall(pub u32);

impl TooSmall {
    /// The answer.
    pub fn response(self) -> StatusCode {
        StatusCode::SESSION_INTERVAL_TOO_SMALL
    }
}

/// What a UAS's 2xx says of the session timer (§9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Its Session-Expires.
    pub expires: SessionExpires,
    /// Whether it has `Require: timer`: the peer refreshes, so he must know how.
    pub requires_timer: bool,
}

impl TimerSettings {
    /// The shortest interval that anybody may ask for (§4).
    pub const LEAST_SECS: u32 = 90;

    /// As the UAC: Session-Expires of a first INVITE, and its Min-SE if it has one (§7.1). `min_se_secs` is the Min-SE of a
    /// 422 that it got before ([`min_se_of`]).
    pub fn propose(&self, min_se_secs: Option<u32>) -> (SessionExpires, Option<u32>) {
        let secs = self.session_expires_secs.max(self.min_se_secs).max(min_se_secs.unwrap_or_default());
        // §7.1: a UAC that has had a 422 says the Min-SE on; one that has not leaves it out at its least value.
        let min_se = min_se_secs.or((self.min_se_secs > Self::LEAST_SECS).then_some(self.min_se_secs));
        (SessionExpires { secs, refresher: None }, min_se)
    }

    /// As the UAS: what the 2xx to an INVITE or UPDATE says (§9). `None` is no session timer: nobody asked, and the peer does not
    /// know of it.
    ///
    /// # Errors
    /// The interval is too small for us.
    pub fn accept(&self, request: &Message<'_>) -> Result<Option<Accepted>, TooSmall> {
        let is_supported = supports(request, "timer");
        // §9 has no answer to a malformed one; it is taken as if there were none.
        let (asked, min_se) = (SessionExpires::of(request).ok().flatten(), min_se_of(request));
        let secs = match asked {
            // §9: a 422 helps only a UAC that knows what it means.
            Some(asked) if asked.secs < self.min_se_secs && is_supported => return Err(TooSmall(self.min_se_secs)),
            // §9: not above what was asked.
            Some(asked) => self.session_expires_secs.min(asked.secs),
            None if is_supported => self.session_expires_secs.max(self.min_se_secs),
            None => return Ok(None),
        };
        // §9: an interval below the Min-SE of the request is never right; without one that is 90 seconds.
        let least = min_se.unwrap_or_default().max(Self::LEAST_SECS);
        let refresher = match asked.and_then(|a| a.refresher) {
            // §9 table 2: who does not know of session timers cannot refresh.
            _ if !is_supported => Refresher::Uas,
            // The choice is ours; it goes to the peer, whose NAT his refreshes keep open.
            None => Refresher::Uac,
            Some(refresher) => refresher,
        };
        let expires = SessionExpires { secs: secs.max(least), refresher: Some(refresher) };
        Ok(Some(Accepted { expires, requires_timer: refresher == Refresher::Uac }))
    }
}

/// The Min-SE of a request or of a 422, if it has a sound one.
pub fn min_se_of(message: &Message<'_>) -> Option<u32> {
    let value = message.value(HeaderName::MinSe)?;
    sip::number(Parameterized::parse(value)?.value)
}

/// The session timer of one dialog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionTimer {
    interval_secs: u32,
    is_refresher: bool,
    is_refreshing: bool,
    due: Duration,
    /// When the session ends that nobody has refreshed.
    expires_at: Duration,
}

/// What time has come for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// To refresh the session: an UPDATE if the peer allows it, else a re-INVITE (§7.4).
    Refresh,
    /// To end the call with a BYE (§10).
    Expired,
}

impl SessionTimer {
    /// As the UAS: begins, or begins anew, with a 2xx of ours that was sent now.
    pub fn accepted(now: Now, accepted: Accepted) -> Self {
        Self::start(now, accepted.expires.secs, accepted.expires.refresher == Some(Refresher::Uas))
    }

    /// As the UAC: begins, or begins anew, with a 2xx that came now (§7.2). `None` where it has no sound Session-Expires: the
    /// peer does not know of session timers, or does not want one.
    pub fn agreed(now: Now, response: &Message<'_>) -> Option<Self> {
        let expires = SessionExpires::of(response).ok().flatten()?;
        // §7.2: the UAS always says who refreshes; where it did not, who asked for the timer does.
        Some(Self::start(now, expires.secs, expires.refresher != Some(Refresher::Uas)))
    }

    fn start(now: Now, interval_secs: u32, is_refresher: bool) -> Self {
        // §4: below 90 seconds nobody may ask, and a peer who does would have us refresh without pause.
        let interval_secs = interval_secs.max(TimerSettings::LEAST_SECS);
        let (due, expires_at) = (Duration::ZERO, Duration::ZERO);
        let mut timer = Self { interval_secs, is_refresher, is_refreshing: false, due, expires_at };
        timer.expires_at = now.monotonic + timer.until_expiry();
        // §7.2, §9: half of the interval is the time to refresh.
        timer.due = if is_refresher { now.monotonic + timer.interval() / 2 } else { timer.expires_at };
        timer
    }

    /// Takes the timer of a dialog up again after its process ended. The last refresh may be half an interval ago, so one of
    /// ours is due before the peer gives up, spread by `seed` over the time that is left.
    pub fn resumed(now: Now, interval_secs: u32, is_refresher: bool, seed: u64) -> Self {
        let mut timer = Self::start(now, interval_secs, is_refresher);
        if is_refresher {
            let left = timer.until_expiry().saturating_sub(timer.interval() / 2);
            timer.due = now.monotonic + Duration::from_millis(seed % (left.as_millis() as u64 / 2).max(1));
            timer.expires_at = timer.due + left;
        }
        timer
    }

    /// The interval in seconds.
    pub fn interval_secs(&self) -> u32 {
        self.interval_secs
    }

    /// Whether the refreshes are ours to send.
    pub fn is_refresher(&self) -> bool {
        self.is_refresher
    }

    /// Session-Expires of a refresh, or of any re-INVITE and UPDATE of ours (§7.4): the same interval, the same refresher.
    pub fn expires(&self) -> SessionExpires {
        let refresher = if self.is_refresher { Refresher::Uac } else { Refresher::Uas };
        SessionExpires { secs: self.interval_secs, refresher: Some(refresher) }
    }

    /// When to call [`SessionTimer::handle_timeout`], on the monotonic clock.
    pub fn next_timeout(&self) -> Duration {
        self.due
    }

    /// What is due. After a refresh was due, the 2xx to it begins the timer anew; without one the session expires.
    pub fn handle_timeout(&mut self, now: Now) -> Option<Due> {
        if now.monotonic < self.due {
            return None;
        }
        if self.is_refresher && !self.is_refreshing && now.monotonic < self.expires_at {
            self.is_refreshing = true;
            self.due = self.expires_at;
            return Some(Due::Refresh);
        }
        Some(Due::Expired)
    }

    /// The refresh that was due could not be sent, or was refused for the time being: it is due again after `pause`. The session
    /// expires when it would have.
    pub fn postpone(&mut self, now: Now, pause: Duration) {
        self.is_refreshing = false;
        self.due = (now.monotonic + pause).min(self.expires_at);
    }

    /// The peer wants an interval of at least so many seconds (422, §7.4): the next refresh asks for it.
    pub fn lengthen(&mut self, min_se_secs: u32) {
        self.interval_secs = self.interval_secs.max(min_se_secs);
    }

    fn interval(&self) -> Duration {
        Duration::from_secs(self.interval_secs.into())
    }

    /// §10: the BYE is sent ahead of the expiry by 32 seconds or a third of the interval, whichever is less.
    fn until_expiry(&self) -> Duration {
        self.interval() - Duration::from_secs(32).min(self.interval() / 3)
    }
}
