//! The pipeline, from the outside: frames in, frames out, and every one accounted for.

mod answer;
mod bridge;
mod ecmp;
mod kit;
mod property;
mod reasons;
mod replace;
mod router;
mod tcp;
mod underlay;
