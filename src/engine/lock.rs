//! One rollout of a stage at a time (safety rule 8): a lock in the store, with a lease that its owner renews and a
//! number that grows with every owner.

use std::convert::Infallible;
use std::future::{Future, pending};
use std::iter::successors;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::records::{read, written};
use super::{Engine, Stop, StopHandle};
use crate::domain::{Digest, Fault, FaultKind, Identity, Shard};
use crate::plan::Plan;

/// How often the owner renews its lease.
const HEARTBEAT: Duration = Duration::from_secs(20);
/// How long a lease lasts without being renewed.
const LEASE: Duration = Duration::from_mins(2);
/// How long before the end of its lease an owner starts nothing more.
const MARGIN: Duration = Duration::from_secs(30);
/// How often it is tried to join a lock that other shards have; each time it is not, another one was.
const JOINS: u32 = 4 * Shard::MOST;
/// How often a lock that somebody else has is looked at.
const LOOK: Duration = Duration::from_secs(5);

/// A stage's lock, as it is kept in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Lock {
    /// Names this holding of the lock; `tenantry unlock` asks for it.
    pub id: String,
    /// Grows by one with every owner: what an older owner writes late is told from what a newer one wrote.
    pub fence: u64,
    /// Who has or had it.
    pub owner: Identity,
    /// Whether it is held; a lock that was given back stays, for the sake of its number.
    pub held: bool,
    /// Since when.
    pub since: Timestamp,
    /// When the owner was last heard of.
    pub renewed: Timestamp,
    /// For what several machines hold it together, if they do; the owner is who was first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shards: Option<Shared>,
}

/// What shards hold a lock together for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Shared {
    /// The plan that they execute.
    pub plan: Digest,
    /// How many shards there are.
    pub of: u32,
    /// The rollout that they are, named by who was first.
    pub rollout: String,
}

impl Shared {
    /// Tells whether it is held for a plan on so many shards.
    pub(super) fn is_for(&self, plan: Digest, of: u32) -> bool {
        (self.plan, self.of) == (plan, of)
    }
}

/// Whether a lock that shards hold together is given back by one of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum GiveBack {
    /// All have ended, while it had this version: who has joined since goes on.
    Now(String),
    /// Others go on, or this one will.
    Not,
    /// This one has done nothing: only where nobody else has joined.
    IfAlone,
}

/// Why a lock was not taken.
#[derive(Debug)]
pub enum LockError {
    /// Somebody else has it: the stage's lock, or that of one shard.
    Taken(Box<Lock>, Option<Shard>),
    /// The run was stopped while it waited.
    Stopped,
    /// The store failed.
    Fault(Fault),
}

impl From<Fault> for LockError {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// What a run knows of the lock that it holds.
#[derive(Debug, Clone)]
pub struct Lease {
    /// The lock's number.
    pub fence: u64,
    /// The lock that was taken over from an owner that was silent, if one was.
    pub taken_over: Option<String>,
    /// When somebody else may have it; none once that is known.
    until: Arc<watch::Sender<Option<Until>>>,
    /// The lease that this one is within: a shard's own.
    within: Option<Box<Self>>,
}

/// The end of a lease by both clocks: the steady one stands still while a machine sleeps.
#[derive(Debug, Clone, Copy)]
struct Until {
    steady: Instant,
    wall: Timestamp,
}

impl Until {
    fn is_over(self, now: Timestamp) -> bool {
        self.steady <= Instant::now() || self.wall <= now
    }

    /// The end of a lease that was asked for at this moment.
    fn lease(self) -> Self {
        let Self { steady, wall } = self;
        let lasts = LEASE.saturating_sub(MARGIN);
        Self { steady: steady + lasts, wall: wall.saturating_add(lasts).unwrap_or(wall) }
    }
}

impl Lease {
    /// A lease that was asked for at `begun`: what the answer took is lost.
    fn new(fence: u64, taken_over: Option<String>, begun: Until) -> Self {
        Self { fence, taken_over, until: Arc::new(watch::Sender::new(Some(begun.lease()))), within: None }
    }

