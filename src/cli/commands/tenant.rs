//! `tenantry tenant`: taking tenants up, and letting them go.

use std::collections::BTreeSet;

use super::accounts::{admin_role, deploy_once, give, tenant_target};
use super::answer::{StageAnswer, StageEnd};
use super::tooling::{Change, check_tooling, deploy_tooling};
use serde_json::{Value, json};

use crate::cli::args::{Args, Sure, TenantCommand};
use crate::cli::console::Console;
use crate::cli::environment::Environment;
use crate::cli::error::CommandError;
use crate::cli::site::Site;
use crate::config::{self, Accounts, Edited, Files, TenantAccount};
use crate::domain::{AccountId, Exit, OnFailure, ParameterValue, Region, Rollout, Target, TargetId};
use crate::infra::Part;
use crate::plan::Selection;
use crate::report::text::{GOOD, styled};

/// Takes a tenant up, or lets one go.
pub async fn tenant(args: &Args, files: &Files, command: TenantCommand) -> Result<Exit, CommandError> {
    match command {
        TenantCommand::Add { name, account, label, sure } => {
            let account = AccountId::new(account).map_err(|error| CommandError::usage(error.to_string()))?;
            add(Site::open(args, files, None).await?, &name, &account, &label, sure).await
        }
        TenantCommand::List => list(args, files),
        TenantCommand::Remove { name, delete_data, account_is_gone, confirm } => {
            remove(args, files, &name, &delete_data, account_is_gone, confirm).await
        }
    }
}

/// Prints the tenants as a file would list them: what AWS keeps can be kept beside a plan.
fn list(args: &Args, files: &Files) -> Result<Exit, CommandError> {
    let accounts = Accounts::read(files)?;
    let console = Console::new(args, &Environment::read(), None);
    let tenant = |tenant: &TenantAccount| {
        let mut line = json!({ "name": tenant.name, "account": tenant.account, "labels": tenant.labels });
        if let Some(state) = &tenant.closed {
            line["closed"] = state.as_str().into();
        }
        line
    };
    let tenants: Vec<Value> = accounts.tenants.iter().map(tenant).collect();
    // JSON is YAML.
    let lines: Vec<String> = tenants.iter().map(|tenant| format!("- {tenant}")).collect();
    console.answer(&lines.join("\n"), &tenants)?;
    Ok(Exit::Done)
}

/// Sets a tenant's account up, and only then adds it to the list: what is listed can be released to.
async fn add(
    site: Site,
    name: &str,
    account: &AccountId,
    labels: &[(String, String)],
    sure: Sure,
) -> Result<Exit, CommandError> {
    let is_name = (1..=64).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    if !is_name {
        let message =
            format!("`{name}` cannot name a tenant: up to 64 letters, digits and hyphens, a letter or digit first");
        return Err(CommandError::usage(message));
    }
    // One that is listed already is as it should be, or is another one.
    let listed = site.accounts.tenant(name).map(|tenant| tenant.account == *account);
    if listed == Some(false) {
        let message = format!("there is a tenant `{name}` already, with another account");
        return Err(CommandError::usage(message));
    }
    if let Some(other) = site.accounts.tenants.iter().find(|tenant| tenant.account == *account && tenant.name != name) {
        return Err(CommandError::usage(format!("account {account} is the one of tenant `{}` already", other.name)));
    }
    let edited = if listed.is_some() { None } else { Some(site.accounts.with_tenant(name, account, labels)?) };
    let known = site.accounts.tenant(name).cloned();
    let new = known.unwrap_or_else(|| TenantAccount {
        name: name.to_owned(),
        account: account.clone(),
        roles: site.accounts.roles(),
        external_id: site.accounts.external_id.clone(),
        labels: labels.iter().cloned().collect(),
        closed: None,
    });
    let target = tenant_target(&site, &new)?;
    site.conduct(
        async |site| {
            if let Some(end) = list_accounts(site, &BTreeSet::from([account.clone()]), &BTreeSet::new(), sure).await? {
                return Ok((end, None));
            }
            let end = deploy_once(site, Part::Tenant, vec![target], sure).await?;
            let written = edited.filter(|_| end.exit == Exit::Done);
            if let Some(edited) = &written {
                write(edited)?;
            }
            Ok((end, written))
        },
        |console, (end, written)| {
            give(console, end, |lines| {
                if let Some(Edited { path, .. }) = &written {
                    lines.push(format!("{} {name} to {}", styled(GOOD, "added"), path.display()));
                }
            })
        },
    )
    .await
}

