//! CloudFormation and Lambda in one tenant's account and region.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_cloudformation as cfn;
use aws_sdk_cloudformation::types::{ChangeSetType, DeploymentMode, Parameter, StackResourceDriftStatus, Tag};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::Blob;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use aws_types::request_id::RequestId;
use jiff::Timestamp;
use tokio::time::timeout;

use super::pool::Within as _;
use super::session::Session;
use super::{alarms, data, fault, http};
use crate::domain::{
    AccountQuota, AlarmState, Change, ChangeAction, ChangeSet, ChangeSetStatus, DataResource, Drift, DriftedResource,
    Fault, FaultKind, OnStackFailure, ParameterValue, PropertyChange, Replacement, Stack, StackEvent, StackStatus,
};
use crate::ports::{Answer, ArtifactPlace, ChangeSetRequest, StackSummary, TemplateSource, TenantAccount};

/// One tenant in a region.
pub struct Account {
    /// Its calls are made within the session.
    cloudformation: cfn::Client,
    session: Arc<Session>,
    region: String,
}

/// A function's longest time, and a little.
/// Source: <https://docs.aws.amazon.com/lambda/latest/dg/configuration-timeout.html>
const LONGEST_INVOCATION: Duration = Duration::from_mins(16);

/// How long the call that begins an operation may take, retries included: shorter than what is left of a lease in which
/// nothing is begun any more (safety rule 8).
const BEGIN: Duration = Duration::from_secs(20);

impl Account {
    /// An account that was entered.
    pub fn new(session: Arc<Session>, region: &str) -> Self {
        Self { cloudformation: session.cloudformation(region), session, region: region.to_owned() }
    }

    /// Builds a client of Lambda: it is needed once or twice a target, and not kept.
    fn lambda(&self) -> aws_sdk_lambda::Client {
        // A function may take 15 minutes. The SDK tries no call again: how often a check is made is the engine's to say.
        let patient =
            TimeoutConfig::builder().connect_timeout(Duration::from_secs(5)).read_timeout(LONGEST_INVOCATION).build();
        let lambda = aws_sdk_lambda::config::Builder::from(&self.session.config(&self.region))
            .retry_partition(self.session.retries())
            .retry_config(RetryConfig::disabled())
            .timeout_config(patient)
            .http_client(self.session.unbounded().clone())
            .build();
        aws_sdk_lambda::Client::from_conf(lambda)
    }

    /// Reads an error. Where AWS takes the session's credentials no more, the next call asks for new ones.
    fn fault<E>(&self, operation: &str, error: &SdkError<E, HttpResponse>) -> Fault
    where
        E: ProvideErrorMetadata + RequestId + Error + 'static,
    {
        let fault = fault::read(operation, error);
        self.heed(&fault);
        fault
    }

    /// Lets go of credentials that AWS takes no more. A wrong clock is no fault of theirs.
    fn heed(&self, fault: &Fault) {
        if fault.kind == FaultKind::Credentials && !fault.code.is_empty() && !fault::is_of_the_clock(fault) {
            self.session.spoil();
        }
    }

    /// Makes a call that begins an operation. The bound on its time stands around it: a configuration of its own would be
    /// built anew each time.
    async fn begin<T, E>(
        &self,
        operation: &str,
        call: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    ) -> Result<(), Fault>
    where
        E: ProvideErrorMetadata + RequestId + Error + 'static,
    {
        match timeout(BEGIN, call.within(&self.session)).await {
            Ok(answer) => answer.map(drop).map_err(|error| self.fault(operation, &error)),
            Err(_) => Err(Fault::new(FaultKind::Unreachable, operation, "no answer in time")),
        }
    }
}

/// The change sets of nested stacks: the stack's logical id and the change set's ARN.
type Nested = Vec<(String, String)>;

