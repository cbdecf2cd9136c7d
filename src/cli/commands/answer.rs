//! How stages ended, for people, for machines and for the next step of a workflow.

use serde::Serialize;

use crate::cli::console::Console;
use crate::cli::error::CommandError;
use crate::config::{StageConfig, StoreConfig};
use crate::domain::{Digest, Exit, Outcome, Release, ReleaseId, Tally, TargetId};
use crate::plan::{Plan, classes, headline, summary};
use crate::report;
use crate::report::text::{clean, shorten};

/// How one stage ended, as `--output json` tells it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct StageAnswer {
    /// The stage's name.
    pub stage: String,
    /// The plan, if there was one.
    pub plan_digest: Option<Digest>,
    /// The rollout, if there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollout: Option<String>,
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
    /// Which target.
    #[serde(flatten)]
    pub target: TargetId,
    /// How it ended.
    #[serde(flatten)]
    pub outcome: Outcome,
}

impl StageAnswer {
    /// Puts an answer together.
    pub fn new(stage: &str, plan: Option<&Plan>, exit: Exit, finished: Vec<(TargetId, Outcome)>) -> Self {
        Self {
            stage: stage.to_owned(),
            plan_digest: plan.map(|plan| plan.digest),
            rollout: None,
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
pub struct Answer {
    release: ReleaseId,
    stages: Vec<StageAnswer>,
    /// What the process answers.
    #[serde(skip)]
    pub exit: Exit,
    /// What the reader has to do next, where the run waits for somebody.
    #[serde(skip)]
    next: Option<CommandError>,
}

impl Answer {
    /// An answer to which stages are added.
    pub fn new(release: &Release) -> Self {
        Self { release: release.id.clone(), stages: Vec::new(), exit: Exit::Done, next: None }
    }

    /// Takes a stage's end, and tells whether the next stage may begin.
    pub fn add(&mut self, stage: StageEnd) -> bool {
        let StageEnd { answer, exit, next } = stage;
        self.stages.push(answer);
        self.exit = if exit == Exit::Done { self.exit } else { exit };
        self.next = next;
        matches!(exit, Exit::Done | Exit::Tolerated)
    }

    /// Writes the answer, and returns what the process answers.
    pub fn give(self, console: &Console) -> Result<Exit, CommandError> {
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
pub struct StageEnd {
    /// How its targets ended.
    pub answer: StageAnswer,
    /// What the process would answer for it alone.
    pub exit: Exit,
    /// What the reader has to do next, where the stage waits for somebody or was refused.
    pub next: Option<CommandError>,
}

impl StageEnd {
    /// A stage in which this run had nothing to do.
    pub fn empty(stage: &StageConfig, plan: &Plan) -> Self {
        Self { answer: StageAnswer::new(&stage.name, Some(plan), Exit::Done, Vec::new()), exit: Exit::Done, next: None }
    }

    /// A stage in which nothing was executed, with what the reader has to do next.
    pub fn idle(stage: &StageConfig, plan: Option<&Plan>, exit: Exit, next: CommandError) -> Self {
        let answer = StageAnswer::new(&stage.name, plan, exit, Vec::new());
        Self { answer, exit, next: Some(next.exit(exit)) }
    }
}

/// Writes what workflows take from step to step.
pub fn outputs(console: &Console, release: &ReleaseId, stages: &[StageAnswer]) -> Result<(), CommandError> {
    let mut values = vec![("release", release.to_string())];
    let mut planned = stages.iter().rev().filter(|stage| stage.has_changes);
    if let Some(digest) = planned.find_map(|stage| stage.plan_digest) {
        values.push(("plan-digest", digest.to_string()));
    }
    // One a stage: whoever wants all of them reads all lines, and of equal keys workflows take the last.
    values.extend(stages.iter().filter_map(|stage| Some(("rollout", stage.rollout.clone()?))));
    values.push(("has-changes", stages.iter().any(|stage| stage.has_changes).to_string()));
    for name in Outcome::NAMES {
        values.push((name, stages.iter().map(|stage| stage.counts.count(name)).sum::<usize>().to_string()));
    }
    Ok(console.outputs(&values)?)
}

/// CodePipeline shows at most so many characters of an approval action's comment.
const SUMMARY: usize = 512;

/// Writes what an approval action shows: the plan in a few words, and where to read it.
pub fn plan_outputs(console: &Console, plan: &Plan, store: &StoreConfig) -> Result<(), CommandError> {
    if !console.has_outputs() {
        return Ok(());
    }
    let classes = classes(&plan.content);
    let mut text = format!(
        "plan {} of release {} for {}: {}",
        plan.digest,
        plan.content.release,
        plan.content.stage,
        headline(&classes)
    );
    for line in summary(&classes) {
        text.push_str("; ");
        text.push_str(&line);
    }
    let key = format!("tenantry/{}/plans/{}.json", plan.content.application, plan.digest);
    let region = &store.region;
    let domain = match region.partition() {
        "aws-cn" => "console.amazonaws.cn",
        "aws-us-gov" => "console.amazonaws-us-gov.com",
        _ => "console.aws.amazon.com",
    };
    let link = format!("https://{region}.{domain}/s3/object/{}?region={region}&prefix={key}", store.bucket);
    let text = shorten(&clean(&text), SUMMARY);
    Ok(console.outputs(&[("plan-summary", text), ("plan-link", link)])?)
}
