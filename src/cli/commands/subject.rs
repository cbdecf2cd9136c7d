//! What is released: a folder that is packaged now, or a release that is in the store already; and to whom.

use std::cell::LazyCell;
use std::collections::{BTreeMap, BTreeSet};

use crate::cli::error::CommandError;
use crate::cli::workspace::Run;
use crate::config::{ArtifactSource, Project, StageConfig, Template};
use crate::domain::release::Provenance;
use crate::domain::{Digest, Exit, Masks, Outcome, Release, Target, TargetId};
use crate::engine::{Engine, Package, PlanRequest, shared_folder};
use crate::event::Event;
use crate::package::explain::{self, Change, Difference};
use crate::package::{self, Archive, Packed, Places};
use crate::plan::{Origin, Secrets, Selection};

/// A release with its own template, which need not be the one in the folder.
pub struct Subject {
    /// The release.
    pub release: Release,
    template: Template,
    package: Option<Package>,
}

/// The targets of a stage that are meant.
pub struct Scope {
    /// Those that the release may come to.
    pub targets: Vec<Target>,
    /// Those that are pinned to another release.
    pub pinned: Vec<Target>,
    /// How they were selected; with the targets that the ledger or a rollout came to.
    pub selection: Selection,
}

impl Subject {
    /// Packages the folder. Nothing leaves this machine.
    pub fn of_folder(run: &Run<'_>) -> Result<Self, CommandError> {
        let package = build(run)?;
        let template = parse(&package.template)?;
        Ok(Self { release: package.release(), template, package: Some(package) })
    }

    /// Reads a release and its template from the store.
    pub async fn of_release(run: &Run<'_>, id: &str) -> Result<Self, CommandError> {
        let Run { project, engine, console, .. } = run;
        let release = engine.release(&project.application, id).await?;
        let release = release.ok_or_else(|| {
            CommandError::usage(format!("there is no release {id} of {}", project.application))
                .hint("`tenantry releases` lists those that there are")
        })?;
        let template = parse(&engine.template(&release).await?)?;
        // Its NoEcho parameters need not be those of the template in the folder.
        console.hide(project.secret_values(&template.no_echo().into_iter().collect()))?;
        Ok(Self { release, template, package: None })
    }

    /// Returns the selected targets of a stage, with the parameters that this release's template has. An older
    /// release may know fewer than the configuration, and must be releasable all the same.
    pub async fn scope(
        &self,
        run: &Run<'_>,
        stage: &StageConfig,
        selection: &Selection,
    ) -> Result<Scope, CommandError> {
        let Run { project, engine, .. } = run;
        let targets = project.targets(stage, &self.release, selection)?;
        let (mut targets, selection) = narrow(run, stage, targets, selection.clone()).await?;
        for name in self.template.fit(&mut targets).map_err(CommandError::usage)? {
            engine
                .events
                .notice(format!("the template of release {} has no parameter {name}: it is left out", self.release.id));
        }
        let elsewhere = |target: &Target| target.pin.as_ref().is_some_and(|pin| *pin != self.release.id);
        let (pinned, targets): (Vec<Target>, Vec<Target>) = targets.into_iter().partition(elsewhere);
        let meant = LazyCell::new(|| targets.iter().map(|target| target.id.tenant.as_str()).collect::<BTreeSet<_>>());
        // A tenant with an artifact of its own must not get everybody's by way of a release that has none.
        for (tenant, _, artifacts) in project.variants() {
            let lacks = |name: &&String| self.release.variants.get(&tenant).is_none_or(|own| !own.contains_key(*name));
            if let Some(name) = artifacts.keys().find(lacks).filter(|_| meant.contains(tenant.as_str())) {
                let message = format!("release {} has no `{name}` of tenant `{tenant}`'s own", self.release.id);
                return Err(CommandError::usage(message).hint("package again, or leave this tenant out"));
            }
        }
        Ok(Scope { targets, pinned, selection })
    }

