//! What can be said on the command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::domain::{Digest, ReleaseId, Shard};
use crate::plan::Selection;

/// Release one version of a serverless application to every tenant account on AWS
#[derive(Debug, Parser)]
#[command(version = VERSION, about, max_term_width = 100, after_help = EXIT_CODES)]
pub struct Args {
    /// The configuration
    #[arg(long, global = true, default_value = "tenantry.yaml", env = "TENANTRY_CONFIG", value_name = "FILE")]
    pub config: PathBuf,
    /// A file with the list of tenants, in place of what the configuration says of them
    #[arg(long, global = true, env = "TENANTRY_TENANTS", value_name = "FILE")]
    pub tenants: Option<PathBuf>,
    /// Which stack of a CDK assembly is meant, where it has several; `check`, `package`, `deploy`, `status` and `destroy`
    /// take all in their order where none is named
    #[arg(long, global = true, env = "TENANTRY_STACK", value_name = "STACK")]
    pub stack: Option<String>,
    /// A folder for what was compressed, to be kept from build to build: only files that have changed are compressed again
    #[arg(long, global = true, env = "TENANTRY_CACHE", value_name = "FOLDER")]
    pub cache: Option<PathBuf>,
    /// How progress is told on standard error
    #[arg(long, global = true, default_value = "auto", env = "TENANTRY_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: LogFormat,
    /// How the answer is written on standard output
    #[arg(long, global = true, default_value = "text", value_name = "FORMAT")]
    pub output: Output,
    /// Append the answer as key=value lines to a file, as GITHUB_OUTPUT wants them
    #[arg(long, global = true, value_name = "FILE")]
    pub outputs_file: Option<PathBuf>,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// The version, the commit that it was built from where that is known, and for what.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("TENANTRY_BUILD"), ")");

const EXIT_CODES: &str = "\
Exit codes: 0 done, also when nothing had to change; 1 targets failed beyond the tolerance; 2 usage,
configuration or surroundings; 3 waiting for approval; 4 refused; 5 done, with failures within the tolerance;
6 detached or stopped, targets are still running or were not started";

/// How progress is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Bars on a terminal, lines elsewhere
    Auto,
    /// Lines
    Plain,
    /// Bars
    Progress,
    /// JSON, an event a line
    Json,
}

/// What starts machines for a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Machines {
    /// A state machine, which starts a build for each of them
    StepFunctions,
}

/// How the answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people
    Text,
    /// For machines
    Json,
    /// For pull requests and job summaries
    Markdown,
    /// The matrix of a job in GitHub Actions; of `shards` alone
    GithubMatrix,
    /// The matrix of a batch build in CodeBuild; of `shards` alone
    CodebuildBatch,
}