    /// Tells whether the lock is lost. Where the lease is over and nobody has found out yet whether it can be renewed, as
    /// after the machine has slept, waits until it is known: neither answer would be true for long.
    pub(super) async fn is_lost(&self, now: impl Fn() -> Timestamp) -> bool {
        let all = || successors(Some(self), |lease| lease.within.as_deref());
        loop {
            if all().any(|lease| lease.until.borrow().is_none()) {
                return true;
            }
            // All at one moment: while one was waited for, another may have come to its end.
            let Some(doubtful) = all().find(|lease| lease.is_over(now())) else { return false };
            let is_known = |until: &Option<Until>| until.is_none_or(|until| !until.is_over(now()));
            // The sender is this lease's own, and lives.
            let mut renewals = doubtful.until.subscribe();
            let _ = renewals.wait_for(is_known).await;
        }
    }

    /// Tells whether somebody else may have taken the lock by now.
    fn is_over(&self, now: Timestamp) -> bool {
        self.until.borrow().is_none_or(|until| until.is_over(now))
    }

    /// Tells whether it was tried in vain to renew it for as long as it lasts; a machine that sleeps tries nothing.
    fn is_given_up(&self) -> bool {
        self.until.borrow().is_none_or(|until| until.steady <= Instant::now())
    }

    fn renew(&self, begun: Until) {
        self.until.send_replace(Some(begun.lease()));
    }

    fn lose(&self) {
        self.until.send_replace(None);
    }
}

/// Returns the name under which a shard of a stage is locked. No stage has a dot in its name.
pub(super) fn of_shard(stage: &str, shard: Shard) -> String {
    format!("{stage}.{}-of-{}", shard.number, shard.of)
}

fn is_in_passing(fault: &Fault) -> bool {
    fault.kind == FaultKind::Conflict || fault.passes()
}

/// Returns the key of a stage's lock.
pub(super) fn lock_key(application: &str, stage: &str) -> String {
    format!("tenantry/{application}/locks/{stage}.json")
}

/// A lock that this run holds, with the version under which it is written.
struct Held {
    key: String,
    lock: Lock,
    version: String,
    /// Whether another shard has written it, before or after this run did.
    with_others: bool,
}

impl Engine {
    /// Takes a stage's lock, does the work under it with the lease renewed all the while, and gives it back.
    ///
    /// The work gets an engine of its own, which is asked to stop when the run is, and when the lock is lost: then
    /// nothing more is started.
    ///
    /// # Errors
    ///
    /// Says who has the lock, if nobody gives it back within `wait`.
    pub async fn locked<T, F>(
        &self,
        application: &str,
        stage: &str,
        wait: Duration,
        work: impl FnOnce(Engine) -> F,
    ) -> Result<T, LockError>
    where
        F: Future<Output = T>,
    {
        let (mut held, lease) = self.take_lock(application, stage, wait, None).await?;
        let result = self.hold(&mut held, lease, work).await;
        self.give_back(held, stage).await;
        Ok(result)
    }

    /// Does the same with other shards of a rollout: who comes first takes the lock, each renews it, and the last gives it
    /// back. The work is told the rollout's name.
    pub(super) async fn locked_together<T, F>(
        &self,
        application: &str,
        stage: &str,
        shared: Shared,
        wait: Duration,
        work: impl FnOnce(Engine, String) -> F,
    ) -> Result<T, LockError>
    where
        F: Future<Output = (T, GiveBack)>,
    {
        let (mut held, lease) = self.take_lock(application, stage, wait, Some(&shared)).await?;
        let lease = Lease { within: self.lease.clone().map(Box::new), ..lease };
        let rollout = held.lock.shards.as_ref().map_or(shared.rollout, |shards| shards.rollout.clone());
        let (result, give_back) = self.hold(&mut held, lease, |engine| work(engine, rollout)).await;
        match give_back {
            GiveBack::Now(version) => self.give_back_together(held, &version).await,
            GiveBack::IfAlone if !held.with_others => {
                let version = held.version.clone();
                self.give_back_together(held, &version).await;
            }
            GiveBack::IfAlone | GiveBack::Not => {}
        }
        Ok(result)
    }

