//! A fleet in memory, for tests of the engine: each tenant follows its script, and every call is written down.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use tokio::time::{Instant, sleep};

use super::{Engine, Entered, Scratch, Stop, StopHandle};
use crate::domain::release::Provenance;
use crate::domain::{
    AccountId, AccountQuota, AlarmState, Change, ChangeAction, ChangeSet, ChangeSetStatus, Check, DataResource, Digest,
    Drift, Fault, FaultKind, Identity, Region, Release, Replacement, Stack, StackEvent, StackStatus, Target, TargetId,
    TemplateObject,
};
use crate::event::{Events, Timed};
use crate::ports::{Accounts, Answer, ArtifactPlace, ChangeSetRequest, StackSummary, Store, TenantAccount};

/// What a tenant's account does.
#[allow(clippy::struct_excessive_bools, reason = "each is a fault of its own, to be turned on")]
#[derive(Clone)]
pub struct Script {
    /// The stack's status at first; none where there is none.
    pub status: Option<&'static str>,
    /// What the change set ends as.
    pub change_set: ChangeSetStatus,
    /// How many looks find the change set still being created.
    pub creating_for: usize,
    /// The stack's own last event, and how long after the execution it comes.
    pub ends: (&'static str, Duration),
    /// Kinds of faults that calls of an operation answer with, one a call, before they succeed.
    pub faults: Vec<(&'static str, FaultKind)>,
    /// Whether an answer to ExecuteChangeSet is lost after its effect.
    pub loses_answer: bool,
    /// Whether the answer to the first CreateChangeSet is lost after its effect.
    pub loses_creation: bool,
    /// What early validation says of the change set.
    pub validation: Option<&'static str>,
    /// Whether an execution takes effect and is refused all the same, as after a retry that found it running.
    pub refuses_after_effect: bool,
    /// Whether the stack's own last event is never seen.
    pub hides_last_event: bool,
    /// Whether the events of its end are seen only once the stack itself has told of it.
    pub ends_between_looks: bool,
    /// Whether all events of the stack are of somebody else's request.
    pub foreign_events: bool,
    /// What the stack that was made for the change set has become meanwhile, by somebody else's hand.
    pub becomes: Option<&'static str>,
    /// Whether somebody else has a change set on the stack too.
    pub others_plan: bool,
    /// Whether a change set of that name is there before the first is created.
    pub finds_change_set: bool,
    /// Whether what fails is a nested stack.
    pub nested: bool,
    /// The events of stacks whose rollback has failed before, by ARN; those without any are no more, and others
    /// cannot be read.
    pub histories: BTreeMap<String, Vec<StackEvent>>,
    /// For how long somebody else's operation runs on the stack.
    pub busy_for: Duration,
    /// What a function returns.
    pub answers: serde_json::Value,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            status: Some("CREATE_COMPLETE"),
            change_set: ChangeSetStatus::Ready,
            creating_for: 0,
            ends: ("UPDATE_COMPLETE", Duration::from_secs(10)),
            faults: Vec::new(),
            loses_answer: false,
            loses_creation: false,
            validation: None,
            refuses_after_effect: false,
            hides_last_event: false,
            ends_between_looks: false,
            foreign_events: false,
            becomes: None,
            others_plan: false,
            finds_change_set: false,
            nested: false,
            histories: BTreeMap::new(),
            busy_for: Duration::ZERO,
            answers: serde_json::json!({"statusCode": 200}),
        }
    }
}

/// All tenants' accounts.
#[derive(Default)]
pub struct Fleet {
    scripts: BTreeMap<String, Script>,
    states: Mutex<BTreeMap<String, State>>,
    /// Every call, as `tenant Operation`.
    pub calls: Mutex<Vec<String>>,
    /// How long after the first execution the alarm `loud` goes off.
    pub loud_after: Mutex<Option<Duration>>,
}

#[allow(clippy::struct_excessive_bools, reason = "each is something that happened by itself")]
#[derive(Default, Clone)]
struct State {
    executed: Option<Instant>,
    first_look: Option<Instant>,
    /// The token of the operation that was begun last.
    token: Option<String>,
    faults_answered: usize,
    change_set_deleted: bool,
    /// Changes that somebody else has made since.
    tampered: bool,
    /// When the stack was changed last, in seconds.
    changed: i64,
    /// Whether the stack itself has told of its end.
    told: bool,
    /// Whether the stack needs a change that it did not need at first.
    needs_change: bool,
    placeholder: bool,
}

