//! How a stage is released: its pace, and what must hold afterwards.

use std::fmt;
use std::time::Duration;

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

/// The pace of a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    /// How many targets are in work at a time; never less than one.
    pub max_concurrency: Quota,
    /// How many targets may fail before no further one is started.
    pub failure_tolerance: Quota,
}

impl Default for Rollout {
    fn default() -> Self {
        Self { max_concurrency: Quota::Count(50), failure_tolerance: Quota::Count(0) }
    }
}

/// Something that must hold after a target was deployed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    /// A function answers as expected.
    Invoke {
        /// The function's name in the tenant's account.
        function: String,
        /// The event that it is given.
        payload: serde_json::Value,
        /// What its answer must contain.
        expect: serde_json::Value,
    },
    /// A page answers with a status.
    Fetch {
        /// The stack output that holds the URL.
        output: String,
        /// What is added to the URL.
        path: String,
        /// The status expected.
        status: u16,
        /// How long to wait for the answer.
        timeout: Duration,
    },
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invoke { function, .. } => write!(f, "invoke {function}"),
            Self::Fetch { output, path, .. } => write!(f, "fetch {output}{path}"),
        }
    }
}

/// Says where `actual` lacks something of `expected`: every member of an expected object must be there and
/// match, arrays and scalars must be equal. Returns the JSON pointer of the first difference with both values.
pub fn lacks(expected: &serde_json::Value, actual: &serde_json::Value) -> Option<String> {
    fn walk(expected: &serde_json::Value, actual: &serde_json::Value, path: &str) -> Option<String> {
        use serde_json::Value::Object;
        match (expected, actual) {
            (Object(wanted), Object(given)) => wanted.iter().find_map(|(key, value)| match given.get(key) {
                Some(found) => walk(value, found, &format!("{path}/{key}")),
                None => Some(format!("{path}/{key} is missing, {value} was expected")),
            }),
            _ if expected == actual => None,
            _ => {
                let place = if path.is_empty() { "the answer" } else { path };
                Some(format!("{place} is {actual}, {expected} was expected"))
            }
        }
    }
    walk(expected, actual, "")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn percentages_are_rounded_down() {
        assert_eq!(Quota::Percent(2).of(400), 8);
        assert_eq!(Quota::Percent(2).of(49), 0);
        assert_eq!(Quota::Count(3).of(1), 3);
    }

    #[test]
    fn an_answer_may_have_more_than_is_expected_but_not_less() {
        let answer = json!({"statusCode": 200, "body": "Hello!\n", "headers": {"a": 1, "b": [1, 2]}});
        assert_eq!(lacks(&json!({"statusCode": 200, "headers": {"b": [1, 2]}}), &answer), None);
        assert_eq!(lacks(&json!({"statusCode": 500}), &answer).unwrap(), "/statusCode is 200, 500 was expected");
        assert_eq!(lacks(&json!({"headers": {"c": 1}}), &answer).unwrap(), "/headers/c is missing, 1 was expected");
        assert_eq!(lacks(&json!({"headers": {"b": [1]}}), &answer).unwrap(), "/headers/b is [1,2], [1] was expected");
        assert_eq!(lacks(&json!([1]), &json!(null)).unwrap(), "the answer is null, [1] was expected");
    }
}
