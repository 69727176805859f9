//! `sys`: calls, answers, waiting, the trace, and what the run knows of itself.

use super::{Registry, Sys, int, show};
use crate::{
    Ask, Callback, Cause, Dial, DialResult, Dialled, Direction, Hold, Reply, Response,
    dial::parse::{parse, target},
    run::{Current, Limit, Over, Raised, ask, question, sleep, with},
    script::shape::{body, header_map},
};
use rhai::{Array, Dynamic, FLOAT, INT, ImmutableString, Map};
use std::time::Duration;

pub(super) fn register(to: &mut Registry) {
    calls(to);
    responses(to);
    flow(to);
    state(to);
}

fn calls(to: &mut Registry) {
    to.method("sys.dial(targets) -> string", |_: &mut Sys, targets: &str| dial(targets, None, None));
    to.method("sys.dial(targets, ring_secs) -> string", |_: &mut Sys, targets: &str, ring: INT| {
        dial(targets, Some(ring), None)
    });
    to.method(
        "sys.dial(targets, ring_secs, max_call_secs) -> string",
        |_: &mut Sys, targets: &str, ring: INT, max: INT| dial(targets, Some(ring), Some(max)),
    );
    to.method("sys.callback(first, second) -> string", |_: &mut Sys, first: &str, second: &str| {
        callback(first, second, &Map::new())
    });
    to.method(
        "sys.callback(first, second, options) -> string",
        |_: &mut Sys, first: &str, second: &str, options: Map| callback(first, second, &options),
    );
    to.method("sys.forward(app)", |_: &mut Sys, app: &str| -> Result<(), Raised> {
        let is_handed_over = ask(
            |_| Ask::Forward(app.into()),
            |_, reply| match reply {
                Reply::Done => Some(true),
                Reply::Truth(is_handed_over) => Some(*is_handed_over),
                _ => None,
            },
        )?;
        if is_handed_over { Err(with(|current| current.end(Over::Done(Cause::Forwarded, None)))) } else { Ok(()) }
    });
}

fn dial(targets: &str, ring: Option<INT>, max: Option<INT>) -> Result<ImmutableString, Raised> {
    let dial = with(|current| {
        let longest = current.limits.max_ring_secs;
        let ring_secs = ring.map(|secs| whole(secs, "ring_secs")).transpose()?.map(|secs| secs.min(longest));
        let max_call_secs = max.map(|secs| whole(secs, "max_call_secs")).transpose()?.filter(|secs| *secs > 0);
        let dial = prepare(current, targets, ring_secs, max_call_secs)?;
        current.count_legs(&dial)?;
        Ok::<_, Raised>(dial)
    })?;
    dialled(Ask::Dial(dial))
}

fn prepare(
    current: &mut Current,
    targets: &str,
    ring_secs: Option<u32>,
    max_call_secs: Option<u32>,
) -> Result<Box<Dial>, Raised> {
    // The command leaves the run with the question, so it is not on its account.
    current.apart(|current| {
        let steps = parse(targets, &current.facts)?;
        Ok(Box::new(Dial { steps, ring_secs, max_call_secs, shape: current.shape.clone() }))
    })
}

/// The number of the call that calls both.
fn callback(first: &str, second: &str, options: &Map) -> Result<String, Raised> {
    let callback = with(|current| {
        current.used.callbacks += 1;
        if current.used.callbacks > current.limits.max_callbacks {
            return Err(current.limit(Limit::Callbacks));
        }
        let CallbackOptions { delay_secs, ring_secs, hold } = CallbackOptions::read(options)?;
        let ring_secs = ring_secs.map(|secs| secs.min(current.limits.max_ring_secs));
        let (mut first, mut second) =
            (prepare(current, first, ring_secs, None)?, prepare(current, second, ring_secs, None)?);
        // Each is offered what the other one says.
        current.uncounted(|_| (first.shape.body, second.shape.body) = (None, None));
        current.count_legs(&first)?;
        current.count_legs(&second)?;
        Ok(current.uncounted(|_| Box::new(Callback { first: *first, second: *second, delay_secs, hold })))
    })?;
    question(
        |_| Ask::Callback(callback),
        |_, reply| match reply {
            Reply::Text(Some(number)) => Some(number.clone()),
            _ => None,
        },
    )
}

/// Time until the first call: who is called back has hung up by then.
const CALLBACK_DELAY_SECS: u32 = 5;

