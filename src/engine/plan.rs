//! Planning a stage: a change set in every target, created in parallel, and none left behind without use.

use std::sync::Arc;

use super::access::Entered;
use super::follow::Pace;
use super::window::{self, Flow};
use super::{Engine, Progress, Stop};
use crate::domain::lifecycle::{State, Step};
use crate::domain::stack::Decision;
use crate::domain::{
    Change, ChangeSetStatus, Digest, Failure, Fault, FaultKind, Outcome, Release, Rollout, Stack, StackStatus, Target,
};
use crate::event::{Event, Events, Phase};
use crate::plan::{ChangeSetRef, Content, Intent, Plan, Secrets, Selection, TargetContent};
use crate::ports::{ChangeSetRequest, TenantAccount};

/// Targets that are planned at a time. CloudFormation limits each account, and each target is an account of
/// its own; the bound is for this machine.
const IN_FLIGHT: usize = 128;

/// A target whose change set waits for its execution.
#[derive(Clone)]
pub struct Ready {
    /// The target.
    pub target: Target,
    /// The way into its account.
    pub account: Arc<dyn TenantAccount>,
    /// Its change set.
    pub change_set: ChangeSetRef,
    /// Whether the stack did not exist before.
    pub creates: bool,
}

/// The result of planning a stage.
pub struct Planning {
    /// What would be done, and the digest that names it.
    pub plan: Plan,
    /// The targets with a change set, in the order of the configuration.
    pub ready: Vec<Ready>,
    /// The targets that have their outcome already: unchanged, blocked or failed.
    pub settled: Vec<(Target, Outcome)>,
}

impl Planning {
    /// Returns the planned targets as entered, so that they need not be entered again.
    pub fn entered(&self) -> Vec<Entered> {
        let ready =
            self.ready.iter().map(|ready| Entered { target: ready.target.clone(), account: Ok(ready.account.clone()) });
        let not_needed = || Err(Failure::because("nothing is executed there"));
        let settled = self.settled.iter().map(|(target, _)| Entered { target: target.clone(), account: not_needed() });
        ready.chain(settled).collect()
    }

    /// Returns the number of targets that could not be planned.
    pub fn failures(&self) -> usize {
        self.settled
            .iter()
            .filter(|(_, outcome)| outcome.is_failure() || matches!(outcome, Outcome::Skipped(_)))
            .count()
    }
}

/// What looking at a target's stack has shown.
struct Looked {
    target: Target,
    next: Result<(Arc<dyn TenantAccount>, Option<Stack>), Outcome>,
}

/// What planning a target has shown.
struct Tried {
    target: Target,
    result: Result<(Ready, Vec<Change>), Outcome>,
}

impl Engine {
    /// Plans a release for the targets of a stage.
    ///
    /// First every stack is looked at, and only if no more than the tolerated number of targets is in a state
    /// that forbids it, change sets are created. If then too many fail, or the run is stopped, all that this
    /// planning has created is deleted again: a plan that nobody can apply leaves nothing behind.
    pub async fn plan(
        &self,
        stage: &str,
        release: &Release,
        rollout: Rollout,
        entered: Vec<Entered>,
        secrets: &Secrets,
        selection: Selection,
    ) -> Planning {
        let total = entered.len();
        let tolerated = rollout.failure_tolerance.of(total);
        self.events.emit(Event::PhaseStarted { phase: Phase::Plan, stage: stage.to_owned(), targets: total });

        let events = self.events.clone();
        let looked =
            window::run(entered, IN_FLIGHT, &self.stop, |entered| look(entered, events.clone()), |_| Flow::Start).await;
        let looked: Vec<Looked> = looked.into_iter().map(|result| result.unwrap_or_else(never_looked)).collect();

        let hopeless = looked.iter().filter(|looked| looked.next.is_err()).count() > tolerated;
        let url = self.store.url(&release.template.key);
        let tried: Vec<Tried> = if hopeless {
            looked.into_iter().map(not_tried).collect()
        } else {
            let work = |looked: Looked| {
                try_target(looked, release.clone(), url.clone(), self.events.clone(), self.stop.clone())
            };
            let tried = window::run(looked, IN_FLIGHT, &self.stop, work, |_| Flow::Start).await;
            tried.into_iter().map(|result| result.unwrap_or_else(not_tried)).collect()
        };

        let mut planning = gather(stage, release, rollout, tried, secrets, selection);
        if planning.failures() > tolerated && !planning.ready.is_empty() {
            let given_up = std::mem::take(&mut planning.ready);
            self.discard(given_up.clone()).await;
            let why = "its change set was deleted, since too many other targets could not be planned";
            planning
                .settled
                .extend(given_up.into_iter().map(|ready| (ready.target, Outcome::Skipped(Failure::because(why)))));
        }
        for (target, outcome) in &planning.settled {
            self.events.emit(Event::Finished { target: target.id.clone(), outcome: outcome.clone() });
        }
        let tally = crate::domain::Tally::of(planning.settled.iter().map(|(_, outcome)| outcome));
        self.events.emit(Event::PhaseFinished { phase: Phase::Plan, stage: stage.to_owned(), tally });
        planning
    }

