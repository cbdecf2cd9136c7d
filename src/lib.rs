//! Tenantry releases one version of a serverless application to every tenant account of a single-tenant SaaS
//! on AWS: packaged once, encrypted once, planned everywhere, approved once, rolled out in parallel.
//!
//! The map, from the inside out; `tests/layers.rs` holds what each part must not know:
//!
//! - [`domain`]: values and rules. [`plan`]: what would be done, its digest, its classes.
//! - [`package`]: folders to deterministic zips. [`config`]: `tenantry.yaml` to domain values, with positions.
//! - [`infra`]: the accounts around a release, as templates, and whether their policies fit.
//! - [`event`] and [`ports`]: what the engine tells and what it asks. [`engine`]: plan, apply, destroy, status.
//! - [`aws`] and [`gate`] answer the engine for real; [`report`] shows events; [`cli`] puts it all together.

pub mod aws;
pub mod cli;
pub mod config;
pub mod domain;
pub mod engine;
pub mod event;
pub mod gate;
pub mod infra;
pub mod package;
pub mod plan;
pub mod ports;
pub mod report;
pub mod source;
