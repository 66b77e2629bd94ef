//! What the usual way looks at.

use super::super::Millis;
use super::super::batch::Batch;
use super::Usual;
use crate::tables::{
    Fdb, FdbView, GroupHops, Hop, Lpm, LpmView, PathMtu, Statics, Tables, Underlay, WayIn, WayOut,
};

/// Where all of it is, as it is for one batch.
#[derive(Clone, Copy)]
pub(super) struct Sources<'a> {
    tables: &'a Tables,
    fdb: &'a Fdb,
    now: Millis,
}

/// Of a batch, each is read from its copy in [`AtHand`]: what is behind pointers would be loaded for every frame.
/// On demand it is read where it is, once it is asked for: a single frame asks for few.
macro_rules! at_hand {
    ($($(#[$doc:meta])* $name:ident: $type:ty = |$of:ident| $at:expr;)*) => {
        /// What is the same for all usual frames of a batch, in places of its own.
        #[derive(Clone, Copy)]
        pub(super) struct AtHand<'a> {
            $($name: $type,)*
        }

        impl<'a, const ON_DEMAND: bool> Usual<'a, ON_DEMAND> {
            #[inline(always)]
            pub(super) fn new(batch: &Batch<'a>) -> Usual<'a, ON_DEMAND> {
                let sources =
                    Sources { tables: batch.tables, fdb: &batch.worker.fdb, now: batch.now };
                let made_ready = || AtHand { $($name: { let $of = sources; $at },)* };
                let at_hand = (!ON_DEMAND).then(made_ready);
                Usual { sources, at_hand }
            }

            $($(#[$doc])*
            #[inline(always)]
            pub(super) fn $name(&self) -> $type {
                let $of = self.sources;
                match self.at_hand {
                    Some(at_hand) if !ON_DEMAND => at_hand.$name,
                    _ => $at,
                }
            })*
        }
    };
}

at_hand! {
    max_frame: &'a [u32] = |of| &of.tables.adjacencies.max_frame;
    hops: &'a [Hop] = |of| &of.tables.adjacencies.hops;
    groups: &'a [GroupHops] = |of| &of.tables.adjacencies.groups;
    ways_in: &'a [WayIn] = |of| &of.tables.adjacencies.ways_in;
    ways_out: &'a [WayOut] = |of| &of.tables.adjacencies.ways_out;
    statics: &'a Statics = |of| &of.tables.adjacencies.statics;
    underlay: &'a Underlay = |of| &of.tables.underlay;
    fib: &'a Lpm<u32> = |of| of.tables.fib.v4();
    fib_v6: &'a Lpm<u128> = |of| of.tables.fib.v6();
    plain_fib: LpmView<'a> = |of| of.tables.fib.v4().view();
    fdb: FdbView<'a> = |of| of.fdb.view();
    clamp_mss: bool = |of| of.tables.clamps_mss();
    /// Whether there may be a path whose MTU was lowered.
    paths: bool = |_of| PathMtu::any_known();
    /// Seconds.
    now: u32 = |of| of.now.seconds();
}
