//! Which release each target is on: one small object a target, so that no two targets wait for each other.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::domain::{Digest, Fault, FaultKind, ReleaseId, TargetId};
use crate::ports::Store;

use super::Engine;
use super::records::{read, written};
use super::window::{self, Flow};

/// Former releases that a target's line remembers.
const REMEMBERED: usize = 20;

/// A target's line in the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The release that the target is on; none after its stack was deleted.
    pub release: Option<ReleaseId>,
    /// Since when.
    pub since: Timestamp,
    /// The plan that brought it there, if one did.
    pub plan: Option<Digest>,
    /// The number of the lock under which it was written: what is written late by an older owner is left out.
    #[serde(default)]
    pub fence: u64,
    /// The releases that it was on before, the latest last. Going back to one forgets those after it, so that
    /// going back twice does not lead to what was left.
    #[serde(default)]
    pub history: Vec<ReleaseId>,
}

impl Entry {
    /// Returns the line that follows this one when the target comes to another release.
    fn followed_by(&self, new: Entry) -> Entry {
        let mut history = self.history.clone();
        match new.release.as_ref().and_then(|release| history.iter().position(|old| old == release)) {
            Some(place) => history.truncate(place),
            None => history.extend(self.release.clone()),
        }
        let surplus = history.len().saturating_sub(REMEMBERED);
        history.drain(..surplus);
        Entry { history, fence: new.fence.max(self.fence), ..new }
    }

    /// Returns the releases that the target came to after one, the present one included.
    pub fn since<'a>(&'a self, release: &'a ReleaseId) -> impl Iterator<Item = &'a ReleaseId> {
        let after = self.history.iter().rposition(|old| old == release).map_or(self.history.len(), |place| place + 1);
        self.history[after..].iter().chain(&self.release).filter(move |other| *other != release)
    }

    /// Returns the release that the target was on before.
    pub fn previous(&self) -> Option<&ReleaseId> {
        self.history.last()
    }
}

/// Returns the key of a target's line.
pub fn key(application: &str, stage: &str, target: &TargetId) -> String {
    format!("tenantry/{application}/ledger/{stage}/{}/{}.json", target.tenant, target.region)
}

/// Writes a target's line, unless it names the release already. That of a stack that was just created is mostly the first,
/// and needs no look at an older one.
async fn write(store: &dyn Store, key: &str, entry: Entry, is_created: bool) -> Result<(), Fault> {
    if is_created {
        match store.replace(key, written(&entry), None).await {
            Err(fault) if fault.kind == FaultKind::Conflict => {}
            other => return other.map(drop),
        }
    }
    let known = read::<Entry>(store, key).await?;
    let entry = match &known {
        Some((known, _)) if known.release == entry.release => return Ok(()),
        Some((known, _)) if known.fence > entry.fence => {
            let why = format!("a newer rollout (lock {}) has written it", known.fence);
            return Err(Fault::new(FaultKind::Conflict, "PutObject", why));
        }
        Some((known, _)) => known.followed_by(entry),
        None => entry,
    };
    store.replace(key, written(&entry), known.as_ref().map(|(_, version)| version.as_str())).await.map(drop)
}

impl Engine {
    /// Writes into the ledger that a target is on a release (with a stack that was created for it, or not), or on none. A
    /// ledger that cannot be written is told, and does not make a deployed target a failed one.
    pub(super) async fn remember(
        &self,
        application: &str,
        stage: &str,
        target: &TargetId,
        release: Option<&ReleaseId>,
        plan: Option<Digest>,
        is_created: bool,
    ) {
        let entry = Entry {
            release: release.cloned(),
            since: self.events.now(),
            plan,
            fence: self.fence(),
            history: Vec::new(),
        };
        if let Err(fault) = write(self.store.as_ref(), &key(application, stage, target), entry, is_created).await {
            self.events.notice(format!("{target}: the ledger could not be written: {fault}"));
        }
    }

    /// Reads the lines of many targets.
    ///
    /// # Errors
    ///
    /// Returns the store's first fault.
    pub async fn ledger(
        &self,
        application: &str,
        stage: &str,
        targets: Vec<TargetId>,
    ) -> Result<Vec<(TargetId, Option<Entry>)>, Fault> {
        let look = |target: TargetId| {
            let (store, key) = (self.store.clone(), key(application, stage, &target));
            async move { read(store.as_ref(), &key).await.map(|found| (target, found.map(|(entry, _)| entry))) }
        };
        let stopped = |_| Err(Fault::new(FaultKind::Unreachable, "GetObject", "the run was stopped"));
        let found = window::run(targets, 64, &self.stop, look, |_| Flow::Start).await;
        found.into_iter().map(|result| result.unwrap_or_else(stopped)).collect()
    }

    /// Tells whether the ledger has targets on a release, each of them and at least one.
    ///
    /// # Errors
    ///
    /// Returns the store's first fault.
    pub async fn are_on(
        &self,
        application: &str,
        stage: &str,
        targets: Vec<TargetId>,
        release: &ReleaseId,
    ) -> Result<bool, Fault> {
        let lines = self.ledger(application, stage, targets).await?;
        let is_on = |entry: &Option<Entry>| entry.as_ref().and_then(|entry| entry.release.as_ref()) == Some(release);
        Ok(!lines.is_empty() && lines.iter().all(|(_, entry)| is_on(entry)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::scratch::Scratch;
    use super::*;

    fn on(release: &str) -> Entry {
        Entry { release: Some(release.into()), since: Timestamp::UNIX_EPOCH, plan: None, fence: 0, history: Vec::new() }
    }

    /// Whatever is believed of the stack: nothing that is in the ledger is lost.
    #[tokio::test]
    async fn a_line_that_is_there_is_gone_on_with_where_the_stack_is_new() {
        let store = Scratch::default();
        for (release, fence) in [("a", 1), ("b", 2), ("b", 3)] {
            write(&store, "line", Entry { fence, ..on(release) }, true).await.unwrap();
        }
        let (line, _) = read::<Entry>(&store, "line").await.unwrap().unwrap();
        assert_eq!(line, Entry { fence: 2, history: vec!["a".into()], ..on("b") });
        let late = write(&store, "line", Entry { fence: 1, ..on("c") }, true).await;
        assert_eq!(late.unwrap_err().kind, FaultKind::Conflict);
    }

    #[test]
    fn going_back_forgets_what_was_left() {
        let c = on("a").followed_by(on("b")).followed_by(on("c"));
        assert_eq!(c.previous(), Some(&"b".into()));
        let back = c.followed_by(on("b"));
        assert_eq!(back.previous(), Some(&"a".into()));
        assert_eq!(back.followed_by(on("a")).previous(), None);
        assert_eq!(back.followed_by(on("d")).previous(), Some(&"b".into()));
        let since =
            |entry: &Entry, release: &str| -> Vec<ReleaseId> { entry.since(&release.into()).cloned().collect() };
        assert_eq!(since(&c, "a"), ["b".into(), "c".into()]);
        assert_eq!(since(&c, "c"), []);
        assert_eq!(since(&c, "unknown"), ["c".into()]);
        let many = (0..40).fold(on("x"), |entry, number| entry.followed_by(on(&format!("r{number}"))));
        assert_eq!(many.history.len(), REMEMBERED);
    }
}
