//! A server that speaks STS, CloudFormation, S3 and a little of Lambda for thousands of accounts, with set delays and faults on demand.
//!
//! It stands for what no emulator can do, and replaces none: what a call means is tested against the emulator. Stacks do
//! what a template of one function would make them do; the store is one bucket.

#![allow(dead_code, reason = "tests and benchmarks each use a part")]
#![allow(
    clippy::result_large_err,
    clippy::assigning_clones,
    clippy::format_collect,
    reason = "a test server, read by people"
)]

mod cloudformation;
mod s3;
mod wire;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

/// The account that owns the bucket.
pub const TOOLING: &str = "111111111111";
/// The bucket's key.
pub const KMS_KEY: &str = "arn:aws:kms:eu-west-1:111111111111:key/00000000-1111-2222-3333-444444444444";

/// What the server does, and what goes wrong there.
#[derive(Debug, Clone)]
pub struct Weather {
    /// How long each answer takes.
    pub latency: Duration,
    /// How long a stack's operation takes.
    pub stack: Duration,
    /// Requests to CloudFormation, and for roles, that are throttled, of a hundred.
    pub throttled: u64,
    /// How many requests a second CloudFormation takes in one account; more are throttled.
    pub rate: f64,
    /// Such requests whose connection is closed without an answer, of a hundred; half of them after their effect.
    pub reset: u64,
    /// How long a session is taken; then it is answered with ExpiredToken, whatever its end was said to be.
    pub session: Duration,
    /// Whether roles cannot be assumed for the time being.
    pub locked: bool,
    /// Whether every connection is closed without an answer, as if the network were away.
    pub dark: bool,
    /// How far ahead the server's clock is, in seconds.
    pub ahead: i64,
    /// Tenants (by number) whose stacks fail.
    pub failing: Vec<usize>,
    /// Tenants (by number) whose stacks fail, unless it is for the second time.
    pub failing_once: Vec<usize>,
    /// Tenants (by number) whose functions somebody has changed by hand.
    pub drifted: Vec<usize>,
    /// Tenants (by number) whose operations never end.
    pub hanging: Vec<usize>,
}

impl Default for Weather {
    fn default() -> Self {
        Self {
            latency: Duration::ZERO,
            stack: Duration::from_millis(500),
            throttled: 0,
            rate: f64::INFINITY,
            reset: 0,
            session: Duration::from_hours(1),
            locked: false,
            dark: false,
            ahead: 0,
            failing: Vec::new(),
            failing_once: Vec::new(),
            drifted: Vec::new(),
            hanging: Vec::new(),
        }
    }
}

/// Everything that the server knows.
pub struct World {
    weather: Mutex<Weather>,
    accounts: Mutex<HashMap<String, cloudformation::Stack>>,
    sessions: Mutex<HashMap<String, Instant>>,
    objects: Mutex<BTreeMap<String, s3::Object>>,
    /// What is left of each account's rate, and when that was.
    rates: Mutex<HashMap<String, (f64, Instant)>>,
    /// Calls by operation.
    calls: Mutex<BTreeMap<String, u64>>,
    /// Every execution that took effect: the account and the change set.
    executions: Mutex<Vec<(String, String)>>,
    /// For each account, how long after its stack's end that was seen first.
    seen: Mutex<HashMap<String, Duration>>,
    requests: AtomicU64,
}

