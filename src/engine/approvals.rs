//! Plans and what was decided on them, in the store.
//!
//! A plan is kept under its digest. Decisions are written once, below the digest and the plan's round; so is the use
//! of an approval. A pointer a stage names its newest plan, which supersedes those before it.

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Engine;
use crate::domain::{ApprovalPolicy, Digest, Fault, FaultKind, Gate, Identity};
use crate::plan::{Approval, Decision, Plan, Sealed, Secrets, Standing, Use, counts, judge};

fn plan_key(application: &str, digest: Digest) -> String {
    format!("tenantry/{application}/plans/{digest}.json")
}

fn newest_key(application: &str, stage: &str) -> String {
    format!("tenantry/{application}/newest-plan/{stage}.json")
}

fn round_prefix(plan: &Plan) -> String {
    format!("tenantry/{}/approvals/{}/{}/", plan.content.application, plan.digest, plan.round)
}

/// Names the newest plan of a stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Newest {
    plan: Digest,
    planned: Timestamp,
    planner: Identity,
}

/// The records of a plan's round.
struct Records {
    decisions: Vec<Result<Sealed, String>>,
    used: Option<Use>,
}

impl Records {
    /// Tells whether the round is over: its approval was used, somebody has rejected the plan, or all approvals there
    /// are have expired. Planning the same again then asks anew.
    fn is_over(&self, secrets: &Secrets, now: Timestamp) -> bool {
        let intact = self.decisions.iter().flatten().filter(|sealed| sealed.is_intact(secrets));
        let decisions: Vec<&Approval> = intact.map(|sealed| &sealed.approval).collect();
        let rejected = decisions.iter().any(|one| matches!(one.decision, Decision::Rejected { .. }));
        let lapsed = !decisions.is_empty() && decisions.iter().all(|one| one.until <= now);
        self.used.is_some() || rejected || lapsed
    }
}

impl Engine {
    /// Keeps a plan under its digest, as the newest of its stage. Planning the same thing again brings its change
    /// sets' names up to date, and goes on under the approvals that there are unless their round is over.
    ///
    /// # Errors
    ///
    /// Returns the store's fault.
    pub async fn keep_plan(&self, plan: &mut Plan, secrets: &Secrets) -> Result<(), Fault> {
        let (application, stage) = (plan.content.application.clone(), plan.content.stage.clone());
        let key = plan_key(&application, plan.digest);
        let known = self.store.get(&key).await?;
        if let Some(known) = known.as_ref().and_then(|(bytes, _)| serde_json::from_slice::<Plan>(bytes).ok()) {
            plan.round = known.round;
            while self.records(plan).await?.is_over(secrets, self.events.now()) {
                plan.round += 1;
            }
        }
        let bytes = serde_json::to_vec_pretty(plan).unwrap_or_default();
        let version = known.as_ref().map(|(_, version)| version.as_str());
        self.store.replace(&key, bytes, version).await?;

        let key = newest_key(&application, &stage);
        let known = self.store.get(&key).await?;
        let version = known.as_ref().map(|(_, version)| version.as_str());
        let newest = Newest { plan: plan.digest, planned: plan.planned, planner: plan.planner.clone() };
        if let Some(before) = known.as_ref().and_then(|(bytes, _)| serde_json::from_slice::<Newest>(bytes).ok())
            && before.plan != plan.digest
            && let Some(old) = self.read_plan(&application, before.plan).await.ok().flatten()
            && !self.records(&old).await?.is_over(secrets, self.events.now())
        {
            let Newest { plan: old, planned, planner } = before;
            let old = old.short();
            self.events.notice(format!(
                "this plan supersedes plan {old} of {stage}, planned {planned:.0} by {planner}, which was not executed"
            ));
        }
        self.store.replace(&key, serde_json::to_vec_pretty(&newest).unwrap_or_default(), version).await.map(drop)
    }

    /// Reads a plan, and refuses one whose content does not fit its digest.
    ///
    /// # Errors
    ///
    /// Returns the store's fault, or a mismatch where the record was edited.
    pub async fn read_plan(&self, application: &str, digest: Digest) -> Result<Option<Plan>, Fault> {
        let key = plan_key(application, digest);
        let Some((bytes, _)) = self.store.get(&key).await? else { return Ok(None) };
        let wrong = |why: String| Fault::new(FaultKind::Mismatch, "GetObject", format!("{key}: {why}"));
        let plan: Plan = serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
        if plan.content.digest() != digest || plan.digest != digest {
            return Err(wrong("the record was edited: its content does not fit its digest".to_owned()));
        }
        Ok(Some(plan))
    }