/// What the options of `sys.callback` say.
struct CallbackOptions {
    delay_secs: u32,
    ring_secs: Option<u32>,
    hold: Hold,
}

impl CallbackOptions {
    fn read(options: &Map) -> Result<Self, Raised> {
        let mut read = Self { delay_secs: CALLBACK_DELAY_SECS, ring_secs: None, hold: Hold::default() };
        for (name, value) in options {
            let secs = || value.as_int().map_err(|_| format!("{name} is a number of seconds"));
            match name.as_str() {
                "delay" => read.delay_secs = whole(secs()?, "delay")?,
                "ring" => read.ring_secs = Some(whole(secs()?, "ring")?),
                "hold" => {
                    let hold = value.clone().into_immutable_string().ok().and_then(|name| Hold::named(&name));
                    read.hold = hold.ok_or("hold is \"inactive\" or \"recvonly\"")?;
                }
                _ => return Err(format!("there is no option `{name}`: write delay, ring or hold").into()),
            }
        }
        Ok(read)
    }
}

/// Asks for calls, and ends the run if one is answered, or if there is no caller any more.
fn dialled(question: Ask) -> Result<ImmutableString, Raised> {
    let dialled = ask(
        |_| question,
        |_, reply| match reply {
            Reply::Dialled(dialled) => Some(dialled.clone()),
            _ => None,
        },
    )?;
    with(|current| {
        let result = dialled.result;
        current.last = dialled;
        match result {
            DialResult::Answered => Err(current.end(Over::Done(Cause::Answered, None))),
            DialResult::ClientCancelled | DialResult::AdminCancelled => {
                Err(current.end(Over::Done(Cause::Cancelled, None)))
            }
            _ => Ok(result.name().into()),
        }
    })
}

fn responses(to: &mut Registry) {
    to.method("sys.respond(status)", |_: &mut Sys, status: INT| respond(status, "", Map::new()));
    to.method("sys.respond(status, reason)", |_: &mut Sys, status: INT, reason: &str| {
        respond(status, reason, Map::new())
    });
    to.method("sys.respond(status, reason, headers)", |_: &mut Sys, status: INT, reason: &str, headers: Map| {
        respond(status, reason, headers)
    });
}

/// A final response ends the run, a provisional one does not.
fn respond(status: INT, reason: &str, headers: Map) -> Result<(), Raised> {
    // §21: 2xx needs the callee's session description, which only a leg has; 100 is the transaction's own.
    let status = u16::try_from(status).ok().filter(|status| matches!(status, 101..=199 | 300..=699));
    let status = status.ok_or("a plan responds with a status from 101 to 199 or from 300 to 699")?;
    if reason.chars().any(char::is_control) {
        return Err("a reason phrase is one line of text".into());
    }
    let headers = header_map(headers)?;
    let response = Response { status, reason: reason.into(), headers };
    if status < 200 {
        return question(|_| Ask::Progress(response), |_, reply| matches!(reply, Reply::Done).then_some(()));
    }
    Err(with(|current| current.end(Over::Done(Cause::Responded, Some(response)))))
}

fn flow(to: &mut Registry) {
    to.method("sys.log(text)", |_: &mut Sys, text: Dynamic| {
        with(|current| current.log(&show(&text, current.limits.max_log_line_bytes)));
    });
    to.method("sys.trace() -> array", |_: &mut Sys| {
        with(|current| {
            current.trace.iter().map(|line| Dynamic::from(ImmutableString::from(&**line))).collect::<Array>()
        })
    });
    to.method("sys.extend_time(secs)", |_: &mut Sys, secs: INT| {
        let secs = whole(secs, "secs")?;
        with(|current| current.extended += Duration::from_secs(secs.into()));
        Ok::<(), Raised>(())
    });
    to.method("sys.sleep(secs)", |_: &mut Sys, secs: INT| sleep(Duration::from_secs(whole(secs, "secs")?.into())));
    to.hidden("sleep", |secs: FLOAT| match Duration::try_from_secs_f64(secs) {
        Ok(time) => sleep(time),
        Err(_) => Err("a plan waits for no less than 0 seconds".into()),
    });
    to.method("sys.exit()", |_: &mut Sys| -> Result<(), Raised> {
        Err(rhai::EvalAltResult::Exit(Dynamic::UNIT, rhai::Position::NONE).into())
    });
}

