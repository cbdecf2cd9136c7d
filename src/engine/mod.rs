//! The rollout engine: it asks its ports, emits events, and is the only part that spawns tasks.
//!
//! One task a target; a sliding window over them; a failure of one never stops another that is running.

mod access;
mod apply;
mod approvals;
mod begun;
mod brakes;
mod causes;
mod destroy;
mod digest_key;
mod doctor;
mod drift;
mod elsewhere;
mod execute;
mod follow;
mod held;
mod journal;
mod ledger;
mod lock;
mod news;
mod operate;
mod pace;
mod patience;
mod plan;
mod publish;
mod recheck;
mod records;
mod recover;
mod rejoin;
mod rollout;
mod rollouts;
mod scratch;
mod shards;
mod status;
mod stop;
mod together;
mod usual;
mod verify;
mod watch;
mod window;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use access::Entered;
pub use apply::Finished;
pub use approvals::Recorded;
pub use doctor::{Check as DoctorCheck, Examination, Finding, Missing, Sample};
pub use journal::History;
pub use ledger::Entry as LedgerEntry;
pub use lock::{Lease, Lock, LockError};
pub use plan::{PlanRequest, Planning};
pub use publish::{Package, shared_folder};
pub use recover::Stuck;
pub use rollout::{Execution, Refusal, RolledOut};
pub use rollouts::{Ended as EndedTarget, Rollout as RolloutRecord};
pub use scratch::Scratch;
pub use status::TargetStatus;
pub use stop::{Stop, StopHandle};
pub use together::Together;

use crate::domain::lifecycle::{State, Step, next};
use crate::domain::{Identity, Outcome, TargetId};
use crate::event::{Event, Events};
use crate::ports::{Accounts, Store};

/// Everything that a run needs of the world.
#[derive(Clone)]
pub struct Engine {
    /// The way into tenants' accounts.
    pub accounts: Arc<dyn Accounts>,
    /// The artifact bucket.
    pub store: Arc<dyn Store>,
    /// Where events go.
    pub events: Events,
    /// Says when to stop.
    pub stop: Stop,
    /// What tells this run's requests from those of others; random.
    pub run: String,
    /// Who runs it.
    pub by: Identity,
    /// The lock that this run holds, if it does: nothing is executed after it may be somebody else's.
    pub lease: Option<Lease>,
    /// What this run shares with others, where it executes a shard of a plan.
    pub together: Option<Arc<Together>>,
}

impl Engine {
    /// Returns the number of the lock that this run holds; 0 without one.
    fn fence(&self) -> u64 {
        self.lease.as_ref().map_or(0, |lease| lease.fence)
    }

    /// Says why nothing more may be started from now on, if so; waits while that is in doubt.
    pub async fn halted(&self) -> Option<&'static str> {
        if let Some(lease) = &self.lease {
            tokio::select! {
                biased;
                is_lost = lease.is_lost(|| self.events.now()) => if is_lost { return Some("the stage's lock is lost") },
                () = self.stop.requested() => {}
            }
        }
        self.stop.is_requested().then_some("the run was stopped")
    }
}

/// A target's way through its states, told to the reporters.
struct Progress {
    target: TargetId,
    state: State,
    events: Events,
}

impl Progress {
    fn new(target: &TargetId, state: State, events: &Events) -> Self {
        Self { target: target.clone(), state, events: events.clone() }
    }

    /// Takes a step.
    ///
    /// # Panics
    ///
    /// Panics where the step is illegal, which is a bug in the engine: no input leads there.
    fn take(&mut self, step: Step) {
        let to = next(self.state, step).unwrap_or_else(|illegal| panic!("{illegal}"));
        self.events.emit(Event::Moved { target: self.target.clone(), from: self.state, to });
        self.state = to;
    }

    /// Ends with an outcome.
    fn finish(mut self, outcome: Outcome) -> Outcome {
        self.take(Step::Finish);
        self.events.emit(Event::Finished { target: self.target, outcome: outcome.clone() });
        outcome
    }
}
