//! Executions of a state machine.

use aws_sdk_sfn::types::ExecutionStatus;

use super::{Tooling, fault};
use crate::domain::{Fault, FaultKind};

/// An execution of a state machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Execution {
    /// Its ARN.
    pub arn: String,
    /// Its name.
    pub name: String,
}

impl Tooling {
    fn states(&self) -> aws_sdk_sfn::Client {
        aws_sdk_sfn::Client::new(&self.config)
    }

    /// Starts an execution. Of the same name with the same input there is one, however often it is asked for.
    /// Source: <https://docs.aws.amazon.com/step-functions/latest/apireference/API_StartExecution.html>
    ///
    /// # Errors
    ///
    /// Returns Step Functions' fault.
    pub async fn start_execution(&self, machine: &str, name: &str, input: String) -> Result<Execution, Fault> {
        let request = self.states().start_execution().state_machine_arn(machine).name(name).input(input);
        let answer = request.send().await.map_err(|error| fault::read("StartExecution", &error))?;
        Ok(Execution { arn: answer.execution_arn, name: name.to_owned() })
    }

    /// Returns an execution that runs, and whose name begins with a text.
    /// Source: <https://docs.aws.amazon.com/step-functions/latest/apireference/API_ListExecutions.html>
    ///
    /// # Errors
    ///
    /// Returns Step Functions' fault.
    pub async fn running_execution(&self, machine: &str, begin: &str) -> Result<Option<Execution>, Fault> {
        let request =
            self.states().list_executions().state_machine_arn(machine).status_filter(ExecutionStatus::Running);
        let mut pages = request.into_paginator().items().send();
        while let Some(found) = pages.next().await {
            let found = found.map_err(|error| fault::read("ListExecutions", &error))?;
            if found.name.starts_with(begin) {
                return Ok(Some(Execution { arn: found.execution_arn, name: found.name }));
            }
        }
        Ok(None)
    }

    /// Returns how an execution has ended; none while it runs.
    /// Source: <https://docs.aws.amazon.com/step-functions/latest/apireference/API_DescribeExecution.html>
    ///
    /// # Errors
    ///
    /// Returns Step Functions' fault.
    pub async fn end_of_execution(&self, arn: &str) -> Result<Option<String>, Fault> {
        let answer = self.states().describe_execution().execution_arn(arn).send().await;
        let answer = answer.map_err(|error| fault::read("DescribeExecution", &error))?;
        if matches!(answer.status, ExecutionStatus::Running | ExecutionStatus::PendingRedrive) {
            return Ok(None);
        }
        let cause = answer.cause.or(answer.error).map(|cause| format!(": {cause}")).unwrap_or_default();
        Ok(Some(format!("{}{cause}", answer.status.as_str())))
    }

    /// Stops an execution, and with it the builds that it has started.
    /// Source: <https://docs.aws.amazon.com/step-functions/latest/apireference/API_StopExecution.html>
    ///
    /// # Errors
    ///
    /// Returns Step Functions' fault. One that has ended is no fault.
    pub async fn stop_execution(&self, arn: &str, why: &str) -> Result<(), Fault> {
        let answer = self.states().stop_execution().execution_arn(arn).cause(why).send().await;
        match answer.map_err(|error| fault::read("StopExecution", &error)) {
            Err(fault) if fault.kind == FaultKind::Invalid => Ok(()),
            other => other.map(drop),
        }
    }
}
