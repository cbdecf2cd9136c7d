//! The real binary against a real emulator over HTTP; and, for what no emulator can do, against the fleet server.
//! Every test has a server of its own.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod accounts;
mod apply;
mod approvals;
mod bed;
mod deploy;
mod docs;
mod estate;
mod examples;
mod fleet;
mod machines;
mod notify;
mod offline;
mod packaging;
mod parity;
mod pictures;
mod publishing;
mod refusals;
mod releases;
mod report;
mod resume;
#[path = "../fleet/mod.rs"]
mod server;
mod shards;
mod steps;
mod store;
mod tenants;
mod traces;
mod workflows;
