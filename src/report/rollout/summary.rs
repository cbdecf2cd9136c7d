//! A rollout for a terminal, a job's summary or a pull request: what failed first, and bounded whatever the fleet's size.

use std::fmt::Write as _;

use super::{Cause, Chronicle, Story, named};
use crate::plan::{Class, Row};
use crate::report::text::{BAD, DIM, GOOD, clean, count, shorten, span, styled};

/// Causes that are told; the rest is counted.
const CAUSES: usize = 20;
/// Targets that are named with a cause.
const NAMED: usize = 8;
/// Targets with a bar of their own in the timeline; of more, each wave has one.
const BARS: usize = 40;
/// Notices that are told where it has not ended well.
const SAID: usize = 5;
/// Classes of the plan that are told, and resources of each.
const CLASSES: usize = 10;
const RESOURCES: usize = 8;
/// Rows of the table of targets.
const ROWS: usize = 100;

/// Returns a rollout for a terminal.
pub fn in_text(chronicle: &Chronicle) -> String {
    let Chronicle { rollout, application, stage, release, by, begun, ended, causes, .. } = chronicle;
    let headline = if chronicle.well { GOOD } else { BAD };
    let mut text = format!("{}\n", styled(headline, format!("{stage}: {}", chronicle.verdict())));
    let _ = writeln!(text, "  {application} {release}, {}, rollout {rollout}", chronicle.origin);
    let end = if ended.is_some() { "ended after" } else { "was last heard of after" };
    let _ = writeln!(text, "  begun {begun:.0} by {}, {end} {}", clean(by), chronicle.took());
    for Cause { signature, hint, targets, .. } in causes.iter().take(CAUSES) {
        let _ = writeln!(
            text,
            "\n{}",
            styled(BAD, format!("{}: {}", count(targets.len(), "target"), shorten(signature, 400)))
        );
        let _ = writeln!(text, "  {}", named(targets, NAMED));
        if let Some(hint) = hint {
            let _ = writeln!(text, "  {}", styled(DIM, format!("hint: {}", clean(hint))));
        }
    }
    if causes.len() > CAUSES {
        let _ = writeln!(text, "\nand {}", count(causes.len() - CAUSES, "more cause"));
    }
    for notice in said(chronicle) {
        let _ = writeln!(text, "\nnote: {}", shorten(notice, 300));
    }
    text.trim_end().to_owned()
}

/// Returns the last of what else was said, where it has not ended well: it says why.
fn said(chronicle: &Chronicle) -> impl Iterator<Item = &String> {
    let last = chronicle.notices.len().saturating_sub(SAID);
    chronicle.notices[last..].iter().filter(|_| !chronicle.well)
}

/// Returns a rollout in Markdown, as GitHub shows it in a job's summary.
/// Source: <https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands#adding-a-job-summary>
pub fn in_markdown(chronicle: &Chronicle) -> String {
    let Chronicle { rollout, application, stage, release, by, begun, causes, targets, .. } = chronicle;
    let mark = match (chronicle.ended, chronicle.well, chronicle.failures()) {
        (None, ..) => "⏸️",
        (_, false, _) => "❌",
        (_, true, 0) => "✅",
        (_, true, _) => "⚠️",
    };
    let mut text = format!("## {mark} {} {}: {}\n\n", code(application), code(stage), chronicle.verdict());
    let _ = writeln!(
        text,
        "Release {} ({}), rollout {}, begun {begun:.0} by {}, {} long.\n",
        code(release.as_str()),
        plain(&chronicle.origin),
        code(rollout),
        code(by),
        chronicle.took()
    );
    if !causes.is_empty() {
        text.push_str("### What failed\n\n| targets | why | which |\n|---:|---|---|\n");
        for Cause { signature, hint, targets, .. } in causes.iter().take(CAUSES) {
            let hint = hint.as_ref().map(|hint| format!("<br>*{}*", plain(&shorten(hint, 300)))).unwrap_or_default();
            let _ = writeln!(
                text,
                "| {} | {}{hint} | {} |",
                targets.len(),
                plain(&shorten(signature, 600)),
                plain(&named(targets, NAMED))
            );
        }
        if causes.len() > CAUSES {
            let _ = writeln!(text, "| | and {} | |", count(causes.len() - CAUSES, "more cause"));
        }
        text.push('\n');
    }
    for notice in said(chronicle) {
        let _ = writeln!(text, "> {}\n", plain(&shorten(notice, 300)));
    }
    let executed: Vec<&Story> = targets.iter().filter(|story| story.time().is_some()).collect();
    if !executed.is_empty() {
        text.push_str("### When\n\n");
        text.push_str(&timeline(chronicle, &executed));
        text.push('\n');
    }
    text.push_str(&planned(&chronicle.classes));
    let _ = write!(
        text,
        "<details><summary>{}</summary>\n\n| target | account | wave | outcome | took | why |\n|---|---|---:|---|---:|---|\n",
        count(targets.len(), "target")
    );
    for story in targets.iter().take(ROWS) {
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} |",
            plain(&story.target.to_string()),
            story.account,
            story.wave + 1,
            story.ending(),
            story.took().map(span).unwrap_or_default(),
            story.failure().map_or_else(String::new, |failure| plain(&shorten(&failure.to_string(), 300)))
        );
    }
    if targets.len() > ROWS {
        let _ = writeln!(text, "| and {} | | | | | |", count(targets.len() - ROWS, "more target"));
    }
    text.push_str("\n</details>\n");
    text
}

