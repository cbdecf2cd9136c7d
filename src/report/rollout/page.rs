//! A rollout as one page that needs nothing but a browser: no other file, no network, and no script for its first screen.

use jiff::Timestamp;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde_json::{Value, json};

use super::{Chronicle, Story};
use crate::domain::lifecycle::State;
use crate::domain::{Outcome, TargetId};
use crate::plan::{Class, headline};
use crate::report::text::{clean, count, span};

/// Rows that are there without the script; it shows as many at a time.
const ROWS: usize = 100;
/// Targets that are named with a cause or a class.
const NAMED: usize = 100;
/// Up to so many targets each has its events in the page; of more, only those that need a look, and no more than that.
const WITH_EVENTS: usize = 500;
/// Events of a target that are in the page.
const EVENTS: usize = 30;

/// Returns the page.
pub fn page(chronicle: &Chronicle) -> String {
    let Chronicle { rollout, application, stage, release, by, begun, ended, plan, .. } = chronicle;
    let title = format!("{application} {stage}: {}", chronicle.verdict());
    let took = seconds(chronicle.last().duration_since(*begun).as_secs());
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="referrer" content="no-referrer";
                meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'";
                title { (clean(&title)) }
                style { (PreEscaped(include_str!("page.css"))) }
            }
            body {
                header {
                    p.place { (clean(application)) " · " (clean(stage)) }
                    h1 { (clean(&chronicle.verdict())) }
                    dl {
                        div { dt { "Release" } dd { code { (clean(release.as_str())) } ", " (clean(&chronicle.origin)) } }
                        div { dt { "Begun" } dd { (time(*begun)) " by " (clean(by)) } }
                        div { dt { @if ended.is_some() { "Took" } @else { "Last heard of after" } } dd { (took) } }
                        div { dt { "Rollout" } dd { code { (clean(rollout)) } } }
                        div { dt { "Plan" } dd { code { (plan.short()) } } }
                    }
                }
                main {
                    ul.counts aria-label="Targets by outcome" {
                        @for (name, number) in &chronicle.counts {
                            li class=(name) { strong { (number) } " " span { (name) } }
                        }
                    }
                    @if !chronicle.causes.is_empty() { (causes(chronicle)) }
                    @if chronicle.waves.len() > 1 { (waves(chronicle)) }
                    (targets(chronicle))
                    (classes(&chronicle.classes))
                    @if !chronicle.notices.is_empty() {
                        section { h2 { "What else was said" } ul { @for notice in chronicle.notices.iter().take(NAMED) { li { (notice) } } } }
                    }
                }
                script type="application/json" id="data" { (PreEscaped(data(chronicle))) }
                script { (PreEscaped(include_str!("page.js"))) }
            }
        }
    };
    page.into_string()
}

fn causes(chronicle: &Chronicle) -> Markup {
    html! {
        section {
            h2 { "What failed" }
            ol.causes {
                @for cause in &chronicle.causes {
                    li {
                        p { strong { (count(cause.targets.len(), "target")) } @if let Some(resource) = &cause.resource { " · " code { (clean(resource)) } } }
                        p.why { (cause.signature) }
                        @if let Some(hint) = &cause.hint { p.hint { (clean(hint)) } }
                        (names(&cause.targets))
                    }
                }
            }
        }
    }
}

/// Each wave from its first target's start to its last one's end.
fn waves(chronicle: &Chronicle) -> Markup {
    html! {
        section {
            h2 { "Waves" }
            table.waves {
                thead { tr { th scope="col" { "Wave" } th scope="col" { "Targets" } th scope="col" { "Failed" } th.time scope="col" { "When" } } }
                tbody {
                    @for (number, wave) in (0..).zip(&chronicle.waves) {
                        @let stories: Vec<&Story> = chronicle.targets.iter().filter(|story| story.wave == number).collect();
                        @let fails = stories.iter().filter(|story| story.outcome.as_ref().is_some_and(Outcome::is_failure)).count();
                        @let end = stories.iter().filter_map(|story| story.time()).map(|(from, to)| to.unwrap_or(from)).max().unwrap_or(wave.begun);
                        tr class=(if fails > 0 { "failed" } else { "deployed" }) {
                            th scope="row" { (clean(&wave.name)) }
                            td { (wave.targets) }
                            td.outcome { (fails) }
                            td.time { i.executing style=(place(chronicle, wave.begun, end)) {} }
                        }
                    }
                }
            }
        }
    }
}

/// Where a bar stands in the time of the whole rollout.
fn place(chronicle: &Chronicle, from: Timestamp, to: Timestamp) -> String {
    let whole = length(chronicle.begun, chronicle.last()).max(1.0);
    let (left, width) = (length(chronicle.begun, from) / whole * 100.0, length(from, to) / whole * 100.0);
    format!("left:{left:.2}%;width:{:.2}%", width.max(0.4))
}

fn names(targets: &[TargetId]) -> Markup {
    let names: Vec<String> = targets.iter().take(NAMED).map(ToString::to_string).collect();
    let more = targets.len().saturating_sub(NAMED);
    html! {
        details {
            summary { "Which" }
            p { (clean(&names.join(", "))) @if more > 0 { ", and " (more) " more" } }
        }
    }
}

