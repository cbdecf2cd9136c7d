//! What was changed by hand since a stack was deployed.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How a stack's resources differ from its template; none where they do not.
/// Source: <https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/using-cfn-stack-drift.html>
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drift {
    /// The resources that differ.
    pub resources: Vec<DriftedResource>,
}

/// A resource that is not as the template says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DriftedResource {
    /// Its name in the template.
    pub logical_id: String,
    /// Its type.
    pub resource_type: String,
    /// `MODIFIED` or `DELETED`.
    pub status: String,
    /// Paths of the properties that differ.
    pub properties: Vec<String>,
}

impl fmt::Display for DriftedResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}) {}", self.logical_id, self.resource_type, self.status.to_lowercase())?;
        if self.properties.is_empty() { Ok(()) } else { write!(f, ": {}", self.properties.join(", ")) }
    }
}
