//! Who planned, who approved.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A person or a machine, as far as AWS or GitHub knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Identity {
    /// The ARN that STS tells for the caller, or `github:` and a login.
    pub principal: String,
    /// The person or job behind it, as the surroundings name it. STS tells nobody the source identity of a session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_identity: Option<String>,
}

impl Identity {
    /// Tells whether two identities are one person, as far as can be known: the same principal, the same person behind
    /// two, or the person behind the one by the name of the other.
    pub fn is_same_as(&self, other: &Self) -> bool {
        let behind = |one: &Self| one.source_identity.as_ref().map(|name| name.to_lowercase());
        let named = |one: &Self| one.principal.rsplit(['/', ':']).next().map(str::to_lowercase);
        let meets = |one: &Self, other: &Self| {
            behind(one)
                .is_some_and(|name| Some(&name) == behind(other).as_ref() || Some(&name) == named(other).as_ref())
        };
        self.principal == other.principal || meets(self, other) || meets(other, self)
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.principal)?;
        match &self.source_identity {
            Some(name) if !self.principal.ends_with(name.as_str()) => write!(f, " ({name})"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_person_is_known_behind_two_principals() {
        let identity = |principal: &str, behind: Option<&str>| Identity {
            principal: principal.into(),
            source_identity: behind.map(str::to_owned),
        };
        let planner = identity("arn:aws:sts::111111111111:assumed-role/plan/run-1", Some("Octocat"));
        assert!(planner.is_same_as(&identity("github:octocat", Some("octocat"))));
        assert!(planner.is_same_as(&identity("arn:aws:iam::111111111111:user/octocat", None)));
        assert!(identity("arn:aws:iam::111111111111:user/octocat", None).is_same_as(&planner));
        assert!(planner.is_same_as(&identity(&planner.principal, None)));
        assert!(!planner.is_same_as(&identity("arn:aws:sts::111111111111:assumed-role/plan/run-2", None)));
        assert!(!identity("a", None).is_same_as(&identity("b", None)));
    }
}
