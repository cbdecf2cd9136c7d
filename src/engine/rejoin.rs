//! Finding out how far an interrupted rollout has come, target by target.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::access::Entered;
use super::begun::{LOOKS, token};
use super::pace::Pace;
use super::patience::patiently;
use super::plan::{Attempt, PlanRequest, Planned, Planning, Ready, Tried, left_out};
use super::window::{self, Flow};
use super::{Engine, History};
use crate::domain::stack::{Decision, Settled};
use crate::domain::{Digest, Failure, Fault, FaultKind, Outcome, StackEvent, StackStatus, Target, TargetId};
use crate::event::Prepared;
use crate::plan::{Intent, Plan, StackVersion};
use crate::ports::TenantAccount;

/// The journal's times are by another clock than the events': so much may they differ.
const CLOCKS: Duration = Duration::from_hours(1);

impl Engine {
    /// Plans what is left of a rollout: what has ended keeps its outcome, what has begun is to be followed, and the
    /// rest is to be executed where it is still what the plan says.
    pub(super) async fn rejoin(
        &self,
        plan: &Arc<Plan>,
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
        let was_its_turn = |entered: &&Entered| {
            let id = &entered.target.id;
            prepared.contains_key(id) && ended.get(id).is_some_and(|outcome| *outcome != Outcome::Unchanged)
        };
        let reached = entered.iter().filter(was_its_turn).map(|entered| entered.target.wave).max();
        for entered in entered {
            let id = &entered.target.id;
            let excluded = || (planned.get(id).copied() == Some(&Intent::Excluded)).then(left_out);
            if let Some(outcome) = ended.get(id).cloned().or_else(excluded) {
                settled.push((entered.target, outcome));
                continue;
            }
            let found = unchanged.remove(id).cloned();
            let prepared = prepared.remove(id).unwrap_or_default();
            work.push((entered, prepared, found));
        }
        let attempt = Arc::new(Attempt::new(self, request));
        let rejoin =
            |(entered, prepared, found)| attempt.clone().rejoin(plan.digest, history.begun, entered, prepared, found);
        let tried = window::run(work, window::WIDE, &self.stop, rejoin, |_| Flow::Start).await;
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
        Planning { plan: plan.clone(), reached, ..now }
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
        if plan.content.target(&target.id) == Some(&attempt.content(&target, intent)) {
            return Tried { target, result };
        }
        if let Ok(Planned::Ready(ready, _)) = result {
            self.discard(vec![*ready]).await;
        }
        let failure = Failure::because("not executed: its change set no longer says what was approved");
        Tried { target, result: Err(Outcome::Failed(failure.hint("plan again, which asks again"))) }
    }
}

/// How far an operation of ours has come on a stack.
enum Found {
    /// It has begun; of the change sets that were prepared, the one at this place.
    Begun(usize),
    /// It was over, and somebody else has changed the stack since.
    MovedOn,
    /// Nothing shows it, and nothing is running.
    Nothing,
    /// What is running now may be ours: its first event is still to come.
    Unclear,
}

impl Attempt {
    /// Finds out whether a target's operation has begun; otherwise takes its change set up again.
    async fn rejoin(
        self: Arc<Self>,
        plan: Digest,
        begun: Timestamp,
        entered: Entered,
        prepared: Vec<Prepared>,
        found: Option<StackVersion>,
    ) -> Tried {
        let Entered { target, account } = entered;
        let account = match account {
            Ok(account) => account,
            Err(failure) => return Tried { target, result: Err(Outcome::Detached(failure)) },
        };
        let unread = |fault: Fault| {
            let failure = Failure::because(format!("how far it has come cannot be read: {fault}"));
            Err(Outcome::Detached(failure.hint("resume the rollout again")))
        };
        let mut pace = Pace::new();
        // The whole history is read only where its end does not tell: the journal's clock may be wrong by more.
        let mut since = begun.checked_sub(CLOCKS).ok();
        for look in 1..=LOOKS {
            let looked = self.look_for(plan, since, account.as_ref(), &target, &prepared, look == LOOKS).await;
            let (found, tokens_seen) = match looked {
                Ok(looked) => looked,
                Err(fault) => return Tried { target, result: unread(fault) },
            };
            match found {
                Found::Begun(place) => {
                    let Prepared { stack_id, change_set, .. } = prepared[place].clone();
                    let ready = Ready {
                        target: target.clone(),
                        account,
                        stack_id,
                        change_set,
                        creates: false,
                        ours: false,
                        begun: true,
                        since,
                        last_try: tokens_seen > 1,
                        protected: false,
                    };
                    return Tried { target, result: Ok(Planned::Ready(Box::new(ready), Vec::new())) };
                }
                Found::MovedOn => {
                    let failure = Failure::because("somebody else has changed the stack after this rollout did");
                    let failure = failure.hint("see what it runs with `tenantry status`, and plan again");
                    return Tried { target, result: Err(Outcome::Skipped(failure)) };
                }
                Found::Nothing if since.take().is_some() => {}
                Found::Nothing => break,
                Found::Unclear => pace.pause().await,
            }
        }
        self.again(Entered { target, account: Ok(account) }, found).await
    }

    /// Looks for an operation of ours, and counts those that there were. The stack's newest operation decides: what was
    /// done before somebody else has changed the stack is over. What runs without an event by the last look is not ours.
    async fn look_for(
        &self,
        plan: Digest,
        since: Option<Timestamp>,
        account: &dyn TenantAccount,
        target: &Target,
        prepared: &[Prepared],
        is_last: bool,
    ) -> Result<(Found, usize), Fault> {
        let stop = &self.engine.stop;
        let tokens: Vec<String> = prepared.iter().map(|one| token(plan, &one.stack_id, &one.change_set)).collect();
        let stacks: BTreeSet<&str> = prepared.iter().map(|one| one.stack_id.as_str()).collect();
        let mut events = Vec::new();
        for stack_id in stacks {
            match patiently(stop, || account.events(stack_id, since)).await {
                Ok(found) => events.extend(found),
                Err(fault) if fault.kind == FaultKind::NotFound => {}
                Err(fault) => return Err(fault),
            }
        }
        events.sort_by_key(|event| event.time);
        let seen: BTreeSet<&str> = events.iter().filter_map(|event| event.token.as_deref()).collect();
        let count =
            tokens.iter().collect::<BTreeSet<_>>().into_iter().filter(|one| seen.contains(one.as_str())).count();
        // Whoever has changed the stack, with a token or without.
        let changes = |event: &&StackEvent| event.is_stack && event.status != "REVIEW_IN_PROGRESS";
        let newest = events.iter().rev().find(changes);
        let place = newest.and_then(|newest| tokens.iter().rposition(|one| newest.token.as_ref() == Some(one)));
        let is_over = newest.is_some_and(|event| StackStatus::read(&event.status).settled() != Settled::NotYet);
        if let Some(place) = place.filter(|_| !is_over) {
            return Ok((Found::Begun(place), count));
        }
        let stack = patiently(stop, || account.stack(&target.stack)).await?;
        let is_busy = stack.is_some_and(|stack| stack.status.decision() == Decision::Wait);
        Ok((
            match place {
                _ if is_busy && !is_last => Found::Unclear,
                Some(place) => Found::Begun(place),
                None if count > 0 => Found::MovedOn,
                None => Found::Nothing,
            },
            count,
        ))
    }
}
