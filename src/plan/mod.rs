//! What would be done everywhere, as a value: its content, the digest that names it, and its classes.

mod classes;
mod secrets;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use classes::{Class, Row, classes};
pub use secrets::Secrets;

use crate::domain::{AccountId, Change, Digest, Release, ReleaseId, Rollout, Target, TargetId};

/// A plan as it is kept in the store, under its digest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Names the plan: the sha256 of its content's canonical JSON.
    pub digest: Digest,
    /// What the digest covers.
    pub content: Content,
    /// Which change set is each target's. Not covered: the same change, planned again, has the same digest.
    pub change_sets: Vec<ChangeSetRef>,
    /// Which targets of the stage were asked for.
    pub selection: Selection,
}

/// What a plan would do, without any id that differs from one planning to the next (safety rule 2).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Content {
    /// The format of this record.
    pub version: u32,
    /// The application's name.
    pub application: String,
    /// The stage's name.
    pub stage: String,
    /// The release's name.
    pub release: ReleaseId,
    /// sha256 of every artifact, by name.
    pub artifacts: BTreeMap<String, Digest>,
    /// sha256 of the template.
    pub template: Digest,
    /// The pace and the tolerance.
    pub rollout: Rollout,
    /// What would be done in each target, in the order of their names.
    pub targets: Vec<TargetContent>,
}

/// What a plan would do in one target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TargetContent {
    /// Which target.
    pub target: TargetId,
    /// The account it is in.
    pub account: AccountId,
    /// The stack's name.
    pub stack: String,
    /// The role that CloudFormation uses.
    pub deployment_role: String,
    /// Template parameters; NoEcho ones by their keyed hash.
    pub parameters: BTreeMap<String, String>,
    /// The stack's tags.
    pub tags: BTreeMap<String, String>,
    /// Acknowledged capabilities.
    pub capabilities: Vec<String>,
    /// What would happen.
    pub intent: Intent,
}

/// What would happen to a target's stack.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "intent", content = "changes", rename_all = "kebab-case")]
pub enum Intent {
    /// The stack is created.
    Create(Vec<Change>),
    /// The stack is updated.
    Update(Vec<Change>),
    /// The stack is as it should be.
    Unchanged,
    /// The target could not be planned and is left out, within the tolerance.
    Excluded,
}

impl Intent {
    /// Returns the changes, sorted, so that CloudFormation's order does not matter.
    pub fn of(creates: bool, mut changes: Vec<Change>) -> Self {
        for change in &mut changes {
            change.scope.sort();
            change.details.sort();
        }
        changes.sort();
        if creates { Self::Create(changes) } else { Self::Update(changes) }
    }

    /// Returns the changes of a stack that is created or updated.
    pub fn changes(&self) -> &[Change] {
        match self {
            Self::Create(changes) | Self::Update(changes) => changes,
            Self::Unchanged | Self::Excluded => &[],
        }
    }

    /// Tells whether there is something to execute.
    pub fn is_executable(&self) -> bool {
        matches!(self, Self::Create(_) | Self::Update(_))
    }
}

/// Finds a target's change set again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeSetRef {
    /// Which target.
    pub target: TargetId,
    /// ARN of the stack.
    pub stack_id: String,
    /// Name of the change set.
    pub name: String,
}

/// Which targets of a stage are meant; empty lists mean all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    /// Names of tenants.
    pub tenants: Vec<String>,
    /// Labels that a tenant must have, as key and value.
    pub labels: Vec<(String, String)>,
}

impl TargetContent {
    /// Describes a target and what would happen to it.
    pub fn new(target: &Target, intent: Intent, secrets: &Secrets) -> Self {
        Self {
            target: target.id.clone(),
            account: target.account.clone(),
            stack: target.stack.clone(),
            deployment_role: target.deployment_role.clone(),
            parameters: target
                .parameters
                .iter()
                .map(|(name, value)| (name.clone(), secrets.cover(name, value)))
                .collect(),
            tags: target.tags.clone(),
            capabilities: target.capabilities.clone(),
            intent,
        }
    }
}

impl Content {
    /// Puts a plan's content together.
    pub fn new(stage: &str, release: &Release, rollout: Rollout, mut targets: Vec<TargetContent>) -> Self {
        targets.sort_by(|a, b| a.target.cmp(&b.target));
        Self {
            version: 1,
            application: release.application.clone(),
            stage: stage.to_owned(),
            release: release.id.clone(),
            artifacts: release.artifacts.iter().map(|(name, artifact)| (name.clone(), artifact.sha256)).collect(),
            template: release.template.sha256,
            rollout,
            targets,
        }
    }

    /// Returns the sha256 over the content's canonical JSON (RFC 8785).
    ///
    /// # Panics
    ///
    /// Panics where the content cannot be written as JSON, which its types exclude.
    pub fn digest(&self) -> Digest {
        Digest::of(serde_json_canonicalizer::to_vec(self).expect("a plan's content is plain JSON"))
    }

    /// Returns how many targets may fail.
    pub fn tolerated(&self) -> usize {
        self.rollout.failure_tolerance.of(self.targets.len())
    }

    /// Tells whether there is anything to execute.
    pub fn is_executable(&self) -> bool {
        self.targets.iter().any(|target| target.intent.is_executable())
    }

