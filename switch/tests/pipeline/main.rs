//! The pipeline, from the outside: frames in, frames out, and every one accounted for.

mod answer;
mod bridge;
mod ecmp;
mod guard;
mod kit;
mod limits;
mod property;
mod reasons;
mod replace;
mod router;
mod suppress;
mod tcp;
mod underlay;
