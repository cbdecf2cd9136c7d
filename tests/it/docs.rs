//! What the documentation tells to run, run as it stands there.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::bed::{Bed, Project, Ran, binary, ran, root, tenantry};

/// Commands that other tests run, against accounts that have nothing yet.
const ELSEWHERE: [(&str, &str, &str); 5] = [
    ("docs/scale.md", "tenantry bootstrap fleet", "machines.rs"),
    ("docs/scale.md", "tenantry apply DIGEST --engine step-functions --shards 4", "machines.rs"),
    ("docs/accounts.md", "tenantry bootstrap tooling", "accounts.rs"),
    ("docs/accounts.md", "tenantry bootstrap tenant", "accounts.rs"),
    ("docs/accounts.md", "tenantry deploy", "accounts.rs"),
];

/// Returns the commands of a page's shell blocks.
fn commands(page: &str) -> Vec<String> {
    let text = fs::read_to_string(root().join(page)).unwrap();
    let mut inside = false;
    let mut commands = Vec::new();
    for line in text.lines().map(str::trim) {
        if line.starts_with("```") {
            inside = line == "```sh";
        } else if inside && line.starts_with("tenantry ") {
            commands.push(line.split("  #").next().unwrap().split(" # ").next().unwrap().trim().to_owned());
        }
    }
    commands
}

fn pages() -> Vec<String> {
    let mut pages = vec!["README.md".to_owned()];
    let folder = |folder: &str| -> Vec<String> {
        let entries = fs::read_dir(root().join(folder)).unwrap().map(Result::unwrap);
        entries.map(|entry| format!("{folder}/{}", entry.file_name().to_str().unwrap())).collect()
    };
    pages.extend(folder("docs").into_iter().filter(|page| Path::new(page).extension().is_some_and(|end| end == "md")));
    pages.extend(folder("examples").iter().map(|example| format!("{example}/README.md")));
    pages.retain(|page| root().join(page).exists());
    pages.sort();
    pages
}

/// Runs a line as a shell reads it.
fn shell(bed: &Bed, project: &Project, line: &str) -> Ran {
    let path = format!("{}:{}", binary().parent().unwrap().display(), std::env::var("PATH").unwrap());
    let mut bash = Command::new("bash");
    bash.args(["-c", line]).current_dir(project.path()).env_clear().env("PATH", path).envs(bed.variables());
    ran(bash)
}

#[test]
fn every_command_of_the_documentation_does_what_it_is_told_for() {
    let mut count = 0;
    for page in pages() {
        let commands = commands(&page);
        if commands.is_empty() {
            continue;
        }
        let (bed, project) = (Bed::start(), Project::hello());
        let mut digest = String::new();
        for line in commands {
            count += 1;
            if let Some((.., file)) =
                ELSEWHERE.iter().find(|(at, command, _)| (*at, *command) == (page.as_str(), &*line))
            {
                let words: Vec<String> = line.split(' ').skip(1).map(|word| format!("\"{word}\"")).collect();
                let test = fs::read_to_string(root().join("tests/it").join(file)).unwrap();
                assert!(test.contains(&words.join(", ")), "{file} does not run `{line}` of {page}");
                continue;
            }
            if line.contains("DIGEST") && digest.is_empty() {
                let plan = tenantry(&bed, &project, &["plan", "--stage", "prod", "--output", "json"]).exits(0).json();
                digest = plan["digest"].as_str().unwrap().to_owned();
                tenantry(&bed, &project, &["approve", &digest]).exits(0);
            }
            let ran = shell(&bed, &project, &line.replace("DIGEST", &digest));
            // A plan or a stage that waits for its approval is what some of them are about.
            assert!(matches!(ran.code, 0 | 3), "`{line}` of {page} answers {}: {}", ran.code, ran.all());
            if line.starts_with("tenantry plan") {
                digest = ran.stdout.split("digest ").nth(1).unwrap()[..64].to_owned();
            }
        }
    }
    assert!(count >= 12, "{count} commands were found");
}

/// A link that leads nowhere is worse than none.
#[test]
fn every_link_of_the_documentation_leads_to_a_file() {
    let mut all = pages();
    all.extend(["ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(str::to_owned));
    for page in all {
        let text = fs::read_to_string(root().join(&page)).unwrap();
        for link in text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            let file = link.split('#').next().unwrap();
            if file.is_empty() || file.contains("://") {
                continue;
            }
            let path = root().join(&page).parent().unwrap().join(file);
            assert!(path.exists(), "{page} links to {link}, which is not there");
        }
    }
}
