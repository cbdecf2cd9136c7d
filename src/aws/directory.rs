//! Lists of tenants that AWS keeps: in an organization, or in a parameter.

use std::collections::BTreeMap;

use aws_sdk_organizations::types::Account;
use futures_util::future::try_join_all;

use super::{Tooling, fault};
use crate::domain::{AccountId, Fault};

/// How many accounts' tags are asked for at a time: Organizations answers some few calls a second.
const AT_ONCE: usize = 4;

/// An account of an organization.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its state, as ACTIVE or SUSPENDED.
    pub state: String,
    /// The name of the unit that it is in; none where that is the one that was asked for.
    pub unit: Option<String>,
    /// Its tags, where they were asked for.
    pub tags: BTreeMap<String, String>,
}

impl Tooling {
    /// Returns the accounts of an organizational unit and of all units below it, by their ids.
    ///
    /// # Errors
    ///
    /// Fails where the caller is neither of the management account nor allowed to by it, or where there is no such unit.
    pub async fn members(&self, unit: &str, with_tags: bool) -> Result<Vec<Member>, Fault> {
        let client = aws_sdk_organizations::Client::new(&self.config);
        let mut members = Vec::new();
        let mut units = vec![(unit.to_owned(), None)];
        while let Some((parent, name)) = units.pop() {
            let mut pages = client.list_accounts_for_parent().parent_id(&parent).into_paginator().send();
            while let Some(page) = pages.next().await {
                let page = page.map_err(|error| fault::read("ListAccountsForParent", &error))?;
                members.extend(page.accounts().iter().map(|account| member(account, name.clone())));
            }
            let mut pages = client.list_organizational_units_for_parent().parent_id(&parent).into_paginator().send();
            while let Some(page) = pages.next().await {
                let page = page.map_err(|error| fault::read("ListOrganizationalUnitsForParent", &error))?;
                let below = page.organizational_units().iter();
                units.extend(
                    below.map(|unit| (unit.id().unwrap_or_default().to_owned(), unit.name().map(str::to_owned))),
                );
            }
        }
        members.sort_by(|one, other| one.id.cmp(&other.id));
        if with_tags {
            for some in members.chunks_mut(AT_ONCE) {
                try_join_all(some.iter_mut().map(async |member| {
                    let mut pages =
                        client.list_tags_for_resource().resource_id(&member.id).into_paginator().items().send();
                    while let Some(tag) = pages.next().await {
                        let tag = tag.map_err(|error| fault::read("ListTagsForResource", &error))?;
                        member.tags.insert(tag.key().to_owned(), tag.value().to_owned());
                    }
                    Ok::<(), Fault>(())
                }))
                .await?;
            }
        }
        Ok(members)
    }

    /// Returns the value of a parameter, decrypted.
    ///
    /// # Errors
    ///
    /// Fails where it is not there, or cannot be read.
    pub async fn parameter(&self, name: &str) -> Result<String, Fault> {
        let client = aws_sdk_ssm::Client::new(&self.config);
        let answer = client.get_parameter().name(name).with_decryption(true).send().await;
        let answer = answer.map_err(|error| fault::read("GetParameter", &error))?;
        Ok(answer.parameter().and_then(|parameter| parameter.value()).unwrap_or_default().to_owned())
    }

    /// Returns the state of an account as its organization has it, as ACTIVE or SUSPENDED.
    ///
    /// # Errors
    ///
    /// Fails where the organization does not tell: it is not ours, or this account may not ask.
    pub async fn state_of(&self, account: &AccountId) -> Result<String, Fault> {
        let client = aws_sdk_organizations::Client::new(&self.config);
        let answer = client.describe_account().account_id(account.as_str()).send().await;
        let answer = answer.map_err(|error| fault::read("DescribeAccount", &error))?;
        Ok(answer.account().map(state).unwrap_or_default())
    }
}

fn member(account: &Account, unit: Option<String>) -> Member {
    let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
    let (id, name) = (text(account.id()), text(account.name()));
    Member { id, name, state: state(account), unit, tags: BTreeMap::new() }
}

/// `State` has come in the place of `Status`, which older answers have alone.
/// Source: <https://docs.aws.amazon.com/organizations/latest/APIReference/API_Account.html>
fn state(account: &Account) -> String {
    #[allow(deprecated, reason = "an endpoint that does not know the new field yet")]
    let status = || account.status().map(|status| status.as_str().to_owned());
    account.state().map(|state| state.as_str().to_owned()).or_else(status).unwrap_or_default()
}
