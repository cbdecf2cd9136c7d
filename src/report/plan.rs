//! A plan for a person who has to approve it: on a screen, or in Markdown.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::LazyLock;

use fancy_regex::Regex;
use similar::{ChangeTag, TextDiff};

use super::text::{BAD, BOLD, DIM, GOOD, WARN, clean, count, elide, span, styled};
use crate::domain::{OnFailure, Replacement, TargetId};
use crate::plan::{Class, Content, Origin, Plan, Property, Row, Varied, classes, headline};

/// Targets of a class that are named; the rest is counted.
const NAMED: usize = 6;
/// Values of a parameter that are told; more are counted.
const VALUES: usize = 5;
/// Longer values are cut in their middle; the plan's JSON has them whole.
const VALUE: usize = 160;
/// Values that are shorter together stand in one line.
const LINE: usize = 90;

/// What stands in a plan for a secret's value.
static COVERED: LazyLock<Regex> =
    LazyLock::new(|| Regex::new("hmac-sha256:([0-9a-f]{8})[0-9a-f]{56}").expect("the pattern is constant"));

/// Returns a plan, folded into its classes, for a terminal.
pub fn in_text(plan: &Plan) -> String {
    let content = &plan.content;
    let classes = classes(content);
    let mut text = format!(
        "Plan for {}: release {}, {}\n",
        styled(BOLD, &content.stage),
        styled(BOLD, &content.release),
        headline(&classes)
    );
    match &content.origin {
        Origin::Direct => {}
        origin @ Origin::Unproven { .. } => _ = writeln!(text, "  {}", styled(BAD, origin)),
        origin => _ = writeln!(text, "  {origin}"),
    }
    for class in &classes {
        let outlier = if class.outlier { styled(WARN, "  outlier") } else { String::new() };
        let _ = write!(
            text,
            "\n  {} {}: {}{outlier}\n",
            styled(BOLD, intent(class)),
            count(class.targets.len(), "target"),
            named(&class.targets)
        );
        let width = class.rows.iter().map(|row| row.logical_id.chars().count()).max().unwrap_or(0).min(48);
        for row in &class.rows {
            let remarks: Vec<String> =
                remarks(row).into_iter().map(|(text, bad)| styled(if bad { BAD } else { WARN }, text)).collect();
            let line = format!(
                "    {} {:<width$}  {}  {}",
                styled(colour(row.mark), row.mark),
                clean(&row.logical_id),
                styled(DIM, clean(&row.resource_type)),
                remarks.join(", ")
            );
            let _ = writeln!(text, "{}", line.trim_end());
            // What a new resource has stands in the template; JSON and Markdown repeat it.
            let changed: &[Property] = if matches!(row.mark, '+' | '-') { &[] } else { &row.properties };
            for property in changed {
                for (mark, line) in diff(property) {
                    let line = match mark {
                        ' ' => line,
                        mark => styled(colour(mark), format!("{mark} {line}")),
                    };
                    let _ = writeln!(text, "        {line}");
                }
            }
        }
        for varied in &class.varied {
            let _ = writeln!(text, "    {}", values(varied));
        }
    }
    text.push('\n');
    for line in pace(content) {
        let _ = writeln!(text, "  {line}");
    }
    let _ = write!(text, "  digest {}", plan.digest);
    text
}