fn state(to: &mut Registry) {
    to.property("sys.is_in -> bool", |_: &mut Sys| with(|current| current.facts.direction == Direction::In));
    to.property("sys.is_out -> bool", |_: &mut Sys| with(|current| current.facts.direction == Direction::Out));
    to.property("sys.user -> string", |_: &mut Sys| with(|current| ImmutableString::from(&*current.facts.user)));
    to.property("sys.domain -> string", |_: &mut Sys| with(|current| ImmutableString::from(&*current.facts.domain)));
    to.property("sys.plan -> string", |_: &mut Sys| with(|current| ImmutableString::from(current.plan.name())));
    to.property("sys.source -> string", |_: &mut Sys| with(|current| ImmutableString::from(&*current.facts.source)));
    to.property("sys.providers -> array", |_: &mut Sys| {
        with(|current| {
            current.facts.providers.iter().map(|name| Dynamic::from(ImmutableString::from(&**name))).collect::<Array>()
        })
    });
    to.property("sys.last_result -> string", |_: &mut Sys| {
        with(|current| if current.used.legs == 0 { "" } else { current.last.result.name() }.to_owned())
    });
    to.property("sys.last_status -> int", |_: &mut Sys| with(|current| INT::from(current.last.status)));
    to.property("sys.last_reason -> string", |_: &mut Sys| with(|current| current.last.reason.clone()));
    to.property("sys.redirect_uri -> string or ()", |_: &mut Sys| {
        with(|current| current.last.redirect.clone().map_or(Dynamic::UNIT, Dynamic::from))
    });
    to.property("sys.last_legs -> array", |_: &mut Sys| with(|current| last_legs(&current.last)));
}

fn last_legs(last: &Dialled) -> Array {
    let legs = last.legs.iter().map(|leg| {
        let mut map = Map::new();
        map.insert("target".into(), leg.target.clone().into());
        map.insert("status".into(), INT::from(leg.status).into());
        map.insert("reason".into(), leg.reason.clone().into());
        Dynamic::from_map(map)
    });
    legs.collect()
}

/// A number of seconds as a script gives it: up to a day.
pub(super) fn whole(secs: INT, what: &str) -> Result<u32, Raised> {
    u32::try_from(secs)
        .ok()
        .filter(|secs| *secs <= 86_400)
        .ok_or_else(|| format!("{what} is {secs}: write a number from 0 to 86400").into())
}

/// What `sys.send` sends to: as a leg of a dial string names it.
pub(super) fn send(to: &mut Registry) {
    to.method("sys.send(method, target) -> map", |_: &mut Sys, method: &str, whom: &str| {
        send_request(method, whom, "", "")
    });
    to.method(
        "sys.send(method, target, content_type, body) -> map",
        |_: &mut Sys, method: &str, whom: &str, content_type: &str, text: &str| {
            send_request(method, whom, content_type, text)
        },
    );
}

/// Methods that need a transaction user of their own, or would end or begin what the switch keeps.
const NEVER_SENT: &[&str] = &["ACK", "BYE", "CANCEL", "INVITE", "REGISTER", "PRACK", "UPDATE"];

fn send_request(method: &str, whom: &str, content_type: &str, text: &str) -> Result<Map, Raised> {
    let method = method.to_ascii_uppercase();
    if NEVER_SENT.contains(&method.as_str()) {
        return Err(format!("a plan cannot send {method}").into());
    }
    if method.is_empty() || !method.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&b)) {
        return Err(format!("`{method}` is no method").into());
    }
    let body = if text.is_empty() { (Box::default(), Box::default()) } else { body(content_type, text)? };
    let request = with(|current| {
        let target = target(whom.trim(), &current.facts)?;
        let headers = current.shape.headers.clone();
        Ok::<_, String>(crate::OutOfDialog {
            method: method.into(),
            target,
            headers,
            body: body.1,
            content_type: body.0,
        })
    })?;
    question(
        |_| Ask::Send(Box::new(request)),
        |_, reply| match reply {
            Reply::Responded { status, reason, body } => {
                let mut map = Map::new();
                map.insert("status".into(), int(*status).into());
                map.insert("reason".into(), reason.clone().into());
                map.insert("body".into(), body.clone().into());
                Some(map)
            }
            _ => None,
        },
    )
}
