//! A rollout's results and a stage's status, each as text that fits a screen.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use jiff::{SignedDuration, Timestamp};

use super::lines::{ending, style};
use super::text::{BAD, BOLD, DIM, GOOD, WARN, clean, count, styled};
use crate::domain::{Exit, Outcome, ReleaseId, Tally, TargetId};
use crate::engine::TargetStatus;

/// Up to so many targets every result is listed; beyond, only those that need a look.
const LISTED: usize = 40;

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

/// Returns what each target runs: of a small fleet every target, of a large one the releases with their number of
/// targets, and those targets that lag or have a problem.
pub fn status(targets: &[TargetStatus], now: Timestamp) -> String {
    let mut table = vec![["STAGE", "TARGET", "ACCOUNT", "STATUS", "RELEASE", "AGE", ""].map(str::to_owned)];
    let healthy = |target: &&TargetStatus| {
        let done = target
            .status
            .as_deref()
            .is_some_and(|status| status.ends_with("_COMPLETE") && !status.contains("ROLLBACK"));
        done && !target.lags && target.problem.is_none()
    };
    let folded = targets.len() > LISTED;
    for target in targets.iter().filter(|target| !folded || !healthy(target)) {
        let mut notes = Vec::new();
        notes.extend(target.lags.then(|| "lags".to_owned()));
        notes.extend(target.pin.as_ref().map(|pin| format!("pinned to {pin}")));
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
            target.since.map_or("-".to_owned(), |since| age(now.duration_since(since))),
            notes.join(", "),
        ]);
    }
    let mut text = if table.len() > 1 || !folded { self::table(&table) } else { String::new() };
    let mut on: BTreeMap<(&str, Option<&ReleaseId>), usize> = BTreeMap::new();
    for target in targets {
        *on.entry((&target.stage, target.release.as_ref())).or_default() += 1;
    }
    for ((stage, release), number) in on.iter().filter(|_| folded) {
        let release = release.map_or("no release".to_owned(), ToString::to_string);
        let _ = write!(text, "\n{stage}: {} on {release}", count(*number, "target"));
    }
    for target in targets.iter().filter(|target| target.problem.is_some()) {
        let problem = target.problem.as_deref().unwrap_or_default();
        let _ = write!(text, "\n{} {}: {}", styled(BAD, "problem:"), target.target, clean(problem));
    }
    for target in targets {
        for resource in target.drift.iter().flat_map(|drift| &drift.resources) {
            let _ = write!(text, "\n{} {}: {}", styled(WARN, "drifted:"), target.target, clean(&resource.to_string()));
        }
    }
    let looked = targets.iter().filter(|target| target.drift.is_some()).count();
    if looked > 0 {
        let drifted =
            targets.iter().filter(|target| target.drift.as_ref().is_some_and(|one| !one.resources.is_empty()));
        let _ = write!(text, "\n{} of {} drifted", drifted.count(), count(looked, "stack"));
    }
    let lagging: Vec<String> =
        targets.iter().filter(|target| target.lags).map(|target| target.target.to_string()).collect();
    if !lagging.is_empty() {
        let some = lagging.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
        let more = if lagging.len() > NAMED { format!(" and {} more", lagging.len() - NAMED) } else { String::new() };
        let verb = if lagging.len() == 1 { "lags" } else { "lag" };
        let _ = write!(text, "\n{} {verb}: {some}{more}", styled(WARN, count(lagging.len(), "target")));
    }
    if targets.is_empty() {
        let _ = write!(text, "\n{}", styled(style(&Outcome::Unchanged), "no targets"));
    }
    text.trim().to_owned()
}

/// Targets that are named in a line; the rest is counted.
const NAMED: usize = 6;

/// Returns a length of time in its largest unit.
fn age(span: SignedDuration) -> String {
    let minutes = span.as_mins().max(0);
    match minutes {
        0..60 => format!("{minutes}m"),
        60..2880 => format!("{}h", minutes / 60),
        _ => format!("{}d", minutes / 1440),
    }
}

/// Returns rows in columns, the first row as their heads.
pub fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(width).collect();
    let line = |(number, row): (usize, &[String; N])| {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{:<width$}", clean(cell))).collect();
        let line = cells.join("  ").trim_end().to_owned();
        if number == 0 { styled(BOLD, line) } else { line }
    };
    rows.iter().enumerate().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Failure, Region};

    fn target(number: usize) -> TargetId {
        TargetId { tenant: format!("tenant-{number:03}"), region: Region::new("eu-west-1").unwrap() }
    }

    #[test]
    fn results_of_four_hundred_targets_name_those_that_need_a_look() {
        let mut finished: Vec<_> = (0..400).map(|number| (target(number), Outcome::Deployed)).collect();
        finished[9].1 = Outcome::RolledBack(Failure::because("\u{1b}[2Jbucket is taken\n::error::"));
        let text = anstream::adapter::strip_str(&results("prod", &finished, Exit::Failed)).to_string();
        assert_eq!(
            text,
            "prod: 399 deployed, 1 rolled-back\n  tenant-009/eu-west-1  rolled-back: \\u{1b}[2Jbucket is taken ::error::"
        );
    }
}
