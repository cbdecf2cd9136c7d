//! What of a stack holds data, and would be deleted with it.

use std::collections::BTreeSet;

use aws_sdk_cloudformation as cfn;
use aws_sdk_cloudformation::types::TemplateStage;

use super::fault;
use crate::domain::stateful::is_stateful;
use crate::domain::{DataResource, Fault, FaultKind};

/// Policies with which a resource, or what is in it, outlives its stack.
/// Source: <https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/aws-attribute-deletionpolicy.html>
const KEEPING: [&str; 3] = ["Retain", "RetainExceptOnCreate", "Snapshot"];

/// Returns the resources of a stack that hold data and would be deleted with it, those of nested stacks too.
pub(super) async fn deletable(cloudformation: &cfn::Client, stack: &str) -> Result<Vec<DataResource>, Fault> {
    let mut found = Vec::new();
    let mut stacks = vec![(String::new(), stack.to_owned())];
    while let Some((within, stack)) = stacks.pop() {
        let kept = kept(cloudformation, &stack).await?;
        let mut pages = cloudformation.list_stack_resources().stack_name(&stack).into_paginator().send();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| fault::read("ListStackResources", &error))?;
            for resource in page.stack_resource_summaries() {
                let (name, kind) =
                    (resource.logical_resource_id().unwrap_or_default(), resource.resource_type().unwrap_or_default());
                if kept.contains(name) {
                    continue;
                }
                let logical_id = format!("{within}{name}");
                match resource.physical_resource_id() {
                    Some(nested) if kind == "AWS::CloudFormation::Stack" => {
                        stacks.push((format!("{logical_id}/"), nested.to_owned()));
                    }
                    Some(_) if is_stateful(kind) => {
                        found.push(DataResource { logical_id, resource_type: kind.to_owned() });
                    }
                    _ => {}
                }
            }
        }
    }
    found.sort_by(|one, other| one.logical_id.cmp(&other.logical_id));
    Ok(found)
}

/// Returns the resources that outlive their stack, as its template says it once macros have been expanded.
async fn kept(cloudformation: &cfn::Client, stack: &str) -> Result<BTreeSet<String>, Fault> {
    const OPERATION: &str = "GetTemplate";
    let answer = cloudformation.get_template().stack_name(stack).template_stage(TemplateStage::Processed).send().await;
    let answer = answer.map_err(|error| fault::read(OPERATION, &error))?;
    let text = answer.template_body().unwrap_or_default();
    let template: serde_yaml::Value = serde_yaml::from_str(text).map_err(|error| {
        Fault::new(FaultKind::Mismatch, OPERATION, format!("the template of {stack} cannot be read: {error}"))
    })?;
    let resources = template.get("Resources").and_then(serde_yaml::Value::as_mapping);
    let is_kept = |resource: &serde_yaml::Value| {
        resource
            .get("DeletionPolicy")
            .and_then(serde_yaml::Value::as_str)
            .is_some_and(|policy| KEEPING.contains(&policy))
    };
    let kept = resources.into_iter().flatten().filter(|(_, resource)| is_kept(resource));
    Ok(kept.filter_map(|(name, _)| name.as_str().map(str::to_owned)).collect())
}
