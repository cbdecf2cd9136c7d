//! What can be said on the command line.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

use crate::domain::Digest;
use crate::plan::Selection;

/// Release one version of a serverless application to every tenant account on AWS
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 100, after_help = EXIT_CODES)]
pub struct Args {
    /// The configuration
    #[arg(long, global = true, default_value = "tenantry.yaml", env = "TENANTRY_CONFIG", value_name = "FILE")]
    pub config: PathBuf,
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

/// How the answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people
    Text,
    /// For machines
    Json,
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
    /// Zip and upload artifacts and template, and record them as a release
    Package,
    /// Create a change set in every target of a stage, and print what they would do
    Plan {
        /// The stage
        #[arg(long)]
        stage: String,
        /// A release that is in the store already; the folder is packaged where none is given
        #[arg(long)]
        release: Option<String>,
        #[command(flatten)]
        selectors: Selectors,
    },
    /// Execute exactly the plan that a digest names
    Apply {
        /// The plan's digest
        digest: Digest,
        #[command(flatten)]
        approval: Approval,
    },
    /// Package, plan, pass the gate and apply, stage by stage
    Deploy {
        /// Only this stage; all in their order where none is given
        #[arg(long)]
        stage: Option<String>,
        #[command(flatten)]
        selectors: Selectors,
        #[command(flatten)]
        approval: Approval,
    },
    /// Show what each target runs
    Status {
        /// Only this stage
        #[arg(long)]
        stage: Option<String>,
        #[command(flatten)]
        selectors: Selectors,
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

/// Which targets are meant; all of the stage where nothing is said.
#[derive(Debug, Clone, Default, ClapArgs)]
pub struct Selectors {
    /// Only this tenant; can be repeated
    #[arg(long, value_name = "NAME")]
    tenant: Vec<String>,
    /// Only tenants with this label; can be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    label: Vec<(String, String)>,
}

impl From<Selectors> for Selection {
    fn from(selectors: Selectors) -> Self {
        Self { tenants: selectors.tenant, labels: selectors.label }
    }
}

fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("a label is selected as key=value")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// What opens a gate without a terminal.
#[derive(Debug, Clone, ClapArgs)]
pub struct Approval {
    /// Approve the plan with exactly this digest; can be repeated
    #[arg(long, value_name = "DIGEST")]
    pub approve: Vec<Digest>,
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
