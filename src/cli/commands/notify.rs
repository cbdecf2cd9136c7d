//! Telling those whom the configuration names that a plan waits, and how rollouts end. Nobody who cannot be reached stops
//! a rollout.

use super::answer::StageAnswer;
use crate::cli::workspace::Run;
use crate::config::{Notify, Occasion};
use crate::domain::{Exit, Fault, FaultKind};
use crate::plan::{Plan, classes, headline, signature};
use crate::report::text::{clean, shorten};

/// Causes of failures that are told.
const CAUSES: usize = 3;
/// How long a cause may be.
const CAUSE: usize = 300;
/// So long is a subject at most, in ASCII.
/// Source: <https://docs.aws.amazon.com/sns/latest/api/API_Publish.html>
const SUBJECT: usize = 99;

/// Tells that a plan waits for its approval.
pub async fn waiting(run: &Run<'_>, plan: &Plan) {
    let content = &plan.content;
    let lines = vec![
        format!("release {}: {}", content.release, headline(&classes(content))),
        format!("read it: tenantry report {}", plan.digest),
        format!("approve it: tenantry approve {}", plan.digest),
    ];
    tell(run, Whom::All, Occasion::Waiting, &content.stage, "a plan waits for approval", lines).await;
}

/// Who is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whom {
    /// All that the configuration names.
    All,
    /// Webhooks alone.
    Webhooks,
}

/// Tells how a rollout has ended.
pub async fn ended(run: &Run<'_>, plan: &Plan, stage: &StageAnswer, whom: Whom) {
    let Some(rollout) = &stage.rollout else { return };
    let well = matches!(stage.exit, Exit::Done | Exit::Tolerated);
    let occasion = if well { Occasion::Finished } else { Occasion::Failed };
    let mut lines = vec![format!("release {}, rollout {rollout}", plan.content.release)];
    let mut causes: Vec<(String, usize)> = Vec::new();
    for target in &stage.targets {
        let content = plan.content.target(&target.target);
        if let Some((content, failure)) = content.zip(target.outcome.failure()) {
            // Covered before anything is cut off.
            let cause = clean(&run.console.covered(&signature(content, failure)));
            match causes.iter_mut().find(|(known, _)| *known == cause) {
                Some((_, count)) => *count += 1,
                None => causes.push((cause, 1)),
            }
        }
    }
    causes.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let more = causes.len().saturating_sub(CAUSES);
    lines.extend(causes.iter().take(CAUSES).map(|(cause, count)| format!("{count}: {}", shorten(cause, CAUSE))));
    if more > 0 {
        lines.push(format!("and {more} more causes"));
    }
    lines.push(format!("tenantry report {rollout}"));
    tell(run, whom, occasion, &plan.content.stage, &stage.counts.to_string(), lines).await;
}

/// Tells everybody who is to be told of something. What tenants' stacks say is untrusted text (safety rule 7).
async fn tell(run: &Run<'_>, whom: Whom, occasion: Occasion, stage: &str, what: &str, lines: Vec<String>) {
    let application = &run.project.application;
    let headline = format!("{application} {stage}: {what}");
    let lines: Vec<String> = lines.iter().map(|line| run.console.covered(&clean(line))).collect();
    let message = format!("{headline}\n{}", lines.join("\n"));
    let name = match occasion {
        Occasion::Waiting => "waiting",
        Occasion::Finished => "finished",
        Occasion::Failed => "failed",
    };
    for notify in &run.project.notify {
        let is_meant = whom == Whom::All || notify.webhook.is_some();
        if !is_meant || (!notify.on.is_empty() && !notify.on.contains(&occasion)) {
            continue;
        }
        if let Err(fault) =
            send(run, notify, &headline, &message, &[("event", name), ("application", application), ("stage", stage)])
                .await
        {
            let whom = notify.topic.as_deref().or(notify.webhook.as_deref()).unwrap_or_default();
            run.engine.events.notice(format!("{whom} could not be told: {fault}"));
        }
    }
}

async fn send(
    run: &Run<'_>,
    notify: &Notify,
    headline: &str,
    message: &str,
    attributes: &[(&str, &str)],
) -> Result<(), Fault> {
    if let Some(topic) = &notify.topic {
        let subject: String = headline.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').take(SUBJECT).collect();
        run.tooling.publish(topic, &subject, message, attributes).await?;
    }
    if let Some(variable) = &notify.webhook {
        let url = run.environment.variables.0.get(variable).filter(|url| !url.is_empty());
        let missing = || Fault::new(FaultKind::Invalid, "POST", "the environment has no such variable");
        run.tooling.tell(url.ok_or_else(missing)?, &escaped(message)).await?;
    }
    Ok(())
}

/// Escapes what Slack would read as a mention or a link.
/// Source: <https://docs.slack.dev/messaging/formatting-message-text#escaping>
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
