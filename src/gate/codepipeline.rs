//! The manual approval action of a pipeline, whose answer becomes a decision.

use super::Decided;
use crate::domain::{Digest, Identity};
use crate::plan::Decision;
use crate::ports::PipelineAnswer;

/// Returns what the approval actions that have shown this plan say, as far as somebody has answered them. An action
/// that did not show the plan's digest says nothing about the plan.
pub fn answered(answers: &[PipelineAnswer], plan: Digest) -> Vec<Decided> {
    let digest = plan.to_string();
    let decided = |answer: &PipelineAnswer| {
        let decision = match answer.status.as_str() {
            "Succeeded" => Decision::Approved,
            "Failed" => {
                let why = answer.comment.clone().unwrap_or_else(|| "rejected without a comment".to_owned());
                Decision::Rejected { why }
            }
            _ => return None,
        };
        let by = Identity { principal: answer.by.clone()?, source_identity: None };
        let source = Some(format!("codepipeline:{}", answer.execution));
        Some(Decided { decision, by, via: "codepipeline", source, at: answer.at, comment: answer.comment.clone() })
    };
    answers.iter().filter(|answer| answer.shown.contains(&digest)).filter_map(decided).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_to_this_very_plan_counts() {
        let plan = Digest::of("plan");
        let answer = |status: &str, shown: String, by: Option<&str>| PipelineAnswer {
            action: "Approve".into(),
            execution: "1".into(),
            status: status.into(),
            by: by.map(str::to_owned),
            at: None,
            comment: None,
            shown,
        };
        let arn = "arn:aws:iam::111111111111:user/ann";
        let shown = format!("plan {plan}: 2 targets");
        let decision = |one: PipelineAnswer| answered(&[one], plan).pop().map(|decided| decided.decision);
        assert_eq!(decision(answer("Succeeded", shown.clone(), Some(arn))), Some(Decision::Approved));
        assert!(matches!(decision(answer("Failed", shown.clone(), Some(arn))), Some(Decision::Rejected { .. })));
        assert_eq!(decision(answer("InProgress", shown.clone(), Some(arn))), None);
        assert_eq!(decision(answer("Succeeded", shown, None)), None, "nobody knows who");
        let other = format!("plan {}: 2 targets", Digest::of("other"));
        assert_eq!(decision(answer("Succeeded", other, Some(arn))), None);
    }
}
