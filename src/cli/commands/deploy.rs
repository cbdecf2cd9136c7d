//! `tenantry deploy`, `tenantry promote`, `tenantry rollback`: plan, gate and apply in one run.

use std::cell::OnceCell;

use super::answer::{Answer, StageAnswer, StageEnd, plan_outputs};
use super::gate::pass_gate;
use super::stage::{concluded, is_hopeless, keep, not_begun, stopped_or};
use super::subject::{Scope, Subject, narrow};
use crate::cli::args::Way;
use crate::cli::error::CommandError;
use crate::cli::workspace::{Run, Workspace};
use crate::config::{Project, StageConfig};
use crate::domain::{Exit, Release, ReleaseId, TargetId};
use crate::engine::{Entered, Execution};
use crate::event::Event;
use crate::plan::{Origin, Secrets, Selection};

/// Packages once, then plans, gates and applies stage by stage. `packaged` keeps the release, for the stages that come in
/// a later run of the same command.
pub async fn deploy(
    workspace: Workspace,
    stages: Vec<StageConfig>,
    selection: Selection,
    way: Way,
    packaged: &OnceCell<ReleaseId>,
) -> Result<Exit, CommandError> {
    workspace
        .conduct(
            async |run| {
                let subject = match packaged.get() {
                    Some(id) => Subject::of_release(run, id.as_str()).await?,
                    None => Subject::of_folder(run)?,
                };
                let _ = packaged.set(subject.release.id.clone());
                release(run, subject, &stages, &selection, &Origin::Direct, &way).await
            },
            |console, answer| answer.give(console),
        )
        .await
}

/// Brings a release to a stage, if it has finished in the stage before.
pub async fn promote(
    workspace: Workspace,
    id: &str,
    to: &str,
    skip_check: bool,
    selection: Selection,
    way: Way,
) -> Result<Exit, CommandError> {
    let stages = workspace.project.stages_or(Some(to))?;
    workspace.project.check_selection(&stages, &selection)?;
    workspace
        .conduct(
            async |run| {
                let Run { engine, .. } = run;
                let subject = Subject::of_release(run, id).await?;
                engine.verify_artifacts(&subject.release).await?;
                let origin = promoted(run, &subject.release, to, skip_check).await?;
                release(run, subject, &stages, &selection, &origin, &way).await
            },
            |console, answer| answer.give(console),
        )
        .await
}

/// Returns how a release comes to a stage by being promoted; it must have finished in the stage before, or somebody wants that
/// check to be skipped.
pub async fn promoted(run: &Run<'_>, release: &Release, to: &str, skip_check: bool) -> Result<Origin, CommandError> {
    let id = &release.id;
    match run.project.stage_before(to) {
        None => Ok(Origin::Promoted { after: None }),
        Some(before) if has_finished(run, before, id).await? => {
            Ok(Origin::Promoted { after: Some(before.name.clone()) })
        }
        Some(before) if skip_check => Ok(Origin::Unproven { after: before.name.clone() }),
        Some(before) => {
            let error = CommandError::usage(format!("release {id} has not finished in {}", before.name));
            let hint = format!(
                "promote it there first: `tenantry promote {id} --to {}`; or `tenantry promote {id} --to {to} \
                 --skip-stage-check`, which the plan will say",
                before.name
            );
            Err(error.exit(Exit::Refused).hint(hint))
        }
    }
}

async fn has_finished(run: &Run<'_>, stage: &StageConfig, release: &ReleaseId) -> Result<bool, CommandError> {
    let Run { project, engine, .. } = run;
    Ok(engine.has_finished(&project.application, &stage.name, all_targets(project, stage)?, release).await?)
}

/// Returns the stage from which a release is promoted, with its targets.
pub fn stage_before(project: &Project, origin: &Origin) -> Result<Option<(String, Vec<TargetId>)>, CommandError> {
    let Origin::Promoted { after: Some(name) } = origin else { return Ok(None) };
    Ok(Some((name.clone(), all_targets(project, project.stage(name)?)?)))
}

/// Returns all targets of a stage.
pub fn all_targets(project: &Project, stage: &StageConfig) -> Result<Vec<TargetId>, CommandError> {
    let targets = project.targets(stage, &project.release_to_come(), &Selection::default())?;
    Ok(targets.into_iter().map(|target| target.id).collect())
}

/// Brings targets back to an older release.
pub async fn rollback(
    workspace: Workspace,
    to: Option<String>,
    stage: Option<&str>,
    selection: Selection,
    way: Way,
) -> Result<Exit, CommandError> {
    let project = &workspace.project;
    let of_tenants = selection.tenants.first().and_then(|tenant| project.stage_of(tenant));
    let stage = match (stage, of_tenants, project.stages.as_slice()) {
        (Some(name), ..) => project.stage(name)?.clone(),
        (None, Some(stage), _) | (None, None, [stage]) => stage.clone(),
        _ => return Err(CommandError::usage("which stage goes back is not said").hint("name it with --stage")),
    };
    let stages = vec![stage];
    project.check_selection(&stages, &selection)?;
    workspace
        .conduct(
            async |run| {
                let id = match &to {
                    Some(id) => id.clone(),
                    None => previous(run, &stages[0], &selection).await?.to_string(),
                };
                let subject = Subject::of_release(run, &id).await?;
                run.engine.verify_artifacts(&subject.release).await?;
                release(run, subject, &stages, &selection, &Origin::Rollback, &way).await
            },
            |console, answer| answer.give(console),
        )
        .await
}