/// What to do.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Write a first tenantry.yaml for this folder
    Init,
    /// Check configuration and template, without any call to AWS
    Check,
    /// Print the JSON Schema of tenantry.yaml, for editors
    Schema,
    /// Print completions of the command line for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Write the manual's pages, `tenantry.1` and one a command
    Man {
        /// The folder; it is made where there is none
        folder: PathBuf,
    },
    /// Zip and upload artifacts and template, and record them as a release
    Package {
        /// Say why the release is another than the last one: which entries of which artifacts differ
        #[arg(long)]
        explain: bool,
    },
    /// Create a change set in every target of a stage, and print what they would do
    Plan {
        /// The stage
        #[arg(long)]
        stage: String,
        /// A release that is in the store already; the folder is packaged where none is given
        #[arg(long)]
        release: Option<String>,
        /// Plan it as `promote` does: it must have finished in the stage before
        #[arg(long, requires = "release")]
        promote: bool,
        #[command(flatten)]
        selectors: Selectors,
    },
    /// Approve the plan that a digest names
    Approve {
        /// The plan's digest
        digest: Digest,
        /// What to say about it
        #[arg(long)]
        comment: Option<String>,
        /// For how long the approval holds, as 4h; never longer than the stage's `expires`
        #[arg(long, value_name = "SPAN", value_parser = span)]
        expires: Option<Duration>,
        /// Take the reviews of this workflow run's environment, which `gate.github-environment` names
        #[arg(long, conflicts_with = "from_codepipeline")]
        from_github: bool,
        /// Take the answer of the pipeline's manual approval action, which has shown the plan's digest
        #[arg(long)]
        from_codepipeline: bool,
        /// The pipeline; that of this build where none is given
        #[arg(long, value_name = "NAME", requires = "from_codepipeline")]
        pipeline: Option<String>,
        /// The pipeline's execution; $TENANTRY_PIPELINE_EXECUTION_ID where none is given
        #[arg(long, value_name = "ID", requires = "from_codepipeline")]
        pipeline_execution: Option<String>,
    },
    /// Refuse the plan that a digest names
    Reject {
        /// The plan's digest
        digest: Digest,
        /// Why
        #[arg(long)]
        why: String,
    },
    /// Execute exactly the plan that a digest names
    Apply {
        /// The plan's digest
        digest: Digest,
        /// Execute only this part of the targets, as 3/8: the other parts are executed elsewhere, as one rollout
        #[arg(long, value_name = "I/N")]
        shard: Option<Shard>,
        /// Let machines execute it together, those of `tenantry bootstrap fleet`, and follow them to the end
        #[arg(long, value_name = "ENGINE", conflicts_with = "shard", requires = "shards")]
        engine: Option<Machines>,
        /// How many machines execute it together
        #[arg(long, value_name = "N", requires = "engine", value_parser = clap::value_parser!(u32).range(1..=i64::from(Shard::MOST)))]
        shards: Option<u32>,
        #[command(flatten)]
        way: Way,
    },
    /// Print the parts of a plan for machines that execute it together, as `--output github-matrix` or `codebuild-batch`
    Shards {
        /// How many
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(Shard::MOST)))]
        of: u32,
    },
    /// Go on with a rollout that was interrupted: follow what runs, execute what was approved and not begun
    Resume {
        /// The rollout
        rollout: String,
        /// Wait so long for the stage's lock, as 30m: the interrupted run may still have it
        #[arg(long, value_name = "SPAN", value_parser = span)]
        wait_for_lock: Option<Duration>,
    },
    /// Bring a release that has finished in the stage before to a stage: the same bytes
    Promote {
        /// The release
        release: String,
        /// The stage
        #[arg(long, value_name = "STAGE")]
        to: String,
        /// Promote it although it has not finished in the stage before; the plan says so
        #[arg(long)]
        skip_stage_check: bool,
        #[command(flatten)]
        selectors: Selectors,
        #[command(flatten)]
        way: Way,
    },
    /// Bring targets back to an older release
    Rollback {
        /// The release; the one before the present one where none is given
        #[arg(long, value_name = "RELEASE")]
        to: Option<String>,
        /// The stage; that of the selected tenants where none is given
        #[arg(long)]
        stage: Option<String>,
        #[command(flatten)]
        selectors: Selectors,
        #[command(flatten)]
        way: Way,
    },
    /// List the releases in the store, and which stages are on them
    Releases,
    /// Package, plan, pass the gate and apply, stage by stage
    Deploy {
        /// Only this stage; all in their order where none is given
        #[arg(long)]
        stage: Option<String>,
        #[command(flatten)]
        selectors: Selectors,
        #[command(flatten)]
        way: Way,
    },
    /// Show what each target runs
    Status {
        /// Only this stage
        #[arg(long)]
        stage: Option<String>,
        /// Let CloudFormation look for resources that were changed by hand
        #[arg(long)]
        drift: bool,
        #[command(flatten)]
        selectors: Selectors,
    },
    /// Look whether every target can be released to, for real: its role, its account, artifacts, change sets
    Doctor {
        /// Say instead which actions the template needs of the role that CloudFormation uses, and which of them that role
        /// lacks or has too many of; makes no call
        #[arg(long, conflicts_with_all = ["stage", "tenant", "label", "not_on", "failed_in"])]
        policy: bool,
        /// Only this stage
        #[arg(long)]
        stage: Option<String>,
        #[command(flatten)]
        selectors: Selectors,
    },
    /// Tell a rollout from its records: what failed first, when, and in which targets; or show a plan again
    Report {
        /// The rollout, whose name `apply` and `deploy` print when it begins, or a plan's digest
        #[arg(value_name = "ROLLOUT|DIGEST")]
        of: String,
        /// Write it as one HTML page
        #[arg(long, value_name = "FILE")]
        html: Option<PathBuf>,
        /// Write it as JUnit XML, a suite a wave and a case a target
        #[arg(long, value_name = "FILE")]
        junit: Option<PathBuf>,
        /// Append it in Markdown, as to $GITHUB_STEP_SUMMARY
        #[arg(long, value_name = "FILE")]
        summary: Option<PathBuf>,
        /// Print what failed as GitHub's annotations, at the lines of the template as it is here, on standard error
        #[arg(long)]
        annotations: bool,
    },
    /// Go on with rollbacks that have failed (UPDATE_ROLLBACK_FAILED)
    Recover {
        /// The stage
        #[arg(long)]
        stage: String,
        #[command(flatten)]
        selectors: Selectors,
        /// A resource whose rollback has failed and that is left as it is, named as it is shown (`Nested/Resource`); can be repeated
        #[arg(long, value_name = "RESOURCE")]
        skip: Vec<String>,
        /// Confirm by the stage's name, where nobody is at a terminal
        #[arg(long, value_name = "STAGE")]
        confirm: Option<String>,
    },
    /// Take the lock of a stage away from a run that is dead
    Unlock {
        /// The stage
        #[arg(long)]
        stage: String,
        /// The lock of this shard alone, as 3/8
        #[arg(long, value_name = "I/N")]
        shard: Option<Shard>,
        /// The lock's id
        id: String,
    },
    /// Set an account up, or bring what was set up to this version: its stack is planned and shown, and executed once that
    /// is confirmed
    Bootstrap {
        /// What is set up
        #[command(subcommand)]
        part: BootstrapPart,
    },
    /// Take tenants up, and let them go
    Tenant {
        /// What to do
        #[command(subcommand)]
        command: TenantCommand,
    },
    /// Delete the stacks of a stage's targets
    Destroy {
        /// The stage
        #[arg(long)]
        stage: String,
        #[command(flatten)]
        selectors: Selectors,
        /// Confirm by the stage's name, where nobody is at a terminal
        #[arg(long, value_name = "STAGE")]
        confirm: Option<String>,
    },
}

