//! The methods: their names, parameters and results.

use std::net::IpAddr;

use encap::{Mac, Prefix};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::attachment::{
    Attachment, AttachmentAdd, AttachmentCheck, AttachmentConfigure, AttachmentGc, AttachmentId,
    AttachmentStatus, Checked, Readiness, Removed,
};
use crate::de;
use crate::diff::Change;
use crate::error::{Code, Error};
use crate::state::{FdbEntry, Neighbor, Port, Route, Segment, State, Tunnel, default_segment};
use crate::view::{
    Counters, FdbInfo, Flushed, NeighborInfo, PortInfo, RouteInfo, SegmentInfo, Status, TunnelInfo,
};

/// No parameters, or nothing to tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Empty {}

/// An object by its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ByName {
    /// The object's name.
    pub name: String,
}

/// A route by its destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ByPrefix {
    /// The destination.
    pub prefix: Prefix,
}

/// The parameters of `route.update`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RouteUpdate {
    /// Announced: in the place of what was announced for the same prefix.
    pub add: Vec<Route>,
    /// Withdrawn; nothing happens when it was not announced.
    pub del: Vec<Prefix>,
}

/// The result of `route.update`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteUpdated {
    /// Routes for prefixes that had not been announced.
    pub added: usize,
    /// Routes that were announced before, and lead to where they do now.
    pub replaced: usize,
    /// Routes that are not announced any more.
    pub removed: usize,
    /// Announced routes now.
    pub announced: usize,
}

/// A static neighbour by its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ByIp {
    /// The neighbour's address.
    pub ip: IpAddr,
}

/// A static FDB entry by its address and segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ByMac {
    /// The MAC address.
    pub mac: Mac,
    /// The segment.
    #[serde(default = "default_segment")]
    pub segment: String,
}

/// Which addresses `fdb.list` tells and `fdb.flush` forgets: those that match all that is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FdbFilter {
    /// Of this segment only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub segment: Option<String>,
    /// Behind this port only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<String>,
    /// Behind this tunnel only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tunnel: Option<String>,
}

/// Which neighbours `neighbor.flush` forgets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NeighborFilter {
    /// This one only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip: Option<IpAddr>,
}

/// The parameters of `config.apply`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Apply {
    /// The whole desired state.
    pub config: State,
    /// Tell what would change, and change nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// The result of `config.apply`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Applied {
    /// What changed, or would change.
    pub changes: Vec<Change>,
    /// Whether it was done: false for a dry run.
    pub applied: bool,
}

