//! A fleet of accounts and a bucket in memory: every stack does what CloudFormation would do with it, in virtual
//! time, and every call may fail, be slow, or have its answer lost, as a seed decides.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use tenantry::domain::{
    AccountId, AccountQuota, AlarmState, Change, ChangeAction, ChangeSet, ChangeSetStatus, Check, DataResource, Digest,
    Drift, Fault, FaultKind, PropertyChange, Region, Replacement, Stack, StackEvent, StackStatus, Target, TargetId,
};
use tenantry::ports::{
    Accounts, Answer, ArtifactPlace, ChangeSetRequest, StackSummary, Store, TemplateSource, TenantAccount,
};
use tokio::time::{Instant, sleep};

/// How a stack's operation will end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Succeeds,
    RollsBack,
    RollbackFails,
}

/// How likely faults are, in a thousand calls.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    pub before: u64,
    pub after: u64,
    pub slow: u64,
    pub duplicate: u64,
    pub store: u64,
    /// Sessions that end, and cannot be renewed for some minutes.
    pub expiry: u64,
}

/// One execution that took effect.
#[derive(Debug, Clone)]
pub struct Execution {
    pub tenant: String,
    pub change_set: String,
    pub changes: Vec<Change>,
    pub began: Instant,
    pub ends: Instant,
    pub fate: Fate,
}

#[derive(Debug, Clone)]
struct Operation {
    token: String,
    ends: Instant,
    fate: Fate,
    creates: bool,
}

#[derive(Debug, Clone)]
struct SimulatedStack {
    id: String,
    status: &'static str,
    changed: Timestamp,
    /// What it runs; none while it is in review.
    content: Option<String>,
    next: Option<String>,
    events: Vec<StackEvent>,
    operation: Option<Operation>,
    change_sets: BTreeMap<String, ChangeSet>,
}

/// Everything.
pub struct State {
    pub random: fastrand::Rng,
    pub faults: Faults,
    stacks: BTreeMap<String, SimulatedStack>,
    fates: BTreeMap<String, Vec<(Fate, Duration)>>,
    unhealthy: BTreeSet<String>,
    /// Until when nobody gets into a tenant's account.
    expired: BTreeMap<String, Instant>,
    objects: BTreeMap<String, (Vec<u8>, u64)>,
    pub executions: Vec<Execution>,
    writes: u64,
    begun: Instant,
}

/// The world, shared by all who act in it.
#[derive(Clone)]
pub struct World(Arc<Mutex<State>>);

/// Returns a tenant's stack after what time has done to it.
fn now(state: &mut State, tenant: &str) -> Option<SimulatedStack> {
    let begun = state.begun;
    let stack = state.stacks.get_mut(tenant)?;
    if let Some(operation) = stack.operation.clone().filter(|operation| operation.ends <= Instant::now()) {
        let clock = Timestamp::UNIX_EPOCH + operation.ends.duration_since(begun);
        let (status, failed) = match (operation.fate, operation.creates) {
            (Fate::Succeeds, true) => ("CREATE_COMPLETE", false),
            (Fate::Succeeds, false) => ("UPDATE_COMPLETE", false),
            (Fate::RollsBack, true) => ("ROLLBACK_COMPLETE", true),
            (Fate::RollsBack, false) => ("UPDATE_ROLLBACK_COMPLETE", true),
            (Fate::RollbackFails, true) => ("ROLLBACK_FAILED", true),
            (Fate::RollbackFails, false) => ("UPDATE_ROLLBACK_FAILED", true),
        };
        if failed {
            let failure = if operation.creates { "CREATE_FAILED" } else { "UPDATE_FAILED" };
            push(stack, tenant, failure, Some("the bucket is taken"), false, &operation.token, clock);
        } else {
            stack.content = stack.next.take();
        }
        push(stack, tenant, status, None, true, &operation.token, clock);
        stack.status = status;
        stack.changed = clock;
        stack.operation = None;
    }
    Some(stack.clone())
}