    /// Returns where a plan stands with its approvers.
    ///
    /// # Errors
    ///
    /// Returns the store's fault.
    pub async fn standing(&self, plan: &Plan, policy: &ApprovalPolicy, secrets: &Secrets) -> Result<Standing, Fault> {
        let records = self.records(plan).await?;
        let newest = self.read_json::<Newest>(&newest_key(&plan.content.application, &plan.content.stage)).await?;
        let superseded = newest.map(|newest| newest.plan).filter(|newest| *newest != plan.digest);
        let used = records.used.as_ref();
        Ok(judge(plan, policy, &records.decisions, used, superseded, secrets, self.events.now()))
    }

    /// Writes a decision, once and for good. Tells whether it is new: what the same person has decided already, and
    /// what still counts, is not written again.
    ///
    /// # Errors
    ///
    /// Returns the store's fault.
    pub async fn record(
        &self,
        plan: &Plan,
        policy: &ApprovalPolicy,
        approval: Approval,
        secrets: &Secrets,
    ) -> Result<bool, Fault> {
        let now = self.events.now();
        let same = |sealed: &&Sealed| {
            let Approval { by, decision, .. } = &sealed.approval;
            by.is_same_as(&approval.by) && *decision == approval.decision
        };
        let known = self.records(plan).await?.decisions;
        if known.iter().flatten().filter(same).any(|sealed| counts(plan, policy, sealed, secrets, now)) {
            return Ok(false);
        }
        let what = if approval.decision == Decision::Approved { "approved" } else { "rejected" };
        let who = Digest::of(format!("{} {}", approval.by.principal, approval.at)).short();
        let key = format!("{}{what}-{who}.json", round_prefix(plan));
        let sealed = Sealed::new(approval, secrets);
        self.store.put_once(&key, serde_json::to_vec_pretty(&sealed).unwrap_or_default()).await
    }

    /// Uses a plan's approval up, before anything is executed under it. Where the gate is open there is none.
    ///
    /// # Errors
    ///
    /// Returns the store's fault, or a conflict where it was used before.
    pub async fn use_up(&self, plan: &Plan, gate: &Gate, rollout: &str) -> Result<(), Fault> {
        if *gate == Gate::Open {
            return Ok(());
        }
        let key = format!("{}used.json", round_prefix(plan));
        let usage = Use { rollout: rollout.to_owned(), at: self.events.now(), by: self.by.clone() };
        let bytes = serde_json::to_vec_pretty(&usage).unwrap_or_default();
        if self.store.put_once(&key, bytes).await? || self.read_json::<Use>(&key).await? == Some(usage) {
            return Ok(());
        }
        Err(Fault::new(FaultKind::Conflict, "PutObject", "another run has used this approval at the same moment"))
    }

    /// Reads the records of a plan's round. One that cannot be read is told as such, and counts for nothing.
    async fn records(&self, plan: &Plan) -> Result<Records, Fault> {
        let mut records = Records { decisions: Vec::new(), used: None };
        for key in self.store.list(&round_prefix(plan)).await? {
            if key.ends_with("/used.json") {
                // Whatever stands there: the approval was used.
                let unreadable = Use { rollout: "?".to_owned(), at: self.events.now(), by: self.by.clone() };
                records.used = Some(self.read_json(&key).await.ok().flatten().unwrap_or(unreadable));
                continue;
            }
            match self.read_json::<Sealed>(&key).await {
                Ok(found) => records.decisions.extend(found.map(Ok)),
                Err(fault) if fault.kind == FaultKind::Mismatch => {
                    records.decisions.push(Err(format!("a record was edited: {}", fault.message)));
                }
                Err(fault) => return Err(fault),
            }
        }
        Ok(records)
    }

    /// Reads a record, and says so where it is not what it should be.
    pub(super) async fn read_json<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, Fault> {
        let Some((bytes, _)) = self.store.get(key).await? else { return Ok(None) };
        let wrong = |error: serde_json::Error| {
            Fault::new(FaultKind::Mismatch, "GetObject", format!("{key} cannot be read: {error}"))
        };
        serde_json::from_slice(&bytes).map(Some).map_err(wrong)
    }
}
