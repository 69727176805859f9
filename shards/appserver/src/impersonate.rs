//! What gateways need that send nothing before they have received something: once the two parties of a call back are joined, each hears a
//! few packets of silence that seem to come from the other (crate [`callback`], which says what is allowed).
//!
//! It begins when both have taken what the other said last and their ACKs are on the way, and ends with the call or with the next offer.

use crate::{bridge::Side, established::Established, shared::Context};
use callback::{Impersonation, Media, NoMedia, Refusal};

/// What both parties, near and far, have answered first: what they say later must be at the same addresses.
#[derive(Clone, Copy)]
pub(crate) struct Answered([Option<Media>; 2]);

/// Why a party hears nothing of that kind.
#[derive(Debug, thiserror::Error)]
enum Unheard {
    #[error("what the {0} party has answered cannot be used, for {1}")]
    NoMedia(&'static str, NoMedia),
    #[error("the address of the {0} party has changed since it answered")]
    Changed(&'static str),
    #[error(
        "what they have answered is put right for phones behind a NAT (mangle=on), and is not what they have answered any more"
    )]
    Mangled,
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl Answered {
    /// Of both descriptions. One that tells no address, of a stream that is held for instance, leaves it to the next.
    pub fn of(near: &[u8], far: &[u8]) -> Self {
        Self([near, far].map(|sdp| Media::of_sdp(sdp).ok()))
    }

    /// Where a party is heard by what it has `said` last.
    fn now(&self, side: Side, said: &[u8]) -> Result<Media, Unheard> {
        let (party, before) = match side {
            Side::Near => ("first", &self.0[0]),
            Side::Far => ("second", &self.0[1]),
        };
        let now = Media::of_sdp(said).map_err(|why| Unheard::NoMedia(party, why))?;
        if before.is_some_and(|before| before.address() != now.address()) {
            return Err(Unheard::Changed(party));
        }
        Ok(now)
    }
}

impl Established {
    /// Has each party hear what seems to come from the other. They have `said` this last, near and far.
    pub fn impersonate(&mut self, ctx: &mut Context<'_, '_>, answered: Answered, said: &[Box<[u8]>; 2]) {
        let Some(impersonator) = ctx.world.impersonator() else { return };
        match self.impersonations(answered, said) {
            Ok(both) => {
                self.is_impersonated = true;
                both.iter().for_each(|wanted| impersonator.impersonate(wanted));
            }
            Err(why) => self.tell(ctx, format!("neither party hears packets in the other's name: {why}")),
        }
    }

    fn impersonations(&self, answered: Answered, said: &[Box<[u8]>; 2]) -> Result<[Impersonation; 2], Unheard> {
        if self.bridge.mangle {
            return Err(Unheard::Mangled);
        }
        let (near, far) = (answered.now(Side::Near, &said[0])?, answered.now(Side::Far, &said[1])?);
        let user = self.user.as_deref().unwrap_or_default();
        let to_near = Impersonation::new(self.number, user, self.near_facts.leg, &far, &near)?;
        let to_far = Impersonation::new(self.number, user, self.far_facts.leg, &near, &far)?;
        Ok([to_near, to_far])
    }

    /// Has no more packets sent: the call is over, or its media may be elsewhere soon.
    pub fn stop_impersonating(&mut self, ctx: &mut Context<'_, '_>) {
        if std::mem::take(&mut self.is_impersonated)
            && let Some(impersonator) = ctx.world.impersonator()
        {
            impersonator.stop(self.number);
        }
    }
}
