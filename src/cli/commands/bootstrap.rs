//! `tenantry bootstrap`: the accounts around a release, set up by the engine that releases.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::json;

use super::answer::{StageAnswer, StageEnd};
use super::stage::{ended, is_hopeless, not_begun, stopped_or};
use super::tenant::{confirmed, write};
use crate::cli::args::{Args, BootstrapPart, PartName, Sure};
use crate::cli::error::CommandError;
use crate::cli::site::Site;
use crate::cli::workspace::{artifact_store, visit};
use crate::config::{Accounts, Edited, StageConfig, StoreConfig, TenantAccount};
use crate::domain::{
    AccountId, Exit, Gate, Masks, OnFailure, ParameterValue, Region, Rollout, Stack, StackOptions, StackStatus, Target,
    TargetId,
};
use crate::engine::{Entered, Execution, PlanRequest, Refusal};
use crate::event::Event;
use crate::infra::{Parameters, Part, Setting, check_program, most_accounts};
use crate::plan::{Origin, Secrets, Selection};
use crate::ports::Store as _;
use crate::report;
use crate::report::text::{GOOD, count, elide, styled};

/// Sets one kind of account up.
pub async fn bootstrap(args: &Args, part: BootstrapPart) -> Result<Exit, CommandError> {
    match part {
        BootstrapPart::Template { part } => {
            anstream::stdout().write_all(part.part().template().as_bytes())?;
            Ok(Exit::Done)
        }
        BootstrapPart::Remove { part, delete_data, confirm } => {
            remove(Site::open(args, None).await?, part.part(), &delete_data, confirm).await
        }
        BootstrapPart::Tooling { region, change_mode, sure } => {
            let region = region.map(Region::new).transpose().map_err(|error| CommandError::usage(error.to_string()))?;
            tooling(Site::open(args, region).await?, change_mode, sure).await
        }
        BootstrapPart::Tenant { names, sure } => tenants(Site::open(args, None).await?, &names, sure).await,
        BootstrapPart::Pipeline { connection, repository, branch, build_command, binary, dev, prod, sure } => {
            let binary = static_binary(binary)?;
            let site = Site::open(args, None).await?;
            let parameters = [
                ("ConnectionArn", connection),
                ("Repository", repository),
                ("Branch", branch),
                ("BuildCommand", build_command),
                ("DevStage", dev),
                ("ProdStage", prod),
            ];
            pipeline(site, parameters.into(), binary, sure).await
        }
        BootstrapPart::Github {
            repository,
            branch,
            pull_requests,
            environment,
            approval_environment,
            provider,
            sure,
        } => {
            let subject = |rest: String| format!("repo:{repository}:{rest}");
            let mut plans = vec![subject(format!("ref:refs/heads/{branch}"))];
            plans.extend(pull_requests.then(|| subject("pull_request".into())));
            let parameters = vec![
                ("PlanSubjects", plans.join(",")),
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

impl PartName {
    fn part(self) -> Part {
        match self {
            Self::Tooling => Part::Tooling,
            Self::Tenant => Part::Tenant,
            Self::Pipeline => Part::Pipeline,
            Self::Github => Part::Github,
        }
    }
}

/// What outlives the tooling account's stack, unless it is named.
const DATA: [&str; 2] = ["Bucket", "Key"];

/// Deletes a stack of the tooling account, and what of it holds data where that was named.
async fn remove(site: Site, part: Part, deleted: &[String], confirm: Option<String>) -> Result<Exit, CommandError> {
    let data: &[&str] = if part == Part::Tooling { &DATA } else { &[] };
    if let Some(unknown) = deleted.iter().find(|name| !data.contains(&name.as_str())) {
        return Err(CommandError::usage(format!("`{unknown}` is no resource with data of {}", part.name())));
    }
    if part == Part::Tenant {
        let error = CommandError::usage("a tenant's account is removed with its tenant");
        return Err(error.hint("use `tenantry tenant remove NAME`"));
    }
    let store = site.accounts.store.clone();
    if part == Part::Tooling && !site.accounts.tenants.is_empty() {
        let names: Vec<&str> = site.accounts.tenants.iter().map(|tenant| tenant.name.as_str()).collect();
        let message =
            format!("{} tenants still need the tooling account: {}", names.len(), elide(&names.join(", "), 200));
        let error = CommandError::usage(message).exit(Exit::Refused);
        return Err(error.hint("let them go first, with `tenantry tenant remove NAME`"));
    }
    let name = if part == Part::Pipeline { site.accounts.application.clone() } else { part.name().to_owned() };
    let target = in_tooling(&site, part, &name, Parameters::new())?;
    site.conduct(
        async |site| {
            let Site { engine, tooling, .. } = site;
            let account = engine.accounts.enter(&target).await?;
            let stack = account.stack(&target.stack).await?;
            let mut outputs = stack.as_ref().map(|stack| stack.outputs.clone()).unwrap_or_default();
            if let Some(stack) = stack.as_ref().filter(|stack| part == Part::Tooling && !listed(stack).is_empty()) {
                let accounts: Vec<String> = listed(stack).iter().map(ToString::to_string).collect();
                let message =
                    format!("accounts of other configurations still need it: {}", elide(&accounts.join(", "), 200));
                return Err(CommandError::usage(message).exit(Exit::Refused));
            }
            // What an earlier removal has left can be named, too.
            if let (None, Some(store)) = (&stack, store) {
                outputs.insert("Bucket".to_owned(), store.bucket);
                outputs.insert("KeyArn".to_owned(), store.kms_key);
            }
            if let Some(name) = deleted.iter().find(|_| outputs.is_empty()) {
                return Err(CommandError::usage(format!(
                    "which {name} is meant is not known: neither the stack nor the configuration says it"
                )));
            }
            for name in data {
                let id = if *name == "Key" { outputs.get("KeyArn") } else { outputs.get(*name) };
                let what = match (id, deleted.iter().any(|one| one == name)) {
                    (Some(id), true) => format!("{name} {id} would be deleted with all that is in it"),
                    (Some(id), false) => format!("{name} {id} stays"),
                    (None, _) => continue,
                };
                engine.events.notice(what);
            }
            engine.events.notice(format!("stack {} in account {} would be deleted", target.stack, target.account));
            confirmed(site, confirm, part.name()).await?;
            if stack.is_some_and(|stack| stack.protected) {
                account.protect(&target.stack, false).await?;
            }
            let entered = engine.enter(part.name(), vec![target]).await;
            let finished = engine.destroy(part.name(), part.name(), Rollout::default(), entered).await;
            let exit = Exit::of(finished.iter().map(|(_, outcome)| outcome), 0);
            if exit == Exit::Done {
                for name in deleted {
                    match (name.as_str(), outputs.get("Bucket"), outputs.get("KeyArn")) {
                        ("Bucket", Some(bucket), _) => {
                            let endpoint = site.environment.s3_endpoint.as_deref();
                            let objects = tooling.delete_bucket(bucket, endpoint).await?;
                            engine.events.notice(format!("deleted bucket {bucket} with {}", count(objects, "object")));
                        }
                        ("Key", _, Some(key)) => {
                            tooling.schedule_key_deletion(key).await?;
                            engine.events.notice(format!("key {key} is deleted in 30 days"));
                        }
                        _ => {}
                    }
                }
            }
            Ok(StageEnd { answer: StageAnswer::new(part.name(), None, exit, finished), exit, next: None })
        },
        |console, end| give(console, end, |_| {}),
    )
    .await
}

/// Sets the tooling account up, and writes its bucket and key into a configuration that has none yet.
async fn tooling(site: Site, change_mode: bool, sure: Sure) -> Result<Exit, CommandError> {
    let wanted: BTreeSet<AccountId> = site.accounts.tenants.iter().map(|tenant| tenant.account.clone()).collect();
    site.conduct(
        async |site| {
            let (target, end) =
                deploy_tooling(site, Change::All { change_mode }, &wanted, &BTreeSet::new(), sure).await?;
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

/// What is told then.
const AGAIN: &str = "somebody else has changed the tooling account meanwhile: it is planned anew";

/// How often the tooling account is planned anew, where others list accounts in it at the same time.
const ATTEMPTS: u32 = 5;

/// Brings the tooling account's stack to what it should be. Its list of accounts is read, planned from, and read once more:
/// CloudFormation executes no change set that was made before another one was executed, so that of two who list an account
/// at the same time the second one plans anew, and neither is lost.
pub async fn deploy_tooling(
    site: &Site,
    change: Change,
    wanted: &BTreeSet<AccountId>,
    leaving: &BTreeSet<AccountId>,
    sure: Sure,
) -> Result<(Target, StageEnd), CommandError> {
    for attempt in 1.. {
        let present = present(site).await?;
        let target = tooling_target(site, change, present.as_ref(), wanted, leaving)?;
        let listed_before = present.as_ref().map(listed);
        let is_current = async || Ok(self::present(site).await?.as_ref().map(listed) == listed_before);
        match deploy(site, Part::Tooling, vec![target.clone()], sure, is_current).await? {
            Deployed::Overtaken(_) if attempt < ATTEMPTS => {
                site.engine.events.notice(AGAIN);
            }
            // CloudFormation has voided our change set in the last moment, by executing another one.
            Deployed::Ended(end) if end.exit == Exit::Failed && attempt < ATTEMPTS => {
                let now = self::present(site).await?.as_ref().map(listed);
                if now == listed_before || now.is_some_and(|now| wanted.is_subset(&now) && leaving.is_disjoint(&now)) {
                    return Ok((target, end));
                }
                site.engine.events.notice(AGAIN);
            }
            Deployed::Ended(end) | Deployed::Overtaken(end) => return Ok((target, end)),
        }
    }
    unreachable!("the last attempt returns")
}

/// What of the tooling account's stack is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// All of it is as the configuration has it.
    All {
        /// Whether it may go from listed accounts to an organization, or the other way.
        change_mode: bool,
    },
    /// Only which accounts are listed: the rest is for whoever set it up.
    Accounts,
}

/// Returns the tooling account's stack, if it is there.
async fn present(site: &Site) -> Result<Option<Stack>, CommandError> {
    let target = in_tooling(site, Part::Tooling, "tooling", Parameters::new())?;
    let stack = site.engine.accounts.enter(&target).await?.stack(&target.stack).await?;
    // One in review has never been there.
    Ok(stack.filter(|stack| !stack.parameters.is_empty() && stack.status != StackStatus::ReviewInProgress))
}

/// Returns the accounts that the tooling account's policies list.
fn listed(stack: &Stack) -> BTreeSet<AccountId> {
    let accounts = stack.parameters.get("TenantAccounts").map(String::as_str).unwrap_or_default();
    accounts.split(',').filter_map(|account| AccountId::new(account.trim()).ok()).collect()
}

/// Refuses what would come too late after something else was deleted.
pub async fn check_tooling(site: &Site) -> Result<(), CommandError> {
    if site.accounts.bootstrap.organization.is_some() {
        return Ok(());
    }
    let stack = present(site).await?;
    is_ours(site, stack.as_ref())
}

/// Refuses to change a tooling account that is not the one of this configuration.
fn is_ours(site: &Site, stack: Option<&Stack>) -> Result<(), CommandError> {
    let Some(stack) = stack else {
        return Err(CommandError::usage("the tooling account was not set up by `tenantry bootstrap tooling`").hint(
            "its policies list no accounts that could be changed; where all accounts are in an organization, name it",
        ));
    };
    let store = site.store()?;
    match stack.outputs.get("Bucket") {
        Some(bucket) if *bucket != store.bucket => {
            let message = format!(
                "the tooling account was set up for bucket {bucket}, and this configuration has {}",
                store.bucket
            );
            Err(CommandError::usage(message))
        }
        _ => Ok(()),
    }
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
        async |site| deploy_once(site, Part::Tenant, targets, sure).await,
        |console, end| give(console, end, |_| {}),
    )
    .await
}

/// Sets the pipeline up, with this very binary and the steps of a build beside it.
async fn pipeline(
    site: Site,
    mut parameters: Vec<(&'static str, String)>,
    binary: Vec<u8>,
    sure: Sure,
) -> Result<Exit, CommandError> {
    let store = site.store()?.clone();
    site.conduct(
        async |site| {
            let tools = site.publish_tools(&store, binary).await?;
            parameters.extend([
                ("Application", site.accounts.application.clone()),
                ("Bucket", store.bucket.clone()),
                ("KeyArn", store.kms_key.clone()),
                ("BinaryKey", tools.binary),
                ("BuildSpecKey", tools.steps),
            ]);
            let target = in_tooling(site, Part::Pipeline, &site.accounts.application, texts(parameters))?;
            deploy_once(site, Part::Pipeline, vec![target], sure).await
        },
        |console, end| give(console, end, |_| {}),
    )
    .await
}

async fn one(site: Site, part: Part, target: Target, sure: Sure) -> Result<Exit, CommandError> {
    site.conduct(
        async |site| deploy_once(site, part, vec![target], sure).await,
        |console, end| give(console, end, |_| {}),
    )
    .await
}

/// Returns the tooling account's stack as it should be. Accounts that are listed there already stay, but those that are
/// to leave: another configuration may have brought them.
fn tooling_target(
    site: &Site,
    change: Change,
    stack: Option<&Stack>,
    wanted: &BTreeSet<AccountId>,
    leaving: &BTreeSet<AccountId>,
) -> Result<Target, CommandError> {
    let Accounts { bootstrap, prefix, .. } = &site.accounts;
    let roles = site.accounts.roles();
    let is_listed = |stack: &Stack| stack.parameters.get("OrganizationId").is_none_or(String::is_empty);
    if let (Some(stack), Change::All { change_mode: false }) = (stack, change)
        && is_listed(stack) == bootstrap.organization.is_some()
    {
        let now = if is_listed(stack) { "lists accounts" } else { "lets an organization in" };
        let error =
            CommandError::usage(format!("the tooling account {now}, and this configuration has it the other way"));
        return Err(error
            .exit(Exit::Refused)
            .hint("compare `bootstrap.organization`; add `--change-mode` if it is meant"));
    }
    let present = stack.map(listed).unwrap_or_default();
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
    for account in present.difference(wanted).filter(|account| !leaving.contains(account)) {
        site.engine.events.notice(format!("account {account} is of no tenant here, and stays in the policies"));
    }
    let listed: Vec<String> =
        present.union(wanted).filter(|account| !leaving.contains(account)).map(ToString::to_string).collect();
    parameters.push(("TenantAccounts", listed.join(",")));
    let mut parameters = texts(parameters);
    if change == Change::Accounts {
        is_ours(site, stack)?;
        let others = stack.into_iter().flat_map(|stack| stack.parameters.keys());
        let kept = others.filter(|name| *name != "TenantAccounts").map(|name| (name.clone(), ParameterValue::Previous));
        let accounts = parameters.remove("TenantAccounts").map(|accounts| ("TenantAccounts".to_owned(), accounts));
        parameters = kept.chain(accounts).collect();
    }
    let setting = Setting {
        account: site.caller.account.to_string(),
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
    if bootstrap.name_prefix.is_none() && !site.accounts.begins_with(name, &tenant.name) {
        let error = CommandError::usage(format!(
            "the names of stacks do not begin with `{name}-`, and roles let nothing else through"
        ));
        return Err(error.hint("say in `bootstrap.name-prefix` what they begin with, or change `stack`"));
    }
    if tenant.roles != site.accounts.roles() {
        let error = CommandError::usage(format!("tenant {} has roles of other names", tenant.name));
        return Err(error
            .hint("the tooling account's policies know one name for each role: leave `roles` to the configuration"));
    }
    if name.len() > LONG_NAME {
        site.engine.events.notice(format!(
            "`{name}` is long: CloudFormation shortens the names of roles that it makes, which may then not begin with it"
        ));
    }
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
    let access_role = admin_role(site, tenant);
    Ok(target(site, Part::Tenant, &tenant.name, &tenant.account, access_role, texts(parameters)))
}

/// Returns the role by which a tenant's account is entered to set it up; empty where it is the credentials' own.
pub fn admin_role(site: &Site, tenant: &TenantAccount) -> String {
    match site.accounts.bootstrap.admin_role.as_deref() {
        None => String::new(),
        Some(role) if role.starts_with("arn:") => role.to_owned(),
        Some(role) => format!("arn:{}:iam::{}:role/{role}", site.region.partition(), tenant.account),
    }
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

/// CloudFormation shortens a stack's name in that of a role, which has at most 64 characters.
const LONG_NAME: usize = 23;

/// What a stack was made for, by the parameters that say it: it is not made over for something else.
fn purpose(part: Part) -> &'static [&'static str] {
    match part {
        Part::Tenant => &["Tenant", "Application", "ToolingAccount"],
        Part::Github => &["Repository"],
        Part::Tooling | Part::Pipeline => &[],
    }
}

/// Refuses to take a stack over that was made for something else.
async fn of_another(part: Part, entered: &[Entered]) -> Result<(), CommandError> {
    for Entered { target, account } in entered {
        let (Ok(account), false) = (account, purpose(part).is_empty()) else { continue };
        let Some(stack) = account.stack(&target.stack).await? else { continue };
        for name in purpose(part) {
            let wanted = target.parameters.get(*name).and_then(ParameterValue::text);
            if let (Some(is), Some(wanted)) = (stack.parameters.get(*name), wanted)
                && is != wanted
            {
                let message =
                    format!("{}: stack {} was made for {name} {is}, and not for {wanted}", target.id, target.stack);
                return Err(CommandError::usage(message)
                    .exit(Exit::Refused)
                    .hint("an account has these roles once: remove them first, if that is meant"));
            }
        }
    }
    Ok(())
}

/// How stacks were deployed.
pub enum Deployed {
    /// They came to an end.
    Ended(StageEnd),
    /// Nothing was executed, since somebody else has changed a stack meanwhile.
    Overtaken(StageEnd),
}

/// Plans stacks, shows what would happen, and executes it once that is confirmed. Whoever is overtaken is told so.
pub async fn deploy_once(site: &Site, part: Part, targets: Vec<Target>, sure: Sure) -> Result<StageEnd, CommandError> {
    match deploy(site, part, targets, sure, async || Ok(true)).await? {
        Deployed::Ended(end) | Deployed::Overtaken(end) => Ok(end),
    }
}

/// Plans stacks, shows what would happen, and executes it once that is confirmed; `is_current` tells whether what was
/// planned from still holds once the change sets are there.
async fn deploy(
    site: &Site,
    part: Part,
    targets: Vec<Target>,
    sure: Sure,
    is_current: impl AsyncFn() -> Result<bool, CommandError>,
) -> Result<Deployed, CommandError> {
    let Site { engine, console, .. } = site;
    let rollout = Rollout { on_failure: OnFailure::Continue, ..Rollout::default() };
    let options = StackOptions { termination_protection: part == Part::Tooling, ..StackOptions::default() };
    let stage = StageConfig::of_accounts(part.name(), rollout, options);
    let secret = "ExternalId".to_owned();
    let values = targets.iter().filter_map(|target| target.parameters.get(&secret)?.text().map(str::to_owned));
    let masks = Masks::new(values.filter(|value| !value.is_empty()));
    let key = engine.digest_key(part.name()).await?;
    let entered = engine.enter(&stage.name, targets).await;
    of_another(part, &entered).await?;
    if is_hopeless(&stage, &entered) {
        return Ok(Deployed::Ended(not_begun(engine, &stage, entered)));
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
        let answer = StageAnswer::new(&stage.name, None, exit, finished);
        return Ok(Deployed::Ended(StageEnd { answer, exit, next: None }));
    }
    let plan = planning.plan.clone();
    if !is_current().await? {
        engine.discard(planning.ready).await;
        let next = CommandError::usage("nothing was changed: somebody else has changed the stack meanwhile");
        return Ok(Deployed::Overtaken(StageEnd::idle(&stage, Some(&plan), Exit::Refused, next)));
    }
    if !planning.ready.is_empty() {
        engine.events.emit(Event::Planned { plan: plan.clone() });
        let question = "Type `yes` to execute it, anything else to leave all as it is:".to_owned();
        let given = if sure.yes { Some("yes".to_owned()) } else { console.ask(&engine.events, question).await };
        if given.as_deref().map(str::trim) != Some("yes") {
            engine.discard(planning.ready).await;
            let exit = if given.is_some() { Exit::Refused } else { Exit::Waiting };
            let next = CommandError::usage("nothing was changed: the plan was not confirmed");
            let next = next.hint("add `--yes` once you have read it");
            return Ok(Deployed::Ended(StageEnd::idle(&stage, Some(&plan), exit, next)));
        }
    }
    let settled = Some(planning.settled.clone());
    let execution =
        Execution { plan: &plan, request: &request, settled, before: None, wait: std::time::Duration::ZERO };
    let entered = planning.entered();
    let result = engine.roll_out(execution, entered).await;
    let is_overtaken = matches!(result, Err(Refusal::Differs(_)));
    let end = ended(&stage, &plan, result);
    Ok(if is_overtaken { Deployed::Overtaken(end) } else { Deployed::Ended(end) })
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

/// Reads the binary that builds will run, and refuses one that they could not.
fn static_binary(path: Option<PathBuf>) -> Result<Vec<u8>, CommandError> {
    let path = match path {
        Some(path) => path,
        None => std::env::current_exe()?,
    };
    let bytes = std::fs::read(&path)
        .map_err(|error| CommandError::usage(format!("cannot read the binary {}: {error}", path.display())))?;
    check_program(&bytes).map_err(|why| {
        let error = CommandError::usage(format!("{} {why}, and builds could not run it", path.display()));
        error.hint("build one with `make static` on Linux, and name it with --binary")
    })?;
    Ok(bytes)
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
        if let Some(edited) = &edited {
            write(edited)?;
        } else if self.accounts.store.as_ref().is_none_or(|store| (&store.bucket, &store.kms_key) != (bucket, key)) {
            self.engine
                .events
                .notice(format!("the configuration names another store; this one is bucket {bucket}, kms-key {key}"));
        }
        Ok(edited)
    }

    /// Puts this binary and the steps of a build into the bucket, where a pipeline finds them by their digests.
    /// Administrators cannot use the key; the role that is there for it can.
    async fn publish_tools(&self, store: &StoreConfig, binary: Vec<u8>) -> Result<Tools, CommandError> {
        let role = format!("arn:{}:iam::{}:role/tenantry/tool/TenantryTool", store.region.partition(), store.account);
        let visit = visit(&self.environment, &self.caller, "bootstrap");
        let tooling = self.tooling.assuming(&role, &store.account, &store.region, visit).await?;
        let bucket = artifact_store(&tooling, store, &self.environment);
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
