//! Who opens the way between plan and apply. Each answers the port `Approvals`, for a plan's digest and nothing else.

use std::future::Future;
use std::pin::Pin;

use async_trait::async_trait;

use crate::domain::Digest;
use crate::plan::Plan;
use crate::ports::{Approvals, Verdict};

/// Digests that somebody approved on the command line. They open the way for no other plan.
pub struct Given(pub Vec<Digest>);

#[async_trait]
impl Approvals for Given {
    async fn decide(&self, plan: &Plan) -> Verdict {
        match self.0.as_slice() {
            [] => Verdict::Waiting,
            given if given.contains(&plan.digest) => Verdict::Approved("the command line".to_owned()),
            [.., last] => Verdict::Unfit(format!("the approval is for plan {last}, but the plan is {}", plan.digest)),
        }
    }
}

/// Puts a question to a person and returns the answer, or none at the end of the input.
pub type Ask = Box<dyn Fn(String) -> Pin<Box<dyn Future<Output = Option<String>> + Send>> + Send + Sync>;

/// A person at a terminal, who has to type what the plan is about. A bare `y` is typed too quickly.
pub struct Terminal(pub Ask);

#[async_trait]
impl Approvals for Terminal {
    async fn decide(&self, plan: &Plan) -> Verdict {
        let targets = plan.content.targets.iter().filter(|target| target.intent.is_executable()).count();
        let stage = &plan.content.stage;
        let question =
            format!("Type `{stage}` or the number of targets ({targets}) to apply this plan, anything else to refuse:");
        match (self.0)(question).await {
            None => Verdict::Waiting,
            Some(answer) if answer.trim() == stage || answer.trim() == targets.to_string() => {
                Verdict::Approved("the terminal".to_owned())
            }
            Some(_) => Verdict::Refused("it was not confirmed at the terminal".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::domain::release::Provenance;
    use crate::domain::{Release, Rollout, TemplateObject};
    use crate::plan::{Content, Selection};

    fn plan() -> Plan {
        let template = TemplateObject { sha256: Digest::of("t"), key: "t".into() };
        let release = Release::new("app", "bucket", BTreeMap::new(), template, Provenance::default());
        let content = Content::new("prod", &release, Rollout::default(), vec![]);
        Plan { digest: content.digest(), content, change_sets: vec![], selection: Selection::default() }
    }

    #[tokio::test]
    async fn only_the_plan_with_the_given_digest_is_approved() {
        let plan = plan();
        assert_eq!(Given(vec![]).decide(&plan).await, Verdict::Waiting);
        assert!(matches!(Given(vec![Digest::of("other")]).decide(&plan).await, Verdict::Unfit(_)));
        assert!(matches!(Given(vec![Digest::of("other"), plan.digest]).decide(&plan).await, Verdict::Approved(_)));
    }

    #[tokio::test]
    async fn a_person_types_the_stage_or_the_number() {
        for (answer, approved) in [("prod", true), ("0\n", true), ("y", false), ("", false), ("dev", false)] {
            let terminal = Terminal(Box::new(move |_| Box::pin(async move { Some(answer.to_owned()) })));
            let verdict = terminal.decide(&plan()).await;
            assert_eq!(matches!(verdict, Verdict::Approved(_)), approved, "{answer}");
        }
        let gone = Terminal(Box::new(|_| Box::pin(async { None })));
        assert_eq!(gone.decide(&plan()).await, Verdict::Waiting);
    }
}