impl Account {
    /// Reads all pages of one change set, and which change sets of nested stacks belong to it.
    async fn one_change_set(&self, stack: Option<&str>, name: &str) -> Result<Option<(ChangeSet, Nested)>, Fault> {
        let (mut changes, mut nested) = (Vec::new(), Nested::new());
        let mut page = None;
        loop {
            let answer = self
                .cloudformation
                .describe_change_set()
                .set_stack_name(stack.map(str::to_owned))
                .change_set_name(name)
                .include_property_values(true)
                .set_next_token(page)
                .send()
                .within(&self.session)
                .await;
            let answer = match answer.map_err(|error| self.fault("DescribeChangeSet", &error)) {
                Err(fault) if fault.kind == FaultKind::NotFound => return Ok(None),
                other => other?,
            };
            for change in answer.changes().iter().filter_map(|change| change.resource_change()) {
                let read = read_change(change);
                nested.extend(text(change.change_set_id()).map(|id| (read.logical_id.clone(), id)));
                changes.push(read);
            }
            page = answer.next_token().filter(|token| !token.is_empty()).map(str::to_owned);
            if page.is_none() {
                let status = ChangeSetStatus::read(
                    answer.status().map_or("", |status| status.as_str()),
                    answer.execution_status().map_or("", |status| status.as_str()),
                    answer.status_reason().unwrap_or_default(),
                );
                let stack_id = answer.stack_id().unwrap_or_default().to_owned();
                let created = time(answer.creation_time());
                return Ok(Some((ChangeSet { stack_id, created, status, changes }, nested)));
            }
        }
    }
}

#[async_trait]
impl TenantAccount for Account {
    async fn stack(&self, stack: &str) -> Result<Option<Stack>, Fault> {
        let answer = self.cloudformation.describe_stacks().stack_name(stack).send().within(&self.session).await;
        let answer = match answer.map_err(|error| self.fault("DescribeStacks", &error)) {
            Err(fault) if fault.kind == FaultKind::NotFound => return Ok(None),
            other => other?,
        };
        Ok(answer.stacks().first().map(read_stack))
    }

    async fn stacks(&self) -> Result<Vec<StackSummary>, Fault> {
        let mut found = Vec::new();
        let mut pages = self.cloudformation.describe_stacks().into_paginator().send();
        while let Some(page) = pages.next().within(&self.session).await {
            let page = page.map_err(|error| self.fault("DescribeStacks", &error))?;
            found.extend(page.stacks().iter().map(|stack| StackSummary {
                name: stack.stack_name().unwrap_or_default().to_owned(),
                role_arn: text(stack.role_arn()),
            }));
        }
        Ok(found)
    }

    async fn quotas(&self) -> Result<Vec<AccountQuota>, Fault> {
        let mut limits = self.cloudformation.describe_account_limits().into_paginator().send();
        let mut stacks = None;
        while let Some(page) = limits.next().within(&self.session).await {
            let page = page.map_err(|error| self.fault("DescribeAccountLimits", &error))?;
            let limit = page.account_limits().iter().find(|limit| limit.name() == Some("StackLimit"));
            stacks = limit.and_then(|limit| u64::try_from(limit.value()?).ok()).or(stacks);
        }
        let mut quotas = Vec::new();
        if let Some(limit) = stacks {
            let mut pages = self.cloudformation.list_stacks().into_paginator().send();
            let mut used = 0;
            while let Some(page) = pages.next().within(&self.session).await {
                let page = page.map_err(|error| self.fault("ListStacks", &error))?;
                // Deleted stacks are listed for some months.
                let is_there = |stack: &&cfn::types::StackSummary| {
                    stack.stack_status() != Some(&cfn::types::StackStatus::DeleteComplete)
                };
                used += page.stack_summaries().iter().filter(is_there).count() as u64;
            }
            quotas.push(AccountQuota { name: "stacks", code: "L-0485CB21", used, limit });
        }
        let settings = self.lambda().get_account_settings().send().within(&self.session).await;
        let settings = settings.map_err(|error| self.fault("GetAccountSettings", &error))?;
        let bytes = |bytes: Option<i64>| bytes.and_then(|bytes| u64::try_from(bytes).ok());
        let limit = bytes(settings.account_limit().map(aws_sdk_lambda::types::AccountLimit::total_code_size));
        let used = bytes(settings.account_usage().map(aws_sdk_lambda::types::AccountUsage::total_code_size));
        if let (Some(limit), Some(used)) = (limit, used) {
            quotas.push(AccountQuota { name: "bytes of code", code: "L-2ACBD22F", used, limit });
        }
        Ok(quotas)
    }

