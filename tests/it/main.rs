//! The real binary against a real emulator over HTTP. Every test has an emulator of its own.

mod apply;
mod bed;
mod deploy;
mod offline;
mod refusals;
mod steps;
mod store;
