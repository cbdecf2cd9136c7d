//! What happens in a rollout, kept in the store while it happens, so that another machine can go on with it.
//!
//! Segments are written once, each under a key of its own: the lock's number, so that an owner that is late writes
//! nothing into a newer one's, and a count.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;

use super::patience::patiently;
use super::records::{covered, edited, written};
use super::window::{self, Flow};
use super::{Engine, Planning};
use crate::domain::{Digest, Fault, FaultKind, Identity, Outcome, TargetId};
use crate::event::{Event, Prepared, Timed};
use crate::plan::{Plan, Secrets};
use crate::ports::Store;

/// How often what has happened is written.
const EVERY: Duration = Duration::from_secs(5);
/// After so many events a segment is written at once.
const MOST: usize = 2000;
/// Segments that are read at a time.
const READS: usize = 64;

/// What is written before anything is executed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Begun {
    rollout: String,
    plan: Digest,
    stage: String,
    by: Identity,
    at: Timestamp,
    /// The lock that was taken over from an owner that was silent, if one was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    taken_over: Option<String>,
    prepared: Vec<Prepared>,
}

/// What is known of a rollout that was begun.
#[derive(Debug, Clone, PartialEq)]
pub struct History {
    /// The plan that it executes.
    pub plan: Digest,
    /// The stage.
    pub stage: String,
    /// Who has begun it.
    pub by: Identity,
    /// When it was begun first.
    pub begun: Timestamp,
    /// The change sets that it has executed or was about to execute, in their order.
    pub prepared: Vec<Prepared>,
    /// How targets have ended, as far as that was written.
    pub outcomes: BTreeMap<TargetId, Outcome>,
}

/// Returns with what the keys of a rollout's journal begin.
pub(super) fn prefix(application: &str, rollout: &str) -> String {
    format!("tenantry/{application}/rollouts/{rollout}/")
}

/// Tells whether a key is that of what was written before anything was executed.
pub(super) fn is_begun(key: &str) -> bool {
    key.ends_with("-begun.json")
}

/// Reads what a segment tells; nothing of one that has no events.
pub(super) fn lines(key: &str, segment: &[u8]) -> Result<Vec<Timed>, Fault> {
    if is_begun(key) || key.contains("-again-") {
        return Ok(Vec::new());
    }
    let line = |line| serde_json::from_slice(line).map_err(|error| unreadable(key, &error));
    segment.split(|byte| *byte == b'\n').map(line).collect()
}

fn unreadable(key: &str, error: &serde_json::Error) -> Fault {
    edited(key, &format!("it cannot be read: {error}"))
}

/// Writes segments.
struct Journal {
    store: Arc<dyn Store>,
    prefix: String,
    number: u32,
    secrets: Secrets,
    pending: Vec<Timed>,
    /// A segment whose writing was begun.
    segment: Option<Vec<u8>>,
}

/// Writes an object once, and tells whether what stands there is it: an answer may have been lost.
async fn put_ours(store: &dyn Store, key: &str, bytes: &[u8]) -> Result<bool, Fault> {
    Ok(store.put_once(key, bytes.to_vec()).await? || store.get(key).await?.is_some_and(|(found, _)| found == bytes))
}

impl Journal {
    /// Writes what is pending. Where that fails, the same segment is written next time.
    async fn flush(&mut self) -> Result<(), Fault> {
        if self.segment.is_none() && !self.pending.is_empty() {
            // What tenants' stacks say can repeat a parameter.
            let line = |event: Timed| covered(&event, &self.secrets).to_string();
            let lines: Vec<String> = self.pending.drain(..).map(line).collect();
            self.segment = Some(lines.join("\n").into_bytes());
        }
        if let Some(segment) = &self.segment {
            let key = format!("{}{:06}.jsonl", self.prefix, self.number);
            let is_ours = put_ours(self.store.as_ref(), &key, segment).await?;
            self.number += 1;
            // Where another segment stands already, this one gets the next number.
            if is_ours {
                self.segment = None;
            }
        }
        Ok(())
    }

    /// Takes what comes and writes it now and then, for ever.
    async fn keep(&mut self, heard: &mut UnboundedReceiver<Timed>, engine: &Engine) -> Infallible {
        let mut told = false;
        loop {
            // What cannot be written now is written later, and nobody is asked without a pause.
            let most = if self.segment.is_some() { usize::MAX } else { MOST };
            let _ = timeout(EVERY, async {
                while self.pending.len() < most {
                    match heard.recv().await {
                        Some(event) => self.pending.push(event),
                        None => std::future::pending().await,
                    }
                }
            })
            .await;
            if let Err(fault) = self.flush().await
                && !std::mem::replace(&mut told, true)
            {
                engine.events.notice(format!("the journal cannot be written for now: {fault}"));
            }
        }
    }
}

impl Engine {
    /// Returns with what the keys begin that this process writes and no other.
    fn place(&self, application: &str, rollout: &str) -> String {
        let shard = self.together.as_ref().map(|together| together.place()).unwrap_or_default();
        format!("{}{:06}-{shard}", prefix(application, rollout), self.fence())
    }

    /// Writes down what is about to be executed.
    pub(super) async fn begin_journal(&self, rollout: &str, planning: &Planning) -> Result<(), Fault> {
        let content = &planning.plan.content;
        let prepared = planning.ready.iter().map(|ready| Prepared {
            target: ready.target.id.clone(),
            stack_id: ready.stack_id.clone(),
            change_set: ready.change_set.clone(),
        });
        let begun = Begun {
            rollout: rollout.to_owned(),
            plan: planning.plan.digest,
            stage: content.stage.clone(),
            by: self.by.clone(),
            at: self.events.now(),
            taken_over: self.lease.as_ref().and_then(|lease| lease.taken_over.clone()),
            prepared: prepared.collect(),
        };
        let key = format!("{}000000-begun.json", self.place(&content.application, rollout));
        if put_ours(self.store.as_ref(), &key, &written(&begun)).await? {
            return Ok(());
        }
        let why = format!("{key} is there already: was the stage's lock deleted by hand?");
        Err(Fault::new(FaultKind::Conflict, "PutObject", why))
    }

