//! What would be done everywhere, as a value: its content, the digest that names it, and its classes.

mod approval;
mod auto;
mod classes;
mod placeholders;
mod sealed;
mod secrets;
mod signature;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use approval::{Approval, Decision, Standing, Use, counts, judge, may_approve};
pub use auto::holds;
pub use classes::{Class, Property, Row, Varied, classes, headline, summary};
pub use sealed::Sealed;
pub use secrets::Secrets;
pub use signature::signature;

use crate::domain::{
    AccountId, Alarm, Change, Digest, Gate, Identity, ParameterValue, Release, ReleaseId, Rollout, StackOptions,
    Target, TargetId,
};

/// A plan as it is kept in the store, under its digest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Names the plan: the sha256 of its content's canonical JSON.
    pub digest: Digest,
    /// What the digest covers.
    pub content: Content,
    /// The stacks that need no change, as they were found. Not covered: a stack that has moved is planned again, and
    /// may still need none.
    pub unchanged: Vec<StackVersion>,
    /// Which targets of the stage were asked for.
    pub selection: Selection,
    /// Who planned it, in this round: planning the same again makes nobody's part in it undone.
    pub planners: Vec<Identity>,
    /// When it was planned last.
    pub planned: Timestamp,
    /// Since when this round asks: an older answer is none to it.
    pub asked: Timestamp,
    /// How often approvals of this content were used up or have lapsed: each round asks anew.
    pub round: u32,
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
    /// How the release came to this stage.
    pub origin: Origin,
    /// sha256 of every artifact, by name.
    pub artifacts: BTreeMap<String, Digest>,
    /// sha256 of the template.
    pub template: Digest,
    /// What opens the way between plan and apply.
    pub gate: Gate,
    /// The pace and the tolerance.
    pub rollout: Rollout,
    /// What is asked of CloudFormation beside the template.
    pub options: StackOptions,
    /// What would be done in each target, in the order of their names.
    pub targets: Vec<TargetContent>,
}

/// How a release came to a stage.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Origin {
    /// It was planned for this stage, whatever other stages have.
    #[default]
    Direct,
    /// It was promoted.
    Promoted {
        /// The stage before this one, in which it finished; none before the first.
        after: Option<String>,
    },
    /// It was promoted although it did not finish in the stage before this one: somebody asked to skip the check.
    Unproven {
        /// The stage before this one.
        after: String,
    },
    /// The targets go back to it.
    Rollback,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Direct => f.write_str("planned for this stage"),
            Self::Promoted { after: None } => f.write_str("promoted"),
            Self::Promoted { after: Some(stage) } => write!(f, "promoted, finished in {stage}"),
            Self::Unproven { after } => write!(f, "promoted WITHOUT having finished in {after}"),
            Self::Rollback => f.write_str("rollback"),
        }
    }
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
    /// In which wave it is, counted from 0.
    pub wave: u32,
    /// The role that is assumed in the account.
    pub access_role: String,
    /// The role that CloudFormation uses; none where it acts with the rights of who is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment_role: Option<String>,
    /// sha256 of what has to hold after the stack was deployed, if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checks: Option<Digest>,
    /// The alarms that are watched after it was deployed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alarms: Vec<Alarm>,
    /// The release that the target stays on, if it is pinned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin: Option<ReleaseId>,
    /// sha256 of the artifacts that are the tenant's own, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub variants: BTreeMap<String, Digest>,
    /// Template parameters; secret ones by their keyed hash.
    pub parameters: BTreeMap<String, ParameterValue>,
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
    /// The target is pinned to another release and is left alone.
    Pinned,
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
            Self::Unchanged | Self::Pinned | Self::Excluded => &[],
        }
    }

    /// Tells whether there is something to execute.
    pub fn is_executable(&self) -> bool {
        matches!(self, Self::Create(_) | Self::Update(_))
    }

    /// Says what would be done now instead of this.
    fn instead(&self, now: &Self) -> String {
        let changed = |here: &Self, there: &Self| -> Vec<String> {
            let new = here.changes().iter().filter(|change| !there.changes().contains(change));
            new.map(|change| format!("{} {}", change.action.name(), change.logical_id)).collect()
        };
        let (more, less) = (changed(now, self), changed(self, now));
        match (more.is_empty(), less.is_empty()) {
            _ if !now.is_executable() => "change nothing".to_owned(),
            (false, _) => format!("do otherwise: {}", more.join(", ")),
            (true, false) => format!("no longer do: {}", less.join(", ")),
            (true, true) => "make other changes".to_owned(),
        }
    }
}

