//! What `tenantry doctor` has found, for people: first what is wrong.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::text::{BAD, DIM, GOOD, clean, count, styled};
use super::views::table;
use crate::engine::{DoctorCheck, Examination, Finding};

/// Up to so many targets each is listed; beyond, only those with a finding.
const LISTED: usize = 40;

/// Returns what was found in the tooling account and in the targets. What is wrong is told once for all targets for which
/// it is the same.
pub fn diagnosis<'a>(tooling: impl Iterator<Item = (&'a str, &'a str, bool)>, targets: &[Examination]) -> String {
    let mut text = String::new();
    for (check, found, well) in tooling {
        let mark = if well { styled(GOOD, "ok") } else { styled(BAD, "no") };
        let _ = writeln!(text, "{mark}  {check}: {}", clean(found));
    }
    let bad: Vec<&Examination> = targets.iter().filter(|target| target.finding.is_some()).collect();
    let mut rows =
        vec![["STAGE", "TARGET", "ACCOUNT", "ACCESS", "ARTIFACTS", "QUOTAS", "CHANGE SETS"].map(str::to_owned)];
    for target in if targets.len() > LISTED { bad.clone() } else { targets.iter().collect() } {
        let Examination { stage, target, account, finding, quotas } = target;
        let [access, artifacts, mut room, change_sets] = DoctorCheck::ALL.map(|check| mark(check, finding.as_ref()));
        if finding.is_none() {
            let fullest = quotas.iter().flatten().max_by_key(|quota| quota.percent());
            room = fullest.map_or_else(|| "?".to_owned(), |quota| format!("{} % of {}", quota.percent(), quota.name));
        }
        rows.push([stage.clone(), target.to_string(), account.to_string(), access, artifacts, room, change_sets]);
    }
    if rows.len() > 1 {
        let _ = write!(text, "\n{}\n", table(&rows));
    }
    let mut findings: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for Examination { target, account, finding, .. } in targets {
        if let Some(finding) = finding {
            // The same fault in many accounts differs in their numbers.
            let told = instead(&instead(&told(finding), account.as_str(), "ACCOUNT"), &target.tenant, "TENANT");
            findings.entry(told).or_default().push(target.to_string());
        }
    }
    for (told, targets) in findings {
        let names = if targets.len() > 6 {
            format!("{}, … and {} more", targets[..5].join(", "), targets.len() - 5)
        } else {
            targets.join(", ")
        };
        let _ = write!(text, "\n{}\n{told}", styled(BAD, clean(&names)));
    }
    let verdict = match bad.len() {
        0 => styled(GOOD, format!("{} can be released to", count(targets.len(), "target"))),
        number => styled(BAD, format!("{number} of {} cannot be released to", count(targets.len(), "target"))),
    };
    let _ = write!(text, "\n{verdict}");
    text
}

fn mark(check: DoctorCheck, finding: Option<&Finding>) -> String {
    let place = |check| DoctorCheck::ALL.iter().position(|one| *one == check);
    match finding {
        Some(finding) if finding.check == check => "no",
        Some(finding) if place(finding.check) < place(check) => "?",
        _ => "ok",
    }
    .to_owned()
}

/// Puts something in the place of a name, where it stands by itself.
fn instead(text: &str, name: &str, other: &str) -> String {
    let goes_on = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric() || c == '-');
    let mut result = String::with_capacity(text.len());
    let mut at = 0;
    for (place, found) in text.match_indices(name) {
        let end = place + found.len();
        if !goes_on(text[..place].chars().next_back()) && !goes_on(text[end..].chars().next()) {
            result.push_str(&text[at..place]);
            result.push_str(other);
            at = end;
        }
    }
    result + &text[at..]
}

fn told(finding: &Finding) -> String {
    let Finding { check, problem, hint, missing } = finding;
    // What tells one call from another is of no help here.
    let problem = problem.split(" (request ").next().unwrap_or(problem);
    let mut text = format!("  {}: {}\n", check.name(), clean(problem));
    let _ = writeln!(text, "  {}", styled(DIM, format!("hint: {}", clean(hint))));
    if let Some(missing) = missing {
        let _ = writeln!(text, "  {}", clean(&format!("missing in {}: {}", missing.policy, missing.statement)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::instead;

    #[test]
    fn a_name_is_replaced_where_it_is_one() {
        let text = "`tenant remove gone --account-is-gone` of gone/eu-west-1, a-gone, goner, gone";
        let told = "`tenant remove X --account-is-gone` of X/eu-west-1, a-gone, goner, X";
        assert_eq!(instead(text, "gone", "X"), told);
    }
}
