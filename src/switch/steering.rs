//! Steering: whether the operator wants it, and what he is told of it.

use crate::config::{self, Config};
use crate::control::SteeringStatus;
use crate::io::{Sockets, Steering};
use agent::{Secret, ShardHash};

/// Has the kernel put datagrams into the sockets of the shards that own them, if it is wanted. Without it the switch serves as well, and
/// passes on.
pub(crate) fn steer(config: &Config, secret: &Secret, sockets: &Sockets) -> Steering {
    match config.udp.steering {
        config::Steering::Off => Steering::Off,
        config::Steering::Auto => sockets.steer(&ShardHash::new(secret)),
    }
}

/// Says in the log what has become of it, once nothing else can fail.
pub(crate) fn tell_steering(steering: &Steering) {
    match steering {
        Steering::On(_) => tracing::info!("the kernel steers datagrams to the shards that own them"),
        Steering::Lacking(lack) => tracing::warn!(
            "datagrams are not steered to the shards that own them: {lack}. They come in by address, and shards pass on what is another's; \
             `steering = \"off\"` under [udp] is the same without this warning"
        ),
        Steering::Off | Steering::Needless => {}
    }
}

/// What the operator is told when he asks.
pub(crate) fn steering_status(steering: &Steering) -> SteeringStatus {
    let told = |state, steered, left| SteeringStatus { state, steered, left };
    match steering {
        Steering::On(tally) => match tally.read() {
            Ok((steered, left)) => told(steering.to_string(), steered, left),
            Err(error) => told(format!("{steering}, not counted: {error}"), 0, 0),
        },
        _ => told(steering.to_string(), 0, 0),
    }
}
