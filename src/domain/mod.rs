//! Pure values and the rules between them. Nothing here does I/O, reads a clock or knows AWS's SDK.

pub mod alarm;
pub mod change_set;
pub mod check;
pub mod digest;
pub mod drift;
pub mod fault;
pub mod gate;
pub mod identity;
pub mod lifecycle;
pub mod masks;
pub mod names;
pub mod options;
pub mod outcome;
pub mod release;
pub mod rollout;
pub mod stack;
pub mod stateful;
pub mod target;

pub use alarm::{Alarm, AlarmState};
pub use change_set::{Change, ChangeAction, ChangeSet, ChangeSetStatus, PropertyChange, Replacement};
pub use check::Check;
pub use digest::Digest;
pub use drift::{Drift, DriftedResource};
pub use fault::{Fault, FaultKind};
pub use gate::{ApprovalPolicy, AutoRule, Gate};
pub use identity::Identity;
pub use masks::Masks;
pub use names::{AccountId, Region};
pub use options::{Leftovers, OnStackFailure, StackOptions};
pub use outcome::{Exit, Failure, Outcome, Tally};
pub use release::{Artifact, Release, ReleaseId, TemplateObject};
pub use rollout::{ConcurrencyMode, OnFailure, Quota, Rollout, Wave};
pub use stack::{Stack, StackEvent, StackStatus};
pub use stateful::DataResource;
pub use target::{ParameterValue, Target, TargetId, is_reference};
