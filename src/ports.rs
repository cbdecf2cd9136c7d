//! What the engine asks of the world. `aws` and `gate` answer for real; tests answer from memory.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use jiff::Timestamp;

use crate::domain::{
    AccountId, AccountQuota, AlarmState, ChangeSet, DataResource, Digest, Drift, Fault, ParameterValue, Region, Stack,
    StackEvent, StackOptions, Target,
};

/// The way into tenants' accounts.
#[async_trait]
pub trait Accounts: Send + Sync {
    /// Assumes the target's access role and compares the account behind it with the one configured, before
    /// anything else (safety rule 1). Entering again is free.
    async fn enter(&self, target: &Target) -> Result<Arc<dyn TenantAccount>, Fault>;

    /// Returns those of some alarms of the tooling account that exist, as they are now.
    async fn alarms(&self, names: &[String]) -> Result<Vec<AlarmState>, Fault>;

    /// Returns the state of an account as its organization has it, as ACTIVE or SUSPENDED; fails where that does not tell.
    async fn state(&self, account: &AccountId) -> Result<String, Fault>;
}

/// Where CloudFormation has the template from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TemplateSource {
    /// URL of an object in the artifact bucket.
    Url(String),
    /// The text itself, at most 51,200 bytes: for the stacks without which there is no bucket to read from.
    Body(Arc<str>),
}

/// What is asked for when a change set is created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeSetRequest {
    /// Name of the stack.
    pub stack: String,
    /// Name of the change set: derived from the request, so that the same plan finds it again.
    pub name: String,
    /// Makes a repeated request the same request; at most 128 characters.
    pub token: String,
    /// Whether the stack is created by it.
    pub creates: bool,
    /// The template.
    pub template: TemplateSource,
    /// The role that CloudFormation uses. Always sent for an application (safety rule 3).
    pub role_arn: Option<String>,
    /// Parameters by name.
    pub parameters: BTreeMap<String, ParameterValue>,
    /// Tags by key.
    pub tags: BTreeMap<String, String>,
    /// Capabilities by CloudFormation's names.
    pub capabilities: Vec<String>,
    /// Shown in the CloudFormation console.
    pub description: String,
    /// Whether the template has nested stacks, whose changes are to be planned too.
    pub nested: bool,
    /// What is asked beside the template.
    pub options: StackOptions,
    /// ARNs of the alarms that roll the stack back.
    pub rollback_alarms: Vec<String>,
}

/// A stack among all of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StackSummary {
    /// Its name.
    pub name: String,
    /// The role that CloudFormation uses for it.
    pub role_arn: Option<String>,
}

/// An object in the artifact bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArtifactPlace {
    /// The bucket.
    pub bucket: String,
    /// Its region.
    pub region: Region,
    /// Whether another endpoint than AWS's own serves it.
    pub emulated: bool,
    /// The object's key.
    pub key: String,
    /// ARN of the key that it is encrypted under.
    pub kms_key: String,
}

/// A function's answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// `Handled` or `Unhandled` where the function failed.
    pub error: Option<String>,
    /// What it returned; untrusted.
    pub payload: serde_json::Value,
}

/// One target's account, entered.
#[async_trait]
pub trait TenantAccount: Send + Sync {
    /// Returns a stack by name or ARN, or none if there is none of that name.
    async fn stack(&self, stack: &str) -> Result<Option<Stack>, Fault>;

    /// Returns all stacks of the account and region.
    async fn stacks(&self) -> Result<Vec<StackSummary>, Fault>;

    /// Returns the quotas that a release meets, as far as the account tells them.
    async fn quotas(&self) -> Result<Vec<AccountQuota>, Fault>;

    /// Creates a change set. `Conflict` means that one of that name exists.
    async fn create_change_set(&self, request: &ChangeSetRequest) -> Result<(), Fault>;

    /// Returns a change set with all its pages and property values, or none. Change sets are named with their
    /// stack's name and not by ARNs, so that policies can ask for `cloudformation:ChangeSetName`.
    async fn change_set(&self, stack: &str, name: &str) -> Result<Option<ChangeSet>, Fault>;

    /// Begins the execution of a change set.
    async fn execute_change_set(&self, stack: &str, name: &str, token: &str) -> Result<(), Fault>;

    /// Deletes a change set; one that does not exist is no error.
    async fn delete_change_set(&self, stack: &str, name: &str) -> Result<(), Fault>;

    /// Begins the deletion of a stack.
    async fn delete_stack(&self, stack: &str, role_arn: Option<&str>, token: &str) -> Result<(), Fault>;

