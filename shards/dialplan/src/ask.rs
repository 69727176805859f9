//! What a script asks of the application server, and the replies that resume it.

use crate::{
    Facts,
    dial::{Dial, Shape, parse::parse},
};

/// What a suspended run waits for. The variant of [`Reply`] that answers it stands with each.
#[derive(Clone, Debug, PartialEq)]
pub enum Ask {
    /// Call out: [`Reply::Dialled`].
    Dial(Box<Dial>),
    /// Call two parties and join them, in a call of its own: [`Reply::Text`] with the number of that call.
    Callback(Box<Callback>),
    /// Send a provisional response: [`Reply::Done`]. (A final response ends the run, see [`Ending`](crate::Ending).)
    Progress(Response),
    /// Hand the whole call to the application server of this name: [`Reply::Done`] ends the run; where it is that server already,
    /// [`Reply::Truth`]`(false)` goes on with the script.
    Forward(Box<str>),
    /// The bindings of a local account, best first: [`Reply::Bindings`].
    Bindings {
        /// User part.
        user: Box<str>,
        /// Domain.
        domain: Box<str>,
    },
    /// Is there such a local account: [`Reply::Truth`].
    AccountExists {
        /// User part.
        user: Box<str>,
        /// Domain.
        domain: Box<str>,
    },
    /// The canonical spelling of a domain of ours: [`Reply::Text`], None for a foreign one.
    CanonicalDomain(Box<str>),
    /// The URIs of a telephone number by ENUM (RFC 6116), best first: [`Reply::Texts`].
    Enum(Box<str>),
    /// Fetch from the web: [`Reply::Web`].
    Web(Box<WebRequest>),
    /// Read a key of the user's store: [`Reply::Text`].
    StoreGet(Box<str>),
    /// Write a key of the user's store: [`Reply::Done`].
    StorePut(Box<str>, Box<str>),
    /// Remove a key of the user's store: [`Reply::Done`].
    StoreDelete(Box<str>),
    /// The keys of the user's store that begin with this: [`Reply::Texts`].
    StoreList(Box<str>),
    /// The user's calls that go on now, without this one: [`Reply::Calls`].
    CurrentCalls,
    /// Send a request outside a dialog: [`Reply::Responded`].
    Send(Box<OutOfDialog>),
}

/// Answers an [`Ask`]. Any of them may be answered by [`Reply::Refused`].
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// What came of dialling.
    Dialled(Dialled),
    /// It is done.
    Done,
    /// Where an account is reached.
    Bindings(Vec<Binding>),
    /// Yes or no.
    Truth(bool),
    /// A text, if there is one.
    Text(Option<String>),
    /// Several texts.
    Texts(Vec<String>),
    /// What the web said.
    Web {
        /// Its status.
        status: u16,
        /// Its body, as text.
        body: String,
    },
    /// Calls that go on.
    Calls(Vec<Call>),
    /// The final response to a request of the script's.
    Responded {
        /// Its status.
        status: u16,
        /// Its reason phrase.
        reason: String,
        /// Its body, as text.
        body: String,
    },
    /// It cannot be had. The script's author reads why; a script may catch it (`try … catch`).
    Refused(String),
}

/// What came of a dial command, as a script compares it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DialResult {
    /// A leg answered. The run ends with it.
    Answered,
    /// Every leg rang until its time was over.
    NoAnswer,
    /// Every leg was refused.
    Failed,
    /// The caller gave up.
    ClientCancelled,
    /// An administrator ended it.
    AdminCancelled,
    /// The call may not take longer.
    TimedOut,
    /// It could not be tried.
    Error,
    /// The call is answered already.
    AlreadyAnswered,
    /// A leg redirects, and the plan wants to see to it.
    Redirect,
}

impl DialResult {
    /// Its name in scripts.
    pub fn name(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::NoAnswer => "no_answer",
            Self::Failed => "failed",
            Self::ClientCancelled => "client_cancelled",
            Self::AdminCancelled => "admin_cancelled",
            Self::TimedOut => "timed_out",
            Self::Error => "error",
            Self::AlreadyAnswered => "already_answered",
            Self::Redirect => "redirect",
        }
    }
}

