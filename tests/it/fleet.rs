//! The binary against a server for many accounts: faults, expired credentials, wrong clocks, and a kill in the middle.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::bed::{Project, Ran, command, ran};
use crate::server::{Fleet, TOOLING, Weather, account, project};

pub fn of(tenants: usize, stage: &str) -> Project {
    let folder = Project::empty();
    project(folder.path(), tenants, stage);
    folder
}

pub fn tenantry(fleet: &Fleet, project: &Project, arguments: &[&str]) -> Ran {
    let mut command = command(project, None, arguments);
    command.envs(fleet.variables());
    ran(command)
}

pub fn counts(answer: &Value) -> &Value {
    &answer["stages"][0]["counts"]
}

/// Asserts that each of so many accounts was executed once.
pub fn assert_each_once(fleet: &Fleet, tenants: usize) {
    let mut accounts: Vec<String> = fleet.executions().into_iter().map(|(account, _)| account).collect();
    accounts.sort();
    let all = accounts.len();
    accounts.dedup();
    assert_eq!((all, accounts.len()), (tenants, tenants));
}

/// Asserts that twenty tenants are deployed, each by one execution, whatever the weather.
fn assert_twenty_deployed(weather: Weather) {
    let (fleet, project) = (Fleet::start(weather), of(20, "rollout: { max-concurrency: 20 }"));
    let answer = tenantry(&fleet, &project, &["deploy", "--output", "json"]).exits(0).json();
    assert_eq!(counts(&answer)["deployed"], 20, "{answer}");
    assert_each_once(&fleet, 20);
}

#[test]
fn half_of_all_calls_throttled_and_some_connections_reset_lose_no_target() {
    assert_twenty_deployed(Weather { throttled: 50, reset: 4, ..Weather::default() });
}

#[test]
fn slow_answers_are_waited_for() {
    assert_twenty_deployed(Weather { latency: Duration::from_millis(700), ..Weather::default() });
}

/// An account that takes few calls a second is asked more slowly, and holds nobody back for good.
#[test]
fn accounts_that_throttle_by_their_own_rate_are_waited_for() {
    assert_twenty_deployed(Weather { rate: 2.0, ..Weather::default() });
}

/// A census of the fleet: what somebody has changed by hand, where half of all calls are throttled.
#[test]
fn drift_is_found_over_a_fleet() {
    let (fleet, project) = (Fleet::start(Weather::default()), of(60, "rollout: { max-concurrency: 60 }"));
    tenantry(&fleet, &project, &["deploy"]).exits(0);
    fleet.weather(|weather| (weather.drifted, weather.throttled) = (vec![3, 41], 50));
    let status = tenantry(&fleet, &project, &["status", "--stage", "prod", "--drift"]).exits(0).stdout;
    assert!(status.contains("2 of 60 stacks drifted"), "{status}");
    for tenant in ["t00003", "t00041"] {
        let line = format!("drifted: {tenant}/eu-west-1: Function (AWS::Lambda::Function) modified: /MemorySize");
        assert!(status.contains(&line), "{status}");
    }
    assert_eq!(fleet.executions().len(), 60, "nothing is changed");
}

/// What has failed is tried once more, at the end.
#[test]
fn what_failed_is_tried_once_more_at_the_end_where_that_is_asked_for() {
    for (requeue, exit, deployed) in [(true, 0, 5), (false, 5, 4)] {
        let stage = format!("rollout: {{ failure-tolerance: 1, requeue: {requeue} }}");
        let (fleet, project) = (Fleet::start(Weather::default()), of(5, &stage));
        tenantry(&fleet, &project, &["deploy"]).exits(0);
        fleet.forget();
        fleet.weather(|weather| weather.failing_once = vec![0]);
        project.replace("template.yaml", "ZipFile: x", "ZipFile: y");
        let ran = tenantry(&fleet, &project, &["deploy", "--output", "json"]).exits(exit);
        assert_eq!(counts(&ran.json())["deployed"], deployed, "{}", ran.stdout);
        let accounts: Vec<String> = fleet.executions().into_iter().map(|(account, _)| account).collect();
        assert_eq!(accounts.len(), if requeue { 6 } else { 5 });
        assert_eq!(accounts.iter().filter(|of| **of == account(0)).count(), if requeue { 2 } else { 1 });
        assert_eq!(accounts.last() == Some(&account(0)), requeue, "{accounts:?}");
    }
}

