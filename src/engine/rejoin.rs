//! Finding out how far an interrupted rollout has come, target by target.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::access::Entered;
use super::apply::token;
use super::follow::Pace;
use super::patience::patiently;
use super::plan::{Attempt, PlanRequest, Planned, Planning, Ready, Tried};
use super::window::{self, Flow};
use super::{Engine, History};
use crate::domain::stack::Settled;
use crate::domain::{Digest, Failure, FaultKind, Outcome, StackStatus, TargetId};
use crate::event::Prepared;
use crate::plan::{Intent, Plan, StackVersion};

/// How many looks a stack has to show whether an operation that was asked for has begun: about ten seconds.
const LOOKS: u32 = 8;

impl Engine {
    /// Plans what is left of a rollout: what has ended keeps its outcome, what has begun is to be followed, and the
    /// rest is to be executed where it is still what the plan says.
    pub(super) async fn rejoin(
        &self,
        plan: &Plan,
        request: &PlanRequest,
        entered: Vec<Entered>,
        history: &History,
    ) -> Planning {
        let ended = Self::ended(history);
        let mut prepared: BTreeMap<&TargetId, Vec<Prepared>> = BTreeMap::new();
        for one in &history.prepared {
            prepared.entry(&one.target).or_default().push(one.clone());
        }
        let mut unchanged: BTreeMap<&TargetId, &StackVersion> =
            plan.unchanged.iter().map(|version| (&version.target, version)).collect();
        let planned: BTreeMap<&TargetId, &Intent> =
            plan.content.targets.iter().map(|target| (&target.target, &target.intent)).collect();
        let (mut settled, mut work) = (Vec::new(), Vec::new());
        for entered in entered {
            let id = &entered.target.id;
            let excluded = || {
                let failure = Failure::because("left out of the plan, since it could not be planned");
                (planned.get(id).copied() == Some(&Intent::Excluded)).then_some(Outcome::Failed(failure))
            };
            if let Some(outcome) = ended.get(id).cloned().or_else(excluded) {
                settled.push((entered.target, outcome));
                continue;
            }
            let found = unchanged.remove(id).cloned();
            let prepared = prepared.remove(id).unwrap_or_default();
            work.push((entered, prepared, found));
        }
        let attempt = Arc::new(Attempt::new(self, request));
        let rejoin = |(entered, prepared, found)| attempt.clone().rejoin(plan.digest, entered, prepared, found);
        let tried = window::run(work, 128, &self.stop, rejoin, |_| Flow::Start).await;
        let mut left = Vec::new();
        for result in tried {
            let tried = result.unwrap_or_else(|(entered, ..)| {
                let failure = Failure::because("the run was stopped before it was looked at");
                Tried { target: entered.target, result: Err(Outcome::Skipped(failure)) }
            });
            left.push(self.as_planned(&attempt, plan, tried).await);
        }
        let mut now = self.gather(request, left);
        now.settled.extend(settled);
        Planning { plan: plan.clone(), ..now }
    }

    /// Keeps of what would be executed now only what the plan says.
    async fn as_planned(&self, attempt: &Attempt, plan: &Plan, tried: Tried) -> Tried {
        let Tried { target, result } = tried;
        let intent = match &result {
            Ok(Planned::Ready(ready, _)) if ready.begun => return Tried { target, result },
            Ok(Planned::Ready(ready, changes)) => Intent::of(ready.creates, changes.clone()),
            // What the plan has executed, or what needed no execution.
            Ok(Planned::Unchanged(..)) | Err(_) => return Tried { target, result },
        };
        if plan.content.targets.contains(&attempt.content(&target, intent)) {
            return Tried { target, result };
        }
        if let Ok(Planned::Ready(ready, _)) = result {
            self.discard(vec![*ready]).await;
        }
        let failure = Failure::because("not executed: its change set no longer says what was approved");
        Tried { target, result: Err(Outcome::Failed(failure.hint("plan again, which asks again"))) }
    }
}

impl Attempt {
    /// Finds out whether a target's operation has begun; otherwise takes its change set up again.
    async fn rejoin(
        self: Arc<Self>,
        plan: Digest,
        entered: Entered,
        prepared: Vec<Prepared>,
        found: Option<StackVersion>,
    ) -> Tried {
        let Entered { target, account } = entered;
        let account = match account {
            Ok(account) => account,
            Err(failure) => return Tried { target, result: Err(Outcome::Detached(failure)) },
        };
        let stop = self.engine.stop.clone();
        let unread = |fault: crate::domain::Fault| {
            let failure = Failure::because(format!("how far it has come cannot be read: {fault}"));
            Err(Outcome::Detached(failure.hint("resume the rollout again")))
        };
        let mut pace = Pace::new();
        for look in 0..LOOKS {
            for Prepared { stack_id, change_set, .. } in prepared.iter().rev() {
                let token = token(plan, stack_id, change_set);
                let events = match patiently(&stop, || account.events(stack_id, None)).await {
                    Ok(events) => events,
                    Err(fault) if fault.kind == FaultKind::NotFound => continue,
                    Err(fault) => return Tried { target, result: unread(fault) },
                };
                if events.iter().any(|event| event.token.as_deref() == Some(&token)) {
                    let ready = Ready {
                        target: target.clone(),
                        account,
                        stack_id: stack_id.clone(),
                        change_set: change_set.clone(),
                        creates: false,
                        ours: false,
                        begun: true,
                        protected: false,
                    };
                    return Tried { target, result: Ok(Planned::Ready(Box::new(ready), Vec::new())) };
                }
            }
            let stack = match patiently(&stop, || account.stack(&target.stack)).await {
                Ok(stack) => stack,
                Err(fault) => return Tried { target, result: unread(fault) },
            };
            // Our operation may have begun without an event of it yet.
            let is_busy = stack.is_some_and(|stack| {
                stack.status != StackStatus::ReviewInProgress && stack.status.settled() == Settled::NotYet
            });
            if !is_busy || look + 1 == LOOKS {
                break;
            }
            pace.pause().await;
        }
        self.again(Entered { target, account: Ok(account) }, found).await
    }
}
