//! Records of what somebody decided on a plan, and what they amount to.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Plan, Sealed, Secrets, holds};
use crate::domain::gate::fits;
use crate::domain::{ApprovalPolicy, Digest, Identity};

/// What somebody decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "decision", rename_all = "kebab-case")]
pub enum Decision {
    /// The plan may be executed.
    Approved,
    /// It may not.
    Rejected {
        /// Why not.
        why: String,
    },
}

/// A decision on one plan, as it is kept in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Approval {
    /// The format of this record.
    pub version: u32,
    /// The application's name.
    pub application: String,
    /// The stage's name.
    pub stage: String,
    /// The plan that it is about.
    pub plan: Digest,
    /// The round of the plan that it is for.
    pub round: u32,
    /// What was decided.
    #[serde(flatten)]
    pub decision: Decision,
    /// Who decided.
    pub by: Identity,
    /// Who wrote the record, where that was not the one who decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recorded_by: Option<Identity>,
    /// By which way the decision came: `command`, `terminal`, `codepipeline` or `github`.
    pub via: String,
    /// Which answer it was there, so that it is taken for one round only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// When it was decided.
    pub at: Timestamp,
    /// Until when it holds.
    pub until: Timestamp,
    /// What was shown: a line for each class of the plan.
    pub seen: Vec<String>,
    /// What the person had to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

/// What an approval was used for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Use {
    /// The rollout.
    pub rollout: String,
    /// When it began.
    pub at: Timestamp,
    /// Who began it.
    pub by: Identity,
}

/// Where a plan stands with its approvers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It may be executed; the text says who said so.
    Approved(String),
    /// Somebody has decided that it may not; the text says who and why.
    Rejected(String),
    /// What there is does not open the way, and waiting helps nobody: the text says why.
    Unfit(String),
    /// So many more persons have to approve; the texts say which records do not count.
    Waiting(usize, Vec<String>),
}

impl fmt::Display for Approval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.by)?;
        match &self.comment {
            Some(comment) => write!(f, " ({comment})"),
            None => Ok(()),
        }
    }
}

