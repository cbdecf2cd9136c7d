//! The tooling account's stack, and the accounts that its policies list where there is no organization.

use std::collections::BTreeSet;

use super::accounts::{Deployed, deploy, in_tooling, texts};
use super::answer::StageEnd;
use super::tenant::write;
use crate::cli::args::Sure;
use crate::cli::error::CommandError;
use crate::cli::site::Site;
use crate::config::{Accounts, Edited};
use crate::domain::{AccountId, Exit, ParameterValue, Stack, StackStatus, Target};
use crate::infra::{Parameters, Part, Setting, most_accounts};

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
            Deployed::Ended(end) if matches!(end.exit, Exit::Failed | Exit::Refused) && attempt < ATTEMPTS => {
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
pub fn listed(stack: &Stack) -> BTreeSet<AccountId> {
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

impl Site {
    /// Writes bucket and key of the tooling account into a configuration that has none yet.
    pub async fn remember_store(&self, target: &Target) -> Result<Option<Edited>, CommandError> {
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
}