    async fn create_change_set(&self, request: &ChangeSetRequest) -> Result<(), Fault> {
        let parameters = request.parameters.iter().map(|(key, value)| {
            let parameter = Parameter::builder().parameter_key(key);
            match value {
                ParameterValue::Text(text) => parameter.parameter_value(text).build(),
                ParameterValue::Previous => parameter.use_previous_value(true).build(),
            }
        });
        let tags = request.tags.iter().map(|(key, value)| Tag::builder().key(key).value(value).build());
        let (template_url, template_body) = match &request.template {
            TemplateSource::Url(url) => (Some(url.clone()), None),
            TemplateSource::Body(text) => (None, Some(text.to_string())),
        };
        let answer = self
            .cloudformation
            .create_change_set()
            .stack_name(&request.stack)
            .change_set_name(&request.name)
            .change_set_type(if request.creates { ChangeSetType::Create } else { ChangeSetType::Update })
            .client_token(&request.token)
            .set_template_url(template_url)
            .set_template_body(template_body)
            .set_role_arn(request.role_arn.clone())
            .set_parameters(Some(parameters.collect()))
            .set_tags(Some(tags.collect()))
            .set_capabilities(Some(request.capabilities.iter().map(|name| name.as_str().into()).collect()))
            .description(&request.description)
            .set_include_nested_stacks(request.nested.then_some(true))
            // Nothing has drifted of what is not there yet.
            .set_deployment_mode(
                (request.options.revert_drift && !request.creates).then_some(DeploymentMode::RevertDrift),
            )
            .set_on_stack_failure(match request.options.on_stack_failure {
                // Only what is being created can be deleted for failing.
                OnStackFailure::Delete if request.creates => Some(cfn::types::OnStackFailure::Delete),
                OnStackFailure::Rollback | OnStackFailure::Delete => None,
                OnStackFailure::DoNothing => Some(cfn::types::OnStackFailure::DoNothing),
            })
            .set_rollback_configuration(rollback_configuration(request))
            .send()
            .within(&self.session)
            .await;
        answer.map(drop).map_err(|error| self.fault("CreateChangeSet", &error))
    }

    async fn change_set(&self, stack: &str, name: &str) -> Result<Option<ChangeSet>, Fault> {
        let Some((mut whole, mut nested)) = self.one_change_set(Some(stack), name).await? else { return Ok(None) };
        if whole.status != ChangeSetStatus::Ready {
            return Ok(Some(whole));
        }
        // Nested stacks have change sets of their own, which are executed with their root's.
        while let Some((parent, id)) = nested.pop() {
            let Some((inner, more)) = self.one_change_set(None, &id).await? else {
                let why = format!("without the change set of the nested stack {parent}, {id}");
                return Ok(Some(ChangeSet { status: ChangeSetStatus::Spent(why), ..whole }));
            };
            let below = |logical_id: String| format!("{parent}/{logical_id}");
            whole.changes.extend(
                inner.changes.into_iter().map(|change| Change { logical_id: below(change.logical_id), ..change }),
            );
            nested.extend(more.into_iter().map(|(name, id)| (below(name), id)));
        }
        Ok(Some(whole))
    }

