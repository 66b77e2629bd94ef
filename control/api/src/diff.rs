//! What changes between two desired states.

use core::fmt;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::state::State;

/// What happens to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Op {
    /// It appears.
    Add,
    /// It goes away.
    Remove,
    /// It stays, with other properties.
    Change,
}

/// The kinds of objects, by the key of their section.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// `[switch]`.
    Switch,
    /// `[node]`.
    Node,
    /// `[uplink]`.
    Uplink,
    /// `[[segment]]`.
    Segment,
    /// `[[port]]`.
    Port,
    /// `[[tunnel]]`.
    Tunnel,
    /// `[[route]]`.
    Route,
    /// `[[neighbor]]`.
    Neighbor,
    /// `[[fdb]]`.
    Fdb,
}

impl Kind {
    /// The key of the section.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Switch => "switch",
            Kind::Node => "node",
            Kind::Uplink => "uplink",
            Kind::Segment => "segment",
            Kind::Port => "port",
            Kind::Tunnel => "tunnel",
            Kind::Route => "route",
            Kind::Neighbor => "neighbor",
            Kind::Fdb => "fdb",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One object that differs between two states.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// What happens to it.
    pub op: Op,
    /// What kind of object it is.
    pub kind: Kind,
    /// Its name, prefix or address; empty for a section that exists once.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The object as it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    /// The object as it becomes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Value>,
}

/// An object of a list of the state, told apart by its key.
pub trait Object: Serialize + Clone + PartialEq {
    /// What kind of object it is.
    const KIND: Kind;
    /// The list it is in.
    fn list(state: &State) -> &Vec<Self>;
    /// The list it is in, writable.
    fn list_mut(state: &mut State) -> &mut Vec<Self>;
    /// What tells objects of its kind apart, shown as an operator writes it.
    type Key<'a>: Ord + fmt::Display
    where
        Self: 'a;
    /// What no other object of its kind shares: name, prefix or address.
    fn key(&self) -> Self::Key<'_>;
}

macro_rules! objects {
    ($($ty:ident $list:ident $kind:ident $of:ty, $self:ident => $key:expr;)*) => {
        $(impl Object for crate::state::$ty {
            const KIND: Kind = Kind::$kind;
            fn list(state: &State) -> &Vec<Self> {
                &state.$list
            }
            fn list_mut(state: &mut State) -> &mut Vec<Self> {
                &mut state.$list
            }
            type Key<'a> = $of;
            fn key(&$self) -> Self::Key<'_> {
                $key
            }
        })*
    };
}

objects! {
    Segment segments Segment &'a str, self => &self.name;
    Port ports Port &'a str, self => &self.name;
    Tunnel tunnels Tunnel &'a str, self => &self.name;
    Route routes Route encap::Prefix, self => self.prefix;
    Neighbor neighbors Neighbor std::net::IpAddr, self => self.ip;
    FdbEntry fdb Fdb FdbKey<'a>, self => FdbKey(self.mac, &self.segment);
}

/// The key of a static FDB entry: its address, and the segment that it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FdbKey<'a>(pub encap::Mac, pub &'a str);

impl fmt::Display for FdbKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", self.0, self.1)
    }
}

impl State {
    /// What changes when `self` becomes `new`, in the order of the sections. The order of objects
    /// within a list means nothing, and a `[switch]` that `new` leaves out stays as it is.
    pub fn diff(&self, new: &State) -> Vec<Change> {
        let mut out = Vec::new();
        if new.switch.is_some() {
            let (old, new) = (self.switch_or_default(), new.switch_or_default());
            section(&mut out, Kind::Switch, &Some(old), &Some(new));
        }
        section(&mut out, Kind::Node, &self.node, &new.node);
        section(&mut out, Kind::Uplink, &self.uplink, &new.uplink);
        list::<crate::state::Segment>(&mut out, self, new);
        list::<crate::state::Port>(&mut out, self, new);
        list::<crate::state::Tunnel>(&mut out, self, new);
        list::<crate::state::Route>(&mut out, self, new);
        list::<crate::state::Neighbor>(&mut out, self, new);
        list::<crate::state::FdbEntry>(&mut out, self, new);
        out
    }
}

fn section<T: Serialize + PartialEq>(
    out: &mut Vec<Change>,
    kind: Kind,
    old: &Option<T>,
    new: &Option<T>,
) {
    out.extend(change(kind, String::new(), old.as_ref(), new.as_ref()));
}

fn list<'a, T: Object + 'a>(out: &mut Vec<Change>, old: &'a State, new: &'a State) {
    let mut keys: BTreeMap<T::Key<'a>, (Option<&T>, Option<&T>)> = BTreeMap::new();
    for o in T::list(old) {
        keys.entry(o.key()).or_default().0 = Some(o);
    }
    for o in T::list(new) {
        keys.entry(o.key()).or_default().1 = Some(o);
    }
    let differ = keys.into_iter().filter(|(_, (old, new))| old != new);
    let start = out.len();
    out.extend(differ.filter_map(|(key, (old, new))| change(T::KIND, key.to_string(), old, new)));
    // As they are read.
    out[start..].sort_by(|a, b| a.name.cmp(&b.name));
}

fn change<T: Serialize + PartialEq>(
    kind: Kind,
    name: String,
    old: Option<&T>,
    new: Option<&T>,
) -> Option<Change> {
    let op = match (old, new) {
        (old, new) if old == new => return None,
        (None, _) => Op::Add,
        (_, None) => Op::Remove,
        _ => Op::Change,
    };
    // Serializing these types cannot fail: they hold no map.
    let json = |o: Option<&T>| o.and_then(|o| serde_json::to_value(o).ok());
    Some(Change { op, kind, name, before: json(old), after: json(new) })
}
