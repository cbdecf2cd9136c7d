//! `tenantry doctor`: whether everything is in place, before a release finds out.

use serde::Serialize;

use crate::aws::Tooling;
use crate::cli::error::CommandError;
use crate::cli::workspace::{Run, Workspace};
use crate::config::{Accounts, Files};
use crate::domain::{AccountId, Digest, Exit, TargetId};
use crate::engine::{Examination, Finding, Sample};
use crate::infra::{Setting, most_accounts};
use crate::plan::Selection;
use crate::ports::ArtifactPlace;
use crate::report;

use super::estate::selected;

/// What is known of the tooling account.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ToolingCheck {
    /// What was looked at.
    pub check: &'static str,
    /// What was found.
    pub found: String,
    /// Whether it is as it should be.
    pub well: bool,
}

/// What was found.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Diagnosis {
    tooling: Vec<ToolingCheck>,
    targets: Vec<Examination>,
}

/// Looks at the tooling account, and then at every target in parallel.
pub async fn doctor(
    workspace: Workspace,
    files: &Files,
    stage: Option<&str>,
    selection: Selection,
) -> Result<Exit, CommandError> {
    let stages = workspace.project.stages_or(stage)?;
    workspace.project.check_selection(&stages, &selection)?;
    let accounts = Accounts::read(files)?;
    workspace
        .conduct(
            async |run| {
                let Run { project, engine, .. } = run;
                let mut tooling = vec![
                    ToolingCheck { check: "caller", found: engine.by.to_string(), well: true },
                    clock(run.tooling, run).await,
                ];
                tooling.extend(headroom(&accounts));
                // One object serves for all: CloudFormation reads it as a template, the tenant's session as an artifact.
                let text = sample_template(&project.template.transforms);
                let sha256 = Digest::of(&text);
                let key = format!("{}shared/{}/doctor/{sha256}.json", project.store.prefix, project.application);
                engine.store.ready().await?;
                engine.store.put_content(&key, text.into(), sha256, &|_| {}).await?;
                tooling.push(ToolingCheck {
                    check: "store",
                    found: format!("bucket {} can be written, under its key", project.store.bucket),
                    well: true,
                });
                let url = engine.store.url(&key);
                let place = ArtifactPlace {
                    bucket: project.store.bucket.clone(),
                    region: project.store.region.clone(),
                    emulated: !url.starts_with("https://"),
                    key,
                    kms_key: project.store.kms_key.clone(),
                };
                let sample = Sample { place, url };
                let mut targets = Vec::new();
                for stage in &stages {
                    let chosen = selected(run, stage, &selection).await?;
                    targets.extend(engine.examine(&stage.name, chosen, &sample).await);
                }
                // Nothing is released to those, and somebody has to decide what becomes of them.
                for (tenant, account, state) in project.closed() {
                    let target = TargetId { tenant: tenant.to_owned(), region: project.store.region.clone() };
                    let account = AccountId::new(account).map_err(|error| CommandError::usage(error.to_string()))?;
                    let finding = Some(Finding::closed(tenant, account.as_str(), state));
                    targets.push(Examination { stage: "-".to_owned(), target, account, finding, quotas: None });
                }
                Ok(Diagnosis { tooling, targets })
            },
            |console, diagnosis| {
                let tooling = diagnosis.tooling.iter().map(|one| (one.check, one.found.as_str(), one.well));
                let text = report::diagnosis(tooling, &diagnosis.targets);
                console.answer(&text, &diagnosis)?;
                let well = diagnosis.tooling.iter().all(|one| one.well)
                    && diagnosis.targets.iter().all(|target| target.finding.is_none());
                Ok(if well { Exit::Done } else { Exit::Failed })
            },
        )
        .await
}

/// Compares this machine's clock with AWS's.
async fn clock(tooling: &Tooling, run: &Run<'_>) -> ToolingCheck {
    let answer = |found: String, well| ToolingCheck { check: "clock", found, well };
    match tooling.clock_ahead(&run.project.store.region, run.environment.s3_endpoint.as_deref()).await {
        Ok(Some(ahead)) if ahead.abs().as_secs() > 60 => {
            let side = if ahead.is_negative() { "behind" } else { "ahead of" };
            answer(format!("{} s {side} AWS's: set it by NTP", ahead.abs().as_secs()), ahead.abs().as_secs() < 300)
        }
        Ok(Some(_)) => answer("within a minute of AWS's".to_owned(), true),
        Ok(None) => answer("not known: no answer tells a time".to_owned(), true),
        Err(fault) => answer(format!("not known: {fault}"), true),
    }
}

/// Tells how many more accounts the tooling account's policies can list, where they list any.
fn headroom(accounts: &Accounts) -> Option<ToolingCheck> {
    if accounts.bootstrap.organization.is_some() {
        let found = "of one size, whatever the number of tenants".to_owned();
        return Some(ToolingCheck { check: "policies", found, well: true });
    }
    let store = accounts.store.as_ref()?;
    let setting = Setting {
        account: store.account.to_string(),
        region: store.region.to_string(),
        parameters: std::collections::BTreeMap::new(),
    };
    let tenants = accounts.tenants.len();
    Some(match most_accounts(&setting, tenants) {
        Ok(most) => ToolingCheck {
            check: "policies",
            found: format!("{tenants} accounts of {most} that can be listed"),
            well: true,
        },
        Err(overflow) => ToolingCheck { check: "policies", found: overflow.to_string(), well: false },
    })
}

/// A template that makes nothing but a handle, by the macros that the application's template has.
fn sample_template(transforms: &[String]) -> String {
    let mut template = serde_json::json!({
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": "Tenantry looks whether change sets can be made. It is never executed.",
        "Resources": { "Handle": { "Type": "AWS::CloudFormation::WaitConditionHandle" } },
    });
    if !transforms.is_empty() {
        template["Transform"] = serde_json::json!(transforms);
    }
    serde_json::to_string_pretty(&template).expect("a template is plain JSON")
}