    async fn execute_change_set(&self, stack: &str, name: &str, token: &str) -> Result<(), Fault> {
        let request = self
            .cloudformation
            .execute_change_set()
            .stack_name(stack)
            .change_set_name(name)
            .client_request_token(token);
        self.begin("ExecuteChangeSet", request.send()).await
    }

    async fn delete_change_set(&self, stack: &str, name: &str) -> Result<(), Fault> {
        let answer = self
            .cloudformation
            .delete_change_set()
            .stack_name(stack)
            .change_set_name(name)
            .send()
            .within(&self.session)
            .await;
        match answer.map_err(|error| self.fault("DeleteChangeSet", &error)) {
            Err(fault) if fault.kind == FaultKind::NotFound => Ok(()),
            other => other.map(drop),
        }
    }

    async fn delete_stack(&self, stack: &str, role_arn: Option<&str>, token: &str) -> Result<(), Fault> {
        let request = self
            .cloudformation
            .delete_stack()
            .stack_name(stack)
            .set_role_arn(role_arn.map(str::to_owned))
            .client_request_token(token);
        self.begin("DeleteStack", request.send()).await
    }

    async fn continue_rollback(
        &self,
        stack: &str,
        role_arn: Option<&str>,
        skip: &[String],
        token: &str,
    ) -> Result<(), Fault> {
        let request = self
            .cloudformation
            .continue_update_rollback()
            .stack_name(stack)
            .set_role_arn(role_arn.map(str::to_owned))
            .set_resources_to_skip((!skip.is_empty()).then(|| skip.to_vec()))
            .client_request_token(token);
        self.begin("ContinueUpdateRollback", request.send()).await
    }

    async fn detect_drift(&self, stack: &str) -> Result<String, Fault> {
        let answer = self.cloudformation.detect_stack_drift().stack_name(stack).send().within(&self.session).await;
        let answer = answer.map_err(|error| self.fault("DetectStackDrift", &error))?;
        Ok(answer.stack_drift_detection_id().unwrap_or_default().to_owned())
    }

    async fn drift(&self, stack: &str, detection: &str) -> Result<Option<Drift>, Fault> {
        const OPERATION: &str = "DescribeStackDriftDetectionStatus";
        let request = self.cloudformation.describe_stack_drift_detection_status();
        let answer = request.stack_drift_detection_id(detection).send().within(&self.session).await;
        let answer = answer.map_err(|error| self.fault(OPERATION, &error))?;
        match answer.detection_status().map_or("", |status| status.as_str()) {
            "DETECTION_IN_PROGRESS" => return Ok(None),
            "DETECTION_COMPLETE" => {}
            // Some resource could not be looked at: what is known of the others says too little.
            other => {
                let why = format!("{other}: {}", answer.detection_status_reason().unwrap_or_default());
                return Err(Fault::new(FaultKind::Invalid, OPERATION, why));
            }
        }
        let mut drift = Drift::default();
        if answer.drifted_stack_resource_count().unwrap_or_default() == 0 {
            return Ok(Some(drift));
        }
        let mut page = None;
        loop {
            let answer = self
                .cloudformation
                .describe_stack_resource_drifts()
                .stack_name(stack)
                .stack_resource_drift_status_filters(StackResourceDriftStatus::Modified)
                .stack_resource_drift_status_filters(StackResourceDriftStatus::Deleted)
                .set_next_token(page)
                .send()
                .within(&self.session)
                .await;
            let answer = answer.map_err(|error| self.fault("DescribeStackResourceDrifts", &error))?;
            drift.resources.extend(answer.stack_resource_drifts().iter().map(read_drift));
            page = answer.next_token().filter(|token| !token.is_empty()).map(str::to_owned);
            if page.is_none() {
                return Ok(Some(drift));
            }
        }
    }

    async fn set_policy(&self, stack: &str, policy: &str) -> Result<(), Fault> {
        let answer = self
            .cloudformation
            .set_stack_policy()
            .stack_name(stack)
            .stack_policy_body(policy)
            .send()
            .within(&self.session)
            .await;
        answer.map(drop).map_err(|error| self.fault("SetStackPolicy", &error))
    }