/// Returns a plan as Markdown, for a pull request or a job's summary.
pub fn in_markdown(plan: &Plan) -> String {
    let content = &plan.content;
    let classes = classes(content);
    let mut text = format!(
        "### Plan for `{}`: release `{}`\n\n**{}**{}\n",
        content.stage,
        content.release,
        headline(&classes),
        if content.origin == Origin::Direct { String::new() } else { format!(" · {}", content.origin) },
    );
    for class in &classes {
        let outlier = if class.outlier { " · outlier" } else { "" };
        let _ = write!(
            text,
            "\n#### {} {}{outlier}\n\n{}\n",
            intent(class),
            count(class.targets.len(), "target"),
            cell(&named(&class.targets))
        );
        if class.rows.is_empty() {
            continue;
        }
        text.push_str("\n| | resource | type | remarks |\n|---|---|---|---|\n");
        for row in &class.rows {
            let remarks: Vec<String> = remarks(row).into_iter().map(|(text, _)| text).collect();
            let (id, kind) = (cell(&row.logical_id), cell(&row.resource_type));
            let _ = writeln!(text, "| {} | {id} | {kind} | {} |", row.action, cell(&remarks.join(", ")));
        }
        for varied in &class.varied {
            let _ = write!(text, "\n{}\n", cell(&values(varied)));
        }
        let changed: Vec<&Row> = class.rows.iter().filter(|row| !row.properties.is_empty()).collect();
        if !changed.is_empty() {
            text.push_str("\n<details><summary>properties</summary>\n\n");
            let mut block = String::new();
            for row in changed {
                let _ = writeln!(block, "# {}", clean(&row.logical_id));
                for (mark, line) in row.properties.iter().flat_map(diff) {
                    let _ = writeln!(block, "{mark} {line}");
                }
            }
            // A fence longer than any in the text cannot be ended by it.
            let fence = "`".repeat(3.max(longest_run(&block) + 1));
            let _ = write!(text, "{fence}diff\n{block}{fence}\n\n</details>\n");
        }
    }
    for line in pace(content) {
        let _ = write!(text, "\n{line}\n");
    }
    let _ = write!(text, "\nDigest `{}`", plan.digest);
    text
}

/// Says in which waves the plan is executed, and what stops it.
fn pace(content: &Content) -> Vec<String> {
    let rollout = &content.rollout;
    let mut sizes: BTreeMap<u32, usize> = BTreeMap::new();
    for target in content.targets.iter().filter(|target| target.intent.is_executable()) {
        *sizes.entry(target.wave).or_default() += 1;
    }
    let last = sizes.last_key_value().map(|(wave, _)| *wave);
    let wave = |(number, size): (&u32, &usize)| {
        let wave = rollout.waves.get(*number as usize)?;
        let bake = if wave.bake.is_zero() || Some(*number) == last {
            String::new()
        } else {
            format!(", then {}", span(wave.bake.as_secs()))
        };
        Some(format!("{} {}{bake}", wave.name, count(*size, "target")))
    };
    let waves: Vec<String> = sizes.iter().filter_map(wave).collect();
    let mut pace = format!("at most {} at a time, {} may fail", rollout.max_concurrency, rollout.failure_tolerance);
    if rollout.on_failure == OnFailure::Continue {
        pace.push_str(", and the rest goes on all the same");
    }
    if let Some(most) = rollout.breaker {
        let _ = write!(pace, "; stops after {most} that fail alike");
    }
    if rollout.requeue {
        pace.push_str("; what fails is tried once more");
    }
    let waves = (!waves.is_empty()).then(|| waves.join("; "));
    waves.into_iter().chain([pace]).collect()
}

fn intent(class: &Class) -> String {
    match &class.pin {
        Some(pin) => format!("{} to {pin}", class.intent),
        None => class.intent.to_owned(),
    }
}

/// Says what a placeholder stands for.
fn values(varied: &Varied) -> String {
    let Varied { parameter, values } = varied;
    let value = |(value, targets): &(String, usize)| format!("{} in {}", shown(value), count(*targets, "target"));
    let told = match values.as_slice() {
        all if all.len() <= VALUES => all.iter().map(value).collect::<Vec<_>>().join(", "),
        [(_, 1), ..] => format!("{} different values", values.len()),
        // The commonest, and the one that fewest have.
        [first @ .., last] => {
            let some: Vec<String> = first.iter().take(VALUES - 1).map(value).collect();
            format!("{}, {} more, {}", some.join(", "), first.len() - some.len(), value(last))
        }
        [] => String::new(),
    };
    format!("{{{parameter}}}: {told}")
}

