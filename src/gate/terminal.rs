//! A person at a terminal, who has to type what the plan is about. A bare `y` is typed too quickly.

use std::future::Future;
use std::pin::Pin;

use crate::plan::{Decision, Plan};

/// Puts a question to a person and returns the answer, or none at the end of the input.
pub type Ask = Box<dyn Fn(String) -> Pin<Box<dyn Future<Output = Option<String>> + Send>> + Send + Sync>;

/// Asks for a decision; none where nobody answers.
pub async fn confirmed(ask: Ask, plan: &Plan) -> Option<Decision> {
    let targets = plan.content.targets.iter().filter(|target| target.intent.is_executable()).count();
    let stage = &plan.content.stage;
    let question =
        format!("Type `{stage}` or the number of targets ({targets}) to apply this plan, anything else to refuse:");
    let answer = ask(question).await?;
    if answer.trim() == stage || answer.trim() == targets.to_string() {
        return Some(Decision::Approved);
    }
    Some(Decision::Rejected { why: "it was not confirmed at the terminal".to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::plan;

    #[tokio::test]
    async fn a_person_types_the_stage_or_the_number() {
        for (answer, approved) in [("prod", true), ("0\n", true), ("y", false), ("", false), ("dev", false)] {
            let ask: Ask = Box::new(move |_| Box::pin(async move { Some(answer.to_owned()) }));
            let decision = confirmed(ask, &plan(vec![])).await.unwrap();
            assert_eq!(decision == Decision::Approved, approved, "{answer}");
        }
        let gone: Ask = Box::new(|_| Box::pin(async { None }));
        assert_eq!(confirmed(gone, &plan(vec![])).await, None);
    }
}
