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

use super::text::{clean, span};
use crate::domain::lifecycle::State;
use crate::domain::{Digest, Failure, Outcome, ReleaseId, StackEvent, TargetId};
use crate::engine::RolloutRecord;
use crate::event::{Event, Timed};
use crate::plan::{Class, Intent, Plan, classes, signature};

/// Events of a stack that are kept of each target: the first, the last, and whatever failed.
const EVENTS: usize = 60;

/// What targets are called that have no outcome.
const UNFINISHED: [&str; 3] = ["running", "waiting", "not-started"];

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
    /// The last moment that is known of it.
    pub last: Timestamp,
    /// Whether it ended well: done, with no more failures than are tolerated.
    pub well: bool,
    /// How many targets ended how, in the order in which totals are shown; those that have no outcome are `running`, `waiting`
    /// for another try, or `not-started`.
    pub counts: Vec<(&'static str, usize)>,
    /// The waves of the plan.
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
    /// When its first target was started, if one was.
    pub begun: Option<Timestamp>,
    /// How many targets were started.
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
    /// Where it was and until when, each time that it was started.
    pub spans: Vec<Span>,
    /// What CloudFormation has said, without some of what went well where that is much; untrusted.
    pub events: Vec<StackEvent>,
    /// How many events there were.
    pub events_in_all: usize,
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

impl Story {
    /// Returns the outcome's name, or what there is in its place.
    pub fn ending(&self) -> &'static str {
        match (&self.outcome, self.spans.last()) {
            (Some(outcome), _) => outcome.name(),
            (None, Some(Span { to: None, .. })) => UNFINISHED[0],
            (None, Some(_)) => UNFINISHED[1],
            (None, None) => UNFINISHED[2],
        }
    }

    /// Returns when it was started and when it was last in work, as far as that is known.
    pub fn time(&self) -> Option<(Timestamp, Option<Timestamp>)> {
        Some((self.spans.first()?.from, self.spans.last()?.to))
    }

    /// Returns for how many seconds it was in work, without what was between two tries; none where it was not, or still is.
    pub fn took(&self) -> Option<u64> {
        let seconds = |span: &Span| Some(span.to?.duration_since(span.from).as_secs_f64());
        let all: Option<f64> = self.spans.iter().map(seconds).sum();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is some hours at most")]
        all.filter(|_| !self.spans.is_empty()).map(|seconds| seconds.max(0.0) as u64)
    }

    /// Returns why it has not ended well, where there is a why.
    fn failure(&self) -> Option<&Failure> {
        self.outcome.as_ref().and_then(Outcome::failure)
    }

    /// Tells whether somebody should look at it.
    fn needs_a_look(&self) -> bool {
        self.outcome.is_none() || self.failure().is_some()
    }

    fn has_failed(&self) -> bool {
        self.outcome.as_ref().is_some_and(Outcome::is_failure)
    }

    /// Takes note of an event. Where there are too many, one from the middle goes that tells of no failure.
    fn tell(&mut self, event: StackEvent) {
        // A look that was repeated after a crash tells some of them again.
        if self.events.iter().any(|told| told.id == event.id) {
            return;
        }
        self.events_in_all += 1;
        if self.events.len() >= EVENTS {
            let order = (0..EVENTS / 2).flat_map(|away| [EVENTS / 2 - away, EVENTS / 2 + away]);
            let place =
                order.filter(|place| *place < self.events.len()).find(|place| !self.events[*place].has_failed());
            self.events.remove(place.unwrap_or(EVENTS / 2));
        }
        self.events.push(event);
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
                outcome: match (&target.intent, &target.pin) {
                    (Intent::Pinned, Some(pin)) => Some(Outcome::Pinned { pin: pin.clone() }),
                    _ => None,
                },
                spans: Vec::new(),
                events: Vec::new(),
                events_in_all: 0,
            })
            .collect();
        let index: HashMap<TargetId, usize> =
            stories.iter().enumerate().map(|(number, story)| (story.target.clone(), number)).collect();
        let (mut notices, mut last) = (Vec::new(), begun);
        for Timed { time, event } in journal {
            let target = match &event {
                Event::Moved { target, .. } | Event::Stack { target, .. } | Event::Finished { target, .. } => target,
                Event::Notice { message } => {
                    notices.push(clean(message));
                    continue;
                }
                _ => continue,
            };
            last = last.max(time);
            let Some(story) = index.get(target).map(|number| &mut stories[*number]) else { continue };
            match event {
                Event::Moved { to, .. } => {
                    if let Some(open) = story.spans.last_mut().filter(|span| span.to.is_none()) {
                        open.to = Some(time);
                    }
                    if matches!(to, State::Executing | State::Verifying) {
                        // How an earlier try ended, or a run that was stopped, is not how it ends.
                        story.outcome = None;
                        story.spans.push(Span { state: to, from: time, to: None });
                    }
                }
                Event::Stack { stack_event, .. } => {
                    story.tell(StackEvent { time: stack_event.time.or(Some(time)), ..stack_event });
                }
                Event::Finished { outcome, .. } => {
                    if let Some(open) = story.spans.last_mut().filter(|span| span.to.is_none()) {
                        open.to = Some(time);
                    }
                    story.outcome = Some(outcome);
                }
                _ => {}
            }
        }
        // What was gone on with since has ended otherwise, or not yet.
        let end = end.filter(|end| last <= end.ended);
        for ended in end.iter().flat_map(|end| &end.targets) {
            if let Some(number) = index.get(&ended.target) {
                stories[*number].outcome = Some(ended.outcome.clone());
            }
        }
        let (waves, causes, counts) = (waves(plan, &stories), causes(plan, &stories), counts(&stories));
        let all_is_well = !stories.iter().any(Story::needs_a_look);
        stories.sort_by_key(|story| (!story.has_failed(), !story.needs_a_look(), story.wave, story.target.clone()));
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
            last: end.map_or(last, |end| end.ended),
            well: end.is_some_and(|end| end.well.unwrap_or(all_is_well)),
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
        self.targets.iter().filter(|story| story.has_failed()).count()
    }

    /// Says in a few words how it went.
    pub fn verdict(&self) -> String {
        let counts: Vec<String> = self.counts.iter().map(|(name, number)| format!("{number} {name}")).collect();
        counts.join(", ")
    }

    /// Returns how long it took, for people.
    fn took(&self) -> String {
        between(self.begun, self.last)
    }

    /// Returns the name of a wave.
    fn wave_name(&self, number: u32) -> String {
        let known = self.waves.get(number as usize);
        known.map_or_else(|| format!("wave {}", number + 1), |wave| clean(&wave.name))
    }

    /// Returns when the last target of a wave was done with, before the next wave was begun: what is tried again at the end
    /// is not counted.
    fn wave_end(&self, number: usize) -> Timestamp {
        let next = self.waves.iter().skip(number + 1).find_map(|wave| wave.begun).unwrap_or(self.last);
        let spans = self.targets.iter().filter(|story| story.wave as usize == number).flat_map(|story| &story.spans);
        let ends = spans.filter(|span| span.from <= next).map(|span| span.to.unwrap_or(self.last).min(next));
        ends.max().unwrap_or(self.begun)
    }
}