/// Returns a value as it is shown.
fn shown(value: &str) -> String {
    elide(&clean(&COVERED.replace_all(value, "[secret $1]")), VALUE)
}

fn named(targets: &[TargetId]) -> String {
    let names: Vec<String> = targets.iter().take(NAMED).map(ToString::to_string).collect();
    let more = targets.len().saturating_sub(NAMED);
    if more > 0 { format!("{} and {more} more", names.join(", ")) } else { names.join(", ") }
}

fn colour(mark: char) -> anstyle::Style {
    match mark {
        '+' => GOOD,
        '-' => BAD,
        _ => WARN,
    }
}

/// Returns what a reader must not miss about a resource, and whether it is bad.
fn remarks(row: &Row) -> Vec<(String, bool)> {
    let mut remarks = Vec::new();
    match row.action.as_str() {
        "Add" | "Modify" | "Remove" => {}
        other => remarks.push((other.to_owned(), false)),
    }
    match row.replacement {
        Replacement::Always => remarks.push(("replaced".to_owned(), true)),
        Replacement::Conditional => remarks.push(("may be replaced, known after apply".to_owned(), false)),
        Replacement::Never => {}
    }
    if row.endangers_data {
        remarks.push(("DATA AT RISK".to_owned(), true));
    }
    remarks.extend(row.policy.as_ref().map(|policy| (format!("policy {}", clean(policy)), false)));
    let scope: Vec<&str> = row.scope.iter().map(String::as_str).filter(|scope| *scope != "Properties").collect();
    if !scope.is_empty() {
        remarks.push((clean(&scope.join(", ")), false));
    }
    remarks
}

/// Returns how a property changes, line by line with its mark.
fn diff(property: &Property) -> Vec<(char, String)> {
    let path = clean(property.path.trim_start_matches("/Properties/"));
    let cause = causes(&property.causes);
    let after = match &property.after {
        _ if property.is_dynamic => Some("known after apply".to_owned()),
        other => other.as_deref().map(shown),
    };
    let replaces = if property.replacement == Replacement::Always && !property.is_dynamic { ", replaces" } else { "" };
    let why = if cause.is_empty() && replaces.is_empty() { String::new() } else { format!("  ({cause}{replaces})") };
    let why = why.replace("(, ", "(");
    if let (Some(before), Some(new), false) = (&property.before, &property.after, property.is_dynamic)
        && let (Some(before), Some(new)) = (pretty(before), pretty(new))
    {
        let mut lines = vec![(' ', format!("{path}{why}"))];
        for change in TextDiff::from_lines(&before, &new).iter_all_changes() {
            let mark = match change.tag() {
                ChangeTag::Equal => continue,
                ChangeTag::Delete => '-',
                ChangeTag::Insert => '+',
            };
            lines.push((mark, shown(change.value().trim_end())));
        }
        return lines;
    }
    match (property.before.as_deref().map(shown), after) {
        (None, None) => vec![(' ', format!("{path}{why}"))],
        (Some(before), Some(after)) if before.chars().count() + after.chars().count() <= LINE => {
            vec![('~', format!("{path}: {before} → {after}{why}"))]
        }
        (before, after) => {
            let mut lines = vec![(' ', format!("{path}{why}"))];
            lines.extend(before.map(|value| ('-', value)));
            lines.extend(after.map(|value| ('+', value)));
            lines
        }
    }
}

/// Returns a JSON object or list with a line for each value, so that only what differs has to be read.
fn pretty(value: &str) -> Option<String> {
    let json: serde_json::Value = serde_json::from_str(value).ok()?;
    (json.is_object() || json.is_array()).then(|| serde_json::to_string_pretty(&json).unwrap_or_default() + "\n")
}

