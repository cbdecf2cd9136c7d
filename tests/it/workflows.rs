//! The workflows that users copy, run as they are written: GitHub's own actions are stood in for, ours is the one of this
//! repository, with a released binary that it fetches.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::approvals::answering;
use crate::bed::{Bed, Project, Ran, act, assert_untold, binary, ran, root};

/// The action in the example workflows, to be replaced by the commit of a release.
const RELEASE: &str = "OWNER/tenantry@0000000000000000000000000000000000000000";

/// A repository that has the example's workflows, and a released action.
struct Repository {
    project: Project,
    around: TempDir,
}

impl Repository {
    fn new() -> Self {
        let repository = Self { project: Project::hello(), around: tempfile::tempdir().unwrap() };
        let workflows = root().join("examples/workflows");
        for entry in fs::read_dir(&workflows).unwrap() {
            let path = entry.unwrap().path();
            let name = format!(".github/workflows/{}", path.file_name().unwrap().to_str().unwrap());
            repository.project.write(&name, &fs::read_to_string(&path).unwrap());
        }
        for arguments in [
            &["init", "--quiet", "--initial-branch", "main"][..],
            &["remote", "add", "origin", "https://github.com/acme/shop.git"],
            &["add", "."],
            &["-c", "user.name=x", "-c", "user.email=x@example.com", "commit", "--quiet", "--message", "all"],
        ] {
            let status = Command::new("git").current_dir(repository.project.path()).args(arguments).status().unwrap();
            assert!(status.success());
        }
        repository
    }

