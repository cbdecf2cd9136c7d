//! Executions of a state machine.

use aws_sdk_sfn::types::ExecutionStatus;

use super::{Tooling, fault};
use crate::domain::Fault;

/// What is known of an execution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Execution {
    /// How it has ended, as its status and why; none while it runs.
    pub ended: Option<String>,
    /// What it was started with.
    pub input: String,
}

impl Tooling {
    fn states(&self) -> aws_sdk_sfn::Client {
        aws_sdk_sfn::Client::new(&self.config)
    }

    /// Starts an execution, and tells whether there was none of that name: no other is started then.
    /// Source: <https://docs.aws.amazon.com/step-functions/latest/apireference/API_StartExecution.html>
    ///
    /// # Errors
    ///
    /// Returns Step Functions' fault.
    pub async fn start_execution(&self, machine: &str, name: &str, input: String) -> Result<bool, Fault> {
        let request = self.states().start_execution().state_machine_arn(machine).name(name).input(input);
        match request.send().await.map_err(|error| fault::read("StartExecution", &error)) {
            Err(fault) if fault.code == "ExecutionAlreadyExists" => Ok(false),
            other => other.map(|_| true),
        }
    }

    /// Returns what is known of an execution; none where there is none, or where it was started a moment ago.
    /// Source: <https://docs.aws.amazon.com/step-functions/latest/apireference/API_DescribeExecution.html>
    ///
    /// # Errors
    ///
    /// Returns Step Functions' fault.
    pub async fn execution(&self, arn: &str) -> Result<Option<Execution>, Fault> {
        let answer = self.states().describe_execution().execution_arn(arn).send().await;
        let answer = match answer.map_err(|error| fault::read("DescribeExecution", &error)) {
            Err(fault) if fault.code == "ExecutionDoesNotExist" => return Ok(None),
            other => other?,
        };
        let runs = matches!(answer.status, ExecutionStatus::Running | ExecutionStatus::PendingRedrive);
        let cause = answer.cause.or(answer.error).map(|cause| format!(": {cause}")).unwrap_or_default();
        let ended = (!runs).then(|| format!("{}{cause}", answer.status.as_str()));
        Ok(Some(Execution { ended, input: answer.input.unwrap_or_default() }))
    }

    /// Stops an execution, and with it the builds that it has started.
    /// Source: <https://docs.aws.amazon.com/step-functions/latest/apireference/API_StopExecution.html>
    ///
    /// # Errors
    ///
    /// Returns Step Functions' fault.
    pub async fn stop_execution(&self, arn: &str, why: &str) -> Result<(), Fault> {
        let answer = self.states().stop_execution().execution_arn(arn).cause(why).send().await;
        answer.map(drop).map_err(|error| fault::read("StopExecution", &error))
    }
}