/// The end of a dial command.
#[derive(Clone, Debug, PartialEq)]
pub struct Dialled {
    /// What came of it.
    pub result: DialResult,
    /// Status of the best final response; 0 for none.
    pub status: u16,
    /// Its reason phrase, or what was wrong.
    pub reason: String,
    /// Where a redirecting leg points.
    pub redirect: Option<String>,
    /// What became of each leg, in the order of dialling.
    pub legs: Vec<LegOutcome>,
}

/// What became of one leg.
#[derive(Clone, Debug, PartialEq)]
pub struct LegOutcome {
    /// Whom it called.
    pub target: String,
    /// Its final status; 0 for none.
    pub status: u16,
    /// Its reason phrase.
    pub reason: String,
}

/// A header field: its name and its value.
pub type HeaderField = (Box<str>, Box<str>);

/// A response that a script wants sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Response {
    /// From 100 to 699.
    pub status: u16,
    /// The reason phrase; empty stands for that of RFC 3261.
    pub reason: Box<str>,
    /// Further header fields.
    pub headers: Vec<HeaderField>,
}

/// Calls `first`, then `second`, and joins them.
#[derive(Clone, Debug, PartialEq)]
pub struct Callback {
    /// Dials the party that is called first.
    pub first: Dial,
    /// Dials the other one.
    pub second: Dial,
    /// Time until the first call.
    pub delay_secs: u32,
    /// What the first party is offered until it hears the other one.
    pub hold: Hold,
}

impl Callback {
    /// The one that an administrator asks for in the name of the user whom `facts` name: two dial strings.
    ///
    /// # Errors
    /// What is wrong with one of them, for who wrote it.
    pub fn parse(first: &str, second: &str, facts: &Facts) -> Result<Self, String> {
        let dial = |targets| {
            let steps = parse(targets, facts)?;
            Ok::<_, String>(Dial { steps, ring_secs: None, max_call_secs: None, shape: Shape::default() })
        };
        Ok(Self { first: dial(first)?, second: dial(second)?, delay_secs: 0, hold: Hold::default() })
    }
}

/// The direction of a stream that nobody listens to yet (RFC 3264 §5.1), as the offer says it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hold {
    /// Nobody sends.
    #[default]
    Inactive,
    /// The party may send. Some gateways hang up a call without any media; this keeps them.
    ReceiveOnly,
}

impl Hold {
    /// The attribute's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Inactive => "inactive",
            Self::ReceiveOnly => "recvonly",
        }
    }

    /// The one of that name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Inactive, Self::ReceiveOnly].into_iter().find(|hold| hold.name() == name)
    }
}

/// A request to the web.
#[derive(Clone, Debug, PartialEq)]
pub struct WebRequest {
    /// The resource.
    pub url: Box<str>,
    /// For POST, the body and its type.
    pub post: Option<(Box<str>, Box<str>)>,
}

/// A request outside a dialog: never ACK, BYE, CANCEL, INVITE or REGISTER.
#[derive(Clone, Debug, PartialEq)]
pub struct OutOfDialog {
    /// Its method.
    pub method: Box<str>,
    /// Whom it is for.
    pub target: crate::dial::Target,
    /// Further header fields.
    pub headers: Vec<HeaderField>,
    /// Its body and the type; empty for none.
    pub body: Box<str>,
    /// The body's type.
    pub content_type: Box<str>,
}

/// Where an account is reached.
#[derive(Clone, Debug, PartialEq)]
pub struct Binding {
    /// The contact's URI.
    pub uri: String,
    /// Preference in thousandths.
    pub q: u16,
    /// How long it holds.
    pub expires_secs: u32,
    /// What the phone calls itself.
    pub user_agent: String,
}

/// A call of the user's that goes on.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// Who called, as a URI.
    pub from: String,
    /// Whom, as a URI.
    pub to: String,
    /// Whether it came to the user or was placed by him.
    pub direction: crate::Direction,
    /// Since its answer; None before.
    pub answered_secs: Option<u32>,
}
