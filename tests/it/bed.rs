//! The test bed: an emulator with its accounts, a copy of an example, and the binary with a clean environment.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// The Python of the emulator's virtual environment, made by `make bed`.
pub fn python() -> PathBuf {
    let home = std::env::var("HOME").unwrap_or_default();
    let cache = std::env::var("XDG_CACHE_HOME").unwrap_or_else(|_| format!("{home}/.cache"));
    let python = std::env::var("TENANTRY_BED_PYTHON")
        .map_or_else(|_| format!("{cache}/tenantry/bed/bin/python").into(), PathBuf::from);
    assert!(python.exists(), "{} is not there: run `make bed`", python.display());
    python
}

/// The repository's root.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// An emulator with one tooling account and three tenants. It ends with the test, however the test ends.
pub struct Bed {
    child: Option<Child>,
    /// How to reach it.
    pub facts: Value,
    folder: TempDir,
}

impl Bed {
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// Starts it with further arguments of `bed.py`.
    ///
    /// Between the choice of a free port and its use another process may take it: then it is tried again.
    pub fn with(arguments: &[&str]) -> Self {
        let mut tries = (0..3).map(|_| Self::try_start(arguments));
        tries.find_map(Result::ok).unwrap_or_else(|| panic!("{}", Self::try_start(arguments).err().unwrap_or_default()))
    }

    fn try_start(arguments: &[&str]) -> Result<Self, String> {
        let folder = tempfile::tempdir().unwrap();
        let mut child = Command::new(python())
            .arg(root().join("tests/bed/bed.py"))
            .arg("--log")
            .arg(folder.path().join("requests.jsonl"))
            .args(PLANTED.iter().flat_map(|secret| ["--planted", secret]))
            .args(arguments)
            .env("TMPDIR", folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(folder.path().join("errors.log")).unwrap())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        if let Ok(facts) = serde_json::from_str(&line) {
            return Ok(Self { child: Some(child), facts, folder });
        }
        let _ = child.kill();
        let _ = child.wait();
        let errors = fs::read_to_string(folder.path().join("errors.log")).unwrap_or_default();
        Err(format!("the emulator did not start: {errors}"))
    }

    /// Takes up an emulator that another process has started and will end.
    pub fn known(facts: &str) -> Self {
        Self { child: None, facts: serde_json::from_str(facts).unwrap(), folder: tempfile::tempdir().unwrap() }
    }

    pub fn fact(&self, name: &str) -> &str {
        self.facts[name].as_str().unwrap()
    }

    /// What the builds that state machines have started have said.
    pub fn builds(&self) -> Vec<String> {
        let folders = fs::read_dir(self.folder.path()).unwrap().map(|entry| entry.unwrap().path());
        folders.filter_map(|folder| fs::read_to_string(folder.join("log")).ok()).collect()
    }

