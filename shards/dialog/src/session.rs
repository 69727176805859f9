//! Offers and answers (RFC 3264): where they stand (RFC 3261 §13.2.1, RFC 3262 §5, RFC 3311 §5, RFC 6337 §2), who has an
//! offer outstanding, and what glare is answered with (RFC 3261 §14).
//!
//! A session is one leg's. It is a small value: early dialogs that fork from one INVITE each take a copy of what was when
//! the INVITE went out. It never reads a session description.

use sip::StatusCode;
use std::time::Duration;

/// Where in the exchange of messages a session description stands, or might.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// INVITE, the first one or a re-INVITE.
    Invite,
    /// A provisional response to INVITE without 100rel.
    Provisional,
    /// A reliable provisional response to INVITE (RFC 3262).
    ReliableProvisional,
    /// A 2xx to INVITE.
    Success,
    /// A final response to INVITE that is no 2xx. It carries no session description. One to an INVITE that was refused for
    /// its [`Conflict`] is none to take note of.
    Failure,
    /// ACK for a 2xx.
    Ack,
    /// PRACK.
    Prack,
    /// A 2xx to PRACK.
    PrackSuccess,
    /// A final response to PRACK that is no 2xx, or none at all.
    PrackFailure,
    /// UPDATE (RFC 3311).
    Update,
    /// A 2xx to UPDATE.
    UpdateSuccess,
    /// A final response to UPDATE that is no 2xx, or none at all. As for [`Place::Failure`], one to a refused UPDATE does not count.
    UpdateFailure,
}

/// What a session description is, by its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// There is none, and none was due.
    Nothing,
    /// An offer: an answer is due.
    Offer,
    /// The answer to the offer that was outstanding.
    Answer,
    /// The answer (or the offer, if the INVITE had none) ahead of its time, in a response that may be lost (RFC 3261 §13.2.1).
    /// Nothing is settled until the same comes reliably.
    Preview,
    /// A repetition of what has been answered already; it changes nothing (RFC 6337 §2).
    Repetition,
}

/// Why a message cannot be taken in the state in which the session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conflict {
    /// Both ends have sent an INVITE, or an offer, at the same time (RFC 3261 §14.2, RFC 3311 §5.2): 491.
    Glare,
    /// The peer sends a further INVITE or offer before we have answered his last one (§14.2, RFC 3311 §5.2): 500 with a
    /// Retry-After of 0 to 10 seconds, see [`retry_after_secs`].
    Unanswered,
    /// A session description where none may be, or no answer where one had to be. There is no status for it in a response
    /// or an ACK: the call cannot go on, and is ended with a BYE.
    Unexpected,
}

impl Conflict {
    /// The answer to a request; `None` where the call is to be ended.
    pub fn response(self) -> Option<StatusCode> {
        match self {
            Self::Glare => Some(StatusCode::REQUEST_PENDING),
            Self::Unanswered => Some(StatusCode::SERVER_INTERNAL_ERROR),
            Self::Unexpected => None,
        }
    }
}

/// One end of a dialog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Ours.
    Local,
    /// The peer's.
    Remote,
}

impl End {
    fn other(self) -> Self {
        match self {
            Self::Local => Self::Remote,
            Self::Remote => Self::Local,
        }
    }
}

/// The state of offer and answer in one dialog.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Session {
    /// Whose offer is outstanding, and in which message it came.
    offer: Option<(End, Place)>,
    /// Whose INVITE has no final response yet.
    invite: Option<Invite>,
    /// Whether an UPDATE of ours, and one of the peer's, has no final response yet, with an offer or without.
    is_updating: [bool; 2],
    /// Whether an offer has ever been answered.
    is_agreed: bool,
}

/// An INVITE under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Invite {
    by: End,
    /// Whether its own exchange of offer and answer has been done.
    is_agreed: bool,
    /// Whether a response that may be lost had the answer.
    is_previewed: bool,
    /// Whether its 2xx has passed; ACK is what is left.
    has_succeeded: bool,
}

impl Session {
    /// A session in which nothing has been said.
    pub fn new() -> Self {
        Self::default()
    }

    /// A session that was agreed on before its process ended: nothing is known to be outstanding.
    pub fn resumed() -> Self {
        Self { is_agreed: true, ..Self::default() }
    }

    /// Whose offer waits for an answer.
    pub fn outstanding(&self) -> Option<End> {
        self.offer.map(|(by, _)| by)
    }

