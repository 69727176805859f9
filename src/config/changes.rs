//! What a reload applies at once, and what waits for a restart.

use super::{Callback, Config, Log};
use serde_json::Value;
use std::collections::BTreeMap;

/// The difference between the running configuration and a new one.
#[derive(Clone, Debug)]
pub struct Changes {
    /// What runs once this reload is applied: the new value of each key in `applies`, the old one of all others.
    pub config: Config,
    /// Keys whose change a reload applies, such as `registrar.max_bindings`.
    pub applies: Vec<String>,
    /// Keys whose change waits for a restart.
    pub needs_restart: Vec<String>,
}

impl Config {
    /// What changes when `new` follows on this configuration.
    pub fn changes(&self, new: &Self) -> Changes {
        let config = Self {
            domains: new.domains.clone(),
            proxy: new.proxy.clone(),
            overload: new.overload.clone(),
            registrar: new.registrar.clone(),
            calls: new.calls.clone(),
            dialplan: new.dialplan.clone(),
            callback: Callback {
                // Turned off, it ends; turned on, it needs a process that a capability is left to.
                impersonate: self.callback.impersonate && new.callback.impersonate,
                ..self.callback.clone()
            },
            health: new.health.clone(),
            log: Log { level: new.log.level, ..self.log.clone() },
            ..self.clone()
        };
        Changes { applies: differences(self, &config), needs_restart: differences(&config, new), config }
    }
}

/// Every key with its value, in the order of the alphabet. Lists of sections are one value.
pub fn settings(config: &Config) -> BTreeMap<String, Value> {
    let mut settings = BTreeMap::new();
    let tree = serde_json::to_value(config).expect("a configuration has only text keys");
    flatten(String::new(), tree, &mut settings);
    settings
}

fn flatten(name: String, value: Value, into: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                let name = if name.is_empty() { key } else { format!("{name}.{key}") };
                flatten(name, value, into);
            }
        }
        value => drop(into.insert(name, value)),
    }
}

fn differences(old: &Config, new: &Config) -> Vec<String> {
    let old = settings(old);
    settings(new).into_iter().filter(|(key, value)| old.get(key) != Some(value)).map(|(key, _)| key).collect()
}
