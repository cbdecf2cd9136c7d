//! Plans that need no person.

use super::Content;
use crate::domain::gate::fits;
use crate::domain::{AutoRule, Change, ChangeAction, Replacement};

/// Tells whether all of the rules hold of a plan. Where there is none, somebody has to decide.
pub fn holds(rules: &[AutoRule], content: &Content) -> bool {
    !rules.is_empty() && rules.iter().all(|rule| rule_holds(rule, content))
}

fn rule_holds(rule: &AutoRule, content: &Content) -> bool {
    let executed = || content.targets.iter().filter(|target| target.intent.is_executable());
    let all = |holds: &dyn Fn(&Change) -> bool| executed().flat_map(|target| target.intent.changes()).all(holds);
    match rule {
        AutoRule::NoChanges => executed().next().is_none(),
        // What is known during execution only, or is newer than this program, may be a removal.
        AutoRule::NoRemovals => {
            all(&|change| matches!(change.action, ChangeAction::Add | ChangeAction::Modify | ChangeAction::Import))
        }
        AutoRule::NoReplacements => all(&|change| change.replacement == Replacement::Never),
        AutoRule::ResourceTypes(types) => {
            all(&|change| types.iter().any(|pattern| fits(pattern, &change.resource_type)))
        }
        AutoRule::Targets(most) => executed().count() <= *most,
    }
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
        let table = plan(Change { resource_type: "AWS::DynamoDB::Table".into(), ..change("A") });
        let nothing = content(vec![target("a", Intent::Unchanged)]);
        let lambda = AutoRule::ResourceTypes(vec!["AWS::Lambda::*".into()]);
        for (rule, content, expected) in [
            (AutoRule::NoChanges, &harmless, false),
            (AutoRule::NoChanges, &nothing, true),
            (AutoRule::NoRemovals, &harmless, true),
            (AutoRule::NoRemovals, &removal, false),
            (AutoRule::NoRemovals, &newer, false),
            (AutoRule::NoReplacements, &harmless, true),
            (AutoRule::NoReplacements, &perhaps, false),
            (lambda.clone(), &harmless, true),
            (lambda.clone(), &table, false),
            (AutoRule::Targets(1), &harmless, true),
            (AutoRule::Targets(0), &harmless, false),
        ] {
            assert_eq!(holds(std::slice::from_ref(&rule), content), expected, "{rule}");
        }
        assert!(!holds(&[], &nothing), "without a rule somebody has to decide");
        assert!(!holds(&[AutoRule::NoRemovals, AutoRule::Targets(0)], &harmless), "all rules have to hold");
    }
}
