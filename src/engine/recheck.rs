//! Comparing a plan with what CloudFormation would do now (safety rule 2).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Engine;
use super::access::Entered;
use super::operate::unread;
use super::patience::patiently;
use super::plan::{
    Attempt, Looked, PlanRequest, Planned, Planning, Ready, Tried, WAIT_BRIEFLY, in_use, left_out, look, since, version,
};
use super::window::{self, Flow};
use crate::domain::{ChangeSetStatus, Failure, Outcome, Stack, Target, TargetId};
use crate::plan::{Intent, Plan, StackVersion};
use crate::ports::TenantAccount;

impl Engine {
    /// Looks at every stack of a plan anew, describes its change set, computes the digest from what CloudFormation
    /// says now, and returns what to execute.
    ///
    /// Which change set is a target's follows from what is asked for and from the stack's version: no record has to be
    /// trusted for it. One that has vanished or become obsolete is made again, and so is the plan for a stack that
    /// needed no change and has moved since: if they say the same, the plan is still what was approved.
    ///
    /// # Errors
    ///
    /// Names everything that differs from the plan, or that could not be read; what was made again is cleared away.
    pub async fn recheck(
        &self,
        plan: &Arc<Plan>,
        request: &PlanRequest,
        entered: Vec<Entered>,
    ) -> Result<Planning, Vec<String>> {
        // What is asked for is compared before any call: nothing is made anew for a plan that is another one.
        let asked = request.content(entered.iter().map(|entered| (&entered.target, Intent::Excluded)).collect());
        let problems = plan.content.differences_in_what_is_asked(&asked);
        if !problems.is_empty() {
            return Err(problems);
        }
        let planned = plan.content.targets.iter().filter(|target| target.intent != Intent::Excluded);
        let planned: BTreeSet<&TargetId> = planned.map(|target| &target.target).collect();
        let (entered, excluded): (Vec<Entered>, Vec<Entered>) =
            entered.into_iter().partition(|entered| planned.contains(&entered.target.id));
        let mut unchanged: BTreeMap<&TargetId, &StackVersion> =
            plan.unchanged.iter().map(|version| (&version.target, version)).collect();
        let work = entered.into_iter().map(|entered| {
            let found = unchanged.remove(&entered.target.id).cloned();
            (entered, found)
        });
        let attempt = Arc::new(Attempt::new(self, request));
        let again = |(entered, found)| attempt.clone().again(entered, found);
        let tried = window::run(work.collect(), window::WIDE, &self.stop, again, |_| Flow::Start).await;

        let mut problems = Vec::new();
        let stopped = |(entered, _): (Entered, _)| Tried {
            target: entered.target,
            result: Err(Outcome::Skipped(Failure::because("the run was stopped"))),
        };
        let mut tried: Vec<Tried> = tried.into_iter().map(|result| result.unwrap_or_else(stopped)).collect();
        for Tried { target, result } in &tried {
            if let Err(outcome) = result {
                let why = outcome.failure().map(ToString::to_string).unwrap_or_default();
                problems.push(format!("target {}: {why}", target.id));
            }
        }
        tried.extend(excluded.into_iter().map(|entered| Tried { target: entered.target, result: Err(left_out()) }));
        let now = self.gather(request, tried);
        if problems.is_empty() {
            problems = plan.content.differences(&now.plan.content);
        }
        if problems.is_empty() && now.plan.digest != plan.digest {
            problems.push(format!("the plan's digest is {} and not {}", now.plan.digest, plan.digest));
        }
        if !problems.is_empty() {
            // Only what was made just now is this run's own.
            self.discard(now.ready).await;
            return Err(problems);
        }
        Ok(Planning { plan: plan.clone(), ..now })
    }
}

impl Attempt {
    /// Looks at a target again, and plans it anew where what was planned is of no more use. `found` is the version in
    /// which its stack needed no change.
    pub(super) async fn again(self: Arc<Self>, entered: Entered, found: Option<StackVersion>) -> Tried {
        let Looked { target, next } = look(entered, self.leftovers(), self.engine.clone(), WAIT_BRIEFLY).await;
        let (account, stack) = match next {
            Ok(next) => next,
            Err(outcome) => return Tried { target, result: Err(outcome) },
        };
        let current = in_use(stack.clone());
        let standing = match (found, &current) {
            (Some(found), Some(stack)) if found == version(&target, stack) => {
                Ok(Some(Planned::Unchanged(account.clone(), found)))
            }
            (Some(_), _) => Ok(None),
            (None, _) => self.still_ready(&target, &account, current.as_ref()).await,
        };
        match standing {
            Ok(Some(planned)) => return Tried { target, result: Ok(planned) },
            Err(outcome) => return Tried { target, result: Err(outcome) },
            // What accounts are set up with names others too: who else has changed them meanwhile is not overwritten.
            Ok(None) if self.is_for_accounts() => {
                let failure = Failure::because("its change set was voided, since the stack was changed meanwhile");
                return Tried { target, result: Err(Outcome::Failed(failure)) };
            }
            Ok(None) => {}
        }
        let id = target.id.clone();
        let tried = self.clone().target(Looked { target, next: Ok((account, stack)) }).await;
        if matches!(tried.result, Ok(Planned::Ready(..))) {
            self.engine.events.notice(format!("{id}: the change set was no longer valid and was made again"));
        }
        tried
    }

    /// Reads a target's change set as it is now; none where it cannot be executed any more.
    async fn still_ready(
        &self,
        target: &Target,
        account: &Arc<dyn TenantAccount>,
        stack: Option<&Stack>,
    ) -> Result<Option<Planned>, Outcome> {
        let request = self.request(target, stack).map_err(Outcome::Failed)?;
        let found = patiently(&self.engine.stop, || account.change_set(&target.stack, &request.name)).await;
        let found = found.map_err(|fault| unread(&fault))?;
        let Some(found) = found.filter(|found| found.status == ChangeSetStatus::Ready) else {
            return Ok(None);
        };
        let ready = Ready {
            target: target.clone(),
            account: account.clone(),
            since: since(&found),
            stack_id: found.stack_id,
            change_set: request.name,
            creates: request.creates,
            // Another plan may have taken up the same change set: nothing is deleted here.
            ours: false,
            begun: false,
            last_try: false,
            protected: stack.is_some_and(|stack| stack.protected),
        };
        Ok(Some(Planned::Ready(Box::new(ready), found.changes)))
    }
}
