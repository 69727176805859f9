//! From the configuration to what each part is told.
#![expect(clippy::disallowed_methods, reason = "the edge: it reads the hosts file")]

use crate::config::{self, Config};
use crate::io;
use crate::process::{AppPlace, AppState};
use crate::proxy;
use crate::shard::{AppRules, Patience, Rules};
use agent::{Domains, ListenerId, Secret};
use sip::Transport;
use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// How long a drain may take; with what is left to write, a stop takes 5 s at most.
const DRAIN: Duration = Duration::from_secs(4);

pub(crate) fn edge_settings(config: &Config) -> io::Settings {
    let secs = |secs: u32| Duration::from_secs(secs.into());
    let defaults = io::StreamSettings::default();
    io::Settings {
        listeners: config
            .listen
            .iter()
            .map(|listen| io::Listener {
                transport: listen.transport,
                address: listen.address,
                optional: listen.optional,
            })
            .collect(),
        shards: config.cores.switch.count(),
        cores: config.cores.switch.cores().iter().map(|&core| usize::from(core)).collect(),
        // Proxy and registrar stand back for nobody.
        nice: 0,
        datagram_buffers: config.udp.buffers,
        datagram_octets: config.udp.buffer_bytes as usize,
        receive_octets: config.udp.receive_buffer_bytes as usize,
        send_octets: config.udp.send_buffer_bytes as usize,
        batch_window: Duration::from_micros(config.batching.window_usecs.into()),
        trains: config.udp.offload,
        train_blanks: config.udp.padding_bytes,
        mesh_messages: config.mesh.slots,
        drain: DRAIN,
        streams: io::StreamSettings {
            connections: config.tcp.max_connections,
            connections_per_address: config.tcp.max_connections_per_address,
            longest: limits(config),
            queue_octets: config.tcp.max_queued_bytes as usize,
            connect: secs(config.tcp.connect_secs),
            message: secs(config.tcp.message_secs),
            idle: secs(config.tcp.idle_secs),
            ..defaults
        },
    }
}

/// The listeners with their names. What is `served` tells a port that the kernel chose; one that is not served, an
/// optional one, keeps its number.
pub(crate) fn listeners(config: &Config, served: &[Option<(Transport, SocketAddr)>]) -> proxy::Listeners {
    let all = config.listen.iter().zip(served).map(|(listen, served)| proxy::Listener {
        transport: listen.transport,
        address: served.map_or(listen.address, |(_, address)| address),
        advertise: listen.advertise.as_ref().map(|name| (name.host.as_str().into(), name.port)),
    });
    let mut interfaces: Vec<_> = pnet::datalink::interfaces()
        .iter()
        .filter(|interface| interface.is_up())
        .flat_map(|interface| interface.ips.iter())
        .map(|network| proxy::Interface { address: network.ip(), prefix: network.prefix() })
        .collect();
    // The first one is the name for peers of no network of ours: what others can reach comes first.
    interfaces.sort_by_key(|interface| (interface.address.is_loopback(), is_link_local(interface)));
    proxy::Listeners::new(all.collect(), &interfaces)
}