    /// Does work with a lock's lease renewed all the while.
    async fn hold<T, F>(&self, held: &mut Held, lease: Lease, work: impl FnOnce(Engine) -> F) -> T
    where
        F: Future<Output = T>,
    {
        let (handle, stop) = Stop::new();
        let engine = Engine { stop, lease: Some(lease.clone()), ..self.clone() };
        let pass_on = async {
            self.stop.requested().await;
            handle.request();
            pending::<Infallible>().await
        };
        // Side by side on one task: the lease is renewed while the work waits, and the other way round.
        tokio::select! {
            biased;
            result = work(engine) => result,
            never = self.keep_lock(held, &lease, &handle) => match never {},
            never = pass_on => match never {},
        }
    }

    /// Gives back what shards hold together. Who has joined since that version has renewed it, and it stays theirs.
    async fn give_back_together(&self, held: Held, version: &str) {
        let free = Lock { held: false, renewed: self.events.now(), ..held.lock };
        let _ = self.store.replace(&held.key, written(&free), Some(version)).await;
    }

    /// Returns the version of a stage's lock as it is now.
    pub(super) async fn lock_version(&self, application: &str, stage: &str) -> Result<Option<String>, Fault> {
        Ok(self.store.get(&lock_key(application, stage)).await?.map(|(_, version)| version))
    }

    /// Tells whether a process was heard of lately that executes a shard of a stage.
    pub(super) async fn is_executed(&self, application: &str, stage: &str, shard: Shard) -> bool {
        let lock = self.record::<Lock>(&lock_key(application, &of_shard(stage, shard))).await;
        // What cannot be read may live.
        let Ok(lock) = lock else { return true };
        // Clocks differ.
        let lately = |lock: Lock| self.events.now().duration_since(lock.renewed).unsigned_abs() < 5 * LEASE;
        lock.filter(|lock| lock.held).is_some_and(lately)
    }

    async fn give_back(&self, mut held: Held, stage: &str) {
        let free = Lock { held: false, renewed: self.events.now(), ..held.lock.clone() };
        match self.write_lock(&mut held, free).await {
            // That it is somebody else's by now was told already.
            Err(fault) if fault.kind != FaultKind::Conflict => {
                self.events.notice(format!("the lock of {stage} could not be given back: {fault}"));
            }
            _ => {}
        }
    }

    /// Returns the rollout for which shards hold a plan's stage together, if they do.
    pub(super) async fn shared_lock(&self, plan: &Plan, of: u32) -> Result<Option<String>, Fault> {
        let key = lock_key(&plan.content.application, &plan.content.stage);
        let lock = self.record::<Lock>(&key).await?.filter(|lock| lock.held);
        let shards = lock.and_then(|lock| lock.shards);
        Ok(shards.filter(|shards| shards.is_for(plan.digest, of)).map(|shards| shards.rollout))
    }

    fn both_clocks(&self) -> Until {
        Until { steady: Instant::now(), wall: self.events.now() }
    }

    /// Renews a lock until it is lost, and then says so.
    async fn keep_lock(&self, held: &mut Held, lease: &Lease, stop: &StopHandle) -> Infallible {
        let mut last = self.both_clocks();
        let mut pause = HEARTBEAT;
        loop {
            sleep(pause).await;
            pause = HEARTBEAT;
            let begun = self.both_clocks();
            match self.renew_lock(held, last, begun).await {
                Ok(since) => {
                    lease.renew(since);
                    last = begun;
                    // It was renewed before the machine slept: by another shard, or by a request that was under way.
                    if lease.is_over(self.events.now()) {
                        pause = Duration::ZERO;
                    }
                }
                Err(fault) if fault.passes() && !lease.is_given_up() => {
                    self.events.notice(format!("lock {} could not be renewed yet: {fault}", held.lock.id));
                }
                Err(fault) => {
                    lease.lose();
                    stop.request();
                    let id = &held.lock.id;
                    self.events.notice(format!("lock {id} is lost ({fault}): nothing more is started"));
                    return pending().await;
                }
            }
        }
    }

