//! What becomes of a frame, in one register: nearly every frame is simply sent, and a verdict that says
//! more is as large as an ICMP error needs it to be. Copying one of those costs more than a lookup.

use super::{Context, Verdict};
use crate::ids::PortId;
use crate::reason::DropReason;

/// The port that a frame is sent to, or why it is not simply sent.
pub(super) type Fate = Result<Sent, Unsent>;

/// The port that a frame is sent to. As wide as [`Unsent`], so that the two share a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sent(u32);

/// Why a frame is not simply sent: a [`DropReason`], or [`ASIDE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unsent(u32);

/// Its verdict lies in [`Context::aside`].
const ASIDE: Unsent = Unsent(u32::MAX);

impl Sent {
    /// The port's identifier.
    #[inline(always)]
    pub(super) fn port(self) -> u32 {
        self.0
    }
}

impl From<PortId> for Sent {
    #[inline(always)]
    fn from(port: PortId) -> Sent {
        Sent(port.0.into())
    }
}

impl From<DropReason> for Unsent {
    #[inline(always)]
    fn from(reason: DropReason) -> Unsent {
        Unsent(reason as u32)
    }
}

/// A frame that is sent.
#[inline(always)]
pub(super) fn sent(port: PortId) -> Fate {
    Ok(port.into())
}

/// A frame that is dropped.
#[inline(always)]
pub(super) fn dropped(reason: DropReason) -> Fate {
    Err(reason.into())
}

impl Context<'_> {
    /// A verdict as a fate. What the fate has no room for lies aside until [`Context::verdict`].
    #[inline(never)]
    pub(super) fn fate(&self, verdict: Result<Verdict, DropReason>) -> Fate {
        match verdict {
            Ok(Verdict::Send(port)) => sent(port),
            Err(reason) => dropped(reason),
            Ok(other) => {
                self.aside.set(Some(other));
                Err(ASIDE)
            }
        }
    }

    /// The verdict of the fate that came last.
    #[inline(never)]
    pub(super) fn verdict(&self, fate: Fate) -> Result<Verdict, DropReason> {
        match fate {
            Ok(Sent(port)) => Ok(Verdict::Send(PortId(port as u16))),
            Err(ASIDE) => {
                let verdict = self.aside.take();
                debug_assert!(verdict.is_some(), "laid aside with the fate");
                verdict.ok_or(DropReason::Consumed)
            }
            Err(Unsent(reason)) => Err(DropReason::ALL[reason as usize]),
        }
    }
}
