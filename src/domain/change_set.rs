//! What CloudFormation says it would do to one stack.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::stateful::is_stateful;

/// A change set as DescribeChangeSet returns it, all pages joined.
/// Source: <https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_DescribeChangeSet.html>
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeSet {
    /// ARN of the stack, which exists (as REVIEW_IN_PROGRESS) from the first change set on.
    pub stack_id: String,
    /// When it was made, by CloudFormation's clock.
    pub created: Option<Timestamp>,
    /// Where the creation stands, and whether it can be executed.
    pub status: ChangeSetStatus,
    /// What would change, in CloudFormation's order.
    pub changes: Vec<Change>,
}

/// Status and ExecutionStatus of a change set, folded into what Tenantry decides on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangeSetStatus {
    /// CREATE_PENDING or CREATE_IN_PROGRESS.
    Creating,
    /// CREATE_COMPLETE and AVAILABLE.
    Ready,
    /// FAILED because the stack already is as the template and the parameters say.
    NoChanges,
    /// FAILED for another reason.
    Failed(String),
    /// Cannot be executed: OBSOLETE, UNAVAILABLE, executed already, or being deleted. The text names the status.
    Spent(String),
}

impl ChangeSetStatus {
    /// Reads the three fields of an answer. Statuses are compared whole; one that is not known is `Spent`, so
    /// that nothing is executed on a guess.
    pub fn read(status: &str, execution_status: &str, reason: &str) -> Self {
        match (status, execution_status) {
            ("CREATE_PENDING" | "CREATE_IN_PROGRESS", _) => Self::Creating,
            ("CREATE_COMPLETE", "AVAILABLE") => Self::Ready,
            ("FAILED", _) if says_no_changes(reason) => Self::NoChanges,
            ("FAILED", _) => Self::Failed(reason.to_owned()),
            ("CREATE_COMPLETE", other) | (other, _) => Self::Spent(other.to_owned()),
        }
    }
}

/// CloudFormation has no code for "nothing to do", only these reasons. The second is what a stack answers whose
/// template has a transform, and was overlooked by other tools for years.
fn says_no_changes(reason: &str) -> bool {
    reason.starts_with("The submitted information didn't contain changes.")
        || reason.starts_with("No updates are to be performed")
}

/// The type of a nested stack, whose own changes are told below its name.
pub const NESTED_STACK: &str = "AWS::CloudFormation::Stack";

/// One resource that would change.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Change {
    /// The resource's name in the template; in a nested stack with that stack's name before it, as `Network/Vpc`.
    pub logical_id: String,
    /// The resource's type, as `AWS::Lambda::Function`.
    pub resource_type: String,
    /// What would be done to it.
    pub action: ChangeAction,
    /// Whether a new physical resource would take its place.
    pub replacement: Replacement,
    /// Which attributes are touched: Properties, Metadata, Tags, ...
    pub scope: Vec<String>,
    /// The name that the resource has in the account, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub physical_id: Option<String>,
    /// What becomes of a resource that is removed or replaced, as `Retain`, where the template says so.
    /// Source: PolicyAction in <https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_ResourceChange.html>
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// Property by property, where CloudFormation knows.
    pub details: Vec<PropertyChange>,
}

impl Change {
    /// Tells whether what the resource holds could be lost: it holds data, it goes or may be replaced, and nothing
    /// says that it is kept.
    pub fn endangers_data(&self) -> bool {
        let goes = self.action == ChangeAction::Remove || self.replacement != Replacement::Never;
        let is_kept = self.policy.as_deref().is_some_and(|policy| policy.contains("Retain"));
        goes && !is_kept && is_stateful(&self.resource_type)
    }
}

/// The action of a change. One that CloudFormation adds later is shown by its own name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ChangeAction {
    /// A resource comes.
    Add,
    /// A resource is changed in place or replaced.
    Modify,
    /// A resource goes.
    Remove,
    /// An existing resource is taken into the stack.
    Import,
    /// Known only during execution.
    Dynamic,
    /// Anything newer than this program.
    #[serde(untagged)]
    Other(String),
}

impl ChangeAction {
    /// Reads CloudFormation's name.
    pub fn read(name: &str) -> Self {
        match name {
            "Add" => Self::Add,
            "Modify" => Self::Modify,
            "Remove" => Self::Remove,
            "Import" => Self::Import,
            "Dynamic" => Self::Dynamic,
            other => Self::Other(other.to_owned()),
        }
    }

