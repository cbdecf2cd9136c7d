//! A rollout as a test report: a suite a wave, a case a target.

use std::time::Duration;

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use super::{Chronicle, Story};
use crate::domain::Outcome;
use crate::report::text::clean;

/// Returns the rollout as JUnit has it, which CodeBuild's report groups and every CI system show.
/// Source: <https://docs.aws.amazon.com/codebuild/latest/userguide/report-test.html>
///
/// # Errors
///
/// Says why it cannot be written as XML.
pub fn junit(chronicle: &Chronicle) -> Result<String, String> {
    let mut report = Report::new(format!("{} {}", chronicle.application, chronicle.stage));
    report.set_time(chronicle.last.duration_since(chronicle.begun).unsigned_abs());
    let mut waves: Vec<u32> = chronicle.targets.iter().map(|story| story.wave).collect();
    waves.sort_unstable();
    waves.dedup();
    for number in waves {
        let mut suite = TestSuite::new(chronicle.wave_name(number));
        suite.add_test_cases(chronicle.targets.iter().filter(|story| story.wave == number).map(case));
        report.add_test_suite(suite);
    }
    report.to_string().map_err(|error| error.to_string())
}

fn case(story: &Story) -> TestCase {
    let why = story.failure();
    let message = why.map(|failure| clean(&failure.to_string()));
    let status = match &story.outcome {
        Some(outcome) if outcome.is_failure() => {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            status.set_type(outcome.name());
            let hint = why.and_then(|failure| failure.hint.as_deref()).map(clean);
            status.set_description(format!("{}\n{}", message.clone().unwrap_or_default(), hint.unwrap_or_default()));
            if let Some(message) = message {
                status.set_message(message);
            }
            status
        }
        Some(Outcome::Skipped(_) | Outcome::Detached(_) | Outcome::Pinned { .. }) | None => {
            let mut status = TestCaseStatus::skipped();
            status.set_message(message.unwrap_or_else(|| story.ending().to_owned()));
            status
        }
        Some(_) => TestCaseStatus::success(),
    };
    let mut case = TestCase::new(story.target.to_string(), status);
    case.set_classname(story.stack.clone());
    if let Some(seconds) = story.took() {
        case.set_time(Duration::from_secs(seconds));
    }
    case
}