/// What was planned, a row a class.
fn planned(classes: &[Class]) -> String {
    if classes.is_empty() {
        return String::new();
    }
    let mut text = "### What was planned\n\n| targets | what | resources | which |\n|---:|---|---|---|\n".to_owned();
    for class in classes.iter().take(CLASSES) {
        let resource = |row: &Row| {
            let risk = if row.endangers_data { ", **data at risk**" } else { "" };
            let (name, kind) = (shorten(&row.logical_id, 80), shorten(&row.resource_type, 80));
            format!("{} {} {}{risk}", plain(&row.mark.to_string()), plain(&name), plain(&kind))
        };
        let mut resources: Vec<String> = class.rows.iter().take(RESOURCES).map(resource).collect();
        if class.rows.len() > RESOURCES {
            resources.push(format!("and {}", count(class.rows.len() - RESOURCES, "more resource")));
        }
        let outlier = if class.outlier { ", outlier" } else { "" };
        let (number, resources) = (class.targets.len(), resources.join("<br>"));
        let which = plain(&named(&class.targets, NAMED));
        let _ = writeln!(text, "| {number} | {}{outlier} | {resources} | {which} |", class.intent);
    }
    if classes.len() > CLASSES {
        let _ = writeln!(text, "| | and {} | | |", count(classes.len() - CLASSES, "more distinct plan"));
    }
    text.push('\n');
    text
}

/// A Gantt chart: a bar a target where they are few, and otherwise a bar a wave.
/// Source: <https://mermaid.js.org/syntax/gantt.html>
fn timeline(chronicle: &Chronicle, executed: &[&Story]) -> String {
    // In milliseconds: of seconds (`X`), Mermaid reads beginnings as milliseconds all the same.
    let mut text = "```mermaid\ngantt\n  dateFormat x\n  axisFormat %H:%M:%S\n  todayMarker off\n".to_owned();
    let times = |story: &Story| {
        let (from, to) = story.time().unwrap_or((chronicle.begun, None));
        (from.as_millisecond(), to.unwrap_or(chronicle.last).as_millisecond())
    };
    let bar = |name: &str, bad: bool, (from, to): (i64, i64)| {
        format!("  {} :{}, {from}, {}\n", bar_name(name), if bad { "crit" } else { "active" }, to.max(from + 1000))
    };
    let mut sorted = executed.to_vec();
    sorted.sort_by_key(|story| (story.wave, times(story)));
    for of_wave in sorted.chunk_by(|one, next| one.wave == next.wave) {
        let name = chronicle.wave_name(of_wave[0].wave);
        if executed.len() <= BARS {
            let _ = writeln!(text, "  section {}", bar_name(&name));
            for story in of_wave {
                text.push_str(&bar(&story.target.to_string(), story.has_failed(), times(story)));
            }
        } else {
            let end = chronicle.wave_end(of_wave[0].wave as usize).as_millisecond();
            let name = format!("{name}, {}", count(of_wave.len(), "target"));
            text.push_str(&bar(&name, of_wave.iter().any(|story| story.has_failed()), (times(of_wave[0]).0, end)));
        }
    }
    text.push_str("```\n");
    text
}

/// What mermaid would read as its own is left out of a bar's name.
fn bar_name(text: &str) -> String {
    let text: String = clean(text).chars().map(|c| if ":;#,%".contains(c) { ' ' } else { c }).collect();
    // A name that begins as one of its keywords, or as a date, would be read as that.
    format!("\u{2060}{text}")
}

/// Makes text of a tenant's harmless in Markdown's tables: no markup, no mention, no reference, no link.
fn plain(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in clean(text).chars() {
        match c {
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '&' => safe.push_str("&amp;"),
            '@' => safe.push_str("@\u{200b}"),
            '#' => safe.push_str("#\u{200b}"),
            '|' | '`' | '*' | '_' | '~' | '[' | ']' | '\\' | '!' | '$' => {
                safe.push('\\');
                safe.push(c);
            }
            c => safe.push(c),
        }
    }
    safe.replace("GH-", "GH\u{2060}-").replace("://", ":\u{200b}//").replace("www.", "www\u{200b}.")
}

fn code(text: &str) -> String {
    format!("`{}`", clean(text).replace('`', "'"))
}
