//! What the approval actions of a pipeline say.

use jiff::Timestamp;

use super::{Tooling, fault};
use crate::domain::Fault;
use crate::ports::PipelineAnswer;

impl Tooling {
    /// Returns what the approval actions of one execution of a pipeline say, the latest first.
    /// Source: <https://docs.aws.amazon.com/codepipeline/latest/APIReference/API_ListActionExecutions.html>
    ///
    /// # Errors
    ///
    /// Returns CodePipeline's fault.
    pub async fn pipeline_answers(&self, pipeline: &str, execution: &str) -> Result<Vec<PipelineAnswer>, Fault> {
        let codepipeline = aws_sdk_codepipeline::Client::new(&self.config);
        let filter = aws_sdk_codepipeline::types::ActionExecutionFilter::builder().pipeline_execution_id(execution);
        let mut answers = Vec::new();
        let mut page = None;
        loop {
            let answer = codepipeline
                .list_action_executions()
                .pipeline_name(pipeline)
                .filter(filter.clone().build())
                .set_next_token(page)
                .send()
                .await
                .map_err(|error| fault::read("ListActionExecutions", &error))?;
            for detail in answer.action_execution_details() {
                let Some(input) = detail.input() else { continue };
                let is_approval = input.action_type_id().is_some_and(|kind| kind.category().as_str() == "Approval");
                if !is_approval {
                    continue;
                }
                let shown = input.resolved_configuration().or_else(|| input.configuration());
                let shown: Vec<&str> = shown.into_iter().flat_map(|map| map.values()).map(String::as_str).collect();
                let result = detail.output().and_then(|output| output.execution_result());
                let at = detail.last_update_time().and_then(|at| Timestamp::from_second(at.secs()).ok());
                answers.push(PipelineAnswer {
                    action: detail.action_name().unwrap_or_default().to_owned(),
                    execution: detail.action_execution_id().unwrap_or_default().to_owned(),
                    status: detail.status().map_or("", |status| status.as_str()).to_owned(),
                    by: detail.updated_by().map(str::to_owned),
                    at,
                    comment: result
                        .and_then(|result| result.external_execution_summary())
                        .filter(|text| !text.is_empty())
                        .map(str::to_owned),
                    shown: shown.join("\n"),
                });
            }
            page = answer.next_token().map(str::to_owned);
            if page.is_none() {
                return Ok(answers);
            }
        }
    }
}
