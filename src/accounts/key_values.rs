//! What users' scripts keep from one call to the next: keys and values, few and short, answered on a thread of its own.

use super::{AccountsError, Aor, Database};
use crate::{
    config,
    fair::{FairQueue, Refused},
};
use rusqlite::{Connection, OptionalExtension, params};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

/// Keys of one user.
pub const MAX_KEYS: u32 = 1_000;

/// Octets of a key.
pub const MAX_KEY_OCTETS: usize = 128;

/// Octets of a value.
pub const MAX_VALUE_OCTETS: usize = 4_096;

/// What a script wants of its user's store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyValueQuery {
    /// Answered by [`KeyValueAnswer::Value`].
    Get(String),
    /// Answered by [`KeyValueAnswer::Done`].
    Put(String, String),
    /// Answered by [`KeyValueAnswer::Done`], whether or not it was there.
    Delete(String),
    /// The keys that begin like this. Answered by [`KeyValueAnswer::Keys`].
    List(String),
}

/// What the store says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyValueAnswer {
    /// The value, if there is one.
    Value(Option<String>),
    /// It is done, and on the disk.
    Done,
    /// The keys, in order.
    Keys(Vec<String>),
    /// It cannot be; the sentence is for the script's author.
    Refused(String),
}

/// Takes an answer, on the store's thread: it hands it to the shard that has asked, and wakes it.
pub type KeyValueReply = Box<dyn FnOnce(KeyValueAnswer) + Send>;

struct Question {
    owner: Aor,
    query: KeyValueQuery,
    reply: KeyValueReply,
}

/// The running store. Its thread ends when this is dropped.
pub struct KeyValues {
    questions: Arc<FairQueue<Question>>,
    thread: Option<JoinHandle<()>>,
}

impl KeyValues {
    /// Starts the thread, over the database `file`.
    pub fn start(file: PathBuf, settings: &config::Store) -> std::io::Result<Self> {
        let (max, max_per_user) = (settings.max_waiting as usize, settings.max_waiting_per_user as usize);
        let questions = Arc::new(FairQueue::new(max, max_per_user));
        let asked = Arc::clone(&questions);
        let thread = std::thread::Builder::new().name("key-values".to_owned()).spawn(move || serve(file, &asked))?;
        Ok(Self { questions, thread: Some(thread) })
    }

    /// Asks in the name of `owner`. Where too many questions wait, in all or of his, the answer is given at once, and is that.
    pub fn ask(&self, owner: Aor, query: KeyValueQuery, reply: KeyValueReply) {
        let user = owner.to_string();
        let (question, whose) = match self.questions.push(&user, Question { owner, query, reply }) {
            Ok(()) => return,
            Err(Refused::Full(question)) => (question, "`store.max_waiting`"),
            Err(Refused::Share(question)) => (question, "of yours, `store.max_waiting_per_user`"),
        };
        let why = format!("too many questions to the store wait ({whose}); try again later");
        (question.reply)(KeyValueAnswer::Refused(why));
    }
}

impl Drop for KeyValues {
    fn drop(&mut self) {
        self.questions.close();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that keeps users' keys and values had panicked");
        }
    }
}

fn serve(file: PathBuf, asked: &FairQueue<Question>) {
    let mut database = None;
    while let Some(Question { owner, query, reply }) = asked.pop() {
        let answer = answer(&mut database, &file, &owner, query).unwrap_or_else(|error| {
            tracing::error!(%error, "a user's keys and values cannot be had");
            KeyValueAnswer::Refused("the store does not work now".to_owned())
        });
        reply(answer);
    }
}

fn answer(
    database: &mut Option<Database>,
    file: &std::path::Path,
    owner: &Aor,
    query: KeyValueQuery,
) -> Result<KeyValueAnswer, AccountsError> {
    let database = match database {
        Some(database) => database,
        none => none.insert(Database::open(file)?),
    };
    let answered = database.write(|transaction| match query {
        KeyValueQuery::Get(key) => get(transaction, owner, &key).map(KeyValueAnswer::Value),
        KeyValueQuery::Put(key, value) => put(transaction, owner, &key, &value),
        KeyValueQuery::Delete(key) => {
            let sql = "DELETE FROM kv WHERE domain = ?1 AND user = ?2 AND key = ?3";
            transaction.prepare_cached(sql)?.execute(params![owner.domain, owner.user, key])?;
            Ok(KeyValueAnswer::Done)
        }
        KeyValueQuery::List(prefix) => {
            let sql =
                "SELECT key FROM kv WHERE domain = ?1 AND user = ?2 AND substr(key, 1, length(?3)) = ?3 ORDER BY key";
            let mut select = transaction.prepare_cached(sql)?;
            let keys = select.query_map(params![owner.domain, owner.user, prefix], |row| row.get(0))?;
            keys.collect::<rusqlite::Result<_>>().map(KeyValueAnswer::Keys)
        }
    });
    answered.map_err(|error| database.sqlite(error))
}

fn get(connection: &Connection, owner: &Aor, key: &str) -> rusqlite::Result<Option<String>> {
    let sql = "SELECT value FROM kv WHERE domain = ?1 AND user = ?2 AND key = ?3";
    connection.prepare_cached(sql)?.query_row(params![owner.domain, owner.user, key], |row| row.get(0)).optional()
}

fn put(connection: &Connection, owner: &Aor, key: &str, value: &str) -> rusqlite::Result<KeyValueAnswer> {
    if key.is_empty() || key.len() > MAX_KEY_OCTETS {
        return Ok(KeyValueAnswer::Refused(format!("a key has 1 to {MAX_KEY_OCTETS} octets")));
    }
    if value.len() > MAX_VALUE_OCTETS {
        return Ok(KeyValueAnswer::Refused(format!("a value has at most {MAX_VALUE_OCTETS} octets")));
    }
    let sql = "SELECT count(*) FROM kv WHERE domain = ?1 AND user = ?2 AND key <> ?3";
    let others: u32 =
        connection.prepare_cached(sql)?.query_row(params![owner.domain, owner.user, key], |row| row.get(0))?;
    if others >= MAX_KEYS {
        return Ok(KeyValueAnswer::Refused(format!("a user has at most {MAX_KEYS} keys; delete some")));
    }
    let sql = "INSERT INTO kv (user, domain, key, value) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO UPDATE SET value = ?4";
    connection.prepare_cached(sql)?.execute(params![owner.user, owner.domain, key, value])?;
    Ok(KeyValueAnswer::Done)
}