impl Fleet {
    /// Tenants by name, each with its script.
    pub fn new<const N: usize>(scripts: [(&str, Script); N]) -> Arc<Self> {
        let scripts = scripts.into_iter().map(|(name, script)| (name.to_owned(), script)).collect();
        Arc::new(Self { scripts, ..Self::default() })
    }

    /// Lets the change set of a tenant say something else from now on.
    pub fn tamper(&self, tenant: &str) {
        self.states.lock().unwrap().entry(tenant.to_owned()).or_default().tampered = true;
    }

    /// Somebody else changes a tenant's stack; then it may need a change that it did not need before.
    pub fn touch(&self, tenant: &str, needs_change: bool) {
        let mut states = self.states.lock().unwrap();
        let state = states.entry(tenant.to_owned()).or_default();
        state.changed += 1;
        state.needs_change = needs_change;
    }

    /// Every alarm exists but `missing`; `loud` goes off when it should.
    fn alarms(&self, names: &[String]) -> Vec<AlarmState> {
        let first = self.states.lock().unwrap().values().filter_map(|state| state.executed).min();
        let after = *self.loud_after.lock().unwrap();
        let is_loud = first.zip(after).is_some_and(|(first, after)| first.elapsed() >= after);
        let state = |name: &String| AlarmState {
            name: name.clone(),
            state: if name == "loud" && is_loud { "ALARM" } else { "OK" }.to_owned(),
            reason: "5 errors in a minute".to_owned(),
        };
        names.iter().filter(|name| *name != "missing").map(state).collect()
    }

    /// Returns how often a call was made.
    pub fn count(&self, call: &str) -> usize {
        self.calls.lock().unwrap().iter().filter(|made| made.as_str() == call).count()
    }

    /// Returns whether a tenant's change set or stack was left behind.
    pub fn is_tidy(&self, tenant: &str) -> bool {
        let states = self.states.lock().unwrap();
        states.get(tenant).is_none_or(|state| state.change_set_deleted && !state.placeholder)
    }

    /// Returns an engine over this fleet, what it tells, and how to stop it.
    pub fn engine(self: &Arc<Self>) -> (Engine, tokio::sync::mpsc::UnboundedReceiver<Timed>, StopHandle) {
        let (events, heard) = Events::channel(|| Timestamp::UNIX_EPOCH);
        let (handle, stop) = Stop::new();
        let engine = Engine {
            accounts: Arc::new(Way(self.clone())),
            store: Arc::new(Scratch::default()),
            events,
            stop,
            run: "run".into(),
            by: Identity { principal: "tester".into(), source_identity: None },
            lease: None,
            together: None,
        };
        (engine, heard, handle)
    }

    /// Returns the targets, entered.
    pub async fn entered(self: &Arc<Self>, engine: &Engine) -> Vec<Entered> {
        let targets = self.scripts.keys().map(|name| target(name)).collect();
        engine.enter("prod", targets).await
    }
}

/// Returns the engine with events that are stamped by the virtual clock, and what it tells.
pub fn on_the_clock(engine: Engine) -> (Engine, tokio::sync::mpsc::UnboundedReceiver<Timed>) {
    let begun = Instant::now();
    let (events, heard) = Events::channel(move || Timestamp::UNIX_EPOCH + begun.elapsed());
    (Engine { events, ..engine }, heard)
}

/// A target of a tenant.
pub fn target(tenant: &str) -> Target {
    Target {
        id: TargetId { tenant: tenant.into(), region: Region::new("eu-west-1").unwrap() },
        account: AccountId::new("222222222222").unwrap(),
        stack: format!("app-{tenant}"),
        access_role: "access".into(),
        plan_role: None,
        deployment_role: Some("deployment".into()),
        external_id: None,
        pin: None,
        parameters: BTreeMap::new(),
        tags: BTreeMap::new(),
        capabilities: vec![],
        wave: 0,
        checks: vec![Check::Invoke {
            function: tenant.into(),
            payload: serde_json::json!({}),
            expect: serde_json::json!({"statusCode": 200}),
        }],
        alarms: vec![],
    }
}

/// A release of no artifacts.
pub fn release() -> Release {
    let template = TemplateObject { sha256: Digest::of("t"), key: "t".into() };
    Release::new("app", "bucket", BTreeMap::new(), BTreeMap::new(), template, Provenance::default())
}

struct Way(Arc<Fleet>);

