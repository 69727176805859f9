//! The contract between the proxy and the agents behind it: which way a message of theirs takes, and the names by which
//! the answers to it find back.
//!
//! An agent behind the proxy writes whole messages with [`PLACEHOLDER`] where an address of ours belongs: in its one Via and
//! in its Contact. The proxy puts the address of the way that the message takes there, so that outside one element is
//! seen. [`AppBranch`] in the Via's branch names the agent that a response is for, [`AppToken`] in the Contact's user part the
//! one that a request inside the dialog is for (RFC 3261 §12.2), whatever its Call-ID hashes to.

use crate::{Flow, Seal, Secret};
use sip::{Octets, number};

/// The host that stands for ours until the proxy writes it (RFC 2606 reserves the name).
pub const PLACEHOLDER: &str = "ringswitch.invalid";

/// Which way a message takes that an agent behind the proxy has written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// A response, by its topmost Via; its request came on that flow (RFC 3261 §18.2.2).
    Response(Flow),
    /// A request, over that flow, whatever its URIs say (RFC 5626 §5.3).
    Flow(Flow),
    /// A request, to where its topmost Route or else its Request-URI leads (RFC 3263).
    Uri,
}

/// A message of an agent behind the proxy, in the turn's arena.
#[derive(Clone, Copy, Debug)]
pub struct Posted<'t> {
    /// The way that it takes.
    pub way: Way,
    /// All its octets.
    pub octets: &'t [u8],
}

/// An agent behind the proxy: an application server by its name, and which of its shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agent<'n> {
    /// The name that the configuration gives it: a token of at most [`Agent::MAX_NAME`] letters, digits and hyphens.
    pub name: &'n str,
    /// The shard.
    pub shard: u16,
}

impl Agent<'_> {
    /// Octets of the longest name.
    pub const MAX_NAME: usize = 32;

    /// Writes `NAME.SHARD.`
    fn write(&self, out: &mut impl Octets) {
        out.put(self.name.as_bytes());
        out.put(b".");
        out.put_number(self.shard.into());
        out.put(b".");
    }
}

/// The branch of a request that an agent behind the proxy sends: `z9hG4bK-rs.NAME.SHARD.ID`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppBranch<'n> {
    /// Who sends it.
    pub agent: Agent<'n>,
    /// Which transaction of his.
    pub id: u64,
}

impl<'n> AppBranch<'n> {
    /// What every such branch begins with.
    pub const PREFIX: &'static [u8] = b"z9hG4bK-rs.";

    /// Writes it.
    pub fn write(&self, out: &mut impl Octets) {
        out.put(Self::PREFIX);
        self.agent.write(out);
        out.put_hex(self.id);
    }

    /// Reads one; `None` where it has another form.
    pub fn parse(branch: &'n [u8]) -> Option<Self> {
        let (agent, id) = parse_agent(branch.strip_prefix(Self::PREFIX)?)?;
        let id = std::str::from_utf8(id).ok().filter(|id| id.len() == 16)?;
        Some(Self { agent, id: u64::from_str_radix(id, 16).ok()? })
    }
}

/// The user part of a Contact of ours, sealed with the dialog's Call-ID: `rs.NAME.SHARD.SEAL`. Without the seal anybody could
/// aim his requests at one shard.
#[derive(Clone)]
pub struct AppToken {
    seal: Seal,
}

impl AppToken {
    const PREFIX: &'static [u8] = b"rs.";

    /// Tokens of the cluster that shares `secret`.
    pub fn new(secret: &Secret) -> Self {
        Self { seal: Seal::new(secret, "application server") }
    }

    /// Writes the token for a dialog of `agent`.
    pub fn write(&self, agent: Agent<'_>, call_id: &[u8], out: &mut impl Octets) {
        out.put(Self::PREFIX);
        agent.write(out);
        out.put(&self.seal(agent, call_id));
    }

    /// Whose dialog a request belongs to that came for `user` with that Call-ID, if we wrote the token for it.
    pub fn open<'n>(&self, user: &'n [u8], call_id: &[u8]) -> Option<Agent<'n>> {
        let (agent, seal) = parse_agent(user.strip_prefix(Self::PREFIX)?)?;
        self.seal.is_sealed(&[agent.name.as_bytes(), &agent.shard.to_be_bytes(), call_id], seal).then_some(agent)
    }

    fn seal(&self, agent: Agent<'_>, call_id: &[u8]) -> [u8; Seal::TEXT_LEN] {
        self.seal.seal(&[agent.name.as_bytes(), &agent.shard.to_be_bytes(), call_id])
    }
}

/// `NAME.SHARD.`, and what is behind.
fn parse_agent(text: &[u8]) -> Option<(Agent<'_>, &[u8])> {
    let mut parts = text.splitn(3, |&b| b == b'.');
    let name = std::str::from_utf8(parts.next()?).ok().filter(|name| (1..=Agent::MAX_NAME).contains(&name.len()))?;
    let shard = number(parts.next()?).and_then(|n| u16::try_from(n).ok())?;
    Some((Agent { name, shard }, parts.next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_branch_names_its_agent() {
        let branch = AppBranch { agent: Agent { name: "stable", shard: 3 }, id: 0xfeed };
        let mut text = Vec::new();
        branch.write(&mut text);
        assert_eq!(text, b"z9hG4bK-rs.stable.3.000000000000feed");
        assert_eq!(AppBranch::parse(&text), Some(branch));
        for strange in
            ["z9hG4bK-rs.stable.3.feed", "z9hG4bK-rs..3.000000000000feed", "z9hG4bK776asdhds", "z9hG4bK-rs.a.b.c"]
        {
            assert_eq!(AppBranch::parse(strange.as_bytes()), None, "{strange}");
        }
    }

    #[test]
    fn a_contact_token_opens_for_its_own_call_id_only() {
        let tokens = AppToken::new(&Secret::new([5; 32]));
        let agent = Agent { name: "edge", shard: 1 };
        let mut user = Vec::new();
        tokens.write(agent, b"call", &mut user);
        assert_eq!(tokens.open(&user, b"call"), Some(agent));
        assert_eq!(tokens.open(&user, b"other"), None);
        let moved = String::from_utf8(user).unwrap().replace(".1.", ".0.");
        assert_eq!(tokens.open(moved.as_bytes(), b"call"), None);
        assert_eq!(tokens.open(b"alice", b"call"), None);
    }
}
