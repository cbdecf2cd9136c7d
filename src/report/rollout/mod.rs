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
        let class_of: HashMap<&TargetId, usize> = (0..)
            .zip(&classes)
            .flat_map(|(number, class)| class.targets.iter().map(move |target| (target, number)))
            .collect();
        let mut stories: Vec<Story> = content
            .targets
            .iter()
            .map(|target| Story {
                target: target.target.clone(),
                account: target.account.to_string(),
                stack: target.stack.clone(),
                wave: target.wave,
                class: class_of.get(&target.target).copied(),
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::domain::Failure;
    use crate::plan::tests::{plan, target};
    use crate::plan::{Intent, TargetContent};
    use crate::source::Document;

    const HOSTILE: &str =
        "</script><script>alert(1)</script> | `x` @everyone ::error::y ##[add-mask]z https://evil.example \u{1b}[31m";

    /// A rollout to so many targets, of which each tenth fails, in its own words where they are hostile.
    fn chronicle(targets: usize, reason: &str) -> Chronicle {
        let names: Vec<String> = (0..targets).map(|number| format!("t{number:05}")).collect();
        let plan = plan(
            (0..)
                .zip(&names)
                .map(|(number, name)| TargetContent {
                    wave: u32::from(number > 0),
                    ..target(name, Intent::Create(Vec::new()))
                })
                .collect(),
        );
        let start = Timestamp::UNIX_EPOCH;
        let at = |millis: i64| start + jiff::SignedDuration::from_millis(millis);
        let wave = |wave: &str, targets, millis| Timed {
            time: at(millis),
            event: Event::WaveStarted { wave: wave.into(), targets },
        };
        let mut journal = vec![wave("canary", 1, 0), wave("rest", targets - 1, 800)];
        for (number, one) in plan.content.targets.iter().enumerate() {
            let number = i64::try_from(number).unwrap();
            let (from, target) =
                (number / 50 * 900 + number % 50 * 7 + i64::from(number > 0) * 800, one.target.clone());
            let moved = |time, from, to| Timed { time, event: Event::Moved { target: target.clone(), from, to } };
            journal.push(moved(at(from), State::Planned, State::Executing));
            let fails = number % 10 == 3;
            for step in 0..6 {
                let stack_event = StackEvent {
                    id: format!("{number}-{step}"),
                    time: Some(at(from + step * 100)),
                    logical_id: if step == 5 { "Stack".into() } else { format!("Resource{step}") },
                    physical_id: None,
                    resource_type: "AWS::Lambda::Function".into(),
                    status: if fails && step == 4 { "CREATE_FAILED" } else { "CREATE_COMPLETE" }.into(),
                    reason: (fails && step == 4).then(|| reason.to_owned()),
                    is_stack: step == 5,
                    token: None,
                };
                let event = Event::Stack { target: target.clone(), stack_event };
                journal.push(Timed { time: at(from + step * 100), event });
            }
            journal.push(moved(at(from + 650), State::Executing, State::Verifying));
            let failure = Failure {
                resource: Some(format!("Resource{}", number % 3)),
                resource_type: Some("AWS::Lambda::Function".into()),
                reason: format!("{reason} {}", ["limit exceeded", "already exists"][usize::from(number % 4 == 1)]),
                hint: Some("look".into()),
            };
            let outcome = if fails { Outcome::RolledBack(failure) } else { Outcome::Deployed };
            journal.push(Timed { time: at(from + 800), event: Event::Finished { target, outcome } });
        }
        Chronicle::new("20261126T000000Z-prod-abcdef", &plan, start, "arn:aws:iam::1:user/x".into(), journal, None)
    }

    /// Where PAGES names a folder, pages of several sizes are written there, to be looked at.
    #[test]
    fn a_page_is_of_a_bounded_size_and_lets_nothing_out_of_its_place() {
        for targets in [2, 400] {
            let page = page(&chronicle(targets, HOSTILE));
            assert_eq!(page.matches("<script").count(), 2, "only its own");
            assert!(!page.contains("alert(1)</script>"));
        }
        let said = "Resource handler returned message: \"The function's role cannot be assumed\" (HandlerErrorCode: InvalidRequest)";
        for targets in [2, 400, 10_000] {
            let page = page(&chronicle(targets, said));
            assert!(page.len() < 4 << 20, "{} bytes", page.len());
            if let Ok(folder) = std::env::var("PAGES") {
                std::fs::write(Path::new(&folder).join(format!("{targets}.html")), page).unwrap();
            }
        }
    }

    #[test]
    fn a_summary_is_of_a_bounded_size_and_says_nothing_of_its_own() {
        let long = HOSTILE.repeat(300);
        for targets in [2, 400, 10_000] {
            let chronicle = chronicle(targets, &long);
            let text = in_markdown(&chronicle);
            // GitHub takes a mebibyte a step.
            assert!(text.len() < 256 << 10, "{} bytes", text.len());
            assert!(!text.contains("<script") && !text.contains("https://") && !text.contains("@everyone"), "{text}");
            assert!(text.contains("```mermaid"));
            let annotations = annotations(&chronicle, &Document::new(Path::new("t.yaml"), "Resources: {}\n".into()));
            assert!(annotations.lines().count() <= 10);
            assert!(annotations.lines().all(|line| line.starts_with("::error ")), "a line is a command");
        }
    }

    #[test]
    fn failures_are_told_by_what_they_have_in_common() {
        let chronicle = chronicle(400, "no room");
        assert_eq!(chronicle.counts, [("deployed", 360), ("rolled-back", 40)]);
        assert_eq!(chronicle.failures(), 40);
        assert_eq!(chronicle.causes.iter().map(|cause| cause.targets.len()).sum::<usize>(), 40);
        assert_eq!(chronicle.causes.len(), 2, "{:?}", chronicle.causes);
        assert!(chronicle.targets[..40].iter().all(|story| story.ending() == "rolled-back"));
        let story = &chronicle.targets[0];
        assert_eq!((story.spans.len(), story.events.len()), (2, 6));
        // What was interrupted has no end, and those that it did not come to are not called anything else.
        let mut journal = vec![];
        let plan = plan(vec![target("a", Intent::Create(Vec::new()))]);
        let moved =
            Event::Moved { target: plan.content.targets[0].target.clone(), from: State::Planned, to: State::Executing };
        journal.push(Timed { time: Timestamp::UNIX_EPOCH, event: moved });
        let stopped = Chronicle::new("x", &plan, Timestamp::UNIX_EPOCH, String::new(), journal, None);
        assert_eq!((stopped.counts, stopped.ended), (vec![("running", 1)], None));
    }
}