#[async_trait]
impl Accounts for Way {
    async fn alarms(&self, names: &[String]) -> Result<Vec<AlarmState>, Fault> {
        Ok(self.0.alarms(names))
    }

    async fn state(&self, _: &AccountId) -> Result<String, Fault> {
        Ok("ACTIVE".to_owned())
    }

    async fn enter(&self, target: &Target) -> Result<Arc<dyn TenantAccount>, Fault> {
        let tenant = Tenant { name: target.id.tenant.clone(), fleet: self.0.clone() };
        tenant.call("AssumeRole")?;
        Ok(Arc::new(tenant))
    }
}

struct Tenant {
    name: String,
    fleet: Arc<Fleet>,
}

impl Tenant {
    fn script(&self) -> &Script {
        &self.fleet.scripts[&self.name]
    }

    fn write_down(&self, what: &str) {
        self.fleet.calls.lock().unwrap().push(format!("{} {what}", self.name));
    }

    fn call(&self, operation: &str) -> Result<(), Fault> {
        self.write_down(operation);
        let mut states = self.fleet.states.lock().unwrap();
        let state = states.entry(self.name.clone()).or_default();
        match self.script().faults.get(state.faults_answered) {
            Some((of, kind)) if *of == operation => {
                state.faults_answered += 1;
                Err(Fault::new(*kind, operation, "as the script wants it"))
            }
            _ => Ok(()),
        }
    }

    fn state<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(self.fleet.states.lock().unwrap().entry(self.name.clone()).or_default())
    }

    /// Whether a rollback has failed before anything was begun.
    fn is_stuck(&self) -> bool {
        self.script().status == Some("UPDATE_ROLLBACK_FAILED") && self.state(|state| state.executed.is_none())
    }

    fn event(&self, number: usize, status: &str, reason: Option<&str>, is_stack: bool) -> StackEvent {
        StackEvent {
            id: number.to_string(),
            time: Timestamp::from_second(i64::try_from(number).unwrap()).ok(),
            logical_id: if is_stack { format!("app-{}", self.name) } else { "Function".into() },
            physical_id: None,
            resource_type: if is_stack { "AWS::CloudFormation::Stack" } else { "AWS::Lambda::Function" }.into(),
            status: status.into(),
            reason: reason.map(str::to_owned),
            is_stack,
            // The first one was there before.
            token: self.state(|state| state.token.clone()).filter(|_| number > 0 && !self.script().foreign_events),
        }
    }
}

#[async_trait]
impl TenantAccount for Tenant {
    async fn stack(&self, _: &str) -> Result<Option<Stack>, Fault> {
        self.call("DescribeStacks")?;
        let placeholder = self.state(|state| state.placeholder);
        let (last, delay) = self.script().ends;
        let status = match self.state(|state| state.executed) {
            Some(executed) if executed.elapsed() >= delay => {
                self.state(|state| state.told = true);
                Some(last)
            }
            Some(_) => Some("UPDATE_IN_PROGRESS"),
            None if self.state(|state| *state.first_look.get_or_insert_with(Instant::now)).elapsed()
                < self.script().busy_for =>
            {
                Some("UPDATE_IN_PROGRESS")
            }
            None => {
                let made = placeholder.then_some(self.script().becomes.unwrap_or("REVIEW_IN_PROGRESS"));
                self.script().status.or(made)
            }
        };
        Ok(status.map(|status| Stack {
            id: format!("arn:stack/app-{}", self.name),
            status: StackStatus::read(status),
            changed: Timestamp::from_second(self.state(|state| state.changed)).ok(),
            outputs: BTreeMap::new(),
            parameters: BTreeMap::new(),
            protected: false,
        }))
    }

    async fn create_change_set(&self, request: &ChangeSetRequest) -> Result<(), Fault> {
        self.call("CreateChangeSet")?;
        self.write_down(&format!("creates by {}", request.token));
        if self.script().finds_change_set && self.state(|state| !state.change_set_deleted) {
            return Err(Fault::new(FaultKind::Conflict, "CreateChangeSet", "it exists"));
        }
        if self.script().loses_creation && self.fleet.count(&format!("{} CreateChangeSet", self.name)) > 1 {
            return Err(Fault::new(FaultKind::Conflict, "CreateChangeSet", "it exists"));
        }
        self.state(|state| {
            state.change_set_deleted = false;
            state.placeholder |= request.creates;
        });
        if self.script().loses_creation {
            return Err(Fault::new(FaultKind::Unreachable, "CreateChangeSet", "the answer was lost"));
        }
        Ok(())
    }