/// What a failed creation leaves is in the way of another try, unless it may be deleted.
#[test]
fn a_creation_that_failed_is_tried_once_more_where_what_it_left_may_be_deleted() {
    for (leftovers, exit, executed) in [("keep", 5, 3), ("recreate", 0, 4)] {
        let stage =
            format!("rollout: {{ failure-tolerance: 1, requeue: true }}, stack-options: {{ leftovers: {leftovers} }}");
        let (fleet, project) = (Fleet::start(Weather { failing_once: vec![0], ..Weather::default() }), of(3, &stage));
        let ran = tenantry(&fleet, &project, &["deploy"]).exits(exit);
        assert_eq!(fleet.executions().len(), executed, "{}", ran.stdout);
        let why = "t00000/eu-west-1: not tried once more: stack app-t00000-stack-eu-west-1 is ROLLBACK_COMPLETE";
        assert_eq!(ran.stderr.contains(why), leftovers == "keep", "{}", ran.stderr);
    }
}

#[test]
fn tenants_with_the_canarys_label_are_first() {
    let stage = "rollout: { max-concurrency: 9, canary: { label: ring=canary } }";
    let (fleet, project) = (Fleet::start(Weather { failing: vec![4], ..Weather::default() }), of(6, stage));
    project.replace("tenants.yaml", "name: t00004,", "name: t00004, labels: { ring: canary },");
    tenantry(&fleet, &project, &["deploy"]).exits(1);
    assert_eq!(fleet.executions().iter().map(|(account, _)| account).collect::<Vec<_>>(), [&account(4)]);
}

/// As in CodeBuild's containers, in a GitHub workflow with OpenID Connect, and on a desk.
#[test]
fn credentials_come_from_a_container_a_web_identity_or_a_profile() {
    let (fleet, project) = (Fleet::start(Weather::default()), of(2, ""));
    let file = |name: &str, text: &str| {
        let path = project.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let profile = format!("[profile release]\naws_access_key_id = {TOOLING}\naws_secret_access_key = secret\n");
    let sources = [
        vec![
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("http://{}/credentials", fleet.address)),
            ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "token of the container".to_owned()),
        ],
        vec![
            ("AWS_WEB_IDENTITY_TOKEN_FILE", file("identity", "token of the identity")),
            ("AWS_ROLE_ARN", format!("arn:aws:iam::{TOOLING}:role/github")),
        ],
        vec![("AWS_CONFIG_FILE", file("profiles", &profile)), ("AWS_PROFILE", "release".to_owned())],
    ];
    for source in sources {
        let mut status = command(&project, None, &["plan", "--stage", "prod", "--output", "json"]);
        status.envs(fleet.variables()).envs(source);
        status.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
        ran(status).exits(0);
    }
}

/// Sessions are refused after three seconds, whatever their end was said to be; the rollout takes longer than that.
#[test]
fn a_session_that_expires_in_a_rollout_is_renewed() {
    let weather = Weather { session: Duration::from_secs(3), stack: Duration::from_secs(5), ..Weather::default() };
    let (fleet, project) = (Fleet::start(weather), of(6, "rollout: { max-concurrency: 3 }"));
    let answer = tenantry(&fleet, &project, &["deploy", "--output", "json"]).exits(0).json();
    assert_eq!(counts(&answer)["deployed"], 6, "{answer}");
    assert_each_once(&fleet, 6);
    assert!(fleet.calls()["AssumeRole"] > 6, "{:?}", fleet.calls());
}

/// A role that cannot be assumed for a while pauses its target.
#[test]
fn a_failed_renewal_pauses_a_target_and_fails_none() {
    let weather = Weather { session: Duration::from_secs(2), stack: Duration::from_secs(4), ..Weather::default() };
    let (fleet, project) = (Fleet::start(weather), of(4, "rollout: { max-concurrency: 4 }"));
    let (mut child, _) = begun(&fleet, &project, &["deploy"], "CREATE_IN_PROGRESS");
    fleet.weather(|weather| weather.locked = true);
    std::thread::sleep(Duration::from_secs(8));
    assert!(child.try_wait().unwrap().is_none(), "it waits");
    fleet.weather(|weather| weather.locked = false);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_each_once(&fleet, 4);
}

/// The network is away in the middle of a rollout: the store, the roles and all accounts.
#[test]
fn a_network_that_is_away_for_a_while_loses_no_target() {
    let weather = Weather { stack: Duration::from_secs(2), ..Weather::default() };
    let (fleet, project) = (Fleet::start(weather), of(12, "rollout: { max-concurrency: 4 }"));
    let (mut child, _) = begun(&fleet, &project, &["deploy"], "CREATE_COMPLETE");
    fleet.weather(|weather| weather.dark = true);
    std::thread::sleep(Duration::from_secs(15));
    let executed = fleet.executions().len();
    assert!(child.try_wait().unwrap().is_none() && executed < 12, "it waits");
    fleet.weather(|weather| weather.dark = false);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_each_once(&fleet, 12);
}

