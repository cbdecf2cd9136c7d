//! A stack's status, and what Tenantry does about each: one table, exact matches only.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A stack as DescribeStacks returns it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stack {
    /// ARN of the stack.
    pub id: String,
    /// Where it stands.
    pub status: StackStatus,
    /// When it was last created or updated.
    pub changed: Option<Timestamp>,
    /// Outputs by key; untrusted text.
    pub outputs: BTreeMap<String, String>,
    /// Parameters by name, as CloudFormation shows them.
    pub parameters: BTreeMap<String, String>,
    /// Whether it is protected against deletion.
    pub protected: bool,
}

/// Something that happened to a resource of a stack, or to the stack itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StackEvent {
    /// CloudFormation's id, unique within the stack.
    pub id: String,
    /// When it happened.
    pub time: Option<Timestamp>,
    /// The resource's name in the template.
    pub logical_id: String,
    /// The resource's name or ARN in the account, where there is one yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub physical_id: Option<String>,
    /// The resource's type.
    pub resource_type: String,
    /// The resource's status, as `CREATE_IN_PROGRESS`.
    pub status: String,
    /// CloudFormation's or the service's reason; untrusted text.
    pub reason: Option<String>,
    /// Whether the event is about the stack itself.
    pub is_stack: bool,
    /// The token of the request that began the operation: all events of one operation share it.
    pub token: Option<String>,
}

impl StackEvent {
    /// Tells whether the resource has failed.
    pub fn has_failed(&self) -> bool {
        matches!(self.status.as_str(), "CREATE_FAILED" | "UPDATE_FAILED" | "DELETE_FAILED" | "IMPORT_FAILED")
    }

    /// Tells whether the resource was only given up because another one had failed: `Resource creation cancelled`.
    pub fn was_cancelled(&self) -> bool {
        let words = self.reason.as_deref().map(|reason| reason.split(' ').collect::<Vec<_>>());
        matches!(words.as_deref(), Some(["Resource", _, "cancelled"]))
    }

    /// Returns the ARN of the stack that the resource is, where it is a stack within another one.
    pub fn nested_stack(&self) -> Option<&str> {
        self.physical_id.as_deref().filter(|_| !self.is_stack && self.resource_type == "AWS::CloudFormation::Stack")
    }
}

macro_rules! statuses {
    ($($variant:ident = $text:literal),+ $(,)?) => {
        /// Every status that a stack can have.
        /// Source: <https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_Stack.html>
        #[derive(Debug, Clone, PartialEq, Eq, Hash)]
        #[allow(missing_docs, reason = "the names are CloudFormation's own")]
        pub enum StackStatus {
            $($variant,)+
            /// A status newer than this program.
            Unknown(String),
        }

        impl StackStatus {
            /// Every status that this program knows.
            pub const KNOWN: &[Self] = &[$(Self::$variant),+];

            /// Reads CloudFormation's name; one that is not known is kept.
            pub fn read(name: &str) -> Self {
                match name {
                    $($text => Self::$variant,)+
                    other => Self::Unknown(other.to_owned()),
                }
            }

            /// Returns CloudFormation's name.
            pub fn name(&self) -> &str {
                match self {
                    $(Self::$variant => $text,)+
                    Self::Unknown(name) => name,
                }
            }
        }
    };
}

statuses! {
    CreateInProgress = "CREATE_IN_PROGRESS",
    CreateFailed = "CREATE_FAILED",
    CreateComplete = "CREATE_COMPLETE",
    RollbackInProgress = "ROLLBACK_IN_PROGRESS",
    RollbackFailed = "ROLLBACK_FAILED",
    RollbackComplete = "ROLLBACK_COMPLETE",
    DeleteInProgress = "DELETE_IN_PROGRESS",
    DeleteFailed = "DELETE_FAILED",
    DeleteComplete = "DELETE_COMPLETE",
    UpdateInProgress = "UPDATE_IN_PROGRESS",
    UpdateCompleteCleanupInProgress = "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS",
    UpdateComplete = "UPDATE_COMPLETE",
    UpdateFailed = "UPDATE_FAILED",
    UpdateRollbackInProgress = "UPDATE_ROLLBACK_IN_PROGRESS",
    UpdateRollbackFailed = "UPDATE_ROLLBACK_FAILED",
    UpdateRollbackCompleteCleanupInProgress = "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS",
    UpdateRollbackComplete = "UPDATE_ROLLBACK_COMPLETE",
    ReviewInProgress = "REVIEW_IN_PROGRESS",
    ImportInProgress = "IMPORT_IN_PROGRESS",
    ImportComplete = "IMPORT_COMPLETE",
    ImportRollbackInProgress = "IMPORT_ROLLBACK_IN_PROGRESS",
    ImportRollbackFailed = "IMPORT_ROLLBACK_FAILED",
    ImportRollbackComplete = "IMPORT_ROLLBACK_COMPLETE",
}

