//! From the bindings an address-of-record has to those it is to have (RFC 3261 §10.3 steps 6 and 7).
//!
//! Runs under the address-of-record's lock. Nothing is changed before all is decided: the request is done as a whole or
//! not at all.

use crate::{
    Counters, WhenFull,
    contact::{Contact, Wanted},
    refusal::Refusal,
};
use bumpalo::{Bump, collections::Vec as BumpVec};
use sip::{Octets, Uri};
use store::{Binding, Draft, Record, TooLong};

/// A change that is wanted.
pub(crate) struct Update<'t> {
    pub(crate) wanted: Wanted<'t>,
    /// What a binding of this request has but for its contact: when, who, from where.
    pub(crate) template: Binding<'t>,
    /// Most bindings.
    pub(crate) max_bindings: usize,
    pub(crate) when_full: WhenFull,
    /// Whether a change may begin: there is room for its answer, and hope that its record is kept.
    pub(crate) may_begin: bool,
}

/// Why there is no new record.
pub(crate) enum Stop {
    /// All is as it is wanted: this is a retransmission, or removes what is not there.
    Unchanged,
    /// The request cannot be done.
    Refused(Refusal<'static>),
}

impl From<TooLong> for Stop {
    fn from(fault: TooLong) -> Self {
        Self::Refused(fault.into())
    }
}

/// What an update did to how many bindings.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    registered: u64,
    refreshed: u64,
    removed: u64,
    replaced: u64,
}

impl Tally {
    pub(crate) fn add_to(self, counters: &mut Counters) {
        counters.registered += self.registered;
        counters.refreshed += self.refreshed;
        counters.removed += self.removed;
        counters.replaced += self.replaced;
    }
}

/// A binding as it is to be.
#[derive(Clone, Copy)]
struct Entry<'r> {
    binding: Binding<'r>,
    /// This request made it so.
    is_ours: bool,
}

impl<'t> Update<'t> {
    /// Packs the bindings that are to be into `draft`, and writes the Contact lines that enumerate them (step 8), also if
    /// nothing changes.
    pub(crate) fn decide(
        &self,
        current: Option<&Record>,
        draft: &mut Draft,
        arena: &'t Bump,
        lines: &mut impl Octets,
    ) -> Result<Tally, Stop> {
        let now = self.template.registered_at;
        let mut entries = BumpVec::new_in(arena);
        if let Some(record) = current {
            entries.extend(record.live(now).map(|binding| Entry { binding, is_ours: false }));
        }
        let mut tally = Tally::default();
        match self.wanted {
            Wanted::Nothing => {}
            Wanted::NoBinding => {
                for entry in &entries {
                    if !self.is_later_than(&entry.binding)? {
                        return Err(Stop::Refused(Refusal::OutOfOrder));
                    }
                }
                tally.removed = entries.len() as u64;
                entries.clear();
            }
            Wanted::Contacts(contacts) => {
                for contact in contacts {
                    self.apply(contact, &mut entries, &mut tally)?;
                }
                self.make_room(&mut entries, &mut tally)?;
            }
        }
        entries.iter().for_each(|entry| write_contact(&entry.binding, now, lines));
        if tally.registered + tally.refreshed + tally.removed == 0 {
            return Err(Stop::Unchanged);
        }
        if !self.may_begin {
            return Err(Stop::Refused(Refusal::Unavailable));
        }
        entries.iter().try_for_each(|entry| draft.push(&entry.binding))?;
        Ok(tally)
    }