fn push(
    stack: &mut SimulatedStack,
    tenant: &str,
    status: &str,
    reason: Option<&str>,
    is_stack: bool,
    token: &str,
    time: Timestamp,
) {
    stack.events.push(StackEvent {
        id: format!("{tenant}-{}", stack.events.len()),
        // Whole seconds, so that many events share a time.
        time: Timestamp::from_second(time.as_second()).ok(),
        logical_id: if is_stack { format!("app-{tenant}") } else { "Bucket".to_owned() },
        physical_id: None,
        resource_type: if is_stack { "AWS::CloudFormation::Stack" } else { "AWS::S3::Bucket" }.to_owned(),
        status: status.to_owned(),
        reason: reason.map(str::to_owned),
        is_stack,
        token: Some(token.to_owned()),
    });
}

impl World {
    /// A world of so many tenants; some have the old release, some have nothing, some have the new one.
    pub fn new(seed: u64, tenants: usize, desired: &str) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut state = State {
            faults: Faults::default(),
            stacks: BTreeMap::new(),
            fates: BTreeMap::new(),
            unhealthy: BTreeSet::new(),
            expired: BTreeMap::new(),
            objects: BTreeMap::new(),
            executions: Vec::new(),
            writes: 0,
            begun: Instant::now(),
            random: random.fork(),
        };
        let failing = [0, 0, 5, 20, 50][random.usize(..5)];
        for number in 0..tenants {
            let tenant = format!("t{number:03}");
            let content = match random.u8(..10) {
                0 | 1 => None,
                2 => Some(desired.to_owned()),
                _ => Some("old".to_owned()),
            };
            if let Some(content) = content {
                let mut stack = SimulatedStack {
                    id: format!("arn:stack/app-{tenant}/0"),
                    status: "CREATE_COMPLETE",
                    changed: Timestamp::UNIX_EPOCH,
                    content: Some(content),
                    next: None,
                    events: Vec::new(),
                    operation: None,
                    change_sets: BTreeMap::new(),
                };
                // What somebody else has done before says nothing about what is done now.
                for status in ["CREATE_IN_PROGRESS", "CREATE_COMPLETE"] {
                    push(&mut stack, &tenant, status, None, true, "somebody-else", Timestamp::UNIX_EPOCH);
                }
                state.stacks.insert(tenant.clone(), stack);
            }
            let fate = |random: &mut fastrand::Rng| {
                let takes = match random.u8(..20) {
                    0 => Duration::from_hours(100),
                    _ => Duration::from_millis(random.u64(500..120_000)),
                };
                match random.u8(..100) {
                    one if one < failing && random.bool() => (Fate::RollbackFails, takes),
                    one if one < failing => (Fate::RollsBack, takes),
                    _ => (Fate::Succeeds, takes),
                }
            };
            let fates = vec![fate(&mut random), fate(&mut random), fate(&mut random)];
            state.fates.insert(tenant.clone(), fates);
            if random.u8(..50) == 0 {
                state.unhealthy.insert(tenant);
            }
        }
        Self(Arc::new(Mutex::new(state)))
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Returns the time by the world's clock.
    pub fn clock(&self) -> impl Fn() -> Timestamp + Send + Sync + use<> {
        let begun = self.state().begun;
        move || Timestamp::UNIX_EPOCH + begun.elapsed()
    }

    /// Returns the keys of the store.
    pub fn keys(&self) -> Vec<String> {
        self.state().objects.keys().cloned().collect()
    }

    /// Returns a tenant's stack as it is: its status and what it runs.
    pub fn truth(&self, tenant: &str) -> Option<(&'static str, Option<String>)> {
        now(&mut self.state(), tenant).map(|stack| (stack.status, stack.content))
    }

    /// Tells whether a tenant's function answers as it should.
    pub fn is_healthy(&self, tenant: &str) -> bool {
        !self.state().unhealthy.contains(tenant)
    }

    /// Somebody changes a stack by hand that still has the old release. Tells whether it was changed.
    pub fn interfere_with_old(&self, tenant: &str) -> bool {
        let old = self.state().stacks.get(tenant).is_some_and(|stack| stack.content.as_deref() == Some("old"));
        old && self.state().executions.iter().all(|one| one.tenant != tenant) && self.interfere(tenant)
    }

