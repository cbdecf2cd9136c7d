//! Folding the change sets of many targets into the few that differ.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Content, Intent};
use crate::domain::{Change, Replacement, TargetId};

/// Targets in which the same would happen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Class {
    /// `create`, `update`, `unchanged` or `excluded`.
    pub intent: &'static str,
    /// The targets, in the order of their names.
    pub targets: Vec<TargetId>,
    /// What would happen to each resource.
    pub rows: Vec<Row>,
}

/// What would happen to one resource, without the values that differ from tenant to tenant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Row {
    /// CloudFormation's name of the action.
    pub action: String,
    /// The mark of the action in a diff.
    pub mark: char,
    /// The resource's name in the template.
    pub logical_id: String,
    /// The resource's type.
    pub resource_type: String,
    /// Whether it is replaced.
    pub replacement: Replacement,
    /// Which properties change.
    pub properties: Vec<String>,
}

impl From<&Change> for Row {
    fn from(change: &Change) -> Self {
        let mut properties: Vec<String> = change.details.iter().map(|detail| detail.path.clone()).collect();
        properties.sort();
        properties.dedup();
        Self {
            action: change.action.name().to_owned(),
            mark: change.action.mark(),
            logical_id: change.logical_id.clone(),
            resource_type: change.resource_type.clone(),
            replacement: change.replacement,
            properties,
        }
    }
}

/// Returns the classes of a plan, those of few targets first: what differs from the rest is what a reader has
/// to see. Targets with nothing to do come last.
pub fn classes(content: &Content) -> Vec<Class> {
    let mut found: BTreeMap<(&'static str, Vec<Row>), Vec<TargetId>> = BTreeMap::new();
    for target in &content.targets {
        let intent = match &target.intent {
            Intent::Create(_) => "create",
            Intent::Update(_) => "update",
            Intent::Unchanged => "unchanged",
            Intent::Excluded => "excluded",
        };
        let rows = target.intent.changes().iter().map(Row::from).collect();
        found.entry((intent, rows)).or_default().push(target.target.clone());
    }
    let mut classes: Vec<Class> =
        found.into_iter().map(|((intent, rows), targets)| Class { intent, targets, rows }).collect();
    classes.sort_by_key(|class| (class.intent == "unchanged", class.targets.len()));
    classes
}

#[cfg(test)]
mod tests {
    use super::super::tests::{change, content, target};
    use super::*;

    #[test]
    fn equal_changes_fold_and_outliers_come_first() {
        let common = || Intent::of(false, vec![change("A")]);
        let classes = classes(&content(vec![
            target("a", common()),
            target("b", Intent::Unchanged),
            target("c", common()),
            target("d", Intent::of(false, vec![change("A"), change("B")])),
            target("e", Intent::of(true, vec![change("A")])),
        ]));
        let shown: Vec<_> = classes.iter().map(|class| (class.intent, class.targets.len(), class.rows.len())).collect();
        assert_eq!(shown, [("create", 1, 1), ("update", 1, 2), ("update", 2, 1), ("unchanged", 1, 0)]);
    }
}
