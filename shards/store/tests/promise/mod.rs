//! What a registrar was promised, and whether a table keeps it after a crash.

use std::collections::BTreeMap;
use store::{Binding, Bindings, Source};

/// What an AOR was to have: by version, the second at which it runs out (0 for a removal), and whether it was
/// acknowledged.
type History = BTreeMap<u64, (u64, bool)>;

/// What all AORs were to have.
#[derive(Default)]
pub struct Promises(BTreeMap<String, History>);

impl Promises {
    /// The AOR has a new version, not yet acknowledged.
    pub fn updated(&mut self, aor: &str, version: u64, expires_at: Option<u64>) {
        self.0.entry(aor.to_owned()).or_default().insert(version, (expires_at.unwrap_or(0), false));
    }

    /// The version is acknowledged.
    pub fn acknowledged(&mut self, aor: &str, version: u64) {
        let history = self.0.get_mut(aor).expect("it was updated");
        history.get_mut(&version).expect("it was updated").1 = true;
    }

    /// Checks what came back. From then on that counts.
    pub fn check(&mut self, table: &Bindings, now: u64) {
        for (aor, history) in &mut self.0 {
            let back = table
                .lookup(aor, now, |record| (record.version(), record.live(now).next().expect("it is live").expires_at));
            let acknowledged = history.iter().rev().find(|(_, (_, acknowledged))| *acknowledged);
            let (version, expires_at) =
                acknowledged.map_or((0, 0), |(&version, &(expires_at, _))| (version, expires_at));
            match back {
                // What was not acknowledged may be there all the same, but nothing older than what was.
                Some((back, until)) => {
                    assert!(back >= version, "{aor}: version {back} came back, {version} was acknowledged");
                    assert_eq!(history[&back].0, until);
                    history.retain(|&version, _| version <= back);
                    history.get_mut(&back).expect("it was updated").1 = true;
                }
                None => {
                    let superseded = history.range(version + 1..).any(|(_, &(until, _))| until <= now);
                    assert!(expires_at <= now || superseded, "{aor}: version {version} was lost");
                }
            }
        }
    }
}

/// A binding that runs out then.
pub fn binding(expires_at: u64) -> Binding<'static> {
    Binding {
        contact: b"sip:alice@192.0.2.1",
        params: b"",
        q: 1000,
        registered_at: 1000,
        expires_at,
        call_id: b"1@192.0.2.1",
        cseq: 1,
        user_agent: b"",
        source: Source {
            listener: 0,
            transport: sip::Transport::Udp,
            peer: "192.0.2.1:5060".parse().expect("an address"),
            connection: None,
        },
        path: b"",
        instance: b"",
        reg_id: None,
        methods: b"",
    }
}