    /// Renews a lock, unless another shard has done so since it was last looked at; returns since when it is renewed.
    async fn renew_lock(&self, held: &mut Held, mut last: Until, begun: Until) -> Result<Until, Fault> {
        if held.lock.shards.is_none() {
            let lock = Lock { renewed: self.events.now(), ..held.lock.clone() };
            return self.write_lock(held, lock).await.map(|()| begun);
        }
        loop {
            match read::<Lock>(self.store.as_ref(), &held.key).await? {
                Some((lock, version)) if lock.held && lock.id == held.lock.id => {
                    if version != held.version {
                        (held.lock, held.version, held.with_others) = (lock, version, true);
                        return Ok(last);
                    }
                }
                _ => return Err(Fault::new(FaultKind::Conflict, "GetObject", "somebody else has it")),
            }
            let lock = Lock { renewed: self.events.now(), ..held.lock.clone() };
            match self.store.replace(&held.key, written(&lock), Some(&held.version)).await {
                Ok(version) => {
                    (held.lock, held.version) = (lock, version);
                    return Ok(begun);
                }
                // Another shard was faster, after it was looked at; or it was this one, and the answer was lost.
                Err(fault) if fault.kind == FaultKind::Conflict => last = begun,
                Err(fault) => return Err(fault),
            }
        }
    }

    /// Writes a lock that this run holds. Where another version stands there, it may be of an answer that was lost.
    async fn write_lock(&self, held: &mut Held, lock: Lock) -> Result<(), Fault> {
        let mut again = true;
        loop {
            match self.store.replace(&held.key, written(&lock), Some(&held.version)).await {
                Ok(version) => {
                    held.version = version;
                    held.lock = lock;
                    return Ok(());
                }
                Err(fault) if fault.kind == FaultKind::Conflict && std::mem::take(&mut again) => {
                    match read::<Lock>(self.store.as_ref(), &held.key).await? {
                        Some((found, version)) if found.held && found.id == lock.id => held.version = version,
                        _ => return Err(fault),
                    }
                }
                Err(fault) => return Err(fault),
            }
        }
    }

