//! The way into accounts that are set up: before there are roles to enter by.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;

use super::account::Account;
use super::session::{Session, SessionIdentity, sts};
use super::{Tooling, Visit};
use crate::domain::{AccountId, AlarmState, Fault, FaultKind, Target};
use crate::ports::{Accounts, TenantAccount};

/// Enters the account of the credentials around this process with them, and others by a role that is there already.
pub struct Administrators {
    tooling: Tooling,
    own: AccountId,
    visit: Arc<Visit>,
    sts: aws_sdk_sts::Client,
    sessions: Mutex<HashMap<AccountId, Arc<Session>>>,
}

impl Administrators {
    /// Prepares sessions. Nothing is called yet.
    pub fn new(tooling: Tooling, own: AccountId, visit: Visit) -> Self {
        let sts = sts(&tooling);
        Self { tooling, own, visit: Arc::new(visit), sts, sessions: Mutex::default() }
    }

    fn session(&self, target: &Target) -> Arc<Session> {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let name = &target.id.tenant;
        let fresh = || {
            let session = if target.account == self.own {
                Session::own(&self.tooling, name)
            } else {
                let identity = SessionIdentity { tenant: None, external_id: None, visit: self.visit.clone() };
                Session::new(&self.tooling, name, self.sts.clone(), &target.access_role, identity)
            };
            Arc::new(session)
        };
        sessions.entry(target.account.clone()).or_insert_with(fresh).clone()
    }
}

#[async_trait]
impl Accounts for Administrators {
    async fn enter(&self, target: &Target) -> Result<Arc<dyn TenantAccount>, Fault> {
        if target.account != self.own && target.access_role.is_empty() {
            let message = format!("the credentials are of account {}, and not of {}", self.own, target.account);
            return Err(Fault::new(FaultKind::WrongAccount, "AssumeRole", message));
        }
        let session = self.session(target);
        session.enter(&target.access_role, &target.account).await?;
        Ok(Arc::new(Account::new(session, target.id.region.as_str())))
    }

    async fn state(&self, account: &AccountId) -> Result<String, Fault> {
        self.tooling.state_of(account).await
    }

    async fn alarms(&self, names: &[String]) -> Result<Vec<AlarmState>, Fault> {
        super::alarms::read((&self.tooling.config).into(), names).await
    }
}