/// Brings the accounts that the tooling account's policies list to what they should be, where they list any. Returns how
/// that ended unless it is done.
async fn list_accounts(
    site: &Site,
    coming: &BTreeSet<AccountId>,
    leaving: &BTreeSet<AccountId>,
    sure: Sure,
) -> Result<Option<StageEnd>, CommandError> {
    if site.accounts.bootstrap.organization.is_some() {
        return Ok(None);
    }
    let known = site.accounts.tenants.iter().map(|tenant| tenant.account.clone());
    let wanted = known.chain(coming.iter().cloned()).filter(|account| !leaving.contains(account)).collect();
    let (_, end) = deploy_tooling(site, Change::Accounts, &wanted, leaving, sure).await?;
    Ok((end.exit != Exit::Done).then_some(end))
}

/// Deletes a tenant's stacks in the order in which each can still be deleted: the application's by the roles that are
/// there, then those roles; then the tooling account forgets it, and the list of tenants does.
async fn remove(
    args: &Args,
    files: &Files,
    name: &str,
    deleted: &[String],
    account_is_gone: bool,
    confirm: Option<String>,
) -> Result<Exit, CommandError> {
    let site = Site::open(args, files, None).await?;
    let Some(tenant) = site.accounts.tenant(name).cloned() else {
        return Err(CommandError::usage(format!("there is no tenant `{name}`")));
    };
    let edited = site.accounts.without_tenant(name)?;
    let kept = site.accounts.kept().map(str::to_owned);
    let mut stacks = application_stacks(args, files, &site, &tenant)?;
    // What others depend on goes last.
    stacks.reverse();
    let roles = tenant_target(&site, &tenant)?;
    site.conduct(
        async |site| {
            check_tooling(site).await?;
            if account_is_gone {
                site.engine.events.notice(format!("account {} is left as it is", tenant.account));
                confirmed(site, confirm, name).await?;
                let leaving = BTreeSet::from([tenant.account.clone()]);
                if let Some(end) = list_accounts(site, &BTreeSet::new(), &leaving, Sure { yes: true }).await? {
                    return Ok((end, false));
                }
                edited.iter().try_for_each(write)?;
                return Ok((ended(Exit::Done, Vec::new()), true));
            }
            needs_the_roles(site, &stacks, &roles).await?;
            keeps_data(site, &stacks, deleted).await?;
            for target in stacks.iter().chain([&roles]) {
                let message = format!("stack {} in account {} would be deleted", target.stack, target.account);
                site.engine.events.notice(message);
            }
            confirmed(site, confirm, name).await?;
            let sure = Sure { yes: true };
            let mut finished = Vec::new();
            for target in stacks.into_iter().chain([roles]) {
                let entered = site.engine.enter("tenant", vec![target]).await;
                let rollout = Rollout { on_failure: OnFailure::Stop, ..Rollout::default() };
                finished = site.engine.destroy("tenantry-tenant", "tenant", rollout, entered).await;
                let exit = Exit::of(finished.iter().map(|(_, outcome)| outcome), 0);
                if exit != Exit::Done {
                    return Ok((ended(exit, finished), false));
                }
            }
            let leaving = BTreeSet::from([tenant.account.clone()]);
            if let Some(end) = list_accounts(site, &BTreeSet::new(), &leaving, sure).await? {
                return Ok((end, false));
            }
            edited.iter().try_for_each(write)?;
            Ok((ended(Exit::Done, finished), true))
        },
        |console, (end, written)| {
            give(console, end, |lines| {
                if let (true, Some(kept)) = (written, &kept) {
                    lines.push(format!("take {name} out of {kept}, too"));
                } else if written {
                    let paths: Vec<String> = edited.iter().map(|edited| edited.path.display().to_string()).collect();
                    lines.push(format!("{} {name} out of {}", styled(GOOD, "took"), paths.join(" and ")));
                }
            })
        },
    )
    .await
}

fn ended(exit: Exit, finished: Vec<(TargetId, crate::domain::Outcome)>) -> StageEnd {
    StageEnd { answer: StageAnswer::new("tenant", None, exit, finished), exit, next: None }
}