/// Weighs the records of a plan's round under a policy, whose rules stand for a person who has not been asked, and not
/// against one who has refused. `records` are the round's, unreadable ones by their reason;
/// `used` tells that the round's approval was used, `superseded` that the stage has a newer plan.
pub fn judge(
    plan: &Plan,
    policy: &ApprovalPolicy,
    records: &[Result<Sealed<Approval>, String>],
    used: Option<&Use>,
    superseded: Option<Digest>,
    secrets: &Secrets,
    now: Timestamp,
) -> Standing {
    if let Some(Use { rollout, at, by }) = used {
        return Standing::Unfit(format!("its approval was used by {by} for rollout {rollout}, begun {at:.0}"));
    }
    let mut counted: Vec<&Approval> = Vec::new();
    let mut refused: Vec<String> = Vec::new();
    for record in records {
        let sealed = match record {
            Ok(sealed) => sealed,
            Err(why) => {
                refused.push(why.clone());
                continue;
            }
        };
        let approval = &sealed.record;
        match problem(plan, policy, sealed, secrets, now) {
            Some(why) => refused.push(format!("the approval of {} {why}", approval.by)),
            None => match &approval.decision {
                Decision::Rejected { why } => return Standing::Rejected(format!("by {}: {why}", approval.by)),
                // One person counts once, however often they say it.
                Decision::Approved if counted.iter().any(|other| other.by.is_same_as(&approval.by)) => {}
                Decision::Approved => counted.push(approval),
            },
        }
    }
    if let Some(newer) = superseded {
        return Standing::Unfit(format!("plan {newer} of this stage is newer"));
    }
    let missing = policy.approvers.max(1).saturating_sub(counted.len());
    match missing {
        0 => Standing::Approved(counted.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
        _ if holds(&policy.auto_approve, &plan.content) => {
            let rules: Vec<String> = policy.auto_approve.iter().map(ToString::to_string).collect();
            Standing::Approved(format!("rule: {}", rules.join(", ")))
        }
        missing => Standing::Waiting(missing, refused),
    }
}

/// Tells whether a record counts for a plan.
pub fn counts(
    plan: &Plan,
    policy: &ApprovalPolicy,
    sealed: &Sealed<Approval>,
    secrets: &Secrets,
    now: Timestamp,
) -> bool {
    problem(plan, policy, sealed, secrets, now).is_none()
}

/// Says why a record does not count.
fn problem(
    plan: &Plan,
    policy: &ApprovalPolicy,
    sealed: &Sealed<Approval>,
    secrets: &Secrets,
    now: Timestamp,
) -> Option<String> {
    let Approval { application, stage, plan: digest, round, decision, by, at, until, .. } = &sealed.record;
    let content = &plan.content;
    if !sealed.is_intact(secrets) {
        return Some("was edited: its seal does not fit".to_owned());
    }
    if *digest != plan.digest || *stage != content.stage || *application != content.application || *round != plan.round
    {
        return Some(format!("is for plan {} of {stage}, round {round}", digest.short()));
    }
    // Somebody who may not approve may still object.
    if matches!(decision, Decision::Rejected { .. }) {
        return None;
    }
    let end = *until.min(&at.saturating_add(policy.expires).unwrap_or(*until));
    if end <= now {
        return Some(format!("expired {end:.0}"));
    }
    may_approve(plan, policy, by).err()
}

/// Tells whether somebody's approval of a plan would count.
///
/// # Errors
///
/// Says why it would not.
pub fn may_approve(plan: &Plan, policy: &ApprovalPolicy, by: &Identity) -> Result<(), String> {
    if policy.four_eyes && plan.planners.iter().any(|planner| by.is_same_as(planner)) {
        return Err("does not count: four eyes are asked for, and the plan is by the same person".to_owned());
    }
    if !policy.principals.is_empty() && !policy.principals.iter().any(|pattern| fits(pattern, &by.principal)) {
        return Err(format!("does not count: only {} may approve", policy.principals.join(", ")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::tests::plan;
    use super::*;

    fn identity(principal: &str) -> Identity {
        Identity { principal: principal.into(), source_identity: None }
    }

    fn now() -> Timestamp {
        Timestamp::from_second(10_000).unwrap()
    }

    fn secrets() -> Secrets {
        Secrets::sealing(b"key".to_vec())
    }

    fn approval(by: &str) -> Approval {
        let plan = plan(vec![]);
        Approval {
            version: 1,
            application: "app".into(),
            stage: "prod".into(),
            plan: plan.digest,
            round: 0,
            decision: Decision::Approved,
            by: identity(by),
            recorded_by: None,
            via: "command".into(),
            source: None,
            at: now(),
            until: now() + Duration::from_hours(1),
            seen: vec!["update 2 targets".into()],
            comment: None,
        }
    }

    fn standing(policy: &ApprovalPolicy, approvals: Vec<Approval>) -> Standing {
        let records: Vec<_> = approvals.into_iter().map(|one| Ok(Sealed::new(one, &secrets()))).collect();
        judge(&plan(vec![]), policy, &records, None, None, &secrets(), now())
    }

    #[track_caller]
    fn waits(standing: &Standing, missing: usize, reason: &str) {
        let Standing::Waiting(more, why) = standing else { panic!("{standing:?}") };
        assert_eq!(*more, missing, "{standing:?}");
        assert!(why.iter().any(|why| why.contains(reason)) || reason.is_empty(), "{standing:?}");
    }

    #[test]
    fn only_enough_good_approvals_open_the_way() {
        let policy = ApprovalPolicy {
            approvers: 2,
            four_eyes: true,
            principals: vec!["planner".into(), "arn:*:role/Approver/*".into()],
            ..ApprovalPolicy::default()
        };
        let (one, other) = ("arn:aws:sts::1:role/Approver/one", "arn:aws:sts::1:role/Approver/other");
        waits(&standing(&policy, vec![]), 2, "");
        waits(&standing(&policy, vec![approval(one)]), 1, "");
        waits(&standing(&policy, vec![approval(one), approval(one)]), 1, "");
        waits(&standing(&policy, vec![approval(one), approval("planner")]), 1, "four eyes");
        waits(&standing(&policy, vec![approval(one), approval("arn:aws:sts::1:role/Build/x")]), 1, "may approve");
        assert_eq!(
            standing(&policy, vec![approval(one), approval(other)]),
            Standing::Approved(format!("{one}, {other}"))
        );
    }

    #[test]
    fn what_is_expired_edited_foreign_or_rejected_does_not_count() {
        let policy = ApprovalPolicy::default();
        let short = ApprovalPolicy { expires: Duration::from_mins(1), ..policy.clone() };
        let old = Approval { at: now() - Duration::from_mins(2), ..approval("a") };
        waits(&standing(&short, vec![old.clone()]), 1, "expired");
        assert!(matches!(standing(&policy, vec![old]), Standing::Approved(_)));
        waits(&standing(&policy, vec![Approval { until: now(), ..approval("a") }]), 1, "expired");
        waits(&standing(&policy, vec![Approval { round: 1, ..approval("a") }]), 1, "round 1");
        waits(&standing(&policy, vec![Approval { plan: Digest::of("x"), ..approval("a") }]), 1, "is for plan");
        waits(&standing(&policy, vec![Approval { stage: "dev".into(), ..approval("a") }]), 1, "of dev");
        let rejected = Approval { decision: Decision::Rejected { why: "no".into() }, ..approval("b") };
        let both = standing(&policy, vec![approval("a"), rejected]);
        assert_eq!(both, Standing::Rejected("by b: no".into()));
    }

    #[test]
    fn whatever_is_edited_in_a_record_breaks_its_seal() {
        let sealed = Sealed::new(Approval { comment: Some("fine".into()), ..approval("a") }, &secrets());
        let json = serde_json::to_value(&sealed).unwrap();
        let mut tried = 0;
        for key in json.as_object().unwrap().keys() {
            let mut edited = json.clone();
            edited[key] = match &json[key] {
                serde_json::Value::String(text) if key == "plan" => Digest::of(text).to_string().into(),
                serde_json::Value::String(_) if key == "at" || key == "until" => "2030-01-01T00:00:00Z".into(),
                serde_json::Value::String(text) => format!("{text}x").into(),
                serde_json::Value::Number(number) => (number.as_u64().unwrap() + 1).into(),
                serde_json::Value::Object(_) => serde_json::json!({"principal": "mallory"}),
                _ => serde_json::json!(["nothing to see"]),
            };
            let Ok(read) = serde_json::from_value::<Sealed<Approval>>(edited) else { continue };
            tried += 1;
            assert!(!read.is_intact(&secrets()), "{key}");
            let standing = judge(&plan(vec![]), &ApprovalPolicy::default(), &[Ok(read)], None, None, &secrets(), now());
            waits(&standing, 1, "was edited");
        }
        assert!(tried >= 10, "{tried}");
        assert!(!sealed.is_intact(&Secrets::sealing(b"another key".to_vec())));
    }

    #[test]
    fn an_approval_is_used_once_and_only_for_the_newest_plan() {
        let records = [Ok(Sealed::new(approval("a"), &secrets()))];
        let usage = Use { rollout: "r".into(), at: now(), by: identity("b") };
        let judge =
            |usage, newer| judge(&plan(vec![]), &ApprovalPolicy::default(), &records, usage, newer, &secrets(), now());
        assert!(matches!(judge(None, None), Standing::Approved(_)));
        assert!(matches!(judge(Some(&usage), None), Standing::Unfit(why) if why.contains("was used")));
        assert!(matches!(judge(None, Some(Digest::of("x"))), Standing::Unfit(why) if why.contains("is newer")));
    }
}
