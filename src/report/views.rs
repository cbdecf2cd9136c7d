//! A plan, a rollout's results and a stage's status, each as text that fits a screen.

use std::fmt::Write as _;

use super::lines::{ending, style};
use super::text::{BAD, BOLD, DIM, GOOD, WARN, clean, count, styled};
use crate::domain::{Exit, Outcome, Replacement, Tally, TargetId};
use crate::engine::TargetStatus;
use crate::plan::{Class, Plan, Row, classes};

/// Targets of a class that are named; the rest is counted.
const NAMED: usize = 6;
/// Up to so many targets every result is listed; beyond, only those that need a look.
const LISTED: usize = 40;

/// Returns a plan, folded into its classes.
pub fn plan(plan: &Plan) -> String {
    let content = &plan.content;
    let classes = classes(content);
    let distinct = classes.iter().filter(|class| !class.rows.is_empty()).count();
    let mut text = format!(
        "Plan for {}: release {}, {}, {}\n",
        styled(BOLD, &content.stage),
        styled(BOLD, &content.release),
        count(content.targets.len(), "target"),
        count(distinct, "distinct plan"),
    );
    for class in &classes {
        let _ = write!(
            text,
            "\n  {} {}: {}\n",
            styled(BOLD, class.intent),
            count(class.targets.len(), "target"),
            named(&class.targets)
        );
        rows(&mut text, class);
    }
    let pace = &content.rollout;
    let _ = write!(text, "\n  at most {} at a time, {} may fail\n", pace.max_concurrency, pace.failure_tolerance);
    let _ = write!(text, "  digest {}", plan.digest);
    text
}

fn named(targets: &[TargetId]) -> String {
    let names: Vec<String> = targets.iter().take(NAMED).map(ToString::to_string).collect();
    let more = targets.len().saturating_sub(NAMED);
    if more > 0 { format!("{} and {more} more", names.join(", ")) } else { names.join(", ") }
}

fn rows(text: &mut String, class: &Class) {
    let width = class.rows.iter().map(|row| row.logical_id.chars().count()).max().unwrap_or(0).min(48);
    for row in &class.rows {
        let Row { mark, logical_id, resource_type, replacement, properties, .. } = row;
        let style = match mark {
            '+' => GOOD,
            '-' => BAD,
            _ => WARN,
        };
        let replaced = match replacement {
            Replacement::Always => styled(BAD, "  replaced"),
            Replacement::Conditional => styled(WARN, "  perhaps replaced"),
            Replacement::Never => String::new(),
        };
        let properties: Vec<String> =
            properties.iter().map(|path| clean(path.trim_start_matches("/Properties/"))).collect();
        let properties = if properties.is_empty() { String::new() } else { format!("  {}", properties.join(", ")) };
        let _ = writeln!(
            text,
            "    {} {:<width$}  {}{replaced}{}",
            styled(style, mark),
            clean(logical_id),
            styled(DIM, clean(resource_type)),
            properties,
        );
    }
}

/// Returns how the targets of a rollout ended: what failed first, with its reason.
pub fn results(stage: &str, finished: &[(TargetId, Outcome)], exit: Exit) -> String {
    let tally = match exit {
        Exit::Waiting => "waits for approval".to_owned(),
        Exit::Detached if finished.is_empty() => "stopped, nothing was executed".to_owned(),
        Exit::Refused => "refused, nothing was executed".to_owned(),
        _ => Tally::of(finished.iter().map(|(_, outcome)| outcome)).to_string(),
    };
    let headline = if exit == Exit::Done { GOOD } else { BAD };
    let mut text = format!("{}\n", styled(headline, format!("{stage}: {tally}")));
    let mut sorted: Vec<&(TargetId, Outcome)> = finished.iter().collect();
    sorted.sort_by_key(|(target, outcome)| (!outcome.is_failure(), outcome.failure().is_none(), target));
    if sorted.len() > LISTED {
        sorted.retain(|(_, outcome)| outcome.failure().is_some());
    }
    let width = sorted.iter().map(|(target, _)| target.to_string().len()).max().unwrap_or(0);
    for (target, outcome) in sorted {
        let _ = writeln!(text, "  {target:<width$}  {}", ending(outcome));
        if let Some(hint) = outcome.failure().and_then(|failure| failure.hint.as_ref()) {
            let _ = writeln!(text, "  {:<width$}  {}", "", styled(DIM, format!("hint: {}", clean(hint))));
        }
    }
    text.trim_end().to_owned()
}

/// Returns what each target runs, as a table.
pub fn status(targets: &[TargetStatus]) -> String {
    let mut table = vec![["STAGE", "TARGET", "ACCOUNT", "STATUS", "RELEASE", "SINCE"].map(str::to_owned)];
    for target in targets {
        table.push([
            target.stage.clone(),
            target.target.to_string(),
            target.account.to_string(),
            match (&target.status, &target.problem) {
                (Some(status), _) => status.clone(),
                (None, Some(_)) => "?".to_owned(),
                (None, None) => "-".to_owned(),
            },
            target.release.as_ref().map_or("-".to_owned(), ToString::to_string),
            target.since.map_or("-".to_owned(), |since| since.strftime("%Y-%m-%d %H:%M").to_string()),
        ]);
    }
    let widths: Vec<usize> =
        (0..6).map(|column| table.iter().map(|row| row[column].len()).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for (number, row) in table.iter().enumerate() {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        let line = cells.join("  ");
        let line = line.trim_end();
        let _ = writeln!(text, "{}", if number == 0 { styled(BOLD, line) } else { line.to_owned() });
    }
    for target in targets.iter().filter(|target| target.problem.is_some()) {
        let problem = target.problem.as_deref().unwrap_or_default();
        let _ = writeln!(text, "{} {}: {}", styled(BAD, "problem:"), target.target, clean(problem));
    }
    let unknown = style(&Outcome::Unchanged);
    if targets.is_empty() {
        let _ = writeln!(text, "{}", styled(unknown, "no targets"));
    }
    text.trim_end().to_owned()
}