    /// Adds, refreshes or removes one contact (step 7).
    fn apply<'r>(
        &self,
        contact: &Contact<'t>,
        entries: &mut BumpVec<'t, Entry<'r>>,
        tally: &mut Tally,
    ) -> Result<(), Stop>
    where
        't: 'r,
    {
        let mine = Entry { binding: self.binding(contact), is_ours: true };
        let Some(place) = entries.iter().position(|entry| is_of(&entry.binding, contact)) else {
            if contact.expires_secs > 0 {
                entries.push(mine);
                tally.registered += 1;
            }
            return Ok(());
        };
        let entry = entries[place];
        // The same contact twice in one request: the last one counts.
        if !entry.is_ours {
            if !self.is_later_than(&entry.binding)? {
                // Step 7 fails what does not count on. But a request whose binding stands as it made it is its
                // retransmission: without a transaction layer (§17.2.2) it is here that it meets the same answer.
                return if contact.expires_secs > 0 { Ok(()) } else { Err(Stop::Refused(Refusal::OutOfOrder)) };
            }
            if contact.expires_secs > 0 {
                tally.refreshed += 1;
            } else {
                tally.removed += 1;
            }
        }
        if contact.expires_secs > 0 {
            entries[place] = mine;
        } else {
            entries.remove(place);
        }
        Ok(())
    }

    /// Whether this request comes after the one that made `binding`, as far as their order is known: requests of another
    /// Call-ID count as later (steps 6 and 7). False for the very request that made it.
    fn is_later_than(&self, binding: &Binding<'_>) -> Result<bool, Stop> {
        let Binding { call_id, cseq, .. } = self.template;
        if binding.call_id != call_id || cseq > binding.cseq {
            return Ok(true);
        }
        if cseq == binding.cseq { Ok(false) } else { Err(Stop::Refused(Refusal::OutOfOrder)) }
    }

    /// Keeps the number of bindings within its bound. Only a request that adds one is held to it.
    fn make_room(&self, entries: &mut BumpVec<'t, Entry<'_>>, tally: &mut Tally) -> Result<(), Stop> {
        while tally.registered > 0 && entries.len() > self.max_bindings {
            let full = Stop::Refused(Refusal::TooManyBindings);
            if self.when_full == WhenFull::Refuse {
                return Err(full);
            }
            let others = entries.iter().enumerate().filter(|(_, entry)| !entry.is_ours);
            // Of those of one second the first: new ones are put behind.
            let oldest = others.min_by_key(|(_, entry)| entry.binding.registered_at).map(|(place, _)| place);
            entries.remove(oldest.ok_or(full)?);
            tally.replaced += 1;
        }
        Ok(())
    }

    fn binding(&self, contact: &Contact<'t>) -> Binding<'t> {
        Binding {
            contact: contact.uri,
            params: contact.params,
            q: contact.q,
            expires_at: self.template.registered_at + u64::from(contact.expires_secs),
            instance: contact.instance,
            reg_id: contact.reg_id,
            methods: contact.methods,
            ..self.template
        }
    }
}

/// Whether `contact` is the one that `binding` is to. A binding to a flow is known by its instance and reg-id, whatever the
/// URI (RFC 5626 §6; instances are compared octet by octet, §4.1); any other by its URI.
fn is_of(binding: &Binding<'_>, contact: &Contact<'_>) -> bool {
    if binding.reg_id.is_some() || contact.reg_id.is_some() {
        return binding.reg_id == contact.reg_id && binding.instance == contact.instance;
    }
    // The same octets are what a refresh brings.
    binding.contact == contact.uri
        || match (Uri::parse(binding.contact), Uri::parse(contact.uri)) {
            (Ok(Uri::Sip(a)), Ok(Uri::Sip(b))) => a.is_equivalent(&b),
            _ => false,
        }
}

/// Writes the Contact line of a binding (step 8).
pub(crate) fn write_contact(binding: &Binding<'_>, now: u64, out: &mut impl Octets) {
    out.put(b"Contact: <");
    out.put(binding.contact);
    out.put(b">;expires=");
    out.put_number(binding.expires_at.saturating_sub(now));
    if binding.q != 1000 {
        out.put(b";q=0.");
        out.put(&[100, 10, 1].map(|unit| b'0' + (binding.q / unit % 10) as u8));
    }
    for (name, value) in [(&b";+sip.instance="[..], binding.instance), (b";methods=", binding.methods)] {
        if !value.is_empty() {
            out.put(name);
            out.put(value);
        }
    }
    if let Some(reg_id) = binding.reg_id {
        out.put(b";reg-id=");
        out.put_number(reg_id.into());
    }
    out.put(binding.params);
    out.put(b"\r\n");
}
