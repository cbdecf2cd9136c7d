//! Planning a stage: a change set in every target, created in parallel, and none left behind without use.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::access::Entered;
use super::causes::of_resource;
use super::operate::unread;
use super::pace::Pace;
use super::patience::patiently;
use super::window::{self, Flow};
use super::{Engine, Progress, Stop};
use crate::domain::lifecycle::{State, Step};
use crate::domain::stack::{Decision, Settled};
use crate::domain::{
    Alarm, Change, ChangeSet, ChangeSetStatus, Digest, Failure, Fault, FaultKind, Gate, Leftovers, Outcome,
    ParameterValue, Release, Rollout, Stack, StackOptions, StackStatus, Tally, Target, TargetId,
};
use crate::event::{Event, Phase};
use crate::plan::{Content, Intent, Origin, Plan, Secrets, Selection, StackVersion, TargetContent};
use crate::ports::{ChangeSetRequest, TemplateSource, TenantAccount};

/// For how long a stack is waited for on which somebody else's operation is running.
const WAIT: Duration = Duration::from_mins(30);
/// The same while the stage's lock is held, and others wait.
pub(super) const WAIT_BRIEFLY: Duration = Duration::from_mins(2);

/// A target whose change set waits for its execution.
#[allow(clippy::struct_excessive_bools, reason = "each says something else of the target")]
#[derive(Clone)]
pub struct Ready {
    /// The target.
    pub target: Target,
    /// The way into its account.
    pub account: Arc<dyn TenantAccount>,
    /// ARN of its stack.
    pub stack_id: String,
    /// Name of its change set.
    pub change_set: String,
    /// Whether the stack is created by it.
    pub creates: bool,
    /// Whether the change set is this run's to delete; otherwise another plan has made it and may still need it.
    pub ours: bool,
    /// Whether it was executed by an interrupted run, and is only to be followed.
    pub begun: bool,
    /// From when on its events are of interest, by CloudFormation's clock; all are where that is not known.
    pub since: Option<Timestamp>,
    /// Whether it has had all tries that it may have.
    pub last_try: bool,
    /// Whether the stack is protected against deletion already.
    pub protected: bool,
}

/// The result of planning a stage.
pub struct Planning {
    /// What would be done, and the digest that names it.
    pub plan: Arc<Plan>,
    /// The targets with a change set, in the order of the configuration.
    pub ready: Vec<Ready>,
    /// The targets whose stacks need no change, with the way into their accounts.
    pub unchanged: Vec<(Target, Arc<dyn TenantAccount>)>,
    /// The targets that have their outcome already.
    pub settled: Vec<(Target, Outcome)>,
    /// The last wave in which an interrupted rollout has brought targets to their outcomes.
    pub reached: Option<u32>,
}

impl Planning {
    /// Returns the planned targets as entered, so that they need not be entered again.
    pub fn entered(&self) -> Vec<Entered> {
        let enter = |target: &Target, account| Entered { target: target.clone(), account };
        let ready = self.ready.iter().map(|ready| enter(&ready.target, Ok(ready.account.clone())));
        let unchanged = self.unchanged.iter().map(|(target, account)| enter(target, Ok(account.clone())));
        let settled = self.settled.iter().filter(|(_, outcome)| !matches!(outcome, Outcome::Pinned { .. }));
        let left_out = settled.map(|(target, _)| enter(target, Err(Failure::because("nothing is executed there"))));
        ready.chain(unchanged).chain(left_out).collect()
    }

    /// Returns the outcomes that are known before anything is executed.
    pub fn outcomes(&self) -> Vec<(TargetId, Outcome)> {
        let unchanged = self.unchanged.iter().map(|(target, _)| (target.id.clone(), Outcome::Unchanged));
        unchanged.chain(self.settled.iter().map(|(target, outcome)| (target.id.clone(), outcome.clone()))).collect()
    }

    /// Returns the number of targets that could not be planned.
    pub fn failures(&self) -> usize {
        self.settled
            .iter()
            .filter(|(_, outcome)| outcome.is_failure() || matches!(outcome, Outcome::Skipped(_)))
            .count()
    }

    /// Tells whether so many targets could not be planned that nothing may be executed.
    pub fn is_beyond_tolerance(&self) -> bool {
        self.failures() > self.plan.content.tolerated()
    }
}

