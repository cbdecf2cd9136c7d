//! The shape of `tenantry.yaml`. The JSON Schema for editors is generated from these types.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use indexmap::IndexMap;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::domain::{ConcurrencyMode, OnFailure, Quota, StackOptions};

/// Tenantry's configuration: what is released, from where, and to whom.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct File {
    /// Name of the application: letters, digits and hyphens.
    pub application: String,
    /// The CloudFormation or SAM template, or the folder of a CDK assembly, relative to this file.
    pub template: String,
    /// What is zipped and uploaded, by name.
    #[serde(default)]
    pub artifacts: BTreeMap<String, Artifact>,
    /// The artifact bucket in the tooling account.
    pub store: Store,
    /// The roles in every tenant's account.
    #[serde(default)]
    pub roles: Roles,
    /// Name of the stack in a tenant's account.
    #[serde(default = "default_stack")]
    pub stack: String,
    /// What the template may do that CloudFormation wants acknowledged, as CAPABILITY_IAM.
    #[serde(default)]
    pub capabilities: Vec<String>,
    /// The regions of tenants that name none.
    #[serde(default)]
    pub regions: Vec<String>,
    /// Template parameters for all targets.
    #[serde(default)]
    pub parameters: BTreeMap<String, Text>,
    /// Tags of all stacks.
    #[serde(default)]
    pub tags: BTreeMap<String, Text>,
    /// The stages, in the order in which a release passes them.
    pub stages: IndexMap<String, Stage>,
    /// The tenants, here or in a file of their own.
    pub tenants: Tenants,
    /// Who is told that a plan waits for its approval, and how rollouts end.
    #[serde(default)]
    pub notify: Vec<Notify>,
    /// How accounts are set up; only `tenantry bootstrap` and `tenantry tenant` read it.
    #[serde(default)]
    pub bootstrap: Option<Bootstrap>,
}

/// Somebody who is told.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Notify {
    /// ARN of a topic of SNS; whoever releases needs sns:Publish on it.
    #[serde(default)]
    pub topic: Option<String>,
    /// Name of the variable of the environment that has a webhook's URL, as SLACK_WEBHOOK_URL. It is sent a JSON object with
    /// `text`, as Slack wants it.
    #[serde(default)]
    pub webhook: Option<String>,
    /// What is told; all of it where nothing is said.
    #[serde(default)]
    pub on: Vec<Occasion>,
}

/// What somebody is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Occasion {
    /// A plan waits for its approval.
    Waiting,
    /// A rollout has ended well, also with failures within the tolerance.
    Finished,
    /// A rollout has ended otherwise, or was stopped.
    Failed,
}

/// How accounts are set up.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Bootstrap {
    /// The organization that all accounts are in, as o-abcdefghij: policies then have a constant size. Where none is
    /// given, they list the tenants' accounts.
    pub organization: Option<String>,
    /// The part of the organization that tenants are in, as o-…/r-…/ou-…/*; all of it where none is given.
    pub organization_path: Option<String>,
    /// The role by which tenants' accounts are entered to set them up, as OrganizationAccountAccessRole. Where none is
    /// given, the credentials have to be the account's own.
    pub admin_role: Option<String>,
    /// What the names of the application's stacks and resources begin with; the application's name where none is given.
    pub name_prefix: Option<String>,
    /// Patterns of the ARNs of people's roles in the tooling account that may release by hand.
    pub releasers: Vec<String>,
    /// Patterns of the ARNs of people's roles in the tooling account that may approve.
    pub approvers: Vec<String>,
    /// The most that the application's own roles may ever be allowed, as dynamodb:*; what serverless applications mostly
    /// need where nothing is given.
    pub application_actions: Vec<String>,
    /// Managed policies with what CloudFormation may do beside, where the application has other resources.
    pub deployment_policies: Vec<String>,
}

fn default_stack() -> String {
    "{application}-{tenant}-stack-{region}".to_owned()
}

