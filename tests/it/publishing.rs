//! The workflow that releases Tenantry itself, run as it is written. GitHub's actions and `gh` are stood in for, and the build,
//! which has a test of its own (`make static`).

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use sha2::{Digest as _, Sha256};

use crate::bed::{Ran, act, ran, root};

fn git(folder: &Path, arguments: &[&str]) -> String {
    let git = Command::new("git").current_dir(folder).args(arguments).output().unwrap();
    assert!(git.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&git.stderr));
    String::from_utf8(git.stdout).unwrap()
}

/// The repository as far as the workflow uses it, with a place that it is pushed to.
fn repository(around: &Path) {
    let repository = around.join("repository");
    fs::create_dir_all(repository.join(".github/workflows")).unwrap();
    for file in [".github/publish", ".github/workflows/release.yml", "Cargo.toml", "binaries.sha256"] {
        fs::copy(root().join(file), repository.join(file)).unwrap();
    }
    let build = "static:\n\tmkdir -p $(CARGO_TARGET_DIR)/x/dist && echo \"binary for $$PLATFORM\" >$(CARGO_TARGET_DIR)/x/dist/tenantry\n";
    fs::write(repository.join("Makefile"), build).unwrap();
    git(around, &["init", "--quiet", "--bare", "origin.git"]);
    git(&repository, &["init", "--quiet", "--initial-branch", "main"]);
    let remote = "https://github.com/acme/tenantry.git";
    git(&repository, &["remote", "add", "origin", remote]);
    let origin = format!("url.{}.pushInsteadOf", around.join("origin.git").display());
    git(&repository, &["config", &origin, remote]);
    git(&repository, &["add", "."]);
    let author = ["-c", "user.name=x", "-c", "user.email=x@example.com"];
    git(&repository, &[&author[..], &["commit", "--quiet", "--message", "all"]].concat());
    git(&repository, &["push", "--quiet", "origin", "main"]);
}

fn release(around: &Path, version: &str) -> Ran {
    let folder = |name: &str| {
        let folder = around.join(name);
        fs::create_dir_all(&folder).unwrap();
        folder
    };
    let (kept, programs) = (folder("kept"), folder("programs"));
    let mut act = act(&around.join("repository"), &folder("home"));
    act.args(["workflow_dispatch", "-W", ".github/workflows/release.yml"]);
    act.args(["-P", "ubuntu-24.04=-self-hosted", "-P", "ubuntu-24.04-arm=-self-hosted"]);
    act.args(["--input", &format!("version={version}"), "-s", "GITHUB_TOKEN=ghs_token"]);
    let text = fs::read_to_string(root().join(".github/workflows/release.yml")).unwrap();
    for used in text.lines().filter_map(|line| line.split_once("uses: ")) {
        let reference = used.1.split(" #").next().unwrap();
        let (inputs, script) = match reference.split('@').next().unwrap() {
            "actions/checkout" => continue,
            "actions/attest-build-provenance" => ("subject-path: {}", "ls ${{ inputs.subject-path }}".to_owned()),
            "actions/upload-artifact" => {
                ("name: {}, path: {}, if-no-files-found: {}", format!("cp ${{{{ inputs.path }}}} {}", kept.display()))
            }
            "actions/download-artifact" => (
                "pattern: {}, merge-multiple: {}, path: {}",
                format!("mkdir -p ${{{{ inputs.path }}}}; cp {}/* ${{{{ inputs.path }}}}", kept.display()),
            ),
            other => panic!("nothing stands in for {other}"),
        };
        let at = folder(&reference.replace(['/', '@'], "-"));
        let action = format!(
            "name: x\ndescription: A stand-in\ninputs: {{ {inputs} }}\nruns:\n  using: composite\n  steps:\n    - shell: bash\n      run: '{script}'\n"
        );
        fs::write(at.join("action.yml"), action).unwrap();
        act.args(["--local-repository", &format!("{reference}={}", at.display())]);
    }
    let gh = programs.join("gh");
    let calls = around.join("gh.log");
    fs::write(
        &gh,
        format!("#!/bin/sh\necho \"$*\" >>{}\ncase \"$*\" in release\\ view*) exit 1 ;; esac\n", calls.display()),
    )
    .unwrap();
    fs::set_permissions(&gh, fs::Permissions::from_mode(0o755)).unwrap();
    act.args(["--env", &format!("PATH={}:{}", programs.display(), std::env::var("PATH").unwrap())]);
    ran(act)
}

#[test]
fn a_release_has_its_digests_at_its_tag_and_nowhere_else() {
    let around = tempfile::tempdir().unwrap();
    let around = around.path();
    repository(around);
    let main = git(&around.join("origin.git"), &["rev-parse", "main"]);

    let wrong = release(around, "9.9.9");
    assert_ne!(wrong.code, 0);
    assert!(wrong.all().contains("the version here is not 9.9.9"), "{}", wrong.all());
    assert_eq!(git(&around.join("origin.git"), &["tag"]), "");

    let done = release(around, env!("CARGO_PKG_VERSION"));
    assert_eq!(done.code, 0, "{}", done.all());
    let (origin, tag) = (around.join("origin.git"), concat!("v", env!("CARGO_PKG_VERSION")));
    assert_eq!(git(&origin, &["rev-parse", "main"]), main, "main names no binary that is not its own");
    let digests = git(&origin, &["show", &format!("{tag}:binaries.sha256")]);
    for platform in ["Linux-x86_64", "Linux-aarch64"] {
        let digest = hex::encode(Sha256::digest(format!("binary for {platform}\n")));
        let url = format!("https://github.com/acme/tenantry/releases/download/{tag}/tenantry-{platform}");
        assert!(digests.contains(&format!("{digest}  {url}\n")), "{digests}");
    }
    // The files are there before anybody can see the release.
    let calls = fs::read_to_string(around.join("gh.log")).unwrap();
    let calls: Vec<&str> = calls.lines().filter(|call| call.starts_with("release")).collect();
    let words = ["view", "create", "upload", "edit"];
    assert_eq!(calls.len(), words.len(), "{calls:?}");
    assert!(
        calls.iter().zip(words).all(|(call, word)| call.starts_with(&format!("release {word} {tag}"))),
        "{calls:?}"
    );
    assert!(calls[1].contains("--draft") && calls[3].contains("--draft=false"), "{calls:?}");
    assert!(calls[2].contains("SHA256SUMS") && calls[2].contains("tenantry-Linux-aarch64"), "{calls:?}");
}
