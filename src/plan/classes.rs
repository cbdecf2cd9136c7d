//! Folding the change sets of many targets into the few that differ.

use std::cell::LazyCell;
use std::collections::BTreeMap;

use serde::Serialize;

use super::placeholders::Placeholders;
use super::{Content, Intent};
use crate::domain::{Change, ParameterValue, PropertyChange, ReleaseId, Replacement, TargetId};

/// A class of so many of a hundred targets, or fewer, is an outlier.
const OUTLIER_PERCENT: usize = 5;

/// Targets in which the same would happen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Class {
    /// `create`, `update`, `unchanged`, `pinned` or `excluded`.
    pub intent: &'static str,
    /// The release that the targets are pinned to, if they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pin: Option<ReleaseId>,
    /// Whether something happens here that happens almost nowhere else.
    pub outlier: bool,
    /// The targets, in the order of their names.
    pub targets: Vec<TargetId>,
    /// What would happen to each resource.
    pub rows: Vec<Row>,
    /// The parameters that a placeholder in the rows stands for, and that not all of the targets have alike.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub varied: Vec<Varied>,
}

/// A parameter that targets of one class have otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Varied {
    /// Its name, as it stands in braces in the rows.
    pub parameter: String,
    /// Its values and how many targets have each, the rarest last; secret ones by their keyed hash.
    pub values: Vec<(String, usize)>,
}

/// What would happen to one resource. A value that differs within the class has placeholders for what differs.
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
    /// Which attributes are touched.
    pub scope: Vec<String>,
    /// What becomes of a resource that goes, where the template says so.
    pub policy: Option<String>,
    /// Whether data could be lost.
    pub endangers_data: bool,
    /// Which properties change.
    pub properties: Vec<Property>,
}

/// How one property would change.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Property {
    /// The property's path within the resource.
    pub path: String,
    /// The value before; none where CloudFormation does not say.
    pub before: Option<String>,
    /// The value after; none where CloudFormation does not say.
    pub after: Option<String>,
    /// Whether the value after is known during execution only.
    pub is_dynamic: bool,
    /// Whether changing it replaces the resource.
    pub replacement: Replacement,
    /// What caused it, in CloudFormation's words.
    pub causes: Vec<String>,
}

impl Row {
    /// Describes a change; `show` is what is done to each value.
    fn new(change: &Change, show: &dyn Fn(&str) -> String) -> Self {
        let mut properties: Vec<Property> = Vec::new();
        for detail in &change.details {
            let PropertyChange { path, before, after, is_dynamic, replacement, cause } = detail;
            let (before, after) = (before.as_deref().map(show), after.as_deref().map(show));
            // CloudFormation tells a property once for each cause.
            match properties.last_mut() {
                Some(same) if &same.path == path && same.before == before && same.after == after => {
                    same.is_dynamic &= *is_dynamic;
                    same.replacement = same.replacement.min(*replacement);
                    same.causes.push(cause.clone());
                }
                _ => properties.push(Property {
                    path: path.clone(),
                    before,
                    after,
                    is_dynamic: *is_dynamic,
                    replacement: *replacement,
                    causes: vec![cause.clone()],
                }),
            }
        }
        Self {
            action: change.action.name().to_owned(),
            mark: change.action.mark(),
            logical_id: change.logical_id.clone(),
            resource_type: change.resource_type.clone(),
            replacement: change.replacement,
            scope: change.scope.clone(),
            policy: change.policy.clone(),
            endangers_data: change.endangers_data(),
            properties,
        }
    }

    /// Takes the placeholders of `normal` where `other` has another value than this row.
    fn generalise(&mut self, other: &Self, normal: &Self) {
        for ((own, other), normal) in self.properties.iter_mut().zip(&other.properties).zip(&normal.properties) {
            if own.before != other.before {
                own.before.clone_from(&normal.before);
            }
            if own.after != other.after {
                own.after.clone_from(&normal.after);
            }
        }
    }
}