    /// Somebody changes a stack by hand, where there is one: what is in review has nothing to be changed. Tells whether there
    /// was.
    pub fn interfere(&self, tenant: &str) -> bool {
        let mut state = self.state();
        let clock = Timestamp::UNIX_EPOCH + state.begun.elapsed();
        let found = state.stacks.get_mut(tenant);
        let found = found.filter(|stack| stack.operation.is_none() && stack.content.is_some());
        let Some(stack) = found else { return false };
        stack.content = Some("foreign".to_owned());
        stack.changed = clock;
        for change_set in stack.change_sets.values_mut() {
            change_set.status = ChangeSetStatus::Spent("OBSOLETE".to_owned());
        }
        true
    }

    /// The most operations that ran at one time, those that run beyond a deadline left out. It is counted from before
    /// the call that begins an operation, which is tried for a while.
    pub fn most_at_once(&self, deadline: Duration) -> usize {
        let deadline = deadline.saturating_sub(Duration::from_hours(1));
        let state = self.state();
        let spans: Vec<(Instant, Instant)> =
            state.executions.iter().map(|one| (one.began, one.ends.min(one.began + deadline))).collect();
        spans.iter().map(|(at, _)| spans.iter().filter(|(from, to)| from <= at && at < to).count()).max().unwrap_or(0)
    }

    /// Makes a call in a tenant's account: slow or not, it may fail before it has an effect, or after it.
    async fn call<T>(
        &self,
        tenant: &str,
        operation: &str,
        effect: impl FnOnce(&mut State) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let asked = Instant::now();
        let (pause, before, after) = {
            let State { random, faults, expired, .. } = &mut *self.state();
            let pause = if random.u64(..1000) < faults.slow { random.u64(1_000..30_000) } else { random.u64(5..200) };
            let before = (random.u64(..1000) < faults.before)
                .then(|| [FaultKind::Throttled, FaultKind::Unreachable, FaultKind::Credentials][random.usize(..3)]);
            let after = random.u64(..1000) < faults.after;
            if random.u64(..1000) < faults.expiry && expired.get(tenant).is_none_or(|until| *until < asked) {
                let lasts = Duration::from_secs(random.u64(1..600));
                expired.insert(tenant.to_owned(), asked + lasts);
            }
            (Duration::from_millis(pause), before, after)
        };
        sleep(pause).await;
        if asked.elapsed() > pause + Duration::from_secs(5) {
            // The process was frozen in between.
            return Err(Fault::new(FaultKind::Unreachable, operation, "the connection is dead"));
        }
        if self.state().expired.get(tenant).is_some_and(|until| *until > Instant::now()) {
            return Err(Fault::new(FaultKind::Credentials, operation, "the session has ended"));
        }
        if let Some(kind) = before {
            return Err(Fault::new(kind, operation, "as the seed wants it"));
        }
        let result = effect(&mut self.state());
        sleep(Duration::from_millis(5)).await;
        if after && result.is_ok() {
            return Err(Fault::new(FaultKind::Unreachable, operation, "the answer was lost"));
        }
        result
    }
}

/// A target of a tenant.
pub fn target(number: usize) -> Target {
    let tenant = format!("t{number:03}");
    Target {
        id: TargetId { tenant: tenant.clone(), region: Region::new("eu-west-1").unwrap() },
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
            function: tenant,
            payload: serde_json::json!({}),
            expect: serde_json::json!({"statusCode": 200}),
        }],
        alarms: vec![],
    }
}

#[async_trait]
impl Accounts for World {
    async fn alarms(&self, _: &[String]) -> Result<Vec<AlarmState>, Fault> {
        Ok(Vec::new())
    }

    async fn state(&self, _: &AccountId) -> Result<String, Fault> {
        Ok("ACTIVE".to_owned())
    }

    async fn enter(&self, target: &Target) -> Result<Arc<dyn TenantAccount>, Fault> {
        let tenant = target.id.tenant.clone();
        self.call(&tenant, "AssumeRole", |_| Ok(())).await?;
        Ok(Arc::new(Account { world: self.clone(), tenant }))
    }
}

struct Account {
    world: World,
    tenant: String,
}

fn missing(operation: &str) -> Fault {
    Fault::new(FaultKind::NotFound, operation, "it does not exist")
}