/// What looking at a target's stack has shown.
pub(super) struct Looked {
    pub(super) target: Target,
    pub(super) next: Result<(Arc<dyn TenantAccount>, Option<Stack>), Outcome>,
}

/// What planning a target has shown.
pub(super) struct Tried {
    pub(super) target: Target,
    pub(super) result: Result<Planned, Outcome>,
}

/// A target that could be planned.
pub(super) enum Planned {
    Ready(Box<Ready>, Vec<Change>),
    Unchanged(Arc<dyn TenantAccount>, StackVersion),
}

/// What is to be planned.
#[derive(Clone)]
pub struct PlanRequest {
    /// The stage's name.
    pub stage: String,
    /// The release.
    pub release: Release,
    /// How it came to the stage.
    pub origin: Origin,
    /// What opens the way between plan and apply.
    pub gate: Gate,
    /// The pace and the tolerance.
    pub rollout: Rollout,
    /// Whether the template has nested stacks.
    pub nested: bool,
    /// What is asked of CloudFormation beside the template.
    pub options: StackOptions,
    /// The template's text, where CloudFormation cannot read it from the artifact bucket.
    pub body: Option<Arc<str>>,
    /// What covers the template's secrets.
    pub secrets: Secrets,
    /// Which targets were asked for.
    pub selection: Selection,
    /// The targets that are pinned to another release: they are told and left alone.
    pub pinned: Vec<Target>,
}

impl PlanRequest {
    /// Puts a plan's content together.
    pub(super) fn content(&self, targets: Vec<(&Target, Intent)>) -> Content {
        let pinned = self.pinned.iter().map(|target| (target, Intent::Pinned));
        let describe = |(target, intent)| TargetContent::new(target, &self.release, intent, &self.secrets);
        let targets = targets.into_iter().chain(pinned).map(describe).collect();
        Content::new(
            &self.stage,
            &self.release,
            self.origin.clone(),
            self.gate.clone(),
            self.rollout.clone(),
            self.options.clone(),
            targets,
        )
    }

    /// Returns the pinned targets with their outcome.
    fn left_alone(&self) -> impl Iterator<Item = (Target, Outcome)> {
        self.pinned.iter().filter_map(|target| Some((target.clone(), Outcome::Pinned { pin: target.pin.clone()? })))
    }
}

impl Engine {
    /// Plans a release for the targets of a stage.
    ///
    /// First every stack is looked at, and only if no more than the tolerated number of targets is in a state
    /// that forbids it, change sets are created. If then too many fail, or the run is stopped, all that this
    /// planning has created is deleted again: a plan that nobody can apply leaves nothing behind.
    pub async fn plan(&self, request: &PlanRequest, entered: Vec<Entered>) -> Planning {
        let total = entered.len();
        let tolerated = request.rollout.failure_tolerance.of(total);
        let stage = request.stage.clone();
        self.events.emit(Event::PhaseStarted { phase: Phase::Plan, stage: stage.clone(), targets: total });

        let events = self.events.clone();
        let work = |entered: Entered| {
            Progress::new(&entered.target.id, State::Pending, &events).take(Step::Plan);
            let (engine, looked) = (self.clone(), look(entered, request.options.leftovers, self.clone(), WAIT));
            async move {
                let Looked { target, next } = looked.await;
                Looked { target, next: next.map_err(|outcome| engine.unplanned(outcome)) }
            }
        };
        let looked = window::run(entered, window::WIDE, &self.stop, work, |_| Flow::Start).await;
        let looked: Vec<Looked> = looked.into_iter().map(|result| result.unwrap_or_else(never_looked)).collect();

        let hopeless = looked.iter().filter(|looked| looked.next.is_err()).count() > tolerated;
        let tried: Vec<Tried> = if hopeless {
            looked.into_iter().map(not_tried).collect()
        } else {
            let attempt = Arc::new(Attempt::new(self, request));
            let work = |looked: Looked| {
                let (engine, tried) = (self.clone(), attempt.clone().target(looked));
                async move {
                    let Tried { target, result } = tried.await;
                    Tried { target, result: result.map_err(|outcome| engine.unplanned(outcome)) }
                }
            };
            let tried = window::run(looked, window::WIDE, &self.stop, work, |_| Flow::Start).await;
            tried.into_iter().map(|result| result.unwrap_or_else(not_tried)).collect()
        };

        let mut planning = self.gather(request, tried);
        if planning.is_beyond_tolerance() || self.stop.is_requested() {
            let given_up = std::mem::take(&mut planning.ready);
            self.discard(given_up.clone()).await;
            let why = if self.stop.is_requested() {
                "the run was stopped before anything was executed"
            } else {
                "nothing is executed, since too many other targets could not be planned"
            };
            planning
                .settled
                .extend(given_up.into_iter().map(|ready| (ready.target, Outcome::Skipped(Failure::because(why)))));
        }
        // What is unchanged is not finished yet: it may have to be verified.
        for (target, outcome) in &planning.settled {
            self.events.emit(Event::Finished { target: target.id.clone(), outcome: outcome.clone() });
        }
        let tally = Tally::of(planning.outcomes().iter().map(|(_, outcome)| outcome));
        self.events.emit(Event::PhaseFinished { phase: Phase::Plan, stage, tally });
        planning
    }