    async fn alarms(&self, names: &[String]) -> Result<Vec<AlarmState>, Fault> {
        let config = aws_sdk_cloudwatch::config::Builder::from(&self.session.config(&self.region));
        let read = alarms::read(config.retry_partition(self.session.retries()), names).await;
        read.inspect_err(|fault| self.heed(fault))
    }

    async fn read_artifact(&self, place: &ArtifactPlace) -> Result<(), Fault> {
        const OPERATION: &str = "GetObject";
        let config = aws_sdk_s3::config::Builder::from(&self.session.config(place.region.as_str()))
            .retry_partition(self.session.retries())
            .force_path_style(place.emulated)
            .build();
        let request = aws_sdk_s3::Client::from_conf(config).get_object().bucket(&place.bucket).key(&place.key);
        let answer = request.send().within(&self.session).await.map_err(|error| self.fault(OPERATION, &error))?;
        let body = answer.body.collect().await;
        body.map(drop).map_err(|error| Fault::new(FaultKind::Unreachable, OPERATION, error.to_string()))
    }

    async fn deletable_data(&self, stack: &str) -> Result<Vec<DataResource>, Fault> {
        data::deletable(&self.cloudformation, stack).within(&self.session).await
    }

    async fn protect(&self, stack: &str, protected: bool) -> Result<(), Fault> {
        let request = self.cloudformation.update_termination_protection().stack_name(stack);
        let answer = request.enable_termination_protection(protected).send().within(&self.session).await;
        answer.map(drop).map_err(|error| self.fault("UpdateTerminationProtection", &error))
    }

    async fn events(&self, stack: &str, since: Option<Timestamp>) -> Result<Vec<StackEvent>, Fault> {
        let mut events = Vec::new();
        let mut page = None;
        loop {
            let answer = self
                .cloudformation
                .describe_stack_events()
                .stack_name(stack)
                .set_next_token(page)
                .send()
                .within(&self.session)
                .await;
            let answer = answer.map_err(|error| self.fault("DescribeStackEvents", &error))?;
            // CloudFormation tells the newest first.
            let is_wanted = |event: &StackEvent| event.time.is_none() || event.time >= since;
            let before = events.len();
            events.extend(answer.stack_events().iter().map(read_event).take_while(is_wanted));
            let reached = events.len() - before < answer.stack_events().len();
            page = answer.next_token().filter(|token| !token.is_empty()).map(str::to_owned);
            if reached || page.is_none() {
                events.reverse();
                return Ok(events);
            }
        }
    }

    async fn has_change_sets(&self, stack: &str) -> Result<bool, Fault> {
        let mut page = None;
        loop {
            let answer = self
                .cloudformation
                .list_change_sets()
                .stack_name(stack)
                .set_next_token(page)
                .send()
                .within(&self.session)
                .await;
            let answer = match answer.map_err(|error| self.fault("ListChangeSets", &error)) {
                Err(fault) if fault.kind == FaultKind::NotFound => return Ok(false),
                other => other?,
            };
            if !answer.summaries().is_empty() {
                return Ok(true);
            }
            page = answer.next_token().filter(|token| !token.is_empty()).map(str::to_owned);
            if page.is_none() {
                return Ok(false);
            }
        }
    }