macro_rules! methods {
    ($($(#[$doc:meta])* $variant:ident $name:literal $access:ident ($params:ty) -> $result:ty;)*) => {
        /// A request: a method with its parameters.
        #[derive(Clone, Debug, PartialEq)]
        #[allow(clippy::large_enum_variant, reason = "moved a few times, never kept in numbers")]
        pub enum Request {
            $($(#[$doc])* $variant($params),)*
        }

        /// The result of the request of the same name.
        #[derive(Clone, Debug, PartialEq, Serialize)]
        #[allow(clippy::large_enum_variant, reason = "moved a few times, never kept in numbers")]
        #[serde(untagged)]
        pub enum Response {
            $($(#[$doc])* $variant($result),)*
        }

        /// The names of all methods.
        pub const METHODS: &[&str] = &[$($name,)*];

        impl Request {
            /// The method's name.
            pub fn method(&self) -> &'static str {
                match self { $(Request::$variant(_) => $name,)* }
            }

            /// Whether the request changes anything, so that it needs the right to write.
            pub fn writes(&self) -> bool {
                match self { $(Request::$variant(_p) => methods!(@writes $access _p),)* }
            }

            /// The request of a method's name and its parameters. Absent parameters are none.
            pub fn from_parts(method: &str, params: Option<Value>) -> Result<Request, Error> {
                let params = match params {
                    None => Value::Object(Map::new()),
                    Some(Value::Array(a)) if a.is_empty() => Value::Object(Map::new()),
                    Some(Value::Array(_)) => return Err(Error::new(
                        Code::InvalidParams, "expected parameters by name, not by position")),
                    Some(params) => params,
                };
                match method {
                    $($name => Ok(Request::$variant(de::from_json(params)?)),)*
                    _ => Err(unknown_method(method)),
                }
            }

            /// The parameters as JSON.
            pub fn params(&self) -> Value {
                let params = match self { $(Request::$variant(p) => serde_json::to_value(p),)* };
                // Only maps with keys that are no strings fail, and there are none.
                params.unwrap_or_default()
            }

            /// The typed result of this request, from its JSON.
            pub fn decode(&self, result: Value) -> Result<Response, serde_json::Error> {
                match self {
                    $(Request::$variant(_) => serde_json::from_value(result).map(Response::$variant),)*
                }
            }
        }
    };
    (@writes read $p:ident) => {{ let _ = $p; false }};
    (@writes write $p:ident) => {{ let _ = $p; true }};
    (@writes apply $p:ident) => { !$p.dry_run };
}

methods! {
    /// How the daemon is.
    StatusGet "status.get" read (Empty) -> Status;
    /// All counters.
    CountersGet "counters.get" read (Empty) -> Counters;
    /// The desired state.
    ConfigGet "config.get" read (Empty) -> State;
    /// Replaces the whole desired state, or tells what that would change.
    ConfigApply "config.apply" apply (Apply) -> Applied;
    /// Adds a port.
    PortAdd "port.add" write (Port) -> PortInfo;
    /// Removes a port, with the pod's interface if podswitch made it.
    PortDel "port.del" write (ByName) -> Empty;
    /// All ports.
    PortList "port.list" read (Empty) -> Vec<PortInfo>;
    /// Adds a segment.
    SegmentAdd "segment.add" write (Segment) -> SegmentInfo;
    /// Removes a segment.
    SegmentDel "segment.del" write (ByName) -> Empty;
    /// All segments.
    SegmentList "segment.list" read (Empty) -> Vec<SegmentInfo>;
    /// Adds a tunnel.
    TunnelAdd "tunnel.add" write (Tunnel) -> TunnelInfo;
    /// Removes a tunnel.
    TunnelDel "tunnel.del" write (ByName) -> Empty;
    /// All tunnels.
    TunnelList "tunnel.list" read (Empty) -> Vec<TunnelInfo>;
    /// Adds a route.
    RouteAdd "route.add" write (Route) -> RouteInfo;
    /// Removes a route.
    RouteDel "route.del" write (ByPrefix) -> Empty;
    /// Announces and withdraws routes that are no part of the configuration.
    RouteUpdate "route.update" write (RouteUpdate) -> RouteUpdated;
    /// All routes, those of local pods included.
    RouteList "route.list" read (Empty) -> Vec<RouteInfo>;
    /// Adds a static neighbour.
    NeighborAdd "neighbor.add" write (Neighbor) -> NeighborInfo;
    /// Removes a static neighbour.
    NeighborDel "neighbor.del" write (ByIp) -> Empty;
    /// All neighbours.
    NeighborList "neighbor.list" read (Empty) -> Vec<NeighborInfo>;
    /// Forgets neighbours that the router resolved.
    NeighborFlush "neighbor.flush" write (NeighborFilter) -> Flushed;
    /// Adds a static MAC address.
    FdbAdd "fdb.add" write (FdbEntry) -> FdbInfo;
    /// Removes a static MAC address.
    FdbDel "fdb.del" write (ByMac) -> Empty;
    /// The MAC addresses, learned and static.
    FdbList "fdb.list" read (FdbFilter) -> Vec<FdbInfo>;
    /// Forgets learned MAC addresses.
    FdbFlush "fdb.flush" write (FdbFilter) -> Flushed;
    /// Plugs a pod in, for a container runtime.
    AttachmentAdd "attachment.add" write (AttachmentAdd) -> Attachment;
    /// Gives a pod that was plugged in without addresses those that an IPAM plugin got over its
    /// interface.
    AttachmentConfigure "attachment.configure" write (AttachmentConfigure) -> Attachment;
    /// Unplugs a pod; nothing happens when it is not plugged in.
    AttachmentDel "attachment.del" write (AttachmentId) -> Removed;
    /// Compares a pod's attachment with what should be.
    AttachmentCheck "attachment.check" read (AttachmentCheck) -> Checked;
    /// Unplugs the pods of a network that the runtime does not know.
    AttachmentGc "attachment.gc" write (AttachmentGc) -> Removed;
    /// All attachments.
    AttachmentList "attachment.list" read (Empty) -> Vec<Attachment>;
    /// Whether a pod could be plugged in now.
    AttachmentStatus "attachment.status" read (AttachmentStatus) -> Readiness;
}

fn unknown_method(method: &str) -> Error {
    let cure = match de::nearest(method, METHODS.iter().copied()) {
        Some(near) => format!("did you mean {near:?}?"),
        None => format!("the methods are {}", METHODS.join(", ")),
    };
    // A hostile name must not make a huge answer.
    let method: String = method.chars().take(64).collect();
    Error::new(Code::MethodNotFound, format!("there is no method {method:?}: {cure}"))
}