#[async_trait]
impl TenantAccount for Account {
    async fn stack(&self, _: &str) -> Result<Option<Stack>, Fault> {
        let read = |stack: SimulatedStack| Stack {
            id: stack.id,
            status: StackStatus::read(stack.status),
            changed: Some(stack.changed),
            outputs: BTreeMap::new(),
            parameters: BTreeMap::new(),
            protected: false,
        };
        self.world.call(&self.tenant, "DescribeStacks", |state| Ok(now(state, &self.tenant).map(read))).await
    }

    async fn create_change_set(&self, request: &ChangeSetRequest) -> Result<(), Fault> {
        let effect = |state: &mut State| {
            let stack = now(state, &self.tenant);
            let before = stack.as_ref().and_then(|stack| stack.content.clone());
            let TemplateSource::Url(desired) = request.template.clone() else {
                unreachable!("releases are in the store")
            };
            let status =
                if before.as_ref() == Some(&desired) { ChangeSetStatus::NoChanges } else { ChangeSetStatus::Ready };
            let detail = PropertyChange {
                path: "/Properties/Code".into(),
                before,
                after: Some(desired),
                is_dynamic: false,
                replacement: Replacement::Never,
                cause: "DirectModification".into(),
            };
            let change = Change {
                logical_id: "Bucket".into(),
                resource_type: "AWS::S3::Bucket".into(),
                action: if request.creates { ChangeAction::Add } else { ChangeAction::Modify },
                replacement: Replacement::Never,
                scope: vec!["Properties".into()],
                physical_id: None,
                policy: None,
                details: vec![detail],
            };
            let clock = Timestamp::UNIX_EPOCH + state.begun.elapsed();
            state.writes += 1;
            let number = state.writes;
            let stack = state.stacks.entry(self.tenant.clone()).or_insert_with(|| SimulatedStack {
                id: format!("arn:stack/app-{}/{number}", self.tenant),
                status: "REVIEW_IN_PROGRESS",
                changed: clock,
                content: None,
                next: None,
                events: Vec::new(),
                operation: None,
                change_sets: BTreeMap::new(),
            });
            if stack.operation.is_some() {
                return Err(Fault::new(FaultKind::Invalid, "CreateChangeSet", "the stack is being updated"));
            }
            if stack.change_sets.contains_key(&request.name) {
                return Err(Fault::new(FaultKind::Conflict, "CreateChangeSet", "it exists"));
            }
            // By another clock than the events, within what is allowed for.
            let ahead = state.random.i64(-9..=9);
            let created = Some(clock + SignedDuration::from_secs(ahead));
            let change_set = ChangeSet { stack_id: stack.id.clone(), created, status, changes: vec![change] };
            stack.change_sets.insert(request.name.clone(), change_set);
            Ok(())
        };
        self.world.call(&self.tenant, "CreateChangeSet", effect).await
    }

    async fn change_set(&self, _: &str, name: &str) -> Result<Option<ChangeSet>, Fault> {
        let effect =
            |state: &mut State| Ok(now(state, &self.tenant).and_then(|stack| stack.change_sets.get(name).cloned()));
        self.world.call(&self.tenant, "DescribeChangeSet", effect).await
    }

