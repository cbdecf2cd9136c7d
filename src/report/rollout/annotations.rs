//! Failures at the line of the template that defines the resource, as GitHub shows them beside the code.

use std::fmt::Write as _;

use super::Chronicle;
use crate::report::text::{clean, count, shorten};
use crate::source::Document;

/// GitHub keeps ten of a kind a step.
/// Source: <https://docs.github.com/en/actions/reference/limits>
const MOST: usize = 10;

/// Returns an `::error` a cause, at most ten, those with most targets first; at the resource's line where one of the templates
/// of this folder has it.
/// Source: <https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands#setting-an-error-message>
pub fn annotations(chronicle: &Chronicle, templates: &[Document]) -> String {
    let mut text = String::new();
    for (number, cause) in chronicle.causes.iter().take(MOST).enumerate() {
        let line = |template: &Document, resource: &str| {
            let (root, tree) = (template.tree.root()?, &template.tree);
            let id = tree.child(tree.child(root, "Resources")?, resource)?;
            Some(template.text[..template.place(id).start].matches('\n').count() + 1)
        };
        let found = cause.resource.as_deref().and_then(|resource| {
            templates.iter().find_map(|template| Some((template.path.to_string_lossy(), line(template, resource)?)))
        });
        let place = match found {
            Some((path, line)) => format!(" file={},line={line},", property(&path)),
            None => " ".to_owned(),
        };
        let title = format!("{} of {} failed", count(cause.targets.len(), "target"), chronicle.targets.len());
        let mut message = shorten(&cause.signature, 800);
        if number == MOST - 1 && chronicle.causes.len() > MOST {
            let _ = write!(message, " (and {})", count(chronicle.causes.len() - MOST, "more cause"));
        }
        let _ = writeln!(text, "::error{place}title={}::{}", property(&title), data(&message));
    }
    text
}

/// A cleaned text has no line ends, which would need an escape too.
/// Source: <https://github.com/actions/toolkit/blob/main/packages/core/src/command.ts>
fn data(text: &str) -> String {
    clean(text).replace('%', "%25")
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}
