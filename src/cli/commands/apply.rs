//! `tenantry apply`, `tenantry resume`.

use std::collections::BTreeMap;
use std::time::Duration;

use super::answer::{Answer, StageEnd};
use super::decide::read_plan;
use super::deploy::stage_before;
use super::gate::pass_gate;
use super::machines;
use super::stage::concluded;
use super::subject::{Scope, Subject};
use crate::cli::args::Way;
use crate::cli::error::CommandError;
use crate::cli::workspace::{Run, Workspace};
use crate::domain::{ConcurrencyMode, Digest, Exit, FaultKind, Shard, TargetId};
use crate::engine::{Execution, History};
use crate::event::{Event, Events};
use crate::plan::{Plan, Secrets};

/// Applies a plan that was made before.
pub async fn apply(
    workspace: Workspace,
    digest: Digest,
    shard: Option<Shard>,
    machines: Option<u32>,
    way: Way,
) -> Result<Exit, CommandError> {
    let part = shard.map(Part::Shard).or(machines.map(Part::Machines));
    workspace.conduct(async |run| run_plan(run, digest, part, &way).await, |console, answer| answer.give(console)).await
}

/// Goes on with a rollout that was interrupted.
pub async fn resume(workspace: Workspace, rollout: &str, wait: Option<Duration>) -> Result<Exit, CommandError> {
    workspace
        .conduct(
            async |run| {
                let history = run.engine.history(&run.project.application, rollout).await?;
                let history = history.ok_or_else(|| {
                    CommandError::usage(format!("there is no rollout {rollout} to go on with"))
                        .hint("`apply` and `deploy` print a rollout's name when it begins")
                })?;
                let way = Way { wait_for_lock: wait, ..Way::default() };
                run_plan(run, history.plan, Some(Part::Left(rollout, history)), &way).await
            },
            |console, answer| answer.give(console),
        )
        .await
}

/// What of a plan is executed.
enum Part<'a> {
    /// What a rollout that was interrupted has left.
    Left(&'a str, History),
    /// The targets of one of several machines.
    Shard(Shard),
    /// All, by so many machines that are started for it.
    Machines(u32),
}

fn has_targets(plan: &Plan, shard: Shard) -> bool {
    plan.content.targets.iter().any(|target| shard.has(&target.target))
}

/// Says why a plan cannot be executed by so many machines: each has its share of what may be in work at a time.
fn check_shards(plan: &Plan, shard: Shard) -> Result<(), CommandError> {
    let rollout = &plan.content.rollout;
    let most = rollout.max_concurrency.of(plan.content.targets.len()).max(1);
    if rollout.concurrency_mode == ConcurrencyMode::Strict {
        let error = CommandError::usage("a plan with strict concurrency is executed by one machine");
        return Err(error.hint(
            "`concurrency-mode: strict` counts what has failed at every start; leave --shard out, or plan with `soft`",
        ));
    }
    if shard.of as usize > most {
        let error = CommandError::usage(format!(
            "{} shards are more than the {most} targets that may be in work at a time",
            shard.of
        ));
        return Err(error.hint("use fewer shards, or plan with a larger `max-concurrency`"));
    }
    Ok(())
}

/// Brings the targets of a list that AWS keeps back to what they were when the plan was made: whoever came since is left
/// for the next plan, and a label that has changed moves nobody to another wave. One that is gone is still noticed.
fn as_planned(plan: &Plan, scope: &mut Scope, events: &Events) {
    let waves: BTreeMap<&TargetId, u32> = plan.content.targets.iter().map(|one| (&one.target, one.wave)).collect();
    for targets in [&mut scope.targets, &mut scope.pinned] {
        targets.retain_mut(|target| {
            let Some(wave) = waves.get(&target.id) else {
                events.notice(format!("{} has come since the plan was made, and is not in it", target.id));
                return false;
            };
            target.wave = *wave;
            true
        });
    }
}