    async fn change_set(&self, _: &str, _: &str) -> Result<Option<ChangeSet>, Fault> {
        self.call("DescribeChangeSet")?;
        let state = self.state(|state| state.clone());
        // A change set that was executed is not found by its name any more.
        if state.executed.is_some() {
            return Ok(None);
        }
        let status = match () {
            () if self.fleet.count(&format!("{} DescribeChangeSet", self.name)) <= self.script().creating_for => {
                ChangeSetStatus::Creating
            }
            () if state.needs_change => ChangeSetStatus::Ready,
            () => self.script().change_set.clone(),
        };
        let change = Change {
            logical_id: if state.tampered { "Other" } else { "Function" }.into(),
            resource_type: "AWS::Lambda::Function".into(),
            action: ChangeAction::Modify,
            replacement: Replacement::Never,
            scope: vec![],
            physical_id: None,
            policy: None,
            details: vec![],
        };
        let stack_id = format!("arn:stack/app-{}", self.name);
        let change_set = ChangeSet { stack_id, created: None, status, changes: vec![change] };
        Ok((!state.change_set_deleted).then_some(change_set))
    }

    async fn execute_change_set(&self, _: &str, _: &str, token: &str) -> Result<(), Fault> {
        assert!(token.len() <= 128 && token.starts_with("tenantry-"));
        self.call("ExecuteChangeSet")?;
        self.state(|state| {
            assert!(state.executed.is_none(), "{} was executed twice", self.name);
            state.executed = Some(Instant::now());
            state.token = Some(token.to_owned());
        });
        if self.script().refuses_after_effect {
            return Err(Fault::new(FaultKind::Invalid, "ExecuteChangeSet", "the change set is being executed"));
        }
        if self.script().loses_answer {
            return Err(Fault::new(FaultKind::Unreachable, "ExecuteChangeSet", "the answer was lost"));
        }
        Ok(())
    }

    async fn delete_change_set(&self, _: &str, _: &str) -> Result<(), Fault> {
        self.call("DeleteChangeSet")?;
        self.state(|state| state.change_set_deleted = true);
        Ok(())
    }

    async fn delete_stack(&self, _: &str, _: Option<&str>, token: &str) -> Result<(), Fault> {
        self.call("DeleteStack")?;
        self.state(|state| {
            state.placeholder = false;
            state.token = Some(token.to_owned());
            state.executed = Some(Instant::now());
        });
        Ok(())
    }

    async fn continue_rollback(&self, _: &str, _: Option<&str>, skip: &[String], token: &str) -> Result<(), Fault> {
        self.call("ContinueUpdateRollback")?;
        assert!(self.is_stuck(), "nothing has failed");
        self.write_down(&format!("skips {}", skip.join(" ")));
        self.state(|state| {
            state.executed = Some(Instant::now());
            state.token = Some(token.to_owned());
        });
        Ok(())
    }

    async fn detect_drift(&self, _: &str) -> Result<String, Fault> {
        Ok("detection".into())
    }

    async fn drift(&self, _: &str, _: &str) -> Result<Option<Drift>, Fault> {
        Ok(Some(Drift::default()))
    }

    async fn set_policy(&self, _: &str, _: &str) -> Result<(), Fault> {
        Ok(())
    }

    async fn alarms(&self, names: &[String]) -> Result<Vec<AlarmState>, Fault> {
        self.call("DescribeAlarms")?;
        Ok(self.fleet.alarms(names))
    }

    async fn protect(&self, _: &str, _: bool) -> Result<(), Fault> {
        self.call("UpdateTerminationProtection")
    }

    async fn quotas(&self) -> Result<Vec<AccountQuota>, Fault> {
        Ok(Vec::new())
    }

    async fn stacks(&self) -> Result<Vec<StackSummary>, Fault> {
        Ok(Vec::new())
    }

    async fn read_artifact(&self, _: &ArtifactPlace) -> Result<(), Fault> {
        self.call("GetObject")
    }

    async fn deletable_data(&self, _: &str) -> Result<Vec<DataResource>, Fault> {
        Ok(Vec::new())
    }

