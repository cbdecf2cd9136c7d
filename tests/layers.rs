//! Holds the layers of ARCHITECTURE.md: what each part of the library must not know.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::{Path, PathBuf};

/// Every source file, with its path below `src/` and its text without tests and comments.
fn sources() -> Vec<(String, String)> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    walk(&root, &mut found);
    found.sort();
    let name = |path: &PathBuf| path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
    found.iter().map(|path| (name(path), code(&fs::read_to_string(path).unwrap()))).collect()
}

/// Leaves out comments, and modules that are only for tests.
fn code(text: &str) -> String {
    let begins = |(at, marker): &(usize, &str)| {
        text[at + marker.len()..].lines().next().is_some_and(|line| line.ends_with("mod tests {"))
    };
    let end = text.match_indices("#[cfg(test)]\n").find(begins).map_or(text.len(), |(at, _)| at);
    let text = &text[..end];
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// Lets only files below some places contain any of some texts.
#[track_caller]
fn only(places: &[&str], texts: &[&str], why: &str) {
    let mut used = false;
    for (name, code) in sources() {
        let allowed = places.iter().any(|place| name.starts_with(place));
        for text in texts {
            let found = code.contains(text);
            assert!(!found || allowed, "src/{name} contains `{text}`: {why}");
            used |= found;
        }
    }
    assert!(used, "nothing contains any of {texts:?}: this rule holds nothing");
}

#[test]
fn only_aws_names_the_sdk() {
    only(
        &["aws/"],
        &["aws_sdk_", "aws_config", "aws_smithy", "aws_credential_types", "aws_types"],
        "domain values leave aws/, nothing else",
    );
}

#[test]
fn only_cli_and_report_write_to_the_terminal() {
    let texts = ["println!", "eprintln!", "print!", "stdout()", "stderr()", "indicatif::"];
    only(&["cli/", "report/"], &texts, "the library speaks by events");
}

#[test]
fn only_cli_reads_the_environment() {
    only(
        &["cli/"],
        &["env::var", "env::args", "std::env", "current_dir", "Command::new"],
        "what surrounds the process is an argument elsewhere",
    );
}

#[test]
fn only_the_engine_spawns_tasks() {
    only(&["engine/window.rs"], &["JoinSet", "tokio::spawn", "task::spawn("], "every task is under the window's bound");
}

#[test]
fn domain_plan_and_package_do_not_use_the_network_or_the_runtime() {
    for (name, code) in sources() {
        if ["domain/", "plan/", "package/", "infra/"].iter().any(|place| name.starts_with(place)) {
            for text in [
                "tokio",
                "async fn",
                "crate::aws",
                "crate::engine",
                "crate::ports",
                "crate::cli",
                "crate::report",
                "std::net",
            ] {
                assert!(!code.contains(text), "src/{name} contains `{text}`");
            }
        }
        if name.starts_with("domain/") || name.starts_with("plan/") {
            assert!(!code.contains("std::fs"), "src/{name} reads files");
        }
    }
}

#[test]
fn the_engine_knows_only_its_ports() {
    for (name, code) in sources() {
        if name.starts_with("engine/") {
            for text in ["crate::aws", "crate::gate", "crate::report", "crate::config", "crate::cli", "std::fs"] {
                assert!(!code.contains(text), "src/{name} contains `{text}`");
            }
        }
        if name.starts_with("report/") {
            for text in ["Engine", "crate::ports", "crate::aws", "crate::config", "crate::cli", "StopHandle"] {
                assert!(!code.contains(text), "src/{name} contains `{text}`: reporters never influence the engine");
            }
        }
    }
}

#[test]
fn the_binary_is_thin() {
    let main = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/main.rs")).unwrap();
    assert!(main.lines().count() < 20, "what main.rs does belongs into the library");
}