    /// Returns CloudFormation's name.
    pub fn name(&self) -> &str {
        match self {
            Self::Add => "Add",
            Self::Modify => "Modify",
            Self::Remove => "Remove",
            Self::Import => "Import",
            Self::Dynamic => "Dynamic",
            Self::Other(name) => name,
        }
    }

    /// Returns the one-character mark of a diff.
    pub fn mark(&self) -> char {
        match self {
            Self::Add | Self::Import => '+',
            Self::Remove => '-',
            Self::Modify | Self::Dynamic | Self::Other(_) => '~',
        }
    }
}

/// Whether a modified resource is replaced, or what changing one of its properties asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Replacement {
    /// A new physical resource takes the place of the old one.
    Always,
    /// It depends on a value that is known only during execution.
    Conditional,
    /// Changed in place, or not a modification.
    Never,
}

impl Replacement {
    /// Returns what CloudFormation's answer for a resource amounts to. It says "replaced" also where the only
    /// property that asks for it has a value that is known during execution alone, and may well stay as it is.
    pub fn weigh(claimed: Self, details: &[PropertyChange]) -> Self {
        let mut asking = details.iter().filter(|detail| detail.replacement == Self::Always).peekable();
        match claimed {
            Self::Always if asking.peek().is_some() && asking.all(|detail| detail.is_dynamic) => Self::Conditional,
            other => other,
        }
    }
}

/// One property of a resource that would change.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PropertyChange {
    /// Path of the property within the resource, as `/Properties/Code/S3Key`; or an attribute such as `Tags`.
    pub path: String,
    /// Value before, as CloudFormation prints it; none where it does not say.
    pub before: Option<String>,
    /// Value after; none where CloudFormation does not say.
    pub after: Option<String>,
    /// Whether the value after is known during execution only, and may be the one before.
    pub is_dynamic: bool,
    /// Whether changing this property replaces the resource.
    pub replacement: Replacement,
    /// What caused it, as `DirectModification` or `ParameterReference S3Key`.
    pub cause: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_changes_has_two_reason_texts() {
        for reason in [
            "The submitted information didn't contain changes. Submit different information to create a change set.",
            "No updates are to be performed.",
        ] {
            assert_eq!(ChangeSetStatus::read("FAILED", "UNAVAILABLE", reason), ChangeSetStatus::NoChanges);
        }
        let status =
            ChangeSetStatus::read("FAILED", "UNAVAILABLE", "Transform failed with: No updates are to be performed");
        assert!(matches!(status, ChangeSetStatus::Failed(_)), "{status:?}");
    }

    #[test]
    fn what_is_known_after_apply_is_no_replacement() {
        let detail = |is_dynamic| PropertyChange {
            path: "/Properties/RoleName".into(),
            before: None,
            after: None,
            is_dynamic,
            replacement: Replacement::Always,
            cause: String::new(),
        };
        assert_eq!(Replacement::weigh(Replacement::Always, &[detail(true)]), Replacement::Conditional);
        assert_eq!(Replacement::weigh(Replacement::Always, &[detail(true), detail(false)]), Replacement::Always);
        assert_eq!(Replacement::weigh(Replacement::Always, &[]), Replacement::Always);
        assert_eq!(Replacement::weigh(Replacement::Never, &[detail(true)]), Replacement::Never);
    }

    #[test]
    fn only_a_complete_and_available_change_set_is_ready() {
        let statuses = [
            "CREATE_PENDING",
            "CREATE_IN_PROGRESS",
            "CREATE_COMPLETE",
            "DELETE_PENDING",
            "DELETE_IN_PROGRESS",
            "DELETE_COMPLETE",
            "DELETE_FAILED",
            "FAILED",
            "SOMETHING_NEW",
        ];
        let executions = [
            "UNAVAILABLE",
            "AVAILABLE",
            "EXECUTE_IN_PROGRESS",
            "EXECUTE_COMPLETE",
            "EXECUTE_FAILED",
            "OBSOLETE",
            "NEW",
        ];
        for status in statuses {
            for execution in executions {
                let ready = ChangeSetStatus::read(status, execution, "") == ChangeSetStatus::Ready;
                assert_eq!(ready, status == "CREATE_COMPLETE" && execution == "AVAILABLE", "{status} {execution}");
            }
        }
    }
}
