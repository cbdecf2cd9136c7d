//! The accounts of the grid, with the policies that ship in `infra/`, resolved.

use std::collections::BTreeMap;

use iam_rs::{Context, ContextValue};
use serde_json::{Value, json};
use tenantry::infra::{Part, Resolved, Setting, resolve};

use crate::iam::Caller;

pub const TOOLING: &str = "111111111111";
pub const GNOME: &str = "222222222222";
pub const UNICORN: &str = "333333333333";
/// In the organization, and no tenant's.
pub const OTHERS: &str = "555555555555";
/// In another organization.
pub const OUTSIDE: &str = "666666666666";
pub const ORGANIZATION: &str = "o-aaaaaaaaaa";
pub const BUCKET: &str = "tenantry-111111111111-eu-west-1";
pub const KEY: &str = "arn:aws:kms:eu-west-1:111111111111:key/Key";
pub const EXTERNAL_ID: &str = "0123456789abcdef";

/// How tenants are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Organization,
    Listed,
}

/// Resolved stacks by account.
#[derive(Clone)]
pub struct World {
    pub tooling: Resolved,
    pub gnome: Resolved,
    pub pipeline: Resolved,
    pub github: Resolved,
    pub fleet: Resolved,
}

fn setting(account: &str, parameters: &[(&str, &str)]) -> Setting {
    let parameters: BTreeMap<String, String> =
        parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Setting { account: account.into(), region: "eu-west-1".into(), parameters }
}

impl World {
    pub fn new(mode: Mode) -> Self {
        let organization = if mode == Mode::Organization { ORGANIZATION } else { "" };
        let path =
            if mode == Mode::Organization { format!("{ORGANIZATION}/r-aaaa/ou-aaaa-tenants/*") } else { String::new() };
        let listed = format!("{GNOME},{UNICORN}");
        let accounts = if mode == Mode::Listed { listed.as_str() } else { "" };
        let tooling = [
            ("OrganizationId", organization),
            ("OrganizationPath", path.as_str()),
            ("TenantAccounts", accounts),
            ("ReleaserArns", "arn:aws:iam::111111111111:role/People"),
            ("ApproverArns", "arn:aws:iam::111111111111:role/Approvers"),
        ];
        let tenant = [
            ("Tenant", "gnome"),
            ("ToolingAccount", TOOLING),
            ("OrganizationId", organization),
            ("ExternalId", EXTERNAL_ID),
            ("Bucket", BUCKET),
            ("KeyArn", KEY),
            ("ArtifactRegion", "eu-west-1"),
            ("Application", "Shop"),
            ("ApplicationLowercase", "shop"),
        ];
        let pipeline = [
            ("Application", "Shop"),
            ("ConnectionArn", "arn:aws:codeconnections:eu-west-1:111111111111:connection/x"),
            ("Repository", "owner/name"),
            ("Bucket", BUCKET),
            ("KeyArn", KEY),
            ("BinaryKey", "tenantry/tool/x"),
            ("BuildSpecKey", "tenantry/tool/x.yml"),
        ];
        let fleet = [
            ("Application", "Shop"),
            ("Bucket", BUCKET),
            ("KeyArn", KEY),
            ("BinaryKey", "tenantry/tool/x"),
            ("BuildSpecKey", "tenantry/tool/x.yml"),
        ];
        let github = [
            ("Repository", "owner/name"),
            ("PlanSubjects", "repo:owner/name:ref:refs/heads/main,repo:owner/name:pull_request"),
            ("ReleaseSubjects", "repo:owner/name:environment:production"),
            ("ApproveSubjects", "repo:owner/name:environment:production-approval"),
            ("ProviderArn", "arn:aws:iam::111111111111:oidc-provider/token.actions.githubusercontent.com"),
        ];
        let of = |part: Part, setting: &Setting| resolve(part.template(), setting).unwrap();
        Self {
            tooling: of(Part::Tooling, &setting(TOOLING, &tooling)),
            gnome: of(Part::Tenant, &setting(GNOME, &tenant)),
            pipeline: of(Part::Pipeline, &setting(TOOLING, &pipeline)),
            github: of(Part::Github, &setting(TOOLING, &github)),
            fleet: of(Part::Fleet, &setting(TOOLING, &fleet)),
        }
    }

