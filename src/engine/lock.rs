//! One rollout of a stage at a time (safety rule 8): a lock in the store, with a lease that its owner renews and a
//! number that grows with every owner.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use super::{Engine, Stop};
use crate::domain::{Digest, Fault, FaultKind, Identity};

/// How often the owner renews its lease.
const HEARTBEAT: Duration = Duration::from_secs(20);
/// How long a lease lasts without being renewed.
const LEASE: Duration = Duration::from_mins(2);
/// How long before the end of its lease an owner starts nothing more.
const MARGIN: Duration = Duration::from_secs(30);
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
}

/// Why a lock was not taken.
#[derive(Debug)]
pub enum LockError {
    /// Somebody else has it.
    Taken(Box<Lock>),
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
    until: Arc<Mutex<Instant>>,
}

impl Lease {
    fn new(fence: u64) -> Self {
        Self { fence, until: Arc::new(Mutex::new(Instant::now() + LEASE - MARGIN)) }
    }

    /// Tells whether somebody else may have taken the lock by now.
    pub fn is_over(&self) -> bool {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) <= Instant::now()
    }

    fn renew(&self, begun: Instant) {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = begun + LEASE - MARGIN;
    }
}

/// Returns the key of a stage's lock.
fn lock_key(application: &str, stage: &str) -> String {
    format!("tenantry/{application}/locks/{stage}.json")
}

