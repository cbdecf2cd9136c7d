//! What opens the way between plan and apply.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::rollout::seconds;

/// Whether somebody has to open the way between plan and apply.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Gate {
    /// Apply follows the plan.
    #[default]
    Open,
    /// Apply waits for an approval of the plan's digest.
    Approval(ApprovalPolicy),
}

/// Whose approvals count, and for how long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ApprovalPolicy {
    /// How many persons have to approve.
    pub approvers: usize,
    /// Whether the one who planned cannot be one of them.
    pub four_eyes: bool,
    /// Patterns of principals that may approve, with `*` and `?` as in IAM; any may where none is given.
    pub principals: Vec<String>,
    /// For how long an approval holds.
    #[serde(with = "seconds")]
    pub expires: Duration,
    /// The protected environment whose GitHub reviewers are asked.
    pub github_environment: String,
    /// What needs no person: a plan of which all of these hold. None hold where the list is empty.
    pub auto_approve: Vec<AutoRule>,
}

impl Default for ApprovalPolicy {
    fn default() -> Self {
        Self {
            approvers: 1,
            four_eyes: false,
            principals: Vec::new(),
            expires: Duration::from_hours(24),
            github_environment: String::new(),
            auto_approve: Vec::new(),
        }
    }
}

/// Something that holds of a plan that is harmless.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AutoRule {
    /// No stack is created or updated.
    NoChanges,
    /// No resource is removed, not even by being replaced.
    NoRemovals,
    /// No resource is replaced, not even perhaps.
    NoReplacements,
    /// Only resources of these types are touched, with `*` as a wildcard.
    ResourceTypes(Vec<String>),
    /// At most so many targets have something to execute.
    Targets(usize),
}

impl fmt::Display for AutoRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoChanges => f.write_str("no changes"),
            Self::NoRemovals => f.write_str("no removals"),
            Self::NoReplacements => f.write_str("no replacements"),
            Self::ResourceTypes(types) => write!(f, "only {}", types.join(", ")),
            Self::Targets(most) => write!(f, "at most {most} targets"),
        }
    }
}

/// Tells whether a text fits a pattern in which `*` stands for any characters and `?` for one, as in IAM.
pub fn fits(pattern: &str, text: &str) -> bool {
    wildmatch::WildMatch::new(pattern).matches(text)
}