    /// Whose INVITE is under way: sent, and without a final response; with a 2xx, until its ACK.
    pub fn inviting(&self) -> Option<End> {
        self.invite.map(|i| i.by)
    }

    /// Whether an offer has ever been answered.
    pub fn is_agreed(&self) -> bool {
        self.is_agreed
    }

    /// Whether we may send an INVITE now: no other is under way and no offer outstanding (§14.1).
    pub fn may_invite(&self) -> bool {
        self.invite.is_none() && self.may_offer()
    }

    /// Whether we may send an offer in an UPDATE or a PRACK now: no offer is outstanding either way (RFC 3311 §5.1, RFC 3262
    /// §5), and no UPDATE under way.
    pub fn may_offer(&self) -> bool {
        self.offer.is_none() && !self.is_updating[End::Local as usize]
    }

    /// What a description that we put into that place now would be.
    ///
    /// # Errors
    /// As [`Session::pass`].
    pub fn would_send(&self, place: Place) -> Result<Meaning, Conflict> {
        { *self }.pass(End::Local, place, true)
    }

    /// Takes note of a message of ours.
    ///
    /// # Errors
    /// It may not be sent now; nothing has changed.
    pub fn sent(&mut self, place: Place, has_description: bool) -> Result<Meaning, Conflict> {
        self.pass(End::Local, place, has_description)
    }

    /// Takes note of a message of the peer's: not a retransmission, which its transaction has kept back.
    ///
    /// # Errors
    /// It is answered with [`Conflict::response`] or ends the call; nothing has changed.
    pub fn received(&mut self, place: Place, has_description: bool) -> Result<Meaning, Conflict> {
        self.pass(End::Remote, place, has_description)
    }

    fn pass(&mut self, from: End, place: Place, has_description: bool) -> Result<Meaning, Conflict> {
        let mut next = *self;
        let meaning = match place {
            Place::Invite => next.invite(from, has_description)?,
            Place::Provisional | Place::ReliableProvisional | Place::Success => {
                next.invite_response(from, place, has_description)?
            }
            Place::Ack => next.ack(from, has_description)?,
            Place::Failure => {
                next.invite = next.invite.filter(|i| i.by == from);
                // §14.1: the session is as if the re-INVITE had never been. What was answered within it stays.
                next.withdraw(&[Place::Invite, Place::ReliableProvisional, Place::Prack]);
                Meaning::Nothing
            }
            Place::Prack => next.request_in_early_dialog(from, place, has_description)?,
            Place::Update => {
                if std::mem::replace(&mut next.is_updating[from as usize], true) {
                    return Err(Conflict::Unanswered);
                }
                next.request_in_early_dialog(from, place, has_description)?
            }
            Place::PrackFailure => {
                next.withdraw(&[Place::Prack]);
                Meaning::Nothing
            }
            Place::PrackSuccess => next.answer_in_response(from, Place::Prack, has_description)?,
            Place::UpdateSuccess => {
                next.is_updating[from.other() as usize] = false;
                next.answer_in_response(from, Place::Update, has_description)?
            }
            Place::UpdateFailure => {
                next.is_updating[from.other() as usize] = false;
                next.withdraw(&[Place::Update]);
                Meaning::Nothing
            }
        };
        *self = next;
        Ok(meaning)
    }

    fn invite(&mut self, from: End, has_description: bool) -> Result<Meaning, Conflict> {
        // §14.1: we wait for the ACK to our 2xx. The peer, who has sent one, may overtake it.
        if let Some(invite) = self.invite.filter(|i| from == End::Local || !i.has_succeeded) {
            return Err(conflict(invite.by, from));
        }
        if let Some((by, _)) = self.offer {
            return Err(conflict(by, from));
        }
        self.invite = Some(Invite { by: from, is_agreed: false, is_previewed: false, has_succeeded: false });
        Ok(if has_description { self.offer(from, Place::Invite) } else { Meaning::Nothing })
    }

