//! Plan, apply, and deploy, which chains them over the stages.

use serde::Serialize;

use super::release;
use crate::cli::console::Console;
use crate::cli::error::CommandError;
use crate::cli::workspace::Workspace;
use crate::config::{Project, StageConfig};
use crate::domain::{Digest, Exit, Failure, Gate, Outcome, Release, ReleaseId, Tally, TargetId};
use crate::engine::{Engine, Entered, Planning};
use crate::event::Event;
use crate::gate::Given;
use crate::plan::{Class, Plan, Secrets, Selection, classes};
use crate::ports::{Approvals as _, Verdict};
use crate::report;

/// How one stage ended, as `--output json` tells it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct StageAnswer {
    /// The stage's name.
    pub stage: String,
    /// The plan, if there was one.
    pub plan_digest: Option<Digest>,
    /// Whether the plan has anything to execute.
    pub has_changes: bool,
    /// What the process would answer for this stage alone.
    pub exit: Exit,
    /// How many targets ended how.
    pub counts: Tally,
    /// How each target ended.
    pub targets: Vec<TargetAnswer>,
}

/// How one target ended.
#[derive(Debug, Serialize)]
pub struct TargetAnswer {
    #[serde(flatten)]
    target: TargetId,
    #[serde(flatten)]
    outcome: Outcome,
}

impl StageAnswer {
    /// Puts an answer together.
    pub fn new(stage: &str, plan: Option<&Plan>, exit: Exit, finished: Vec<(TargetId, Outcome)>) -> Self {
        Self {
            stage: stage.to_owned(),
            plan_digest: plan.map(|plan| plan.digest),
            has_changes: plan.is_some_and(|plan| plan.content.is_executable()),
            exit,
            counts: Tally::of(finished.iter().map(|(_, outcome)| outcome)),
            targets: finished.into_iter().map(|(target, outcome)| TargetAnswer { target, outcome }).collect(),
        }
    }

    /// Returns the targets' outcomes.
    pub fn finished(&self) -> Vec<(TargetId, Outcome)> {
        self.targets.iter().map(|answer| (answer.target.clone(), answer.outcome.clone())).collect()
    }
}

/// How a run over stages ended.
#[derive(Debug, Serialize)]
struct Answer {
    release: ReleaseId,
    stages: Vec<StageAnswer>,
    #[serde(skip)]
    exit: Exit,
    /// What the reader has to do next, where the run waits for somebody.
    #[serde(skip)]
    next: Option<CommandError>,
}

impl Answer {
    fn new(release: &Release) -> Self {
        Self { release: release.id.clone(), stages: Vec::new(), exit: Exit::Done, next: None }
    }

    /// Takes a stage's end, and tells whether the next stage may begin.
    fn add(&mut self, stage: StageEnd) -> bool {
        let StageEnd { answer, exit, next } = stage;
        self.stages.push(answer);
        self.exit = if exit == Exit::Done { self.exit } else { exit };
        self.next = next;
        matches!(exit, Exit::Done | Exit::Tolerated)
    }

    fn give(self, console: &Console) -> Result<Exit, CommandError> {
        let views = self.stages.iter().map(|stage| report::results(&stage.stage, &stage.finished(), stage.exit));
        console.answer(&views.collect::<Vec<_>>().join("\n"), &self)?;
        outputs(console, &self.release, &self.stages)?;
        match self.next {
            Some(next) => Err(next),
            None => Ok(self.exit),
        }
    }
}

/// How a stage ended, and what that means for the rest.
struct StageEnd {
    answer: StageAnswer,
    exit: Exit,
    next: Option<CommandError>,
}

impl StageEnd {
    /// A stage that could not even be planned to its end; what was done in stages before it stays told.
    fn broken(stage: &StageConfig, error: CommandError) -> Self {
        let answer = StageAnswer::new(&stage.name, None, Exit::Failed, Vec::new());
        Self { answer, exit: Exit::Failed, next: Some(error.exit(Exit::Failed)) }
    }
}

/// Writes what workflows take from step to step.
fn outputs(console: &Console, release: &ReleaseId, stages: &[StageAnswer]) -> Result<(), CommandError> {
    let mut values = vec![("release", release.to_string())];
    let mut planned = stages.iter().rev().filter(|stage| stage.has_changes);
    if let Some(digest) = planned.find_map(|stage| stage.plan_digest) {
        values.push(("plan-digest", digest.to_string()));
    }
    values.push(("has-changes", stages.iter().any(|stage| stage.has_changes).to_string()));
    for name in Outcome::NAMES {
        values.push((name, stages.iter().map(|stage| stage.counts.count(name)).sum::<usize>().to_string()));
    }
    Ok(console.outputs(&values)?)
}

