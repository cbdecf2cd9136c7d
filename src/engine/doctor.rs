//! Looking whether targets can be released to, by doing what a release does: entering, reading an artifact, and creating a
//! change set, which is deleted again.

use serde::Serialize;
use serde_json::{Value, json};

use super::plan::Probe;
use super::window::{self, Flow};
use super::{Engine, Stop};
use crate::domain::{AccountId, AccountQuota, Digest, Fault, FaultKind, Target, TargetId};
use crate::event::{Event, Phase};
use crate::ports::{ArtifactPlace, ChangeSetRequest, TemplateSource};

/// What is looked at, in this order: where one fails, what comes after it cannot be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Check {
    /// The access role can be assumed, with its tags and its source identity, and leads to the right account.
    Access,
    /// An artifact can be read and decrypted with the tenant's own rights.
    Artifacts,
    /// There is room for what is released.
    Quotas,
    /// A change set can be created with the deployment role, from a template in the bucket, with the template's macros.
    ChangeSets,
}

impl Check {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Access, Self::Artifacts, Self::Quotas, Self::ChangeSets];

    /// Its name, as a heading.
    pub fn name(self) -> &'static str {
        match self {
            Self::Access => "access",
            Self::Artifacts => "artifacts",
            Self::ChangeSets => "change sets",
            Self::Quotas => "quotas",
        }
    }
}

/// What is wrong, where, and what would mend it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Finding {
    /// Which check has failed.
    pub check: Check,
    /// What AWS says; untrusted text.
    pub problem: String,
    /// What to do.
    pub hint: String,
    /// The statement that is missing, and the policy in which.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing: Option<Missing>,
}

impl Finding {
    /// Returns what there is to say of an account that is not active.
    pub fn closed(tenant: &str, account: &str, state: &str) -> Self {
        Self {
            check: Check::Access,
            problem: format!("the organization says that account {account} is {state}"),
            hint: format!(
                "have it reopened, which is possible for 90 days; or let the tenant go: \
                 `tenantry tenant remove {tenant} --account-is-gone`"
            ),
            missing: None,
        }
    }
}

/// A statement that a policy lacks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Missing {
    /// The policy.
    pub policy: String,
    /// The statement.
    pub statement: Value,
}

/// What looking at a target has shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Examination {
    /// The stage that the target belongs to.
    pub stage: String,
    /// Which target.
    #[serde(flatten)]
    pub target: TargetId,
    /// Its account.
    pub account: AccountId,
    /// The first thing that is wrong; none where all is well.
    pub finding: Option<Finding>,
    /// How much of its quotas the account uses, where it tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quotas: Option<Vec<AccountQuota>>,
}

/// What targets are examined with: an object in the bucket that is a template, too.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Where it is.
    pub place: ArtifactPlace,
    /// The URL under which CloudFormation reads it.
    pub url: String,
}

impl Engine {
    /// Looks at targets in parallel. Whatever is created is deleted again, and no resource ever is.
    pub async fn examine(&self, stage: &str, targets: Vec<Target>, sample: &Sample) -> Vec<Examination> {
        self.events.emit(Event::PhaseStarted {
            phase: Phase::Examine,
            stage: stage.to_owned(),
            targets: targets.len(),
        });
        let work = |target: Target| {
            let (engine, sample, stage) = (self.clone(), sample.clone(), stage.to_owned());
            async move {
                let (finding, quotas) = match engine.examine_one(&target, &sample).await {
                    Ok(quotas) => (None, quotas),
                    Err(finding) => (Some(finding), None),
                };
                Examination { stage, target: target.id, account: target.account, finding, quotas }
            }
        };
        let examined = window::run(targets, window::WIDE, &self.stop, work, |_| Flow::Start).await;
        examined.into_iter().filter_map(Result::ok).collect()
    }

