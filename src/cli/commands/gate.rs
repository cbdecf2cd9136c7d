//! The way between plan and apply: whoever opens it, the decision is recorded first and then weighed.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::answer::StageEnd;
use super::notify;
use crate::cli::args::Way;
use crate::cli::error::CommandError;
use crate::cli::workspace::Run;
use crate::config::StageConfig;
use crate::domain::{ApprovalPolicy, Exit, Gate, Identity};
use crate::engine::Recorded;
use crate::event::Event;
use crate::gate::{Decided, Run as GithubRun, confirmed};
use crate::plan::{Approval, Decision, Plan, Secrets, Standing, classes, headline, may_approve, summary};

/// How often the store is asked for an approval.
const LOOK: Duration = Duration::from_secs(5);

/// A gate that stays shut.
pub struct Shut {
    /// How the stage ends by it.
    pub stage: StageEnd,
    /// Whether somebody has decided so, and the change sets are of no more use.
    pub refused: bool,
}

/// Asks for the approvals that the stage wants, and waits for them as long as was asked for. Those whom the configuration names
/// are told that it waits, where this run `tells`.
pub async fn pass_gate(
    run: &Run<'_>,
    stage: &StageConfig,
    plan: &Plan,
    secrets: &Secrets,
    way: &Way,
    tells: bool,
) -> Result<(), Box<Shut>> {
    // Whose approval is asked for is part of the plan; where there is nothing to execute, there is none to ask for.
    let Gate::Approval(policy) = &plan.content.gate else { return Ok(()) };
    if !plan.content.is_executable() {
        return Ok(());
    }
    match seek(run, policy, plan, secrets, way, tells).await {
        Ok(standing) => {
            let by = opened(stage, plan, standing)?;
            run.engine.events.emit(Event::Approved { by });
            Ok(())
        }
        Err(error) => {
            let stage = StageEnd::idle(stage, Some(plan), error.answer(), error);
            Err(Box::new(Shut { stage, refused: false }))
        }
    }
}

/// Returns who has opened the gate, or how the stage ends by its being shut.
pub fn opened(stage: &StageConfig, plan: &Plan, standing: Standing) -> Result<String, Box<Shut>> {
    let digest = plan.digest;
    let is_not_approved = |why: String| {
        CommandError::usage(format!("the plan for {} is not approved: {why}", stage.name)).exit(Exit::Refused)
    };
    let (refused, next) = match standing {
        Standing::Approved(by) => return Ok(by),
        Standing::Rejected(why) => {
            let error = CommandError::usage(format!("the plan for {} was refused {why}", stage.name));
            (true, error.exit(Exit::Refused))
        }
        Standing::Unfit(why) => (false, is_not_approved(why).hint("plan again, and have that plan approved")),
        // A record that does not count is a refusal; that there is none yet is not.
        Standing::Waiting(_, reasons) if !reasons.is_empty() => (
            false,
            is_not_approved(reasons.join("; ")).hint(format!("somebody who may has to `tenantry approve {digest}`")),
        ),
        Standing::Waiting(missing, _) => {
            let whom = if missing == 1 { String::new() } else { format!(" by {missing} persons") };
            let error = CommandError::usage(format!("the plan for {} waits for approval{whom}", stage.name));
            let hint = format!("read it; then `tenantry approve {digest}` and `tenantry apply {digest}`");
            (false, error.exit(Exit::Waiting).hint(hint))
        }
    };
    Err(Box::new(Shut { stage: StageEnd::idle(stage, Some(plan), next.answer(), next), refused }))
}

/// Weighs what is recorded; where that is not enough, asks those who can be asked, and waits.
async fn seek(
    run: &Run<'_>,
    policy: &ApprovalPolicy,
    plan: &Plan,
    secrets: &Secrets,
    way: &Way,
    tells: bool,
) -> Result<Standing, CommandError> {
    let engine = run.engine;
    let mut standing = engine.standing(plan, policy, secrets).await?;
    if let (Standing::Waiting(..), Some(last)) = (&standing, way.approve.last()) {
        if !way.approve.contains(&plan.digest) {
            let foreign = format!("the approval is for plan {last}, but the plan is {}", plan.digest);
            return Ok(Standing::Waiting(policy.approvers, vec![foreign]));
        }
        let mut uncounted = Vec::new();
        for decided in decided_here(run, policy).await? {
            let by = decided.by.clone();
            if let Err(why) = taken(run, policy, plan, secrets, decided, None).await? {
                uncounted.push(format!("the approval of {by} {why}"));
            }
        }
        standing = engine.standing(plan, policy, secrets).await?;
        if let Standing::Waiting(_, reasons) = &mut standing {
            uncounted.retain(|why| !reasons.contains(why));
            reasons.extend(uncounted);
        }
    } else if matches!(standing, Standing::Waiting(..))
        && may_approve(plan, policy, &engine.by).is_ok()
        && let Some(ask) = run.console.terminal(&engine.events)
    {
        let decision = tokio::select! {
            decision = confirmed(ask, plan) => decision,
            () = engine.stop.requested() => None,
        };
        if let Some(decision) = decision {
            let by = engine.by.clone();
            let decided = Decided { decision, by, via: "terminal", source: None, at: None, comment: None };
            record(run, policy, plan, secrets, decided, None).await?;
            standing = engine.standing(plan, policy, secrets).await?;
        }
    }
    if tells && matches!(standing, Standing::Waiting(..)) {
        notify::waiting(run, plan).await;
    }
    let Some(wait) = way.wait_for_approval else { return Ok(standing) };
    let begun = Instant::now();
    if matches!(standing, Standing::Waiting(..)) {
        engine.events.notice(format!("waiting for the approval of plan {}", plan.digest));
    }
    while matches!(standing, Standing::Waiting(..)) && begun.elapsed() < wait {
        tokio::select! {
            () = sleep(LOOK.min(wait)) => {}
            () = engine.stop.requested() => break,
        }
        standing = match engine.standing(plan, policy, secrets).await {
            Err(fault) if fault.passes() => standing,
            other => other?,
        };
    }
    Ok(standing)
}