    async fn execute_change_set(&self, _: &str, name: &str, token: &str) -> Result<(), Fault> {
        let effect = |state: &mut State| {
            let operation = "ExecuteChangeSet";
            let Some(stack) = now(state, &self.tenant) else { return Err(missing(operation)) };
            if stack.operation.as_ref().is_some_and(|running| running.token == token) {
                return Ok(());
            }
            let Some(change_set) = stack.change_sets.get(name).cloned() else { return Err(missing(operation)) };
            if stack.operation.is_some() || change_set.status != ChangeSetStatus::Ready {
                return Err(Fault::new(FaultKind::Invalid, operation, "the change set cannot be executed"));
            }
            let times = state.executions.iter().filter(|one| one.tenant == self.tenant).count();
            let (fate, takes) = *state.fates[&self.tenant].get(times).unwrap_or(&(Fate::Succeeds, Duration::ZERO));
            let (began, ends) = (Instant::now(), Instant::now() + takes);
            let changes = change_set.changes.clone();
            let next = changes[0].details[0].after.clone();
            let tenant = self.tenant.clone();
            state.executions.push(Execution { tenant, change_set: name.to_owned(), changes, began, ends, fate });
            let clock = Timestamp::UNIX_EPOCH + state.begun.elapsed();
            let stack = state.stacks.get_mut(&self.tenant).unwrap();
            let creates = stack.content.is_none();
            stack.status = if creates { "CREATE_IN_PROGRESS" } else { "UPDATE_IN_PROGRESS" };
            stack.next = next;
            stack.changed = clock;
            // All other change sets of the stack go with it.
            stack.change_sets.clear();
            stack.operation = Some(Operation { token: token.to_owned(), ends, fate, creates });
            push(stack, &self.tenant, stack.status, Some("User Initiated"), true, token, clock);
            Ok(())
        };
        self.world.call(&self.tenant, "ExecuteChangeSet", effect).await
    }

    async fn delete_change_set(&self, _: &str, name: &str) -> Result<(), Fault> {
        let effect = |state: &mut State| {
            if let Some(stack) = state.stacks.get_mut(&self.tenant) {
                stack.change_sets.remove(name);
            }
            Ok(())
        };
        self.world.call(&self.tenant, "DeleteChangeSet", effect).await
    }

    async fn delete_stack(&self, _: &str, _: Option<&str>, _: &str) -> Result<(), Fault> {
        let effect = |state: &mut State| {
            let stack = now(state, &self.tenant);
            assert!(
                stack.is_none_or(|stack| stack.status == "REVIEW_IN_PROGRESS" && stack.change_sets.is_empty()),
                "only an empty stack is cleared away"
            );
            state.stacks.remove(&self.tenant);
            Ok(())
        };
        self.world.call(&self.tenant, "DeleteStack", effect).await
    }

