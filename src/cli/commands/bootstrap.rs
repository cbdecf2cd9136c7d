//! `tenantry bootstrap`: the accounts around a release, set up by the engine that releases.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::sync::Arc;

use serde_json::json;

use super::answer::{StageAnswer, StageEnd};
use super::stage::{ended, is_hopeless, not_begun, stopped_or};
use crate::cli::args::{Args, BootstrapPart, Printed, Sure};
use crate::cli::error::CommandError;
use crate::cli::site::Site;
use crate::cli::workspace::artifact_store;
use crate::config::{Accounts, Edited, StageConfig, StoreConfig, TenantAccount};
use crate::domain::{AccountId, Exit, Gate, Masks, OnFailure, Region, Rollout, StackOptions, Target, TargetId};
use crate::engine::{Execution, PlanRequest};
use crate::event::Event;
use crate::infra::{Parameters, Part, Setting, most_accounts};
use crate::plan::{Origin, Secrets, Selection};
use crate::ports::Store as _;
use crate::report;
use crate::report::text::{GOOD, styled};

/// Sets one kind of account up.
pub async fn bootstrap(args: &Args, part: BootstrapPart) -> Result<Exit, CommandError> {
    match part {
        BootstrapPart::Template { part } => {
            let part = match part {
                Printed::Tooling => Part::Tooling,
                Printed::Tenant => Part::Tenant,
                Printed::Pipeline => Part::Pipeline,
                Printed::Github => Part::Github,
            };
            anstream::stdout().write_all(part.template().as_bytes())?;
            Ok(Exit::Done)
        }
        BootstrapPart::Tooling { region, sure } => {
            let region = region.map(Region::new).transpose().map_err(|error| CommandError::usage(error.to_string()))?;
            tooling(Site::open(args, region).await?, sure).await
        }
        BootstrapPart::Tenant { names, sure } => tenants(Site::open(args, None).await?, &names, sure).await,
        BootstrapPart::Pipeline { connection, repository, branch, build_command, dev, prod, sure } => {
            let site = Site::open(args, None).await?;
            let parameters = [
                ("ConnectionArn", connection),
                ("Repository", repository),
                ("Branch", branch),
                ("BuildCommand", build_command),
                ("DevStage", dev),
                ("ProdStage", prod),
            ];
            pipeline(site, parameters.into(), sure).await
        }
        BootstrapPart::Github { repository, branch, environment, approval_environment, provider, sure } => {
            let subject = |rest: String| format!("repo:{repository}:{rest}");
            let parameters = vec![
                (
                    "PlanSubjects",
                    format!("{},{}", subject(format!("ref:refs/heads/{branch}")), subject("pull_request".into())),
                ),
                ("ReleaseSubjects", subject(format!("environment:{environment}"))),
                ("ApproveSubjects", subject(format!("environment:{approval_environment}"))),
                ("ProviderArn", provider),
                ("Repository", repository.clone()),
            ];
            let site = Site::open(args, None).await?;
            let target = in_tooling(&site, Part::Github, "github", texts(parameters))?;
            one(site, Part::Github, target, sure).await
        }
    }
}

/// Sets the tooling account up, and writes its bucket and key into a configuration that has none yet.
async fn tooling(site: Site, sure: Sure) -> Result<Exit, CommandError> {
    let wanted: BTreeSet<AccountId> = site.accounts.tenants.iter().map(|tenant| tenant.account.clone()).collect();
    site.conduct(
        async |site| {
            let target = tooling_target(site, &wanted, &BTreeSet::new()).await?;
            let end = deploy(site, Part::Tooling, vec![target.clone()], sure).await?;
            let mut edited = None;
            if end.exit == Exit::Done {
                edited = site.remember_store(&target).await?;
            }
            Ok((end, edited))
        },
        |console, (end, edited)| {
            give(console, end, |lines| {
                if let Some(Edited { path, .. }) = &edited {
                    lines.push(format!("{} bucket and key in {}", styled(GOOD, "wrote"), path.display()));
                }
            })
        },
    )
    .await
}

/// Sets tenants' accounts up.
async fn tenants(site: Site, names: &[String], sure: Sure) -> Result<Exit, CommandError> {
    let unknown = names.iter().find(|name| site.accounts.tenant(name).is_none());
    if let Some(unknown) = unknown {
        return Err(CommandError::usage(format!("there is no tenant `{unknown}`")));
    }
    let chosen = site.accounts.tenants.iter().filter(|tenant| names.is_empty() || names.contains(&tenant.name));
    let targets = chosen.map(|tenant| tenant_target(&site, tenant)).collect::<Result<Vec<_>, _>>()?;
    site.conduct(
        async |site| deploy(site, Part::Tenant, targets, sure).await,
        |console, end| give(console, end, |_| {}),
    )
    .await
}