/// Says in the words of a template what caused a change.
fn causes(causes: &[String]) -> String {
    let mut told: Vec<String> = Vec::new();
    for cause in causes {
        let (source, entity) = cause.split_once(' ').unwrap_or((cause, ""));
        let text = match source {
            // That the template says it is told by naming nothing else.
            "DirectModification" | "" => continue,
            "ParameterReference" => format!("parameter {}", clean(entity)),
            "ResourceReference" => format!("reference to {}", clean(entity)),
            "ResourceAttribute" => format!("attribute {}", clean(entity)),
            "Automatic" => "nested stack".to_owned(),
            other => clean(&format!("{other} {entity}")),
        };
        if !told.contains(&text) {
            told.push(text);
        }
    }
    told.join(", ")
}

/// Makes a text fit for a cell of a Markdown table: untrusted names are shown as they are.
fn cell(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in clean(text).chars() {
        if "\\`*_{}[]<>()#+!|~&@".contains(c) {
            shown.push('\\');
        }
        shown.push(c);
    }
    shown
}

fn longest_run(text: &str) -> usize {
    text.split(|c| c != '`').map(str::len).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Change, ChangeAction, PropertyChange};
    use crate::plan::tests::{change, plan, target};
    use crate::plan::{Intent, TargetContent};

    fn detail(path: &str, before: &str, after: &str) -> PropertyChange {
        PropertyChange {
            path: format!("/Properties/{path}"),
            before: Some(before.into()),
            after: Some(after.into()),
            is_dynamic: false,
            replacement: Replacement::Never,
            cause: "ParameterReference S3Key".into(),
        }
    }

    fn four_hundred() -> Plan {
        let common = || {
            let details = vec![detail("Code/S3Key", "artifacts/00d9ca084c5a.zip", "artifacts/9a1b6e0f3c21.zip")];
            Change { details, ..change("Function") }
        };
        let named = |number: usize| format!("tenant-{number:03}");
        let mut targets: Vec<TargetContent> =
            (0..397).map(|number| target(&named(number), Intent::of(false, vec![common()]))).collect();
        let policy = detail("Policy", r#"{"a":1,"b":[1,2]}"#, r#"{"a":1,"b":[1,3]}"#);
        let gone =
            Change { action: ChangeAction::Remove, resource_type: "AWS::DynamoDB::Table".into(), ..change("Table") };
        let role = Change { replacement: Replacement::Conditional, details: vec![policy], ..change("Role") };
        targets[7].intent = Intent::of(false, vec![common(), gone, role]);
        targets.push(target("tenant-398", Intent::Unchanged));
        targets.push(TargetContent { pin: Some("0123456789ab".into()), ..target("tenant-399", Intent::Pinned) });
        let added = Change { action: ChangeAction::Add, ..change("Function") };
        targets.push(target("tenant-400", Intent::of(true, vec![added])));
        plan(targets)
    }

    #[test]
    fn a_plan_for_four_hundred_targets_fits_a_screen_outliers_first() {
        let text = anstream::adapter::strip_str(&in_text(&four_hundred())).to_string();
        assert!(text.lines().count() < 40, "{text}");
        insta::assert_snapshot!(text);
    }

    #[test]
    fn markdown_says_the_same() {
        insta::assert_snapshot!(in_markdown(&four_hundred()));
    }

    #[test]
    fn secrets_are_named_by_a_few_digits_and_hostile_names_stay_names() {
        let mut secret = detail("Password", "a", "b");
        secret.before = Some(format!("hmac-sha256:{}", "1".repeat(64)));
        secret.after = Some(format!("hmac-sha256:{}", "2".repeat(64)));
        let hostile = detail("X", "```\n</details><script>", "\u{1b}[31m::error::x");
        let changed = Change { details: vec![secret, hostile], ..change("A|b`c<script>") };
        let plan = plan(vec![target("a", Intent::of(false, vec![changed]))]);
        let text = anstream::adapter::strip_str(&in_text(&plan)).to_string();
        assert!(text.contains("Password: [secret 11111111] → [secret 22222222]"), "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
        let markdown = in_markdown(&plan);
        assert!(markdown.contains(r"| Modify | A\|b\`c\<script\> |"), "{markdown}");
        assert!(markdown.contains("````diff"), "{markdown}");
    }
}
