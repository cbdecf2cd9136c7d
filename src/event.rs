//! All that a reporter can learn. Events are the only way from the engine to a reader: nothing that runs prints.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::domain::lifecycle::State;
use crate::domain::{Digest, Outcome, ReleaseId, StackEvent, Tally, TargetId};
use crate::plan::Plan;

/// What is being done to a set of targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Their accounts are entered and checked.
    Access,
    /// Change sets are created.
    Plan,
    /// Change sets are executed.
    Apply,
    /// Stacks are deleted.
    Destroy,
    /// Rollbacks that have failed go on.
    Recover,
    /// Stacks are looked at.
    Status,
    /// It is looked whether targets can be released to.
    Examine,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Event {
    /// An artifact was built from its files.
    Packaged {
        /// The artifact's name.
        artifact: String,
        /// Number of files in it.
        entries: usize,
        /// Size of the zip in bytes.
        size: u64,
        /// sha256 of the zip.
        sha256: Digest,
    },
    /// So much of an object has been sent.
    Uploading {
        /// The object's key.
        key: String,
        /// Bytes sent.
        sent: u64,
        /// Bytes in all.
        size: u64,
    },
    /// An object is in the store.
    Stored {
        /// The object's key.
        key: String,
        /// Size in bytes.
        size: u64,
        /// Whether it had to be sent; otherwise the store had it.
        sent: bool,
    },
    /// The release is complete in the store.
    Released {
        /// The release's name.
        release: ReleaseId,
        /// Whether it was there before.
        known: bool,
    },
    /// Work on a set of targets begins.
    PhaseStarted {
        /// What is done.
        phase: Phase,
        /// The stage they belong to.
        stage: String,
        /// How many there are.
        targets: usize,
    },
    /// A plan is ready for its gate.
    Planned {
        /// The plan.
        plan: Arc<Plan>,
    },
    /// Somebody at the terminal is asked.
    Question {
        /// What is asked.
        text: String,
    },
    /// The gate is open.
    Approved {
        /// Who opened it.
        by: String,
    },
    /// A plan is executed from now on.
    RolloutStarted {
        /// The rollout's name.
        rollout: String,
        /// The plan.
        plan: Digest,
        /// The number of the lock that it holds.
        fence: u64,
    },
    /// A change set is about to be executed that was not there when the rollout began.
    Prepared {
        /// Which.
        prepared: Prepared,
    },
    /// A wave of a rollout begins.
    WaveStarted {
        /// Its name.
        wave: String,
        /// How many targets it executes.
        targets: usize,
    },
    /// A wave has ended, and what it deployed is watched for a while.
    Baking {
        /// Its name.
        wave: String,
        /// How long, in seconds.
        seconds: u64,
    },
    /// A target went from one state to another.
    Moved {
        /// Which target.
        target: TargetId,
        /// Where it was.
        from: State,
        /// Where it is.
        to: State,
    },
    /// CloudFormation reports something about a target's stack.
    Stack {
        /// Which target.
        target: TargetId,
        /// What happened there; its texts are untrusted.
        stack_event: StackEvent,
    },
    /// A check of a deployed target holds.
    CheckPassed {
        /// Which target.
        target: TargetId,
        /// What was checked.
        check: String,
    },
    /// A target has its outcome.
    Finished {
        /// Which target.
        target: TargetId,
        /// How it ended.
        #[serde(flatten)]
        outcome: Outcome,
    },
    /// Work on a set of targets has ended.
    PhaseFinished {
        /// What was done.
        phase: Phase,
        /// The stage they belong to.
        stage: String,
        /// How the finished ones ended.
        tally: Tally,
    },
    /// Something that the reader should know.
    Notice {
        /// What it is.
        message: String,
    },
    /// The run was asked to stop; what is executing goes on in CloudFormation.
    Stopping {
        /// What asked for it.
        signal: String,
    },
}

/// The change set that a rollout executes in a target: from it follows the token by which its operation is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Prepared {
    /// The target.
    #[serde(flatten)]
    pub target: TargetId,
    /// ARN of its stack.
    pub stack_id: String,
    /// Name of the change set.
    pub change_set: String,
}

/// An event with its time, as reporters and journals get it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Timed {
    /// When it happened.
    pub time: Timestamp,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// Where the engine puts its events. Sending never waits, so that a slow reader cannot hold up a rollout.
#[derive(Clone)]
pub struct Events {
    sender: mpsc::UnboundedSender<Timed>,
    copy: Option<mpsc::UnboundedSender<Timed>>,
    clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

impl Events {
    /// Returns both ends; `clock` stamps the events.
    pub fn channel(clock: impl Fn() -> Timestamp + Send + Sync + 'static) -> (Self, mpsc::UnboundedReceiver<Timed>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self { sender, copy: None, clock: Arc::new(clock) }, receiver)
    }

    /// Sends an event. Nobody listening is no reason to stop.
    pub fn emit(&self, event: Event) {
        let event = Timed { time: self.now(), event };
        if let Some(copy) = &self.copy {
            let _ = copy.send(event.clone());
        }
        let _ = self.sender.send(event);
    }

    /// Returns the same, with a copy of each event for a journal.
    #[must_use]
    pub fn also_to(&self, copy: mpsc::UnboundedSender<Timed>) -> Self {
        Self { copy: Some(copy), ..self.clone() }
    }

    /// Sends what has happened elsewhere.
    pub fn pass_on(&self, event: Timed) {
        let _ = self.sender.send(event);
    }

    /// Sends a notice.
    pub fn notice(&self, message: impl Into<String>) {
        self.emit(Event::Notice { message: message.into() });
    }

    /// Returns the time by the clock that stamps the events.
    pub fn now(&self) -> Timestamp {
        (self.clock)()
    }
}