    /// A plan says of each target whether it could be planned: what nobody could read for minutes could not.
    fn unplanned(&self, outcome: Outcome) -> Outcome {
        match outcome {
            Outcome::Skipped(failure) if !self.stop.is_requested() => Outcome::Failed(failure),
            other => other,
        }
    }

    /// Deletes change sets that will not be executed, as far as they are this run's, and the stacks that exist
    /// only for their sake.
    pub async fn discard(&self, ready: Vec<Ready>) {
        let work = |ready: Ready| async move {
            let Ready { target, account, change_set, creates, .. } = ready;
            remove(account.as_ref(), &target, &change_set, creates).await.map_err(|fault| (target.id, fault))
        };
        let ready: Vec<Ready> = ready.into_iter().filter(|ready| ready.ours).collect();
        // What was asked to stop still tidies up.
        let (_handle, go_on) = Stop::new();
        for result in window::run(ready, window::WIDE, &go_on, work, |_| Flow::Start).await {
            if let Ok(Err((target, fault))) = result {
                self.events.notice(format!("{target}: the change set could not be deleted: {fault}"));
            }
        }
    }
}

fn stopped() -> Outcome {
    Outcome::Skipped(Failure::because("the run was stopped before the target was planned"))
}

/// The outcome of a target that the plan leaves out.
pub(super) fn left_out() -> Outcome {
    Outcome::Failed(Failure::because("left out of the plan, since it could not be planned"))
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

/// Looks at a target's stack and decides whether it may be planned. Where another operation is running, as that of a run
/// that was killed, its end is waited for.
pub(super) async fn look(entered: Entered, leftovers: Leftovers, engine: Engine, wait: Duration) -> Looked {
    let Entered { target, account } = entered;
    let next = match account {
        Err(failure) => Err(Outcome::Failed(failure)),
        Ok(account) => {
            let stack = at_rest(account.as_ref(), &target, &engine, wait).await;
            stack.and_then(|stack| may_be_planned(&target, stack, leftovers)).map(|stack| (account, stack))
        }
    };
    Looked { target, next }
}

/// Returns a target's stack once nothing is running on it, or as it is after a long while.
async fn at_rest(
    account: &dyn TenantAccount,
    target: &Target,
    engine: &Engine,
    wait: Duration,
) -> Result<Option<Stack>, Outcome> {
    let Engine { stop, events, .. } = engine;
    let begun = Instant::now();
    let mut pace = Pace::new();
    let mut told = false;
    loop {
        let stack = match patiently(stop, || account.stack(&target.stack)).await {
            Err(_) if stop.is_requested() => return Err(stopped()),
            Err(fault) => return Err(unread(&fault)),
            Ok(stack) => stack,
        };
        match stack {
            Some(stack) if stack.status.decision() == Decision::Wait && begun.elapsed() < wait => {
                if !std::mem::replace(&mut told, true) {
                    let Target { id, stack: name, .. } = target;
                    events.notice(format!("{id}: waiting for stack {name}, which is {}", stack.status));
                }
            }
            stack => return Ok(stack),
        }
        tokio::select! {
            biased;
            () = pace.pause() => {}
            () = stop.requested() => return Err(stopped()),
        }
    }
}

/// Decides by a stack's status whether its target may be planned.
fn may_be_planned(target: &Target, stack: Option<Stack>, leftovers: Leftovers) -> Result<Option<Stack>, Outcome> {
    let Some(stack) = stack else { return Ok(None) };
    let (why, hint) = match stack.status.decision() {
        Decision::Create | Decision::Update => return Ok(Some(stack)),
        Decision::Leftover(..) if leftovers == Leftovers::Recreate => return Ok(Some(stack)),
        Decision::Wait => (
            "another operation is running on the stack",
            "see with `tenantry status` when it has ended, then plan again",
        ),
        Decision::Blocked(why, hint) | Decision::Leftover(why, hint) => (why, hint),
    };
    let why = format!("stack {} is {}: {why}", target.stack, stack.status);
    Err(Outcome::Blocked(Failure::because(why).hint(hint)))
}

/// Leaves out a stack in review. It has never held a resource: it is as good as none, and its version says nothing.
pub(super) fn in_use(stack: Option<Stack>) -> Option<Stack> {
    stack.filter(|stack| stack.status.decision() == Decision::Update)
}

/// Returns in which version a stack was found.
pub(super) fn version(target: &Target, stack: &Stack) -> StackVersion {
    StackVersion { target: target.id.clone(), stack_id: stack.id.clone(), changed: stack.changed }
}

/// What the planning of all targets shares.
pub(super) struct Attempt {
    pub(super) engine: Engine,
    request: PlanRequest,
    template: TemplateSource,
    /// Names the template in what change sets are named by.
    template_name: String,
}

impl Attempt {
    /// Tells whether it is an account that is set up: then the template is in the request.
    pub(super) fn is_for_accounts(&self) -> bool {
        self.request.body.is_some()
    }

    pub(super) fn new(engine: &Engine, request: &PlanRequest) -> Self {
        let url = engine.store.url(&request.release.template.key);
        let (template, template_name) = match &request.body {
            None => (TemplateSource::Url(url.clone()), url),
            Some(text) => (TemplateSource::Body(text.clone()), request.release.template.sha256.to_string()),
        };
        Self { engine: engine.clone(), request: request.clone(), template, template_name }
    }

    /// Returns what becomes of a stack that never completed its creation.
    pub(super) fn leftovers(&self) -> Leftovers {
        self.request.options.leftovers
    }

    /// Describes a target as a plan's content does.
    pub(super) fn content(&self, target: &Target, intent: Intent) -> TargetContent {
        TargetContent::new(target, &self.request.release, intent, &self.request.secrets)
    }

    /// Creates a target's change set and waits until it can be read.
    pub(super) async fn target(self: Arc<Self>, looked: Looked) -> Tried {
        let Looked { target, next } = looked;
        let (account, stack) = match next {
            Ok(next) => next,
            Err(outcome) => return Tried { target, result: Err(outcome) },
        };
        let Engine { events, stop, .. } = &self.engine;
        let stack = match stack {
            Some(stack) if matches!(stack.status.decision(), Decision::Leftover(..)) => {
                events.notice(format!("{}: deleting stack {}, which was never created", target.id, target.stack));
                if let Err(outcome) = clear(account.as_ref(), &target, &stack, stop).await {
                    return Tried { target, result: Err(outcome) };
                }
                None
            }
            stack => stack,
        };
        // The empty stack that CloudFormation makes for a first change set is cleared away by whoever caused it.
        let placeholder = stack.is_none();
        let stack = in_use(stack);
        let request = match self.request(&target, stack.as_ref()) {
            Ok(request) => request,
            Err(failure) => return Tried { target, result: Err(Outcome::Failed(failure)) },
        };
        let (ours, created) = change_set(account.as_ref(), &request, stop).await;
        if let Ok(Created::Ready(found)) = created {
            Progress::new(&target.id, State::Planning, events).take(Step::Ready);
            let (change_set, creates) = (request.name, request.creates);
            let protected = stack.is_some_and(|stack| stack.protected);
            let ready = Ready {
                target: target.clone(),
                account,
                since: since(&found),
                stack_id: found.stack_id,
                change_set,
                creates,
                ours,
                begun: false,
                last_try: false,
                protected,
            };
            return Tried { target, result: Ok(Planned::Ready(Box::new(ready), found.changes)) };
        }
        if ours && created.is_err() {
            // What is still being created cannot be deleted. What was asked to stop still tidies up.
            let (_handle, go_on) = Stop::new();
            wait_created(account.as_ref(), &request.stack, &request.name, &go_on, LOOKS_TO_REMOVE).await.ok();
        }
        // A target that ends here has no use for its change set; that it stays is worth a notice, not more.
        if ours && let Err(fault) = remove(account.as_ref(), &target, &request.name, placeholder).await {
            let message = format!("{}: the change set {} could not be deleted: {fault}", target.id, request.name);
            events.notice(message);
        }
        let result = match (created, stack) {
            (Err(Outcome::Failed(failure)), _) if stop.is_requested() => Err(Outcome::Skipped(failure)),
            (Err(outcome), _) => Err(outcome),
            (Ok(_), Some(stack)) => Ok(Planned::Unchanged(account, version(&target, &stack))),
            (Ok(_), None) => Err(Outcome::Failed(Failure::because(
                "CloudFormation says that nothing changes, but there is no stack",
            ))),
        };
        Tried { target, result }
    }

    /// Builds the request for a target's change set. Its name is derived from all that is asked for and from the
    /// stack's own version: planning the same again finds the change set again, planning on a changed stack does
    /// not. Names can be read by many, so that secrets go in covered.
    ///
    /// The token is of this run too: for CloudFormation another run's request with the same token would be the same
    /// request, and whose change set it is could not be told.
    ///
    /// # Errors
    ///
    /// Says which parameter should have its previous value where there is no stack yet.
    pub(super) fn request(&self, target: &Target, stack: Option<&Stack>) -> Result<ChangeSetRequest, Failure> {
        let run = &self.engine.run;
        let PlanRequest { release: Release { application, id, .. }, secrets, nested, options, .. } = &self.request;
        let previous =
            |(name, value): (&String, &ParameterValue)| (*value == ParameterValue::Previous).then(|| name.clone());
        if let Some(name) = target.parameters.iter().find_map(previous).filter(|_| stack.is_none()) {
            let failure = Failure::because(format!("parameter {name} has no previous value: there is no stack yet"));
            return Err(failure.hint("give this tenant a value for the first time, then `previous: true` again"));
        }
        let version = stack.map(|stack| format!("{} {:?}", stack.id, stack.changed));
        let alarm = |alarm: &Alarm| {
            let (region, account) = (&target.id.region, &target.account);
            format!("arn:{}:cloudwatch:{region}:{account}:alarm:{}", region.partition(), alarm.name)
        };
        let rollback_alarms: Vec<String> = target.alarms.iter().filter(|alarm| alarm.roll_back).map(alarm).collect();
        let covered = secrets.cover_parameters(&target.parameters);
        let hash = Digest::of_json(&(
            &target.stack,
            &target.deployment_role,
            covered,
            &target.tags,
            &target.capabilities,
            &self.template_name,
            options,
            &rollback_alarms,
            version,
        ));
        Ok(ChangeSetRequest {
            stack: target.stack.clone(),
            name: format!("tenantry-{id}-{}", hash.short()),
            token: format!("tenantry-{}", Digest::of(format!("{run} {hash}"))),
            creates: stack.is_none(),
            template: self.template.clone(),
            role_arn: target.deployment_role.clone(),
            parameters: target.parameters.clone(),
            tags: target.tags.clone(),
            capabilities: target.capabilities.clone(),
            description: format!("{application} {id} for {}", target.id),
            nested: *nested,
            options: options.clone(),
            rollback_alarms,
        })
    }
}

/// Deletes a change set and, if this run has caused it, the empty stack around it: but only while that is in review
/// and has no other change set. One that has ever held a resource is not touched (safety rule 4), and neither is
/// one that somebody else plans on.
async fn remove(
    account: &dyn TenantAccount,
    target: &Target,
    change_set: &str,
    placeholder: bool,
) -> Result<(), Fault> {
    account.delete_change_set(&target.stack, change_set).await?;
    if !placeholder {
        return Ok(());
    }
    match account.stack(&target.stack).await? {
        Some(stack)
            if stack.status == StackStatus::ReviewInProgress && !account.has_change_sets(&target.stack).await? =>
        {
            let token = format!("tenantry-{}", Digest::of(format!("{} {change_set}", stack.id)).short());
            account.delete_stack(&stack.id, target.deployment_role.as_deref(), &token).await
        }
        _ => Ok(()),
    }
}

/// Deletes what a failed creation has left, and waits until it is gone.
async fn clear(account: &dyn TenantAccount, target: &Target, stack: &Stack, stop: &Stop) -> Result<(), Outcome> {
    let failed = |fault: Fault| unread(&fault);
    let token = format!("tenantry-{}", Digest::of(format!("clear {} {:?}", stack.id, stack.changed)));
    account.delete_stack(&stack.id, target.deployment_role.as_deref(), &token).await.map_err(failed)?;
    let mut pace = Pace::new();
    for _ in 0..LOOKS {
        match patiently(stop, || account.stack(&stack.id)).await.map_err(failed)? {
            None => return Ok(()),
            Some(now) if now.status == StackStatus::DeleteComplete => return Ok(()),
            Some(now) if now.status.settled() == Settled::Failed => {
                let why = format!("what its failed creation left is {}", now.status);
                return Err(Outcome::Failed(Failure::because(why)));
            }
            Some(_) => pace.pause().await,
        }
    }
    Err(Outcome::Failed(Failure::because("what its failed creation left is still being deleted; it was given up")))
}

/// A change set that is made to look whether it can be, on a stack of its own, and deleted again.
pub(super) struct Probe<'a> {
    pub(super) account: &'a dyn TenantAccount,
    pub(super) target: &'a Target,
    pub(super) request: &'a ChangeSetRequest,
}

