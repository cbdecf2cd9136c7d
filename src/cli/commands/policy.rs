//! `tenantry doctor --policy`: what the template needs of the role that CloudFormation uses. It makes no call.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::cli::args::Args;
use crate::cli::console::Console;
use crate::cli::environment::Environment;
use crate::cli::error::CommandError;
use crate::config::{self, Files};
use crate::domain::Exit;
use crate::infra::{Comparison, Part, Setting, compare, resolve, resource_types};
use crate::report::text::{DIM, GOOD, count, styled};

/// Compares what the template needs with what `tenantry bootstrap tenant` gives to the deployment role.
pub fn policy(args: &Args, stack: Option<&str>) -> Result<Exit, CommandError> {
    let environment = Environment::read();
    // Who the tenants are is of no matter, and AWS may have to be asked for it.
    let files = Files::new(&args.config).with_nobody()?;
    let project = config::read(&files, environment.variables.clone(), stack)?;
    let types: BTreeSet<String> = project.templates().flat_map(|(_, document)| resource_types(document)).collect();
    let role = deployment_role()?;
    let comparison = compare(&types, &[&role]);
    let own = project.deployment_policies();
    let console = Console::new(args, &environment, stack);
    console.answer(&told(&comparison, own), &json!(comparison))?;
    Ok(Exit::Done)
}

/// Returns the policy of the deployment role as it ships. Names in it are of no matter here.
fn deployment_role() -> Result<Value, CommandError> {
    let names =
        ["Tenant", "ToolingAccount", "Bucket", "KeyArn", "ArtifactRegion", "Application", "ApplicationLowercase"];
    let parameters: BTreeMap<String, String> = names.iter().map(|name| ((*name).to_owned(), "x".to_owned())).collect();
    let setting = Setting { account: "111111111111".to_owned(), region: "eu-west-1".to_owned(), parameters };
    let mut resources = resolve(Part::Tenant.template(), &setting).map_err(CommandError::usage)?;
    Ok(resources.remove("DeploymentRole").unwrap_or_default()["Properties"]["Policies"][0]["PolicyDocument"].take())
}

fn told(comparison: &Comparison, own: &[String]) -> String {
    let Comparison { needed, missing, perhaps, denied, unused, unknown } = comparison;
    let mut text = String::new();
    for (title, all) in [
        (
            "not allowed by what `tenantry bootstrap tenant` gives, and needed by these types or by some of their properties:",
            missing,
        ),
        ("not allowed either, and needed where a resource has to do with these services:", perhaps),
    ] {
        if !all.is_empty() {
            let _ = writeln!(text, "{title}");
            for (name, some) in all {
                let _ = writeln!(text, "  {name}\n{}", by_service(some, "    "));
            }
            text.push('\n');
        }
    }
    for (title, some) in
        [("denied for good, whatever else is allowed:", denied), ("allowed, and not needed by this template:", unused)]
    {
        if !some.is_empty() {
            let _ = writeln!(text, "{title}\n{}\n", by_service(some, "  "));
        }
    }
    if !unknown.is_empty() {
        let unknown: Vec<&str> = unknown.iter().map(String::as_str).collect();
        let _ = writeln!(text, "of these types it is not known what they need:\n  {}\n", unknown.join(", "));
    }
    if !own.is_empty() {
        let _ = writeln!(text, "these policies of yours were not looked at:\n  {}\n", own.join(", "));
    }
    if !missing.is_empty() {
        let hint = "write what you need of the first list into a managed policy in the tenants' accounts, and name it in `bootstrap.deployment-policies`";
        let _ = writeln!(text, "{}\n", styled(DIM, format!("hint: {hint}")));
    }
    let all: BTreeSet<&String> = needed.values().flatten().collect();
    let lacking: BTreeSet<&String> = missing.values().chain(perhaps.values()).flatten().chain(denied).collect();
    let verdict = format!(
        "to deploy {}, CloudFormation may call {}; {} of them are allowed",
        count(needed.len(), "type"),
        count(all.len(), "action"),
        all.len() - lacking.len()
    );
    let _ = write!(text, "{}", styled(GOOD, verdict));
    text
}

/// Writes actions by their services, a line each.
fn by_service(actions: &BTreeSet<String>, indent: &str) -> String {
    let mut services: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (service, name) in actions.iter().filter_map(|action| action.split_once(':')) {
        services.entry(service).or_default().push(name);
    }
    let line = |(service, names): (&str, Vec<&str>)| format!("{indent}{service}: {}", names.join(", "));
    services.into_iter().map(line).collect::<Vec<_>>().join("\n")
}