/// Returns the time between two moments, for people.
fn between(from: Timestamp, to: Timestamp) -> String {
    span(to.duration_since(from).as_secs().try_into().unwrap_or(0))
}

/// Names some targets and counts the rest.
fn named(targets: &[TargetId], most: usize) -> String {
    let mut names: Vec<String> = targets.iter().take(most).map(ToString::to_string).collect();
    if targets.len() > most {
        names.push(format!("and {} more", targets.len() - most));
    }
    names.join(", ")
}

fn counts(stories: &[Story]) -> Vec<(&'static str, usize)> {
    let mut counts: BTreeMap<&'static str, usize> = BTreeMap::new();
    for story in stories {
        *counts.entry(story.ending()).or_default() += 1;
    }
    let names = Outcome::NAMES.into_iter().chain(UNFINISHED);
    names.filter_map(|name| Some((name, counts.get(name).copied()?))).collect()
}

/// Returns the waves of a plan: by their numbers, which is not how often or in which order they were begun.
fn waves(plan: &Plan, stories: &[Story]) -> Vec<Wave> {
    let policies = &plan.content.rollout.waves;
    let names: Vec<String> = match policies.as_slice() {
        [] => vec!["all".to_owned()],
        policies => policies.iter().map(|wave| wave.name.clone()).collect(),
    };
    let mut waves: Vec<Wave> = names.into_iter().map(|name| Wave { name, begun: None, targets: 0 }).collect();
    for story in stories {
        let (Some((from, _)), Some(wave)) = (story.time(), waves.get_mut(story.wave as usize)) else { continue };
        wave.targets += 1;
        wave.begun = Some(wave.begun.map_or(from, |begun| begun.min(from)));
    }
    waves
}