    /// Writes down that a target's change set is about to be executed for the second time of the rollout.
    pub(super) async fn prepare_again(&self, plan: &Plan, rollout: &str, prepared: &Prepared) -> Result<(), Fault> {
        let Prepared { target, change_set, .. } = prepared;
        let (folder, fence) = (prefix(&plan.content.application, rollout), self.fence());
        let place = Digest::of(format!("{target} {change_set}")).short();
        let key = format!("{folder}{fence:06}-again-{place}.json");
        self.store.put_once(&key, written(prepared)).await.map(drop)
    }

    /// Does work with everything that it tells kept in the store.
    pub(super) async fn journalled<T>(
        &self,
        application: &str,
        rollout: &str,
        secrets: &Secrets,
        work: impl AsyncFnOnce(Engine) -> T,
    ) -> T {
        let (sender, mut heard) = unbounded_channel();
        let engine = Engine { events: self.events.also_to(sender), ..self.clone() };
        let mut journal = Journal {
            store: self.store.clone(),
            prefix: self.place(application, rollout),
            number: 1,
            secrets: secrets.clone(),
            pending: Vec::new(),
            segment: None,
        };
        let result = tokio::select! {
            biased;
            result = work(engine) => result,
            never = journal.keep(&mut heard, self) => match never {},
        };
        while let Ok(event) = heard.try_recv() {
            journal.pending.push(event);
        }
        // What was begun to be written, and then the rest.
        for _ in 0..2 {
            if let Err(fault) = journal.flush().await {
                self.events.notice(format!("the end of the journal could not be written: {fault}"));
            }
        }
        result
    }

    /// Reads what is known of a rollout; none where it was never begun.
    ///
    /// # Errors
    ///
    /// Returns the store's fault.
    pub async fn history(&self, application: &str, rollout: &str) -> Result<Option<History>, Fault> {
        self.hear(application, rollout, |_| {}).await
    }

    /// Reads the same, with all that was told, in its order.
    ///
    /// # Errors
    ///
    /// Returns the store's fault.
    pub async fn told(&self, application: &str, rollout: &str) -> Result<Option<(History, Vec<Timed>)>, Fault> {
        let mut told = Vec::new();
        let history = self.hear(application, rollout, |one| told.push(one.clone())).await?;
        // Those of shards happened side by side.
        told.sort_by_key(|one: &Timed| one.time);
        Ok(history.map(|history| (history, told)))
    }

    /// Reads segments, in the order of their keys.
    pub(super) async fn segments(&self, keys: Vec<String>) -> Result<Vec<(String, Vec<u8>)>, Fault> {
        let read = |key: String| {
            let (store, stop) = (self.store.clone(), self.stop.clone());
            async move { patiently(&stop, || store.get(&key)).await.map(|found| (key, found)) }
        };
        let stopped = |_| Err(Fault::new(FaultKind::Unreachable, "GetObject", "the run was stopped"));
        let mut segments = Vec::new();
        for result in window::run(keys, READS, &self.stop, read, |_| Flow::Start).await {
            let (key, found) = result.unwrap_or_else(stopped)?;
            segments.extend(found.map(|(bytes, _)| (key, bytes)));
        }
        Ok(segments)
    }

    /// Reads what is known of a rollout, and lets somebody hear all that was told.
    async fn hear(
        &self,
        application: &str,
        rollout: &str,
        mut each: impl FnMut(&Timed),
    ) -> Result<Option<History>, Fault> {
        let mut history: Option<History> = None;
        let (mut outcomes, mut prepared) = (BTreeMap::new(), Vec::new());
        let folder = prefix(application, rollout);
        let mut keys = patiently(&self.stop, || self.store.list(&folder)).await?;
        if let Some(together) = &self.together {
            // `FENCE-SHARD-…` or `FENCE-again-…`: a shard has nothing to learn from what others have executed.
            let shard = together.shard_place();
            keys.retain(|key| {
                let rest = key.strip_prefix(&folder).and_then(|name| name.split_once('-')).map(|(_, rest)| rest);
                rest.is_some_and(|rest| rest.starts_with(&shard) || rest.starts_with("again-"))
            });
        }
        for (key, bytes) in self.segments(keys).await? {
            let wrong = |error: serde_json::Error| unreadable(&key, &error);
            if key.contains("-again-") {
                prepared.push(serde_json::from_slice(&bytes).map_err(wrong)?);
                continue;
            }
            if is_begun(&key) {
                let begun: Begun = serde_json::from_slice(&bytes).map_err(wrong)?;
                prepared.extend(begun.prepared);
                let Begun { plan, stage, at, by, .. } = begun;
                let first = History { plan, stage, by, begun: at, prepared: Vec::new(), outcomes: BTreeMap::new() };
                let history = history.get_or_insert(first);
                history.begun = history.begun.min(at);
                continue;
            }
            for told in lines(&key, &bytes)? {
                each(&told);
                match told.event {
                    Event::Finished { target, outcome } => _ = outcomes.insert(target, outcome),
                    Event::Prepared { prepared: one } => prepared.push(one),
                    _ => {}
                }
            }
        }
        Ok(history.map(|history| History { prepared, outcomes, ..history }))
    }
}
