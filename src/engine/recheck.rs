//! Comparing a plan with what CloudFormation would do now (safety rule 2).

use std::collections::BTreeMap;
use std::sync::Arc;

use super::access::Entered;
use super::patience::patiently;
use super::plan::{Attempt, PlanRequest, Planned, Planning, Ready, Tried};
use super::window::{self, Flow};
use super::{Engine, Stop};
use crate::domain::{ChangeSetStatus, Failure, Fault, Outcome, StackStatus, Target, TargetId};
use crate::plan::{ChangeSetRef, Intent, Plan};

/// A target as it is now.
enum Described {
    /// Its change set can be executed.
    Ready(Box<Ready>, Intent),
    /// The plan has no change set for it.
    Without(Target),
    /// Its change set is gone or obsolete.
    Lost(Entered),
}

impl Engine {
    /// Describes every change set of a plan anew, computes the digest from what CloudFormation says now, and
    /// returns what to execute. A change set that has vanished or become obsolete is made again: if it says the
    /// same, the plan is still what was approved.
    ///
    /// # Errors
    ///
    /// Names everything that differs from the plan, or that could not be read; what was made again is cleared away.
    pub async fn recheck(
        &self,
        plan: &Plan,
        request: &PlanRequest,
        entered: Vec<Entered>,
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

        let (mut intents, mut ready, mut settled) = (Vec::new(), Vec::new(), Vec::new());
        let (mut problems, mut lost) = (Vec::new(), Vec::new());
        for result in described {
            match result {
                Err((entered, _)) => problems.push(format!("target {}: the run was stopped", entered.target.id)),
                Ok(Err(problem)) => problems.push(problem),
                Ok(Ok(Described::Lost(entered))) => lost.push(entered),
                Ok(Ok(Described::Ready(found, intent))) => {
                    intents.push((found.target.clone(), intent));
                    ready.push(*found);
                }
                Ok(Ok(Described::Without(target))) => {
                    let intent = planned.get(&target.id).copied().cloned().unwrap_or(Intent::Excluded);
                    let outcome = match intent {
                        Intent::Unchanged => Outcome::Unchanged,
                        _ => Outcome::Failed(Failure::because("left out of the plan, since it could not be planned")),
                    };
                    intents.push((target.clone(), intent));
                    settled.push((target, outcome));
                }
            }
        }
        if problems.is_empty() {
            let attempt = Arc::new(Attempt::new(self, request));
            let again = |entered| attempt.clone().again(entered);
            for result in window::run(lost, 128, &self.stop, again, |_| Flow::Start).await {
                match result {
                    Err(entered) => problems.push(format!("target {}: the run was stopped", entered.target.id)),
                    Ok(Tried { target, result: Err(outcome) }) => {
                        let why = outcome.failure().map(ToString::to_string).unwrap_or_default();
                        problems.push(format!("target {} cannot be planned again: {why}", target.id));
                    }
                    Ok(Tried { target, result: Ok(Planned::Unchanged(_)) }) => {
                        intents.push((target, Intent::Unchanged));
                    }
                    Ok(Tried { target, result: Ok(Planned::Ready(found, changes)) }) => {
                        self.events
                            .notice(format!("{}: the change set was no longer valid and was made again", target.id));
                        intents.push((target, Intent::of(found.creates, changes)));
                        ready.push(*found);
                    }
                }
            }
        }
        settled.extend(request.left_alone());
        let content = request.content(intents.iter().map(|(target, intent)| (target, intent.clone())).collect());
        let digest = content.digest();
        if problems.is_empty() {
            problems = plan.content.differences(&content);
        }
        if problems.is_empty() && digest != plan.digest {
            problems.push(format!("the plan's digest is {digest} and not {}", plan.digest));
        }
        if !problems.is_empty() {
            // Only what was made just now is this run's own.
            self.discard(ready).await;
            return Err(problems);
        }
        let change_sets = ready.iter().map(|ready| ready.change_set.clone()).collect();
        // What was unchanged when it was planned may have moved since: the ledger is left alone.
        let unchanged = Vec::new();
        Ok(Planning { plan: Plan { digest, content, change_sets, ..plan.clone() }, ready, unchanged, settled })
    }
}

/// Reads a target's change set as it is now.
async fn describe(entered: Entered, change_set: Option<ChangeSetRef>, stop: Stop) -> Result<Described, String> {
    let Some(change_set) = change_set else { return Ok(Described::Without(entered.target)) };
    let target = entered.target.clone();
    let id = target.id.clone();
    let unread = |fault: Fault| format!("target {id}: {fault}");
    let account = entered.account.clone().map_err(|failure| format!("target {id}: {failure}"))?;
    let found = patiently(&stop, || account.change_set(&target.stack, &change_set.name)).await.map_err(unread)?;
    let Some(found) = found else { return Ok(Described::Lost(entered)) };
    match found.status {
        ChangeSetStatus::Ready => {
            let stack = patiently(&stop, || account.stack(&change_set.stack_id)).await.map_err(unread)?;
            let creates = stack.is_some_and(|stack| stack.status == StackStatus::ReviewInProgress);
            let intent = Intent::of(creates, found.changes);
            // Another plan may have taken up the same change set: nothing is deleted here.
            let ready = Ready { target, account, change_set, creates, ours: false };
            Ok(Described::Ready(Box::new(ready), intent))
        }
        ChangeSetStatus::Spent(status) if status == "OBSOLETE" => Ok(Described::Lost(entered)),
        ChangeSetStatus::Spent(status) if status.starts_with("EXECUTE_") => {
            Err(format!("target {id}: its change set was executed already ({status})"))
        }
        ChangeSetStatus::Spent(status) => Err(format!("target {id}: its change set is {status}")),
        other => Err(format!("target {id}: its change set is not ready but {other:?}")),
    }
}
