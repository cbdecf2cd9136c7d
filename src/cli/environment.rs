//! What the surroundings say: the job, the commit, the endpoints. The only place that reads variables by itself;
//! credentials, regions of profiles and proxies are found by the SDK, as by every AWS tool.

use std::env;
use std::path::PathBuf;
use std::process::Command;

use crate::config::Environment as Variables;
use crate::gate::Run;

/// What is known of the job that this process runs in.
#[derive(Clone, Default)]
pub struct Environment {
    /// The source commit.
    pub commit: Option<String>,
    /// The person or pipeline that started the job.
    pub initiator: Option<String>,
    /// The job's number or id.
    pub run: Option<String>,
    /// Another endpoint for S3 than AWS's.
    pub s3_endpoint: Option<String>,
    /// Certificates to trust beside the system's.
    pub ca_bundle: Option<PathBuf>,
    /// Whether a CI system runs the process: nobody is at the terminal, even where there is one.
    pub ci: bool,
    /// Whether that is GitHub Actions, which hides a value from its logs once it was told to.
    pub github: bool,
    /// The workflow run, where a token is given with which its reviewers can be asked for.
    pub github_run: Option<Run>,
    /// The pipeline that this build belongs to.
    pub pipeline: Option<String>,
    /// The execution's id.
    pub pipeline_execution: Option<String>,
    /// Where spans go, if that was asked for by OpenTelemetry's own variables.
    pub tracing: Option<Tracing>,
    /// All variables, for parameters that ask for one by name.
    pub variables: Variables,
}

impl Environment {
    /// Reads the variables of GitHub Actions, CodeBuild and AWS's tools.
    pub fn read() -> Self {
        let variable = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
        let first = |names: &[&str]| names.iter().find_map(|name| variable(name));
        Self {
            commit: first(&["TENANTRY_COMMIT", "GITHUB_SHA", "CODEBUILD_RESOLVED_SOURCE_VERSION"]).or_else(checked_out),
            initiator: first(&["TENANTRY_SOURCE_IDENTITY", "GITHUB_ACTOR", "CODEBUILD_INITIATOR"]),
            run: first(&["GITHUB_RUN_ID", "CODEBUILD_BUILD_NUMBER"]),
            s3_endpoint: first(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]),
            ca_bundle: variable("AWS_CA_BUNDLE").map(PathBuf::from),
            github: variable("GITHUB_ACTIONS").is_some_and(|value| value == "true"),
            github_run: variable("GITHUB_TOKEN").and_then(|token| {
                Some(Run {
                    api: variable("GITHUB_API_URL").unwrap_or_else(|| "https://api.github.com".to_owned()),
                    repository: variable("GITHUB_REPOSITORY")?,
                    id: variable("GITHUB_RUN_ID")?,
                    token,
                })
            }),
            tracing: tracing(variable),
            pipeline: variable("CODEBUILD_INITIATOR")
                .and_then(|name| name.strip_prefix("codepipeline/").map(str::to_owned)),
            pipeline_execution: variable("TENANTRY_PIPELINE_EXECUTION_ID"),
            variables: Variables(
                env::vars_os()
                    .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
                    .collect(),
            ),
            ci: variable("CI").is_some_and(|value| value != "false") || variable("CODEBUILD_BUILD_ID").is_some(),
        }
    }
}

/// Where spans go.
#[derive(Clone)]
pub struct Tracing {
    /// The collector's URL for traces.
    pub url: String,
    /// What it wants to be sent with them; often a secret.
    pub headers: Vec<(String, String)>,
    /// What this service is called.
    pub service: String,
    /// The trace and span that this run is a part of.
    pub parent: Option<String>,
}

/// Reads where spans go.
/// Source: <https://opentelemetry.io/docs/specs/otel/protocol/exporter/>
fn tracing(variable: impl Fn(&str) -> Option<String>) -> Option<Tracing> {
    let base = || variable("OTEL_EXPORTER_OTLP_ENDPOINT").map(|url| format!("{}/v1/traces", url.trim_end_matches('/')));
    let url = variable("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT").or_else(base)?;
    if variable("OTEL_SDK_DISABLED").is_some_and(|value| value == "true") {
        return None;
    }
    let headers = variable("OTEL_EXPORTER_OTLP_TRACES_HEADERS").or_else(|| variable("OTEL_EXPORTER_OTLP_HEADERS"));
    let pairs = headers.unwrap_or_default();
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=')?;
        Some((name.trim().to_lowercase(), value.trim().replace("%20", " ")))
    };
    Some(Tracing {
        url,
        headers: pairs.split(',').filter_map(pair).collect(),
        service: variable("OTEL_SERVICE_NAME").unwrap_or_else(|| "tenantry".to_owned()),
        parent: variable("TRACEPARENT"),
    })
}

/// Asks git for the commit, where there is one.
fn checked_out() -> Option<String> {
    let output = Command::new("git").args(["rev-parse", "--verify", "HEAD"]).output().ok()?;
    let commit = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !commit.is_empty()).then_some(commit)
}

/// Makes a text fit for a session name or a source identity: at most 64 characters of `[\w+=,.@-]`.
/// Source: <https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html>
pub fn session_text(text: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_+=,.@-".contains(c);
    text.chars().map(|c| if allowed(c) { c } else { '-' }).take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_names_hold_only_what_sts_allows() {
        assert_eq!(session_text("codepipeline/my pipeline"), "codepipeline-my-pipeline");
        assert_eq!(session_text("zoë@example.com"), "zo-@example.com");
        assert_eq!(session_text(&"x".repeat(100)).len(), 64);
    }
}
