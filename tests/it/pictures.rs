//! The pictures of the README, taken of a real run: `make pictures`.

use std::fs;
use std::process::Command;
use std::time::Duration;

use crate::bed::{command, ran, root};
use crate::fleet::of;
use crate::server::{Fleet, Weather};

/// Four hundred tenants, of which three have no room for another function.
#[test]
#[ignore = "it writes docs/images"]
fn pictures() {
    let weather = Weather { failing: vec![78, 211, 334], stack: Duration::from_secs(3), ..Weather::default() };
    let fleet = Fleet::start(weather);
    let stage = "rollout: { canary: { tenants: [t00000, t00001] }, waves: [10%], max-concurrency: 50, failure-tolerance: 1% }, gate: { approval: required }";
    let project = of(400, stage);
    let said = |arguments: &[&str], code: i32| {
        let mut command = command(&project, None, arguments);
        command.envs(fleet.variables()).env("CLICOLOR_FORCE", "1").env("COLUMNS", "110");
        ran(command).exits(code)
    };
    fs::create_dir_all(root().join("docs/images")).unwrap();
    let planned = said(&["deploy", "--outputs-file", "outputs"], 3);
    let outputs = fs::read_to_string(project.path().join("outputs")).unwrap();
    let output = |text: &str, name: &str| -> String {
        let start = format!("{name}=");
        text.lines().rev().find_map(|line| line.strip_prefix(&start)).unwrap().to_owned()
    };
    let digest = output(&outputs, "plan-digest");
    let plan = said(&["report", &digest], 0);
    said(&["apply", &digest, "--approve", &digest, "--outputs-file", "outputs"], 5);
    let rollout = output(&fs::read_to_string(project.path().join("outputs")).unwrap(), "rollout");
    let report = said(&["report", &rollout, "--html", "page.html", "--summary", "summary.md"], 0);
    let prompt = |words: &str| format!("\u{1b}[2m$\u{1b}[0m \u{1b}[1mtenantry {words}\u{1b}[0m\n");
    let both = [(prompt(&format!("report {digest}")), plan), (prompt(&format!("report {rollout}")), report)];
    let both = both.map(|(prompt, ran)| format!("{prompt}{}", ran.stdout)).join("\n");
    fs::write(root().join("docs/images/rollout.svg"), anstyle_svg::Term::new().render_svg(&both)).unwrap();
    let page = format!("file://{}", project.path().join("page.html").display());
    let picture = root().join("docs/images/page.png");
    let taken = Command::new("chromium")
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1200,960"])
        .arg(format!("--user-data-dir={}", project.path().join("profile").display()))
        .arg(format!("--screenshot={}", picture.display()))
        .arg(page)
        .output()
        .unwrap();
    assert!(taken.status.success() && picture.exists(), "{}", String::from_utf8_lossy(&taken.stderr));
    assert!(planned.stderr.contains("waits for approval"), "{}", planned.stderr);
}