    async fn validation_failures(&self, stack: &str, change_set: Option<&str>) -> Result<Vec<StackEvent>, Fault> {
        let failed = cfn::types::EventFilter::builder().failed_events(true).build();
        let of_validation = |event: &&cfn::types::OperationEvent| event.validation_status_reason().is_some();
        let mut events: Vec<StackEvent> = Vec::new();
        let mut page = None;
        loop {
            let request = self.cloudformation.describe_events().stack_name(stack).filters(failed.clone());
            let request = request.set_change_set_name(change_set.map(str::to_owned)).set_next_token(page);
            let answer =
                request.send().within(&self.session).await.map_err(|error| self.fault("DescribeEvents", &error))?;
            events.extend(answer.operation_events().iter().filter(of_validation).map(read_validation));
            page = answer.next_token().filter(|token| !token.is_empty()).map(str::to_owned);
            if page.is_none() {
                break;
            }
        }
        events.sort_by_key(|event| event.time);
        Ok(events)
    }

    async fn renew(&self) -> Result<(), Fault> {
        self.session.renew().await
    }

    async fn newest_event(&self, stack: &str) -> Result<Option<Timestamp>, Fault> {
        let answer = self.cloudformation.describe_stack_events().stack_name(stack).send().within(&self.session).await;
        match answer.map_err(|error| self.fault("DescribeStackEvents", &error)) {
            Err(fault) if fault.kind == FaultKind::NotFound => Ok(None),
            Err(fault) => Err(fault),
            Ok(answer) => Ok(answer.stack_events().first().and_then(|event| time(event.timestamp()))),
        }
    }

    async fn invoke(&self, function: &str, payload: &serde_json::Value) -> Result<Answer, Fault> {
        let lambda = self.lambda();
        let invoke = || async {
            let request = lambda.invoke().function_name(function).payload(Blob::new(payload.to_string()));
            request.send().within(&self.session).await.map_err(|error| self.fault("Invoke", &error))
        };
        let answer = match invoke().await {
            // The function has not run. From that answer the client knows how wrong this machine's clock is.
            Err(fault) if fault::is_of_the_clock(&fault) => invoke().await?,
            answer => answer?,
        };
        let bytes = answer.payload().map(Blob::as_ref).unwrap_or_default();
        Ok(Answer {
            error: answer.function_error().map(str::to_owned),
            payload: serde_json::from_slice(bytes)
                .unwrap_or_else(|_| String::from_utf8_lossy(bytes).into_owned().into()),
        })
    }

    async fn fetch(&self, url: &str, timeout: Duration) -> Result<u16, Fault> {
        http::status(self.session.unbounded(), url, timeout).await
    }
}

/// Returns what CloudFormation watches itself.
fn rollback_configuration(request: &ChangeSetRequest) -> Option<cfn::types::RollbackConfiguration> {
    let trigger = |arn: &String| {
        let trigger = cfn::types::RollbackTrigger::builder().arn(arn);
        trigger.r#type("AWS::CloudWatch::Alarm").build()
    };
    let minutes = request.options.monitoring_minutes;
    // Without any word CloudFormation keeps those of the last update; an empty list removes them.
    (!request.rollback_alarms.is_empty() || !request.creates).then(|| {
        let configuration = cfn::types::RollbackConfiguration::builder();
        let configuration = configuration.set_monitoring_time_in_minutes(minutes.map(i32::from));
        configuration.set_rollback_triggers(Some(request.rollback_alarms.iter().map(trigger).collect())).build()
    })
}

fn time(at: Option<&aws_smithy_types::DateTime>) -> Option<Timestamp> {
    at.and_then(|at| Timestamp::new(at.secs(), i32::try_from(at.subsec_nanos()).unwrap_or(0)).ok())
}

/// Leaves out texts that are there but empty.
fn text(value: Option<&str>) -> Option<String> {
    value.filter(|text| !text.is_empty()).map(str::to_owned)
}

fn read_stack(stack: &cfn::types::Stack) -> Stack {
    let outputs = stack
        .outputs()
        .iter()
        .filter_map(|output| Some((output.output_key()?.to_owned(), output.output_value()?.to_owned())));
    let parameters = stack
        .parameters()
        .iter()
        .filter_map(|parameter| Some((parameter.parameter_key()?.to_owned(), parameter.parameter_value()?.to_owned())));
    Stack {
        id: stack.stack_id().or(stack.stack_name()).unwrap_or_default().to_owned(),
        status: StackStatus::read(stack.stack_status().map_or("", |status| status.as_str())),
        changed: time(stack.last_updated_time()).or_else(|| time(stack.creation_time())),
        outputs: outputs.collect::<BTreeMap<_, _>>(),
        parameters: parameters.collect(),
        protected: stack.enable_termination_protection().unwrap_or_default(),
    }
}