    /// Returns what is to be planned for a stage.
    pub fn request(&self, stage: &StageConfig, scope: &Scope, origin: Origin, secrets: &Secrets) -> PlanRequest {
        PlanRequest {
            stage: stage.name.clone(),
            release: self.release.clone(),
            origin,
            gate: stage.gate.clone(),
            rollout: stage.rollout.clone(),
            nested: self.template.nested,
            body: None,
            options: stage.options.clone(),
            secrets: secrets.clone(),
            selection: scope.selection.clone(),
            pinned: scope.pinned.clone(),
        }
    }

    /// Says how the package differs from a release that is in the store.
    pub async fn differences(&self, engine: &Engine, other: &Release) -> Result<Vec<Difference>, CommandError> {
        let Some(package) = &self.package else { return Ok(Vec::new()) };
        let (old, new) = (objects(other), objects(&self.release));
        let contents: BTreeMap<&str, &[u8]> = package.contents(&self.release);
        let mut differences = Vec::new();
        for (name, (sha256, key)) in &new {
            match old.get(name) {
                Some((before, _)) if before == sha256 => {}
                Some((_, old_key)) => {
                    let before = engine.store.get(old_key).await?.map(|(bytes, _)| bytes).unwrap_or_default();
                    differences.push(explain::compare(name, &before, contents.get(key.as_str()).unwrap_or(&&[][..])));
                }
                None => differences.push(explain::alone(name, Change::Added)),
            }
        }
        let gone = old.keys().filter(|name| !new.contains_key(*name));
        differences.extend(gone.map(|name| explain::alone(name, Change::Removed)));
        Ok(differences)
    }

    /// Brings the package to the store, if it was made now.
    pub async fn publish(&mut self, engine: &Engine) -> Result<(), CommandError> {
        let Some(package) = self.package.take() else { return Ok(()) };
        engine.publish(package).await.map(drop).map_err(|fault| {
            let error = CommandError::from(fault);
            if engine.stop.is_requested() { error.exit(Exit::Detached) } else { error }
        })
    }

    /// Returns what covers the secrets of this release's template and of the configuration.
    pub async fn secrets(&self, project: &Project, engine: &Engine) -> Result<Secrets, CommandError> {
        // Whatever template is here: what a plan covers depends on what is released alone.
        let mut names = project.parameters_of_environment();
        names.extend(self.template.no_echo());
        let values = Masks::new(project.secret_values(&names));
        Ok(Secrets::new(names, values, engine.digest_key(&self.release.application).await?))
    }
}

/// Leaves of some targets those that the ledger or a rollout speaks of. What it came to is kept in the selection, so
/// that the same targets are meant when the plan is applied.
pub async fn narrow(
    run: &Run<'_>,
    stage: &StageConfig,
    mut targets: Vec<Target>,
    mut selection: Selection,
) -> Result<(Vec<Target>, Selection), CommandError> {
    let Run { project, engine, .. } = run;
    if selection.targets.is_some() || (selection.not_on.is_none() && selection.failed_in.is_none()) {
        return Ok((targets, selection));
    }
    if let Some(release) = &selection.not_on {
        if engine.release(&project.application, release.as_str()).await?.is_none() {
            let error = CommandError::usage(format!("there is no release {release} of {}", project.application));
            return Err(error.hint("`tenantry releases` lists those that there are"));
        }
        let ids = targets.iter().map(|target| target.id.clone()).collect();
        let ledger = engine.ledger(&project.application, &stage.name, ids).await?;
        let on = ledger
            .into_iter()
            .filter(|(_, entry)| entry.as_ref().and_then(|entry| entry.release.as_ref()) == Some(release));
        let on: BTreeSet<TargetId> = on.map(|(target, _)| target).collect();
        targets.retain(|target| !on.contains(&target.id));
    }
    if let Some(id) = &selection.failed_in {
        let is_over = |outcome: &Outcome| {
            matches!(outcome, Outcome::Deployed | Outcome::Unchanged | Outcome::Deleted | Outcome::Pinned { .. })
        };
        let failed: BTreeSet<TargetId> = if let Some(rollout) = engine.rollout(&project.application, id).await? {
            let ended = rollout.targets.into_iter();
            ended.filter(|ended| !is_over(&ended.outcome)).map(|ended| ended.target).collect()
        } else {
            // One that was killed has no record of its end: what its journal does not know to be over is meant.
            let history = engine.history(&project.application, id).await?;
            let history = history.ok_or_else(|| CommandError::usage(format!("there is no rollout {id}")))?;
            let over = |target: &TargetId| history.outcomes.get(target).is_some_and(is_over);
            let prepared = history.prepared.iter().map(|one| one.target.clone());
            prepared.chain(history.outcomes.keys().cloned()).filter(|target| !over(target)).collect()
        };
        targets.retain(|target| failed.contains(&target.id));
    }
    selection.targets = Some(targets.iter().map(|target| target.id.clone()).collect());
    Ok((targets, selection))
}

