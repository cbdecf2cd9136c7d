//! The real binary against a real emulator over HTTP. Every test has an emulator of its own.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod apply;
mod approvals;
mod bed;
mod deploy;
mod estate;
mod offline;
mod refusals;
mod releases;
mod resume;
mod steps;
mod store;
