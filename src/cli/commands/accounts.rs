//! The stacks by which accounts are set up: what they should be, and deploying them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;

use super::answer::{StageAnswer, StageEnd};
use super::stage::{ended, is_hopeless, not_begun, stopped_or};
use crate::cli::args::Sure;
use crate::cli::console::Console;
use crate::cli::error::CommandError;
use crate::cli::site::Site;
use crate::config::{Accounts, StageConfig, StoreConfig, TenantAccount};
use crate::domain::{AccountId, Exit, Gate, Masks, OnFailure, ParameterValue, Rollout, StackOptions, Target, TargetId};
use crate::engine::{Entered, Execution, PlanRequest, Refusal};
use crate::event::Event;
use crate::infra::{Parameters, Part};
use crate::plan::{Origin, Secrets, Selection};
use crate::report;

/// CloudFormation shortens a stack's name in that of a role, which has at most 64 characters.
const LONG_NAME: usize = 23;

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
pub fn in_tooling(site: &Site, part: Part, name: &str, parameters: Parameters) -> Result<Target, CommandError> {
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
        Part::Pipeline | Part::Fleet => format!("tenantry-{}-{name}", part.name()),
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

/// Returns parameters from their texts.
pub fn texts(parameters: Vec<(&'static str, String)>) -> Parameters {
    parameters.into_iter().map(|(name, value)| (name.to_owned(), value.as_str().into())).collect()
}

/// What a stack was made for, by the parameters that say it: it is not made over for something else.
fn purpose(part: Part) -> &'static [&'static str] {
    match part {
        Part::Tenant => &["Tenant", "Application", "ToolingAccount"],
        Part::Github => &["Repository"],
        Part::Tooling | Part::Pipeline | Part::Fleet => &[],
    }
}

/// Refuses to take stacks over that were made for something else.
async fn of_another(part: Part, entered: &[Entered]) -> Result<(), CommandError> {
    let names = purpose(part);
    let look = entered.iter().filter(|_| !names.is_empty()).filter_map(|Entered { target, account }| {
        let account = account.as_ref().ok()?;
        Some(async move { (target, account.stack(&target.stack).await) })
    });
    for (target, stack) in join_all(look).await {
        let Some(stack) = stack? else { continue };
        for name in names {
            let wanted = target.parameters.get(*name).and_then(ParameterValue::text);
            if let (Some(is), Some(wanted)) = (stack.parameters.get(*name), wanted)
                && is != wanted
            {
                let Target { id, stack, .. } = target;
                let message = format!("{id}: stack {stack} was made for {name} {is}, and not for {wanted}");
                let hint = "an account has these roles once: remove them first, if that is meant";
                return Err(CommandError::usage(message).exit(Exit::Refused).hint(hint));
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
pub async fn deploy(
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
    let execution = Execution { plan: &plan, request: &request, settled, before: None, wait: Duration::ZERO };
    let entered = planning.entered();
    let result = engine.roll_out(execution, entered).await;
    let is_overtaken = matches!(result, Err(Refusal::Differs(_)));
    let end = ended(&stage, &plan, result);
    Ok(if is_overtaken { Deployed::Overtaken(end) } else { Deployed::Ended(end) })
}

/// Writes how it ended, and what else there is to say.
pub fn give(console: &Console, end: StageEnd, more: impl FnOnce(&mut Vec<String>)) -> Result<Exit, CommandError> {
    let StageEnd { answer, exit, next } = end;
    let mut lines = vec![report::results(&answer.stage, &answer.finished(), exit)];
    more(&mut lines);
    console.answer(&lines.join("\n"), &json!(answer))?;
    next.map_or(Ok(exit), Err)
}

impl Site {
    /// Returns the artifact bucket, which must have been set up.
    pub fn store(&self) -> Result<&StoreConfig, CommandError> {
        self.accounts.store.as_ref().ok_or_else(|| {
            CommandError::usage("the configuration has no bucket and key yet")
                .hint("set the tooling account up first: `tenantry bootstrap tooling`")
        })
    }
}