/// Returns who approves with `--approve`: the reviewers of the GitHub run where they can be asked for, otherwise the
/// one who runs this.
async fn decided_here(run: &Run<'_>, policy: &ApprovalPolicy) -> Result<Vec<Decided>, CommandError> {
    if let Some(github) = &run.environment.github_run {
        return reviewers(run, github, policy).await;
    }
    let (decision, by) = (Decision::Approved, run.engine.by.clone());
    Ok(vec![Decided { decision, by, via: "command", source: None, at: None, comment: None }])
}

/// Asks GitHub who has reviewed the run's deployment to the environment that the stage names.
pub async fn reviewers(
    run: &Run<'_>,
    github: &GithubRun,
    policy: &ApprovalPolicy,
) -> Result<Vec<Decided>, CommandError> {
    let answer = run.tooling.fetch(&github.reviews(), &github.token).await.map_err(|fault| {
        CommandError::from(fault).hint("the job's token needs `actions: read`; without GITHUB_TOKEN nobody is asked")
    })?;
    let environment = &policy.github_environment;
    let decided = github.reviewers(&answer, environment).map_err(|why| {
        CommandError::usage(format!("GitHub's answer about the run's reviewers cannot be read: {why}"))
    })?;
    if decided.is_empty() {
        let message =
            format!("nobody has reviewed environment {environment} in run {} of {}", github.id, github.repository);
        let hint = format!(
            "put the job into the environment {environment} with required reviewers, or name another one in \
             `gate.github-environment`"
        );
        return Err(CommandError::usage(message).exit(Exit::Refused).hint(hint));
    }
    Ok(decided)
}

/// Records a decision; where it does not count, the text says why. Tells otherwise whether it is new.
///
/// What was decided elsewhere is recorded even if it does not count: what was read once must not count later, when
/// somebody else has planned.
pub async fn taken(
    run: &Run<'_>,
    policy: &ApprovalPolicy,
    plan: &Plan,
    secrets: &Secrets,
    decided: Decided,
    expires: Option<Duration>,
) -> Result<Result<bool, String>, CommandError> {
    let allowed = match decided.decision {
        Decision::Approved => may_approve(plan, policy, &decided.by),
        Decision::Rejected { .. } => Ok(()),
    };
    if let (Err(why), None) = (&allowed, &decided.source) {
        return Ok(Err(why.clone()));
    }
    let recorded = record(run, policy, plan, secrets, decided, expires).await?;
    Ok(allowed.and(match recorded {
        Recorded::New => Ok(true),
        Recorded::Known => Ok(false),
        Recorded::Spent => Err("does not count: it was read before, and is over".to_owned()),
    }))
}

/// Records a decision.
async fn record(
    run: &Run<'_>,
    policy: &ApprovalPolicy,
    plan: &Plan,
    secrets: &Secrets,
    decided: Decided,
    expires: Option<Duration>,
) -> Result<Recorded, CommandError> {
    let Decided { decision, by, via, source, at, comment } = decided;
    let at = at.unwrap_or_else(|| run.engine.events.now());
    let lasts = expires.map_or(policy.expires, |expires| expires.min(policy.expires));
    let classes = classes(&plan.content);
    let mut seen = vec![headline(&classes)];
    seen.extend(summary(&classes));
    let recorded_by: Option<Identity> = (by != run.engine.by).then(|| run.engine.by.clone());
    let approval = Approval {
        version: 1,
        application: plan.content.application.clone(),
        stage: plan.content.stage.clone(),
        plan: plan.digest,
        round: plan.round,
        decision,
        by,
        recorded_by,
        via: via.to_owned(),
        source,
        at,
        until: at.saturating_add(lasts).unwrap_or(at),
        seen,
        comment,
    };
    Ok(run.engine.decide(plan, policy, approval, secrets).await?)
}