fn is_link_local(interface: &proxy::Interface) -> bool {
    match interface.address {
        std::net::IpAddr::V4(v4) => v4.is_link_local(),
        std::net::IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

pub(crate) fn limits(config: &Config) -> sip::Limits {
    sip::Limits {
        max_message: config.sip.max_message_bytes,
        max_headers: config.sip.max_headers,
        max_line: config.sip.max_line_bytes,
    }
}

/// What the configuration tells the shards.
pub(super) fn rules(
    config: &Config,
    listeners: &proxy::Listeners,
    secret: &Secret,
    health: &proxy::HealthTable,
    places: &[AppPlace],
) -> Rules {
    let domains = config.all_domains().into_iter().map(Into::into).collect();
    let domains = Domains::new(domains, listeners.addresses().collect());
    let app = |app: &config::App| {
        let place = places.iter().find(|place| place.name == app.name);
        proxy::App {
            name: app.name.as_str().into(),
            domains: app.domains.iter().map(|domain| domain.as_str().into()).collect(),
            weight: app.weight,
            reach: match (&app.uri, place) {
                (Some(uri), _) => proxy::Reach::Elsewhere(uri.as_str().into()),
                (None, Some(place)) => proxy::Reach::Process(place.addresses.clone()),
                (None, None) => proxy::Reach::Here,
            },
            state: match place.map(|place| place.state) {
                None | Some(AppState::Serving) => proxy::State::Serving,
                Some(AppState::Draining) => proxy::State::Draining,
                Some(AppState::Down) => proxy::State::Down,
            },
        }
    };
    let apps = app_rules(config, domains.clone());
    let proxy = proxy::Settings {
        domains,
        listeners: listeners.clone(),
        // A machine without a hosts file knows no names; that is no fault.
        names: proxy::Names::from_hosts(&fs::read_to_string("/etc/hosts").unwrap_or_default()),
        record_route: config.proxy.record_route,
        relay_from: config.proxy.relay_from.clone(),
        limits: limits(config),
        server: config.proxy.server.as_str().into(),
        retry_after_secs: config.overload.retry_after_secs,
        apps: proxy::Apps::new(secret, config.app.iter().map(app).collect(), health.clone()),
        hop: ListenerId(config.listen.len() as u16),
        keys: proxy::Keys::new(secret),
    };
    let secs = |secs: u32| Duration::from_secs(secs.into());
    let health = proxy::Health {
        interval: secs(config.health.interval_secs),
        timeout: secs(config.health.timeout_secs),
        failures: config.health.failures,
        successes: config.health.successes,
    };
    Rules { proxy: Arc::new(proxy), registrar: registrar_settings(config), apps, patience: patience(config), health }
}

/// What application servers that serve `domains` follow.
pub(crate) fn app_rules(config: &Config, domains: Domains) -> AppRules {
    let trusted = config.proxy.relay_from.clone().into();
    AppRules { settings: app_settings(config, domains), trusted, patience: patience(config) }
}

fn patience(config: &Config) -> Patience {
    let overload = &config.overload;
    Patience {
        level: f64::from(overload.backlog_percent) / 100.0,
        time: Duration::from_millis(overload.patience_msecs.into()),
    }
}

/// What the configuration tells application servers that serve `domains`.
pub fn app_settings(config: &Config, domains: Domains) -> appserver::Settings {
    let calls = &config.calls;
    appserver::Settings {
        server: config.proxy.server.as_str().into(),
        limits: limits(config),
        authenticate: calls.authenticate,
        algorithms: config.registrar.algorithms.clone(),
        nonce_secs: config.registrar.nonce_secs,
        max_calls: calls.max_calls,
        max_calls_per_user: calls.max_calls_per_user,
        max_legs: calls.max_legs,
        max_redirects: calls.max_redirects,
        max_plan_depth: calls.max_plan_depth,
        ring_secs: calls.ring_secs,
        max_setup_secs: calls.max_setup_secs,
        max_call_secs: calls.max_call_secs,
        session_expires_secs: calls.session_expires_secs,
        min_session_expires_secs: calls.min_session_expires_secs,
        max_passing: calls.max_passing,
        max_relays: calls.max_relays,
        relay_to_all: calls.relay_to_all,
        retry_after_secs: config.overload.retry_after_secs,
        max_reports: calls.max_reports,
        plans: config.dialplan.limits(),
        transactions: transaction::Settings {
            max: calls.max_transactions,
            // On a hop between processes datagrams may be lost.
            streams_are_reliable: config.processes == config::Processes::One,
            ..transaction::Settings::default()
        },
        domains,
    }
}

fn registrar_settings(config: &Config) -> registrar::Settings {
    let told = &config.registrar;
    let route: Vec<_> = told.service_route.iter().map(|uri| format!("<{uri}>")).collect();
    registrar::Settings {
        min_expires_secs: told.min_expires_secs,
        max_expires_secs: told.max_expires_secs,
        default_expires_secs: told.default_expires_secs,
        user_agents: told
            .user_agent
            .iter()
            .map(|rule| registrar::UserAgentRule {
                pattern: rule.pattern.0.clone(),
                min_expires_secs: rule.min_expires_secs,
                max_expires_secs: rule.max_expires_secs,
            })
            .collect(),
        max_bindings: told.max_bindings,
        when_full: match told.when_full {
            config::WhenFull::Refuse => registrar::WhenFull::Refuse,
            config::WhenFull::ReplaceOldest => registrar::WhenFull::ReplaceOldest,
        },
        authenticate: told.authenticate,
        algorithms: told.algorithms.clone(),
        nonce_secs: told.nonce_secs,
        service_route: route.join(", ").into(),
        max_pending: config.overload.pending_registers as usize,
        retry_after_secs: config.overload.retry_after_secs,
        server: config.proxy.server.as_str().into(),
        ..registrar::Settings::default()
    }
}
