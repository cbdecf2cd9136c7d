//! The reviewers of a protected environment, who have let the job run.

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
    user: User,
}

#[derive(Deserialize)]
struct User {
    login: String,
}

/// Returns what the reviewers of a run decided.
///
/// # Errors
///
/// Says why the answer is not a list of reviews.
pub fn reviewers(answer: &[u8]) -> Result<Vec<Decided>, String> {
    let reviews: Vec<Review> = serde_json::from_slice(answer).map_err(|error| error.to_string())?;
    let decided = |Review { state, comment, user }: Review| {
        let comment = comment.filter(|text| !text.is_empty());
        let decision = match state.as_str() {
            "approved" => Decision::Approved,
            "rejected" => Decision::Rejected { why: comment.clone().unwrap_or_else(|| "rejected in review".into()) },
            _ => return None,
        };
        let by = Identity { principal: format!("github:{}", user.login), source_identity: Some(user.login) };
        Some(Decided { decision, by, via: "github", at: None, comment })
    };
    Ok(reviews.into_iter().filter_map(decided).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reviews_become_decisions() {
        let answer = br#"[
            {"state": "approved", "comment": "ship it", "environments": [{"name": "production"}], "user": {"login": "octocat"}},
            {"state": "pending", "comment": "", "user": {"login": "other"}}]"#;
        let decided = reviewers(answer).unwrap();
        assert_eq!(decided.len(), 1);
        assert_eq!(decided[0].by.principal, "github:octocat");
        assert_eq!(decided[0].comment.as_deref(), Some("ship it"));
        assert!(reviewers(b"{}").is_err());
    }
}
