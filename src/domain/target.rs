//! A tenant in a region: one stack.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{AccountId, Region, ReleaseId};

/// Names a target among all of a stage; shown as `unicorn/eu-west-1`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TargetId {
    /// The tenant's name.
    pub tenant: String,
    /// The region of the stack.
    pub region: Region,
}

impl fmt::Display for TargetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}/{}", self.tenant, self.region))
    }
}

/// All that has to be known to release to one target, with every variable replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Which target this is.
    pub id: TargetId,
    /// The account that the target must be in. It is compared with the truth before anything else.
    pub account: AccountId,
    /// The name of the stack.
    pub stack: String,
    /// The role in the tenant's account that Tenantry assumes.
    pub access_role: String,
    /// The role that it assumes instead where it only plans, if there is one. No part of a plan: by which role it was made
    /// changes nothing in what is done.
    pub plan_role: Option<String>,
    /// The role that CloudFormation uses for the tenant's resources. None only where that role itself is made.
    pub deployment_role: Option<String>,
    /// What the access role's trust policy asks for, if anything. Treated as a secret.
    pub external_id: Option<String>,
    /// Template parameters by name.
    pub parameters: BTreeMap<String, ParameterValue>,
    /// The release that the target stays on, whatever is released.
    pub pin: Option<ReleaseId>,
    /// Tags of the stack, which CloudFormation hands on to its resources.
    pub tags: BTreeMap<String, String>,
    /// Acknowledged capabilities, by CloudFormation's names.
    pub capabilities: Vec<String>,
    /// In which wave of its stage it is, counted from 0.
    pub wave: u32,
    /// What has to hold after the stack was deployed.
    pub checks: Vec<super::Check>,
    /// The alarms in its account that are watched after it was deployed.
    pub alarms: Vec<super::Alarm>,
}

/// What a template parameter gets.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ParameterValue {
    /// A text, which may be a dynamic reference that only CloudFormation resolves.
    Text(String),
    /// What the stack has now: `UsePreviousValue`. Written as null.
    Previous,
}

impl ParameterValue {
    /// Returns the text, where the value is one.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Previous => None,
        }
    }
}

/// Tells whether a text is a dynamic reference and nothing else: it names a secret and is none.
/// Source: <https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/dynamic-references.html>
pub fn is_reference(text: &str) -> bool {
    let inner = text.strip_prefix("{{resolve:").and_then(|rest| rest.strip_suffix("}}"));
    inner.is_some_and(|inner| !inner.contains("}}"))
}

impl From<&str> for ParameterValue {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}