/// A target's stack as it was at one time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StackVersion {
    /// Which target.
    pub target: TargetId,
    /// ARN of the stack.
    pub stack_id: String,
    /// When it was last created or updated.
    pub changed: Option<Timestamp>,
}

/// Which targets of a stage are meant; empty lists mean all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    /// Names of tenants.
    pub tenants: Vec<String>,
    /// Labels that a tenant must have, as key and value.
    pub labels: Vec<(String, String)>,
    /// Only targets that the ledger does not have on this release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_on: Option<ReleaseId>,
    /// Only targets that failed in this rollout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_in: Option<String>,
    /// What the ledger or a rollout came to when the plan was made: exactly these targets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub targets: Option<Vec<TargetId>>,
}

impl Selection {
    /// Tells whether all targets of a stage are meant.
    pub fn is_whole(&self) -> bool {
        *self == Self::default()
    }
}

impl TargetContent {
    /// Describes a target and what would happen to it.
    pub fn new(target: &Target, release: &Release, intent: Intent, secrets: &Secrets) -> Self {
        let cover = |changes| secrets.cover_changes(changes);
        let own = release.variants.get(&target.id.tenant).into_iter().flatten();
        Self {
            target: target.id.clone(),
            account: target.account.clone(),
            stack: target.stack.clone(),
            wave: target.wave,
            access_role: target.access_role.clone(),
            deployment_role: target.deployment_role.clone(),
            checks: (!target.checks.is_empty()).then(|| Digest::of_json(&target.checks)),
            alarms: target.alarms.clone(),
            pin: target.pin.clone(),
            variants: own.map(|(name, artifact)| (name.clone(), artifact.sha256)).collect(),
            parameters: secrets.cover_parameters(&target.parameters),
            tags: target.tags.iter().map(|(key, value)| (key.clone(), secrets.cover_known(value))).collect(),
            capabilities: target.capabilities.clone(),
            intent: match intent {
                Intent::Create(changes) => Intent::Create(cover(changes)),
                Intent::Update(changes) => Intent::Update(cover(changes)),
                other => other,
            },
        }
    }
}

impl Content {
    /// Puts a plan's content together.
    pub fn new(
        stage: &str,
        release: &Release,
        origin: Origin,
        gate: Gate,
        rollout: Rollout,
        options: StackOptions,
        mut targets: Vec<TargetContent>,
    ) -> Self {
        targets.sort_by(|a, b| a.target.cmp(&b.target));
        Self {
            version: 4,
            application: release.application.clone(),
            stage: stage.to_owned(),
            release: release.id.clone(),
            origin,
            artifacts: release.artifacts.iter().map(|(name, artifact)| (name.clone(), artifact.sha256)).collect(),
            template: release.template.sha256,
            gate,
            rollout,
            options,
            targets,
        }
    }

    /// Returns the sha256 over the content's canonical JSON (RFC 8785).
    pub fn digest(&self) -> Digest {
        Digest::of_json(self)
    }

    /// Returns what would be done in a target.
    pub fn target(&self, id: &TargetId) -> Option<&TargetContent> {
        let place = self.targets.binary_search_by(|target| target.target.cmp(id)).ok()?;
        self.targets.get(place)
    }

    /// Returns how many targets may fail.
    pub fn tolerated(&self) -> usize {
        let meant = self.targets.iter().filter(|target| target.intent != Intent::Pinned).count();
        self.rollout.failure_tolerance.of(meant)
    }

    /// Tells whether there is anything to execute.
    pub fn is_executable(&self) -> bool {
        self.targets.iter().any(|target| target.intent.is_executable())
    }

    /// Names what differs between this content and `now`, for a person who wonders why a plan is refused.
    pub fn differences(&self, now: &Self) -> Vec<String> {
        self.differ(now, |before, after| before == after)
    }