/// What is planned, for `tenantry plan --output json`.
#[derive(Serialize)]
struct PlanAnswer<'a> {
    #[serde(flatten)]
    plan: &'a Plan,
    classes: Vec<Class>,
    settled: Vec<TargetAnswer>,
}

/// Plans one stage.
pub async fn plan(
    workspace: Workspace,
    stage: &str,
    known: Option<&str>,
    selection: Selection,
) -> Result<Exit, CommandError> {
    let stage = workspace.project.stage(stage)?.clone();
    workspace.project.check_selection(std::iter::once(&stage), &selection)?;
    let tolerance = stage.rollout.failure_tolerance;
    workspace
        .conduct(
            async |project, engine, _, environment| {
                let (release, package) = if let Some(id) = known {
                    (find_release(project, engine, id).await?, None)
                } else {
                    let package = release::build(project, environment, engine)?;
                    (package.release(), Some(package))
                };
                let entered = engine.enter(&stage.name, project.targets(&stage, &release, &selection)?).await;
                if is_hopeless(&stage, &entered) {
                    return Ok((release, Err(not_begun(engine, &stage, entered))));
                }
                if let Some(package) = package {
                    release::publish(engine, package).await?;
                }
                let secrets = engine.secrets(&project.application, project.template.no_echo()).await?;
                let planning = engine.plan(&stage.name, &release, stage.rollout, entered, &secrets, selection).await;
                let tolerated = tolerance.of(planning.plan.content.targets.len());
                if planning.failures() <= tolerated && !engine.stop.is_requested() {
                    keep(engine, &planning).await?;
                }
                Ok((release, Ok(planning)))
            },
            |console, (release, planning)| {
                let planning = match planning {
                    Ok(planning) => planning,
                    Err(stage) => {
                        let mut answer = Answer::new(&release);
                        answer.add(stage);
                        return answer.give(console);
                    }
                };
                let finished = planning.outcomes();
                let tolerated = tolerance.of(planning.plan.content.targets.len());
                let exit = Exit::of(finished.iter().map(|(_, outcome)| outcome), tolerated);
                let failed: Vec<_> =
                    finished.iter().filter(|(_, outcome)| outcome.failure().is_some()).cloned().collect();
                let problems =
                    report::results(&format!("{}, not planned", planning.plan.content.stage), &failed, Exit::Failed);
                let text = match (exit, failed.as_slice()) {
                    (Exit::Done | Exit::Tolerated, []) => report::plan(&planning.plan),
                    (Exit::Done | Exit::Tolerated, _) => format!("{}\n\n{problems}", report::plan(&planning.plan)),
                    // Nobody can apply this plan: what there is to read is why.
                    _ => problems,
                };
                let stage =
                    StageAnswer::new(&planning.plan.content.stage, Some(&planning.plan), exit, finished.clone());
                let settled = finished.into_iter().map(|(target, outcome)| TargetAnswer { target, outcome }).collect();
                let data = PlanAnswer { plan: &planning.plan, classes: classes(&planning.plan.content), settled };
                console.answer(&text, &data)?;
                outputs(console, &release.id, &[stage])?;
                Ok(exit)
            },
        )
        .await
}

async fn find_release(project: &Project, engine: &Engine, id: &str) -> Result<Release, CommandError> {
    let release = engine.release(&project.application, id).await?;
    release.ok_or_else(|| CommandError::usage(format!("there is no release {id} of {}", project.application)))
}

/// Applies a plan that was made before.
pub async fn apply(workspace: Workspace, digest: Digest, approvals: Vec<Digest>) -> Result<Exit, CommandError> {
    workspace
        .conduct(
            async |project, engine, console, _| {
                let plan = engine.read_plan(&project.application, digest).await.map_err(|fault| {
                    let refused = fault.kind == crate::domain::FaultKind::Mismatch;
                    let error = CommandError::from(fault);
                    if refused { error.exit(Exit::Refused).hint("plan again") } else { error }
                })?;
                let plan = plan.ok_or_else(|| {
                    CommandError::usage(format!("there is no plan {digest}"))
                        .hint("make one with `tenantry plan`, which prints its digest")
                })?;
                let stage = project.stage(&plan.content.stage)?.clone();
                let release = find_release(project, engine, plan.content.release.as_str()).await?;
                let secrets = engine.secrets(&project.application, project.template.no_echo()).await?;
                let targets = project.targets(&stage, &release, &plan.selection)?;
                engine.events.emit(Event::Planned { plan: Box::new(plan.clone()) });

                let mut answer = Answer::new(&release);
                if let Err(end) = pass_gate(engine, console, &stage, &plan, approvals).await {
                    answer.add(end.stage);
                    return Ok(answer);
                }
                let entered = engine.enter(&stage.name, targets).await;
                let rechecked = engine.recheck(&plan, &release, entered, &secrets).await;
                answer.add(execute(engine, &stage, &plan, &release, rechecked).await);
                Ok(answer)
            },
            |console, answer| answer.give(console),
        )
        .await
}

