//! Stacks of one function each.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::{Instant, SystemTime};

use http_body_util::Full;
use hyper::Response;
use hyper::body::Bytes;

use super::wire::{error, xml};
use super::{Weather, World};

/// One account's stack.
#[derive(Debug, Default)]
pub struct Stack {
    name: String,
    /// Counts how often it was changed.
    version: u64,
    status: String,
    changed: Option<SystemTime>,
    /// What it runs.
    template: Option<String>,
    /// Template and time of each.
    change_sets: HashMap<String, (String, SystemTime)>,
    events: Vec<Event>,
    operation: Option<Operation>,
    /// When a detection of drift is over.
    detected: Option<Instant>,
}

#[derive(Debug)]
struct Event {
    time: SystemTime,
    logical_id: String,
    status: String,
    reason: Option<String>,
    token: String,
}

#[derive(Debug)]
struct Operation {
    token: String,
    template: String,
    ends: Option<Instant>,
    creates: bool,
    fails: bool,
}

impl Stack {
    fn id(&self, account: &str) -> String {
        format!("arn:aws:cloudformation:eu-west-1:{account}:stack/{}/0", self.name)
    }

    fn tell(&mut self, time: SystemTime, logical_id: &str, status: &str, reason: Option<&str>, token: &str) {
        self.events.push(Event {
            time,
            logical_id: logical_id.to_owned(),
            status: status.to_owned(),
            reason: reason.map(str::to_owned),
            token: token.to_owned(),
        });
    }

    /// Lets time do its work; returns since when the operation is over, if it is just now.
    fn settle(&mut self, now: SystemTime) -> Option<Instant> {
        let ends = self.operation.as_ref()?.ends.filter(|ends| *ends <= Instant::now())?;
        let now = now - ends.elapsed();
        let Operation { token, template, creates, fails, .. } = self.operation.take()?;
        let verb = if creates { "CREATE" } else { "UPDATE" };
        let name = self.name.clone();
        if fails {
            self.tell(now, "Function", &format!("{verb}_FAILED"), Some("the function's zip is too large"), &token);
            self.status = if creates { "ROLLBACK_COMPLETE" } else { "UPDATE_ROLLBACK_COMPLETE" }.to_owned();
        } else {
            self.tell(now, "Function", &format!("{verb}_COMPLETE"), None, &token);
            self.status = format!("{verb}_COMPLETE");
            self.template = Some(template);
        }
        let status = self.status.clone();
        self.tell(now, &name, &status, None, &token);
        (self.changed, self.version) = (Some(now), self.version + 1);
        Some(ends)
    }
}

fn time(at: SystemTime) -> String {
    format!("{:.3}", jiff::Timestamp::try_from(at).unwrap())
}