impl Command {
    /// Tells whether it works with the folder as it is here. What is in the store was built elsewhere, and need not be
    /// built again for being approved, promoted or applied. What live stacks say is covered by the template that is here.
    pub fn packages(&self) -> bool {
        !matches!(
            self,
            Self::Approve { .. }
                | Self::Reject { .. }
                | Self::Apply { .. }
                | Self::Resume { .. }
                | Self::Promote { .. }
                | Self::Rollback { .. }
                | Self::Releases
                | Self::Report { .. }
                | Self::Unlock { .. }
                | Self::Plan { release: Some(_), .. }
        )
    }

    /// Returns the command's name.
    pub fn name(&self) -> String {
        let all = format!("{self:?}");
        all.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default().to_lowercase()
    }
}

/// What `tenantry bootstrap` sets up.
#[derive(Debug, Clone, Subcommand)]
pub enum BootstrapPart {
    /// The tooling account: the key, the bucket, and what those who plan, release and approve may do
    Tooling {
        /// The region of the bucket; that of `store.kms-key` in the configuration where none is given
        #[arg(long)]
        region: Option<String>,
        /// Go from listed accounts to an organization, or the other way
        #[arg(long)]
        change_mode: bool,
        #[command(flatten)]
        sure: Sure,
    },
    /// Tenants' accounts: the roles by which plans and releases enter, and the one that CloudFormation uses
    Tenant {
        /// Names of tenants; all where none is given
        names: Vec<String>,
        #[command(flatten)]
        sure: Sure,
    },
    /// A pipeline of CodePipeline in the tooling account, which runs this very binary
    Pipeline {
        /// ARN of the connection to the repository
        #[arg(long, value_name = "ARN")]
        connection: String,
        /// The repository, as OWNER/NAME
        #[arg(long, value_name = "OWNER/NAME")]
        repository: String,
        /// The branch that is released
        #[arg(long, default_value = "main")]
        branch: String,
        /// What is run before packaging, as `sam build`
        #[arg(long, value_name = "COMMAND", default_value = "")]
        build_command: String,
        /// The binary that builds run: static, for Linux on x86-64; this one where none is given
        #[arg(long, value_name = "FILE")]
        binary: Option<PathBuf>,
        /// The stage that is released to without an approval
        #[arg(long, default_value = "dev", value_name = "STAGE")]
        dev: String,
        /// The stage that is planned, approved and then released to
        #[arg(long, default_value = "prod", value_name = "STAGE")]
        prod: String,
        #[command(flatten)]
        sure: Sure,
    },
    /// Machines that execute a plan together, for `apply --engine step-functions`: a state machine and a build in the tooling
    /// account, which runs this very binary
    Fleet {
        /// The binary that builds run: static, for Linux on x86-64; this one where none is given
        #[arg(long, value_name = "FILE")]
        binary: Option<PathBuf>,
        #[command(flatten)]
        sure: Sure,
    },
    /// Roles in the tooling account for workflows of GitHub: one that plans, one that releases, one that approves
    Github {
        /// The repository, as OWNER/NAME; where its tokens name owner and repository with their ids, too, as their `sub` has it
        #[arg(long, value_name = "OWNER/NAME")]
        repository: String,
        /// The branch whose jobs may plan
        #[arg(long, default_value = "main")]
        branch: String,
        /// Let jobs of pull requests plan, too: whoever can push a branch decides what they run
        #[arg(long)]
        pull_requests: bool,
        /// The environment whose jobs may release; can be repeated, as for dev
        #[arg(long, default_value = "production", value_name = "NAME")]
        environment: Vec<String>,
        /// The environment whose jobs may approve
        #[arg(long, default_value = "production-approval", value_name = "NAME")]
        approval_environment: String,
        /// ARN of GitHub's OIDC provider in the account; it is made where none is given
        #[arg(long, value_name = "ARN", default_value = "")]
        provider: String,
        #[command(flatten)]
        sure: Sure,
    },
    /// Print a template, for whoever deploys it otherwise
    Template {
        /// Which one
        part: PartName,
    },
    /// Delete what was set up in the tooling account; its bucket and its key stay, unless they are named
    Remove {
        /// What is deleted
        part: PartName,
        /// `Bucket`, with all artifacts and records, or `Key`, without which they cannot be read; can be repeated
        #[arg(long, value_name = "RESOURCE")]
        delete_data: Vec<String>,
        /// Confirm by the part's name, where nobody is at a terminal
        #[arg(long, value_name = "PART")]
        confirm: Option<String>,
    },
}