impl Probe<'_> {
    /// Creates it, and waits until CloudFormation has read the template.
    pub(super) async fn create(&self, stop: &Stop) -> Result<(), Fault> {
        let Self { account, request, .. } = self;
        create(*account, request, stop).await?;
        let refused = |why: String| Fault::new(FaultKind::Invalid, "CreateChangeSet", why);
        let found = wait_created(*account, &request.stack, &request.name, stop, LOOKS).await;
        let why = |outcome: Outcome| outcome.failure().map(ToString::to_string).unwrap_or_default();
        match found.map_err(|outcome| refused(why(outcome)))?.status {
            ChangeSetStatus::Failed(reason) => Err(refused(reason)),
            _ => Ok(()),
        }
    }

    /// Deletes it with the empty stack around it.
    pub(super) async fn clear_away(&self, stop: &Stop) -> Result<(), Fault> {
        let Self { account, target, request } = self;
        if patiently(stop, || account.stack(&request.stack)).await?.is_none() {
            return Ok(());
        }
        let target = Target { stack: request.stack.clone(), ..(*target).clone() };
        remove(*account, &target, &request.name, true).await
    }
}

/// From when on a stack's events may be those of a change set's execution. No event of it is older than the change set;
/// a little earlier costs nothing, whatever clocks there are within CloudFormation.
pub(super) fn since(change_set: &ChangeSet) -> Option<Timestamp> {
    change_set.created.and_then(|created| created.checked_sub(Duration::from_secs(10)).ok())
}

