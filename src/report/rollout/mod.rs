//! A rollout as its records tell it, long after: for people, for test reports, for machines.

mod annotations;
mod junit;
mod page;
mod summary;

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use serde::Serialize;

pub use annotations::annotations;
pub use junit::junit;
pub use page::page;
pub use summary::{in_markdown, in_text};

use super::text::clean;
use crate::domain::lifecycle::State;
use crate::domain::{Digest, Outcome, ReleaseId, StackEvent, TargetId};
use crate::engine::RolloutRecord;
use crate::event::{Event, Timed};
use crate::plan::{Class, Plan, classes, signature};

/// Events of a stack that are kept of each target: of a stack with hundreds of resources the first and the last tell most.
const EVENTS: usize = 60;

/// A rollout from its beginning to its end, or to where it is known.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Chronicle {
    /// The rollout's name.
    pub rollout: String,
    /// The application.
    pub application: String,
    /// The stage.
    pub stage: String,
    /// The release.
    pub release: ReleaseId,
    /// How the release came to the stage.
    pub origin: String,
    /// The plan that was executed.
    pub plan: Digest,
    /// Who ran it.
    pub by: String,
    /// When it began.
    pub begun: Timestamp,
    /// When it ended; none where it was interrupted, or goes on.
    pub ended: Option<Timestamp>,
    /// How many targets ended how, in the order in which totals are shown; `running` of those that have no outcome.
    pub counts: Vec<(&'static str, usize)>,
    /// The waves, as they began.
    pub waves: Vec<Wave>,
    /// What failures have in common, the most frequent first.
    pub causes: Vec<Cause>,
    /// The plan's classes.
    pub classes: Vec<Class>,
    /// Every target, those that need a look first.
    pub targets: Vec<Story>,
    /// What else was said.
    pub notices: Vec<String>,
}

/// A wave of a rollout.
#[derive(Debug, Clone, Serialize)]
pub struct Wave {
    /// Its name.
    pub name: String,
    /// When it began.
    pub begun: Timestamp,
    /// How many targets it executes.
    pub targets: usize,
}

/// Failures with the same signature.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Cause {
    /// The type of the resource and the reason, without what is a target's own; untrusted.
    pub signature: String,
    /// The resource, where it is the same everywhere.
    pub resource: Option<String>,
    /// What to do.
    pub hint: Option<String>,
    /// The targets.
    pub targets: Vec<TargetId>,
}

/// What happened in one target.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Story {
    /// The target.
    #[serde(flatten)]
    pub target: TargetId,
    /// Its account.
    pub account: String,
    /// Its stack.
    pub stack: String,
    /// The wave that it belongs to, counted from 0.
    pub wave: u32,
    /// Its class in the plan.
    pub class: Option<usize>,
    /// How it ended, if it did.
    #[serde(flatten)]
    pub outcome: Option<Outcome>,
    /// Where it was and until when, from when it was started.
    pub spans: Vec<Span>,
    /// What CloudFormation has said, the first and the last of it; untrusted.
    pub events: Vec<Told>,
}

/// How long a target was in a state.
#[derive(Debug, Clone, Serialize)]
pub struct Span {
    /// The state.
    pub state: State,
    /// Since when.
    pub from: Timestamp,
    /// Until when; none where that is not known.
    pub to: Option<Timestamp>,
}

/// An event of a stack.
#[derive(Debug, Clone, Serialize)]
pub struct Told {
    /// When CloudFormation says that it happened.
    pub time: Timestamp,
    /// The event; its texts are untrusted.
    #[serde(flatten)]
    pub event: StackEvent,
}

impl Story {
    /// Returns the outcome's name, or that there is none.
    pub fn ending(&self) -> &'static str {
        self.outcome.as_ref().map_or("running", Outcome::name)
    }

    /// Returns when it was started and when it ended, as far as that is known.
    pub fn time(&self) -> Option<(Timestamp, Option<Timestamp>)> {
        Some((self.spans.first()?.from, self.spans.last()?.to))
    }

    /// Tells whether somebody should look at it.
    fn needs_a_look(&self) -> bool {
        self.outcome.as_ref().is_none_or(|outcome| outcome.failure().is_some())
    }
}

