//! Comparing a plan with what CloudFormation would do now (safety rule 2).

use std::collections::BTreeMap;

use super::access::Entered;
use super::patience::patiently;
use super::plan::{Planning, Ready};
use super::window::{self, Flow};
use super::{Engine, Stop};
use crate::domain::{ChangeSetStatus, Failure, Fault, Outcome, Release, StackStatus, Target, TargetId};
use crate::plan::{ChangeSetRef, Content, Intent, Plan, Secrets, TargetContent};

/// A target as it is now: with what to execute, if the plan has a change set for it.
type Described = (Target, Option<(Ready, Intent)>);

impl Engine {
    /// Describes every change set of a plan anew, computes the digest from what CloudFormation says now, and
    /// returns what to execute.
    ///
    /// # Errors
    ///
    /// Names everything that differs from the plan, or that could not be read.
    pub async fn recheck(
        &self,
        plan: &Plan,
        release: &Release,
        entered: Vec<Entered>,
        secrets: &Secrets,
    ) -> Result<Planning, Vec<String>> {
        let mut change_sets: BTreeMap<TargetId, ChangeSetRef> =
            plan.change_sets.iter().map(|change_set| (change_set.target.clone(), change_set.clone())).collect();
        let planned: BTreeMap<&TargetId, &Intent> =
            plan.content.targets.iter().map(|target| (&target.target, &target.intent)).collect();
        let with_change_set = |entered: Entered| {
            let change_set = change_sets.remove(&entered.target.id);
            (entered, change_set)
        };
        let work: Vec<_> = entered.into_iter().map(with_change_set).collect();
        let look = |(entered, change_set)| describe(entered, change_set, self.stop.clone());
        let described = window::run(work, 128, &self.stop, look, |_| Flow::Start).await;

        let (mut contents, mut ready, mut settled, mut problems) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for result in described {
            match result {
                Err((entered, _)) => problems.push(format!("target {}: the run was stopped", entered.target.id)),
                Ok(Err(problem)) => problems.push(problem),
                Ok(Ok((target, Some((found, intent))))) => {
                    contents.push(TargetContent::new(&target, intent, secrets));
                    ready.push(found);
                }
                Ok(Ok((target, None))) => {
                    let intent = planned.get(&target.id).copied().cloned().unwrap_or(Intent::Excluded);
                    contents.push(TargetContent::new(&target, intent.clone(), secrets));
                    let outcome = match intent {
                        Intent::Unchanged => Outcome::Unchanged,
                        _ => Outcome::Failed(Failure::because("left out of the plan, since it could not be planned")),
                    };
                    settled.push((target, outcome));
                }
            }
        }
        let content = Content::new(&plan.content.stage, release, plan.content.rollout, contents);
        if problems.is_empty() {
            problems = plan.content.differences(&content);
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let digest = content.digest();
        if digest != plan.digest {
            return Err(vec![format!("the plan's digest is {digest} and not {}", plan.digest)]);
        }
        // What was unchanged when it was planned may have moved since: the ledger is left alone.
        let unchanged = Vec::new();
        Ok(Planning { plan: Plan { digest, content, ..plan.clone() }, ready, unchanged, settled })
    }
}

/// Reads a target's change set as it is now.
async fn describe(entered: Entered, change_set: Option<ChangeSetRef>, stop: Stop) -> Result<Described, String> {
    let Entered { target, account } = entered;
    let Some(change_set) = change_set else { return Ok((target, None)) };
    let id = target.id.clone();
    let unread = |fault: Fault| format!("target {id}: {fault}");
    let account = account.map_err(|failure| format!("target {id}: {failure}"))?;
    let found = patiently(&stop, || account.change_set(&target.stack, &change_set.name)).await.map_err(unread)?;
    let found = found.ok_or_else(|| format!("target {id}: its change set {} is gone", change_set.name))?;
    let stack = patiently(&stop, || account.stack(&change_set.stack_id)).await.map_err(unread)?;
    match found.status {
        ChangeSetStatus::Ready => {
            let creates = stack.is_some_and(|stack| stack.status == StackStatus::ReviewInProgress);
            let intent = Intent::of(creates, found.changes);
            // Another plan may have taken up the same change set: nothing is deleted here.
            let ready = Ready { target: target.clone(), account, change_set, creates, ours: false };
            Ok((target, Some((ready, intent))))
        }
        ChangeSetStatus::Spent(status) if status.starts_with("EXECUTE_") => {
            Err(format!("target {id}: its change set was executed already ({status})"))
        }
        ChangeSetStatus::Spent(status) => Err(format!("target {id}: its change set is {status}")),
        other => Err(format!("target {id}: its change set is not ready but {other:?}")),
    }
}