    /// Deletes change sets that will not be executed, and the stacks that exist only for their sake.
    pub async fn discard(&self, ready: Vec<Ready>) {
        let work = |ready: Ready| async move {
            let Ready { target, account, change_set, creates } = ready;
            if creates {
                remove_placeholder(account.as_ref(), &target, &change_set.name).await
            } else {
                account.delete_change_set(&target.stack, &change_set.name).await
            }
            .map_err(|fault| (target.id, fault))
        };
        // What was asked to stop still tidies up.
        let (_handle, go_on) = Stop::new();
        for result in window::run(ready, IN_FLIGHT, &go_on, work, |_| Flow::Start).await {
            if let Ok(Err((target, fault))) = result {
                self.events.notice(format!("{target}: the change set could not be deleted: {fault}"));
            }
        }
    }
}

fn stopped() -> Outcome {
    Outcome::Skipped(Failure::because("the run was stopped before the target was planned"))
}

fn never_looked(entered: Entered) -> Looked {
    Looked { target: entered.target, next: Err(stopped()) }
}

fn not_tried(looked: Looked) -> Tried {
    let outcome = match looked.next {
        Ok(_) => Outcome::Skipped(Failure::because("not planned, since too many other targets cannot be planned")),
        Err(outcome) => outcome,
    };
    Tried { target: looked.target, result: Err(outcome) }
}

/// Looks at a target's stack and decides whether it may be planned.
async fn look(entered: Entered, events: Events) -> Looked {
    let Entered { target, account } = entered;
    Progress::new(&target.id, State::Pending, &events).take(Step::Plan);
    let next = match account {
        Err(failure) => Err(Outcome::Failed(failure)),
        Ok(account) => match account.stack(&target.stack).await {
            Err(fault) => Err(Outcome::Failed(Failure::because(fault.to_string()))),
            Ok(None) => Ok((account, None)),
            Ok(Some(stack)) => match stack.status.decision() {
                Decision::Create | Decision::Update => Ok((account, Some(stack))),
                Decision::Blocked(why, hint) => {
                    let why = format!("stack {} is {}: {why}", target.stack, stack.status);
                    Err(Outcome::Blocked(Failure::because(why).hint(hint)))
                }
            },
        },
    };
    Looked { target, next }
}

/// Creates a target's change set and waits until it can be read.
async fn try_target(looked: Looked, release: Release, url: String, events: Events, stop: Stop) -> Tried {
    let Looked { target, next } = looked;
    let (account, stack) = match next {
        Ok(next) => next,
        Err(outcome) => return Tried { target, result: Err(outcome) },
    };
    // A stack in review has never held a resource: it is as good as none, and its version says nothing.
    let stack = stack.filter(|stack| stack.status.decision() == Decision::Update);
    let request = request(&target, &release, url, stack.as_ref());
    let created = change_set(account.as_ref(), &request, &stop).await;
    let result = match created {
        Ok(Created::Ready(stack_id, changes)) => {
            let change_set = ChangeSetRef { target: target.id.clone(), stack_id, name: request.name };
            Progress::new(&target.id, State::Planning, &events).take(Step::Ready);
            Ok((Ready { target: target.clone(), account, change_set, creates: request.creates }, changes))
        }
        Ok(Created::NoChanges) => tidy(account.as_ref(), &target, &request, Outcome::Unchanged, &events).await,
        Err(failure) => tidy(account.as_ref(), &target, &request, Outcome::Failed(failure), &events).await,
    };
    Tried { target, result }
}

/// Deletes the change set of a target that ends here; that it could not be deleted is worth a notice, not more.
async fn tidy<T>(
    account: &dyn TenantAccount,
    target: &Target,
    request: &ChangeSetRequest,
    outcome: Outcome,
    events: &Events,
) -> Result<T, Outcome> {
    let deleted = if request.creates {
        remove_placeholder(account, target, &request.name).await
    } else {
        account.delete_change_set(&request.stack, &request.name).await
    };
    if let Err(fault) = deleted {
        events.notice(format!("{}: the change set {} could not be deleted: {fault}", target.id, request.name));
    }
    Err(outcome)
}