/// One of the things that are set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PartName {
    /// The tooling account
    Tooling,
    /// A tenant's account
    Tenant,
    /// The pipeline
    Pipeline,
    /// The roles for GitHub
    Github,
    /// The machines
    Fleet,
}

/// Whether a plan needs no confirmation.
#[derive(Debug, Clone, Copy, Default, ClapArgs)]
pub struct Sure {
    /// Execute it without asking
    #[arg(long)]
    pub yes: bool,
}

/// What is done with tenants.
#[derive(Debug, Clone, Subcommand)]
pub enum TenantCommand {
    /// Take a tenant up: set its account up, and add it to the list of tenants
    Add {
        /// Its name: letters, digits and hyphens
        name: String,
        /// Its account
        #[arg(long, value_name = "ID")]
        account: String,
        /// A label, as ring=canary; can be repeated
        #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
        label: Vec<(String, String)>,
        #[command(flatten)]
        sure: Sure,
    },
    /// Print the tenants with their accounts and labels as a file would list them, for `--tenants`
    List,
    /// Let a tenant go: delete the application's stacks in its account, then the roles, and take it out of the list
    Remove {
        /// Its name
        name: String,
        /// A resource that holds data and is deleted with its stack; can be repeated
        #[arg(long, value_name = "RESOURCE")]
        delete_data: Vec<String>,
        /// Leave an account alone that cannot be entered any more, as a closed one; the tenant is only forgotten
        #[arg(long)]
        account_is_gone: bool,
        /// Confirm by the tenant's name, where nobody is at a terminal
        #[arg(long, value_name = "NAME")]
        confirm: Option<String>,
    },
}

/// Which targets are meant; all of the stage where nothing is said.
#[derive(Debug, Clone, Default, ClapArgs)]
pub struct Selectors {
    /// Only this tenant; can be repeated
    #[arg(long, value_name = "NAME")]
    tenant: Vec<String>,
    /// Only tenants with this label; can be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    label: Vec<(String, String)>,
    /// Only targets that are not on this release
    #[arg(long, value_name = "RELEASE")]
    not_on: Option<String>,
    /// Only targets that failed in this rollout
    #[arg(long, value_name = "ROLLOUT")]
    failed_in: Option<String>,
}

impl From<Selectors> for Selection {
    fn from(selectors: Selectors) -> Self {
        Self {
            tenants: selectors.tenant,
            labels: selectors.label,
            not_on: selectors.not_on.as_deref().map(ReleaseId::from),
            failed_in: selectors.failed_in,
            targets: None,
        }
    }
}

fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("a label is selected as key=value")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// How the gate and the lock are passed without a terminal.
#[derive(Debug, Clone, Default, ClapArgs)]
pub struct Way {
    /// Approve the plan with exactly this digest; can be repeated
    #[arg(long, value_name = "DIGEST")]
    pub approve: Vec<Digest>,
    /// Wait so long for an approval, as 2h, instead of ending
    #[arg(long, value_name = "SPAN", value_parser = span)]
    pub wait_for_approval: Option<Duration>,
    /// Wait so long for another rollout of the stage to end, as 30m, instead of refusing
    #[arg(long, value_name = "SPAN", value_parser = span)]
    pub wait_for_lock: Option<Duration>,
}

fn span(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a length of time: write it as 10s, 5m or 1h30m");
    let span: jiff::SignedDuration = text.parse().map_err(|_| wrong())?;
    Duration::try_from(span).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_arguments_fit_together() {
        Args::command().debug_assert();
    }
}