    async fn events(&self, stack: &str, since: Option<Timestamp>) -> Result<Vec<StackEvent>, Fault> {
        self.call("DescribeStackEvents")?;
        if self.is_stuck() {
            let fault = |kind| Fault::new(kind, "DescribeStackEvents", "not of this stack");
            return match self.script().histories.get(stack) {
                Some(history) if history.is_empty() => Err(fault(FaultKind::NotFound)),
                Some(history) => Ok(history.clone()),
                None => Err(fault(FaultKind::Denied)),
            };
        }
        if stack == "arn:nested" {
            let event = self.event(1, "CREATE_FAILED", Some("bucket is taken"), false);
            return Ok(vec![StackEvent {
                logical_id: "Table".into(),
                resource_type: "AWS::DynamoDB::Table".into(),
                ..event
            }]);
        }
        let (last, delay) = self.script().ends;
        let Some(executed) = self.state(|state| state.executed) else { return Ok(vec![]) };
        let mut events = vec![
            self.event(0, "UPDATE_COMPLETE", None, true),
            self.event(1, "UPDATE_IN_PROGRESS", Some("User Initiated"), true),
        ];
        if executed.elapsed() >= delay && (!self.script().ends_between_looks || self.state(|state| state.told)) {
            if last.contains("ROLLBACK") {
                let failed = self.event(2, "UPDATE_FAILED", Some("bucket is taken"), false);
                events.push(if self.script().nested {
                    StackEvent {
                        physical_id: Some("arn:nested".into()),
                        resource_type: "AWS::CloudFormation::Stack".into(),
                        reason: Some("Embedded stack arn:nested was not successfully updated".into()),
                        ..failed
                    }
                } else {
                    failed
                });
                events.push(self.event(3, "UPDATE_FAILED", Some("Resource update cancelled"), false));
            }
            if !self.script().hides_last_event {
                events.push(self.event(9, last, None, true));
            }
        }
        events.retain(|event| event.time >= since);
        Ok(events)
    }

    async fn has_change_sets(&self, _: &str) -> Result<bool, Fault> {
        self.call("ListChangeSets")?;
        Ok(self.state(|state| !state.change_set_deleted) || self.script().others_plan)
    }

    async fn validation_failures(&self, _: &str, _: Option<&str>) -> Result<Vec<StackEvent>, Fault> {
        self.call("DescribeEvents")?;
        let told = self.script().validation.map(|why| self.event(1, "VALIDATION_FAILED", Some(why), false));
        Ok(told.into_iter().collect())
    }

    async fn renew(&self) -> Result<(), Fault> {
        self.call("AssumeRole")
    }

    async fn newest_event(&self, _: &str) -> Result<Option<Timestamp>, Fault> {
        self.call("DescribeStackEvents")?;
        Ok(Some(Timestamp::UNIX_EPOCH))
    }

    async fn invoke(&self, _: &str, _: &serde_json::Value) -> Result<Answer, Fault> {
        self.call("Invoke")?;
        sleep(Duration::from_millis(10)).await;
        Ok(Answer { error: None, payload: self.script().answers.clone() })
    }

    async fn fetch(&self, _: &str, _: Duration) -> Result<u16, Fault> {
        self.call("GET")?;
        Ok(200)
    }
}

/// A store whose writes take ten seconds, the first so many of them in vain.
pub struct Slow(pub Arc<dyn Store>, pub AtomicUsize);

#[async_trait]
impl Store for Slow {
    async fn ready(&self) -> Result<(), Fault> {
        self.0.ready().await
    }

    async fn put_content(
        &self,
        key: &str,
        bytes: Bytes,
        sha256: Digest,
        sent: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<bool, Fault> {
        self.0.put_content(key, bytes, sha256, sent).await
    }

    async fn put_once(&self, key: &str, bytes: Vec<u8>) -> Result<bool, Fault> {
        self.0.put_once(key, bytes).await
    }

    async fn replace(&self, key: &str, bytes: Vec<u8>, version: Option<&str>) -> Result<String, Fault> {
        sleep(Duration::from_secs(10)).await;
        if self.1.load(Ordering::Relaxed) > 0 {
            self.1.fetch_sub(1, Ordering::Relaxed);
            return Err(Fault::new(FaultKind::Unreachable, "PutObject", "the network is not back yet"));
        }
        self.0.replace(key, bytes, version).await
    }

    async fn get(&self, key: &str) -> Result<Option<(Vec<u8>, String)>, Fault> {
        self.0.get(key).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>, Fault> {
        self.0.list(prefix).await
    }

    async fn verify(&self, key: &str, sha256: Digest) -> Result<(), Fault> {
        self.0.verify(key, sha256).await
    }

    fn url(&self, key: &str) -> String {
        self.0.url(key)
    }
}
