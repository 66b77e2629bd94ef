//! What makes sense: the rules that the types of the desired state cannot express.
//!
//! Pure: whether an interface or a namespace exists is asked when the state is put into effect.
//! All that is wrong is reported, not only the first.

mod port;
mod route;
mod section;
mod tunnel;

use core::fmt;
use std::net::IpAddr;

use encap::Mac;

use crate::diff::{Kind, Object};
use crate::error::{FieldError, Place};
use crate::method::RouteUpdate;
use crate::state::State;

/// The longest name of an interface in bytes: `IFNAMSIZ` less the terminating zero.
pub const IFNAME_MAX: usize = 15;
/// The longest name of a port, segment or tunnel in bytes.
pub const NAME_MAX: usize = 253;
/// The least MTU that IPv4 works with (RFC 791), in bytes.
pub const IPV4_MTU_MIN: u32 = 68;
/// The least MTU that IPv6 works with (RFC 8200 section 5), in bytes.
pub const IPV6_MTU_MIN: u32 = 1280;
/// The largest MTU in bytes.
pub const MTU_MAX: u32 = 65535;

impl State {
    /// Whether the state makes sense. Each error names the field, its value and what was
    /// expected.
    pub fn validate(&self) -> Result<(), Vec<FieldError>> {
        let mut check = Check { errors: Vec::new() };
        section::switch(&mut check, self);
        section::node(&mut check, self);
        section::uplink(&mut check, self);
        section::segments(&mut check, self);
        port::ports(&mut check, self);
        tunnel::tunnels(&mut check, self);
        route::routes(&mut check, self);
        route::neighbors(&mut check, self);
        route::fdb(&mut check, self);
        if check.errors.is_empty() { Ok(()) } else { Err(check.errors) }
    }
}

impl RouteUpdate {
    /// Whether these routes can be announced beside a state with such tunnels. It takes no longer the more
    /// routes there are already.
    pub fn validate(
        &self,
        state: &State,
        tunnel_exists: &dyn Fn(&str) -> bool,
    ) -> Result<(), Vec<FieldError>> {
        let mut check = Check { errors: Vec::new() };
        route::announced(&mut check, state, self, tunnel_exists);
        if check.errors.is_empty() { Ok(()) } else { Err(check.errors) }
    }
}

/// An object whose fields are being checked.
#[derive(Clone, Copy)]
struct At<'a> {
    kind: Kind,
    index: Option<usize>,
    /// Empty when the object has no usable name.
    name: &'a str,
}

impl At<'_> {
    fn section(kind: Kind) -> At<'static> {
        At { kind, index: None, name: "" }
    }
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.index {
            Some(_) if !self.name.is_empty() => write!(f, "{} {:?}", self.kind, self.name),
            Some(i) => write!(f, "{}[{i}]", self.kind),
            None => self.kind.fmt(f),
        }
    }
}

/// Collects what is wrong.
struct Check {
    errors: Vec<FieldError>,
}

impl Check {
    /// Reports the field `key` of the object `at`; an empty `key` reports the object as a whole.
    fn wrong(
        &mut self,
        at: At<'_>,
        key: &'static str,
        value: impl fmt::Display,
        expected: impl Into<String>,
    ) {
        let field = if key.is_empty() { at.to_string() } else { format!("{at}.{key}") };
        self.errors.push(FieldError {
            field,
            value: value.to_string(),
            expected: expected.into(),
            place: Place { section: at.kind.name(), index: at.index, key },
        });
    }

    /// Every key once.
    fn unique<T: Object>(&mut self, state: &State, key: &'static str) {
        let list = T::list(state);
        // Sorted rather than hashed: as a rule they are in order.
        let mut keys: Vec<_> = list.iter().map(T::key).zip(0..).collect();
        keys.sort();
        let same = keys.chunk_by(|a, b| a.0 == b.0);
        let mut again: Vec<(usize, usize)> =
            same.flat_map(|all| all[1..].iter().map(|(_, i)| (*i, all[0].1))).collect();
        again.sort_unstable();
        for (i, first) in again {
            let at = At { kind: T::KIND, index: Some(i), name: "" };
            let expected = format!("one that {}[{first}] does not have already", T::KIND);
            self.wrong(at, key, format_args!("{:?}", list[i].key().to_string()), expected);
        }
    }

    fn name(&mut self, at: At<'_>, key: &'static str, name: &str) {
        let legal = |c: char| c.is_ascii_alphanumeric() || "._-/:@".contains(c);
        let starts = name.starts_with(|c: char| c.is_ascii_alphanumeric());
        if !starts || name.len() > NAME_MAX || !name.chars().all(legal) {
            let expected = format!(
                "1 to {NAME_MAX} letters, digits or ._-/:@ that start with a letter or digit"
            );
            // An illegal name does not serve to say where the error is.
            self.wrong(At { name: "", ..at }, key, format_args!("{name:?}"), expected);
        }
    }

    /// The kernel's rule, `dev_valid_name`; a percent sign would have it choose a number.
    fn ifname(&mut self, at: At<'_>, key: &'static str, name: &str) {
        let illegal = |c: char| "/:%".contains(c) || c.is_whitespace() || c.is_control();
        let dots = name == "." || name == "..";
        if name.is_empty() || name.len() > IFNAME_MAX || dots || name.contains(illegal) {
            let expected =
                format!("an interface's name: 1 to {IFNAME_MAX} bytes without /, :, % and spaces");
            self.wrong(at, key, format_args!("{name:?}"), expected);
        }
    }

    fn mac(&mut self, at: At<'_>, key: &'static str, mac: Option<Mac>) {
        if let Some(mac) = mac.filter(|m| !m.is_valid_source()) {
            self.wrong(at, key, mac, "a MAC address that is neither zero nor a group's");
        }
    }

    fn unicast(&mut self, at: At<'_>, key: &'static str, ip: IpAddr) -> bool {
        let legal = !ip.is_unspecified()
            && !ip.is_multicast()
            && !ip.is_loopback()
            && ip != IpAddr::V4(std::net::Ipv4Addr::BROADCAST);
        if !legal {
            self.wrong(at, key, ip, "the address of one host, not of a group or the loopback");
        }
        legal
    }

    fn mtu(&mut self, at: At<'_>, mtu: Option<u32>, min: u32) {
        self.mtu_up_to(at, mtu, min, MTU_MAX);
    }

    fn mtu_up_to(&mut self, at: At<'_>, mtu: Option<u32>, min: u32, max: u32) {
        if let Some(mtu) = mtu.filter(|m| !(min..=max).contains(m)) {
            self.wrong(at, "mtu", mtu, format!("{min} to {max} bytes"));
        }
    }

    fn range<T: PartialOrd + Copy + fmt::Display>(
        &mut self,
        at: At<'_>,
        key: &'static str,
        value: T,
        min: T,
        max: T,
    ) {
        if !(min..=max).contains(&value) {
            self.wrong(at, key, value, format!("{min} to {max}"));
        }
    }

    fn fdb_limit(&mut self, at: At<'_>, limit: Option<u32>) {
        if let Some(limit) = limit {
            self.range(at, "fdb_limit", limit, 1, 1 << 24);
        }
    }

    fn segment(&mut self, at: At<'_>, state: &State, segment: &str) {
        if !state.has_segment(segment) {
            let expected = "a segment that exists: `default`, or one declared as [[segment]]";
            self.wrong(at, "segment", format_args!("{segment:?}"), expected);
        }
    }
}

#[cfg(test)]
mod tests;
