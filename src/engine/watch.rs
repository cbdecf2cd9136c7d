//! Watching alarms while a wave bakes.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::Engine;
use super::patience::patiently;
use super::window::{self, Flow};
use crate::domain::alarm::forbids;
use crate::domain::{Fault, Target};
use crate::ports::TenantAccount;

/// How often alarms are looked at.
const LOOK: Duration = Duration::from_secs(15);

/// A target whose alarms are watched.
pub type Watched = (Target, Arc<dyn TenantAccount>);

fn unread(fault: &Fault) -> String {
    format!("alarms cannot be read: {fault}")
}

impl Engine {
    /// Watches alarms for a while, at least once: those of the tooling account and those of targets. Returns why the
    /// rollout must not go on, as soon as one says so. What cannot be read in
    /// passing says nothing (safety rule 5), but by the end of the while it has to be known. A stop ends it early, without
    /// a word where something is left to start: nothing is, and who resumes watches again.
    pub(super) async fn watch(
        &self,
        tooling: &[String],
        targets: &[Watched],
        span: Duration,
        is_last: bool,
    ) -> Option<String> {
        let end = Instant::now() + span;
        let mut last = None;
        loop {
            let why = match self.look_at_alarms(tooling, targets).await {
                Ok(why) => {
                    last = None;
                    why
                }
                Err(fault) if fault.passes() => {
                    self.events.notice(format!("alarms cannot be read for now: {fault}"));
                    last = Some(fault);
                    None
                }
                // Nobody watches what cannot be read.
                Err(fault) => Some(unread(&fault)),
            };
            let left = end.saturating_duration_since(Instant::now());
            let is_stopped = self.stop.is_requested();
            if why.is_some() || left.is_zero() || is_stopped {
                return why.or(last.filter(|_| is_last || !is_stopped).as_ref().map(unread));
            }
            tokio::select! {
                biased;
                () = sleep(LOOK.min(left)) => {}
                () = self.stop.requested() => return None,
            }
        }
    }

    async fn look_at_alarms(&self, tooling: &[String], targets: &[Watched]) -> Result<Option<String>, Fault> {
        if !tooling.is_empty() {
            let states = patiently(&self.stop, || self.accounts.alarms(tooling)).await?;
            if let Some(why) = forbids(tooling, &states) {
                return Ok(Some(why));
            }
        }
        let look = |(target, account): Watched| {
            let stop = self.stop.clone();
            async move {
                let names: Vec<String> = target.alarms.iter().map(|alarm| alarm.name.clone()).collect();
                let states = patiently(&stop, || account.alarms(&names)).await?;
                Ok::<_, Fault>(forbids(&names, &states).map(|why| format!("{}: {why}", target.id)))
            }
        };
        let watched = targets.iter().filter(|(target, _)| !target.alarms.is_empty()).cloned().collect();
        let mut unread: Option<Fault> = None;
        for result in window::run(watched, window::WIDE, &self.stop, look, |_| Flow::Start).await {
            match result {
                Ok(Ok(Some(why))) => return Ok(Some(why)),
                // One that lasts says more than one that passes.
                Ok(Err(fault)) => unread = unread.filter(|known| !known.passes()).or(Some(fault)),
                Ok(Ok(None)) | Err(_) => {}
            }
        }
        unread.map_or(Ok(None), Err)
    }
}
