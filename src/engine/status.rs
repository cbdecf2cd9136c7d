//! What every target runs: its stack's status from CloudFormation, its release from the ledger.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::Serialize;

use super::access::Entered;
use super::drift::drift;
use super::patience::patiently;
use super::window::{self, Flow};
use super::{Engine, LedgerEntry, ledger, records};
use crate::domain::{AccountId, Drift, ReleaseId, TargetId};
use crate::event::{Event, Phase};

/// What one target runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct TargetStatus {
    /// The stage that the target was asked for in.
    pub stage: String,
    /// Which target.
    #[serde(flatten)]
    pub target: TargetId,
    /// The account it is in.
    pub account: AccountId,
    /// The stack's name.
    pub stack: String,
    /// The stack's status; none where there is no stack, or where it could not be read.
    pub status: Option<String>,
    /// The release that the ledger has.
    pub release: Option<ReleaseId>,
    /// Since when it is on that release.
    pub since: Option<Timestamp>,
    /// The release that it stays on, if it is pinned.
    pub pin: Option<ReleaseId>,
    /// How its resources differ from the template, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drift: Option<Drift>,
    /// Whether another target of the stage is on a newer release.
    pub lags: bool,
    /// Why something could not be read; untrusted text.
    pub problem: Option<String>,
}

impl Engine {
    /// Looks at every target in parallel. One that cannot be read for a while is told as such. `others` are the
    /// stage's further targets: whether one lags is a matter of the whole stage.
    pub async fn status(
        &self,
        application: &str,
        stage: &str,
        entered: Vec<Entered>,
        others: Vec<TargetId>,
        with_drift: bool,
    ) -> Vec<TargetStatus> {
        self.events.emit(Event::PhaseStarted { phase: Phase::Status, stage: stage.to_owned(), targets: entered.len() });
        let look = |entered: Entered| {
            let (store, stop) = (self.store.clone(), self.stop.clone());
            let (application, stage) = (application.to_owned(), stage.to_owned());
            async move {
                let Entered { target, account } = entered;
                let mut problems = Vec::new();
                let entry =
                    records::read::<LedgerEntry>(store.as_ref(), &ledger::key(&application, &stage, &target.id)).await;
                let entry = entry.unwrap_or_else(|fault| {
                    problems.push(fault.to_string());
                    None
                });
                let mut found = None;
                let stack = match account {
                    Ok(account) => {
                        let stack = patiently(&stop, || account.stack(&target.stack)).await;
                        let stack = stack.map_err(|fault| fault.to_string());
                        if let (true, Ok(Some(stack))) = (with_drift, &stack) {
                            let drift = drift(account.as_ref(), &stack.id, &stop).await;
                            found = drift.map_err(|failure| problems.push(failure.to_string())).ok();
                        }
                        stack
                    }
                    Err(failure) => Err(failure.to_string()),
                };
                let stack = stack.unwrap_or_else(|problem| {
                    problems.push(problem);
                    None
                });
                let entry = entry.map(|(entry, _)| entry).filter(|entry| entry.release.is_some());
                let since = entry.as_ref().map(|entry| entry.since);
                let release = entry.and_then(|entry| entry.release);
                TargetStatus {
                    stage,
                    target: target.id,
                    account: target.account,
                    stack: target.stack,
                    status: stack.map(|stack| stack.status.name().to_owned()),
                    release,
                    since,
                    pin: target.pin,
                    drift: found,
                    lags: false,
                    problem: (!problems.is_empty()).then(|| problems.join("; ")),
                }
            }
        };
        let results = window::run(entered, window::WIDE, &self.stop, look, |_| Flow::Start).await;
        let not_looked = |entered: Entered| TargetStatus {
            stage: stage.to_owned(),
            target: entered.target.id,
            account: entered.target.account,
            stack: entered.target.stack,
            status: None,
            release: None,
            since: None,
            pin: entered.target.pin,
            drift: None,
            lags: false,
            problem: Some("not looked at, since the run was stopped".to_owned()),
        };
        let mut statuses: Vec<TargetStatus> =
            results.into_iter().map(|result| result.unwrap_or_else(not_looked)).collect();
        let lines = self.ledger(application, stage, others).await.unwrap_or_default();
        let elsewhere = lines.into_iter().filter_map(|(_, entry)| entry?.release);
        let releases = statuses.iter().filter_map(|status| status.release.clone()).chain(elsewhere).collect();
        let newest = self.newest(application, releases).await;
        for status in &mut statuses {
            status.lags = status.release.is_some() && status.release != newest;
        }
        statuses
    }

    /// Returns the release among those of the targets that was packaged last. What is older lags, whenever it was
    /// brought there. A release without a record is as old as can be.
    async fn newest(&self, application: &str, releases: BTreeSet<ReleaseId>) -> Option<ReleaseId> {
        if releases.len() < 2 {
            return releases.into_iter().next();
        }
        let mut newest = None;
        for release in releases {
            let record = self.release(application, release.as_str()).await.ok().flatten();
            newest = newest.max(Some((record.and_then(|record| record.provenance.packaged), release)));
        }
        newest.map(|(_, release)| release)
    }
}