enum Created {
    Ready(ChangeSet),
    NoChanges,
}

/// Creates a change set, or takes up the one that an earlier planning or a lost answer has left, and waits for it.
/// One that was left failed or spent is made anew, once. Tells also whether the change set is this run's own.
async fn change_set(
    account: &dyn TenantAccount,
    request: &ChangeSetRequest,
    stop: &Stop,
) -> (bool, Result<Created, Outcome>) {
    let failed = |fault: Fault| Err(unread(&fault));
    let refused = |failure: Failure| Err(Outcome::Failed(failure));
    let mut request = request.clone();
    let mut renewed = false;
    loop {
        let ours = match create(account, &request, stop).await {
            Ok(ours) => ours,
            // The answer may have been lost after the change set was made.
            Err(fault) => return (fault.passes(), failed(fault)),
        };
        // What somebody has changed by hand since is in no version of the stack: only a new one knows of it.
        if !ours && !renewed && request.options.revert_drift {
            renewed = true;
            if let Err(fault) = account.delete_change_set(&request.stack, &request.name).await {
                return (ours, failed(fault));
            }
            request.token = format!("{}-2", request.token);
            continue;
        }
        let found = match wait_created(account, &request.stack, &request.name, stop, LOOKS).await {
            Ok(found) => found,
            Err(outcome) => return (ours, Err(outcome)),
        };
        match found.status {
            ChangeSetStatus::Ready => {
                return (ours, Ok(Created::Ready(found)));
            }
            // A change set without changes is of no use to anybody.
            ChangeSetStatus::NoChanges => return (true, Ok(Created::NoChanges)),
            ChangeSetStatus::Failed(reason) if ours || renewed => {
                // The reason may only say where to look: what is wrong is in a list of its own.
                let early = patiently(stop, || account.validation_failures(&request.stack, Some(&request.name))).await;
                let early = early.unwrap_or_default();
                return (ours, refused(early.first().map_or_else(|| Failure::because(reason), of_resource)));
            }
            status if renewed => {
                let why = format!("the change set is {status:?} as soon as it is created");
                return (ours, refused(Failure::because(why)));
            }
            _ => {}
        }
        renewed = true;
        if let Err(fault) = account.delete_change_set(&request.stack, &request.name).await {
            return (ours, failed(fault));
        }
        request.token = format!("{}-2", request.token);
    }
}

