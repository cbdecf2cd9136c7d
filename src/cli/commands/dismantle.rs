//! Deleting what was set up in the tooling account. What of it holds data stays, unless it is named.

use super::accounts::{give, in_tooling};
use super::answer::{StageAnswer, StageEnd};
use super::tenant::confirmed;
use super::tooling::listed;
use crate::cli::error::CommandError;
use crate::cli::site::Site;
use crate::domain::{Exit, Rollout};
use crate::infra::{Parameters, Part};
use crate::report::text::{count, elide};

/// What outlives the tooling account's stack, unless it is named.
const DATA: [&str; 2] = ["Bucket", "Key"];

/// Deletes a stack of the tooling account, and what of it holds data where that was named.
pub async fn remove(site: Site, part: Part, deleted: &[String], confirm: Option<String>) -> Result<Exit, CommandError> {
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