    /// The document at a place of a stack.
    pub fn document(&self, place: &Place) -> &Value {
        let stack = match place.stack {
            Part::Tooling => &self.tooling,
            Part::Tenant => &self.gnome,
            Part::Pipeline => &self.pipeline,
            Part::Github => &self.github,
            Part::Fleet => &self.fleet,
        };
        stack[place.resource].pointer(&format!("/Properties/{}", place.pointer)).unwrap_or_else(|| panic!("{place:?}"))
    }

    /// The same with another document at a place.
    pub fn with(&self, place: &Place, document: Value) -> Self {
        let mut world = self.clone();
        let stack = match place.stack {
            Part::Tooling => &mut world.tooling,
            Part::Tenant => &mut world.gnome,
            Part::Pipeline => &mut world.pipeline,
            Part::Github => &mut world.github,
            Part::Fleet => &mut world.fleet,
        };
        *stack.get_mut(place.resource).unwrap().pointer_mut(&format!("/Properties/{}", place.pointer)).unwrap() =
            document;
        world
    }
}

/// Where a policy stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub stack: Part,
    pub resource: &'static str,
    pub pointer: &'static str,
}

const fn place(stack: Part, resource: &'static str, pointer: &'static str) -> Place {
    Place { stack, resource, pointer }
}

const INLINE: &str = "Policies/0/PolicyDocument";
const TRUST: &str = "AssumeRolePolicyDocument";

pub const BUCKET_POLICY: Place = place(Part::Tooling, "BucketPolicy", "PolicyDocument");
pub const KEY_POLICY: Place = place(Part::Tooling, "Key", "KeyPolicy");
pub const PLAN_POLICY: Place = place(Part::Tooling, "PlanPolicy", "PolicyDocument");
pub const RELEASE_POLICY: Place = place(Part::Tooling, "ReleasePolicy", "PolicyDocument");
pub const APPROVE_POLICY: Place = place(Part::Tooling, "ApprovePolicy", "PolicyDocument");
pub const TOOL_POLICY: Place = place(Part::Tooling, "Tool", INLINE);
pub const TOOL_TRUST: Place = place(Part::Tooling, "Tool", TRUST);
pub const RELEASER_TRUST: Place = place(Part::Tooling, "Releaser", TRUST);
pub const APPROVER_TRUST: Place = place(Part::Tooling, "Approver", TRUST);
pub const BOUNDARY: Place = place(Part::Tenant, "Boundary", "PolicyDocument");
pub const ACCESS_TRUST: Place = place(Part::Tenant, "AccessRole", TRUST);
pub const ACCESS_POLICY: Place = place(Part::Tenant, "AccessRole", INLINE);
pub const TENANT_PLAN_TRUST: Place = place(Part::Tenant, "PlanRole", TRUST);
pub const TENANT_PLAN_POLICY: Place = place(Part::Tenant, "PlanRole", INLINE);
pub const DEPLOYMENT_TRUST: Place = place(Part::Tenant, "DeploymentRole", TRUST);
pub const DEPLOYMENT_POLICY: Place = place(Part::Tenant, "DeploymentRole", INLINE);
pub const GITHUB_PLAN_TRUST: Place = place(Part::Github, "PlanRole", TRUST);
pub const GITHUB_RELEASE_TRUST: Place = place(Part::Github, "ReleaseRole", TRUST);
pub const GITHUB_APPROVE_TRUST: Place = place(Part::Github, "ApproveRole", TRUST);

/// The four roles of a pipeline: what they trust, and what they may do beside planning, releasing and approving.
pub const PIPELINE: [(Place, Place); 4] = [
    (place(Part::Pipeline, "PlanRole", TRUST), place(Part::Pipeline, "PlanRole", INLINE)),
    (place(Part::Pipeline, "ReleaseRole", TRUST), place(Part::Pipeline, "ReleaseRole", INLINE)),
    (place(Part::Pipeline, "ApproveRole", TRUST), place(Part::Pipeline, "ApproveRole", INLINE)),
    (place(Part::Pipeline, "PipelineRole", TRUST), place(Part::Pipeline, "PipelineRole", INLINE)),
];

/// The two roles of machines: that of their builds, and that of what starts these.
pub const FLEET: [(Place, Place); 2] = [
    (place(Part::Fleet, "BuildRole", TRUST), place(Part::Fleet, "BuildRole", INLINE)),
    (place(Part::Fleet, "MachineRole", TRUST), place(Part::Fleet, "MachineRole", INLINE)),
];

