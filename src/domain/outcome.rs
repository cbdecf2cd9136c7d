//! How a target ended, and what the whole run answers to its caller.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::ReleaseId;

/// Why a target did not get there. All texts may come from a tenant's account and are untrusted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The resource that failed first, where one is known.
    pub resource: Option<String>,
    /// The type of that resource.
    pub resource_type: Option<String>,
    /// What was said about it.
    pub reason: String,
    /// What the reader can do.
    pub hint: Option<String>,
}

impl Failure {
    /// A failure of no resource in particular.
    pub fn because(reason: impl Into<String>) -> Self {
        Self { resource: None, resource_type: None, reason: reason.into(), hint: None }
    }

    /// Adds what the reader can do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(resource) = &self.resource {
            write!(f, "{resource}")?;
            if let Some(kind) = &self.resource_type {
                write!(f, " ({kind})")?;
            }
            f.write_str(": ")?;
        }
        f.write_str(&self.reason)
    }
}

/// How a target ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Outcome {
    /// The release is in place and its checks hold.
    Deployed,
    /// It was in place already.
    Unchanged,
    /// It is pinned to another release, and was left alone.
    Pinned {
        /// The release that it stays on.
        pin: ReleaseId,
    },
    /// The stack failed and is back at its former state.
    RolledBack(Failure),
    /// The stack failed and so did its way back.
    RollbackFailed(Failure),
    /// It could not be planned, executed or verified.
    Failed(Failure),
    /// It was not started, since others had failed or the run was stopped.
    Skipped(Failure),
    /// Its stack is in a state that nothing may be done to.
    Blocked(Failure),
    /// It is still running; Tenantry stopped following it.
    Detached(Failure),
    /// The stack was deleted, or was not there.
    Deleted,
    /// The stack is back at its former state, after a rollback that had failed.
    Recovered,
}

impl Outcome {
    /// Every name, in the order in which totals are shown.
    pub const NAMES: [&str; 11] = [
        "deployed",
        "unchanged",
        "pinned",
        "deleted",
        "recovered",
        "rolled-back",
        "rollback-failed",
        "failed",
        "blocked",
        "skipped",
        "detached",
    ];

    /// Returns the outcome's name as reports and outputs show it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Deployed => "deployed",
            Self::Unchanged => "unchanged",
            Self::Pinned { .. } => "pinned",
            Self::RolledBack(_) => "rolled-back",
            Self::RollbackFailed(_) => "rollback-failed",
            Self::Failed(_) => "failed",
            Self::Skipped(_) => "skipped",
            Self::Blocked(_) => "blocked",
            Self::Detached(_) => "detached",
            Self::Deleted => "deleted",
            Self::Recovered => "recovered",
        }
    }

    /// Returns why, where there is a why.
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Deployed | Self::Unchanged | Self::Pinned { .. } | Self::Deleted | Self::Recovered => None,
            Self::RolledBack(failure)
            | Self::RollbackFailed(failure)
            | Self::Failed(failure)
            | Self::Skipped(failure)
            | Self::Blocked(failure)
            | Self::Detached(failure) => Some(failure),
        }
    }

    /// Tells whether the target counts against the failure tolerance.
    pub fn is_failure(&self) -> bool {
        match self {
            Self::RolledBack(_) | Self::RollbackFailed(_) | Self::Failed(_) | Self::Blocked(_) => true,
            Self::Deployed
            | Self::Unchanged
            | Self::Pinned { .. }
            | Self::Skipped(_)
            | Self::Detached(_)
            | Self::Deleted
            | Self::Recovered => false,
        }
    }
}

/// How many targets ended how.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tally(BTreeMap<String, usize>);

impl Tally {
    /// Counts outcomes.
    pub fn of<'a>(outcomes: impl IntoIterator<Item = &'a Outcome>) -> Self {
        let mut counts = BTreeMap::new();
        for outcome in outcomes {
            *counts.entry(outcome.name().to_owned()).or_default() += 1;
        }
        Self(counts)
    }

    /// Returns the number of targets with the outcome of that name.
    pub fn count(&self, name: &str) -> usize {
        self.0.get(name).copied().unwrap_or(0)
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counted = Outcome::NAMES.iter().filter(|name| self.count(name) > 0);
        let parts: Vec<String> = counted.map(|name| format!("{} {name}", self.count(name))).collect();
        f.write_str(&if parts.is_empty() { "no targets".to_owned() } else { parts.join(", ") })
    }
}

/// The process's answer to its caller; the numbers are part of the interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done, also when nothing had to change.
    Done = 0,
    /// At least one target failed beyond the tolerance.
    Failed = 1,
    /// The command line, the configuration or the surroundings are wrong; nothing was changed.
    Usage = 2,
    /// A plan waits for its approval.
    Waiting = 3,
    /// The approval was refused, or does not fit.
    Refused = 4,
    /// Done, with failures within the tolerance.
    Tolerated = 5,
    /// Targets are still running, or were not started since the run was stopped.
    Detached = 6,
}

impl Serialize for Exit {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(*self as u8)
    }
}

impl Exit {
    /// Folds the outcomes of a rollout into one answer, given how many failures are tolerated.
    pub fn of<'a>(outcomes: impl IntoIterator<Item = &'a Outcome>, tolerated: usize) -> Self {
        let (mut failed, mut detached, mut skipped) = (0, 0, 0);
        for outcome in outcomes {
            failed += usize::from(outcome.is_failure());
            detached += usize::from(matches!(outcome, Outcome::Detached(_)));
            skipped += usize::from(matches!(outcome, Outcome::Skipped(_)));
        }
        match (failed, detached, skipped) {
            (failed, ..) if failed > tolerated => Self::Failed,
            (_, 0, 0) if failed > 0 => Self::Tolerated,
            (_, 0, 0) => Self::Done,
            _ => Self::Detached,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why() -> Failure {
        Failure::because("x")
    }

    #[test]
    fn the_exit_code_is_a_fold_over_the_outcomes() {
        use Outcome::{Blocked, Deployed, Detached, Failed, RolledBack, Skipped, Unchanged};
        let cases: [(&[Outcome], usize, Exit); 9] = [
            (&[], 0, Exit::Done),
            (&[Deployed, Unchanged], 0, Exit::Done),
            (&[Deployed, Failed(why())], 0, Exit::Failed),
            (&[Deployed, Failed(why())], 1, Exit::Tolerated),
            (&[Blocked(why()), RolledBack(why())], 1, Exit::Failed),
            (&[Deployed, Detached(why())], 0, Exit::Detached),
            (&[Failed(why()), Detached(why())], 0, Exit::Failed),
            (&[Failed(why()), Detached(why())], 1, Exit::Detached),
            (&[Deployed, Skipped(why())], 0, Exit::Detached),
        ];
        for (outcomes, tolerated, exit) in cases {
            assert_eq!(Exit::of(outcomes, tolerated), exit, "{outcomes:?} with {tolerated} tolerated");
        }
    }

    #[test]
    fn totals_name_only_what_occurred() {
        assert_eq!(
            Tally::of(&[Outcome::Deployed, Outcome::Failed(why()), Outcome::Deployed]).to_string(),
            "2 deployed, 1 failed"
        );
        assert_eq!(Tally::of(&[]).to_string(), "no targets");
    }
}
