//! Plans that need no person.

use super::Content;
use crate::domain::change_set::NESTED_STACK;
use crate::domain::gate::fits;
use crate::domain::{AutoRule, Change, ChangeAction, Replacement};

/// Tells whether all of the rules hold of a plan. Where there is none, somebody has to decide.
pub fn holds(rules: &[AutoRule], content: &Content) -> bool {
    !rules.is_empty() && !is_opaque(content) && rules.iter().all(|rule| rule_holds(rule, content))
}

/// Tells whether a nested stack changes and the plan does not say how: then no rule can speak for anybody.
fn is_opaque(content: &Content) -> bool {
    content.targets.iter().any(|target| {
        let changes = target.intent.changes();
        let within = |parent: &str| changes.iter().any(|change| change.logical_id.starts_with(&format!("{parent}/")));
        changes.iter().any(|change| change.resource_type == NESTED_STACK && !within(&change.logical_id))
    })
}

fn rule_holds(rule: &AutoRule, content: &Content) -> bool {
    let executed = || content.targets.iter().filter(|target| target.intent.is_executable());
    let all = |holds: &dyn Fn(&Change) -> bool| executed().flat_map(|target| target.intent.changes()).all(holds);
    match rule {
        AutoRule::NoChanges => executed().next().is_none(),
        // A replacement removes what it replaces.
        AutoRule::NoRemovals => {
            all(&|change| is_known(change) && stays(change) && change.action != ChangeAction::Remove)
        }
        AutoRule::NoReplacements => all(&|change| is_known(change) && stays(change)),
        AutoRule::ResourceTypes(types) => {
            all(&|change| types.iter().any(|pattern| fits(pattern, &change.resource_type)))
        }
        AutoRule::Targets(most) => executed().count() <= *most,
    }
}

/// Tells whether the plan says what is done: what is known during execution only, or is newer than this program, may be
/// anything.
fn is_known(change: &Change) -> bool {
    matches!(change.action, ChangeAction::Add | ChangeAction::Modify | ChangeAction::Remove | ChangeAction::Import)
}

/// Tells whether the resource is not replaced, not even perhaps.
fn stays(change: &Change) -> bool {
    change.replacement == Replacement::Never
}

#[cfg(test)]
mod tests {
    use super::super::Intent;
    use super::super::tests::{change, content, target};
    use super::*;

    #[test]
    fn every_rule_refuses_what_it_is_about_and_nothing_else() {
        let plan = |change: Change| {
            content(vec![target("a", Intent::of(false, vec![change])), target("b", Intent::Unchanged)])
        };
        let harmless = plan(change("A"));
        let removal = plan(Change { action: ChangeAction::Remove, ..change("A") });
        let newer = plan(Change { action: ChangeAction::Other("Transmute".into()), ..change("A") });
        let perhaps = plan(Change { replacement: Replacement::Conditional, ..change("A") });
        let dynamic = plan(Change { action: ChangeAction::Dynamic, ..change("A") });
        let replaced = plan(Change { replacement: Replacement::Always, ..change("A") });
        let table = plan(Change { resource_type: "AWS::DynamoDB::Table".into(), ..change("A") });
        let nothing = content(vec![target("a", Intent::Unchanged)]);
        let lambda = AutoRule::ResourceTypes(vec!["AWS::Lambda::*".into()]);
        for (rule, content, expected) in [
            (AutoRule::NoChanges, &harmless, false),
            (AutoRule::NoChanges, &nothing, true),
            (AutoRule::NoRemovals, &harmless, true),
            (AutoRule::NoRemovals, &removal, false),
            (AutoRule::NoRemovals, &newer, false),
            (AutoRule::NoRemovals, &replaced, false),
            (AutoRule::NoRemovals, &dynamic, false),
            (AutoRule::NoReplacements, &harmless, true),
            (AutoRule::NoReplacements, &removal, true),
            (AutoRule::NoReplacements, &dynamic, false),
            (AutoRule::NoReplacements, &perhaps, false),
            (lambda.clone(), &harmless, true),
            (lambda.clone(), &table, false),
            (AutoRule::Targets(1), &harmless, true),
            (AutoRule::Targets(0), &harmless, false),
        ] {
            assert_eq!(holds(std::slice::from_ref(&rule), content), expected, "{rule}");
        }
        let stack = || Change { resource_type: NESTED_STACK.into(), ..change("Network") };
        let targets = [AutoRule::Targets(9)];
        assert!(!holds(&targets, &plan(stack())), "nobody knows what happens within it");
        let known = Intent::of(false, vec![stack(), change("Network/Vpc")]);
        assert!(holds(&targets, &content(vec![target("a", known)])));
        assert!(!holds(&[], &nothing), "without a rule somebody has to decide");
        assert!(!holds(&[AutoRule::NoRemovals, AutoRule::Targets(0)], &harmless), "all rules have to hold");
    }
}