/// Packages once, then plans, gates and applies stage by stage.
pub async fn deploy(
    workspace: Workspace,
    only: Option<&str>,
    selection: Selection,
    approvals: Vec<Digest>,
) -> Result<Exit, CommandError> {
    let stages: Vec<StageConfig> = match only {
        Some(name) => vec![workspace.project.stage(name)?.clone()],
        None => workspace.project.stages.clone(),
    };
    workspace.project.check_selection(&stages, &selection)?;
    workspace
        .conduct(
            async |project, engine, console, environment| {
                let package = release::build(project, environment, engine)?;
                let release = package.release();
                let mut answer = Answer::new(&release);

                // Every account of every stage first: what is wrong there is known before anything is changed.
                let mut entered = Vec::new();
                for stage in &stages {
                    entered.push(engine.enter(&stage.name, project.targets(stage, &release, &selection)?).await);
                }
                for (stage, entered) in stages.iter().zip(&mut entered) {
                    if is_hopeless(stage, entered) {
                        answer.add(not_begun(engine, stage, std::mem::take(entered)));
                    }
                }
                if answer.exit != Exit::Done {
                    return Ok(answer);
                }
                release::publish(engine, package).await?;
                let secrets = engine.secrets(&project.application, project.template.no_echo()).await?;
                for (stage, entered) in stages.iter().zip(entered) {
                    let end =
                        deploy_stage(engine, console, stage, &release, entered, &secrets, &selection, &approvals).await;
                    if !answer.add(end.unwrap_or_else(|error| StageEnd::broken(stage, error))) {
                        break;
                    }
                }
                Ok(answer)
            },
            |console, answer| answer.give(console),
        )
        .await
}

#[allow(clippy::too_many_arguments, reason = "each is a word of its own, and there is one caller")]
async fn deploy_stage(
    engine: &Engine,
    console: &Console,
    stage: &StageConfig,
    release: &Release,
    entered: Vec<Entered>,
    secrets: &Secrets,
    selection: &Selection,
    approvals: &[Digest],
) -> Result<StageEnd, CommandError> {
    let planning = engine.plan(&stage.name, release, stage.rollout, entered, secrets, selection.clone()).await;
    let plan = planning.plan.clone();
    if engine.stop.is_requested()
        || planning.failures() > stage.rollout.failure_tolerance.of(plan.content.targets.len())
    {
        let finished = planning.outcomes();
        let exit = stopped_or(engine, Exit::of(finished.iter().map(|(_, outcome)| outcome), 0));
        return Ok(StageEnd { answer: StageAnswer::new(&stage.name, None, exit, finished), exit, next: None });
    }
    if planning.ready.is_empty() {
        // Nothing to approve: the ledger learns of the release, and that is all.
        return Ok(execute(engine, stage, &plan, release, Ok(planning)).await);
    }
    keep(engine, &planning).await?;
    engine.events.emit(Event::Planned { plan: Box::new(plan.clone()) });
    if let Err(end) = pass_gate(engine, console, stage, &plan, approvals.to_vec()).await {
        if end.refused {
            engine.discard(planning.ready).await;
        }
        return Ok(end.stage);
    }
    let rechecked = engine.recheck(&plan, release, planning.entered(), secrets).await;
    let Planning { unchanged, settled, .. } = planning;
    let rechecked = rechecked.map(|rechecked| Planning { unchanged, settled, ..rechecked });
    Ok(execute(engine, stage, &plan, release, rechecked).await)
}

/// Keeps a plan, or clears it away where it cannot be kept: nobody could apply it.
async fn keep(engine: &Engine, planning: &Planning) -> Result<(), CommandError> {
    if let Err(fault) = engine.keep_plan(&planning.plan).await {
        engine.discard(planning.ready.clone()).await;
        return Err(fault.into());
    }
    Ok(())
}

