//! `tenantry bootstrap`: the accounts around a release, set up by the engine that releases.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::PathBuf;

use super::accounts::{deploy_once, give, in_tooling, tenant_target, texts};
use super::dismantle::remove;
use super::tooling::{Change, deploy_tooling};
use crate::cli::args::{Args, BootstrapPart, PartName, Sure};
use crate::cli::error::CommandError;
use crate::cli::site::Site;
use crate::cli::workspace::{artifact_store, visit};
use crate::config::{Edited, Files, StoreConfig, TenantAccount};
use crate::domain::{AccountId, Digest, Exit, Region, Target};
use crate::infra::{Part, check_program};
use crate::ports::Store as _;
use crate::report::text::{GOOD, styled};

/// Prints a template.
pub fn template(part: PartName) -> Result<Exit, CommandError> {
    anstream::stdout().write_all(part.part().template().as_bytes())?;
    Ok(Exit::Done)
}

/// Sets one kind of account up.
pub async fn bootstrap(args: &Args, files: &Files, part: BootstrapPart) -> Result<Exit, CommandError> {
    match part {
        BootstrapPart::Template { part } => template(part),
        BootstrapPart::Remove { part, delete_data, confirm } => {
            remove(Site::open(args, files, None).await?, part.part(), &delete_data, confirm).await
        }
        BootstrapPart::Tooling { region, change_mode, sure } => {
            let region = region.map(Region::new).transpose().map_err(|error| CommandError::usage(error.to_string()))?;
            tooling(Site::open(args, files, region).await?, change_mode, sure).await
        }
        BootstrapPart::Tenant { names, sure } => tenants(Site::open(args, files, None).await?, &names, sure).await,
        BootstrapPart::Pipeline { connection, repository, branch, build_command, binary, dev, prod, sure } => {
            let parameters = [
                ("ConnectionArn", connection),
                ("Repository", repository),
                ("Branch", branch),
                ("BuildCommand", build_command),
                ("DevStage", dev),
                ("ProdStage", prod),
            ];
            with_tools(args, files, Part::Pipeline, parameters.into(), binary, sure).await
        }
        BootstrapPart::Fleet { binary, sure } => with_tools(args, files, Part::Fleet, Vec::new(), binary, sure).await,
        BootstrapPart::Github {
            repository,
            branch,
            pull_requests,
            environment,
            approval_environment,
            provider,
            sure,
        } => {
            let subject = |rest: String| format!("repo:{repository}:{rest}");
            let mut plans = vec![subject(format!("ref:refs/heads/{branch}"))];
            plans.extend(pull_requests.then(|| subject("pull_request".into())));
            let releases = environment.iter().map(|name| subject(format!("environment:{name}")));
            let parameters = vec![
                ("PlanSubjects", plans.join(",")),
                ("ReleaseSubjects", releases.collect::<Vec<_>>().join(",")),
                ("ApproveSubjects", subject(format!("environment:{approval_environment}"))),
                ("ProviderArn", provider),
                ("Repository", repository.clone()),
            ];
            let site = Site::open(args, files, None).await?;
            let target = in_tooling(&site, Part::Github, "github", texts(parameters))?;
            one(site, Part::Github, target, sure).await
        }
    }
}

impl PartName {
    fn part(self) -> Part {
        match self {
            Self::Tooling => Part::Tooling,
            Self::Tenant => Part::Tenant,
            Self::Pipeline => Part::Pipeline,
            Self::Github => Part::Github,
            Self::Fleet => Part::Fleet,
        }
    }
}

/// Sets the tooling account up, and writes its bucket and key into a configuration that has none yet.
async fn tooling(site: Site, change_mode: bool, sure: Sure) -> Result<Exit, CommandError> {
    let wanted: BTreeSet<AccountId> = site.accounts.tenants.iter().map(|tenant| tenant.account.clone()).collect();
    site.conduct(
        async |site| {
            let (target, end) =
                deploy_tooling(site, Change::All { change_mode }, &wanted, &BTreeSet::new(), sure).await?;
            let mut edited = None;
            if end.exit == Exit::Done {
                edited = site.remember_store(&target).await?;
            }
            Ok((end, edited))
        },
        |console, (end, edited)| {
            give(console, end, |lines| {
                if let Some(Edited { path, .. }) = &edited {
                    lines.push(format!("{} bucket and key in {}", styled(GOOD, "wrote"), path.display()));
                }
            })
        },
    )
    .await
}