fn read_event(event: &cfn::types::StackEvent) -> StackEvent {
    let physical_id = event.physical_resource_id();
    StackEvent {
        id: event.event_id().unwrap_or_default().to_owned(),
        time: time(event.timestamp()),
        logical_id: event.logical_resource_id().unwrap_or_default().to_owned(),
        physical_id: text(physical_id),
        resource_type: event.resource_type().unwrap_or_default().to_owned(),
        status: event.resource_status().map_or("", |status| status.as_str()).to_owned(),
        reason: text(event.resource_status_reason()),
        is_stack: physical_id.is_some() && physical_id == event.stack_id(),
        token: text(event.client_request_token()),
    }
}

fn read_drift(resource: &cfn::types::StackResourceDrift) -> DriftedResource {
    let differences = resource.property_differences();
    DriftedResource {
        logical_id: resource.logical_resource_id().unwrap_or_default().to_owned(),
        resource_type: resource.resource_type().unwrap_or_default().to_owned(),
        status: resource.stack_resource_drift_status().map_or("", |status| status.as_str()).to_owned(),
        properties: differences.iter().filter_map(|one| one.property_path().map(str::to_owned)).collect(),
    }
}

fn read_validation(event: &cfn::types::OperationEvent) -> StackEvent {
    StackEvent {
        id: event.event_id().unwrap_or_default().to_owned(),
        time: time(event.timestamp()),
        logical_id: event.logical_resource_id().unwrap_or_default().to_owned(),
        physical_id: text(event.physical_resource_id()),
        resource_type: event.resource_type().unwrap_or_default().to_owned(),
        status: event.validation_status().map_or("", |status| status.as_str()).to_owned(),
        reason: text(event.validation_status_reason()),
        is_stack: false,
        token: text(event.client_request_token()),
    }
}

fn read_change(change: &cfn::types::ResourceChange) -> Change {
    let is_modification = change.action().is_some_and(|action| action.as_str() == "Modify");
    let mut details: Vec<PropertyChange> = change.details().iter().filter_map(read_detail).collect();
    if details.is_empty() {
        details = read_context(change.before_context(), change.after_context());
    }
    let claimed = change.replacement().map_or("", |replacement| replacement.as_str());
    Change {
        logical_id: change.logical_resource_id().unwrap_or_default().to_owned(),
        resource_type: change.resource_type().unwrap_or_default().to_owned(),
        action: ChangeAction::read(change.action().map_or("", |action| action.as_str())),
        replacement: match claimed {
            _ if !is_modification => Replacement::Never,
            "True" => Replacement::weigh(Replacement::Always, &details),
            "False" | "" => Replacement::Never,
            // Conditional, or a word that is newer than this program.
            _ => Replacement::Conditional,
        },
        scope: change.scope().iter().map(|scope| scope.as_str().to_owned()).collect(),
        physical_id: text(change.physical_resource_id()),
        policy: text(change.policy_action().map(cfn::types::PolicyAction::as_str)),
        details,
    }
}