/// Answers a call in an account.
pub fn answer(
    world: &World,
    weather: &Weather,
    account: &str,
    action: &str,
    parameters: &HashMap<String, String>,
) -> Response<Full<Bytes>> {
    let now = world.now();
    let parameter = |name: &str| parameters.get(name).map(String::as_str).unwrap_or_default();
    let mut accounts = world.accounts.lock().unwrap();
    let name = parameter("StackName");
    let name = name.rsplit_once(":stack/").map_or(name, |(_, rest)| rest.split('/').next().unwrap_or_default());
    let number = account.parse::<usize>().unwrap_or_default().wrapping_sub(500_000_000_000);
    if action == "CreateChangeSet" {
        let stack = accounts.entry(account.to_owned()).or_default();
        if stack.name.is_empty() {
            (stack.name, stack.status) = (name.to_owned(), "REVIEW_IN_PROGRESS".to_owned());
            stack.tell(now, name, "REVIEW_IN_PROGRESS", Some("User Initiated"), "");
        }
        let id = stack.id(account);
        let change_set = parameter("ChangeSetName").to_owned();
        if stack.change_sets.contains_key(&change_set) {
            return error(400, "AlreadyExistsException", "ChangeSet already exists");
        }
        // As the AWS CLI gives it where there is no URL.
        let template = if parameters.contains_key("TemplateURL") { "TemplateURL" } else { "TemplateBody" };
        stack.change_sets.insert(change_set.clone(), (parameter(template).to_owned(), now));
        return xml(
            action,
            &format!(
                "<Id>arn:aws:cloudformation:eu-west-1:{account}:changeSet/{change_set}/0</Id><StackId>{id}</StackId>"
            ),
        );
    }
    let Some(stack) = accounts.get_mut(account).filter(|stack| !stack.name.is_empty()) else {
        let message = format!("Stack with id {name} does not exist");
        return error(400, "ValidationError", &message);
    };
    let ended = stack.settle(now);
    let id = stack.id(account);
    if let Some(ended) = ended
        && matches!(action, "DescribeStackEvents" | "DescribeStacks")
    {
        world.seen.lock().unwrap().entry(account.to_owned()).or_insert(ended.elapsed());
    }
    // The AWS CLI names change sets by their ARNs.
    let change_set = parameter("ChangeSetName");
    let change_set = change_set
        .rsplit_once(":changeSet/")
        .map_or(change_set, |(_, rest)| rest.split('/').next().unwrap_or_default());
    match action {
        "DescribeStacks" => {
            let changed = stack.changed.map(|at| format!("<LastUpdatedTime>{}</LastUpdatedTime>", time(at)));
            xml(
                action,
                &format!(
                    "<Stacks><member><StackName>{}</StackName><StackId>{id}</StackId><StackStatus>{}</StackStatus>\
                     <CreationTime>2026-01-01T00:00:00Z</CreationTime>{}</member></Stacks>",
                    stack.name,
                    stack.status,
                    changed.unwrap_or_default()
                ),
            )
        }
        "DescribeChangeSet" => {
            let Some((template, created)) = stack.change_sets.get(change_set) else {
                return error(404, "ChangeSetNotFound", "ChangeSet does not exist");
            };
            let unchanged = stack.template.as_ref() == Some(template);
            let (status, reason) = if unchanged {
                ("FAILED", "<StatusReason>The submitted information didn't contain changes.</StatusReason>")
            } else {
                ("CREATE_COMPLETE", "")
            };
            let execution = if unchanged { "UNAVAILABLE" } else { "AVAILABLE" };
            let verb = if stack.template.is_none() { "Add" } else { "Modify" };
            xml(
                action,
                &format!(
                    "<ChangeSetName>{change_set}</ChangeSetName><StackId>{id}</StackId><StackName>{}</StackName>\
                     <CreationTime>{}</CreationTime><Status>{status}</Status>{reason}<ExecutionStatus>{execution}</ExecutionStatus><Changes><member>\
                     <Type>Resource</Type><ResourceChange><Action>{verb}</Action><LogicalResourceId>Function\
                     </LogicalResourceId><ResourceType>AWS::Lambda::Function</ResourceType><Scope/><Details/>\
                     </ResourceChange></member></Changes>",
                    stack.name,
                    time(*created)
                ),
            )
        }
        "ExecuteChangeSet" => {
            let token = parameter("ClientRequestToken").to_owned();
            if stack.operation.as_ref().is_some_and(|operation| operation.token == token && !token.is_empty()) {
                return xml(action, "");
            }
            if stack.operation.is_some() {
                return error(400, "InvalidChangeSetStatus", "the stack is being changed");
            }
            let Some((template, _)) = stack.change_sets.remove(change_set) else {
                return error(404, "ChangeSetNotFound", "ChangeSet does not exist");
            };
            stack.change_sets.clear();
            let mut executions = world.executions.lock().unwrap();
            let fails = weather.failing.contains(&number)
                || weather.failing_once.contains(&number) && executions.iter().all(|(known, _)| known != account);
            executions.push((account.to_owned(), change_set.to_owned()));
            let creates = stack.template.is_none();
            stack.status = if creates { "CREATE_IN_PROGRESS" } else { "UPDATE_IN_PROGRESS" }.to_owned();
            let (name, status) = (stack.name.clone(), stack.status.clone());
            stack.tell(now, &name, &status, Some("User Initiated"), &token);
            stack.tell(now, "Function", &status, None, &token);
            // Not all at one moment.
            let takes = weather.stack.mul_f64(0.9 + f64::from(u8::try_from(number % 21).unwrap_or(0)) / 100.0);
            let ends = (!weather.hanging.contains(&number)).then(|| Instant::now() + takes);
            stack.operation = Some(Operation { token, template, ends, creates, fails });
            xml(action, "")
        }
        "DescribeStackEvents" => {
            let mut members = String::new();
            for (place, event) in stack.events.iter().enumerate().rev().take(100) {
                let is_stack = event.logical_id == stack.name;
                let (kind, physical) =
                    if is_stack { ("AWS::CloudFormation::Stack", id.as_str()) } else { ("AWS::Lambda::Function", "f") };
                let reason =
                    event.reason.as_ref().map(|text| format!("<ResourceStatusReason>{text}</ResourceStatusReason>"));
                let token = if event.token.is_empty() {
                    String::new()
                } else {
                    format!("<ClientRequestToken>{}</ClientRequestToken>", event.token)
                };
                let _ = write!(
                    members,
                    "<member><EventId>{place}</EventId><StackId>{id}</StackId><StackName>{}</StackName>\
                     <LogicalResourceId>{}</LogicalResourceId><PhysicalResourceId>{physical}</PhysicalResourceId>\
                     <ResourceType>{kind}</ResourceType><Timestamp>{}</Timestamp>\
                     <ResourceStatus>{}</ResourceStatus>{}{token}</member>",
                    stack.name,
                    event.logical_id,
                    time(event.time),
                    event.status,
                    reason.unwrap_or_default()
                );
            }
            xml(action, &format!("<StackEvents>{members}</StackEvents>"))
        }
        "DescribeEvents" => xml(action, "<OperationEvents/>"),
        "ListChangeSets" => {
            let members: String = stack
                .change_sets
                .keys()
                .map(|name| format!("<member><ChangeSetName>{name}</ChangeSetName></member>"))
                .collect();
            xml(action, &format!("<Summaries>{members}</Summaries>"))
        }
        "DeleteChangeSet" => {
            stack.change_sets.remove(change_set);
            xml(action, "")
        }
        "DetectStackDrift" => {
            stack.detected = Some(Instant::now() + weather.stack);
            xml(action, "<StackDriftDetectionId>detection</StackDriftDetectionId>")
        }
        "DescribeStackDriftDetectionStatus" => {
            let is_over = stack.detected.is_some_and(|end| end <= Instant::now());
            let drifted = usize::from(weather.drifted.contains(&number));
            let status = if is_over { "DETECTION_COMPLETE" } else { "DETECTION_IN_PROGRESS" };
            xml(
                action,
                &format!(
                    "<StackId>{id}</StackId><StackDriftDetectionId>detection</StackDriftDetectionId>\
                     <DetectionStatus>{status}</DetectionStatus><Timestamp>{}</Timestamp>\
                     <DriftedStackResourceCount>{drifted}</DriftedStackResourceCount>",
                    time(now)
                ),
            )
        }
        "DescribeStackResourceDrifts" => xml(
            action,
            &format!(
                "<StackResourceDrifts><member><StackId>{id}</StackId><LogicalResourceId>Function</LogicalResourceId>\
                 <ResourceType>AWS::Lambda::Function</ResourceType><Timestamp>{}</Timestamp>\
                 <StackResourceDriftStatus>MODIFIED</StackResourceDriftStatus><PropertyDifferences><member>\
                 <PropertyPath>/MemorySize</PropertyPath><ExpectedValue>128</ExpectedValue><ActualValue>512</ActualValue>\
                 <DifferenceType>NOT_EQUAL</DifferenceType></member></PropertyDifferences></member></StackResourceDrifts>",
                time(now)
            ),
        ),
        "DeleteStack" => {
            accounts.remove(account);
            xml(action, "")
        }
        _ => error(400, "ValidationError", &format!("{action} is not known here")),
    }
}