/// Returns the release that the selected targets were on before, which has to be the same one.
async fn previous(run: &Run<'_>, stage: &StageConfig, selection: &Selection) -> Result<ReleaseId, CommandError> {
    let Run { project, engine, .. } = run;
    let targets = project.targets(stage, &project.release_to_come(), selection)?;
    let (targets, _) = narrow(run, stage, targets, selection.clone()).await?;
    let targets: Vec<TargetId> =
        targets.into_iter().filter(|target| target.pin.is_none()).map(|target| target.id).collect();
    if targets.is_empty() {
        let error = CommandError::usage("all selected targets are pinned to a release, and stay on it");
        return Err(error.hint("change or remove their `pin:`"));
    }
    let mut found: Vec<(TargetId, Option<ReleaseId>)> = Vec::new();
    for (target, entry) in engine.ledger(&project.application, &stage.name, targets).await? {
        found.push((target, entry.and_then(|entry| entry.previous().cloned())));
    }
    let tell = |(target, release): &(TargetId, Option<ReleaseId>)| {
        format!("{target} {}", release.as_ref().map_or("none".to_owned(), ToString::to_string))
    };
    match found.as_slice() {
        [(_, Some(first)), rest @ ..] if rest.iter().all(|(_, other)| other.as_ref() == Some(first)) => {
            Ok(first.clone())
        }
        _ => {
            let told: Vec<String> = found.iter().take(8).map(tell).collect();
            let message = format!("the targets have no common release before their present one: {}", told.join(", "));
            Err(CommandError::usage(message).hint("name the release with --to; `tenantry releases` lists them"))
        }
    }
}

/// Plans, gates and applies a release, stage by stage.
async fn release(
    run: &Run<'_>,
    mut subject: Subject,
    stages: &[StageConfig],
    selection: &Selection,
    origin: &Origin,
    way: &Way,
) -> Result<Answer, CommandError> {
    let Run { project, engine, .. } = run;
    let mut answer = Answer::new(&subject.release);
    // Every account of every stage first: what is wrong there is known before anything is changed.
    let mut work = Vec::new();
    for stage in stages {
        let scope = subject.scope(run, stage, selection).await?;
        let entered = engine.enter(&stage.name, scope.targets.clone()).await;
        work.push((stage, scope, entered));
    }
    for (stage, _, entered) in &mut work {
        if is_hopeless(stage, entered) {
            answer.add(not_begun(engine, stage, std::mem::take(entered)));
        }
    }
    if answer.exit != Exit::Done {
        return Ok(answer);
    }
    subject.publish(engine).await?;
    let secrets = subject.secrets(project, engine).await?;
    for (stage, scope, entered) in work {
        let pass = Pass { run, subject: &subject, secrets: &secrets, origin, way };
        let end = pass.stage(stage, scope, entered).await;
        if !answer.add(end.unwrap_or_else(|error| StageEnd::idle(stage, None, error.answer(), error))) {
            break;
        }
    }
    Ok(answer)
}

/// What all stages of a release share.
struct Pass<'a> {
    run: &'a Run<'a>,
    subject: &'a Subject,
    secrets: &'a Secrets,
    origin: &'a Origin,
    way: &'a Way,
}

impl Pass<'_> {
    /// Plans a stage, passes its gate and applies.
    async fn stage(&self, stage: &StageConfig, scope: Scope, entered: Vec<Entered>) -> Result<StageEnd, CommandError> {
        let Self { run, subject, secrets, origin, way } = self;
        let engine = run.engine;
        let request = subject.request(stage, &scope, (*origin).clone(), secrets);
        let mut planning = engine.plan(&request, entered).await;
        if engine.stop.is_requested() || planning.is_beyond_tolerance() {
            let finished = planning.outcomes();
            let exit = stopped_or(engine, Exit::of(finished.iter().map(|(_, outcome)| outcome), 0));
            return Ok(StageEnd { answer: StageAnswer::new(&stage.name, None, exit, finished), exit, next: None });
        }
        if planning.ready.is_empty() {
            // Nothing to approve.
            let plan = planning.plan.clone();
            let wait = way.wait_for_lock.unwrap_or_default();
            return Ok(concluded(run, stage, &plan, engine.settle(&request, planning, wait).await).await);
        }
        keep(engine, &mut planning, &request).await?;
        let plan = planning.plan.clone();
        plan_outputs(run.console, &plan, &run.project.store)?;
        engine.events.emit(Event::Planned { plan: plan.clone() });
        if let Err(end) = pass_gate(run, stage, &plan, secrets, way, true).await {
            if end.refused {
                engine.discard(planning.ready).await;
            }
            return Ok(end.stage);
        }
        let entered = planning.entered();
        let before = stage_before(run.project, origin)?;
        let settled = Some(planning.settled);
        let wait = way.wait_for_lock.unwrap_or_default();
        let execution = Execution { plan: &plan, request: &request, settled, before, wait };
        Ok(concluded(run, stage, &plan, engine.roll_out(execution, entered).await).await)
    }
}