/// Sets the pipeline up, with this very binary and the steps of a build beside it.
async fn pipeline(site: Site, mut parameters: Vec<(&'static str, String)>, sure: Sure) -> Result<Exit, CommandError> {
    let store = site.store()?.clone();
    site.conduct(
        async |site| {
            let tools = site.publish_tools(&store).await?;
            parameters.extend([
                ("Application", site.accounts.application.clone()),
                ("Bucket", store.bucket.clone()),
                ("KeyArn", store.kms_key.clone()),
                ("BinaryKey", tools.binary),
                ("BuildSpecKey", tools.steps),
            ]);
            let target = in_tooling(site, Part::Pipeline, &site.accounts.application, texts(parameters))?;
            deploy(site, Part::Pipeline, vec![target], sure).await
        },
        |console, end| give(console, end, |_| {}),
    )
    .await
}

async fn one(site: Site, part: Part, target: Target, sure: Sure) -> Result<Exit, CommandError> {
    site.conduct(async |site| deploy(site, part, vec![target], sure).await, |console, end| give(console, end, |_| {}))
        .await
}

/// Returns the tooling account's stack as it should be. Accounts that are listed there already stay, but those that are
/// to leave: another configuration may have brought them.
pub async fn tooling_target(
    site: &Site,
    wanted: &BTreeSet<AccountId>,
    leaving: &BTreeSet<AccountId>,
) -> Result<Target, CommandError> {
    let Accounts { bootstrap, prefix, .. } = &site.accounts;
    let roles = site.accounts.roles();
    let mut parameters = vec![
        ("AccessRoleName", roles.access),
        ("PlanRoleName", roles.plan),
        ("DeploymentRoleName", roles.deployment),
        ("Prefix", prefix.clone()),
        ("ReleaserArns", bootstrap.releasers.join(",")),
        ("ApproverArns", bootstrap.approvers.join(",")),
    ];
    if let Some(organization) = &bootstrap.organization {
        parameters.push(("OrganizationId", organization.clone()));
        parameters.push(("OrganizationPath", bootstrap.organization_path.clone().unwrap_or_default()));
        return in_tooling(site, Part::Tooling, "tooling", texts(parameters));
    }
    let target = in_tooling(site, Part::Tooling, "tooling", Parameters::new())?;
    let present = site.engine.accounts.enter(&target).await?.stack(&target.stack).await?;
    let present = present.and_then(|stack| stack.parameters.get("TenantAccounts").cloned()).unwrap_or_default();
    let present: BTreeSet<AccountId> =
        present.split(',').filter_map(|account| AccountId::new(account.trim()).ok()).collect();
    for account in present.difference(wanted).filter(|account| !leaving.contains(account)) {
        site.engine.events.notice(format!("account {account} is of no tenant here, and stays in the policies"));
    }
    let listed: Vec<String> =
        present.union(wanted).filter(|account| !leaving.contains(account)).map(ToString::to_string).collect();
    if listed.is_empty() {
        let error = CommandError::usage(
            "there are neither tenants nor an organization for which the tooling account could be set up",
        );
        return Err(error.hint("name the organization as `bootstrap.organization`, or the tenants' accounts"));
    }
    parameters.push(("TenantAccounts", listed.join(",")));
    let parameters = texts(parameters);
    let setting = Setting {
        account: target.account.to_string(),
        region: site.region.to_string(),
        parameters: parameters
            .iter()
            .filter_map(|(name, value)| Some((name.clone(), value.text()?.to_owned())))
            .collect(),
    };
    most_accounts(&setting, listed.len()).map_err(|overflow| {
        CommandError::usage(overflow.to_string())
            .hint("where all accounts are in one organization, `bootstrap.organization` keeps policies at one size")
    })?;
    in_tooling(site, Part::Tooling, "tooling", parameters)
}

/// Returns the stack of a tenant's account as it should be.
pub fn tenant_target(site: &Site, tenant: &TenantAccount) -> Result<Target, CommandError> {
    let Accounts { bootstrap, application, .. } = &site.accounts;
    let store = site.store()?;
    let name = bootstrap.name_prefix.as_deref().unwrap_or(application).trim_end_matches('-');
    let mut parameters = vec![
        ("Tenant", tenant.name.clone()),
        ("ToolingAccount", store.account.to_string()),
        ("OrganizationId", bootstrap.organization.clone().unwrap_or_default()),
        ("ExternalId", tenant.external_id.clone().unwrap_or_default()),
        ("Bucket", store.bucket.clone()),
        ("KeyArn", store.kms_key.clone()),
        ("ArtifactRegion", store.region.to_string()),
        ("Prefix", store.prefix.trim_end_matches('/').to_owned()),
        ("Application", name.to_owned()),
        ("ApplicationLowercase", name.to_lowercase()),
        ("AccessRoleName", tenant.roles.access.clone()),
        ("PlanRoleName", tenant.roles.plan.clone()),
        ("DeploymentRoleName", tenant.roles.deployment.clone()),
    ];
    for (name, list) in [
        ("ApplicationActions", &bootstrap.application_actions),
        ("DeploymentPolicyArns", &bootstrap.deployment_policies),
    ] {
        if !list.is_empty() {
            parameters.push((name, list.join(",")));
        }
    }
    let admin = bootstrap.admin_role.as_deref();
    let access_role = admin.map(|role| match role.starts_with("arn:") {
        true => role.to_owned(),
        false => format!("arn:{}:iam::{}:role/{role}", site.region.partition(), tenant.account),
    });
    Ok(target(site, Part::Tenant, &tenant.name, &tenant.account, access_role.unwrap_or_default(), texts(parameters)))
}

/// Returns a stack of the tooling account, which has to be that of the credentials.
fn in_tooling(site: &Site, part: Part, name: &str, parameters: Parameters) -> Result<Target, CommandError> {
    let own = &site.caller.account;
    if let Some(store) = site.accounts.store.as_ref().filter(|store| store.account != *own) {
        let message = format!("the credentials are of account {own}, and the tooling account is {}", store.account);
        return Err(CommandError::usage(message).hint("use credentials of an administrator of the tooling account"));
    }
    Ok(target(site, part, name, own, String::new(), parameters))
}

fn target(
    site: &Site,
    part: Part,
    name: &str,
    account: &AccountId,
    access_role: String,
    parameters: Parameters,
) -> Target {
    let stack = match part {
        Part::Pipeline => format!("tenantry-pipeline-{name}"),
        other => format!("tenantry-{}", other.name()),
    };
    Target {
        id: TargetId { tenant: name.to_owned(), region: site.region.clone() },
        account: account.clone(),
        stack,
        access_role,
        plan_role: None,
        deployment_role: None,
        external_id: None,
        parameters,
        pin: None,
        tags: BTreeMap::new(),
        capabilities: vec!["CAPABILITY_NAMED_IAM".to_owned()],
        wave: 0,
        checks: Vec::new(),
        alarms: Vec::new(),
    }
}

fn texts(parameters: Vec<(&'static str, String)>) -> Parameters {
    parameters.into_iter().map(|(name, value)| (name.to_owned(), value.as_str().into())).collect()
}

/// Plans stacks, shows what would happen, and executes it once that is confirmed.
pub async fn deploy(site: &Site, part: Part, targets: Vec<Target>, sure: Sure) -> Result<StageEnd, CommandError> {
    let Site { engine, console, .. } = site;
    let rollout = Rollout { on_failure: OnFailure::Continue, ..Rollout::default() };
    let options = StackOptions { termination_protection: part == Part::Tooling, ..StackOptions::default() };
    let stage = StageConfig::of_accounts(part.name(), rollout, options);
    let secret = "ExternalId".to_owned();
    let values = targets.iter().filter_map(|target| target.parameters.get(&secret)?.text().map(str::to_owned));
    let masks = Masks::new(values.filter(|value| !value.is_empty()));
    let key = engine.digest_key(part.name()).await?;
    let entered = engine.enter(&stage.name, targets).await;
    if is_hopeless(&stage, &entered) {
        return Ok(not_begun(engine, &stage, entered));
    }
    let request = PlanRequest {
        stage: stage.name.clone(),
        release: part.release(),
        origin: Origin::Direct,
        gate: Gate::Open,
        rollout: stage.rollout.clone(),
        nested: false,
        options: stage.options.clone(),
        body: Some(Arc::from(part.template())),
        secrets: Secrets::new(BTreeSet::from([secret]), masks, key),
        selection: Selection::default(),
        pinned: Vec::new(),
    };
    let planning = engine.plan(&request, entered).await;
    if engine.stop.is_requested() || planning.is_beyond_tolerance() {
        let finished = planning.outcomes();
        let exit = stopped_or(engine, Exit::of(finished.iter().map(|(_, outcome)| outcome), 0));
        return Ok(StageEnd { answer: StageAnswer::new(&stage.name, None, exit, finished), exit, next: None });
    }
    let plan = planning.plan.clone();
    if !planning.ready.is_empty() {
        engine.events.emit(Event::Planned { plan: plan.clone() });
        let question = "Type `yes` to execute it, anything else to leave all as it is:".to_owned();
        let given = if sure.yes { Some("yes".to_owned()) } else { console.ask(&engine.events, question).await };
        if given.as_deref().map(str::trim) != Some("yes") {
            engine.discard(planning.ready).await;
            let exit = if given.is_some() { Exit::Refused } else { Exit::Waiting };
            let next = CommandError::usage("nothing was changed: the plan was not confirmed");
            return Ok(StageEnd::idle(&stage, Some(&plan), exit, next.hint("add `--yes` once you have read it")));
        }
    }
    let settled = Some(planning.settled.clone());
    let execution =
        Execution { plan: &plan, request: &request, settled, before: None, wait: std::time::Duration::ZERO };
    let entered = planning.entered();
    Ok(ended(&stage, &plan, engine.roll_out(execution, entered).await))
}

/// Writes how it ended, and what else there is to say.
pub fn give(
    console: &crate::cli::console::Console,
    end: StageEnd,
    more: impl FnOnce(&mut Vec<String>),
) -> Result<Exit, CommandError> {
    let StageEnd { answer, exit, next } = end;
    let mut lines = vec![report::results(&answer.stage, &answer.finished(), exit)];
    more(&mut lines);
    console.answer(&lines.join("\n"), &json!(answer))?;
    next.map_or(Ok(exit), Err)
}

/// What a pipeline runs, by the keys of the objects in the bucket.
struct Tools {
    binary: String,
    steps: String,
}

impl Site {
    /// Returns the artifact bucket, which must have been set up.
    pub fn store(&self) -> Result<&StoreConfig, CommandError> {
        self.accounts.store.as_ref().ok_or_else(|| {
            CommandError::usage("the configuration has no bucket and key yet")
                .hint("set the tooling account up first: `tenantry bootstrap tooling`")
        })
    }

    /// Writes bucket and key of the tooling account into a configuration that has none yet.
    async fn remember_store(&self, target: &Target) -> Result<Option<Edited>, CommandError> {
        let stack = self.engine.accounts.enter(target).await?.stack(&target.stack).await?;
        let outputs = stack.map(|stack| stack.outputs).unwrap_or_default();
        let (Some(bucket), Some(key)) = (outputs.get("Bucket"), outputs.get("KeyArn")) else {
            return Err(CommandError::usage(format!(
                "stack {} does not say what its bucket and key are",
                target.stack
            )));
        };
        let edited = self.accounts.with_store(bucket, key);
        if let Some(Edited { path, text }) = &edited {
            std::fs::write(path, text)
                .map_err(|error| CommandError::usage(format!("cannot write {}: {error}", path.display())))?;
        } else if self.accounts.store.as_ref().is_none_or(|store| (&store.bucket, &store.kms_key) != (bucket, key)) {
            self.engine
                .events
                .notice(format!("the configuration names another store; this one is bucket {bucket}, kms-key {key}"));
        }
        Ok(edited)
    }

    /// Puts this binary and the steps of a build into the bucket, where a pipeline finds them by their digests.
    async fn publish_tools(&self, store: &StoreConfig) -> Result<Tools, CommandError> {
        let path = std::env::current_exe()?;
        let binary = std::fs::read(&path)?;
        let bucket = artifact_store(&self.tooling, store, &self.environment);
        let mut keys = Vec::new();
        for (bytes, extension) in [(binary, ""), (include_bytes!("../../../buildspec.yml").to_vec(), ".yml")] {
            let sha256 = crate::domain::Digest::of(&bytes);
            let key = format!("tenantry/tool/{sha256}{extension}");
            bucket.put_content(&key, bytes.into(), sha256, &|_| {}).await?;
            keys.push(key);
        }
        let [binary, steps] = keys.try_into().expect("there are two");
        Ok(Tools { binary, steps })
    }
}