#[test]
fn a_clock_that_is_hours_wrong_is_no_obstacle() {
    for ahead in [3 * 3600, -3 * 3600] {
        let verify = "verify: [{ invoke: hello, expect: { statusCode: 200 } }]";
        let (fleet, project) = (Fleet::start(Weather { ahead, ..Weather::default() }), of(3, verify));
        let answer = tenantry(&fleet, &project, &["deploy", "--output", "json"]).exits(0).json();
        assert_eq!(counts(&answer)["deployed"], 3, "{answer}");
        assert_eq!(fleet.calls()["Invoke"], 6, "each refused once, before it ran");
        assert_eq!(fleet.calls()["sessions"], 3, "one session a tenant: {:?}", fleet.calls());
    }
}

/// How long the stacks take is learned from those that have ended, whatever the time is here.
#[test]
fn fewer_looks_are_needed_once_the_first_have_ended() {
    let weather = Weather { stack: Duration::from_secs(2), ahead: 3 * 3600, ..Weather::default() };
    let (fleet, project) = (Fleet::start(weather), of(40, "rollout: { max-concurrency: 10 }"));
    let answer = tenantry(&fleet, &project, &["deploy", "--output", "json"]).exits(0).json();
    assert_eq!(counts(&answer)["deployed"], 40, "{answer}");
    // Whoever knows nothing looks twice at least: the first look comes too early.
    assert!(fleet.calls()["DescribeStackEvents"] < 80, "{:?}", fleet.calls());
    assert!(fleet.delays().iter().filter(|late| late.as_secs_f64() < 1.0).count() > 30, "{:?}", fleet.delays());
}

#[test]
fn a_tenant_that_hangs_is_let_go_and_told() {
    let fleet = Fleet::start(Weather { hanging: vec![1], ..Weather::default() });
    let project = of(3, "rollout: { deadline: 3s }");
    let ran = tenantry(&fleet, &project, &["deploy", "--output", "json"]).exits(6);
    let answer = ran.json();
    assert_eq!((&counts(&answer)["deployed"], &counts(&answer)["detached"]), (&2.into(), &1.into()), "{answer}");
    assert!(ran.stdout.contains("CloudFormation goes on with the stack"), "{}", ran.stdout);
}

/// Safety rule 6, over a fleet: a kill in the middle of a rollout, and another process that goes on.
#[test]
fn two_hundred_targets_survive_a_kill_in_the_middle() {
    let weather = Weather { stack: Duration::from_secs(2), failing: vec![7], ..Weather::default() };
    let fleet = Fleet::start(weather);
    let project = of(200, "rollout: { max-concurrency: 40, failure-tolerance: 1 }");
    let (mut child, heard) = begun(&fleet, &project, &["deploy"], "CREATE_COMPLETE");
    let rollout = heard.lines().find_map(|line| line.strip_prefix("rollout ")).unwrap().to_owned();
    child.kill().unwrap();
    child.wait().unwrap();
    let before = fleet.executions().len();
    assert!(before > 0 && before < 200, "{before}");
    let refused = tenantry(&fleet, &project, &["resume", &rollout]).exits(4);
    let id = refused.stderr.split("unlock --stage prod ").nth(1).unwrap()[..12].to_owned();
    tenantry(&fleet, &project, &["unlock", "--stage", "prod", &id]).exits(0);
    let answer = tenantry(&fleet, &project, &["resume", &rollout, "--output", "json"]).exits(5).json();
    assert_eq!((&counts(&answer)["deployed"], &counts(&answer)["rolled-back"]), (&199.into(), &1.into()), "{answer}");
    assert_each_once(&fleet, 200);
}

/// Begins a run, and returns it once it has told something, with all that it has told.
pub fn begun(fleet: &Fleet, project: &Project, arguments: &[&str], until: &str) -> (Child, String) {
    let mut command = command(project, None, arguments);
    let mut child = command.envs(fleet.variables()).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut heard = String::new();
    for line in lines.by_ref().map(Result::unwrap) {
        heard.push_str(&line);
        heard.push('\n');
        if line.contains(until) {
            break;
        }
    }
    // What it tells from now on is read and left, so that it is never held up.
    std::thread::spawn(move || lines.for_each(drop));
    (child, heard)
}
