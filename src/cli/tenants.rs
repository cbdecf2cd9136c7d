//! The list of tenants, wherever it is kept.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use jiff::Timestamp;
use serde_json::json;

use super::args::Args;
use super::environment::Environment;
use super::error::CommandError;
use super::workspace::{connect, visit};
use crate::aws::{Member, Tooling};
use crate::config::{Directory, Files, Kept, Unit};
use crate::domain::{AccountId, Fault, FaultKind};
use crate::report::text::clean;
use crate::source::Document;

/// Returns the files of the project, with the tenants that AWS keeps.
pub async fn files(args: &Args) -> Result<Files, CommandError> {
    let files = Files { are_source: args.command.packages(), ..Files::new(&args.config) };
    if let Some(list) = &args.tenants {
        return Ok(files.with_tenants(list)?);
    }
    // What cannot be read is told by the command.
    let Ok(Some(Kept { directory, region, account: tooling_account })) = files.kept() else { return Ok(files) };
    let environment = Environment::read();
    let (tooling, caller) = connect(&region, &environment).await?;
    let (name, text) = match &directory {
        Directory::Parameter(name) => {
            let text = tooling.parameter(name).await.map_err(|fault| {
                CommandError::from(fault).hint(format!("the list of tenants is the value of parameter {name}"))
            })?;
            (format!("ssm:{name}"), text)
        }
        Directory::Organizations(unit) => {
            if !unit.ou.starts_with("ou-") {
                let error = CommandError::usage(format!("`{}` is not the id of an organizational unit", unit.ou));
                return Err(
                    error.hint("it begins with ou-; of a root, tenants would be all accounts, whosever they are")
                );
            }
            let tooling = match &unit.role {
                None => tooling,
                Some(role) => {
                    let account = role.split(':').nth(4).unwrap_or_default().to_owned();
                    let account = AccountId::new(account).map_err(|_| {
                        CommandError::usage(format!("`{role}` is not the ARN of a role"))
                            .hint("`tenants.organizations.role` names it")
                    })?;
                    let visit = visit(&environment, &caller, "tenants");
                    tooling.assuming(role, &account, &region, visit).await.map_err(|fault| {
                        CommandError::from(fault).hint(format!(
                            "{role} has to trust this caller for sts:AssumeRole and sts:SetSourceIdentity, and the caller's own \
                             policies have to allow both: no policy of `tenantry bootstrap` does"
                        ))
                    })?
                }
            };
            (format!("organizations:{}", unit.ou), list(unit, &tooling_account, members(&tooling, unit).await?)?)
        }
    };
    // What a parameter holds is shown to nobody: it may be encrypted there.
    let is_private = matches!(directory, Directory::Parameter(_));
    Ok(Files { tenants: Some(Document { is_private, ..Document::new(Path::new(&name), text) }), ..files })
}

async fn members(tooling: &Tooling, unit: &Unit) -> Result<Vec<Member>, CommandError> {
    tooling.members(&unit.ou, unit.name_tag.is_some()).await.map_err(|fault: Fault| {
        let denied = fault.kind == FaultKind::Denied;
        let error = CommandError::from(fault);
        if !denied {
            return error.hint(format!("the tenants are the accounts of organizational unit {}", unit.ou));
        }
        error.hint(
            "let the management account delegate reading to this account (a resource policy of Organizations), or name a role \
             of its in `tenants.organizations.role`; meanwhile, `--tenants FILE` takes a list",
        )
    })
}

/// Writes accounts as a list of tenants. The tooling account is none; an account that is not active is a tenant that is
/// closed.
fn list(unit: &Unit, tooling: &AccountId, members: Vec<Member>) -> Result<String, CommandError> {
    let mut text =
        format!("# The accounts of {}, as Organizations has told them at {:.0}.\n", unit.ou, Timestamp::now());
    for member in members {
        let Member { id, name, state, unit: below, mut tags } = member;
        if id == tooling.as_str() || unit.exclude.iter().any(|one| one.0 == id || one.0 == name) {
            continue;
        }
        let is_closed = state != "ACTIVE";
        let tenant = match &unit.name_tag {
            None => plain(&name),
            Some(tag) => match tags.remove(tag) {
                Some(tenant) => tenant,
                None if is_closed => plain(&name),
                None => {
                    let told = clean(&name);
                    let error = CommandError::usage(format!("account {id} ({told}) of {} has no tag `{tag}`", unit.ou));
                    let hint = "the tag says the tenant's name: give it one before it is moved there, or name the account in `exclude`";
                    return Err(error.hint(hint));
                }
            },
        };
        let mut labels: BTreeMap<String, String> = tags;
        labels.extend(below.map(|below| ("ou".to_owned(), below)));
        let mut tenant = json!({ "name": tenant, "account": id, "labels": labels });
        if is_closed {
            tenant["closed"] = state.into();
        }
        // JSON is YAML.
        let _ = writeln!(text, "- {tenant}");
    }
    Ok(text)
}

/// Makes a tenant's name of an account's: what a stack's name cannot have becomes a hyphen.
fn plain(name: &str) -> String {
    let parts = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|part| !part.is_empty());
    parts.collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(name_tag: Option<&str>) -> Unit {
        Unit { ou: "ou-x".into(), name_tag: name_tag.map(str::to_owned), exclude: Vec::new(), role: None }
    }

    fn member(name: &str, state: &str) -> Member {
        Member {
            id: "222222222222".into(),
            name: name.into(),
            state: state.into(),
            unit: Some("late".into()),
            tags: BTreeMap::from([("ring".into(), "2".into())]),
        }
    }

    fn lines(unit: &Unit, member: Member) -> String {
        let tooling = AccountId::new("111111111111").unwrap();
        list(unit, &tooling, vec![member]).unwrap().lines().skip(1).collect()
    }

    #[test]
    fn accounts_become_tenants() {
        let tenant = r#"- {"name":"Unicorn-Prod","account":"222222222222","labels":{"ou":"late","ring":"2"}}"#;
        assert_eq!(lines(&unit(None), member("Unicorn (Prod)", "ACTIVE")), tenant);
        let named = lines(&unit(Some("ring")), member("x", "ACTIVE"));
        assert_eq!(named, r#"- {"name":"2","account":"222222222222","labels":{"ou":"late"}}"#);
        let tooling = AccountId::new("111111111111").unwrap();
        assert!(list(&unit(Some("tenant")), &tooling, vec![member("x", "ACTIVE")]).is_err());
        let own = AccountId::new("222222222222").unwrap();
        assert_eq!(list(&unit(None), &own, vec![member("x", "ACTIVE")]).unwrap().lines().count(), 1);
    }

    #[test]
    fn what_is_closed_says_so_and_hostile_names_write_nothing() {
        let told = lines(&unit(Some("tenant")), member("x", "SUSPENDED"));
        assert!(told.ends_with(r#""closed":"SUSPENDED"}"#), "{told}");
        let named = lines(&unit(None), member("\"}\n- {name: y, account: \"1\"}", "ACTIVE"));
        assert!(named.starts_with(r#"- {"name":"name-y-account-1","#), "{named}");
    }
}
