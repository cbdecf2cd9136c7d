//! Plans and what was decided on them, in the store.
//!
//! A plan is kept under its digest. Decisions are written once, below the digest and the plan's round; so is the use
//! of an approval. A pointer a stage names its newest plan, which supersedes those before it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Engine;
use super::records::{edited, parsed, written};
use crate::domain::{ApprovalPolicy, Digest, Fault, FaultKind, Gate, Identity};
use crate::plan::{Approval, Decision, Plan, Sealed, Secrets, Standing, Use, counts, judge};

fn plan_key(application: &str, digest: Digest) -> String {
    format!("tenantry/{application}/plans/{digest}.json")
}

fn newest_key(application: &str, stage: &str) -> String {
    format!("tenantry/{application}/newest-plan/{stage}.json")
}

/// Whoever releases writes it, and whoever approves does not: IAM can tell the two places apart.
fn use_key(plan: &Plan, round: u32) -> String {
    format!("tenantry/{}/uses/{}/{round}.json", plan.content.application, plan.digest)
}

fn round_prefix(plan: &Plan, round: u32) -> String {
    format!("tenantry/{}/approvals/{}/{round}/", plan.content.application, plan.digest)
}

/// Names the newest plan of a stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Newest {
    plan: Digest,
    planned: Timestamp,
    planner: Identity,
}

/// The round that an answer from elsewhere was read for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Answered {
    source: String,
    plan: Digest,
    round: u32,
}

/// Which round has claimed an answer from elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Claim {
    /// This one.
    Here,
    /// Another one.
    Elsewhere,
}

/// The records of a plan's round.
struct Records {
    decisions: Vec<Result<Sealed<Approval>, String>>,
    /// Why what was a rejection can be read as one no longer.
    edited_rejection: Option<String>,
    used: Option<Use>,
}

impl Records {
    /// Tells whether the round is over: its approval was used, somebody has rejected the plan, or all approvals there
    /// are have expired. Planning the same again then asks anew.
    fn is_over(&self, secrets: &Secrets, now: Timestamp) -> bool {
        let intact = self.decisions.iter().flatten().filter(|sealed| sealed.is_intact(secrets));
        let decisions: Vec<&Approval> = intact.map(|sealed| &sealed.record).collect();
        let rejected = decisions.iter().any(|one| matches!(one.decision, Decision::Rejected { .. }));
        let lapsed = !decisions.is_empty() && decisions.iter().all(|one| one.until <= now);
        self.used.is_some() || rejected || lapsed
    }

    /// Tells whether nobody has decided anything yet.
    fn is_empty(&self) -> bool {
        self.decisions.is_empty() && self.used.is_none()
    }
}

/// What became of a decision that was to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recorded {
    /// It is written.
    New,
    /// The same person has decided the same already, and it still counts.
    Known,
    /// The same answer was read before, for an earlier round of the plan or until it expired; it says nothing more.
    Spent,
}

/// Reads a plan's record. The fault says what was edited.
fn intact(key: &str, bytes: &[u8], digest: Digest, secrets: &Secrets) -> Result<Plan, Fault> {
    let sealed: Sealed<Plan> = parsed(key, bytes)?;
    if sealed.record.content.digest() != digest || sealed.record.digest != digest {
        return Err(edited(key, "the record was edited: its content does not fit its digest"));
    }
    if !sealed.is_intact(secrets) {
        return Err(edited(key, "the record was edited: its seal does not fit"));
    }
    Ok(sealed.record)
}

