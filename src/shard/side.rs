//! What scripts ask that takes others' time: the web, their users' keys and values. Threads of the edge answer, and the shard
//! that has asked finds the answers when it is woken.

use super::neighbours::refused;
use crate::{
    accounts::{Aor, KeyValueAnswer, KeyValueQuery, KeyValues},
    config::Config,
    io::Waker,
    raw::Raw,
    web::{Web, WebRequest},
};
use appserver::{Answer, Impersonator, Query, QueryId};
use dialplan::Reply;
use std::{
    io,
    os::fd::OwnedFd,
    sync::{Arc, mpsc},
};

/// The services of a process.
pub struct Side {
    web: Web,
    keys: KeyValues,
    raw: Option<Raw>,
}

impl Side {
    /// Starts their threads. `raw` is the socket to the process that sends for callbacks, if there is one.
    pub fn start(config: &Config, raw: Option<OwnedFd>) -> io::Result<Self> {
        let side = Self {
            web: Web::start(&config.web)?,
            keys: KeyValues::start(config.database(), &config.store)?,
            raw: raw.map(|socket| Raw::new(socket, config)).transpose()?,
        };
        side.follow(config);
        Ok(side)
    }

    /// Follows a configuration that has been read again.
    pub fn follow(&self, config: &Config) {
        if let Some(raw) = self.raw.as_ref().filter(|_| !config.callback.impersonate) {
            raw.turn_off();
        }
    }

    /// What the process that sends for calls back has done, by names such as `callback.sent`.
    pub fn figures(&self) -> impl Iterator<Item = (String, u64)> + use<> {
        self.raw.as_ref().map(Raw::figures).into_iter().flatten()
    }
}

/// A shard's link to them. What is under way they bound themselves, and so are the answers that wait here.
pub struct SideLink {
    side: Arc<Side>,
    waker: Arc<Waker>,
    answers: mpsc::Sender<Answered>,
    answered: mpsc::Receiver<Answered>,
}

/// An answer, and which application server has asked.
pub struct Answered {
    /// Its number in the configuration.
    pub app: usize,
    /// Names the question.
    pub id: QueryId,
    /// The answer.
    pub answer: Answer,
}

impl SideLink {
    /// The link of the shard that `waker` wakes.
    pub fn new(side: Arc<Side>, waker: Arc<Waker>) -> Self {
        let (answers, answered) = mpsc::channel();
        Self { side, waker, answers, answered }
    }

    /// Asks in the name of application server `app`: the answer if it is there at once, else it comes by
    /// [`SideLink::next`].
    pub fn ask(&self, app: usize, id: QueryId, query: &Query<'_>) -> Option<Answer> {
        let (user, query) = match *query {
            Query::Web { user, request } => {
                let post = request.post.as_ref().map(|(body, kind)| (kind.to_string(), body.to_string()));
                let tell = self.teller(app, id);
                let reply = move |answer| {
                    tell(match answer {
                        Ok((status, body)) => Reply::Web { status, body },
                        Err(why) => Reply::Refused(why),
                    });
                };
                self.side.web.ask(user, WebRequest { url: request.url.to_string(), post }, Box::new(reply));
                return None;
            }
            Query::StoreGet { user, key } => (user, KeyValueQuery::Get(key.to_owned())),
            Query::StorePut { user, key, value } => (user, KeyValueQuery::Put(key.to_owned(), value.to_owned())),
            Query::StoreDelete { user, key } => (user, KeyValueQuery::Delete(key.to_owned())),
            Query::StoreList { user, prefix } => (user, KeyValueQuery::List(prefix.to_owned())),
            Query::Bindings { .. } | Query::Enum { .. } => return Some(refused()),
        };
        // Scripts run for accounts of ours, whose addresses of record are canonical.
        let Ok(owner) = Aor::parse(user, "") else { return Some(refused()) };
        let tell = self.teller(app, id);
        let reply = move |answer| {
            tell(match answer {
                KeyValueAnswer::Value(value) => Reply::Text(value),
                KeyValueAnswer::Done => Reply::Done,
                KeyValueAnswer::Keys(keys) => Reply::Texts(keys),
                KeyValueAnswer::Refused(why) => Reply::Refused(why),
            });
        };
        self.side.keys.ask(owner, query, Box::new(reply));
        None
    }

    /// The way to the process that sends for calls back; None where `callback.impersonate` is false.
    pub fn impersonator(&self) -> Option<&dyn Impersonator> {
        let raw = self.side.raw.as_ref().filter(|raw| !raw.is_off());
        raw.map(|raw| raw as &dyn Impersonator)
    }

    /// An answer that has come.
    pub fn next(&self) -> Option<Answered> {
        self.answered.try_recv().ok()
    }

    /// What brings an answer to the shard, from another thread.
    fn teller(&self, app: usize, id: QueryId) -> impl FnOnce(Reply) + Send + use<> {
        let (answers, waker) = (self.answers.clone(), Arc::clone(&self.waker));
        move |reply| {
            // The shard may have ended.
            let _ = answers.send(Answered { app, id, answer: Answer::Reply(reply) });
            waker.wake();
        }
    }
}