/// A lock that this run holds, with the version under which it is written.
struct Held {
    key: String,
    lock: Lock,
    version: String,
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
        let mut held = self.take_lock(application, stage, wait).await?;
        let lease = Lease::new(held.lock.fence);
        let (handle, stop) = Stop::new();
        let engine = Engine { stop, lease: Some(lease.clone()), ..self.clone() };
        let mut work = pin!(work(engine));
        let mut lost = false;
        let result = loop {
            tokio::select! {
                biased;
                result = &mut work => break result,
                () = self.stop.requested(), if !handle.is_requested() => handle.request(),
                () = sleep(HEARTBEAT), if !lost => {
                    let begun = Instant::now();
                    match self.renew(&mut held).await {
                        Ok(()) => lease.renew(begun),
                        Err(fault) if fault.passes() && !lease.is_over() => {
                            self.events.notice(format!("the lock of {stage} could not be renewed yet: {fault}"));
                        }
                        Err(fault) => {
                            lost = true;
                            handle.request();
                            self.events.notice(format!(
                                "the lock of {stage} is lost ({fault}): nothing more is started"
                            ));
                        }
                    }
                }
            }
        };
        if !lost {
            let free = Lock { held: false, renewed: self.events.now(), ..held.lock };
            let bytes = serde_json::to_vec_pretty(&free).unwrap_or_default();
            if let Err(fault) = self.store.replace(&held.key, bytes, Some(&held.version)).await {
                self.events.notice(format!("the lock of {stage} could not be given back: {fault}"));
            }
        }
        Ok(result)
    }

    async fn renew(&self, held: &mut Held) -> Result<(), Fault> {
        held.lock.renewed = self.events.now();
        let bytes = serde_json::to_vec_pretty(&held.lock).unwrap_or_default();
        held.version = self.store.replace(&held.key, bytes, Some(&held.version)).await?;
        Ok(())
    }

    /// Takes a lock that nobody has. One whose owner was not heard of for a lease is watched for more than a
    /// heartbeat, so that no clock is trusted alone, and taken if it stays as it is.
    async fn take_lock(&self, application: &str, stage: &str, wait: Duration) -> Result<Held, LockError> {
        let key = lock_key(application, stage);
        let begun = Instant::now();
        let mut watched: Option<(String, Instant)> = None;
        let mut told = false;
        loop {
            let found = self.store.get(&key).await?;
            let version = found.as_ref().map(|(_, version)| version.clone());
            let known: Option<Lock> = match &found {
                None => None,
                Some((bytes, _)) => Some(serde_json::from_slice(bytes).map_err(|error| {
                    Fault::new(FaultKind::Mismatch, "GetObject", format!("{key} is not a lock: {error}"))
                })?),
            };
            if let Some(lock) = known.as_ref().filter(|lock| lock.held) {
                let silent = self.events.now().duration_since(lock.renewed);
                let looks_dead = silent.unsigned_abs() > LEASE && !silent.is_negative();
                let same = |(seen, _): &&(String, Instant)| Some(seen) == version.as_ref();
                if !watched.as_ref().is_some_and(|watched| same(&watched)) {
                    watched = version.clone().map(|version| (version, Instant::now()));
                }
                let watching = watched.as_ref().map_or(Duration::ZERO, |(_, since)| since.elapsed());
                if !looks_dead && begun.elapsed() >= wait {
                    return Err(LockError::Taken(Box::new(lock.clone())));
                }
                if !looks_dead || watching < HEARTBEAT + LOOK {
                    if !told {
                        told = true;
                        let Lock { owner, since, .. } = lock;
                        self.events
                            .notice(format!("waiting for the lock of {stage}, which {owner} has since {since:.0}"));
                    }
                    tokio::select! {
                        () = sleep(LOOK) => continue,
                        () = self.stop.requested() => return Err(LockError::Stopped),
                    }
                }
                let Lock { owner, renewed, id, .. } = lock;
                self.events
                    .notice(format!("taking over lock {id} of {stage} from {owner}, not heard of since {renewed:.0}"));
            }
            let now = self.events.now();
            let fence = known.map_or(1, |lock| lock.fence + 1);
            let id = Digest::of(format!("{} {stage} {fence}", self.run)).short();
            let lock = Lock { id, fence, owner: self.by.clone(), held: true, since: now, renewed: now };
            let bytes = serde_json::to_vec_pretty(&lock).unwrap_or_default();
            match self.store.replace(&key, bytes, version.as_deref()).await {
                Ok(version) => return Ok(Held { key, lock, version }),
                // Somebody else was faster: look again.
                Err(fault) if fault.kind == FaultKind::Conflict => watched = None,
                Err(fault) => return Err(fault.into()),
            }
        }
    }

    /// Gives back the lock of somebody who cannot, named by its id.
    ///
    /// # Errors
    ///
    /// Returns the lock as it is, where it is not held under that id, or the store's fault.
    pub async fn unlock(&self, application: &str, stage: &str, id: &str) -> Result<Result<Lock, Option<Lock>>, Fault> {
        let key = lock_key(application, stage);
        let Some((bytes, version)) = self.store.get(&key).await? else { return Ok(Err(None)) };
        let lock: Lock = serde_json::from_slice(&bytes)
            .map_err(|error| Fault::new(FaultKind::Mismatch, "GetObject", format!("{key} is not a lock: {error}")))?;
        if !lock.held || lock.id != id {
            return Ok(Err(Some(lock)));
        }
        let free = Lock { held: false, ..lock.clone() };
        self.store.replace(&key, serde_json::to_vec_pretty(&free).unwrap_or_default(), Some(&version)).await?;
        Ok(Ok(lock))
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::super::fake::{Fleet, on_the_clock};
    use super::*;

    async fn lock(engine: &Engine) -> Lock {
        let (bytes, _) = engine.store.get(&lock_key("app", "prod")).await.unwrap().unwrap();
        serde_json::from_slice(&bytes).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_lock_excludes_is_renewed_and_given_back() {
        let (one, _, _handle) = Fleet::new([]).engine();
        let (one, _heard) = on_the_clock(one);
        let other = Engine { run: "other".into(), ..one.clone() };
        let long = one.locked("app", "prod", Duration::ZERO, async |engine| {
            sleep(Duration::from_mins(10)).await;
            (engine.stop.is_requested(), engine.lease.unwrap().is_over())
        });
        let refused = async {
            sleep(Duration::from_mins(5)).await;
            let refused = other.locked("app", "prod", Duration::from_mins(1), async |_| ()).await;
            assert!(matches!(refused, Err(LockError::Taken(lock)) if lock.fence == 1));
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
        one.take_lock("app", "prod", Duration::ZERO).await.ok().unwrap();
        sleep(Duration::from_mins(1)).await;
        let soon = one.locked("app", "prod", Duration::ZERO, async |_| ()).await;
        assert!(matches!(soon, Err(LockError::Taken(_))), "it may live still");
        sleep(Duration::from_secs(90)).await;
        let begun = Instant::now();
        let next = Engine { run: "next".into(), ..one.clone() };
        let fence = next.locked("app", "prod", Duration::ZERO, async |engine| engine.lease.unwrap().fence).await;
        assert_eq!(fence.unwrap(), 2);
        assert!(begun.elapsed() > HEARTBEAT, "it was watched for more than a heartbeat");
        let mut told = String::new();
        while let Ok(event) = heard.try_recv() {
            let _ = write!(told, "{event:?}");
        }
        assert!(told.contains("taking over lock"), "{told}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_lost_the_lock_starts_nothing_more() {
        let (one, _, _handle) = Fleet::new([]).engine();
        let (one, _heard) = on_the_clock(one);
        let work = one.locked("app", "prod", Duration::ZERO, async |engine| {
            let id = lock(&engine).await.id;
            assert!(engine.unlock("app", "prod", "another").await.unwrap().is_err());
            engine.unlock("app", "prod", &id).await.unwrap().unwrap();
            sleep(HEARTBEAT * 2).await;
            let stopped = engine.stop.is_requested();
            sleep(LEASE).await;
            (stopped, engine.lease.unwrap().is_over())
        });
        assert_eq!(work.await.unwrap(), (true, true));
        assert!(!lock(&one).await.held, "what somebody else has written stays");
    }
}
