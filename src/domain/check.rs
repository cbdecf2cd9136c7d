//! What must hold after a target was deployed.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

/// Something that must hold after a target was deployed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
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
    fn an_answer_may_have_more_than_is_expected_but_not_less() {
        let answer = json!({"statusCode": 200, "body": "Hello!\n", "headers": {"a": 1, "b": [1, 2]}});
        assert_eq!(lacks(&json!({"statusCode": 200, "headers": {"b": [1, 2]}}), &answer), None);
        assert_eq!(lacks(&json!({"statusCode": 500}), &answer).unwrap(), "/statusCode is 200, 500 was expected");
        assert_eq!(lacks(&json!({"headers": {"c": 1}}), &answer).unwrap(), "/headers/c is missing, 1 was expected");
        assert_eq!(lacks(&json!({"headers": {"b": [1]}}), &answer).unwrap(), "/headers/b is [1,2], [1] was expected");
        assert_eq!(lacks(&json!([1]), &json!(null)).unwrap(), "the answer is null, [1] was expected");
    }
}
