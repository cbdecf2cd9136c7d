//! A call that did not succeed, sorted by what it means for the target.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What went wrong in a call to AWS, without the SDK's types and without anything secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub struct Fault {
    /// What it means.
    pub kind: FaultKind,
    /// The operation that was called, as `CreateChangeSet`.
    pub operation: String,
    /// AWS's error code, as `AccessDenied`; empty where no answer came.
    pub code: String,
    /// AWS's own words.
    pub message: String,
    /// What support asks for.
    pub request_id: Option<String>,
}

/// What a fault means for the one who called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// Too many requests. Says nothing about the target.
    Throttled,
    /// No answer, or the service failed. Says nothing about the target.
    Unreachable,
    /// Credentials are missing, expired or could not be renewed. Says nothing about the target.
    Credentials,
    /// AWS refuses this caller.
    Denied,
    /// What was asked for does not exist.
    NotFound,
    /// Exists already, or changed in between.
    Conflict,
    /// The request is wrong.
    Invalid,
    /// The account behind a role is not the one configured.
    WrongAccount,
    /// The answer is not what was asked for, for example another encryption key.
    Mismatch,
}

impl Fault {
    /// Builds a fault that AWS did not report, but that an answer showed.
    pub fn new(kind: FaultKind, operation: &str, message: impl Into<String>) -> Self {
        Self { kind, operation: operation.to_owned(), code: String::new(), message: message.into(), request_id: None }
    }

    /// Tells whether the same call may succeed later. A read that fails so never decides an outcome.
    pub fn passes(&self) -> bool {
        matches!(self.kind, FaultKind::Throttled | FaultKind::Unreachable | FaultKind::Credentials)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.operation)?;
        if !self.code.is_empty() {
            write!(f, "{}: ", self.code)?;
        }
        f.write_str(self.message.trim_end_matches('.'))?;
        match &self.request_id {
            Some(id) => write!(f, " (request {id})"),
            None => Ok(()),
        }
    }
}