    fn folder(&self, name: &str) -> PathBuf {
        let folder = self.around.path().join(name);
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    /// An action as GitHub has it at a release's tag: with the digest of a binary, which is to be found at a URL.
    fn release(&self, program: &str, digest: Option<&str>) -> PathBuf {
        let action = self.folder("action");
        fs::copy(root().join("action.yml"), action.join("action.yml")).unwrap();
        let published = self.folder("published").join("tenantry-Linux-x86_64");
        fs::write(&published, program).unwrap();
        let digest = digest.map_or_else(|| hex::encode(Sha256::digest(program)), str::to_owned);
        let binaries = format!("# digests\n{digest}  file://{}\n", published.display());
        fs::write(action.join("binaries.sha256"), binaries).unwrap();
        action
    }

    /// An action of somebody else, which says that it was there and with what.
    fn stand_in(&self, name: &str, inputs: &[&str]) -> PathBuf {
        let folder = self.folder(name);
        let said: Vec<String> = inputs.iter().map(|input| format!("{input}=${{{{ inputs.{input} }}}}")).collect();
        let declared: Vec<String> = inputs.iter().map(|input| format!("  {input}: {{}}\n")).collect();
        let declared = declared.concat();
        let action = format!(
            "name: {name}\ndescription: A stand-in\ninputs:\n{declared}runs:\n  using: composite\n  steps:\n    - shell: bash\n      run: 'echo \"STOOD IN {name} {}\"'\n",
            said.join(" ")
        );
        fs::write(folder.join("action.yml"), action).unwrap();
        folder
    }

    fn act(&self, bed: &Bed, action: &Path, workflow: &str, event: &str, more: &[&str]) -> Ran {
        let mut act = act(self.project.path(), &self.folder("home"));
        act.arg(event).args(["-P", "ubuntu-latest=-self-hosted"]);
        act.args(["-W", &format!(".github/workflows/{workflow}")]).args(more);
        let text = fs::read_to_string(root().join("examples/workflows").join(workflow)).unwrap();
        let config = root().join("action.yml");
        let used = text + &fs::read_to_string(config).unwrap();
        for line in used.lines().filter_map(|line| line.split_once("uses: ")) {
            let reference = line.1.split(" #").next().unwrap();
            let folder = match reference.split('@').next().unwrap() {
                "actions/checkout" => continue,
                "aws-actions/configure-aws-credentials" => {
                    self.stand_in("credentials", &["role-to-assume", "aws-region"])
                }
                "actions/upload-artifact" => self.stand_in("artifact", &["name", "path"]),
                "actions/cache" => self.stand_in("cache", &["path", "key"]),
                "OWNER/tenantry" => {
                    assert_eq!(reference, RELEASE);
                    action.to_owned()
                }
                other => panic!("nothing stands in for {other}"),
            };
            act.args(["--local-repository", &format!("{reference}={}", folder.display())]);
        }
        for (name, role) in [("PLAN", "plan"), ("RELEASE", "release"), ("APPROVE", "approve")] {
            act.args(["--var", &format!("TENANTRY_{name}_ROLE=role-to-{role}")]);
        }
        act.args(["--var", "TENANTRY_REGION=eu-west-1"]);
        // What tells GitHub's own API.
        let programs = self.folder("programs");
        let gh = programs.join("gh");
        let comments = self.around.path().join("comments");
        fs::write(
            &gh,
            format!(
                "#!/bin/sh\necho \"gh $*\" >>{0}.log\ncase \"$*\" in *--jq*) test ! -e {0} || echo 4711 ;; *) cp comment.md {0} ;; esac\n",
                comments.display()
            ),
        )
        .unwrap();
        fs::set_permissions(&gh, fs::Permissions::from_mode(0o755)).unwrap();
        let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
        for (name, value) in bed.variables().into_iter().chain([("PATH", path)]) {
            act.args(["--env", &format!("{name}={value}")]);
        }
        let ran = ran(act);
        assert_untold(&ran.all());
        ran
    }
}

/// The binary, behind a script as small as a release is large.
fn program(more: &str) -> String {
    format!("#!/bin/sh\n{more}\nexec {} \"$@\"\n", binary().display())
}

#[test]
fn a_pull_request_has_one_comment_and_a_release_goes_from_dev_to_prod_behind_an_approval() {
    let (bed, repository) = (Bed::start(), Repository::new());
    repository.project.replace(
        "tenantry.yaml",
        "gate: { approval: required }",
        "gate: { approval: required, github-environment: production-approval }",
    );
    let review = r#"[{"state": "approved", "comment": "", "user": {"login": "octocat"}, "environments": [{"name": "production-approval"}]}]"#;
    let api = answering(move |request| {
        assert!(request.contains("/repos/acme/shop/actions/runs/"), "{request}");
        if request.contains("Bearer ghs_token") { review.to_owned() } else { String::new() }
    });
    let action = repository.release(&program(&format!("export GITHUB_API_URL={api}")), None);

    let dev = repository.act(&bed, &action, "dev.yml", "push", &[]).exits(0).all();
    assert!(dev.contains("STOOD IN credentials role-to-assume=role-to-release aws-region=eu-west-1"), "{dev}");
    assert!(dev.contains("STOOD IN artifact name=rollout-dev path=/") && dev.contains("dev: 1 deployed"), "{dev}");
    assert_eq!(bed.actions("ExecuteChangeSet").len(), 1);

    // One comment, which the next push changes.
    let event = repository.around.path().join("event.json");
    let from = |repository: &str| {
        format!(r#"{{"pull_request": {{"number": 7, "head": {{"repo": {{"full_name": "{repository}"}}}}}}}}"#)
    };
    let told = || fs::read_to_string(repository.around.path().join("comments.log")).unwrap_or_default();
    fs::write(&event, from("mallory/shop")).unwrap();
    let pull = ["-e", event.to_str().unwrap()];
    let foreign = repository.act(&bed, &action, "pull-request.yml", "pull_request", &pull).exits(0).all();
    assert!(told().is_empty() && !foreign.contains("STOOD IN"), "a fork plans nothing: {foreign}");
    fs::write(&event, from("acme/shop")).unwrap();
    for (round, method) in
        ["POST repos/acme/shop/issues/7/comments", "PATCH repos/acme/shop/issues/comments/4711"].into_iter().enumerate()
    {
        repository.act(&bed, &action, "pull-request.yml", "pull_request", &pull).exits(0);
        let told = told();
        assert_eq!(told.lines().count(), 2 * (round + 1), "{told}");
        assert!(told.lines().last().unwrap().contains(method), "{told}");
    }
    let comment = fs::read_to_string(repository.around.path().join("comments")).unwrap();
    assert!(comment.starts_with("<!-- tenantry: plan for prod -->\n### Plan for `prod`"), "{comment}");
    assert!(comment.contains("gnome/eu-west-1, unicorn/eu-west-1"), "{comment}");
    assert_eq!(bed.actions("ExecuteChangeSet").len(), 1);

    let release = crate::bed::tenantry(&bed, &repository.project, &["releases", "--output", "json"]).exits(0).json();
    let release = release[0]["id"].as_str().unwrap_or_else(|| panic!("{release}")).to_owned();
    let input = format!("release={release}");
    let promote = ["--input", &input, "-s", "GITHUB_TOKEN=ghs_token"];
    let all = repository.act(&bed, &action, "promote.yml", "workflow_dispatch", &promote).exits(0).all();
    for said in [
        "role-to-plan",
        "role-to-approve",
        "role-to-release",
        "github:octocat",
        "prod: 2 deployed",
        "name=rollout-prod",
    ] {
        assert!(all.contains(said), "{said} is missing in {all}");
    }
    assert_eq!(bed.actions("ExecuteChangeSet").len(), 3);
    // What is as it should be needs nobody's approval.
    let again = repository.act(&bed, &action, "promote.yml", "workflow_dispatch", &promote).exits(0).all();
    assert!(!again.contains("role-to-approve") && !again.contains("role-to-release"), "{again}");
}

#[test]
fn a_binary_that_is_not_the_released_one_is_not_run() {
    let (bed, repository) = (Bed::start(), Repository::new());
    let ran_marker = repository.around.path().join("it-ran");
    let action = repository.release(&program(&format!("touch {}", ran_marker.display())), Some(&"0".repeat(64)));
    let ran = repository.act(&bed, &action, "dev.yml", "push", &[]);
    assert_ne!(ran.code, 0);
    assert!(ran.all().contains("not the one of this release: it was not run"), "{}", ran.all());
    assert!(!ran_marker.exists());
}
