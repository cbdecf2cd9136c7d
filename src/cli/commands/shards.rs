//! `tenantry shards`: the parts of a plan, for whatever starts a machine for each.

use std::fmt::Write as _;
use std::io::Write as _;

use serde_json::json;

use crate::cli::args::Output;
use crate::cli::error::CommandError;
use crate::domain::{Exit, Shard};

/// Prints the parts.
pub fn shards(of: u32, output: Output) -> Result<Exit, CommandError> {
    let parts: Vec<String> = Shard::all(of).map(|shard| shard.to_string()).collect();
    let text = match output {
        Output::Text => parts.join("\n"),
        Output::Markdown => parts.iter().map(|part| format!("- `{part}`")).collect::<Vec<_>>().join("\n"),
        Output::Json => json!(parts).to_string(),
        // One that fails stops no other: those share what has failed already.
        Output::GithubMatrix => json!({ "shard": parts }).to_string(),
        Output::CodebuildBatch => codebuild(&parts),
    };
    writeln!(anstream::stdout(), "{text}")?;
    Ok(Exit::Done)
}

/// The `batch` of a buildspec.
/// Source: <https://docs.aws.amazon.com/codebuild/latest/userguide/batch-build-buildspec.html>
fn codebuild(parts: &[String]) -> String {
    let mut text = "batch:\n  fast-fail: false\n  build-matrix:\n    dynamic:\n      env:\n        variables:\n          TENANTRY_SHARD:".to_owned();
    for part in parts {
        let _ = write!(text, "\n            - {part}");
    }
    text
}