impl fmt::Display for StackStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What a plan may do about a stack, given its status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Plan a change set of type CREATE.
    Create,
    /// Plan a change set of type UPDATE.
    Update,
    /// Wait until the operation that is running has ended, then look again.
    Wait,
    /// Leave it alone; the text says why, the second what would help.
    Blocked(&'static str, &'static str),
    /// The same, unless the stage lets what never completed its creation be deleted: it holds nothing any more (safety
    /// rule 4).
    /// Source: <https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/view-stack-events.html>
    Leftover(&'static str, &'static str),
}

/// How a stack's operation ended, or that it has not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// Something is going on.
    NotYet,
    /// The change is in place.
    Done,
    /// The change failed and the former state is back.
    RolledBack,
    /// The change failed and so did the way back.
    RollbackFailed,
    /// The change failed and was left as it was.
    Failed,
    /// The stack is gone.
    Gone,
}

const NEVER_COMPLETED: &str = "the stack never completed its creation and cannot be updated";
const DELETE_IT: &str = "delete it with `tenantry destroy`, selecting this tenant, then plan again";

impl StackStatus {
    /// Returns what a plan may do.
    pub fn decision(&self) -> Decision {
        use StackStatus as S;
        match self {
            S::DeleteComplete | S::ReviewInProgress => Decision::Create,
            S::CreateComplete
            | S::UpdateComplete
            | S::UpdateRollbackComplete
            | S::ImportComplete
            | S::ImportRollbackComplete => Decision::Update,
            S::CreateInProgress
            | S::UpdateInProgress
            | S::UpdateCompleteCleanupInProgress
            | S::RollbackInProgress
            | S::UpdateRollbackInProgress
            | S::UpdateRollbackCompleteCleanupInProgress
            | S::DeleteInProgress
            | S::ImportInProgress
            | S::ImportRollbackInProgress => Decision::Wait,
            S::RollbackComplete => Decision::Leftover(NEVER_COMPLETED, DELETE_IT),
            S::CreateFailed | S::RollbackFailed => Decision::Blocked(NEVER_COMPLETED, DELETE_IT),
            S::DeleteFailed => Decision::Blocked(
                "a deletion of the stack has failed",
                "find out why in its events, delete it with `tenantry destroy`, then plan again",
            ),
            S::UpdateFailed => Decision::Blocked(
                "an update failed and was not rolled back",
                "roll it back with `aws cloudformation rollback-stack`, then plan again",
            ),
            S::UpdateRollbackFailed => Decision::Blocked(
                "an update failed and so did its rollback",
                "mend the cause and go on with `tenantry recover`, then plan again",
            ),
            S::ImportRollbackFailed => Decision::Blocked(
                "an import failed and so did its rollback",
                "see what failed with `aws cloudformation describe-stack-events`, mend it, then plan again",
            ),
            S::Unknown(_) => Decision::Blocked(
                "the stack has a status that this version of Tenantry does not know",
                "look at it with `aws cloudformation describe-stacks`, and whether a newer version of Tenantry knows it",
            ),
        }
    }

    /// Returns how the operation that is being followed has ended, if it has.
    pub fn settled(&self) -> Settled {
        use StackStatus as S;
        match self {
            // The cleanup removes replaced resources; the new ones serve already, but the stack takes no new
            // change set before it has ended.
            S::CreateInProgress
            | S::RollbackInProgress
            | S::DeleteInProgress
            | S::UpdateInProgress
            | S::UpdateCompleteCleanupInProgress
            | S::UpdateRollbackInProgress
            | S::UpdateRollbackCompleteCleanupInProgress
            | S::ReviewInProgress
            | S::ImportInProgress
            | S::ImportRollbackInProgress
            | S::Unknown(_) => Settled::NotYet,
            S::CreateComplete | S::UpdateComplete | S::ImportComplete => Settled::Done,
            S::RollbackComplete | S::UpdateRollbackComplete | S::ImportRollbackComplete => Settled::RolledBack,
            S::RollbackFailed | S::UpdateRollbackFailed | S::ImportRollbackFailed => Settled::RollbackFailed,
            S::CreateFailed | S::UpdateFailed | S::DeleteFailed => Settled::Failed,
            S::DeleteComplete => Settled::Gone,
        }
    }
}

/// Returns the table of all statuses as Markdown: what a plan does about each, and what it means for the operation that
/// is followed.
pub fn table() -> String {
    let mut table = "| status | a plan | an operation that is followed |\n|---|---|---|\n".to_owned();
    let unknown = [StackStatus::Unknown("any other".to_owned())];
    for status in StackStatus::KNOWN.iter().chain(&unknown) {
        let planned = match status.decision() {
            Decision::Create => "creates the stack".to_owned(),
            Decision::Update => "updates the stack".to_owned(),
            Decision::Wait => "waits until the running operation has ended, then looks again".to_owned(),
            Decision::Blocked(why, hint) => format!("**blocked**: {why}; {hint}"),
            Decision::Leftover(why, hint) => {
                format!(
                    "**blocked**: {why}; {hint}. With `leftovers: recreate` it is deleted, and the stack created anew"
                )
            }
        };
        let followed = match status.settled() {
            Settled::NotYet => "goes on",
            Settled::Done => "is done",
            Settled::RolledBack => "has failed, and the former state is back",
            Settled::RollbackFailed => "has failed, and so has the way back",
            Settled::Failed => "has failed, and was left as it was",
            Settled::Gone => "is done: the stack is gone",
        };
        let _ = writeln!(table, "| {} | {planned} | {followed} |", status.name());
    }
    table
}