/// Creates a change set, and tells whether it is this run's own: one of that name may be there already. After an answer
/// that was lost it is taken for our own, which at worst lets another plan make it again.
async fn create(account: &dyn TenantAccount, request: &ChangeSetRequest, stop: &Stop) -> Result<bool, Fault> {
    let lost = AtomicBool::new(false);
    let answer = patiently(stop, async || {
        let answer = account.create_change_set(request).await;
        if answer.as_ref().is_err_and(|fault| fault.kind == FaultKind::Unreachable) {
            lost.store(true, Ordering::Relaxed);
        }
        answer
    });
    match answer.await {
        Ok(()) => Ok(true),
        Err(fault) if fault.kind == FaultKind::Conflict => Ok(lost.load(Ordering::Relaxed)),
        Err(fault) => Err(fault),
    }
}

/// After so many looks a change set that is still being created is given up: about half an hour.
const LOOKS: u32 = 400;
/// After so many looks a change set that is still being created is left behind: about half a minute.
const LOOKS_TO_REMOVE: u32 = 20;

/// Waits until a change set is no longer being created.
async fn wait_created(
    account: &dyn TenantAccount,
    stack: &str,
    change_set: &str,
    stop: &Stop,
    looks: u32,
) -> Result<ChangeSet, Outcome> {
    let failed = |why: &str| Outcome::Failed(Failure::because(why));
    let mut pace = Pace::new();
    for _ in 0..looks {
        let found = patiently(stop, || account.change_set(stack, change_set)).await.map_err(|fault| unread(&fault))?;
        let found = found.ok_or_else(|| failed("the change set vanished while it was created"))?;
        if found.status != ChangeSetStatus::Creating {
            return Ok(found);
        }
        tokio::select! {
            biased;
            () = pace.pause() => {}
            () = stop.requested() => return Err(failed("the run was stopped")),
        }
    }
    Err(failed("CloudFormation is still creating the change set; it was given up"))
}