    /// Every request that the emulator got so far.
    pub fn requests(&self) -> Vec<Value> {
        let log = fs::read_to_string(self.folder.path().join("requests.jsonl")).unwrap_or_default();
        log.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The parameters of every request of a query action, as CreateChangeSet.
    pub fn actions(&self, action: &str) -> Vec<Value> {
        let of = |request: &Value| request["parameters"]["Action"] == action;
        self.requests().iter().filter(|request| of(request)).map(|request| request["parameters"].clone()).collect()
    }

    /// The keys of all objects that were written.
    pub fn written(&self) -> Vec<String> {
        let wrote =
            |request: &&Value| request["service"] == "s3" && request["status"] == 200 && request["method"] == "PUT";
        let key =
            |request: &Value| request["path"].as_str().unwrap().splitn(3, '/').nth(2).unwrap_or_default().to_owned();
        self.requests().iter().filter(wrote).map(key).filter(|key| !key.is_empty()).collect()
    }

    /// Every record of the store that is none of a tenant's business, as key and text.
    pub fn records(&self) -> String {
        self.boto3(
            "111111111111",
            &format!(
                "s3 = client('s3')\nfor p in s3.get_paginator('list_objects_v2').paginate(Bucket='{0}', Prefix='tenantry/'):\n  \
                 for o in p['Contents']:\n    \
                 print(o['Key'], s3.get_object(Bucket='{0}', Key=o['Key'])['Body'].read())",
                self.fact("bucket")
            ),
        )
    }

    /// Edits the records whose keys contain a text: Python on `body`.
    pub fn edit(&self, key: &str, change: &str) {
        self.boto3(
            "111111111111",
            &format!(
                "s3 = client('s3')\nkeys = [o['Key'] for o in s3.list_objects_v2(Bucket='{0}', Prefix='')['Contents'] if '{key}' in o['Key']]\n\
                 assert keys\nfor k in keys:\n  body = s3.get_object(Bucket='{0}', Key=k)['Body'].read()\n  new = {change}\n  \
                 assert new != body, body\n  \
                 s3.put_object(Bucket='{0}', Key=k, Body=new, ServerSideEncryption='aws:kms', SSEKMSKeyId='{1}')",
                self.fact("bucket"),
                self.fact("kms_key"),
            ),
        );
    }

    /// Lets no record in the store tell a planted secret.
    fn assert_secrets_untold(&self) {
        let tells = |request: &Value| request["tells"].as_array().is_some_and(|told| !told.is_empty());
        let telling: Vec<Value> = self.requests().into_iter().filter(tells).collect();
        assert!(telling.is_empty(), "a record tells a secret: {telling:?}");
    }

    /// Forgets the requests so far.
    pub fn forget(&self) {
        self.assert_secrets_untold();
        fs::write(self.folder.path().join("requests.jsonl"), "").unwrap();
    }

    /// Lets nothing have been created or changed anywhere.
    #[track_caller]
    pub fn assert_untouched(&self) {
        assert_eq!(self.written(), Vec::<String>::new());
        for action in ["CreateChangeSet", "ExecuteChangeSet", "DeleteStack"] {
            assert_eq!(self.actions(action), Vec::<Value>::new());
        }
    }

    /// The variables with which AWS's tools reach the emulator.
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ENDPOINT_URL", self.fact("endpoint").to_owned()),
            ("AWS_ACCESS_KEY_ID", self.fact("access_key_id").to_owned()),
            ("AWS_SECRET_ACCESS_KEY", self.fact("secret_access_key").to_owned()),
            ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
        ]
    }

    /// Returns the credentials of another user of the tooling account.
    pub fn user(&self, name: &str) -> [(&'static str, &str); 2] {
        let keys = &self.facts[name];
        [("AWS_ACCESS_KEY_ID", "access_key_id"), ("AWS_SECRET_ACCESS_KEY", "secret_access_key")]
            .map(|(variable, key)| (variable, keys[key].as_str().unwrap()))
    }

    /// Runs a line of Python with boto3 clients of an account, as its root: `client("s3")`.
    pub fn boto3(&self, account: &str, code: &str) -> String {
        let prelude = format!(
            "import boto3, json\ndef client(service): return boto3.client(service, endpoint_url='{}', region_name='eu-west-1', \
             aws_access_key_id='{account}', aws_secret_access_key='root')\n",
            self.fact("endpoint")
        );
        let output = Command::new(python()).arg("-c").arg(prelude + code).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
            if !std::thread::panicking() {
                self.assert_secrets_untold();
            }
        }
    }
}

/// A copy of an example, to be changed.
pub struct Project(TempDir);

impl Project {
    /// Copies `examples/hello`.
    pub fn hello() -> Self {
        Self::of("hello")
    }

    /// Copies an example.
    pub fn of(example: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        copy(&root().join("examples").join(example), folder.path());
        Self(folder)
    }

