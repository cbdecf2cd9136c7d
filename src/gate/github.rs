//! The reviewers of a protected environment, who have let the job run.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::Decided;
use crate::domain::Identity;
use crate::plan::Decision;

/// A workflow run, with what it takes to ask for its reviewers.
#[derive(Clone)]
pub struct Run {
    /// The API's address, as `https://api.github.com`.
    pub api: String,
    /// Owner and name of the repository.
    pub repository: String,
    /// The run's id.
    pub id: String,
    /// A token that may read the repository's actions.
    pub token: String,
}

impl Run {
    /// Returns the address under which GitHub tells the run's reviews.
    /// Source: <https://docs.github.com/en/rest/actions/workflow-runs#get-the-review-history-for-a-workflow-run>
    pub fn reviews(&self) -> String {
        format!("{}/repos/{}/actions/runs/{}/approvals", self.api, self.repository, self.id)
    }
}

#[derive(Deserialize)]
struct Review {
    state: String,
    #[serde(default)]
    comment: Option<String>,
    #[serde(default)]
    environments: Vec<Environment>,
    user: User,
}

#[derive(Deserialize)]
struct Environment {
    name: String,
}

#[derive(Deserialize)]
struct User {
    login: String,
}

impl Run {
    /// Returns what the reviewers of one environment decided in this run. Who lets a job into another environment says
    /// nothing about this one.
    ///
    /// # Errors
    ///
    /// Says why the answer is not a list of reviews.
    pub fn reviewers(&self, answer: &[u8], environment: &str) -> Result<Vec<Decided>, String> {
        let reviews: Vec<Review> = serde_json::from_slice(answer).map_err(|error| error.to_string())?;
        let of_environment = |review: &Review| {
            // GitHub compares names of environments without case.
            review.environments.iter().any(|found| found.name.eq_ignore_ascii_case(environment))
        };
        let reviews: Vec<Review> = reviews.into_iter().filter(of_environment).collect();
        let approvers: BTreeSet<String> =
            reviews.iter().filter(|one| one.state == "approved").map(|one| one.user.login.clone()).collect();
        let mut seen: BTreeMap<(String, String), u32> = BTreeMap::new();
        let mut decided = Vec::new();
        for Review { state, comment, user, .. } in reviews {
            let comment = comment.filter(|text| !text.is_empty());
            let decision = match state.as_str() {
                "approved" => Decision::Approved,
                // The run was refused, started again, and let pass: otherwise this job would not run.
                "rejected" if approvers.contains(&user.login) => continue,
                "rejected" => {
                    Decision::Rejected { why: comment.clone().unwrap_or_else(|| "rejected in review".into()) }
                }
                _ => continue,
            };
            // A run that is started again has the old reviews with the new ones, in no order that is promised. They
            // are told apart by how many there are.
            let number = seen.entry((user.login.clone(), state.clone())).or_default();
            *number += 1;
            let source =
                format!("github:{}/{}/{environment}/{}/{state}/{number}", self.repository, self.id, user.login);
            let by = Identity { principal: format!("github:{}", user.login), source_identity: Some(user.login) };
            decided.push(Decided { decision, by, via: "github", source: Some(source), at: None, comment });
        }
        Ok(decided)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reviews_of_the_environment_become_decisions() {
        let answer = br#"[
            {"state": "approved", "comment": "ship it", "environments": [{"name": "Prod"}], "user": {"login": "octocat"}},
            {"state": "approved", "comment": "", "environments": [{"name": "staging"}], "user": {"login": "intern"}},
            {"state": "approved", "comment": "", "environments": [{"name": "prod"}], "user": {"login": "octocat"}},
            {"state": "pending", "comment": "", "environments": [{"name": "prod"}], "user": {"login": "other"}}]"#;
        let run = Run { api: String::new(), repository: "acme/app".into(), id: "42".into(), token: String::new() };
        let decided = run.reviewers(answer, "prod").unwrap();
        let told: Vec<_> =
            decided.iter().map(|one| (one.by.principal.as_str(), one.source.as_deref().unwrap())).collect();
        assert_eq!(
            told,
            [
                ("github:octocat", "github:acme/app/42/prod/octocat/approved/1"),
                ("github:octocat", "github:acme/app/42/prod/octocat/approved/2")
            ]
        );
        assert_eq!(decided[0].comment.as_deref(), Some("ship it"));
        assert!(run.reviewers(b"{}", "prod").is_err());
    }
}