/// A folder to be zipped, or a zip that is there.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Artifact {
    /// The folder or the zip, relative to this file.
    pub path: String,
    /// Globs of the files to take; all where none is given.
    #[serde(default)]
    pub include: Vec<String>,
    /// Globs of the files to leave out.
    #[serde(default)]
    pub exclude: Vec<String>,
}

/// The artifact bucket in the tooling account.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Store {
    /// Name of the bucket.
    pub bucket: String,
    /// ARN of the key that artifacts are encrypted under.
    pub kms_key: String,
    /// Prefix of what tenants may read.
    #[serde(default = "default_prefix")]
    pub prefix: String,
    /// The account that owns the bucket, where it is not that of the key.
    pub account: Option<String>,
    /// The region of the bucket, where it is not that of the key.
    pub region: Option<String>,
}

fn default_prefix() -> String {
    "CrossAccountPipeline/".to_owned()
}

/// The roles in a tenant's account, by name or ARN.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Roles {
    /// The role that Tenantry assumes. CodePipelineCrossAccountRole where none is given.
    pub access: Option<String>,
    /// The role that CloudFormation uses. CloudFormationDeploymentRole where none is given.
    pub deployment: Option<String>,
    /// The role that Tenantry assumes where it only plans. Where none is given, it is CodePipelineCrossAccountPlanRole
    /// beside a section `bootstrap`, which makes it, and otherwise the one for releases.
    pub plan: Option<String>,
    /// The external id that the roles' trust policies ask for.
    pub external_id: Option<String>,
}

/// An ordered step of a release, as dev or prod.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Stage {
    /// Names of the tenants. Where none is given: all tenants that no other stage names.
    pub tenants: Option<Vec<String>>,
    /// What opens the way between plan and apply.
    pub gate: Gate,
    /// The pace.
    pub rollout: Rollout,
    /// What is asked of CloudFormation beside the template.
    pub stack_options: StackOptions,
    /// Template parameters for the targets of this stage.
    pub parameters: BTreeMap<String, Text>,
    /// Tags of the stacks of this stage.
    pub tags: BTreeMap<String, Text>,
    /// What must hold after a target was deployed.
    pub verify: Vec<Check>,
}

/// What opens the way between plan and apply.
#[derive(Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Gate {
    /// Whether somebody must approve the plan.
    pub approval: Approval,
    /// How many persons must approve. 1 where none is given.
    pub approvers: Option<u32>,
    /// Whether the one who planned cannot be one of them.
    pub four_eyes: bool,
    /// Patterns of the ARNs (or `github:LOGIN`) that may approve, with `*` and `?`; any may where none is given.
    pub principals: Vec<String>,
    /// For how long an approval holds. 24h where none is given.
    pub expires: Option<Span>,
    /// The protected environment of the job that applies, whose reviewers GitHub is asked for. The stage's name where
    /// none is given.
    pub github_environment: Option<String>,
    /// A plan of which all of these hold needs no person.
    pub auto_approve: Vec<AutoApprove>,
}

/// Something that holds of a plan that is harmless.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AutoApprove {
    /// No stack is created or updated.
    NoChanges,
    /// No resource is removed, not even by being replaced.
    NoRemovals,
    /// No resource is replaced, not even perhaps.
    NoReplacements,
    /// Only resources of these types are touched, with `*` as a wildcard.
    ResourceTypes(Vec<String>),
    /// At most so many targets have something to execute.
    MaxTargets(u32),
}

/// Whether somebody must approve the plan.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Approval {
    /// Apply follows the plan.
    #[default]
    None,
    /// Apply waits for an approval of the plan's digest.
    Required,
}

