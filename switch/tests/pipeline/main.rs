//! The pipeline, from the outside: frames in, frames out, and every one accounted for.

mod answer;
mod bridge;
mod ecmp;
mod fragment;
mod frames;
mod guard;
mod icmp_error;
mod kit;
mod limits;
mod look_ahead;
mod mtu;
mod nesting;
mod offload;
mod outer;
mod property;
mod reasons;
mod relay;
mod replace;
mod resolve;
mod router;
mod shape;
mod suppress;
mod tcp;
mod underlay;
mod vlan;