/// Returns the event that started a failure: the first in time whose resource failed by itself. Cancellations
/// that follow it, and what the stack says about them, are not causes.
pub fn root_cause(events: &[StackEvent]) -> Option<&StackEvent> {
    let of_resources = events.iter().filter(|event| event.has_failed() && !event.is_stack && !event.was_cancelled());
    of_resources.min_by_key(|event| event.time).or_else(|| {
        let of_stack =
            |event: &&StackEvent| event.is_stack && event.reason.is_some() && !event.status.ends_with("_COMPLETE");
        events.iter().filter(of_stack).filter(|event| !is_ordinary(event)).min_by_key(|event| event.time)
    })
}

/// Tells whether a stack's own event has a reason that only says who started the operation.
fn is_ordinary(event: &StackEvent) -> bool {
    matches!(event.reason.as_deref(), Some("User Initiated" | "Transformation succeeded"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `UPDATE_DOCS=1 cargo test` writes it anew.
    #[test]
    fn the_documented_table_is_this_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/stack-statuses.md");
        let page = format!(
            "# What Tenantry does about each stack status\n\nWritten from the code (`src/domain/stack.rs`) by a test. \
             Statuses are compared whole; one that is not known here is left alone.\n\n{}",
            table()
        );
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, &page).unwrap();
        }
        let documented = std::fs::read_to_string(path).unwrap_or_default();
        assert!(documented == page, "{path} is not what the code says: run UPDATE_DOCS=1 cargo test --lib");
    }

    #[test]
    fn every_known_status_reads_back_as_itself() {
        for status in StackStatus::KNOWN {
            assert_eq!(&StackStatus::read(status.name()), status);
        }
        assert_eq!(StackStatus::read("UPDATE_PAUSED").name(), "UPDATE_PAUSED");
    }

    /// Safety rule 4: a decision never comes from a part of a name, and only a stack that is at rest is changed.
    #[test]
    fn only_stacks_at_rest_are_planned() {
        for status in StackStatus::KNOWN {
            let planned = matches!(status.decision(), Decision::Create | Decision::Update);
            let at_rest = [
                "REVIEW_IN_PROGRESS",
                "DELETE_COMPLETE",
                "CREATE_COMPLETE",
                "UPDATE_COMPLETE",
                "UPDATE_ROLLBACK_COMPLETE",
                "IMPORT_COMPLETE",
                "IMPORT_ROLLBACK_COMPLETE",
            ];
            assert_eq!(planned, at_rest.contains(&status.name()), "{status}");
        }
        assert!(matches!(StackStatus::read("CREATE_COMPLETE_2").decision(), Decision::Blocked(..)));
    }

    #[test]
    fn an_operation_is_over_only_when_its_status_says_so() {
        for status in StackStatus::KNOWN {
            let running = status.name().ends_with("_IN_PROGRESS");
            assert_eq!(status.settled() == Settled::NotYet, running, "{status}");
        }
        assert_eq!(StackStatus::read("UPDATE_ROLLBACK_FAILED").settled(), Settled::RollbackFailed);
        assert_eq!(StackStatus::read("SOMETHING_COMPLETE").settled(), Settled::NotYet);
    }

    fn event(second: i64, logical_id: &str, status: &str, reason: Option<&str>) -> StackEvent {
        StackEvent {
            id: format!("{second}-{logical_id}"),
            time: Timestamp::from_second(second).ok(),
            logical_id: logical_id.into(),
            physical_id: None,
            resource_type: "AWS::Lambda::Function".into(),
            status: status.into(),
            reason: reason.map(str::to_owned),
            is_stack: logical_id == "stack",
            token: None,
        }
    }

    #[test]
    fn the_root_cause_is_the_first_resource_that_failed_by_itself() {
        let events = [
            event(5, "stack", "ROLLBACK_IN_PROGRESS", Some("The following resource(s) failed to create: [A, B].")),
            event(3, "A", "CREATE_FAILED", Some("Resource creation cancelled")),
            event(4, "C", "CREATE_FAILED", Some("later")),
            event(2, "B", "CREATE_FAILED", Some("bucket is taken")),
            event(1, "stack", "CREATE_IN_PROGRESS", Some("User Initiated")),
        ];
        assert_eq!(root_cause(&events).unwrap().logical_id, "B");
        assert_eq!(root_cause(&events[..1]).unwrap().logical_id, "stack");
        assert_eq!(root_cause(&events[4..]), None);
    }
}
