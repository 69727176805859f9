//! Addresses of record as an operator writes them (RFC 3261 §10.3 step 5 says what they are).

use crate::config;
use serde::Serialize;
use std::fmt;

/// Octets of a user part.
const MAX_USER_OCTETS: usize = 128;

/// A `user@domain`; the user distinguishes case, the domain is in lower case (RFC 3261 §19.1.4).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Aor {
    /// The user, without escapes.
    pub user: String,
    /// The domain.
    pub domain: String,
}

impl Aor {
    /// From `user@domain` or `user`, with or without `sip:` before it. The error is a sentence for the operator.
    pub fn parse(text: &str, default_domain: &str) -> Result<Self, String> {
        let bare = text.strip_prefix("sip:").or_else(|| text.strip_prefix("sips:")).unwrap_or(text);
        let (user, domain) = bare.split_once('@').unwrap_or((bare, default_domain));
        if user.is_empty() || user.len() > MAX_USER_OCTETS {
            let example = format!("alice@{default_domain}");
            return Err(format!("`{text}` has no user of 1 to {MAX_USER_OCTETS} characters; write it like {example}"));
        }
        // RFC 3261 §25.1 `user`, without the escapes, for there is no need of them here.
        if let Some(wrong) = user.chars().find(|c| !c.is_ascii_alphanumeric() && !"-_.!~*'()&=+$,;?/".contains(*c)) {
            return Err(format!("`{wrong}` cannot be part of a user; use letters, digits and -_.!~*'()&=+$,;?/"));
        }
        let domain = config::host(domain).map_err(|wrong| format!("{}; {}", wrong.what, wrong.mend))?;
        Ok(Self { user: user.to_owned(), domain })
    }
}

impl fmt::Display for Aor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.user, self.domain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_alone_belongs_to_the_default_domain() {
        for text in ["alice", "alice@example.com", "sip:alice@EXAMPLE.com"] {
            assert_eq!(Aor::parse(text, "example.com").unwrap().to_string(), "alice@example.com");
        }
        assert_eq!(Aor::parse("Alice@[2001:DB8::1]", "example.com").unwrap().to_string(), "Alice@[2001:db8::1]");
    }

    #[test]
    fn what_is_no_account_says_why() {
        let fault = |text| Aor::parse(text, "example.com").unwrap_err();
        assert!(fault("@example.com").contains("has no user"));
        assert!(fault("ali ce@example.com").starts_with("` ` cannot be part of a user"));
        assert!(fault("alice:pw@example.com").starts_with("`:` cannot be part of a user"));
        assert!(fault("alice@b@c").contains("`b@c` is no domain"));
    }
}
