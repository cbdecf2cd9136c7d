//! The pace of a rollout: its waves, how many targets are in work at a time, and what stops it.

use std::fmt;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A number of targets, or a share of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Quota {
    /// So many targets.
    Count(u32),
    /// So many of a hundred, rounded down as StackSets do.
    Percent(u8),
}

impl Quota {
    /// Returns the number of targets out of `total`, rounded down.
    /// Source: <https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_StackSetOperationPreferences.html>
    pub fn of(self, total: usize) -> usize {
        match self {
            Self::Count(count) => count as usize,
            Self::Percent(percent) => total * usize::from(percent) / 100,
        }
    }
}

impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

/// How a stage is rolled out. The words are those of StackSets where it has them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Rollout {
    /// How many targets are in work at a time; never less than one.
    pub max_concurrency: Quota,
    /// How many targets may fail before no further one is started.
    pub failure_tolerance: Quota,
    /// Whether failures lower the number of targets in work.
    pub concurrency_mode: ConcurrencyMode,
    /// The waves, in their order; where there are none, all targets are one wave.
    pub waves: Vec<Wave>,
    /// What more failures than tolerated do.
    pub on_failure: OnFailure,
    /// Names of alarms in the tooling account that stop the rollout.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alarms: Vec<String>,
    /// After so many targets that failed for the same reason no further one is started.
    pub breaker: Option<u32>,
    /// Whether what has failed is tried once more at the end.
    pub requeue: bool,
    /// For how long a target is followed; then it goes on in CloudFormation alone.
    #[serde(with = "seconds")]
    pub deadline: Duration,
}

/// Targets that are rolled out together, before those of the next wave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Wave {
    /// Its name: `canary`, `wave 1`, `rest`.
    pub name: String,
    /// How long to wait after it, with an eye on what was deployed.
    #[serde(with = "seconds")]
    pub bake: Duration,
    /// How many of its own targets may fail before the rollout stops, where that is not for all waves together.
    pub failure_tolerance: Option<Quota>,
}

/// Whether failures lower the number of targets in work.
/// Source: <https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/concurrency-mode.html>
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ConcurrencyMode {
    /// They do not: of the targets that are in work when the tolerance is reached, all may fail.
    #[default]
    Soft,
    /// Never more targets are in work than may fail, and one: no more than that can fail in all.
    Strict,
}

/// What more failures than tolerated do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnFailure {
    /// No further target is started.
    #[default]
    Stop,
    /// All targets are tried; the answer is still a failure.
    Continue,
}

impl Default for Rollout {
    fn default() -> Self {
        Self {
            max_concurrency: Quota::Count(50),
            failure_tolerance: Quota::Count(0),
            concurrency_mode: ConcurrencyMode::Soft,
            waves: Vec::new(),
            on_failure: OnFailure::Stop,
            alarms: Vec::new(),
            breaker: None,
            requeue: false,
            deadline: Duration::from_hours(12),
        }
    }
}

/// Lengths of time as whole seconds.
pub mod seconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes them.
    pub fn serialize<S: Serializer>(span: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(span.as_secs())
    }

    /// Reads them.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_secs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_are_rounded_down() {
        assert_eq!(Quota::Percent(2).of(400), 8);
        assert_eq!(Quota::Percent(2).of(49), 0);
        assert_eq!(Quota::Count(3).of(1), 3);
    }
}