fn targets(chronicle: &Chronicle) -> Markup {
    let all = chronicle.targets.len();
    html! {
        section #targets {
            h2 { "Targets" }
            form #filter hidden {
                label { "Find " input #find type="search" placeholder="tenant, account, region, reason" autocomplete="off"; }
                label { "Outcome " select #outcome { option value="" { "all" } @for (name, _) in &chronicle.counts { option value=(name) { (name) } } } }
                label { "Wave " select #wave { option value="" { "all" } @for (number, wave) in chronicle.waves.iter().enumerate() { option value=(number) { (clean(&wave.name)) } } } }
                output #shown aria-live="polite" {}
            }
            div.wide tabindex="0" role="region" aria-label="Table of targets" {
                table {
                    caption { "Each target from its start to its end, in the time of the whole rollout" }
                    thead { tr { th scope="col" { "Target" } th scope="col" { "Account" } th scope="col" { "Wave" } th scope="col" { "Outcome" } th scope="col" { "Took" } th.time scope="col" { "When" } } }
                    tbody #rows { @for story in chronicle.targets.iter().take(ROWS) { (row(chronicle, story)) } }
                }
            }
            @if all > ROWS { p #rest { "The first " (ROWS) " of " (all) " targets, those that need a look first. All of them are here with scripts allowed." } }
            button #more type="button" hidden { "Show more" }
            ul.legend aria-label="Colours" { li.executing { "executing" } li.verifying { "verifying" } li.failed { "failed" } }
        }
    }
}

fn row(chronicle: &Chronicle, story: &Story) -> Markup {
    let failure = story.outcome.as_ref().and_then(Outcome::failure);
    html! {
        tr class=(story.ending()) {
            th scope="row" {
                (clean(&story.target.to_string()))
                @if let Some(failure) = failure {
                    details {
                        summary.why { (clean(&failure.to_string())) }
                        @if let Some(hint) = &failure.hint { p.hint { (clean(hint)) } }
                    }
                }
            }
            td { (story.account) }
            td { (story.wave + 1) }
            td.outcome { (story.ending()) }
            td { @if let Some((from, Some(to))) = story.time() { (seconds(to.duration_since(from).as_secs())) } }
            td.time {
                @for part in &story.spans {
                    @let end = part.to.unwrap_or_else(|| chronicle.last());
                    i class=(if part.state == State::Verifying { "verifying" } else { "executing" }) style=(place(chronicle, part.from, end)) {}
                }
            }
        }
    }
}

fn classes(classes: &[Class]) -> Markup {
    html! {
        section {
            h2 { "What was planned" }
            p { (headline(classes)) }
            @for class in classes {
                details open[classes.len() <= 3] {
                    summary { (class.intent) " " (count(class.targets.len(), "target")) @if class.outlier { " · outlier" } }
                    ul.changes {
                        @for change in &class.rows {
                            li { code { (change.mark) } " " (clean(&change.logical_id)) " " span.type { (clean(&change.resource_type)) } @if change.endangers_data { strong { " data at risk" } } }
                        }
                    }
                    (names(&class.targets))
                }
            }
        }
    }
}

/// What the script works with, in arrays since there may be ten thousand of them.
fn data(chronicle: &Chronicle) -> String {
    let since = |at: Timestamp| (length(chronicle.begun, at) * 10.0).round() / 10.0;
    let few = chronicle.targets.len() <= WITH_EVENTS;
    let target = |(number, story): (usize, &Story)| -> Value {
        let failure = story.outcome.as_ref().and_then(Outcome::failure);
        let spans: Vec<Value> = story
            .spans
            .iter()
            .map(|part| {
                json!([
                    since(part.from),
                    since(part.to.unwrap_or_else(|| chronicle.last())),
                    u8::from(part.state == State::Verifying)
                ])
            })
            .collect();
        let wanted = few || (story.needs_a_look() && number < WITH_EVENTS);
        let events = story.events.iter().rev().take(if wanted { EVENTS } else { 0 }).rev().map(|told| {
            let event = &told.event;
            json!([since(told.time), clean(&event.logical_id), event.status, event.reason.as_deref().map(clean)])
        });
        json!([
            clean(&story.target.to_string()),
            story.account,
            story.wave,
            story.ending(),
            spans,
            failure.map(|failure| clean(&failure.to_string())),
            failure.and_then(|failure| failure.hint.as_deref()).map(clean),
            events.collect::<Vec<_>>(),
        ])
    };
    let targets: Vec<Value> = chronicle.targets.iter().enumerate().map(target).collect();
    let data = json!({ "took": length(chronicle.begun, chronicle.last()).max(1.0), "rows": ROWS, "targets": targets });
    // Nothing in it can end the element that it stands in.
    data.to_string().replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

#[allow(clippy::cast_precision_loss, reason = "tenths of seconds of some days are far below that")]
fn length(from: Timestamp, to: Timestamp) -> f64 {
    (to.duration_since(from).as_millis() as f64 / 1000.0).max(0.0)
}

fn seconds(seconds: i64) -> String {
    span(u64::try_from(seconds).unwrap_or(0))
}

fn time(at: Timestamp) -> Markup {
    html! { time datetime=(at) { (at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()) } }
}
