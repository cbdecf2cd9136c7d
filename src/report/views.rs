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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::domain::release::Provenance;
    use crate::domain::{AccountId, Change, ChangeAction, Digest, Failure, Region, Release, Rollout, TemplateObject};
    use crate::plan::{Content, Intent, Selection, TargetContent};

    fn target(number: usize) -> TargetId {
        TargetId { tenant: format!("tenant-{number:03}"), region: Region::new("eu-west-1").unwrap() }
    }

    fn plan_of(intents: Vec<Intent>) -> Plan {
        let template = TemplateObject { sha256: Digest::of("t"), key: "t".into() };
        let release = Release::new("app", "bucket", BTreeMap::new(), template, Provenance::default());
        let of_target = |(number, intent)| TargetContent {
            target: target(number),
            account: AccountId::new("222222222222").unwrap(),
            stack: "app".into(),
            deployment_role: "role".into(),
            parameters: BTreeMap::new(),
            tags: BTreeMap::new(),
            capabilities: vec![],
            intent,
        };
        let targets = intents.into_iter().enumerate().map(of_target).collect();
        let content = Content::new("prod", &release, Rollout::default(), targets);
        Plan { digest: content.digest(), content, change_sets: vec![], selection: Selection::default() }
    }

    fn change(logical_id: &str, action: ChangeAction, replacement: Replacement) -> Change {
        let resource_type = "AWS::Lambda::Function".into();
        Change { logical_id: logical_id.into(), resource_type, action, replacement, scope: vec![], details: vec![] }
    }

    #[test]
    fn a_plan_for_four_hundred_targets_fits_a_screen_outliers_first() {
        let common = || Intent::of(false, vec![change("Function", ChangeAction::Modify, Replacement::Never)]);
        let mut intents: Vec<Intent> = (0..398).map(|_| common()).collect();
        intents[7] = Intent::of(false, vec![change("Table", ChangeAction::Modify, Replacement::Always)]);
        intents.extend([
            Intent::Unchanged,
            Intent::of(true, vec![change("Function", ChangeAction::Add, Replacement::Never)]),
        ]);
        let text = anstream::adapter::strip_str(&plan(&plan_of(intents))).to_string();
        assert!(text.lines().count() < 24, "{text}");
        insta::assert_snapshot!(text.lines().take(14).collect::<Vec<_>>().join("\n"), @r"
        Plan for prod: release ef8fb30eb23e, 400 targets, 3 distinct plans

          create 1 target: tenant-399/eu-west-1
            + Function  AWS::Lambda::Function

          update 1 target: tenant-007/eu-west-1
            ~ Table  AWS::Lambda::Function  replaced

          update 397 targets: tenant-000/eu-west-1, tenant-001/eu-west-1, tenant-002/eu-west-1, tenant-003/eu-west-1, tenant-004/eu-west-1, tenant-005/eu-west-1 and 391 more
            ~ Function  AWS::Lambda::Function

          unchanged 1 target: tenant-398/eu-west-1

          at most 50 at a time, 0 may fail
        ");
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