/// Applies what was checked, or says why not.
async fn execute(
    engine: &Engine,
    stage: &StageConfig,
    plan: &Plan,
    release: &Release,
    rechecked: Result<Planning, Vec<String>>,
) -> StageEnd {
    match rechecked {
        Ok(planning) => {
            let total = plan.content.targets.len();
            let finished = engine.apply(planning, release).await;
            let exit =
                Exit::of(finished.iter().map(|(_, outcome)| outcome), plan.content.rollout.failure_tolerance.of(total));
            StageEnd { answer: StageAnswer::new(&stage.name, Some(plan), exit, finished), exit, next: None }
        }
        Err(_) if engine.stop.is_requested() => StageEnd {
            answer: StageAnswer::new(&stage.name, Some(plan), Exit::Detached, Vec::new()),
            exit: Exit::Detached,
            next: Some(CommandError::usage("the run was stopped before anything was executed").exit(Exit::Detached)),
        },
        Err(differences) => {
            let message =
                format!("plan {} is not what would happen now: {}", plan.digest.short(), differences.join("; "));
            let next = CommandError::usage(message).exit(Exit::Refused).hint("nothing was executed: plan again");
            StageEnd {
                answer: StageAnswer::new(&stage.name, Some(plan), Exit::Refused, Vec::new()),
                exit: Exit::Refused,
                next: Some(next),
            }
        }
    }
}

/// A gate that stays shut.
struct Shut {
    stage: StageEnd,
    /// Whether somebody has decided so, and the change sets are of no more use.
    refused: bool,
}

/// Asks for an approval where the stage wants one.
async fn pass_gate(
    engine: &Engine,
    console: &Console,
    stage: &StageConfig,
    plan: &Plan,
    given: Vec<Digest>,
) -> Result<(), Box<Shut>> {
    if stage.gate == Gate::Open {
        return Ok(());
    }
    let mut verdict = Given(given).decide(plan).await;
    if let (Verdict::Waiting, Some(terminal)) = (&verdict, console.terminal(&engine.events)) {
        let answer = terminal.decide(plan);
        verdict = tokio::select! {
            verdict = answer => verdict,
            () = engine.stop.requested() => Verdict::Waiting,
        };
    }
    let digest = plan.digest;
    let command = format!("`tenantry apply {digest} --approve {digest}`");
    let (exit, refused, next) = match verdict {
        Verdict::Approved(by) => {
            engine.events.emit(Event::Approved { by });
            return Ok(());
        }
        Verdict::Refused(why) => {
            (Exit::Refused, true, CommandError::usage(format!("the plan for {} was refused: {why}", stage.name)))
        }
        Verdict::Unfit(why) => {
            let error = CommandError::usage(format!("the plan for {} is not approved: {why}", stage.name));
            (Exit::Refused, false, error.hint(format!("read this plan; then {command}")))
        }
        Verdict::Waiting => {
            let error = CommandError::usage(format!("the plan for {} waits for approval", stage.name));
            (Exit::Waiting, false, error.hint(format!("read it; then {command}")))
        }
    };
    let answer = StageAnswer::new(&stage.name, Some(plan), exit, Vec::new());
    Err(Box::new(Shut { stage: StageEnd { answer, exit, next: Some(next.exit(exit)) }, refused }))
}

/// Returns what the process answers: a run that was stopped has not failed.
fn stopped_or(engine: &Engine, exit: Exit) -> Exit {
    if engine.stop.is_requested() { Exit::Detached } else { exit }
}

/// Tells whether so many accounts cannot be entered that nothing should be started.
fn is_hopeless(stage: &StageConfig, entered: &[Entered]) -> bool {
    let failures = entered.iter().filter(|entered| entered.account.is_err()).count();
    failures > stage.rollout.failure_tolerance.of(entered.len())
}

/// Ends a stage whose accounts cannot be entered, before anything was changed.
fn not_begun(engine: &Engine, stage: &StageConfig, entered: Vec<Entered>) -> StageEnd {
    let why = "nothing was changed, since too many other accounts cannot be entered";
    let end = |Entered { target, account }: Entered| {
        let outcome = match account {
            Err(failure) => Outcome::Failed(failure),
            Ok(_) => Outcome::Skipped(Failure::because(why)),
        };
        engine.events.emit(Event::Finished { target: target.id.clone(), outcome: outcome.clone() });
        (target.id, outcome)
    };
    let finished: Vec<_> = entered.into_iter().map(end).collect();
    let exit = stopped_or(engine, Exit::of(finished.iter().map(|(_, outcome)| outcome), 0));
    StageEnd { answer: StageAnswer::new(&stage.name, None, exit, finished), exit, next: None }
}