/// Reads the properties of a resource that comes or goes, from which no single change is told.
/// Source: AfterContext in <https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_ResourceChange.html>
fn read_context(before: Option<&str>, after: Option<&str>) -> Vec<PropertyChange> {
    let properties = |context: Option<&str>| -> BTreeMap<String, String> {
        let context = context.and_then(|text| serde_json::from_str::<serde_json::Value>(text).ok());
        let properties = context.as_ref().and_then(|context| context.get("Properties")).and_then(|all| all.as_object());
        let shown = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        properties.into_iter().flatten().map(|(name, value)| (name.clone(), shown(value))).collect()
    };
    let (mut before, after) = (properties(before), properties(after));
    let change = |name: String, before: Option<String>, after: Option<String>| PropertyChange {
        path: format!("/Properties/{name}"),
        is_dynamic: after.as_ref().is_some_and(|after| after.contains(KNOWN_AFTER_APPLY)),
        before,
        after,
        replacement: Replacement::Never,
        cause: String::new(),
    };
    let mut details: Vec<PropertyChange> = after
        .into_iter()
        .filter_map(|(name, after)| {
            let before = before.remove(&name);
            (before.as_ref() != Some(&after)).then(|| change(name, before, Some(after)))
        })
        .collect();
    details.extend(before.into_iter().map(|(name, before)| change(name, Some(before), None)));
    details
}

/// Stands in a value for what CloudFormation knows during execution only.
/// Source: <https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_ResourceTargetDefinition.html>
const KNOWN_AFTER_APPLY: &str = "{{changeSet:KNOWN_AFTER_APPLY}}";

fn read_detail(detail: &cfn::types::ResourceChangeDetail) -> Option<PropertyChange> {
    let target = detail.target()?;
    let attribute = target.attribute().map_or("", |attribute| attribute.as_str());
    let path = text(target.path()).unwrap_or_else(|| match text(target.name()) {
        Some(name) => format!("/{attribute}/{name}"),
        None => attribute.to_owned(),
    });
    let source = detail.change_source().map_or("", |source| source.as_str());
    let after = text(target.after_value());
    let is_dynamic = detail.evaluation().is_some_and(|evaluation| evaluation.as_str() == "Dynamic")
        || after.as_ref().is_some_and(|after| after.contains(KNOWN_AFTER_APPLY));
    Some(PropertyChange {
        path,
        before: text(target.before_value()),
        after,
        is_dynamic,
        replacement: match target.requires_recreation().map_or("", |recreation| recreation.as_str()) {
            "Always" => Replacement::Always,
            "Conditionally" => Replacement::Conditional,
            _ => Replacement::Never,
        },
        cause: format!("{source} {}", detail.causing_entity().unwrap_or_default()).trim().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of statuses is that of the API's model, no more and no less.
    #[test]
    fn every_status_that_the_sdk_has_is_in_the_table() {
        let mut ours: Vec<&str> = StackStatus::KNOWN.iter().map(StackStatus::name).collect();
        let mut theirs = cfn::types::StackStatus::values().to_vec();
        ours.sort_unstable();
        theirs.sort_unstable();
        assert_eq!(ours, theirs);
    }

    /// What a new resource is created with is part of what is approved.
    #[test]
    fn a_resource_that_comes_or_goes_has_its_properties() {
        let after =
            r#"{"Properties":{"Name":"a","Size":3,"Arn":"{{changeSet:KNOWN_AFTER_APPLY}}"},"Metadata":{"x":1}}"#;
        let read = |before, after| -> Vec<(String, Option<String>, Option<String>, bool)> {
            let details = read_context(before, after).into_iter();
            details.map(|one| (one.path, one.before, one.after, one.is_dynamic)).collect()
        };
        let text = |text: &str| Some(text.to_owned());
        let known = text("{{changeSet:KNOWN_AFTER_APPLY}}");
        assert_eq!(
            read(None, Some(after)),
            [
                ("/Properties/Arn".into(), None, known, true),
                ("/Properties/Name".into(), None, text("a"), false),
                ("/Properties/Size".into(), None, text("3"), false),
            ]
        );
        assert_eq!(
            read(Some(r#"{"Properties":{"Name":"a"}}"#), None),
            [("/Properties/Name".into(), text("a"), None, false)]
        );
        assert_eq!(read(None, Some("not JSON")), []);
    }
}
