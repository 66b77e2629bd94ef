//! The CNI specification, sentence by sentence, over our plugin and over the reference `bridge` and
//! `host-local` plugins, which prove that the suite asks for the right thing.
//!
//! `docs/cni-spec.md` lists the sentences with the names of these tests. A case is a function of a
//! [`Ground`]; `conformance!` makes a test of it for each subject that it holds for.

mod add;
mod chain;
mod check;
mod conf;
mod del;
mod delegation;
mod docs;
mod environment;
mod gc;
mod ground;
mod results;
mod status;
mod version;

use ground::{Ground, Subject};

/// Tests of the cases, as `<module>::<subject>::<case>`: of all subjects, or of some with the reason
/// why the others cannot be asked.
macro_rules! conformance {
    (all: $($case:ident),* $(,)?) => {
        crate::conformance!(@of Podswitch podswitch $($case)*);
        crate::conformance!(@of OwnIpam own_ipam $($case)*);
        crate::conformance!(@of Reference reference $($case)*);
    };
    (delegating: $($case:ident),* $(,)?) => {
        crate::conformance!(@of Podswitch podswitch $($case)*);
        crate::conformance!(@of Reference reference $($case)*);
    };
    (ours, $why:literal: $($case:ident),* $(,)?) => {
        crate::conformance!(@of Podswitch podswitch $($case)*);
        crate::conformance!(@of OwnIpam own_ipam $($case)*);
    };
    (ours_delegating, $why:literal: $($case:ident),* $(,)?) => {
        crate::conformance!(@of Podswitch podswitch $($case)*);
    };
    (own_ipam, $why:literal: $($case:ident),* $(,)?) => {
        crate::conformance!(@of OwnIpam own_ipam $($case)*);
    };
    (@of $subject:ident $module:ident $($case:ident)*) => {
        mod $module {
            $(#[test]
            fn $case() {
                crate::Ground::with(crate::Subject::$subject, |ground| super::cases::$case(ground));
            })*
        }
    };
}
pub(crate) use conformance;