impl Engine {
    /// Keeps a plan under its digest, as the newest of its stage. Planning the same thing again goes on under the
    /// approvals that there are unless their round is over.
    ///
    /// # Errors
    ///
    /// Returns the store's fault.
    pub async fn keep_plan(&self, plan: &mut Plan, secrets: &Secrets) -> Result<(), Fault> {
        let (application, stage) = (plan.content.application.clone(), plan.content.stage.clone());
        let key = plan_key(&application, plan.digest);
        let known = self.store.get(&key).await?;
        match known.as_ref().map(|(bytes, _)| intact(&key, bytes, plan.digest, secrets)) {
            Some(Ok(old)) => {
                let planners = std::mem::replace(&mut plan.planners, old.planners);
                let new: Vec<Identity> = planners.into_iter().filter(|new| !plan.planners.contains(new)).collect();
                plan.planners.extend(new);
                (plan.round, plan.asked) = (old.round, old.asked);
                while self.records(plan, plan.round, secrets).await?.is_over(secrets, self.events.now()) {
                    plan.round += 1;
                    plan.asked = plan.planned;
                    plan.planners = vec![self.by.clone()];
                }
            }
            // Nobody has approved it.
            None if plan.content.gate == Gate::Open => {}
            // Who planned what was approved before is not known any more: those approvals are of no use.
            None | Some(Err(_)) => {
                while !self.records(plan, plan.round, secrets).await?.is_empty() {
                    plan.round += 1;
                }
            }
        }
        let version = known.as_ref().map(|(_, version)| version.as_str());
        self.store.replace(&key, written(&Sealed::new(plan.clone(), secrets)), version).await?;

        let key = newest_key(&application, &stage);
        let known = self.store.get(&key).await?;
        let version = known.as_ref().map(|(_, version)| version.as_str());
        let newest = Newest { plan: plan.digest, planned: plan.planned, planner: self.by.clone() };
        if let Some(before) = known.as_ref().and_then(|(bytes, _)| serde_json::from_slice::<Newest>(bytes).ok())
            && before.plan != plan.digest
            && let Some(old) = self.read_plan(&application, before.plan, secrets).await.ok().flatten()
            && !self.records(&old, old.round, secrets).await?.is_over(secrets, self.events.now())
        {
            let Newest { plan: old, planned, planner } = before;
            let old = old.short();
            self.events.notice(format!(
                "this plan supersedes plan {old} of {stage}, planned {planned:.0} by {planner}, which was not executed"
            ));
        }
        self.store.replace(&key, written(&newest), version).await.map(drop)
    }

    /// Reads a plan, and refuses one whose content does not fit its digest, or whose record was edited otherwise.
    ///
    /// # Errors
    ///
    /// Returns the store's fault, or a mismatch where the record was edited.
    pub async fn read_plan(&self, application: &str, digest: Digest, secrets: &Secrets) -> Result<Option<Plan>, Fault> {
        let key = plan_key(application, digest);
        let found = self.store.get(&key).await?;
        found.map(|(bytes, _)| intact(&key, &bytes, digest, secrets)).transpose()
    }

    /// Returns where a plan stands with its approvers.
    ///
    /// # Errors
    ///
    /// Returns the store's fault.
    pub async fn standing(&self, plan: &Plan, policy: &ApprovalPolicy, secrets: &Secrets) -> Result<Standing, Fault> {
        let records = self.records(plan, plan.round, secrets).await?;
        let newest = self.record::<Newest>(&newest_key(&plan.content.application, &plan.content.stage)).await?;
        let superseded = newest.map(|newest| newest.plan).filter(|newest| *newest != plan.digest);
        let used = records.used.as_ref();
        if let Some(why) = records.edited_rejection.filter(|_| used.is_none()) {
            return Ok(Standing::Unfit(why));
        }
        Ok(judge(plan, policy, &records.decisions, used, superseded, secrets, self.events.now()))
    }

    /// Writes a decision, once and for good.
    ///
    /// # Errors
    ///
    /// Returns the store's fault.
    pub async fn decide(
        &self,
        plan: &Plan,
        policy: &ApprovalPolicy,
        approval: Approval,
        secrets: &Secrets,
    ) -> Result<Recorded, Fault> {
        let now = self.events.now();
        let spent = match &approval.source {
            // An answer from elsewhere belongs to the round that it was read for first, whatever came of it there.
            Some(source) => self.claim(plan, source).await?,
            None => None,
        };
        if spent == Some(Claim::Elsewhere) {
            return Ok(Recorded::Spent);
        }
        let same = |sealed: &&Sealed<Approval>| {
            let Approval { by, decision, .. } = &sealed.record;
            by.is_same_as(&approval.by) && *decision == approval.decision
        };
        let known = self.records(plan, plan.round, secrets).await?.decisions;
        if known.iter().flatten().filter(same).any(|sealed| counts(plan, policy, sealed, secrets, now)) {
            return Ok(Recorded::Known);
        }
        // What has expired is not given again by being read again.
        let is_recorded = known.iter().flatten().any(|sealed| sealed.record.source == approval.source);
        if spent == Some(Claim::Here) && is_recorded {
            return Ok(Recorded::Spent);
        }
        let what = if approval.decision == Decision::Approved { "approved" } else { "rejected" };
        let who = Digest::of(format!("{} {} {:?}", approval.by.principal, approval.at, approval.source)).short();
        let key = format!("{}{what}-{who}.json", round_prefix(plan, plan.round));
        let new = self.store.put_once(&key, written(&Sealed::new(approval, secrets))).await?;
        Ok(if new { Recorded::New } else { Recorded::Known })
    }