/// Returns the stacks of the application in a tenant's account, as an administrator reaches them.
fn application_stacks(
    args: &Args,
    files: &Files,
    site: &Site,
    tenant: &TenantAccount,
) -> Result<Vec<Target>, CommandError> {
    let selection = Selection { tenants: vec![tenant.name.clone()], ..Selection::default() };
    let access_role = admin_role(site, tenant);
    let mut targets = Vec::new();
    for stack in config::stacks(&args.config)? {
        let project = config::read(files, site.environment.variables.clone(), stack.as_deref())?;
        let Some(stage) = project.stage_of(&tenant.name) else { continue };
        for target in project.targets(stage, &project.release_to_come(), &selection)? {
            targets.push(Target { access_role: access_role.clone(), external_id: None, ..target });
        }
    }
    Ok(targets)
}

/// Refuses while other stacks in the account need the roles: without them nothing could delete those any more.
async fn needs_the_roles(site: &Site, stacks: &[Target], roles: &Target) -> Result<(), CommandError> {
    let text = |name: &str| roles.parameters.get(name).and_then(ParameterValue::text).unwrap_or_default();
    let (prefix, role) = (format!("{}-", text("Application")), format!("role/{}", text("DeploymentRoleName")));
    let regions: BTreeSet<Region> =
        stacks.iter().map(|target| target.id.region.clone()).chain([roles.id.region.clone()]).collect();
    for region in regions {
        let id = TargetId { region: region.clone(), ..roles.id.clone() };
        let account = site.engine.accounts.enter(&Target { id, ..roles.clone() }).await?;
        for found in account.stacks().await? {
            let known = stacks.iter().any(|target| target.stack == found.name && target.id.region == region);
            let is_nested = stacks.iter().any(|target| found.name.starts_with(&format!("{}-", target.stack)));
            let needs = found.name.starts_with(&prefix) || found.role_arn.is_some_and(|arn| arn.ends_with(&role));
            if needs && !known && !is_nested {
                let message =
                    format!("stack {} in {region} still needs the roles of account {}", found.name, roles.account);
                let hint = "no stage has it: delete it first, with `aws cloudformation delete-stack` in that account";
                return Err(CommandError::usage(message).exit(Exit::Refused).hint(hint));
            }
        }
    }
    Ok(())
}

/// Refuses where a stack holds data that would go with it, unless each resource was named.
async fn keeps_data(site: &Site, stacks: &[Target], named: &[String]) -> Result<(), CommandError> {
    let mut lost = Vec::new();
    for target in stacks {
        let account = site.engine.accounts.enter(target).await?;
        if account.stack(&target.stack).await?.is_some() {
            lost.extend(account.deletable_data(&target.stack).await?);
        }
    }
    if let Some(unknown) = named.iter().find(|name| lost.iter().all(|data| data.logical_id != **name)) {
        let error = CommandError::usage(format!("`{unknown}` is no resource with data that would be deleted"));
        return Err(error.hint(match lost.as_slice() {
            [] => "there is none: leave `--delete-data` out".to_owned(),
            lost => format!("those are: {}", join(lost)),
        }));
    }
    let unnamed: Vec<_> = lost.into_iter().filter(|data| !named.contains(&data.logical_id)).collect();
    if unnamed.is_empty() {
        return Ok(());
    }
    let flags: Vec<String> = unnamed.iter().map(|data| format!("--delete-data {}", data.logical_id)).collect();
    let error = CommandError::usage(format!("data would be deleted: {}", join(&unnamed))).exit(Exit::Refused);
    Err(error.hint(format!(
        "give them `DeletionPolicy: Retain` and release that first; or name what may go: {}",
        flags.join(" ")
    )))
}

fn join(list: &[impl ToString]) -> String {
    list.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Asks for a confirmation by name, unless it was given.
pub async fn confirmed(site: &Site, given: Option<String>, name: &str) -> Result<(), CommandError> {
    let question = format!("Type `{name}` to delete this, anything else to leave it:");
    let given = match given {
        Some(given) => Some(given),
        None => site.console.ask(&site.engine.events, question).await,
    };
    match given.as_deref().map(str::trim) {
        Some(given) if given == name => Ok(()),
        Some(_) => Err(CommandError::usage("nothing was done: it was not confirmed").exit(Exit::Refused)),
        None => {
            let error = CommandError::usage("nobody has confirmed it").exit(Exit::Waiting);
            Err(error.hint(format!("add `--confirm {name}`")))
        }
    }
}

/// Writes a file anew.
pub fn write(edited: &Edited) -> Result<(), CommandError> {
    let Edited { path, text } = edited;
    // Written beside it first: a full disk leaves the old file whole.
    let beside = path.with_extension("yaml.new");
    std::fs::write(&beside, text)
        .and_then(|()| std::fs::rename(&beside, path))
        .map_err(|error| CommandError::usage(format!("cannot write {}: {error}", path.display())))
}