    /// The same, but for what CloudFormation says: only what is asked for is compared.
    pub fn differences_in_what_is_asked(&self, now: &Self) -> Vec<String> {
        self.differ(now, TargetContent::asks_the_same)
    }

    fn differ(&self, now: &Self, is_same: impl Fn(&TargetContent, &TargetContent) -> bool) -> Vec<String> {
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
        differ("how the release came here", &self.origin, &now.origin);
        differ("the template", &self.template.short(), &now.template.short());
        differ("max-concurrency", &self.rollout.max_concurrency, &now.rollout.max_concurrency);
        differ("failure-tolerance", &self.rollout.failure_tolerance, &now.rollout.failure_tolerance);
        if self.options != now.options {
            found.push("what is asked of CloudFormation beside the template differs".to_owned());
        }
        if self.rollout != now.rollout && found.is_empty() {
            found.push("the waves, or what stops the rollout, differ".to_owned());
        }
        if self.gate != now.gate {
            found.push("whose approval the gate asks for differs".to_owned());
        }
        if self.artifacts != now.artifacts || self.version != now.version {
            found.push("the artifacts differ".to_owned());
        }
        for target in &self.targets {
            let id = &target.target;
            match now.target(id) {
                None => found.push(format!("target {id} is gone")),
                Some(other) if !is_same(target, other) => {
                    found.push(format!("target {id}: {}", target.difference(other)));
                }
                Some(_) => {}
            }
        }
        let is_new = |target: &&TargetContent| self.target(&target.target).is_none();
        found.extend(
            now.targets.iter().filter(is_new).map(|target| format!("target {} was not in the plan", target.target)),
        );
        found
    }
}

impl TargetContent {
    /// Tells whether the same is asked for, whatever CloudFormation would do about it.
    fn asks_the_same(&self, other: &Self) -> bool {
        let is_pinned = |target: &Self| target.intent == Intent::Pinned;
        let Self { target, account, stack, wave, access_role, deployment_role, .. } = self;
        let Self { checks, alarms, pin, variants, parameters, tags, capabilities, .. } = self;
        (target, account, stack, *wave) == (&other.target, &other.account, &other.stack, other.wave)
            && (access_role, deployment_role) == (&other.access_role, &other.deployment_role)
            && (checks, alarms, pin, variants) == (&other.checks, &other.alarms, &other.pin, &other.variants)
            && (parameters, tags, capabilities) == (&other.parameters, &other.tags, &other.capabilities)
            && is_pinned(self) == is_pinned(other)
    }

