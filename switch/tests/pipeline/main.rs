//! The pipeline, from the outside: frames in, frames out, and every one accounted for.

mod answer;
mod bridge;
#[allow(dead_code, unused_imports)]
mod kit;
mod property;
mod reasons;
mod replace;
mod router;
mod tcp;
mod underlay;