    /// Goes on with a rollback that has failed, without the resources to skip.
    async fn continue_rollback(
        &self,
        stack: &str,
        role_arn: Option<&str>,
        skip: &[String],
        token: &str,
    ) -> Result<(), Fault>;

    /// Begins to compare a stack's resources with its template, and returns the detection's id.
    async fn detect_drift(&self, stack: &str) -> Result<String, Fault>;

    /// Returns what a detection has found; none while it goes on.
    async fn drift(&self, stack: &str, detection: &str) -> Result<Option<Drift>, Fault>;

    /// Sets a stack's policy.
    async fn set_policy(&self, stack: &str, policy: &str) -> Result<(), Fault>;

    /// Returns those of some alarms that exist, as they are now.
    async fn alarms(&self, names: &[String]) -> Result<Vec<AlarmState>, Fault>;

    /// Protects a stack against deletion, or does so no longer.
    async fn protect(&self, stack: &str, protected: bool) -> Result<(), Fault>;

    /// Reads an object of the artifact bucket with the tenant's own rights, as CloudFormation will.
    async fn read_artifact(&self, place: &ArtifactPlace) -> Result<(), Fault>;

    /// Returns the resources of a stack that hold data and would be deleted with it, those of nested stacks too.
    async fn deletable_data(&self, stack: &str) -> Result<Vec<DataResource>, Fault>;

    /// Returns the events of a stack from a moment on, by CloudFormation's clock, oldest first; all if none is given.
    async fn events(&self, stack: &str, since: Option<Timestamp>) -> Result<Vec<StackEvent>, Fault>;

    /// Tells whether a stack has change sets that wait for their execution.
    async fn has_change_sets(&self, stack: &str) -> Result<bool, Fault>;

    /// Returns what CloudFormation found wrong before it began with any resource, oldest first: in a change set
    /// or, without one, in the stack's operations. Such reasons are in no stack event.
    async fn validation_failures(&self, stack: &str, change_set: Option<&str>) -> Result<Vec<StackEvent>, Fault>;

    /// Makes sure that there are credentials for the calls that come; where those are good for a while, nothing is called.
    async fn renew(&self) -> Result<(), Fault>;

    /// Returns when a stack's newest event happened, by CloudFormation's clock.
    async fn newest_event(&self, stack: &str) -> Result<Option<Timestamp>, Fault>;

    /// Invokes a function and waits for its answer.
    async fn invoke(&self, function: &str, payload: &serde_json::Value) -> Result<Answer, Fault>;

    /// Returns the HTTP status with which a URL answers.
    async fn fetch(&self, url: &str, timeout: Duration) -> Result<u16, Fault>;
}

/// The artifact bucket of the tooling account.
#[async_trait]
pub trait Store: Send + Sync {
    /// Checks that the bucket is there, ours and reachable, without changing anything.
    async fn ready(&self) -> Result<(), Fault>;

    /// Sends an object that is named by its content, unless the store has it. Tells whether it was sent.
    /// The answer's encryption key and checksum are compared with what was asked for.
    async fn put_content(
        &self,
        key: &str,
        bytes: Bytes,
        sha256: Digest,
        sent: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<bool, Fault>;

    /// Writes a record that must not exist. Tells whether it was written; otherwise it was there already.
    async fn put_once(&self, key: &str, bytes: Vec<u8>) -> Result<bool, Fault>;

    /// Writes a record, in place of the one that `version` names or, where that is none, of nothing. Fails with
    /// `Conflict` if somebody else wrote in between. Returns the version of what was written.
    async fn replace(&self, key: &str, bytes: Vec<u8>, version: Option<&str>) -> Result<String, Fault>;

    /// Returns a record with its version, or none.
    async fn get(&self, key: &str) -> Result<Option<(Vec<u8>, String)>, Fault>;

    /// Returns the keys that begin with `prefix`, in their order.
    async fn list(&self, prefix: &str) -> Result<Vec<String>, Fault>;

    /// Reads an object's bytes and compares them with their digest. Fails with `Mismatch` where they differ, or where
    /// there is no such object.
    async fn verify(&self, key: &str, sha256: Digest) -> Result<(), Fault>;

    /// Returns the URL under which CloudFormation reads an object.
    fn url(&self, key: &str) -> String;
}

/// What an approval action of a pipeline says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PipelineAnswer {
    /// The action's name.
    pub action: String,
    /// Names this execution of the action: a retried one has another.
    pub execution: String,
    /// Its status: `Succeeded`, `Failed`, `InProgress` or `Abandoned`.
    pub status: String,
    /// The ARN of who answered.
    pub by: Option<String>,
    /// When.
    pub at: Option<Timestamp>,
    /// What they wrote.
    pub comment: Option<String>,
    /// What the action showed them.
    pub shown: String,
}