/// The pace of a rollout, and what stops it.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Rollout {
    /// Targets that go first.
    pub canary: Option<Canary>,
    /// Sizes of the waves that follow, each as a number or as a percentage of the stage without its canary; what is
    /// left is the last wave.
    pub waves: Vec<Amount>,
    /// How long to wait between two waves.
    pub bake: Option<Span>,
    /// How many targets are in work at a time, as a number or a percentage. 50 where none is given.
    pub max_concurrency: Option<Amount>,
    /// How many targets may fail before no further one is started, as a number or a percentage. 0 where none is given.
    pub failure_tolerance: Option<Amount>,
    /// Whether failures lower the number of targets in work: `soft`, or `strict` as StackSets do by themselves.
    pub concurrency_mode: ConcurrencyMode,
    /// What more failures than tolerated do: `stop`, or `continue` with all the same.
    pub on_failure: OnFailure,
    /// CloudWatch alarms that stop the rollout: they are watched after each wave, while it bakes.
    pub alarms: Vec<Alarm>,
    /// Stop after so many targets that failed for the same reason.
    pub breaker: Option<u32>,
    /// Try what has failed once more at the end, unless the rollout has stopped by then: what fails is within the tolerance.
    /// What a failed creation has left (ROLLBACK_COMPLETE) is tried with `leftovers: recreate` only; CREATE_FAILED, and a
    /// rollback that failed, never.
    pub requeue: bool,
    /// For how long a target is followed; it then goes on in CloudFormation alone. 12h where none is given.
    pub deadline: Option<Span>,
}

/// A CloudWatch alarm that stops a rollout.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Alarm {
    /// Its name, with variables where it is the tenants'.
    pub name: String,
    /// Where it is: in each tenant's account, or in the tooling account.
    #[serde(default)]
    pub account: AlarmAccount,
    /// Whether CloudFormation watches it too, and rolls a stack back when it goes off: only of tenants' alarms that are
    /// there before their stack is changed.
    #[serde(default)]
    pub roll_back: bool,
}

/// Where an alarm is.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AlarmAccount {
    /// In each tenant's account and region.
    #[default]
    Tenant,
    /// In the tooling account, in the bucket's region.
    Tooling,
}

/// Targets that go first: by their tenants' label or by name.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Canary {
    /// A label that their tenants have, as `ring=canary`.
    pub label: Option<String>,
    /// Names of tenants.
    pub tenants: Vec<String>,
    /// How long to wait after them; as between other waves where none is given.
    pub bake: Option<Span>,
    /// How many of them may fail. 0 where none is given.
    pub failure_tolerance: Option<Amount>,
}

/// A check: either `invoke` or `fetch`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Check {
    /// Name of a function to invoke in the tenant's account.
    pub invoke: Option<String>,
    /// The event that it is given; an empty object where none is given.
    pub payload: Option<serde_json::Value>,
    /// What its answer must contain.
    pub expect: Option<serde_json::Value>,
    /// Name of a stack output that holds a URL to fetch.
    pub fetch: Option<String>,
    /// What is added to the URL.
    pub path: Option<String>,
    /// The HTTP status expected. 200 where none is given.
    pub status: Option<u16>,
    /// How long to wait for the page. 10s where none is given.
    pub timeout: Option<Span>,
}

/// A customer with an account of its own.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Tenant {
    /// The tenant's name: letters, digits and hyphens.
    pub name: String,
    /// The tenant's account id.
    pub account: Text,
    /// The regions that the tenant is in.
    #[serde(default)]
    pub regions: Vec<String>,
    /// What the tenant can be selected by.
    #[serde(default)]
    pub labels: BTreeMap<String, Text>,
    /// Template parameters for this tenant.
    #[serde(default)]
    pub parameters: BTreeMap<String, Text>,
    /// Template parameters for this tenant in one region.
    #[serde(default)]
    pub region_parameters: BTreeMap<String, BTreeMap<String, Text>>,
    /// Tags of this tenant's stacks.
    #[serde(default)]
    pub tags: BTreeMap<String, Text>,
    /// Roles that differ from those of all tenants.
    #[serde(default)]
    pub roles: Roles,
    /// The state of an account that is not active any more, as SUSPENDED: nothing is released to it.
    pub closed: Option<String>,
    /// The release that this tenant stays on: others are not released to it.
    pub pin: Option<Text>,
    /// Artifacts that are this tenant's own, in place of those of the same name.
    #[serde(default)]
    pub artifacts: BTreeMap<String, Artifact>,
}

