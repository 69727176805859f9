//! Where we are: what is never impersonated, and never sent to.
#![expect(clippy::disallowed_methods, reason = "the edge: it reads two sysctls")]

use crate::config::{Config, HostPort};
use callback::Interface;
use std::net::IpAddr;

/// The addresses of this machine, now, and those that the configuration calls us by.
pub(super) fn interfaces(config: &Config) -> Vec<Interface> {
    let machines = pnet::datalink::interfaces().into_iter().flat_map(|interface| interface.ips);
    let machines = machines.map(|network| Interface { address: network.ip(), prefix: network.prefix() });
    let listens = config.listen.iter().map(|listen| listen.address.ip()).filter(|ip| !ip.is_unspecified());
    let names = config.listen.iter().filter_map(|listen| address(listen.advertise.as_ref()?));
    let named =
        listens.chain(names).map(|address| Interface { address, prefix: if address.is_ipv4() { 32 } else { 128 } });
    machines.chain(named).collect()
}

fn address(advertised: &HostPort) -> Option<IpAddr> {
    advertised.host.trim_matches(['[', ']']).parse().ok()
}

/// Whether what we go by is a name, whose addresses we do not know.
pub(super) fn is_name(advertised: &HostPort) -> bool {
    address(advertised).is_none()
}

/// Whether the kernel lets anybody bind addresses that are not ours, by family; then that it does tells nothing.
pub(super) fn binds_anything() -> (bool, bool) {
    let is_set = |family: &str| {
        let value = std::fs::read_to_string(format!("/proc/sys/net/{family}/ip_nonlocal_bind"));
        value.is_ok_and(|value| value.trim() != "0")
    };
    (is_set("ipv4"), is_set("ipv6"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_we_listen_on_and_are_called_by_is_ours() {
        let text = "[[listen]]\ntransport = 'udp'\naddress = '198.51.100.1:5060'\nadvertise = '203.0.113.1:5060'\n\
                    [[listen]]\ntransport = 'udp'\naddress = '[::]:5060'\nadvertise = '[2001:db8::9]'";
        let config = crate::config::parse("own", text).unwrap();
        let own = interfaces(&config);
        for (address, prefix) in [("198.51.100.1", 32), ("203.0.113.1", 32), ("2001:db8::9", 128), ("127.0.0.1", 8)] {
            assert!(own.contains(&Interface { address: address.parse().unwrap(), prefix }), "{address}");
        }
        assert!(!own.iter().any(|own| own.address.is_unspecified()));
    }
}