/// Sets tenants' accounts up.
async fn tenants(site: Site, names: &[String], sure: Sure) -> Result<Exit, CommandError> {
    let unknown = names.iter().find(|name| site.accounts.tenant(name).is_none());
    if let Some(unknown) = unknown {
        return Err(CommandError::usage(format!("there is no tenant `{unknown}`")));
    }
    let is_chosen = |tenant: &&TenantAccount| {
        if names.is_empty() { tenant.closed.is_none() } else { names.contains(&tenant.name) }
    };
    let chosen = site.accounts.tenants.iter().filter(is_chosen);
    let targets = chosen.map(|tenant| tenant_target(&site, tenant)).collect::<Result<Vec<_>, _>>()?;
    site.conduct(
        async |site| deploy_once(site, Part::Tenant, targets, sure).await,
        |console, end| give(console, end, |_| {}),
    )
    .await
}

/// Sets up what runs builds, with this very binary and the steps of a build beside it.
async fn with_tools(
    args: &Args,
    files: &Files,
    part: Part,
    mut parameters: Vec<(&'static str, String)>,
    binary: Option<PathBuf>,
    sure: Sure,
) -> Result<Exit, CommandError> {
    let binary = static_binary(binary)?;
    let site = Site::open(args, files, None).await?;
    let store = site.store()?.clone();
    site.conduct(
        async |site| {
            let tools = site.publish_tools(&store, binary).await?;
            parameters.extend([
                ("Application", site.accounts.application.clone()),
                ("Bucket", store.bucket.clone()),
                ("KeyArn", store.kms_key.clone()),
                ("BinaryKey", tools.binary),
                ("BuildSpecKey", tools.steps),
            ]);
            let target = in_tooling(site, part, &site.accounts.application, texts(parameters))?;
            deploy_once(site, part, vec![target], sure).await
        },
        |console, end| give(console, end, |_| {}),
    )
    .await
}

async fn one(site: Site, part: Part, target: Target, sure: Sure) -> Result<Exit, CommandError> {
    site.conduct(
        async |site| deploy_once(site, part, vec![target], sure).await,
        |console, end| give(console, end, |_| {}),
    )
    .await
}

/// Reads the binary that builds will run, and refuses one that they could not.
fn static_binary(path: Option<PathBuf>) -> Result<Vec<u8>, CommandError> {
    let path = match path {
        Some(path) => path,
        None => std::env::current_exe()?,
    };
    let bytes = std::fs::read(&path)
        .map_err(|error| CommandError::usage(format!("cannot read the binary {}: {error}", path.display())))?;
    check_program(&bytes).map_err(|why| {
        let error = CommandError::usage(format!("{} {why}, and builds could not run it", path.display()));
        error.hint("build one with `make static` on Linux, and name it with --binary")
    })?;
    Ok(bytes)
}

/// What a pipeline runs, by the keys of the objects in the bucket.
struct Tools {
    binary: String,
    steps: String,
}

impl Site {
    /// Puts this binary and the steps of a build into the bucket, where a pipeline finds them by their digests.
    /// Administrators cannot use the key; the role that is there for it can.
    async fn publish_tools(&self, store: &StoreConfig, binary: Vec<u8>) -> Result<Tools, CommandError> {
        let role = format!("arn:{}:iam::{}:role/tenantry/tool/TenantryTool", store.region.partition(), store.account);
        let visit = visit(&self.environment, &self.caller, "bootstrap");
        let tooling = self.tooling.assuming(&role, &store.account, &store.region, visit).await?;
        let bucket = artifact_store(&tooling, store, &self.environment);
        let mut keys = Vec::new();
        for (bytes, extension) in [(binary, ""), (include_bytes!("../../../buildspec.yml").to_vec(), ".yml")] {
            let sha256 = Digest::of(&bytes);
            let key = format!("tenantry/tool/{sha256}{extension}");
            bucket.put_content(&key, bytes.into(), sha256, &|_| {}).await?;
            keys.push(key);
        }
        let [binary, steps] = keys.try_into().expect("there are two");
        Ok(Tools { binary, steps })
    }
}
