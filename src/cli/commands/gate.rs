//! The way between plan and apply: whoever opens it, the decision is recorded first and then weighed.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::answer::StageEnd;
use crate::cli::args::Way;
use crate::cli::error::CommandError;
use crate::cli::workspace::Run;
use crate::config::StageConfig;
use crate::domain::{ApprovalPolicy, Exit, Gate, Identity};
use crate::event::Event;
use crate::gate::{Decided, confirmed, reviewers};
use crate::plan::{Approval, Decision, Plan, Secrets, Standing, classes, headline, holds, may_approve, summary};

/// How often the store is asked for an approval.
const LOOK: Duration = Duration::from_secs(5);

/// A gate that stays shut.
pub struct Shut {
    /// How the stage ends by it.
    pub stage: StageEnd,
    /// Whether somebody has decided so, and the change sets are of no more use.
    pub refused: bool,
}

/// Asks for the approvals that the stage wants, and waits for them as long as was asked for.
pub async fn pass_gate(
    run: &Run<'_>,
    stage: &StageConfig,
    plan: &Plan,
    secrets: &Secrets,
    way: &Way,
) -> Result<(), Box<Shut>> {
    let Gate::Approval(policy) = &stage.gate else { return Ok(()) };
    let engine = run.engine;
    let standing = match seek(run, policy, plan, secrets, way).await {
        Ok(standing) => standing,
        Err(error) => {
            return Err(Box::new(Shut {
                stage: StageEnd::idle(stage, Some(plan), error.answer(), error),
                refused: false,
            }));
        }
    };
    let digest = plan.digest;
    let (exit, refused, next) = match standing {
        Standing::Approved(by) => {
            engine.events.emit(Event::Approved { by });
            return Ok(());
        }
        Standing::Rejected(why) => {
            (Exit::Refused, true, CommandError::usage(format!("the plan for {} was refused {why}", stage.name)))
        }
        Standing::Unfit(why) => {
            let error = CommandError::usage(format!("the plan for {} is not approved: {why}", stage.name));
            (Exit::Refused, false, error.hint("plan again, and have that plan approved"))
        }
        // A record that does not count is a refusal; that there is none yet is not.
        Standing::Waiting(_, reasons) if !reasons.is_empty() => {
            let message = format!("the plan for {} is not approved: {}", stage.name, reasons.join("; "));
            let error = CommandError::usage(message);
            (Exit::Refused, false, error.hint(format!("somebody who may has to `tenantry approve {digest}`")))
        }
        Standing::Waiting(missing, _) => {
            let whom = if missing == 1 { String::new() } else { format!(" by {missing} persons") };
            let error = CommandError::usage(format!("the plan for {} waits for approval{whom}", stage.name));
            (
                Exit::Waiting,
                false,
                error.hint(format!("read it; then `tenantry approve {digest}` and `tenantry apply {digest}`")),
            )
        }
    };
    Err(Box::new(Shut { stage: StageEnd::idle(stage, Some(plan), exit, next), refused }))
}

/// Weighs what is recorded; where that is not enough, asks those who can be asked, and waits.
async fn seek(
    run: &Run<'_>,
    policy: &ApprovalPolicy,
    plan: &Plan,
    secrets: &Secrets,
    way: &Way,
) -> Result<Standing, CommandError> {
    let engine = run.engine;
    let mut standing = engine.standing(plan, policy, secrets).await?;
    // A rule stands for a person who has not been asked, not against one who has refused.
    if matches!(standing, Standing::Waiting(..)) && holds(&policy.auto_approve, &plan.content) {
        let rules: Vec<String> = policy.auto_approve.iter().map(ToString::to_string).collect();
        return Ok(Standing::Approved(format!("rule: {}", rules.join(", "))));
    }
    if let (Standing::Waiting(..), Some(last)) = (&standing, way.approve.last()) {
        if !way.approve.contains(&plan.digest) {
            let foreign = format!("the approval is for plan {last}, but the plan is {}", plan.digest);
            return Ok(Standing::Waiting(policy.approvers, vec![foreign]));
        }
        for decided in decided_here(run).await? {
            if decided.decision == Decision::Approved
                && let Err(why) = may_approve(plan, policy, &decided.by)
            {
                let uncounted = format!("the approval of {} {why}", decided.by);
                return Ok(Standing::Waiting(policy.approvers, vec![uncounted]));
            }
            record(run, policy, plan, secrets, decided, None).await?;
        }
        standing = engine.standing(plan, policy, secrets).await?;
    } else if matches!(standing, Standing::Waiting(..))
        && may_approve(plan, policy, &engine.by).is_ok()
        && let Some(ask) = run.console.terminal(&engine.events)
    {
        let decision = tokio::select! {
            decision = confirmed(ask, plan) => decision,
            () = engine.stop.requested() => None,
        };
        if let Some(decision) = decision {
            let decided = Decided { decision, by: engine.by.clone(), via: "terminal", at: None, comment: None };
            record(run, policy, plan, secrets, decided, None).await?;
            standing = engine.standing(plan, policy, secrets).await?;
        }
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
async fn decided_here(run: &Run<'_>) -> Result<Vec<Decided>, CommandError> {
    let Some(github) = &run.environment.github_run else {
        let by = run.engine.by.clone();
        return Ok(vec![Decided { decision: Decision::Approved, by, via: "command", at: None, comment: None }]);
    };
    let answer = run.tooling.fetch(&github.reviews(), &github.token).await.map_err(|fault| {
        CommandError::from(fault).hint("the job's token needs `actions: read`; without GITHUB_TOKEN nobody is asked")
    })?;
    let decided = reviewers(&answer).map_err(|why| {
        CommandError::usage(format!("GitHub's answer about the run's reviewers cannot be read: {why}"))
    })?;
    if decided.is_empty() {
        let error = CommandError::usage(format!("nobody has reviewed run {} of {}", github.id, github.repository));
        return Err(error.exit(Exit::Refused).hint("put the job into an environment with required reviewers"));
    }
    Ok(decided)
}

/// Records a decision. Tells whether it is new.
pub async fn record(
    run: &Run<'_>,
    policy: &ApprovalPolicy,
    plan: &Plan,
    secrets: &Secrets,
    decided: Decided,
    expires: Option<Duration>,
) -> Result<bool, CommandError> {
    let Decided { decision, by, via, at, comment } = decided;
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
        at,
        until: at.saturating_add(lasts).unwrap_or(at),
        seen,
        comment,
    };
    Ok(run.engine.record(plan, policy, approval, secrets).await?)
}
