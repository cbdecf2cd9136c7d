//! What a rollout costs at 1 to 10,000 tenants, and what the same work costs with the AWS CLI in a parallel loop.
//!
//! The real binary runs against the fleet server on this machine, which answers after 100 ms and whose stacks take two
//! seconds. Only ratios within one run say anything: server and client share the cores.
//!
//! `cargo bench --bench fleet -- [TENANTS ...]`; with AWS_CLI naming an `aws` program, that is measured too.

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on has failed")]
#![allow(clippy::print_stdout, reason = "its result")]
#![allow(clippy::cast_precision_loss, reason = "counts are small")]
#![allow(clippy::format_collect, reason = "a list of names")]

#[path = "../tests/fleet/mod.rs"]
mod fleet;
mod measure;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use fleet::{Fleet, Weather, account, project, tenant};
use measure::{Cost, run};

/// As the binary has it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Requests that are in flight at most: the tool's own bound, and the concurrency of the rollouts measured.
const IN_FLIGHT: usize = 256;
const LATENCY: Duration = Duration::from_millis(100);
const STACK: Duration = Duration::from_secs(2);

fn weather() -> Weather {
    Weather { latency: LATENCY, stack: STACK, ..Weather::default() }
}

/// What is shipped, where it is named.
fn binary() -> String {
    std::env::var("TENANTRY").unwrap_or_else(|_| env!("CARGO_BIN_EXE_tenantry").to_owned())
}

/// How large the binary is, and how long it takes to begin.
fn start() {
    let begin = |argument: &str| {
        let mut times: Vec<Duration> = (0..21)
            .map(|_| {
                let mut command = Command::new(binary());
                command.arg(argument);
                run(command).wall
            })
            .collect();
        times.sort();
        times[times.len() / 2].as_secs_f64() * 1e3
    };
    let size = std::fs::metadata(binary()).unwrap().len() as f64 / 1e6;
    println!(
        "{size:.1} MB; `--version` takes {:.1} ms, `schema` {:.1} ms (medians of 21)\n",
        begin("--version"),
        begin("schema")
    );
}

fn release(fleet: &Fleet, folder: &Path) -> Cost {
    let mut command = Command::new(binary());
    command.args(["deploy", "--log-format", "plain"]).current_dir(folder).env_clear().envs(fleet.variables());
    run(command)
}

/// One row: a first release to so many tenants. Returns CPU a tenant in milliseconds.
fn rollout(tenants: usize, path: &mut Option<(Duration, Duration)>) -> f64 {
    let folder = tempfile::tempdir().unwrap();
    project(folder.path(), tenants, &format!("rollout: {{ max-concurrency: {IN_FLIGHT} }}"));
    let fleet = Fleet::start(weather());
    let cost = release(&fleet, folder.path());
    let calls = fleet.calls();
    let aws: u64 =
        calls.iter().filter(|(name, _)| !matches!(name.as_str(), "sessions" | "versions")).map(|(_, n)| n).sum();
    assert_eq!(fleet.executions().len(), tenants);
    let delays = fleet.delays();
    let median = delays[delays.len() / 2];
    let rounds = u32::try_from(tenants.div_ceil(IN_FLIGHT)).unwrap();
    // The first row tells how long one tenant takes. What of that is the tenant's own, and not what a run does once: its
    // calls one after the other with its line in the ledger, its stack, and the last look after the stack's end. How late
    // that comes differs, and is taken from each row.
    let (one, own) = *path.get_or_insert_with(|| {
        let looks = calls["DescribeStackEvents"];
        let own = u32::try_from(aws - calls["s3"] - looks - calls["GetCallerIdentity"]).unwrap() + 1 + 1;
        (cost.wall.saturating_sub(median), LATENCY * own + STACK)
    });
    let ideal = one + median + (own + median) * (rounds - 1);
    let cpu = cost.cpu.as_secs_f64() * 1000.0 / tenants as f64;
    println!(
        "| {tenants} | {:.2} s | {:.2} s | {:.2} | {cpu:.2} ms | {:.0} us | {:.1} | {:.2} | {:.0} MB | {:.2} s |",
        cost.wall.as_secs_f64(),
        ideal.as_secs_f64(),
        cost.wall.as_secs_f64() / ideal.as_secs_f64(),
        cost.cpu.as_secs_f64() * 1e6 / aws as f64,
        aws as f64 / tenants as f64,
        calls["AssumeRole"] as f64 / tenants as f64,
        cost.memory as f64 / 1e6,
        median.as_secs_f64(),
    );
    cpu
}

/// Tells the process that it is to make calls with the SDK, and how many.
const CALLS: &str = "BENCH_CALLS";

/// What a call costs with the SDK and nothing else: one client in one tenant's account, as many requests in flight.
fn sdk_alone() {
    let folder = tempfile::tempdir().unwrap();
    project(folder.path(), 1, "");
    let fleet = Fleet::start(weather());
    release(&fleet, folder.path());
    let calls = 40 * IN_FLIGHT;
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.env_clear().envs(fleet.variables()).env(CALLS, calls.to_string());
    let cost = run(command);
    println!(
        "\nThe SDK alone, calling DescribeStacks: {:.0} us of CPU a call",
        cost.cpu.as_secs_f64() * 1e6 / calls as f64
    );
}

