//! What the operator decides.

use regex::bytes::Regex;
use sip::digest::Algorithm;

/// The registrar's settings. [`Settings::default`] offers every algorithm; the program's configuration has defaults of its
/// own, since many phones register only where nothing but MD5 is offered.
#[derive(Clone, Debug)]
pub struct Settings {
    /// A shorter interval is refused with 423 (RFC 3261 §10.3 step 7), as far as it is below an hour.
    pub min_expires_secs: u32,
    /// A longer interval is granted for this long.
    pub max_expires_secs: u32,
    /// Granted where the request names no interval.
    pub default_expires_secs: u32,
    /// Rules for some phones; the first whose pattern is found in the User-Agent counts.
    pub user_agents: Vec<UserAgentRule>,
    /// Most bindings of an address-of-record at a time. An account may say otherwise.
    pub max_bindings: u16,
    /// What happens to one more.
    pub when_full: WhenFull,
    /// Whether a REGISTER needs the credentials of its account. If not, whoever reaches the registrar may register
    /// anything in our domains.
    pub authenticate: bool,
    /// What challenges offer, in any order. The strongest stands first in them.
    pub algorithms: Vec<Algorithm>,
    /// How long a nonce may be used.
    pub nonce_secs: u32,
    /// Most used nonces that are remembered, on each shard. One more makes the oldest stale.
    pub max_nonces: usize,
    /// Value of Service-Route in every 200 (RFC 3608 §6.3); empty for none.
    pub service_route: Box<str>,
    /// Most answers that wait for the journal, on each shard. Further changes are answered with 503.
    pub max_pending: usize,
    /// Value of Retry-After in a 503. While the journal fails, one change is tried in each such interval.
    pub retry_after_secs: u32,
    /// Value of Server in every response; empty for none.
    pub server: Box<str>,
}

/// Intervals for user agents that a pattern describes.
#[derive(Clone, Debug)]
pub struct UserAgentRule {
    /// Searched for in the value of User-Agent.
    pub pattern: Regex,
    /// In place of [`Settings::min_expires_secs`].
    pub min_expires_secs: Option<u32>,
    /// In place of [`Settings::max_expires_secs`].
    pub max_expires_secs: Option<u32>,
}

/// What to do with a binding for which there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// Refuse the request with 403.
    Refuse,
    /// Drop the binding that was registered longest ago.
    ReplaceOldest,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            min_expires_secs: 60,
            max_expires_secs: 3600,
            default_expires_secs: 3600,
            user_agents: Vec::new(),
            max_bindings: 10,
            when_full: WhenFull::Refuse,
            authenticate: true,
            algorithms: Algorithm::STRONGEST_FIRST.to_vec(),
            nonce_secs: 300,
            max_nonces: 1 << 18,
            service_route: "".into(),
            max_pending: 4096,
            retry_after_secs: 5,
            server: "".into(),
        }
    }
}

/// The bounds of an interval, for one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Intervals {
    pub(crate) min_secs: u32,
    pub(crate) max_secs: u32,
    pub(crate) default_secs: u32,
}

impl Settings {
    /// The bounds for this user agent and an account whose own maximum is `account_max_secs`.
    pub(crate) fn intervals(&self, user_agent: &[u8], account_max_secs: Option<u32>) -> Intervals {
        let rule = self.user_agents.iter().find(|rule| rule.pattern.is_match(user_agent));
        let max = rule.and_then(|r| r.max_expires_secs).unwrap_or(self.max_expires_secs);
        let max_secs = account_max_secs.map_or(max, |account_max| account_max.min(max));
        let min = rule.and_then(|r| r.min_expires_secs).unwrap_or(self.min_expires_secs);
        // A minimum above the maximum would ask for what is never granted.
        Intervals { min_secs: min.min(max_secs), max_secs, default_secs: self.default_expires_secs.min(max_secs) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rule_that_fits_counts_and_an_account_only_shortens() {
        let rule = |pattern, min, max| UserAgentRule {
            pattern: Regex::new(pattern).unwrap(),
            min_expires_secs: min,
            max_expires_secs: max,
        };
        let settings = Settings {
            user_agents: vec![rule("^Yealink T4", None, Some(120)), rule("Yealink", Some(30), Some(900))],
            ..Settings::default()
        };
        let bounds = |agent: &str, account| {
            let Intervals { min_secs, max_secs, default_secs } = settings.intervals(agent.as_bytes(), account);
            (min_secs, max_secs, default_secs)
        };
        assert_eq!(bounds("Yealink T46S", None), (60, 120, 120));
        assert_eq!(bounds("A Yealink", None), (30, 900, 900));
        assert_eq!(bounds("Snom", Some(7200)), (60, 3600, 3600));
        assert_eq!(bounds("Snom", Some(20)), (20, 20, 20));
    }
}