    fn difference(&self, now: &Self) -> String {
        let changed_parameters = || {
            let names = self.parameters.keys().chain(now.parameters.keys());
            let changed = names.filter(|name| self.parameters.get(*name) != now.parameters.get(*name));
            let changed: BTreeSet<&str> = changed.map(String::as_str).collect();
            changed.into_iter().collect::<Vec<_>>().join(", ")
        };
        match () {
            () if self.account != now.account => format!("its account was {} and is {}", self.account, now.account),
            () if self.stack != now.stack => format!("its stack was {} and is {}", self.stack, now.stack),
            () if self.pin != now.pin => "it is pinned otherwise".to_owned(),
            () if self.variants != now.variants => "its own artifacts differ".to_owned(),
            () if self.parameters != now.parameters => format!("other parameters: {}", changed_parameters()),
            () if self.intent != now.intent => format!("CloudFormation would now {}", self.intent.instead(&now.intent)),
            () if self.wave != now.wave => "it is in another wave".to_owned(),
            () if self.checks != now.checks || self.alarms != now.alarms => "its checks or alarms differ".to_owned(),
            () => "its tags, roles or capabilities differ".to_owned(),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::domain::{ChangeAction, PropertyChange, Quota, Region, Replacement, TemplateObject, Wave};

    pub(crate) fn change(logical_id: &str) -> Change {
        Change {
            logical_id: logical_id.into(),
            resource_type: "AWS::Lambda::Function".into(),
            action: ChangeAction::Modify,
            replacement: Replacement::Never,
            scope: vec!["Properties".into()],
            physical_id: None,
            policy: None,
            details: vec![],
        }
    }

    pub(crate) fn target(tenant: &str, intent: Intent) -> TargetContent {
        TargetContent {
            target: TargetId { tenant: tenant.into(), region: Region::new("eu-west-1").unwrap() },
            account: AccountId::new("222222222222").unwrap(),
            stack: format!("app-{tenant}"),
            wave: 0,
            access_role: "access".into(),
            deployment_role: Some("role".into()),
            checks: None,
            alarms: vec![],
            pin: None,
            variants: BTreeMap::new(),
            parameters: BTreeMap::from([("Name".into(), tenant.into())]),
            tags: BTreeMap::new(),
            capabilities: vec![],
            intent,
        }
    }

    pub(crate) fn content(targets: Vec<TargetContent>) -> Content {
        let template = TemplateObject { sha256: Digest::of("t"), key: "t".into() };
        let release = Release::new(
            "app",
            "bucket",
            BTreeMap::new(),
            BTreeMap::new(),
            template,
            crate::domain::release::Provenance::default(),
        );
        Content::new("prod", &release, Origin::Direct, Gate::Open, Rollout::default(), StackOptions::default(), targets)
    }

    pub(crate) fn plan(targets: Vec<TargetContent>) -> Plan {
        let content = content(targets);
        Plan {
            digest: content.digest(),
            content,
            unchanged: vec![],
            selection: Selection::default(),
            planners: vec![Identity { principal: "planner".into(), source_identity: None }],
            planned: Timestamp::UNIX_EPOCH,
            asked: Timestamp::UNIX_EPOCH,
            round: 0,
        }
    }

    /// A content in which every field has a value.
    fn full() -> Content {
        let mut changed = change("A");
        changed.physical_id = Some("physical".into());
        changed.policy = Some("Retain".into());
        changed.details = vec![PropertyChange {
            path: "/Properties/Size".into(),
            before: Some("1".into()),
            after: Some("2".into()),
            is_dynamic: false,
            replacement: Replacement::Conditional,
            cause: "DirectModification".into(),
        }];
        let mut first = target("x", Intent::of(false, vec![changed]));
        first.pin = Some("0123456789ab".into());
        first.checks = Some(Digest::of("checks"));
        first.tags.insert("team".into(), "a".into());
        first.variants.insert("code".into(), Digest::of("own"));
        first.parameters.insert("Old".into(), ParameterValue::Previous);
        first.capabilities.push("CAPABILITY_IAM".into());
        let others = [Intent::Unchanged, Intent::Pinned, Intent::Excluded, Intent::of(true, vec![change("B")])];
        let others = others.into_iter().enumerate().map(|(number, intent)| target(&format!("y{number}"), intent));
        let mut content = content([first].into_iter().chain(others).collect());
        content.rollout.waves = vec![Wave {
            name: "canary".into(),
            bake: Duration::from_mins(5),
            failure_tolerance: Some(Quota::Count(1)),
        }];
        content.rollout.breaker = Some(50);
        content.origin = Origin::Promoted { after: Some("dev".into()) };
        content.gate = Gate::Approval(crate::domain::ApprovalPolicy::default());
        content.artifacts.insert("code".into(), Digest::of("code"));
        content
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
        let content = full();
        let plan = Plan { digest: content.digest(), content, ..plan(vec![]) };
        let read: Plan = serde_json::from_slice(&serde_json::to_vec(&plan).unwrap()).unwrap();
        assert_eq!(read, plan);
        assert_eq!(read.content.digest(), read.digest);
    }

    /// Returns the JSON pointers of all scalars, empty lists and empty objects in a value.
    fn leaves(value: &Value, at: &str, found: &mut Vec<String>) {
        match value {
            Value::Object(map) if !map.is_empty() => {
                for (key, value) in map {
                    leaves(value, &format!("{at}/{key}"), found);
                }
            }
            Value::Array(list) if !list.is_empty() => {
                for (place, value) in list.iter().enumerate() {
                    leaves(value, &format!("{at}/{place}"), found);
                }
            }
            _ => found.push(at.to_owned()),
        }
    }

    /// Everything in the content's record is covered: no leaf of it can be changed without another digest.
    #[test]
    fn whatever_is_edited_in_a_plans_content_is_noticed() {
        let before = full();
        let json = serde_json::to_value(&before).unwrap();
        let mut places = Vec::new();
        leaves(&json, "", &mut places);
        assert!(places.len() > 60, "{places:?}");
        let mut understood = 0;
        for place in places {
            let mut edited = json.clone();
            let leaf = edited.pointer_mut(&place).unwrap();
            *leaf = match leaf.take() {
                Value::String(text) if text.len() == 64 => Digest::of(&text).to_string().into(),
                Value::String(text) if text == "222222222222" => "333333333333".into(),
                Value::String(text) if text == "eu-west-1" => "eu-west-2".into(),
                Value::String(text) => format!("{text}x").into(),
                Value::Number(number) => (number.as_u64().unwrap() + 1).into(),
                Value::Bool(truth) => (!truth).into(),
                Value::Null => "x".into(),
                Value::Array(_) => serde_json::json!(["x"]),
                Value::Object(_) => serde_json::json!({"x": "y"}),
            };
            // What cannot be read back is refused as such.
            let Ok(after) = serde_json::from_value::<Content>(edited) else { continue };
            understood += 1;
            assert_ne!(before.digest(), after.digest(), "{place}");
            assert!(!before.differences(&after).is_empty(), "{place}");
        }
        assert!(understood > 45, "{understood}");
    }

    proptest! {
        /// The digest changes whenever something that it covers changes, and the difference has a name.
        #[test]
        fn any_covered_change_changes_the_digest(which in 0usize..17, text in "[a-z]{1,8}") {
            let before = full();
            let mut after = before.clone();
            let first = &mut after.targets[0];
            match which {
                0 => { first.parameters.insert("Name".into(), format!("other-{text}").as_str().into()); }
                1 => { first.parameters.insert(text, "new".into()); }
                2 => { first.tags.insert(text, "new".into()); }
                3 => first.stack = format!("other-{text}"),
                4 => first.intent = Intent::Unchanged,
                5 => first.intent = Intent::of(false, vec![change("A"), change(&text)]),
                6 => first.deployment_role = Some(format!("other-{text}")),
                7 => after.targets.push(target(&format!("new-{text}"), Intent::Unchanged)),
                8 => first.pin = Some(text.as_str().into()),
                9 => after.origin = Origin::Unproven { after: text },
                10 => first.access_role = format!("other-{text}"),
                11 => first.checks = Some(Digest::of(text)),
                12 => first.wave += 1,
                13 => after.rollout.breaker = Some(u32::try_from(text.len()).unwrap()),
                15 => after.options.revert_drift = true,
                14 => after.rollout.waves.push(Wave { name: text, bake: Duration::ZERO, failure_tolerance: None }),
                _ => after.release = ReleaseId::from(text.as_str()),
            }
            prop_assert_ne!(before.digest(), after.digest());
            prop_assert!(!before.differences(&after).is_empty());
            prop_assert_eq!(before.differences(&before), Vec::<String>::new());
        }

        /// And only then: who planned when, how stacks were found and how they were asked for, and the order
        /// in which AWS answers make no difference.
        #[test]
        fn what_is_not_covered_leaves_the_digest(name in "[a-z]{1,8}", round in any::<u32>(), seconds in 0i64..1 << 32, seed in any::<u64>()) {
            let content = full();
            let before = Plan { digest: content.digest(), content, ..plan(vec![]) };
            let mut after = before.clone();
            let version = StackVersion { target: after.content.targets[0].target.clone(), stack_id: name.clone(), changed: None };
            after.unchanged.push(version);
            after.selection.tenants.push(name.clone());
            after.planners[0].principal = name;
            after.planned = Timestamp::from_second(seconds).unwrap();
            after.round = round;
            let mut shuffled: Vec<TargetContent> = after.content.targets.clone();
            let mut random = fastrand::Rng::with_seed(seed);
            random.shuffle(&mut shuffled);
            for target in &mut shuffled {
                if let Intent::Update(changes) = &target.intent {
                    let mut changes = changes.clone();
                    random.shuffle(&mut changes);
                    target.intent = Intent::of(false, changes);
                }
            }
            shuffled.sort_by(|a, b| a.target.cmp(&b.target));
            after.content.targets = shuffled;
            prop_assert_eq!(after.content.digest(), before.digest);
        }
    }
}