/// Returns the classes of a plan, those of few targets first: what differs from the rest is what a reader has
/// to see. Targets with nothing to do come last.
pub fn classes(content: &Content) -> Vec<Class> {
    let mut found: BTreeMap<(&'static str, Option<ReleaseId>, Vec<Row>), Class> = BTreeMap::new();
    for target in &content.targets {
        // Where there is no value to show, as in a first release, nothing is searched for.
        let placeholders = LazyCell::new(|| Placeholders::of(target));
        let changes = target.intent.changes();
        let normal: Vec<Row> =
            changes.iter().map(|change| Row::new(change, &|value| placeholders.apply(value))).collect();
        let own: Vec<Row> = changes.iter().map(|change| Row::new(change, &str::to_owned)).collect();
        let (intent, pin) = match &target.intent {
            Intent::Create(_) => ("create", None),
            Intent::Update(_) => ("update", None),
            Intent::Unchanged => ("unchanged", None),
            Intent::Pinned => ("pinned", target.pin.clone()),
            Intent::Excluded => ("excluded", None),
        };
        let empty = || Class {
            intent,
            pin: pin.clone(),
            outlier: false,
            targets: Vec::new(),
            rows: own.clone(),
            varied: Vec::new(),
        };
        let class = found.entry((intent, pin.clone(), normal.clone())).or_insert_with(empty);
        class.targets.push(target.target.clone());
        for ((row, own), normal) in class.rows.iter_mut().zip(&own).zip(&normal) {
            row.generalise(own, normal);
        }
    }
    let mut classes: Vec<Class> = found.into_values().collect();
    let executed = content.targets.iter().filter(|target| target.intent.is_executable()).count();
    let parameters: BTreeMap<&TargetId, &BTreeMap<String, ParameterValue>> =
        content.targets.iter().map(|target| (&target.target, &target.parameters)).collect();
    for class in &mut classes {
        class.varied = varied(class, &parameters);
        class.outlier = !class.rows.is_empty() && class.targets.len() * 100 <= executed * OUTLIER_PERCENT;
    }
    classes.sort_by_key(|class| (class.intent == "unchanged", class.intent == "pinned", class.targets.len()));
    classes
}

/// Returns which parameters stand behind placeholders of a class with more than one value.
fn varied(class: &Class, parameters: &BTreeMap<&TargetId, &BTreeMap<String, ParameterValue>>) -> Vec<Varied> {
    let properties = || class.rows.iter().flat_map(|row| &row.properties);
    let texts = || properties().flat_map(|property| [&property.before, &property.after]).flatten();
    let names = class.targets.first().and_then(|target| parameters.get(target)).into_iter().flat_map(|map| map.keys());
    let shown = names.filter(|name| texts().any(|text| text.contains(&format!("{{{name}}}"))));
    let values = |name: &String| {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for target in &class.targets {
            *counts
                .entry(parameters[target].get(name).and_then(ParameterValue::text).unwrap_or_default())
                .or_default() += 1;
        }
        let mut values: Vec<(String, usize)> =
            counts.into_iter().map(|(value, count)| (value.to_owned(), count)).collect();
        values.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        Varied { parameter: name.clone(), values }
    };
    shown.map(values).filter(|varied| varied.values.len() > 1).collect()
}

/// Returns what a reader has to know first: `412 targets, 3 distinct plans, 2 outliers`.
pub fn headline(classes: &[Class]) -> String {
    let counted = |number: usize, noun: &str| format!("{number} {noun}{}", if number == 1 { "" } else { "s" });
    let targets = classes.iter().map(|class| class.targets.len()).sum();
    let distinct = classes.iter().filter(|class| matches!(class.intent, "create" | "update")).count();
    let outliers = classes.iter().filter(|class| class.outlier).map(|class| class.targets.len()).sum();
    let mut parts = vec![counted(targets, "target"), counted(distinct, "distinct plan")];
    if outliers > 0 {
        parts.push(counted(outliers, "outlier"));
    }
    parts.join(", ")
}

/// Returns what an approver sees of each class, in a line: `update 397 targets: 1 added, 2 modified (1 replaced)`.
pub fn summary(classes: &[Class]) -> Vec<String> {
    let line = |class: &Class| {
        let targets = match class.targets.as_slice() {
            [one] => one.to_string(),
            many => format!("{} targets", many.len()),
        };
        let mut parts: Vec<String> = Vec::new();
        for (name, action) in [("added", "Add"), ("modified", "Modify"), ("removed", "Remove")] {
            let number = class.rows.iter().filter(|row| row.action == action).count();
            parts.extend((number > 0).then(|| format!("{number} {name}")));
        }
        let others = class.rows.iter().filter(|row| !matches!(row.action.as_str(), "Add" | "Modify" | "Remove"));
        parts.extend(others.map(|row| format!("{} {}", row.action, row.logical_id)));
        let replaced = class.rows.iter().filter(|row| row.replacement == Replacement::Always).count();
        parts.extend((replaced > 0).then(|| format!("{replaced} replaced")));
        let endangered: Vec<&str> =
            class.rows.iter().filter(|row| row.endangers_data).map(|row| row.logical_id.as_str()).collect();
        if !endangered.is_empty() {
            parts.push(format!("DATA AT RISK in {}", endangered.join(", ")));
        }
        let pin = class.pin.as_ref().map(|pin| format!(" to {pin}")).unwrap_or_default();
        let what = if parts.is_empty() { String::new() } else { format!(": {}", parts.join(", ")) };
        format!("{}{pin} {targets}{what}", class.intent)
    };
    classes.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::super::TargetContent;
    use super::super::tests::{change, content, target};
    use super::*;

    fn detail(path: &str, before: &str, after: &str, cause: &str) -> PropertyChange {
        PropertyChange {
            path: path.into(),
            before: Some(before.into()),
            after: Some(after.into()),
            is_dynamic: false,
            replacement: Replacement::Never,
            cause: cause.into(),
        }
    }

    #[test]
    fn equal_changes_fold_and_outliers_come_first() {
        let common = || Intent::of(false, vec![change("A")]);
        let mut targets = vec![
            target("b", Intent::Unchanged),
            target("d", Intent::of(false, vec![change("A"), change("B")])),
            target("e", Intent::of(true, vec![change("A")])),
            TargetContent { pin: Some("0123456789ab".into()), ..target("p", Intent::Pinned) },
        ];
        targets.extend((0..40).map(|number| target(&format!("t{number}"), common())));
        let classes = classes(&content(targets));
        let shown: Vec<_> =
            classes.iter().map(|class| (class.intent, class.targets.len(), class.rows.len(), class.outlier)).collect();
        assert_eq!(
            shown,
            [
                ("create", 1, 1, true),
                ("update", 1, 2, true),
                ("update", 40, 1, false),
                ("pinned", 1, 0, false),
                ("unchanged", 1, 0, false)
            ]
        );
        assert_eq!(headline(&classes), "44 targets, 3 distinct plans, 2 outliers");
        assert_eq!(summary(&classes)[2], "update 40 targets: 1 modified");
        assert_eq!(summary(&classes)[3], "pinned to 0123456789ab p/eu-west-1");
    }

    #[test]
    fn values_that_are_each_tenants_own_fold_and_common_ones_stay_readable() {
        let of = |tenant: &str| {
            let mut change = change("Function");
            change.details = vec![
                detail("/Properties/Code/S3Key", "old.zip", "new.zip", "DirectModification"),
                detail("/Properties/Code/S3Key", "old.zip", "new.zip", "ParameterReference S3Key"),
                detail(
                    "/Properties/Role",
                    "x",
                    &format!("arn:aws:iam::222222222222:role/app-{tenant}-R-1ABCDEFGHIJK"),
                    "",
                ),
            ];
            target(tenant, Intent::of(false, vec![change]))
        };
        let classes = classes(&content(vec![of("gnome"), of("unicorn")]));
        assert_eq!(classes.len(), 1);
        let [code, role] = classes[0].rows[0].properties.as_slice() else { panic!("{classes:?}") };
        assert_eq!((code.after.as_deref(), code.causes.len()), (Some("new.zip"), 2));
        assert_eq!(role.after.as_deref(), Some("arn:aws:iam::{account}:role/{stack}-R-{id}"));
    }

    #[test]
    fn a_value_that_only_one_tenant_has_is_told() {
        let of = |tenant: &str, size: &str| {
            let mut change = change("Function");
            change.details = vec![detail("/Properties/MemorySize", "128", size, "ParameterReference Size")];
            let mut target = target(tenant, Intent::of(false, vec![change]));
            target.parameters.insert("Size".into(), size.into());
            target
        };
        let classes = classes(&content(vec![of("a", "512"), of("b", "10240"), of("c", "512")]));
        assert_eq!(classes.len(), 1);
        assert_eq!(classes[0].rows[0].properties[0].after.as_deref(), Some("{Size}"));
        let values = vec![("512".to_owned(), 2), ("10240".to_owned(), 1)];
        assert_eq!(classes[0].varied, [Varied { parameter: "Size".into(), values }]);
    }

    #[test]
    fn a_resource_with_data_that_goes_is_named() {
        let mut table = change("Table");
        table.resource_type = "AWS::DynamoDB::Table".into();
        table.replacement = Replacement::Always;
        let with = |table: Change| summary(&classes(&content(vec![target("a", Intent::of(false, vec![table]))])));
        assert_eq!(with(table.clone()), ["update a/eu-west-1: 1 modified, 1 replaced, DATA AT RISK in Table"]);
        table.policy = Some("ReplaceAndRetain".into());
        assert_eq!(with(table), ["update a/eu-west-1: 1 modified, 1 replaced"]);
    }
}
