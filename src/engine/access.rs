//! Entering the accounts of a stage, before anything is changed anywhere.

use std::sync::Arc;

use super::Engine;
use super::patience::patiently;
use super::window::{self, Flow};
use crate::domain::{Failure, Fault, FaultKind, Target};
use crate::event::{Event, Phase};
use crate::ports::TenantAccount;

/// A target with its account, or with the reason why it could not be entered.
pub struct Entered {
    /// The target.
    pub target: Target,
    /// The way into its account.
    pub account: Result<Arc<dyn TenantAccount>, Failure>,
}

impl Engine {
    /// Enters the accounts of all targets in parallel. Changes nothing, and tries them all, so that the reader
    /// learns of every account that is not ready and not only of the first.
    pub async fn enter(&self, stage: &str, targets: Vec<Target>) -> Vec<Entered> {
        self.events.emit(Event::PhaseStarted { phase: Phase::Access, stage: stage.to_owned(), targets: targets.len() });
        let accounts = self.accounts.clone();
        let enter = |target: Target| {
            let (accounts, stop) = (accounts.clone(), self.stop.clone());
            async move {
                let account = patiently(&stop, || accounts.enter(&target)).await;
                let account = account.map_err(|fault| refusal(&target, &fault));
                Entered { target, account }
            }
        };
        let entered = window::run(targets, window::WIDE, &self.stop, enter, |_| Flow::Start).await;
        let stopped = || Err(Failure::because("the run was stopped before the account was entered"));
        entered
            .into_iter()
            .map(|result| result.unwrap_or_else(|target| Entered { target, account: stopped() }))
            .collect()
    }
}

/// Says why an account could not be entered, and what its owner can do.
fn refusal(target: &Target, fault: &Fault) -> Failure {
    let failure = Failure::because(fault.to_string());
    match fault.kind {
        FaultKind::Denied => failure.hint(format!(
            "check that {} exists and that its trust policy lets this caller use sts:AssumeRole, sts:TagSession and sts:SetSourceIdentity{}",
            target.access_role,
            if target.external_id.is_some() { " with the configured external id" } else { "" },
        )),
        FaultKind::WrongAccount => failure.hint(format!(
            "tenant {} is configured with account {}: correct its account or its access role",
            target.id.tenant, target.account
        )),
        FaultKind::Credentials => failure.hint("check the credentials of the tooling account, for example with `aws sts get-caller-identity`"),
        _ => failure,
    }
}
