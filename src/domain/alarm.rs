//! CloudWatch alarms that stop a rollout.

use serde::{Deserialize, Serialize};

/// An alarm in a target's account and region.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Alarm {
    /// Its name.
    pub name: String,
    /// Whether CloudFormation watches it too, and rolls the stack back when it goes off.
    pub roll_back: bool,
}

/// How an alarm is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlarmState {
    /// Its name.
    pub name: String,
    /// `OK`, `ALARM` or `INSUFFICIENT_DATA`.
    pub state: String,
    /// CloudWatch's reason; untrusted text.
    pub reason: String,
}

/// Returns why alarms forbid to go on, if they do. One that is not there watches nothing, and forbids it too; one
/// without data does not.
pub fn forbids(names: &[String], states: &[AlarmState]) -> Option<String> {
    names.iter().find_map(|name| match states.iter().find(|found| found.name == *name) {
        None => Some(format!("alarm {name} does not exist")),
        Some(found) if found.state == "ALARM" => Some(format!("alarm {name} has gone off: {}", found.reason)),
        Some(_) => None,
    })
}