    /// Returns the quotas of a target's account, where it tells them, or what is wrong with it.
    async fn examine_one(&self, target: &Target, sample: &Sample) -> Result<Option<Vec<AccountQuota>>, Finding> {
        let entered = super::patience::patiently(&self.stop, || self.accounts.enter(target)).await;
        let account = match entered {
            Ok(account) => account,
            Err(fault) => {
                // Why it cannot be entered, its organization may know.
                let asked = fault.kind == FaultKind::Denied;
                let state = if asked { self.accounts.state(&target.account).await.ok() } else { None };
                return Err(access(target, &fault, state.as_deref()));
            }
        };
        account.read_artifact(&sample.place).await.map_err(|fault| artifacts(target, &sample.place, &fault))?;

        // Roles that were made before this was asked for cannot tell; a release does not need it.
        let quotas = account.quotas().await.ok();
        if let Some(full) = quotas.iter().flatten().find(|quota| quota.is_full()) {
            // A stack that is there needs no further one, and there is no room to try with.
            let is_there = account.stack(&target.stack).await.is_ok_and(|stack| stack.is_some());
            return if is_there && full.name == "stacks" { Ok(quotas) } else { Err(no_room(target, full)) };
        }

        let hash = Digest::of(format!("{} {}", self.run, target.id));
        let request = ChangeSetRequest {
            stack: with_suffix(&target.stack, "-doctor"),
            name: format!("tenantry-doctor-{}", hash.short()),
            token: format!("tenantry-{hash}"),
            creates: true,
            template: TemplateSource::Url(sample.url.clone()),
            role_arn: target.deployment_role.clone(),
            parameters: std::collections::BTreeMap::new(),
            tags: target.tags.clone(),
            capabilities: target.capabilities.clone(),
            description: "made by `tenantry doctor`, which deletes it".to_owned(),
            nested: false,
            options: crate::domain::StackOptions::default(),
            rollback_alarms: Vec::new(),
        };
        let probe = Probe { account: account.as_ref(), target, request: &request };
        let created = match probe.create(&self.stop).await {
            // Without a stack's events a release could begin, and not be followed.
            Ok(()) => account.newest_event(&request.stack).await.map(drop),
            failed => failed,
        };
        // What was asked to stop still tidies up.
        let (_handle, go_on) = Stop::new();
        if let Err(fault) = probe.clear_away(&go_on).await {
            let (id, stack) = (&target.id, &request.stack);
            self.events.notice(format!("{id}: what was made to look, stack {stack}, could not be deleted: {fault}"));
        }
        created.map_err(|fault| change_sets(target, &fault))?;
        Ok(quotas)
    }
}

fn no_room(target: &Target, quota: &AccountQuota) -> Finding {
    let AccountQuota { name, code, used, limit } = quota;
    Finding {
        check: Check::Quotas,
        problem: format!("there is no room: {used} of {limit} {name}"),
        hint: format!("delete what nobody needs in account {}, or ask for more of quota {code}", target.account),
        missing: None,
    }
}

/// Returns a stack's name with a suffix, at most 128 characters long.
fn with_suffix(name: &str, suffix: &str) -> String {
    let kept: String = name.chars().take(128 - suffix.len()).collect();
    kept + suffix
}

fn access(target: &Target, fault: &Fault, state: Option<&str>) -> Finding {
    let Target { access_role, id, account, .. } = target;
    let finding = |hint: String, missing| Finding { check: Check::Access, problem: fault.to_string(), hint, missing };
    if let Some(state) = state.filter(|state| *state != "ACTIVE") {
        return Finding::closed(&id.tenant, account.as_str(), state);
    }
    match fault.kind {
        FaultKind::WrongAccount => {
            finding(format!("correct the account or the access role of tenant {}", id.tenant), None)
        }
        FaultKind::Denied => {
            let action = denied_action(fault).unwrap_or_else(|| "sts:AssumeRole".to_owned());
            let missing = Missing {
                policy: format!("the trust policy of {access_role}, or the caller's own rights"),
                statement: json!({ "Effect": "Allow", "Action": action, "Resource": access_role }),
            };
            let external = if target.external_id.is_some() { ", knows the external id" } else { "" };
            // Only an organization can tell a role that is missing from an account that is closed.
            let suspended =
                if state.is_none() { format!(", and that account {account} is not suspended") } else { String::new() };
            let hint = format!(
                "set the account up with `tenantry bootstrap tenant {}`; or see that the role exists, trusts this caller{external}{suspended}",
                id.tenant
            );
            finding(hint, Some(missing))
        }
        _ => finding("try again; it says nothing about the tenant".to_owned(), None),
    }
}