    /// Takes a lock that nobody has. One whose owner is silent is watched for a whole lease, since clocks differ, and
    /// taken if nobody renews it meanwhile.
    /// One that other shards hold for the same is joined, whatever its age: nobody else has taken it.
    async fn take_lock(
        &self,
        application: &str,
        stage: &str,
        wait: Duration,
        shared: Option<&Shared>,
    ) -> Result<(Held, Lease), LockError> {
        let key = lock_key(application, stage);
        let begun = Instant::now();
        let mut watched: Option<(String, Instant)> = None;
        let mut tried: Option<(Lock, Until)> = None;
        let mut taken_over = None;
        // Whatever the clocks say: who renews is alive.
        let mut lives = false;
        let mut told = false;
        let mut joins = 0;
        loop {
            let found = match read::<Lock>(self.store.as_ref(), &key).await {
                Err(fault) if fault.passes() && begun.elapsed() < wait && !self.stop.is_requested() => {
                    sleep(LOOK).await;
                    continue;
                }
                other => other?,
            };
            if let Some((lock, version)) = found.as_ref().filter(|(lock, _)| lock.held) {
                if let Some((_, asked)) = tried.take_if(|(tried, _)| tried.id == lock.id) {
                    // It was written, and only the answer was lost.
                    let with_others = shared.is_some();
                    let held = Held { key, lock: lock.clone(), version: version.clone(), with_others };
                    return Ok((held, Lease::new(lock.fence, taken_over, asked)));
                }
                let is_ours =
                    |shared: &&Shared| lock.shards.as_ref().is_some_and(|shards| shards.is_for(shared.plan, shared.of));
                if shared.as_ref().is_some_and(is_ours) {
                    let asked = self.both_clocks();
                    let lock = Lock { renewed: self.events.now(), ..lock.clone() };
                    match self.store.replace(&key, written(&lock), Some(version)).await {
                        Ok(version) => {
                            let lease = Lease::new(lock.fence, None, asked);
                            return Ok((Held { key, lock, version, with_others: true }, lease));
                        }
                        // Many may come at once, and each of them is let in.
                        Err(fault) if is_in_passing(&fault) && !self.stop.is_requested() && joins < JOINS => {
                            joins += 1;
                            sleep(Duration::from_millis(fastrand::u64(50..1000))).await;
                            continue;
                        }
                        Err(fault) => return Err(fault.into()),
                    }
                }
                let (_, since) = match watched.take() {
                    Some(known) if known.0 == *version => watched.insert(known),
                    known => {
                        lives |= known.is_some();
                        watched.insert((version.clone(), Instant::now()))
                    }
                };
                let silent = self.events.now().duration_since(lock.renewed);
                let looks_dead = !lives && silent.unsigned_abs() > LEASE && !silent.is_negative();
                let Lock { id, owner, since: taken, renewed, .. } = lock;
                if since.elapsed() < LEASE {
                    if !looks_dead && begun.elapsed() >= wait {
                        return Err(LockError::Taken(Box::new(lock.clone()), None));
                    }
                    if !std::mem::replace(&mut told, true) {
                        self.events
                            .notice(format!("waiting for the lock of {stage}, which {owner} has since {taken:.0}"));
                    }
                    tokio::select! {
                        biased;
                        () = sleep(LOOK) => continue,
                        () = self.stop.requested() => return Err(LockError::Stopped),
                    }
                }
                let what = format!("lock {id} of {stage} from {owner}, not heard of since {renewed:.0}");
                self.events.notice(format!("taking over {what}"));
                taken_over = Some(what);
            }
            if self.stop.is_requested() {
                return Err(LockError::Stopped);
            }
            let now = self.events.now();
            let fence = found.as_ref().map_or(1, |(lock, _)| lock.fence + 1);
            let id = Digest::of(format!("{} {stage} {fence}", self.run)).short();
            let (owner, shards) = (self.by.clone(), shared.cloned());
            let lock = Lock { id, fence, owner, held: true, since: now, renewed: now, shards };
            let asked = self.both_clocks();
            let version = found.as_ref().map(|(_, version)| version.as_str());
            match self.store.replace(&key, written(&lock), version).await {
                Ok(version) => {
                    return Ok((Held { key, lock, version, with_others: false }, Lease::new(fence, taken_over, asked)));
                }
                // Somebody else was faster, or an answer was lost: look again.
                Err(fault) if fault.kind == FaultKind::Conflict => tried = Some((lock, asked)),
                Err(fault) => return Err(fault.into()),
            }
        }
    }