    /// Names what differs between this content and `now`, for a person who wonders why a plan is refused.
    pub fn differences(&self, now: &Self) -> Vec<String> {
        let mut found = Vec::new();
        let mut differ = |what: &str, before: &dyn std::fmt::Display, after: &dyn std::fmt::Display| {
            let (before, after) = (before.to_string(), after.to_string());
            if before != after {
                found.push(format!("{what} was {before} and is {after}"));
            }
        };
        differ("the application", &self.application, &now.application);
        differ("the stage", &self.stage, &now.stage);
        differ("the release", &self.release, &now.release);
        differ("max-concurrency", &self.rollout.max_concurrency, &now.rollout.max_concurrency);
        differ("failure-tolerance", &self.rollout.failure_tolerance, &now.rollout.failure_tolerance);
        let by_id = |content: &Self| -> BTreeMap<String, TargetContent> {
            content.targets.iter().map(|target| (target.target.to_string(), target.clone())).collect()
        };
        let (before, after) = (by_id(self), by_id(now));
        for (id, target) in &before {
            match after.get(id) {
                None => found.push(format!("target {id} is gone")),
                Some(other) if other != target => found.push(format!("target {id}: {}", target.difference(other))),
                Some(_) => {}
            }
        }
        found.extend(
            after.keys().filter(|id| !before.contains_key(*id)).map(|id| format!("target {id} was not in the plan")),
        );
        found
    }
}

impl TargetContent {
    fn difference(&self, now: &Self) -> String {
        let changed_parameters = || {
            let names = self.parameters.keys().chain(now.parameters.keys());
            let mut names: Vec<&str> = names
                .filter(|name| self.parameters.get(*name) != now.parameters.get(*name))
                .map(String::as_str)
                .collect();
            names.dedup();
            names.join(", ")
        };
        match () {
            () if self.account != now.account => format!("its account was {} and is {}", self.account, now.account),
            () if self.stack != now.stack => format!("its stack was {} and is {}", self.stack, now.stack),
            () if self.parameters != now.parameters => format!("other parameters: {}", changed_parameters()),
            () if self.intent != now.intent => "CloudFormation would now make other changes".to_owned(),
            () => "its tags, roles or capabilities differ".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::domain::{ChangeAction, Region, Replacement, TemplateObject};

    pub(super) fn change(logical_id: &str) -> Change {
        Change {
            logical_id: logical_id.into(),
            resource_type: "AWS::Lambda::Function".into(),
            action: ChangeAction::Modify,
            replacement: Replacement::Never,
            scope: vec!["Properties".into()],
            details: vec![],
        }
    }

    pub(super) fn target(tenant: &str, intent: Intent) -> TargetContent {
        TargetContent {
            target: TargetId { tenant: tenant.into(), region: Region::new("eu-west-1").unwrap() },
            account: AccountId::new("222222222222").unwrap(),
            stack: format!("app-{tenant}"),
            deployment_role: "role".into(),
            parameters: BTreeMap::from([("Name".into(), tenant.into())]),
            tags: BTreeMap::new(),
            capabilities: vec![],
            intent,
        }
    }

    pub(super) fn content(targets: Vec<TargetContent>) -> Content {
        let template = TemplateObject { sha256: Digest::of("t"), key: "t".into() };
        let release =
            Release::new("app", "bucket", BTreeMap::new(), template, crate::domain::release::Provenance::default());
        Content::new("prod", &release, Rollout::default(), targets)
    }

    #[test]
    fn the_digest_does_not_depend_on_the_order_of_answers() {
        let (a, b) = (change("A"), change("B"));
        let one =
            content(vec![target("x", Intent::of(false, vec![a.clone(), b.clone()])), target("y", Intent::Unchanged)]);
        let other = content(vec![target("y", Intent::Unchanged), target("x", Intent::of(false, vec![b, a]))]);
        assert_eq!(one.digest(), other.digest());
    }

    #[test]
    fn a_plan_survives_its_record() {
        let content = content(vec![target("x", Intent::of(true, vec![change("A")]))]);
        let plan = Plan { digest: content.digest(), content, change_sets: vec![], selection: Selection::default() };
        let read: Plan = serde_json::from_slice(&serde_json::to_vec(&plan).unwrap()).unwrap();
        assert_eq!(read, plan);
        assert_eq!(read.content.digest(), read.digest);
    }

    proptest! {
        /// The digest changes whenever something that it covers changes, and the difference has a name.
        #[test]
        fn any_covered_change_changes_the_digest(which in 0usize..9, text in "[a-z]{1,8}") {
            let before = content(vec![target("x", Intent::of(false, vec![change("A")]))]);
            let mut after = before.clone();
            let first = &mut after.targets[0];
            match which {
                0 => { first.parameters.insert("Name".into(), format!("other-{text}")); }
                1 => { first.parameters.insert(text, "new".into()); }
                2 => { first.tags.insert(text, "new".into()); }
                3 => first.stack = format!("other-{text}"),
                4 => first.intent = Intent::Unchanged,
                5 => first.intent = Intent::of(false, vec![change("A"), change(&text)]),
                6 => first.deployment_role = format!("other-{text}"),
                7 => after.targets.push(target(&format!("new-{text}"), Intent::Unchanged)),
                _ => after.release = ReleaseId::from(text.as_str()),
            }
            prop_assert_ne!(before.digest(), after.digest());
            prop_assert!(!before.differences(&after).is_empty());
            prop_assert_eq!(before.differences(&before), Vec::<String>::new());
        }
    }
}