    /// Claims an answer from elsewhere for a plan's round; tells who has claimed it before, if somebody has.
    async fn claim(&self, plan: &Plan, source: &str) -> Result<Option<Claim>, Fault> {
        let key = format!("tenantry/{}/approvals/answers/{}.json", plan.content.application, Digest::of(source));
        let (digest, round) = (plan.digest, plan.round);
        let claim = Answered { source: source.to_owned(), plan: digest, round };
        if self.store.put_once(&key, written(&claim)).await? {
            return Ok(None);
        }
        let here = self.record::<Answered>(&key).await?.is_some_and(|found| found == claim);
        Ok(Some(if here { Claim::Here } else { Claim::Elsewhere }))
    }

    /// Uses a plan's approval up, before anything is executed under it. Where the gate is open there is none, and it is
    /// only written that the plan was executed.
    ///
    /// # Errors
    ///
    /// Returns the store's fault, or a conflict where it was used before.
    pub async fn use_up(&self, plan: &Plan, rollout: &str) -> Result<(), Fault> {
        let key = use_key(plan, plan.round);
        let usage = Use { rollout: rollout.to_owned(), at: self.events.now(), by: self.by.clone() };
        let is_new = self.store.put_once(&key, written(&usage)).await?;
        // A lost answer, or another shard of the rollout.
        let is_for_this = |usage: Use| usage.rollout == rollout;
        if is_new || plan.content.gate == Gate::Open || self.record::<Use>(&key).await?.is_some_and(is_for_this) {
            return Ok(());
        }
        Err(Fault::new(FaultKind::Conflict, "PutObject", "another run has used this approval at the same moment"))
    }

    /// Returns the rollouts for which approvals of a plan were used, in whatever round.
    pub(super) async fn used_for(&self, plan: &Plan, secrets: &Secrets) -> Result<Vec<String>, Fault> {
        let mut used = Vec::new();
        for round in 0..=plan.round {
            used.extend(self.records(plan, round, secrets).await?.used.map(|usage| usage.rollout));
        }
        Ok(used)
    }

    /// Reads the records of a plan's round. One that cannot be read is told as such, and counts for nothing; but a
    /// rejection that was edited is none the less for it.
    async fn records(&self, plan: &Plan, round: u32, secrets: &Secrets) -> Result<Records, Fault> {
        let mut records = Records { decisions: Vec::new(), edited_rejection: None, used: None };
        records.used = match self.record(&use_key(plan, round)).await {
            // Whatever stands there: the approval was used.
            Err(fault) if fault.kind == FaultKind::Mismatch => {
                Some(Use { rollout: "?".to_owned(), at: self.events.now(), by: self.by.clone() })
            }
            other => other?,
        };
        for key in self.store.list(&round_prefix(plan, round)).await? {
            let decision = match self.record::<Sealed<Approval>>(&key).await {
                Ok(None) => continue,
                Ok(Some(found)) => Ok(found),
                Err(fault) if fault.kind == FaultKind::Mismatch => {
                    Err(format!("a record was edited: {}", fault.message))
                }
                Err(fault) => return Err(fault),
            };
            let is_intact = decision.as_ref().is_ok_and(|sealed| sealed.is_intact(secrets));
            if key.contains("/rejected-") && !is_intact {
                records.edited_rejection =
                    Some(format!("somebody has refused it, and the record of that was edited: {key}"));
            }
            records.decisions.push(decision);
        }
        Ok(records)
    }
}
