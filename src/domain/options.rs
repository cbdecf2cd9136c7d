//! How CloudFormation is to treat the stacks of a stage.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is asked of CloudFormation beside the template. All of it is part of a plan.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct StackOptions {
    /// Whether resources that were changed by hand are brought back to what the template says (`REVERT_DRIFT`).
    pub revert_drift: bool,
    /// What becomes of a stack that fails.
    pub on_stack_failure: OnStackFailure,
    /// What becomes of a stack that never completed its creation.
    pub leftovers: Leftovers,
    /// Whether stacks are protected against deletion once they are deployed.
    pub termination_protection: bool,
    /// For how many minutes CloudFormation watches the alarms that roll a stack back, after it has changed it: 0 to 180.
    /// Source: <https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_RollbackConfiguration.html>
    #[serde(skip_serializing_if = "Option::is_none")]
    pub monitoring_minutes: Option<u8>,
    /// A stack policy: what updates may not do, whoever asks for it. It is set before a stack is updated, and after it
    /// was created.
    /// Source: <https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/protect-stack-resources.html>
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stack_policy: Option<serde_json::Value>,
}

/// What becomes of a stack that fails.
/// Source: OnStackFailure in <https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_CreateChangeSet.html>
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnStackFailure {
    /// It goes back to its former state.
    #[default]
    Rollback,
    /// It is deleted, if it was being created.
    Delete,
    /// It stays as it is, to be looked at.
    DoNothing,
}

/// What becomes of a stack that is `ROLLBACK_COMPLETE`: its creation failed, and it can only be deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Leftovers {
    /// It blocks its target until somebody has looked at it.
    #[default]
    Keep,
    /// It is deleted when its target is planned, and created anew.
    Recreate,
}