fn artifacts(target: &Target, place: &ArtifactPlace, fault: &Fault) -> Finding {
    let object = format!("arn:{}:s3:::{}/{}", target.id.region.partition(), place.bucket, place.key);
    let folder = object.rsplit_once("/shared/").map_or(object.clone(), |(folder, _)| format!("{folder}/shared/*"));
    let action = denied_action(fault).unwrap_or_else(|| "s3:GetObject".to_owned());
    let resource = if action.starts_with("kms:") { place.kms_key.clone() } else { folder };
    let whose = denied_by(fault);
    let missing = (fault.kind == FaultKind::Denied).then(|| Missing {
        policy: match (whose, action.starts_with("kms:")) {
            (Whose::Own, _) => format!("the policies of {}", target.access_role),
            (_, true) => format!("the policy of the key {}", place.kms_key),
            (_, false) => format!("the policy of the bucket {}", place.bucket),
        },
        statement: json!({ "Effect": "Allow", "Action": action, "Resource": resource }),
    });
    let hint = match fault.kind {
        FaultKind::Denied if whose == Whose::Forbidden => {
            "a statement forbids it: look for a Deny, also in the organization's policies"
        }
        FaultKind::Denied => {
            "the tenant's role, the bucket and the key each have to allow it; `tenantry bootstrap` writes all three"
        }
        _ => "see that the bucket and its key are there",
    };
    Finding { check: Check::Artifacts, problem: fault.to_string(), hint: hint.to_owned(), missing }
}

fn change_sets(target: &Target, fault: &Fault) -> Finding {
    let role = target.deployment_role.as_deref().unwrap_or_default();
    let action = denied_action(fault);
    let missing = action.clone().map(|action| {
        let resource = match action.as_str() {
            "iam:PassRole" => role.to_owned(),
            _ => denied_resource(fault).unwrap_or_else(|| {
                let (region, account) = (&target.id.region, &target.account);
                format!("arn:{}:cloudformation:{region}:{account}:stack/{}/*", region.partition(), target.stack)
            }),
        };
        let mut statement = json!({ "Effect": "Allow", "Action": action, "Resource": resource });
        if action == "iam:PassRole" {
            statement["Condition"] =
                json!({ "StringEquals": { "iam:PassedToService": "cloudformation.amazonaws.com" } });
        }
        Missing { policy: format!("the policies of {}", target.access_role), statement }
    });
    let hint = match &action {
        Some(_) => {
            format!("set the account up with `tenantry bootstrap tenant {}`, or add the statement", target.id.tenant)
        }
        None if fault.message.contains("invalid or cannot be assumed") => {
            format!("see that {role} exists and trusts cloudformation.amazonaws.com")
        }
        None => "what CloudFormation says is all that is known".to_owned(),
    };
    Finding { check: Check::ChangeSets, problem: fault.to_string(), hint, missing }
}

/// Returns the action that AWS has denied, as it says it.
/// Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot_access-denied.html>
fn denied_action(fault: &Fault) -> Option<String> {
    let after = fault.message.split("not authorized to perform: ").nth(1)?;
    let action: String = after.chars().take_while(|c| c.is_ascii_alphanumeric() || ":*".contains(*c)).collect();
    action.contains(':').then_some(action)
}

/// Returns the resource for which it was denied, where AWS says it.
fn denied_resource(fault: &Fault) -> Option<String> {
    let after = fault.message.split("on resource: ").nth(1)?.trim_start_matches('"');
    let resource: String = after.chars().take_while(|c| !c.is_whitespace() && *c != '"').collect();
    resource.starts_with("arn:").then_some(resource)
}

/// Whose policy has denied something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// The role's own do not allow it.
    Own,
    /// The resource's does not.
    Resource,
    /// One of them forbids it.
    Forbidden,
}

fn denied_by(fault: &Fault) -> Whose {
    match () {
        () if fault.message.contains("explicit deny") => Whose::Forbidden,
        () if fault.message.contains("no resource-based policy") => Whose::Resource,
        () => Whose::Own,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(message: &str) -> Fault {
        Fault::new(FaultKind::Denied, "GetObject", message)
    }

    #[test]
    fn what_was_denied_is_read_from_the_denial() {
        let denial = fault(
            "User: arn:aws:sts::2:assumed-role/A/s is not authorized to perform: kms:Decrypt on resource: \
             arn:aws:kms:eu-west-1:1:key/x because no resource-based policy allows the kms:Decrypt action",
        );
        assert_eq!(denied_action(&denial).as_deref(), Some("kms:Decrypt"));
        assert_eq!(denied_resource(&denial).as_deref(), Some("arn:aws:kms:eu-west-1:1:key/x"));
        assert_eq!(denied_by(&denial), Whose::Resource);
        assert_eq!(denied_by(&fault("... with an explicit deny in a service control policy")), Whose::Forbidden);
        assert_eq!(denied_action(&fault("Access Denied")), None);
    }
}