    /// An empty folder.
    pub fn empty() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn write(&self, file: &str, text: &str) {
        let path = self.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Replaces a text that must be there.
    #[track_caller]
    pub fn replace(&self, file: &str, from: &str, to: &str) {
        let path = self.path().join(file);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{from} is not in {file}");
        fs::write(path, text.replace(from, to)).unwrap();
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// What a run of the binary said.
pub struct Ran {
    pub stdout: String,
    pub stderr: String,
    pub code: i32,
}

/// The binary's path.
pub fn binary() -> PathBuf {
    assert_cmd::cargo::cargo_bin!("tenantry").into()
}

/// The target folder that the tests were built in.
pub fn target() -> PathBuf {
    binary().parent().and_then(Path::parent).unwrap().to_owned()
}

/// The static binary, where `make static` has put it.
pub fn static_binary() -> PathBuf {
    target().join(format!("{}-unknown-linux-gnu/dist/tenantry", std::env::consts::ARCH))
}

/// What runs workflows, in a folder and with a home that nobody else has.
pub fn act(folder: &Path, home: &Path) -> Command {
    fs::create_dir_all(home.join("act")).unwrap();
    fs::write(home.join("act/actrc"), "").unwrap();
    let mut act = Command::new(python().with_file_name("act"));
    act.current_dir(folder).env("XDG_CONFIG_HOME", home).env("XDG_CACHE_HOME", home);
    act
}

/// The binary in a project, with nothing of this process's environment but a path.
pub fn command(project: &Project, bed: Option<&Bed>, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command
        .current_dir(project.path())
        .args(arguments)
        .env_clear()
        .env("PATH", std::env::var("PATH").unwrap_or_default());
    command
        .env("HOME", project.path())
        .env("TENANTRY_COMMIT", "0123456789abcdef0123456789abcdef01234567")
        .stdin(Stdio::null());
    command.envs(bed.map(Bed::variables).unwrap_or_default());
    command
}

/// Runs the binary against an emulator.
pub fn tenantry(bed: &Bed, project: &Project, arguments: &[&str]) -> Ran {
    ran(command(project, Some(bed), arguments))
}

/// Runs the binary as another user of the tooling account.
pub fn tenantry_as(user: &str, bed: &Bed, project: &Project, arguments: &[&str]) -> Ran {
    let mut command = command(project, Some(bed), arguments);
    command.envs(bed.user(user));
    ran(command)
}

/// Runs the binary where nothing can be reached.
pub fn offline(project: &Project, arguments: &[&str]) -> Ran {
    ran(command(project, None, arguments))
}

/// Secrets of the projects that tests run. No run may write one of them anywhere.
pub const PLANTED: [&str; 2] = ["external-id-of-gnome", "planted-5ecret"];

/// Runs a command to its end.
pub fn ran(mut command: Command) -> Ran {
    Ran::of(&command.output().unwrap())
}

/// Lets no line of a text tell a planted secret, but where GitHub's runner is told to hide it.
pub fn assert_untold(text: &str) {
    for line in text.lines().filter(|line| !line.starts_with("::add-mask::")) {
        assert!(!PLANTED.iter().any(|secret| line.contains(secret)), "a secret is told: {line}");
    }
}

impl Ran {
    /// Takes what a process said, in which no secret may be but where GitHub's runner is told to hide it.
    pub fn of(output: &Output) -> Self {
        let stdout = String::from_utf8(output.stdout.clone()).unwrap();
        let stderr = String::from_utf8(output.stderr.clone()).unwrap();
        assert_untold(&stdout);
        assert_untold(&stderr);
        Self { stdout, stderr, code: output.status.code().unwrap_or(-1) }
    }

    /// Everything in one text, for a snapshot. What targets say in parallel is sorted.
    pub fn all(&self) -> String {
        let parallel =
            |line: &&str| line.starts_with('[') || line.starts_with("uploaded ") || line.starts_with("already stored ");
        let speaker = |line: &&str| line.split(']').next().unwrap_or_default().to_owned();
        let mut sorted: Vec<&str> = Vec::new();
        for group in self.stderr.lines().collect::<Vec<_>>().chunk_by(|one, next| parallel(one) && parallel(next)) {
            let mut group = group.to_vec();
            if group.iter().all(parallel) {
                group.sort_by_key(speaker);
            }
            sorted.extend(group);
        }
        format!("{}\n--- stdout\n{}--- exit {}", sorted.join("\n"), self.stdout, self.code)
    }

    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|_| panic!("not JSON: {}", self.stdout))
    }
}

/// Compares with the snapshot of that name, whatever digests, ports and times there are.
#[track_caller]
pub fn snapshot(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    for (found, shown) in [
        (r"\b[0-9a-f]{64}\b", "[sha256]"),
        (r"tenantry-[0-9a-f]{12}-[0-9a-f]{12}", "tenantry-[id]-[id]"),
        (r"\b(release|sha256|plan) [0-9a-f]{12}\b", "$1 [id]"),
        (r#""release": "[0-9a-f]{12}""#, r#""release": "[id]""#),
        (r"releases/[0-9a-f]{12}", "releases/[id]"),
        (r"(unlock --stage prod|promote) [0-9a-f]{12}", "$1 [id]"),
        (r"COMPLETE  [0-9a-f]{12}  [0-9]+[mhd]", "COMPLETE  [id]  [age]"),
        (r"\b[0-9]{8}T[0-9]{6}Z-([a-z]+)-[0-9a-f]{6}\b", "[time]-$1-[id]"),
        (r"tenantry-[0-9]{8}T[0-9]{6}Z-", "tenantry-[time]-"),
        (r"\b[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z", "[time]"),
        (r"127\.0\.0\.1:[0-9]+", "127.0.0.1:[port]"),
        (r"\(request [^)]+\)", "(request [id])"),
        (r"/tmp/\.tmp[0-9A-Za-z]+", "[folder]"),
    ] {
        settings.add_filter(found, shown);
    }
    settings.bind(|| insta::assert_snapshot!(name, text));
}