/// Executes a plan from the store, or a part of it.
async fn run_plan(run: &Run<'_>, digest: Digest, part: Option<Part<'_>>, way: &Way) -> Result<Answer, CommandError> {
    let Run { project, engine, .. } = run;
    let sealing = Secrets::sealing(engine.digest_key(&project.application).await?);
    let plan = read_plan(engine, &project.application, digest, &sealing).await?;
    let stage = project.stage(&plan.content.stage)?.clone();
    let subject = Subject::of_release(run, plan.content.release.as_str()).await?;
    let secrets = subject.secrets(project, engine).await?;
    let mut scope = subject.scope(run, &stage, &plan.selection).await?;
    if project.is_kept() {
        as_planned(&plan, &mut scope, &engine.events);
    }
    let part = match part {
        // One machine is enough to find that there is nothing to execute, and this is one.
        Some(Part::Machines(_)) if !plan.content.is_executable() => None,
        Some(Part::Shard(shard)) if !plan.content.is_executable() && shard.number == 1 => None,
        Some(Part::Shard(shard)) if !plan.content.is_executable() || !has_targets(&plan, shard) => {
            engine.events.notice(format!("shard {shard} has nothing to execute"));
            let mut answer = Answer::new(&subject.release);
            answer.add(StageEnd::empty(&stage, &plan));
            return Ok(answer);
        }
        part => part,
    };
    if let Some(Part::Shard(shard)) = part {
        check_shards(&plan, shard)?;
        scope.targets.retain(|target| shard.has(&target.id));
        scope.pinned.retain(|target| shard.has(&target.id));
    }
    if let Some(Part::Machines(of)) = part {
        check_shards(&plan, Shard { number: of, of })?;
        if let Some(end) = machines::follow_running(run, &stage, &plan, of).await? {
            let mut answer = Answer::new(&subject.release);
            answer.add(end);
            return Ok(answer);
        }
    }
    let request = subject.request(&stage, &scope, plan.content.origin.clone(), &secrets);
    engine.events.emit(Event::Planned { plan: plan.clone() });

    let mut answer = Answer::new(&subject.release);
    // The approval of what was interrupted, or is executed by other shards, is used already: for that rollout, and for no other.
    let is_used = match part {
        None => false,
        Some(Part::Left(..)) => true,
        Some(Part::Shard(Shard { of, .. }) | Part::Machines(of)) => {
            engine.shared_rollout(&plan, of, &secrets).await?.is_some()
        }
    };
    // Of many that wait for it, one tells.
    let tells = !matches!(part, Some(Part::Shard(shard)) if shard.number > 1);
    if !is_used && let Err(end) = pass_gate(run, &stage, &plan, &secrets, way, tells).await {
        // Another shard may have used the approval just now.
        let is_used = match part {
            Some(Part::Shard(Shard { of, .. }) | Part::Machines(of)) => {
                engine.shared_rollout(&plan, of, &secrets).await?.is_some()
            }
            _ => false,
        };
        if !is_used {
            answer.add(end.stage);
            return Ok(answer);
        }
    }
    if let Err(fault) = engine.verify_artifacts(&subject.release).await {
        let exit = if fault.kind == FaultKind::Mismatch { Exit::Refused } else { Exit::Usage };
        answer.add(StageEnd::idle(&stage, Some(&plan), exit, fault.into()));
        return Ok(answer);
    }
    if let Some(Part::Machines(of)) = part {
        let wait = way.wait_for_lock.unwrap_or_default();
        answer.add(machines::roll_out(run, &stage, &plan, of, wait).await?);
        return Ok(answer);
    }
    let entered = engine.enter(&stage.name, scope.targets).await;
    let before = stage_before(project, &plan.content.origin)?;
    let wait = way.wait_for_lock.unwrap_or_default();
    let execution = Execution { plan: &plan, request: &request, settled: None, before, wait };
    let result = match part {
        None | Some(Part::Machines(_)) => engine.roll_out(execution, entered).await,
        Some(Part::Left(rollout, history)) => engine.resume(rollout, history, execution, entered).await,
        Some(Part::Shard(shard)) => engine.roll_out_shard(shard, execution, entered).await,
    };
    answer.add(concluded(run, &stage, &plan, result).await);
    Ok(answer)
}
