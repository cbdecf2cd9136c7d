//! Plain lines, each with its target in front, for logs of CI systems and files.

use std::io::{self, Write};

use super::Reporter;
use super::text::{self, BAD, BOLD, DIM, GOOD, WARN, bytes, clean, count, styled};
use crate::domain::{Outcome, StackEvent};
use crate::event::{Event, Phase, Timed};

/// Up to so many targets every event of every resource is shown; beyond, only stacks and failures.
const FEW: usize = 12;

/// Writes plain lines.
pub struct Lines<W> {
    out: W,
    targets: usize,
}

impl<W: Write> Lines<W> {
    /// Writes to `out`.
    pub fn new(out: W) -> Self {
        Self { out, targets: 0 }
    }

    /// Returns the line for an event, if it is worth one.
    fn line(&mut self, event: &Event) -> Option<String> {
        if let Event::PhaseStarted { targets, .. } = event {
            self.targets = *targets;
        }
        match event {
            Event::Stack { target, stack_event } => {
                let shown = self.targets <= FEW || stack_event.is_stack || is_failure(stack_event);
                shown.then(|| format!("[{target}] {}", resource(stack_event)))
            }
            other => line(other),
        }
    }
}

impl<W: Write + Send> Reporter for Lines<W> {
    fn event(&mut self, event: &Timed) -> io::Result<()> {
        if let Some(line) = self.line(&event.event) {
            writeln!(self.out, "{line}")?;
            self.out.flush()?;
        }
        Ok(())
    }
}

fn is_failure(event: &StackEvent) -> bool {
    event.status.ends_with("_FAILED")
}

fn resource(event: &StackEvent) -> String {
    let style = match () {
        () if is_failure(event) || event.status.contains("ROLLBACK") => BAD,
        () if event.status.ends_with("_COMPLETE") => GOOD,
        () => DIM,
    };
    let name = if event.is_stack { format!("stack {}", clean(&event.logical_id)) } else { clean(&event.logical_id) };
    let reason = event.reason.as_ref().map(|reason| format!(": {}", clean(reason))).unwrap_or_default();
    format!("{name} {}{reason}", styled(style, clean(&event.status)))
}

/// Returns the line for an event, for every reporter that writes lines.
pub(super) fn line(event: &Event) -> Option<String> {
    Some(match event {
        Event::Packaged { artifact, entries, size, sha256 } => {
            format!("packaged {artifact}: {}, {}, sha256 {}", count(*entries, "file"), bytes(*size), sha256.short())
        }
        Event::Stored { key, size, sent: true } => format!("uploaded {key} ({})", bytes(*size)),
        Event::Stored { key, sent: false, .. } => styled(DIM, format!("already stored {key}")),
        Event::Released { release, known } => {
            let known = if *known { " (known already)" } else { "" };
            format!("release {}{known}", styled(BOLD, release))
        }
        Event::PhaseStarted { phase, stage, targets } => {
            let doing = match phase {
                Phase::Access => "entering the accounts of",
                Phase::Plan => "planning",
                Phase::Apply => "applying to",
                Phase::Destroy => "deleting the stacks of",
                Phase::Recover => "going on with the rollback of",
                Phase::Status => "looking at",
                Phase::Examine => "examining",
            };
            styled(BOLD, format!("{stage}: {doing} {}", count(*targets, "target")))
        }
        Event::Planned { plan } => super::plan(plan),
        Event::Question { text } => text.clone(),
        Event::Approved { by } => format!("approved by {}", clean(by)),
        Event::RolloutStarted { rollout, .. } => format!("rollout {}", styled(BOLD, rollout)),
        Event::WaveStarted { wave, targets } => styled(BOLD, format!("{wave}: {}", count(*targets, "target"))),
        Event::Baking { wave, seconds } => {
            format!("{wave} is done: {} before the next wave", text::span(*seconds))
        }
        Event::CheckPassed { target, check } => format!("[{target}] {} {}", styled(GOOD, "holds:"), clean(check)),
        Event::Finished { target, outcome } => format!("[{target}] {}", ending(outcome)),
        Event::PhaseFinished { phase: Phase::Apply | Phase::Destroy | Phase::Recover, stage, tally } => {
            styled(BOLD, format!("{stage}: {tally}"))
        }
        Event::Notice { message } => styled(WARN, format!("notice: {}", clean(message))),
        Event::Stopping { signal } => {
            styled(WARN, format!("{signal}: nothing new is started; what runs goes on in CloudFormation"))
        }
        Event::Uploading { .. }
        | Event::Prepared { .. }
        | Event::Moved { .. }
        | Event::Stack { .. }
        | Event::PhaseFinished { .. } => {
            return None;
        }
    })
}

/// Returns an outcome with its reason, in one line.
pub(super) fn ending(outcome: &Outcome) -> String {
    let name = styled(style(outcome), outcome.name());
    match (outcome, outcome.failure()) {
        (Outcome::Pinned { pin }, _) => format!("{name} to {pin}"),
        (_, None) => name,
        (_, Some(failure)) => format!("{name}: {}", clean(&failure.to_string())),
    }
}

/// Returns the style of an outcome.
pub(super) fn style(outcome: &Outcome) -> anstyle::Style {
    match outcome {
        Outcome::Deployed | Outcome::Deleted | Outcome::Recovered => text::GOOD,
        Outcome::Unchanged | Outcome::Pinned { .. } => text::DIM,
        Outcome::Skipped(_) | Outcome::Detached(_) => text::WARN,
        Outcome::RolledBack(_) | Outcome::RollbackFailed(_) | Outcome::Failed(_) | Outcome::Blocked(_) => text::BAD,
    }
}