async fn make_calls(calls: usize) {
    let config = aws_config::load_defaults(BehaviorVersion::latest()).await;
    let role = format!("arn:aws:iam::{}:role/CodePipelineCrossAccountRole", account(0));
    let role = aws_sdk_sts::Client::new(&config).assume_role().role_arn(role).role_session_name("bench");
    let session = role.send().await.unwrap().credentials.unwrap();
    let credentials =
        Credentials::new(session.access_key_id, session.secret_access_key, Some(session.session_token), None, "bench");
    let config = config.to_builder().credentials_provider(SharedCredentialsProvider::new(credentials)).build();
    let client = aws_sdk_cloudformation::Client::new(&config);
    let stack = format!("app-{}", tenant(0));
    let looks = (0..IN_FLIGHT).map(|_| {
        let (client, stack) = (client.clone(), stack.clone());
        tokio::spawn(async move {
            for _ in 0..calls / IN_FLIGHT {
                client.describe_stacks().stack_name(&stack).send().await.unwrap();
            }
        })
    });
    for look in looks.collect::<Vec<_>>() {
        look.await.unwrap();
    }
}

/// The same by assuming each role and running `aws cloudformation deploy`, sixteen at a time. Returns CPU a tenant in
/// milliseconds.
fn loop_over_the_cli(aws: &str, tenants: usize) -> f64 {
    let folder = tempfile::tempdir().unwrap();
    project(folder.path(), tenants, "");
    let fleet = Fleet::start(weather());
    let script = format!(
        "read -r AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN < <({aws} sts assume-role --role-arn \
         \"arn:aws:iam::$2:role/CodePipelineCrossAccountRole\" --role-session-name bench --output text \
         --query 'Credentials.[AccessKeyId,SecretAccessKey,SessionToken]')\n\
         export AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN\n\
         exec {aws} cloudformation deploy --template-file template.yaml --stack-name \"app-$1\"\n"
    );
    std::fs::write(folder.path().join("one.sh"), script).unwrap();
    let list: String = (0..tenants).map(|number| format!("{} {}\n", tenant(number), account(number))).collect();
    std::fs::write(folder.path().join("list"), list).unwrap();
    let mut command = Command::new("bash");
    command.args(["-c", "xargs -a list -L 1 -P 16 bash one.sh"]).current_dir(folder.path());
    command.envs(fleet.variables()).env("AWS_DEFAULT_REGION", "eu-west-1");
    let cost = run(command);
    assert_eq!(fleet.executions().len(), tenants);
    let calls: u64 = fleet.calls().iter().filter(|(name, _)| *name != "sessions").map(|(_, n)| n).sum();
    let cpu = cost.cpu.as_secs_f64() * 1000.0 / tenants as f64;
    println!("| {tenants} | {:.1} s | {cpu:.0} ms | {:.1} |", cost.wall.as_secs_f64(), calls as f64 / tenants as f64);
    cpu
}

/// At 50 % throttling no target is lost.
fn throttled(tenants: usize) {
    let folder = tempfile::tempdir().unwrap();
    project(folder.path(), tenants, &format!("rollout: {{ max-concurrency: {IN_FLIGHT} }}"));
    let fleet = Fleet::start(Weather { throttled: 50, ..weather() });
    let cost = release(&fleet, folder.path());
    assert_eq!(fleet.executions().len(), tenants);
    println!(
        "\nHalf of all calls throttled: {tenants} of {tenants} tenants deployed in {:.0} s.",
        cost.wall.as_secs_f64()
    );
}

fn main() {
    if let Some(calls) = std::env::var(CALLS).ok().and_then(|calls| calls.parse().ok()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        return runtime.block_on(make_calls(calls));
    }
    let sizes: Vec<usize> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let sizes = if sizes.is_empty() { vec![10, 100, 1000, 10_000] } else { sizes };
    start();
    println!(
        "| tenants | wall | ideal | wall / ideal | CPU a tenant | CPU a call | calls a tenant | AssumeRole a tenant | peak memory | end known after (median) |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    let mut path = None;
    let first = rollout(1, &mut path);
    let cpu: Vec<f64> = sizes.iter().map(|tenants| rollout(*tenants, &mut path)).collect();
    for (tenants, cpu) in sizes.iter().zip(&cpu).filter(|(tenants, _)| **tenants > 1) {
        let adds = (cpu * *tenants as f64 - first) / (tenants - 1) as f64;
        println!("\nEach of {tenants} tenants adds {adds:.2} ms to the {first:.0} ms that a run for one takes.");
    }
    sdk_alone();
    if sizes.contains(&100) {
        throttled(100);
    }
    if let Ok(aws) = std::env::var("AWS_CLI") {
        println!("\n| tenants, by the AWS CLI | wall | CPU a tenant | calls a tenant |\n|---|---|---|---|");
        let theirs = [10, 50].map(|tenants| loop_over_the_cli(&aws, tenants));
        let ours = cpu.last().copied().unwrap_or_default();
        println!("\nCPU a tenant, AWS CLI / Tenantry at the largest fleet: {:.0}", theirs[1] / ours);
    }
}