    fn invite_response(&mut self, from: End, place: Place, has_description: bool) -> Result<Meaning, Conflict> {
        let invite = self.invite.filter(|i| i.by != from).ok_or(Conflict::Unexpected)?;
        let is_success = place == Place::Success;
        let is_previewed = invite.is_previewed || (has_description && place == Place::Provisional);
        self.invite = Some(Invite { is_previewed, has_succeeded: invite.has_succeeded || is_success, ..invite });
        match self.offer {
            // RFC 6337 §2 pattern 1 and 3: the offer in the INVITE is answered in a reliable response.
            Some((by, Place::Invite)) if by != from => match (has_description, place) {
                // §13.2.1 wants the answer in the 2xx again. Gateways that gave it in a 183 alone have given it.
                (false, Place::Success) if invite.is_previewed => {
                    self.answer();
                    Ok(Meaning::Nothing)
                }
                (false, Place::Success) => Err(Conflict::Unexpected),
                (false, _) => Ok(Meaning::Nothing),
                (true, Place::Provisional) => Ok(Meaning::Preview),
                (true, _) => {
                    self.answer();
                    Ok(Meaning::Answer)
                }
            },
            // Another offer is outstanding (in an earlier reliable response, in PRACK or in UPDATE).
            Some(_) if has_description && place != Place::Provisional => Err(Conflict::Unexpected),
            Some(_) => Ok(Meaning::Nothing),
            None if !has_description => {
                // §13.2.1: without an offer in the INVITE, the 2xx has to have one if none was in a reliable response.
                if is_success && !invite.is_agreed { Err(Conflict::Unexpected) } else { Ok(Meaning::Nothing) }
            }
            None if invite.is_agreed => Ok(Meaning::Repetition),
            // Pattern 2 and 4: the first reliable response has the offer. One that may be lost cannot carry it.
            None if place == Place::Provisional => Ok(Meaning::Preview),
            None => Ok(self.offer(from, place)),
        }
    }

    fn ack(&mut self, from: End, has_description: bool) -> Result<Meaning, Conflict> {
        let is_due = self.invite.is_some_and(|i| i.by == from && i.has_succeeded);
        if is_due {
            self.invite = None;
        }
        match self.offer {
            Some((by, Place::Success)) if by != from => {
                if !has_description {
                    return Err(Conflict::Unexpected);
                }
                self.answer();
                Ok(Meaning::Answer)
            }
            // Phones repeat their offer or the answer in the ACK; after the exchange it means nothing.
            _ if has_description && is_due => Ok(Meaning::Repetition),
            _ => Ok(Meaning::Nothing),
        }
    }

    /// PRACK and UPDATE: an answer to an offer in a reliable response (PRACK only), or an offer.
    fn request_in_early_dialog(&mut self, from: End, place: Place, has_description: bool) -> Result<Meaning, Conflict> {
        match self.offer {
            Some((by, Place::ReliableProvisional)) if by != from && place == Place::Prack => {
                if !has_description {
                    return Err(Conflict::Unexpected);
                }
                self.answer();
                Ok(Meaning::Answer)
            }
            _ if !has_description => Ok(Meaning::Nothing),
            Some((by, _)) => Err(conflict(by, from)),
            None => Ok(self.offer(from, place)),
        }
    }

    /// A 2xx to PRACK or UPDATE: it has the answer if, and only if, the request had an offer.
    fn answer_in_response(&mut self, from: End, request: Place, has_description: bool) -> Result<Meaning, Conflict> {
        let is_due = self.offer == Some((from.other(), request));
        match (is_due, has_description) {
            (true, true) => {
                self.answer();
                Ok(Meaning::Answer)
            }
            (false, false) => Ok(Meaning::Nothing),
            (true, false) | (false, true) => Err(Conflict::Unexpected),
        }
    }

    fn offer(&mut self, by: End, place: Place) -> Meaning {
        self.offer = Some((by, place));
        Meaning::Offer
    }

    fn answer(&mut self) {
        self.offer = None;
        self.is_agreed = true;
        if let Some(invite) = &mut self.invite {
            invite.is_agreed = true;
        }
    }

    /// Forgets an offer that was made in one of `places`.
    fn withdraw(&mut self, places: &[Place]) {
        if self.offer.is_some_and(|(_, place)| places.contains(&place)) {
            self.offer = None;
        }
    }
}

/// §14.2: what a request of `from` meets while one of `by` is under way.
fn conflict(by: End, from: End) -> Conflict {
    if by == from { Conflict::Unanswered } else { Conflict::Glare }
}

/// How long to wait after a 491 before the request is tried again (§14.1): 2.1 to 4 seconds for the end that owns the Call-ID, 0
/// to 2 for the other, in steps of 10 ms.
pub fn glare_retry(owns_call_id: bool, seed: u64) -> Duration {
    let steps = if owns_call_id { 210 + seed % 191 } else { seed % 201 };
    Duration::from_millis(10 * steps)
}

/// The Retry-After of a 500 to [`Conflict::Unanswered`] (§14.2): 0 to 10 seconds.
pub fn retry_after_secs(seed: u64) -> u32 {
    (seed % 11) as u32
}