impl Chronicle {
    /// Puts a rollout together from its plan, its journal and, where it has ended, its record.
    pub fn new(
        rollout: &str,
        plan: &Plan,
        begun: Timestamp,
        by: String,
        journal: Vec<Timed>,
        end: Option<&RolloutRecord>,
    ) -> Self {
        let content = &plan.content;
        let classes = classes(content);
        let mut stories: Vec<Story> = content
            .targets
            .iter()
            .map(|target| Story {
                target: target.target.clone(),
                account: target.account.to_string(),
                stack: target.stack.clone(),
                wave: target.wave,
                class: classes.iter().position(|class| class.targets.contains(&target.target)),
                outcome: None,
                spans: Vec::new(),
                events: Vec::new(),
            })
            .collect();
        let index: HashMap<TargetId, usize> =
            stories.iter().enumerate().map(|(number, story)| (story.target.clone(), number)).collect();
        let (mut waves, mut notices) = (Vec::new(), Vec::new());
        for Timed { time, event } in journal {
            let at = |target: &TargetId| index.get(target).copied();
            match event {
                Event::WaveStarted { wave, targets } => waves.push(Wave { name: wave, begun: time, targets }),
                Event::Notice { message } => notices.push(clean(&message)),
                Event::Moved { target, to, .. } => {
                    let Some(number) = at(&target) else { continue };
                    let spans = &mut stories[number].spans;
                    if let Some(last) = spans.last_mut().filter(|last| last.to.is_none()) {
                        last.to = Some(time);
                    }
                    if matches!(to, State::Executing | State::Verifying) {
                        spans.push(Span { state: to, from: time, to: None });
                    }
                }
                Event::Stack { target, stack_event } => {
                    let Some(number) = at(&target) else { continue };
                    let events = &mut stories[number].events;
                    // A look that was repeated after a crash tells some of them again.
                    if events.iter().rev().take(EVENTS).any(|told| told.event.id == stack_event.id) {
                        continue;
                    }
                    if events.len() == EVENTS {
                        events.remove(EVENTS / 2);
                    }
                    events.push(Told { time: stack_event.time.unwrap_or(time), event: stack_event });
                }
                Event::Finished { target, outcome } => {
                    let Some(number) = at(&target) else { continue };
                    if let Some(last) = stories[number].spans.last_mut().filter(|last| last.to.is_none()) {
                        last.to = Some(time);
                    }
                    stories[number].outcome = Some(outcome);
                }
                _ => {}
            }
        }
        for ended in end.iter().flat_map(|end| &end.targets) {
            if let Some(number) = index.get(&ended.target) {
                stories[*number].outcome = Some(ended.outcome.clone());
            }
        }
        let causes = causes(plan, &stories);
        let counts = counts(&stories);
        stories.sort_by_key(|story| {
            let fails = story.outcome.as_ref().is_some_and(Outcome::is_failure);
            (!fails, !story.needs_a_look(), story.wave, story.target.clone())
        });
        Self {
            rollout: rollout.to_owned(),
            application: content.application.clone(),
            stage: content.stage.clone(),
            release: content.release.clone(),
            origin: content.origin.to_string(),
            plan: plan.digest,
            by,
            begun,
            ended: end.map(|end| end.ended),
            counts,
            waves,
            causes,
            classes,
            targets: stories,
            notices,
        }
    }

    /// Returns how many targets have failed.
    pub fn failures(&self) -> usize {
        self.targets.iter().filter(|story| story.outcome.as_ref().is_some_and(Outcome::is_failure)).count()
    }

    /// Says in a few words how it went.
    pub fn verdict(&self) -> String {
        let counts: Vec<String> = self.counts.iter().map(|(name, number)| format!("{number} {name}")).collect();
        counts.join(", ")
    }

    /// Returns the name of a wave.
    fn wave_name(&self, number: u32) -> String {
        let known = self.waves.get(number as usize);
        known.map_or_else(|| format!("wave {}", number + 1), |wave| clean(&wave.name))
    }

    /// Returns the last moment that is known of it.
    pub fn last(&self) -> Timestamp {
        let known = self.targets.iter().flat_map(|story| &story.spans).flat_map(|span| [Some(span.from), span.to]);
        self.ended.into_iter().chain(known.flatten()).chain([self.begun]).max().unwrap_or(self.begun)
    }
}

fn counts(stories: &[Story]) -> Vec<(&'static str, usize)> {
    let mut counts: BTreeMap<&'static str, usize> = BTreeMap::new();
    for story in stories {
        *counts.entry(story.ending()).or_default() += 1;
    }
    let names = Outcome::NAMES.into_iter().chain(["running"]);
    names.filter_map(|name| Some((name, counts.get(name).copied()?))).collect()
}

/// Groups what went wrong by what it has in common.
fn causes(plan: &Plan, stories: &[Story]) -> Vec<Cause> {
    let contents: HashMap<&TargetId, _> = plan.content.targets.iter().map(|one| (&one.target, one)).collect();
    let mut causes: BTreeMap<String, Cause> = BTreeMap::new();
    for story in stories {
        let Some(outcome) = story.outcome.as_ref().filter(|outcome| outcome.is_failure()) else { continue };
        let (Some(failure), Some(content)) = (outcome.failure(), contents.get(&story.target)) else { continue };
        let signature = clean(&signature(content, failure));
        let cause = causes.entry(signature.clone()).or_insert_with(|| Cause {
            signature,
            resource: failure.resource.clone(),
            hint: failure.hint.clone(),
            targets: Vec::new(),
        });
        if cause.resource != failure.resource {
            cause.resource = None;
        }
        cause.targets.push(story.target.clone());
    }
    let mut causes: Vec<Cause> = causes.into_values().collect();
    causes.sort_by_key(|cause| std::cmp::Reverse(cause.targets.len()));
    causes
}
