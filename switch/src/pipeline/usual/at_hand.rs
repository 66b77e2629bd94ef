//! What the usual way looks at.

use super::super::Millis;
use super::super::batch::Batch;
use super::Usual;
use crate::tables::{
    Fdb, FdbView, GroupHops, Hop, Lpm, LpmView, PathMtu, Statics, Tables, Underlay, WayIn, WayOut,
};

/// What is the same for all usual frames of a batch, in places of its own: what is behind pointers would be
/// loaded for every frame.
#[derive(Clone, Copy)]
pub(super) struct AtHand<'a> {
    max_frame: &'a [u32],
    hops: &'a [Hop],
    groups: &'a [GroupHops],
    ways_in: &'a [WayIn],
    ways_out: &'a [WayOut],
    statics: &'a Statics,
    underlay: &'a Underlay,
    fib: &'a Lpm<u32>,
    fib_v6: &'a Lpm<u128>,
    plain_fib: LpmView<'a>,
    fdb: FdbView<'a>,
    clamp_mss: bool,
    paths: bool,
    now: u32,
}

/// Where all of it is, as it is for one batch.
#[derive(Clone, Copy)]
pub(super) struct World<'a> {
    tables: &'a Tables,
    fdb: &'a Fdb,
    now: Millis,
}

/// Each is taken from its place of its own, or, for a frame that comes alone, from where it is in the tables
/// once it is asked for: few of them are, and the rest need not be loaded.
macro_rules! at_hand {
    ($($(#[$doc:meta])* $name:ident: $type:ty = |$of:ident| $at:expr;)*) => {
        impl<'a, const ALONE: bool> Usual<'a, ALONE> {
            #[inline(always)]
            pub(super) fn new(batch: &Batch<'a>) -> Usual<'a, ALONE> {
                let world = World { tables: batch.tables, fdb: &batch.worker.fdb, now: batch.now };
                let at_hand = AtHand { $($name: { let $of = world; $at },)* };
                Usual { world, at_hand }
            }

            $($(#[$doc])*
            #[inline(always)]
            pub(super) fn $name(&self) -> $type {
                let $of = self.world;
                if ALONE { $at } else { self.at_hand.$name }
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