/// A server that runs until it is dropped.
pub struct Fleet {
    pub world: Arc<World>,
    pub address: SocketAddr,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Fleet {
    /// Starts it on a free loopback port, on a thread of its own.
    pub fn start(weather: Weather) -> Self {
        let world = Arc::new(World {
            weather: Mutex::new(weather),
            accounts: Mutex::default(),
            sessions: Mutex::default(),
            objects: Mutex::default(),
            rates: Mutex::default(),
            calls: Mutex::default(),
            executions: Mutex::default(),
            seen: Mutex::default(),
            requests: AtomicU64::new(0),
        });
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let (tell, told) = std::sync::mpsc::channel();
        let served = world.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                tell.send(listener.local_addr().unwrap()).unwrap();
                tokio::select! {
                    () = wire::serve(listener, served) => {}
                    _ = stopped => {}
                }
            });
        });
        let address = told.recv().unwrap();
        Self { world, address, stop: Some(stop), thread: Some(thread) }
    }

    /// Changes the weather from now on.
    pub fn weather(&self, change: impl FnOnce(&mut Weather)) {
        change(&mut self.world.weather.lock().unwrap());
    }

    /// The variables with which AWS's tools reach the server.
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ENDPOINT_URL", format!("http://{}", self.address)),
            ("AWS_ACCESS_KEY_ID", TOOLING.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "secret".to_owned()),
            ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
            ("AWS_REGION", "eu-west-1".to_owned()),
        ]
    }

    /// Returns the size of the largest object in the bucket.
    #[allow(dead_code, reason = "for the benchmark of packaging")]
    pub fn largest_object(&self) -> usize {
        self.world.objects.lock().unwrap().values().map(s3::Object::size).max().unwrap_or_default()
    }

    /// Returns how often each operation was called.
    pub fn calls(&self) -> BTreeMap<String, u64> {
        self.world.calls.lock().unwrap().clone()
    }

    /// Returns every execution that took effect: the account and the change set.
    pub fn executions(&self) -> Vec<(String, String)> {
        self.world.executions.lock().unwrap().clone()
    }

    /// Returns how long after its stack's end each account's was seen first, in order.
    pub fn delays(&self) -> Vec<Duration> {
        let mut delays: Vec<Duration> = self.world.seen.lock().unwrap().values().copied().collect();
        delays.sort();
        delays
    }

    /// Forgets all counts, and what was seen.
    pub fn forget(&self) {
        self.world.calls.lock().unwrap().clear();
        self.world.seen.lock().unwrap().clear();
        self.world.executions.lock().unwrap().clear();
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.stop.take().map(|stop| stop.send(()));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl World {
    fn weather(&self) -> Weather {
        self.weather.lock().unwrap().clone()
    }

    /// The server's clock.
    fn now(&self) -> SystemTime {
        let ahead = self.weather.lock().unwrap().ahead;
        let shift = Duration::from_secs(ahead.unsigned_abs());
        if ahead < 0 { SystemTime::now() - shift } else { SystemTime::now() + shift }
    }

    /// Tells whether an account's calls are too many: what it may do in a second it may do at once.
    fn is_too_fast(&self, account: &str, rate: f64) -> bool {
        if rate.is_infinite() {
            return false;
        }
        let mut rates = self.rates.lock().unwrap();
        let (left, since) = rates.entry(account.to_owned()).or_insert((rate, Instant::now()));
        *left = (*left + rate * since.elapsed().as_secs_f64()).min(rate);
        *since = Instant::now();
        let is_too_fast = *left < 1.0;
        *left -= if is_too_fast { 0.0 } else { 1.0 };
        is_too_fast
    }

    /// Counts a call, and returns a number that is no other call's.
    fn count(&self, operation: &str) -> u64 {
        *self.calls.lock().unwrap().entry(operation.to_owned()).or_default() += 1;
        self.requests.fetch_add(1, Ordering::Relaxed)
    }
}

/// Returns the account id of a tenant by its number.
pub fn account(number: usize) -> String {
    format!("{:012}", 500_000_000_000 + number)
}

/// Returns the name of a tenant by its number.
pub fn tenant(number: usize) -> String {
    format!("t{number:05}")
}

/// Writes a project with so many tenants in one stage.
pub fn project(folder: &std::path::Path, tenants: usize, stage: &str) {
    use std::fmt::Write as _;
    let mut list = String::new();
    for number in 0..tenants {
        let _ = writeln!(list, "- {{ name: {}, account: \"{}\" }}", tenant(number), account(number));
    }
    let config = format!(
        "application: app\ntemplate: template.yaml\nstore: {{ bucket: bucket, kms-key: \"{KMS_KEY}\" }}\n\
         regions: [eu-west-1]\nstages:\n  prod: {{ {stage} }}\ntenants: tenants.yaml\n"
    );
    let template = "Resources:\n  Function:\n    Type: AWS::Lambda::Function\n    Properties: { Runtime: nodejs24.x, Code: { ZipFile: x } }\n";
    std::fs::write(folder.join("tenantry.yaml"), config).unwrap();
    std::fs::write(folder.join("tenants.yaml"), list).unwrap();
    std::fs::write(folder.join("template.yaml"), template).unwrap();
}