/// Deletes a change set of type CREATE and the empty stack that CloudFormation made for it, but only while that
/// stack is in review: one that has ever held a resource is not touched (safety rule 4).
async fn remove_placeholder(account: &dyn TenantAccount, target: &Target, change_set: &str) -> Result<(), Fault> {
    match account.stack(&target.stack).await? {
        Some(stack) if stack.status == StackStatus::ReviewInProgress => {
            account.delete_change_set(&target.stack, change_set).await?;
            let token = format!("tenantry-{}", Digest::of(format!("{} {change_set}", stack.id)).short());
            account.delete_stack(&stack.id, &target.deployment_role, &token).await
        }
        Some(_) => account.delete_change_set(&target.stack, change_set).await,
        None => Ok(()),
    }
}

/// Builds the request for a target's change set. Its name is derived from all that is asked for and from the
/// stack's own version: planning the same again finds the change set again, planning on a changed stack does not.
fn request(target: &Target, release: &Release, template_url: String, stack: Option<&Stack>) -> ChangeSetRequest {
    let version = stack.map(|stack| format!("{} {:?}", stack.id, stack.changed));
    let asked = serde_json::json!([
        target.stack,
        target.deployment_role,
        target.parameters,
        target.tags,
        target.capabilities,
        template_url,
        version,
    ]);
    let hash = Digest::of(asked.to_string());
    ChangeSetRequest {
        stack: target.stack.clone(),
        name: format!("tenantry-{}-{}", release.id, hash.short()),
        token: format!("tenantry-{hash}"),
        creates: stack.is_none(),
        template_url,
        role_arn: target.deployment_role.clone(),
        parameters: target.parameters.clone(),
        tags: target.tags.clone(),
        capabilities: target.capabilities.clone(),
        description: format!("{} {} for {}", release.application, release.id, target.id),
    }
}

enum Created {
    Ready(String, Vec<Change>),
    NoChanges,
}

/// Creates a change set, or takes up the one that an earlier planning or a lost answer has left, and waits for it.
async fn change_set(account: &dyn TenantAccount, request: &ChangeSetRequest, stop: &Stop) -> Result<Created, Failure> {
    let failed = |fault: Fault| Failure::because(fault.to_string());
    let mut request = request.clone();
    let mut renewed = false;
    loop {
        match account.create_change_set(&request).await {
            Ok(()) => {}
            Err(fault) if fault.kind == FaultKind::Conflict => {}
            Err(fault) => return Err(failed(fault)),
        }
        let mut pace = Pace::new();
        let spent = loop {
            let found = match account.change_set(&request.stack, &request.name).await {
                Ok(found) => found.ok_or_else(|| Failure::because("the change set vanished while it was created"))?,
                Err(fault) if fault.passes() && !stop.is_requested() => {
                    pace.pause().await;
                    continue;
                }
                Err(fault) => return Err(failed(fault)),
            };
            match found.status {
                ChangeSetStatus::Ready => return Ok(Created::Ready(found.stack_id, found.changes)),
                ChangeSetStatus::NoChanges => return Ok(Created::NoChanges),
                ChangeSetStatus::Failed(reason) => return Err(Failure::because(reason)),
                ChangeSetStatus::Spent(status) => break status,
                ChangeSetStatus::Creating if stop.is_requested() => {
                    return Err(Failure::because("the run was stopped while the change set was created"));
                }
                ChangeSetStatus::Creating => pace.pause().await,
            }
        };
        if renewed {
            return Err(Failure::because(format!("the change set is {spent} as soon as it is created")));
        }
        renewed = true;
        account.delete_change_set(&request.stack, &request.name).await.map_err(failed)?;
        request.token = format!("{}-2", request.token);
    }
}

/// Puts the targets' results together into a plan.
fn gather(
    stage: &str,
    release: &Release,
    rollout: Rollout,
    tried: Vec<Tried>,
    secrets: &Secrets,
    selection: Selection,
) -> Planning {
    let (mut contents, mut ready, mut settled) = (Vec::new(), Vec::new(), Vec::new());
    for Tried { target, result } in tried {
        let intent = match result {
            Ok((found, changes)) => {
                let intent = Intent::of(found.creates, changes);
                ready.push(found);
                intent
            }
            Err(outcome) => {
                let intent = if outcome == Outcome::Unchanged { Intent::Unchanged } else { Intent::Excluded };
                settled.push((target.clone(), outcome));
                intent
            }
        };
        contents.push(TargetContent::new(&target, intent, secrets));
    }
    let content = Content::new(stage, release, rollout, contents);
    let change_sets = ready.iter().map(|ready| ready.change_set.clone()).collect();
    Planning { plan: Plan { digest: content.digest(), content, change_sets, selection }, ready, settled }
}