impl Engine {
    /// Puts the targets' results together into a plan.
    pub(super) fn gather(&self, request: &PlanRequest, tried: Vec<Tried>) -> Planning {
        let (mut intents, mut ready, mut settled) = (Vec::new(), Vec::new(), Vec::new());
        let (mut unchanged, mut versions) = (Vec::new(), Vec::new());
        for Tried { target, result } in tried {
            let intent = match result {
                Ok(Planned::Ready(found, changes)) => {
                    let intent = Intent::of(found.creates, changes);
                    ready.push(*found);
                    intent
                }
                Ok(Planned::Unchanged(account, version)) => {
                    unchanged.push((target.clone(), account));
                    versions.push(version);
                    Intent::Unchanged
                }
                Err(outcome) => {
                    settled.push((target.clone(), outcome));
                    Intent::Excluded
                }
            };
            intents.push((target, intent));
        }
        settled.extend(request.left_alone());
        let content = request.content(intents.iter().map(|(target, intent)| (target, intent.clone())).collect());
        let now = self.events.now();
        let plan = Plan {
            digest: content.digest(),
            content,
            unchanged: versions,
            selection: request.selection.clone(),
            planners: vec![self.by.clone()],
            planned: now,
            asked: now,
            round: 0,
        };
        Planning { plan: Arc::new(plan), ready, unchanged, settled, reached: None }
    }
}
