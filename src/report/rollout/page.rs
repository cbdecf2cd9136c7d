//! A rollout as one page that needs nothing but a browser: no other file, no network, and no script for its first screen.

use jiff::Timestamp;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde_json::{Value, json};

use super::{Chronicle, Story, between, named};
use crate::domain::lifecycle::State;
use crate::domain::{StackEvent, TargetId};
use crate::plan::{Class, headline};
use crate::report::text::{clean, count, shorten, span};

/// Rows that are there without the script; it shows as many at a time.
const ROWS: usize = 100;
/// Targets that are named with a cause or a class.
const NAMED: usize = 100;
/// Causes, classes, and rows of a class that are shown; the rest is counted.
const CAUSES: usize = 100;
const CLASSES: usize = 50;
const CHANGES: usize = 100;
/// Reasons and hints are not longer than this; the JSON report has them whole.
const REASON: usize = 400;
/// Up to so many targets each has its events in the page; of more, only those that need a look, and no more than that.
const WITH_EVENTS: usize = 500;
/// Events of a target that are in the page.
const EVENTS: usize = 30;

/// Returns the page.
pub fn page(chronicle: &Chronicle) -> String {
    let Chronicle { rollout, application, stage, release, by, begun, ended, plan, .. } = chronicle;
    let title = format!("{application} {stage}: {}", chronicle.verdict());
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
                        div { dt { @if ended.is_some() { "Took" } @else { "Last heard of after" } } dd { (chronicle.took()) } }
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
                @for cause in chronicle.causes.iter().take(CAUSES) {
                    li {
                        p { strong { (count(cause.targets.len(), "target")) } @if let Some(resource) = &cause.resource { " · " code { (clean(resource)) } } }
                        p.why { (shorten(&cause.signature, 2 * REASON)) }
                        @if let Some(hint) = &cause.hint { p.hint { (short(hint)) } }
                        (names(&cause.targets))
                    }
                }
            }
            @if chronicle.causes.len() > CAUSES { p { "and " (count(chronicle.causes.len() - CAUSES, "more cause")) } }
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
                    @for (number, wave) in chronicle.waves.iter().enumerate() {
                        @let fails = chronicle.targets.iter().filter(|story| story.wave as usize == number && story.has_failed()).count();
                        tr class=(if fails > 0 { "failed" } else { "deployed" }) {
                            th scope="row" { (clean(&wave.name)) }
                            td { (wave.targets) }
                            td.outcome { (fails) }
                            td.time {
                                @if let Some(begun) = wave.begun {
                                    (bar(chronicle, State::Executing, begun, chronicle.wave_end(number)))
                                } @else { "not begun" }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// A bar in the time of the whole rollout, and the same for whoever sees none.
fn bar(chronicle: &Chronicle, state: State, from: Timestamp, to: Timestamp) -> Markup {
    let whole = length(chronicle.begun, chronicle.last).max(1.0);
    let (left, width) = (length(chronicle.begun, from) / whole * 100.0, length(from, to) / whole * 100.0);
    let name = if state == State::Verifying { "verifying" } else { "executing" };
    let (since, took) = (between(chronicle.begun, from), between(from, to));
    html! {
        i class=(name) style=(format!("left:{left:.2}%;width:{:.2}%", width.max(0.4))) {}
        span.told { (name) " from +" (since) " for " (took) "; " }
    }
}

fn names(targets: &[TargetId]) -> Markup {
    html! {
        details {
            summary { "Which" }
            p { (clean(&named(targets, NAMED))) }
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
                label { "Order " select #order { option value="" { "what needs a look first" } option value="time" { "by wave and start" } } }
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
    html! {
        tr class=(story.ending()) {
            th scope="row" {
                (clean(&story.target.to_string()))
                @if let Some(failure) = story.failure() {
                    details {
                        summary.why { (short(&failure.to_string())) }
                        @if let Some(hint) = &failure.hint { p.hint { (short(hint)) } }
                    }
                }
            }
            td { (story.account) }
            td { (story.wave + 1) }
            td.outcome { (story.ending()) }
            td { (story.took().map(span).unwrap_or_default()) }
            td.time {
                @for part in &story.spans {
                    (bar(chronicle, part.state, part.from, part.to.unwrap_or(chronicle.last)))
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
            @for class in classes.iter().take(CLASSES) {
                details open[classes.len() <= 3] {
                    summary { (class.intent) " " (count(class.targets.len(), "target")) @if class.outlier { " · outlier" } }
                    ul.changes {
                        @for change in class.rows.iter().take(CHANGES) {
                            li { code { (change.mark) } " " (clean(&change.logical_id)) " " span.type { (clean(&change.resource_type)) } @if change.endangers_data { strong { " data at risk" } } }
                        }
                    }
                    @if class.rows.len() > CHANGES { p { "and " (count(class.rows.len() - CHANGES, "more resource")) } }
                    (names(&class.targets))
                }
            }
            @if classes.len() > CLASSES { p { "and " (count(classes.len() - CLASSES, "more distinct plan")) } }
        }
    }
}

/// What the script works with, in arrays since there may be ten thousand of them.
fn data(chronicle: &Chronicle) -> String {
    let since = |at: Timestamp| (length(chronicle.begun, at) * 10.0).round() / 10.0;
    let few = chronicle.targets.len() <= WITH_EVENTS;
    let target = |(number, story): (usize, &Story)| -> Value {
        let failure = story.failure();
        let spans: Vec<Value> = story
            .spans
            .iter()
            .map(|part| {
                json!([
                    since(part.from),
                    since(part.to.unwrap_or(chronicle.last)),
                    u8::from(part.state == State::Verifying)
                ])
            })
            .collect();
        let wanted = few || (story.needs_a_look() && number < WITH_EVENTS);
        let chosen = if wanted { chosen(&story.events) } else { Vec::new() };
        let events = chosen.iter().map(|event| {
            let at = since(event.time.unwrap_or(chronicle.begun));
            json!([at, clean(&event.logical_id), event.status, event.reason.as_deref().map(short)])
        });
        json!([
            clean(&story.target.to_string()),
            story.account,
            story.wave,
            story.ending(),
            spans,
            failure.map(|failure| short(&failure.to_string())),
            failure.and_then(|failure| failure.hint.as_deref()).map(short),
            events.collect::<Vec<_>>(),
            if wanted { story.events_in_all } else { 0 },
            story.took().map(span).unwrap_or_default(),
        ])
    };
    let targets: Vec<Value> = chronicle.targets.iter().enumerate().map(target).collect();
    let data = json!({ "took": length(chronicle.begun, chronicle.last).max(1.0), "rows": ROWS, "targets": targets });
    // Nothing in it can end the element that it stands in.
    data.to_string().replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

/// Returns what is shown of a stack's events: what failed, and around it the first and the last.
fn chosen(events: &[StackEvent]) -> Vec<&StackEvent> {
    let ends = |place: usize| place < EVENTS / 3 || place + EVENTS / 3 >= events.len();
    let first = events.iter().position(StackEvent::has_failed);
    let near = |place: usize| first.is_some_and(|first| place.abs_diff(first) <= EVENTS / 6);
    events.iter().enumerate().filter(|(place, _)| ends(*place) || near(*place)).map(|(_, event)| event).collect()
}

/// Makes text of a tenant's fit.
fn short(text: &str) -> String {
    shorten(&clean(text), REASON)
}

#[allow(clippy::cast_precision_loss, reason = "tenths of seconds of some days are far below that")]
fn length(from: Timestamp, to: Timestamp) -> f64 {
    (to.duration_since(from).as_millis() as f64 / 1000.0).max(0.0)
}

fn time(at: Timestamp) -> Markup {
    html! { time datetime=(at) { (at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()) } }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::process::Command;
    use std::{env, fs};

    use super::super::tests::chronicle;
    use super::*;

    const SAID: &str = "Resource handler returned message: \"The function's role cannot be assumed\"";

    fn chromium() -> PathBuf {
        let names = ["chromium", "chromium-browser", "google-chrome"];
        let path = env::var_os("PATH").unwrap_or_default();
        let found =
            env::split_paths(&path).flat_map(|folder| names.map(|name| folder.join(name))).find(|one| one.exists());
        found.expect("there is no Chromium: install it, as by `apt-get install chromium`")
    }

    /// axe-core, which `make axe` fetches.
    fn axe() -> String {
        let home = env::var("HOME").unwrap_or_default();
        let cache = env::var("XDG_CACHE_HOME").unwrap_or_else(|_| format!("{home}/.cache"));
        let path = format!("{cache}/tenantry/axe/node_modules/axe-core/axe.min.js");
        fs::read_to_string(&path).unwrap_or_else(|_| panic!("{path} is not there: run `make axe`"))
    }

    /// Opens a page, lets scripts do what people do, and returns what came of it.
    fn in_browser(page: &str, scripts: &[&str], flags: &[&str]) -> Value {
        let folder = tempfile::tempdir().unwrap();
        let scripts = scripts.join("</script><script>");
        fs::write(folder.path().join("page.html"), format!("{page}<script>{scripts}</script>")).unwrap();
        let output = Command::new(chromium())
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", "--window-size=1280,900"])
            .arg(format!("--user-data-dir={}", folder.path().join("profile").display()))
            .args(flags)
            .arg(format!("file://{}", folder.path().join("page.html").display()))
            .output()
            .unwrap();
        let dom = String::from_utf8_lossy(&output.stdout);
        let told = dom.split("<pre id=\"told\">").nth(1).and_then(|rest| rest.split("</pre>").next());
        let told = told
            .unwrap_or_else(|| panic!("the page has not come to its end: {}", String::from_utf8_lossy(&output.stderr)));
        let told = told.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
        serde_json::from_str(&told).unwrap()
    }

    const DRIVER: &str = include_str!("page.test.js");

    #[test]
    fn people_find_what_they_look_for() {
        for (targets, failed) in [(2, 0), (400, 40), (10_000, 1000)] {
            let page = page(&chronicle(targets, SAID));
            let told = in_browser(&page, &[DRIVER], &[]);
            let first = targets.min(100);
            assert_eq!(told["first"], first);
            assert_eq!(told["all"], format!("{first} of {targets} shown"));
            let expected: &[&str] = if targets > 3 { &["t00003/eu-west-1"] } else { &[] };
            assert_eq!(told["found"], json!(expected));
            assert_eq!(told["nothing"], json!([0, format!("0 of 0 shown, {targets} in all")]));
            if failed > 0 {
                let all = format!("{} of {failed} shown, {targets} in all", failed.min(100));
                assert_eq!(told["failed"], json!([all, true]));
            }
            assert_eq!(told["wave"], 1);
            assert_eq!(told["earliest"], "t00000/eu-west-1");
            if targets <= WITH_EVENTS || failed > 0 {
                assert_eq!(told["events"], 6);
            }
            // Whoever goes by keyboard goes on at the first of the new rows.
            assert_eq!(told["more"], if targets > 100 { json!([200, 100]) } else { Value::Null });
            assert_eq!(told["wide"], false, "nothing is beyond the window's edge");
        }
    }

    #[test]
    fn nobody_is_shut_out() {
        let page = page(&chronicle(400, SAID));
        let axe = axe();
        let look = |page: &str, flags: &[&str]| {
            in_browser(page, &[&axe, DRIVER], &[&["--virtual-time-budget=60000"], flags].concat())
        };
        for (scheme, dark) in [("1", false), ("0", true)] {
            let scheme = format!("--blink-settings=preferredColorScheme={scheme}");
            let told = look(&page, &[&scheme]);
            assert_eq!(told["dark"], dark);
            assert_eq!(told["violations"], json!([]), "dark: {dark}");
        }
        // It would have been noticed.
        let told = look(&page.replace(" lang=\"en\"", ""), &[]);
        assert!(told["violations"][0].as_str().unwrap().starts_with("html-has-lang"), "{told}");
    }

    /// The first rows, and that there are more, are there for whoever lets no script run.
    #[test]
    fn the_first_screen_needs_no_script() {
        let page = page(&chronicle(400, SAID));
        let without: Vec<&str> = page.split("<script").collect();
        assert_eq!(without[0].matches("<tr class=\"rolled-back\">").count(), 40);
        assert_eq!(
            without[0].matches("<tr class=\"deployed\">").count(),
            61,
            "with the one of a wave without a failure"
        );
        assert!(without[0].contains("The first 100 of 400 targets"));
    }
}