    async fn continue_rollback(&self, _: &str, _: Option<&str>, _: &[String], _: &str) -> Result<(), Fault> {
        Err(Fault::new(FaultKind::Invalid, "ContinueUpdateRollback", "nothing has failed"))
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

    async fn alarms(&self, _: &[String]) -> Result<Vec<AlarmState>, Fault> {
        Ok(Vec::new())
    }

    async fn protect(&self, _: &str, _: bool) -> Result<(), Fault> {
        Ok(())
    }

    async fn quotas(&self) -> Result<Vec<AccountQuota>, Fault> {
        Ok(Vec::new())
    }

    async fn stacks(&self) -> Result<Vec<StackSummary>, Fault> {
        Ok(Vec::new())
    }

    async fn read_artifact(&self, _: &ArtifactPlace) -> Result<(), Fault> {
        Ok(())
    }

    async fn deletable_data(&self, _: &str) -> Result<Vec<DataResource>, Fault> {
        Ok(Vec::new())
    }

    async fn events(&self, stack_id: &str, since: Option<Timestamp>) -> Result<Vec<StackEvent>, Fault> {
        let effect = |state: &mut State| {
            let stack = now(state, &self.tenant).filter(|stack| stack.id == stack_id);
            let Some(stack) = stack else { return Err(missing("DescribeStackEvents")) };
            let mut events = stack.events;
            events.retain(|event| event.time >= since);
            // CloudFormation's pages may repeat an event, or show one late.
            if state.random.u64(..1000) < state.faults.duplicate {
                let place = state.random.usize(..=events.len());
                events.extend(events.get(place).cloned());
            }
            if state.random.u64(..1000) < state.faults.duplicate {
                events.pop();
            }
            Ok(events)
        };
        self.world.call(&self.tenant, "DescribeStackEvents", effect).await
    }

    async fn has_change_sets(&self, _: &str) -> Result<bool, Fault> {
        let effect =
            |state: &mut State| Ok(now(state, &self.tenant).is_some_and(|stack| !stack.change_sets.is_empty()));
        self.world.call(&self.tenant, "ListChangeSets", effect).await
    }

    async fn validation_failures(&self, _: &str, _: Option<&str>) -> Result<Vec<StackEvent>, Fault> {
        Ok(Vec::new())
    }

    async fn renew(&self) -> Result<(), Fault> {
        self.world.call(&self.tenant, "AssumeRole", |_| Ok(())).await
    }

    async fn newest_event(&self, stack_id: &str) -> Result<Option<Timestamp>, Fault> {
        let effect = |state: &mut State| {
            let stack = now(state, &self.tenant).filter(|stack| stack.id == stack_id);
            Ok(stack.and_then(|stack| stack.events.last().and_then(|event| event.time)))
        };
        self.world.call(&self.tenant, "DescribeStackEvents", effect).await
    }

    async fn invoke(&self, function: &str, _: &serde_json::Value) -> Result<Answer, Fault> {
        let healthy = self.world.is_healthy(function);
        let payload = serde_json::json!({"statusCode": if healthy { 200 } else { 500 }});
        self.world.call(&self.tenant, "Invoke", |_| Ok(Answer { error: None, payload })).await
    }

    async fn fetch(&self, _: &str, _: Duration) -> Result<u16, Fault> {
        Ok(200)
    }
}

/// The bucket. Its client asks again by itself, so that few faults reach the engine.
pub struct Bucket(pub World);

impl Bucket {
    async fn call<T>(&self, operation: &str, effect: impl FnOnce(&mut State) -> Result<T, Fault>) -> Result<T, Fault> {
        let asked = Instant::now();
        let (pause, before, after) = {
            let mut state = self.0.state();
            let rate = state.faults.store;
            let random = &mut state.random;
            (random.u64(5..100), random.u64(..1000) < rate, random.u64(..1000) < rate)
        };
        sleep(Duration::from_millis(pause)).await;
        if asked.elapsed() > Duration::from_secs(5) {
            return Err(Fault::new(FaultKind::Unreachable, operation, "the connection is dead"));
        }
        if before {
            return Err(Fault::new(FaultKind::Unreachable, operation, "as the seed wants it"));
        }
        let result = effect(&mut self.0.state());
        sleep(Duration::from_millis(5)).await;
        if after && result.is_ok() {
            return Err(Fault::new(FaultKind::Unreachable, operation, "the answer was lost"));
        }
        result
    }
}

#[async_trait]
impl Store for Bucket {
    async fn ready(&self) -> Result<(), Fault> {
        Ok(())
    }

    async fn put_content(
        &self,
        key: &str,
        bytes: Bytes,
        _: Digest,
        _: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<bool, Fault> {
        self.put_once(key, bytes.into()).await
    }

    async fn put_once(&self, key: &str, bytes: Vec<u8>) -> Result<bool, Fault> {
        let effect = |state: &mut State| {
            state.writes += 1;
            let version = state.writes;
            let new = !state.objects.contains_key(key);
            state.objects.entry(key.to_owned()).or_insert((bytes, version));
            Ok(new)
        };
        self.call("PutObject", effect).await
    }

    async fn replace(&self, key: &str, bytes: Vec<u8>, version: Option<&str>) -> Result<String, Fault> {
        let effect = |state: &mut State| {
            let known = state.objects.get(key).map(|(_, version)| version.to_string());
            if known.as_deref() != version {
                return Err(Fault::new(FaultKind::Conflict, "PutObject", "somebody else wrote it"));
            }
            state.writes += 1;
            let version = state.writes;
            state.objects.insert(key.to_owned(), (bytes, version));
            Ok(version.to_string())
        };
        self.call("PutObject", effect).await
    }

    async fn get(&self, key: &str) -> Result<Option<(Vec<u8>, String)>, Fault> {
        let read = |(bytes, version): &(Vec<u8>, u64)| (bytes.clone(), version.to_string());
        self.call("GetObject", |state| Ok(state.objects.get(key).map(read))).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>, Fault> {
        let effect = |state: &mut State| {
            Ok(state.objects.keys().filter(|key| key.starts_with(prefix)).cloned().collect::<Vec<_>>())
        };
        self.call("ListObjectsV2", effect).await
    }

    async fn verify(&self, _: &str, _: Digest) -> Result<(), Fault> {
        Ok(())
    }

    fn url(&self, key: &str) -> String {
        key.to_owned()
    }
}
