//! An error with what to do about it, and the exit code that belongs to it.

use std::process::ExitCode;

use crate::config::Problems;
use crate::domain::{Exit, Fault, FaultKind, Masks};
use crate::package;
use crate::report::text::{BAD, WARN, clean, styled};

/// Why a command ended early: what is wrong, what to do, and what the process answers.
#[derive(Debug)]
pub struct CommandError {
    message: String,
    hint: Option<String>,
    exit: Exit,
    /// Whether the message has its own `error:` and its own lines.
    rendered: bool,
}

impl CommandError {
    /// Wrong usage, configuration or surroundings; nothing was changed.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, exit: Exit::Usage, rendered: false }
    }

    /// Returns the error without values that nobody may read.
    pub fn masked(self, masks: &Masks) -> Self {
        Self { message: masks.apply(&self.message), hint: self.hint.map(|hint| masks.apply(&hint)), ..self }
    }

    /// Sets the exit code.
    pub fn exit(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }

    /// Returns what the process answers.
    pub fn answer(&self) -> Exit {
        self.exit
    }

    /// Adds what to do.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl From<Problems> for CommandError {
    fn from(problems: Problems) -> Self {
        Self { rendered: true, ..Self::usage(problems.to_string()) }
    }
}

impl From<package::Error> for CommandError {
    fn from(error: package::Error) -> Self {
        Self::usage(error.to_string())
    }
}

impl From<std::io::Error> for CommandError {
    fn from(error: std::io::Error) -> Self {
        Self::usage(error.to_string())
    }
}

impl From<Fault> for CommandError {
    fn from(fault: Fault) -> Self {
        let error = Self::usage(fault.to_string());
        match (fault.kind, fault.operation.as_str()) {
            (FaultKind::Credentials, _) => {
                error.hint("Tenantry needs credentials of the tooling account: check them with `aws sts get-caller-identity`")
            }
            (FaultKind::NotFound, "HeadBucket") => error.hint("check `store.bucket` and the region of `store.kms-key` in the configuration"),
            (FaultKind::Denied, "HeadBucket") => error.hint("check `store.bucket` and `store.account`, and that the caller's role may list the bucket"),
            (FaultKind::Denied, "PutObject") if fault.message.contains("/approvals/") => {
                error.hint("only roles below /tenantry/approve/ of the tooling account may approve: take one of them")
            }
            (FaultKind::Denied, "PutObject" | "CreateMultipartUpload") => {
                error.hint("check that the bucket's policy asks for the key in `store.kms-key`, and that the caller may use both")
            }
            (FaultKind::Mismatch, _) => error.hint(
                "find out who wrote the object, and delete it; where the key differs, compare `store.kms-key` with the bucket's encryption",
            ),
            (FaultKind::Throttled | FaultKind::Unreachable, _) => error.hint("try again; a network, a proxy or an endpoint may be in the way"),
            _ => error,
        }
    }
}

/// Writes the error and returns its exit code.
#[allow(clippy::print_stderr, reason = "the last words of the process")]
pub fn show(error: &CommandError) -> ExitCode {
    if error.rendered {
        anstream::eprintln!("{}", error.message);
    } else {
        let label = if error.exit == Exit::Waiting { styled(WARN, "waiting:") } else { styled(BAD, "error:") };
        // Tenants' texts may be in it: they end no line and begin none.
        anstream::eprintln!("{label} {}", clean(&error.message));
    }
    if let Some(hint) = &error.hint {
        anstream::eprintln!("hint: {}", clean(hint));
    }
    super::code(error.exit)
}