/// Groups what went wrong by what it has in common.
fn causes(plan: &Plan, stories: &[Story]) -> Vec<Cause> {
    let contents: HashMap<&TargetId, _> = plan.content.targets.iter().map(|one| (&one.target, one)).collect();
    let mut causes: BTreeMap<String, Cause> = BTreeMap::new();
    for story in stories.iter().filter(|story| story.has_failed()) {
        let (Some(failure), Some(content)) = (story.failure(), contents.get(&story.target)) else { continue };
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
    use std::time::Duration;

    use super::*;
    use crate::plan::tests::{plan, target};
    use crate::plan::{Intent, TargetContent};
    use crate::source::Document;

    const HOSTILE: &str =
        "</script><script>alert(1)</script> | `x` @everyone ::error::y ##[add-mask]z https://evil.example \u{1b}[31m";

    /// A rollout to so many targets, of which each tenth fails, in its own words where they are hostile.
    pub(super) fn chronicle(targets: usize, reason: &str) -> Chronicle {
        let names: Vec<String> = (0..targets).map(|number| format!("t{number:05}")).collect();
        let mut plan = plan(
            (0..)
                .zip(&names)
                .map(|(number, name)| TargetContent {
                    wave: u32::from(number > 0),
                    ..target(name, Intent::Create(Vec::new()))
                })
                .collect(),
        );
        plan.content.rollout.waves = waves_of_two();
        let start = Timestamp::UNIX_EPOCH;
        let at = |millis: i64| start + jiff::SignedDuration::from_millis(millis);
        let mut journal = Vec::new();
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
        let long = HOSTILE.repeat(60);
        for targets in [2, 400, 10_000] {
            let chronicle = chronicle(targets, &long);
            let text = in_markdown(&chronicle);
            // GitHub takes a mebibyte a step.
            assert!(text.len() < 256 << 10, "{} bytes", text.len());
            assert!(!text.contains("<script") && !text.contains("https://") && !text.contains("@everyone"), "{text}");
            assert!(text.contains("```mermaid"));
            let annotations = annotations(&chronicle, &[Document::new(Path::new("t.yaml"), "Resources: {}\n".into())]);
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
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_secs(seconds)
    }

    fn moved(target: &TargetId, seconds: i64, to: State) -> Timed {
        Timed { time: at(seconds), event: Event::Moved { target: target.clone(), from: State::Planned, to } }
    }

    fn finished(target: &TargetId, seconds: i64, outcome: Outcome) -> Timed {
        Timed { time: at(seconds), event: Event::Finished { target: target.clone(), outcome } }
    }

    fn waves_of_two() -> Vec<crate::domain::Wave> {
        ["canary", "rest"]
            .map(|name| crate::domain::Wave { name: name.into(), bake: Duration::ZERO, failure_tolerance: None })
            .into()
    }

    /// A plan of a canary and two others, and their names.
    fn three() -> (Plan, Vec<TargetId>) {
        let of = |name, wave| TargetContent { wave, ..target(name, Intent::Create(Vec::new())) };
        let mut plan = plan(vec![of("a", 0), of("b", 1), of("c", 1)]);
        plan.content.rollout.waves = waves_of_two();
        let ids = plan.content.targets.iter().map(|one| one.target.clone()).collect();
        (plan, ids)
    }

    fn told(plan: &Plan, journal: Vec<Timed>, end: Option<&RolloutRecord>) -> Chronicle {
        Chronicle::new("x", plan, Timestamp::UNIX_EPOCH, String::new(), journal, end)
    }

    #[test]
    fn what_was_interrupted_has_no_end_and_calls_nothing_otherwise() {
        let (plan, ids) = three();
        let journal = vec![
            moved(&ids[0], 0, State::Executing),
            finished(&ids[0], 5, Outcome::Deployed),
            moved(&ids[1], 6, State::Executing),
        ];
        let stopped = told(&plan, journal, None);
        assert_eq!(stopped.counts, [("deployed", 1), ("running", 1), ("not-started", 1)]);
        assert!(stopped.ended.is_none() && !stopped.well);
        assert!(in_markdown(&stopped).starts_with("## ⏸️"));
    }

    /// A run that was stopped has ended; who goes on from it ends it otherwise.
    #[test]
    fn an_older_end_is_none_of_what_was_gone_on_with() {
        let (plan, ids) = three();
        let detached = || Outcome::Detached(Failure::because("stopped"));
        let record = |seconds, outcome: Outcome| RolloutRecord {
            id: "x".into(),
            stage: "prod".into(),
            release: plan.content.release.clone(),
            origin: plan.content.origin.clone(),
            plan: plan.digest,
            by: crate::domain::Identity { principal: "p".into(), source_identity: None },
            fence: 1,
            begun: at(0),
            ended: at(seconds),
            well: Some(matches!(outcome, Outcome::Deployed)),
            exit: None,
            targets: ids
                .iter()
                .map(|target| crate::engine::EndedTarget { target: target.clone(), outcome: outcome.clone() })
                .collect(),
        };
        let mut journal = vec![moved(&ids[0], 0, State::Executing), finished(&ids[0], 5, detached())];
        let stopped = told(&plan, journal.clone(), Some(&record(6, detached())));
        assert_eq!((stopped.counts.as_slice(), stopped.well), ([("detached", 3)].as_slice(), false));
        assert!(in_markdown(&stopped).starts_with("## ❌"), "nothing has failed, and it is not well");
        journal.push(moved(&ids[0], 100, State::Executing));
        assert_eq!(
            told(&plan, journal.clone(), Some(&record(6, detached()))).counts,
            [("running", 1), ("not-started", 2)]
        );
        journal.extend(ids.iter().map(|id| finished(id, 110, Outcome::Deployed)));
        let done = told(&plan, journal, Some(&record(111, Outcome::Deployed)));
        assert_eq!((done.counts.as_slice(), done.well), ([("deployed", 3)].as_slice(), true));
    }

    /// What is tried again took as long as both tries, and its wave has ended before.
    #[test]
    fn waves_and_times_are_those_of_the_targets() {
        let (plan, ids) = three();
        let journal = vec![
            moved(&ids[0], 0, State::Executing),
            moved(&ids[0], 20, State::Planned),
            moved(&ids[1], 30, State::Executing),
            finished(&ids[1], 60, Outcome::Deployed),
            moved(&ids[0], 7200, State::Executing),
            finished(&ids[0], 7210, Outcome::Deployed),
        ];
        let chronicle = told(&plan, journal, None);
        let names: Vec<_> = chronicle.waves.iter().map(|wave| (wave.name.as_str(), wave.begun, wave.targets)).collect();
        assert_eq!(names, [("canary", Some(at(0)), 1), ("rest", Some(at(30)), 1)]);
        assert_eq!(chronicle.wave_end(0), at(20));
        let story = chronicle.targets.iter().find(|story| story.target == ids[0]).unwrap();
        assert_eq!(story.took(), Some(30));
        // A wave of which nothing had to be started has its name all the same.
        let journal = vec![moved(&ids[1], 0, State::Executing), finished(&ids[1], 5, Outcome::Deployed)];
        let chronicle = told(&plan, journal, None);
        assert_eq!((chronicle.wave_name(1).as_str(), chronicle.waves[0].begun), ("rest", None));
        assert!(junit(&chronicle).unwrap().contains("<testsuite name=\"rest\""));
    }

    #[test]
    fn of_many_events_the_failure_is_kept() {
        let (plan, ids) = three();
        let event = |number: i64| {
            let status = if number == 41 { "UPDATE_FAILED" } else { "UPDATE_COMPLETE" };
            let stack_event = StackEvent {
                id: number.to_string(),
                time: Some(at(number)),
                logical_id: format!("R{number}"),
                physical_id: None,
                resource_type: "T".into(),
                status: status.into(),
                reason: None,
                is_stack: false,
                token: None,
            };
            Timed { time: at(number), event: Event::Stack { target: ids[0].clone(), stack_event } }
        };
        let chronicle = told(&plan, (0..200).map(event).collect(), None);
        let story = chronicle.targets.iter().find(|story| story.target == ids[0]).unwrap();
        assert_eq!((story.events.len(), story.events_in_all), (EVENTS, 200));
        assert!(story.events.iter().any(StackEvent::has_failed), "{:?}", story.events);
        assert!(page(&chronicle).contains("UPDATE_FAILED"));
        // Each has its time once.
        assert!(!serde_json::to_string(&story.events[0]).unwrap().contains("null,\"time\""));
    }

    #[test]
    fn a_page_is_bounded_where_each_target_fails_for_its_own_reason() {
        let names: Vec<String> = (0..2000).map(|number| format!("t{number:05}")).collect();
        let plan = plan(names.iter().map(|name| target(name, Intent::Create(Vec::new()))).collect());
        let reason =
            |number: usize| format!("{}{}", "x".repeat(number % 7), "long ".repeat(180)) + &"q".repeat(number % 1999);
        let failed = |number: usize| Outcome::Failed(Failure::because(reason(number)));
        let journal = plan
            .content
            .targets
            .iter()
            .enumerate()
            .map(|(number, one)| finished(&one.target, 1, failed(number)))
            .collect();
        let chronicle = told(&plan, journal, None);
        assert!(chronicle.causes.len() > 1000, "{}", chronicle.causes.len());
        let page = page(&chronicle);
        assert!(page.len() < 2 << 20, "{} bytes", page.len());
        assert!(in_markdown(&chronicle).len() < 256 << 10);
    }
}