/// A role of the grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Role {
    pub account: &'static str,
    /// With its path, without a slash in front.
    pub name: &'static str,
}

const fn role(account: &'static str, name: &'static str) -> Role {
    Role { account, name }
}

pub const ACCESS: &str = "CodePipelineCrossAccountRole";
pub const PLAN: &str = "CodePipelineCrossAccountPlanRole";
pub const DEPLOYMENT: &str = "CloudFormationDeploymentRole";

/// Everybody who asks: our roles, roles that only look like them, and administrators.
pub const ROLES: [Role; 20] = [
    role(TOOLING, "tenantry/release/TenantryReleaser"),
    role(TOOLING, "tenantry/plan/TenantryGitHubPlan"),
    role(TOOLING, "tenantry/approve/TenantryApprover"),
    role(TOOLING, "tenantry/pipeline/Shop-pipeline"),
    role(TOOLING, "tenantry/tool/TenantryTool"),
    role(TOOLING, "tenantry/other/X"),
    role(TOOLING, "TenantryReleaser"),
    role(TOOLING, "Admin"),
    role(GNOME, ACCESS),
    role(GNOME, PLAN),
    role(GNOME, DEPLOYMENT),
    role(GNOME, "Admin"),
    role(GNOME, "tenantry/release/TenantryReleaser"),
    role(UNICORN, ACCESS),
    role(UNICORN, DEPLOYMENT),
    role(OTHERS, ACCESS),
    role(OTHERS, "tenantry/release/X"),
    role(OUTSIDE, ACCESS),
    role(OUTSIDE, PLAN),
    role(OUTSIDE, "tenantry/release/TenantryReleaser"),
];

impl Role {
    pub fn caller(self) -> Caller {
        Caller::role(self.account, self.name)
    }

    pub fn arn(self) -> String {
        format!("arn:aws:iam::{}:role/{}", self.account, self.name)
    }

    /// What every request of it carries.
    pub fn context(self) -> Context {
        let mut context = Context::new()
            .with_string("aws:PrincipalAccount", self.account)
            .with_string("aws:PrincipalArn", self.arn());
        let (organization, path) = match self.account {
            OUTSIDE => ("o-zzzzzzzzzz", "o-zzzzzzzzzz/r-zzzz/ou-aaaa-tenants/".to_owned()),
            TOOLING => (ORGANIZATION, format!("{ORGANIZATION}/r-aaaa/")),
            OTHERS => (ORGANIZATION, format!("{ORGANIZATION}/r-aaaa/ou-aaaa-others/")),
            _ => (ORGANIZATION, format!("{ORGANIZATION}/r-aaaa/ou-aaaa-tenants/")),
        };
        // Everybody has tagged their sessions with another tenant's id.
        let another = if self.account == GNOME { "unicorn" } else { "gnome" };
        context.insert("aws:PrincipalTag/TenantID".into(), text(another));
        context.insert("aws:PrincipalOrgID".into(), ContextValue::String(organization.to_owned()));
        context.insert("aws:PrincipalOrgPaths".into(), ContextValue::StringList(vec![path]));
        context
    }

    pub fn is_below(self, path: &str) -> bool {
        self.account == TOOLING && self.name.starts_with(&format!("tenantry/{path}/"))
    }

    /// Whether it is one of a tenant's three roles, as far as the tooling account can tell.
    pub fn is_tenants(self) -> bool {
        [GNOME, UNICORN].contains(&self.account) && [ACCESS, PLAN, DEPLOYMENT].contains(&self.name)
    }
}

/// All that an administrator has.
pub fn everything() -> Value {
    json!({ "Version": "2012-10-17", "Statement": { "Effect": "Allow", "Action": "*", "Resource": "*" } })
}

pub fn texts(values: &[&str]) -> ContextValue {
    ContextValue::StringList(values.iter().map(|value| (*value).to_owned()).collect())
}

pub fn text(value: &str) -> ContextValue {
    ContextValue::String(value.to_owned())
}

/// Puts a key into a context, where it has a value.
pub fn put(context: &mut Context, key: &str, value: Option<&str>) {
    if let Some(value) = value {
        context.insert(key.to_owned(), text(value));
    }
}