    /// Gives back the lock of somebody who cannot, named by its id.
    ///
    /// # Errors
    ///
    /// Returns the lock as it is, where it is not held under that id, or the store's fault.
    pub async fn unlock(
        &self,
        application: &str,
        stage: &str,
        shard: Option<Shard>,
        id: &str,
    ) -> Result<Result<Lock, Option<Lock>>, Fault> {
        let key = lock_key(application, &shard.map_or_else(|| stage.to_owned(), |shard| of_shard(stage, shard)));
        let Some((lock, version)) = read::<Lock>(self.store.as_ref(), &key).await? else { return Ok(Err(None)) };
        if !lock.held || lock.id != id {
            return Ok(Err(Some(lock)));
        }
        let free = Lock { held: false, ..lock.clone() };
        self.store.replace(&key, written(&free), Some(&version)).await?;
        Ok(Ok(lock))
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

    use super::super::fake::{Fleet, Slow, on_the_clock};
    use super::*;

    async fn lock(engine: &Engine) -> Lock {
        engine.record(&lock_key("app", "prod")).await.unwrap().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_lock_excludes_is_renewed_and_given_back() {
        let (one, _, _handle) = Fleet::new([]).engine();
        let (one, _heard) = on_the_clock(one);
        let other = Engine { run: "other".into(), ..one.clone() };
        let long = one.locked("app", "prod", Duration::ZERO, async |engine| {
            sleep(Duration::from_mins(10)).await;
            (engine.stop.is_requested(), engine.halted().await.is_some())
        });
        let refused = async {
            sleep(Duration::from_mins(5)).await;
            let refused = other.locked("app", "prod", Duration::from_mins(1), async |_| ()).await;
            assert!(matches!(refused, Err(LockError::Taken(lock, _)) if lock.fence == 1));
            other.locked("app", "prod", Duration::from_hours(1), async |engine| engine.lease.unwrap().fence).await
        };
        let (first, second) = tokio::join!(long, refused);
        assert_eq!(first.unwrap(), (false, false), "ten minutes are many leases, each renewed in time");
        assert_eq!(second.unwrap(), 2, "the number grows with every owner");
        assert!(!lock(&one).await.held);
    }

    #[tokio::test(start_paused = true)]
    async fn a_dead_owners_lock_is_taken_over_after_its_lease_with_a_note() {
        let (one, _, _handle) = Fleet::new([]).engine();
        let (one, mut heard) = on_the_clock(one);
        // It takes the lock, and is gone.
        one.take_lock("app", "prod", Duration::ZERO, None).await.ok().unwrap();
        sleep(Duration::from_mins(1)).await;
        let soon = one.locked("app", "prod", Duration::ZERO, async |_| ()).await;
        assert!(matches!(soon, Err(LockError::Taken(..))), "it may live still");
        sleep(Duration::from_secs(90)).await;
        let begun = Instant::now();
        let next = Engine { run: "next".into(), ..one.clone() };
        let fence = next.locked("app", "prod", Duration::ZERO, async |engine| engine.lease.unwrap().fence).await;
        assert_eq!(fence.unwrap(), 2);
        assert!(begun.elapsed() >= LEASE, "it was watched for a whole lease: clocks differ");
        let mut told = String::new();
        while let Ok(event) = heard.try_recv() {
            let _ = write!(told, "{event:?}");
        }
        assert!(told.contains("taking over lock"), "{told}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_answer_to_a_heartbeat_loses_no_lock() {
        let (one, _, _handle) = Fleet::new([]).engine();
        let (one, _heard) = on_the_clock(one);
        let work = one.locked("app", "prod", Duration::ZERO, async |engine| {
            sleep(HEARTBEAT / 2).await;
            // As if a heartbeat had been written without its answer coming back.
            let key = lock_key("app", "prod");
            let (mut lock, version) = read::<Lock>(engine.store.as_ref(), &key).await.unwrap().unwrap();
            lock.renewed = engine.events.now();
            engine.store.replace(&key, written(&lock), Some(&version)).await.unwrap();
            sleep(LEASE * 3).await;
            engine.halted().await
        });
        assert_eq!(work.await.unwrap(), None);
        assert!(!lock(&one).await.held, "it is given back all the same");
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_is_heard_also_while_it_is_in_doubt_who_has_the_lock() {
        let (one, _, handle) = Fleet::new([]).engine();
        let (one, _heard) = on_the_clock(one);
        let (_, lease) = one.take_lock("app", "prod", Duration::ZERO, None).await.ok().unwrap();
        let one = Engine { lease: Some(lease.clone()), ..one };
        assert_eq!(one.halted().await, None);
        // Nobody renews it.
        sleep(LEASE).await;
        let asked = async { tokio::join!(one.halted(), async { handle.request() }).0 };
        assert_eq!(tokio::time::timeout(LEASE, asked).await, Ok(Some("the run was stopped")));
        lease.lose();
        assert_eq!(one.halted().await, Some("the stage's lock is lost"), "that says more");
    }

    /// While a machine sleeps its steady clock stands still: only the other one tells.
    #[tokio::test(start_paused = true)]
    async fn a_machine_that_has_slept_knows_at_its_next_heartbeat_whether_it_has_the_lock() {
        for (is_taken, failing) in [(false, 0), (true, 0), (false, 2)] {
            let (one, _, _handle) = Fleet::new([]).engine();
            let (begun, slept) = (Instant::now(), Arc::new(AtomicU64::new(0)));
            let sleeps = slept.clone();
            let (events, _heard) = crate::event::Events::channel(move || {
                Timestamp::UNIX_EPOCH + begun.elapsed() + Duration::from_secs(sleeps.load(Ordering::Relaxed))
            });
            let one = Engine { events, ..one };
            let store = Arc::new(Slow(one.store.clone(), AtomicUsize::new(0)));
            let one = Engine { store: store.clone(), ..one };
            let work = one.locked("app", "prod", Duration::ZERO, async |engine| {
                let id = lock(&engine).await.id;
                slept.store(3600, Ordering::Relaxed);
                store.1.store(failing, Ordering::Relaxed);
                if is_taken {
                    engine.unlock("app", "prod", None, &id).await.unwrap().unwrap();
                }
                let woken = Instant::now();
                let halted = engine.halted().await;
                (halted, woken.elapsed(), engine.halted().await == halted)
            });
            let (halted, waited, stays) = work.await.unwrap();
            assert_eq!(halted, is_taken.then_some("the stage's lock is lost"));
            let most = (HEARTBEAT + Duration::from_secs(11)) * (1 + u32::try_from(failing).unwrap());
            assert!(waited <= most && stays, "{waited:?}");
        }
    }

    /// The store is away for longer than the lease: nobody knows any more who has the lock.
    #[tokio::test(start_paused = true)]
    async fn a_lock_that_could_not_be_renewed_for_its_lease_is_given_up() {
        for (failing, halted) in [(2, None), (100, Some("the stage's lock is lost"))] {
            let (one, _, _handle) = Fleet::new([]).engine();
            let (one, _heard) = on_the_clock(one);
            let store = Arc::new(Slow(one.store.clone(), AtomicUsize::new(0)));
            let one = Engine { store: store.clone(), ..one };
            let work = one.locked("app", "prod", Duration::ZERO, async |engine| {
                store.1.store(failing, Ordering::Relaxed);
                sleep(LEASE * 2).await;
                store.1.store(0, Ordering::Relaxed);
                (engine.stop.is_requested(), engine.halted().await)
            });
            assert_eq!(work.await.unwrap(), (halted.is_some(), halted), "{failing} writes in vain");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn of_two_leases_both_have_to_hold_at_one_moment() {
        let at = || Until { steady: Instant::now(), wall: Timestamp::UNIX_EPOCH };
        let begun = Instant::now();
        let now = || Timestamp::UNIX_EPOCH + begun.elapsed();
        let within = Lease::new(1, None, at());
        sleep(LEASE / 2).await;
        let renewed = |clock: Timestamp| Until { steady: Instant::now(), wall: clock };
        let lease = Lease { within: Some(Box::new(within.clone())), ..Lease::new(2, None, renewed(now())) };
        assert!(!lease.is_lost(now).await, "both hold");
        sleep(LEASE / 2).await;
        let mut known = std::pin::pin!(lease.is_lost(now));
        let a_while = Duration::from_mins(1);
        assert!(tokio::time::timeout(a_while, &mut known).await.is_err(), "one is in doubt");
        within.renew(renewed(now()));
        assert!(tokio::time::timeout(a_while, &mut known).await.is_err(), "meanwhile the other is");
        lease.renew(renewed(now()));
        assert!(!known.await);
        within.lose();
        assert!(lease.is_lost(now).await);
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_blocks_nobody_is_not_held_up_by_a_slow_store() {
        let (one, _, _handle) = Fleet::new([]).engine();
        let slow = Engine { store: Arc::new(Slow(one.store.clone(), AtomicUsize::new(0))), ..one };
        let begun = Instant::now();
        let ticks = slow.locked("app", "prod", Duration::ZERO, async |_| {
            for _ in 0..300 {
                sleep(Duration::from_secs(1)).await;
            }
        });
        ticks.await.unwrap();
        assert!(begun.elapsed() < Duration::from_secs(340), "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_lost_the_lock_starts_nothing_more() {
        let (one, _, _handle) = Fleet::new([]).engine();
        let (one, _heard) = on_the_clock(one);
        let work = one.locked("app", "prod", Duration::ZERO, async |engine| {
            let id = lock(&engine).await.id;
            assert!(engine.unlock("app", "prod", None, "another").await.unwrap().is_err());
            engine.unlock("app", "prod", None, &id).await.unwrap().unwrap();
            sleep(HEARTBEAT * 2).await;
            let stopped = engine.stop.is_requested();
            sleep(LEASE).await;
            (stopped, engine.lease.unwrap().is_over(one.events.now()))
        });
        assert_eq!(work.await.unwrap(), (true, true));
        assert!(!lock(&one).await.held, "what somebody else has written stays");
    }
}