/// Returns everything that a release has, by name: digests and keys.
fn objects(release: &Release) -> BTreeMap<String, (Digest, String)> {
    let artifacts = release.all_artifacts().map(|(name, artifact)| (name, (artifact.sha256, artifact.key.clone())));
    let template = ("template".to_owned(), (release.template.sha256, release.template.key.clone()));
    artifacts.chain([template]).collect()
}

fn parse(template: &[u8]) -> Result<Template, CommandError> {
    let text = String::from_utf8_lossy(template);
    Template::parse(&text).map_err(|why| CommandError::usage(format!("the release's template cannot be read: {why}")))
}

/// Zips what the configuration names. Nothing leaves this machine.
fn build(run: &Run<'_>) -> Result<Package, CommandError> {
    let Run { project, engine, environment, packaging, .. } = run;
    let tell = |artifact: String, archive: &Archive| {
        let Archive { entries, sha256, .. } = *archive;
        let size = archive.bytes.len() as u64;
        if let Some(warning) = package::beyond_lambda(archive) {
            engine.events.notice(format!("{artifact} {warning}"));
        }
        engine.events.emit(Event::Packaged { artifact, entries, size, sha256 });
    };
    let zip =
        |sources: &BTreeMap<String, ArtifactSource>, whose: &str| -> Result<BTreeMap<String, Archive>, CommandError> {
            let mut zips = BTreeMap::new();
            for (name, source) in sources {
                let archive = packaging.package(&source.path, &source.include, &source.exclude)?;
                tell(format!("{name}{whose}"), &archive);
                zips.insert(name.clone(), archive);
            }
            Ok(zips)
        };
    let artifacts = zip(&project.artifacts, "")?;
    let mut variants = BTreeMap::new();
    for (tenant, account, sources) in project.variants() {
        let zips = zip(&sources, &format!(" of {tenant}"))?;
        variants.insert(tenant, (account, zips));
    }
    let url = |key: &str| engine.store.url(key);
    let folder = shared_folder(&project.store.prefix, &project.application);
    let places = Places { bucket: &project.store.bucket, folder: &folder, url: &url };
    let Packed { template, objects } = project.input.pack(packaging, &places)?;
    for (name, object) in &objects {
        tell(name.clone(), &object.archive);
    }
    Ok(Package {
        application: project.application.clone(),
        bucket: project.store.bucket.clone(),
        prefix: project.store.prefix.clone(),
        artifacts,
        variants,
        objects,
        template_extension: if package::is_json(&template) { "json" } else { "yaml" },
        template: template.into_bytes(),
        provenance: Provenance {
            commit: environment.commit.clone(),
            tool_version: env!("CARGO_PKG_VERSION").to_owned(),
            packaged: Some(engine.events.now()),
        },
    })
}