/// The tenants: a list, the name of a file with that list, or where AWS keeps it.
#[derive(Debug)]
pub enum Tenants {
    /// The list itself.
    Inline(Vec<Tenant>),
    /// A file, relative to the configuration.
    File(String),
    /// AWS has it.
    Kept(Directory),
}

/// Where AWS keeps the list of tenants.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Directory {
    /// The active accounts of an organizational unit, and of those below it.
    Organizations(Unit),
    /// A parameter of SSM in the tooling account, in the bucket's region: its value is the list, as a file would have it.
    Parameter(String),
}

/// An organizational unit whose accounts are the tenants.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Unit {
    /// Its id, as ou-ab12-34567890.
    pub ou: String,
    /// The tag of an account that says the tenant's name; the account's own name says it where none is given. All tags of an
    /// account are labels of the tenant where one is given.
    pub name_tag: Option<String>,
    /// Accounts that are no tenants, by name or id.
    #[serde(default)]
    pub exclude: Vec<Text>,
    /// A role to read the organization by, where the tooling account may not do so itself.
    pub role: Option<String>,
}

impl<'de> Deserialize<'de> for Tenants {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Tenants;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of tenants, the name of a file with one, or where AWS keeps it")
            }

            fn visit_str<E: de::Error>(self, path: &str) -> Result<Tenants, E> {
                Ok(Tenants::File(path.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Tenants, A::Error> {
                Deserialize::deserialize(de::value::SeqAccessDeserializer::new(list)).map(Tenants::Inline)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Tenants, A::Error> {
                Deserialize::deserialize(de::value::MapAccessDeserializer::new(map)).map(Tenants::Kept)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl JsonSchema for Tenants {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Tenants".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let list = generator.subschema_for::<Vec<Tenant>>();
        let kept = generator.subschema_for::<Directory>();
        json_schema!({
            "description": "The tenants: a list, the name of a file with that list, or where AWS keeps it.",
            "anyOf": [list, {"type": "string"}, kept],
        })
    }
}

/// A text that may be written as a number or a truth value too, as YAML's plain scalars are.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Text(pub String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // The YAML deserializer hands out a plain scalar's own letters here: 007 stays 007.
        String::deserialize(deserializer).map(Self)
    }
}

impl JsonSchema for Text {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Text".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": ["string", "number", "boolean"]})
    }
}

/// A number of targets or a percentage of them, as `10` or `5%`.
#[derive(Debug, Clone, Copy)]
pub struct Amount(pub Quota);

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let quota = match text.strip_suffix('%') {
            Some(percent) => percent.parse().ok().filter(|percent| *percent <= 100).map(Quota::Percent),
            None => text.parse().ok().map(Quota::Count),
        };
        quota
            .map(Self)
            .ok_or_else(|| de::Error::custom(format!("`{text}` is neither a number nor a percentage from 0% to 100%")))
    }
}

impl JsonSchema for Amount {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Amount".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A number of targets or a percentage of them.",
            "anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": "^(100|[0-9]{1,2})%$"}],
        })
    }
}

/// A length of time, as `10s` or `2m`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Span(pub Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let wrong = || de::Error::custom(format!("`{text}` is not a length of time: write it as 10s, 5m or 1h30m"));
        let span: jiff::SignedDuration = text.parse().map_err(|_| wrong())?;
        Duration::try_from(span).map(Self).map_err(|_| wrong())
    }
}

impl JsonSchema for Span {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Span".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"description": "A length of time, as 10s, 5m or 1h30m.", "type": "string"})
    }
}

/// Returns the JSON Schema of `tenantry.yaml`, pretty-printed.
///
/// # Panics
///
/// Never: a schema is plain JSON.
pub fn json() -> String {
    let mut text = serde_json::to_string_pretty(&schemars::schema_for!(File)).expect("a schema is plain JSON");
    text.push('\n');
    text
}
