//! Why a release is another than the last one.

use super::text::{BAD, GOOD, WARN, bytes, clean, count, styled};
use crate::domain::ReleaseId;
use crate::package::explain::{Change, Difference, EntryDifference};

/// Entries of one artifact that are listed.
const LISTED: usize = 20;

/// Tells what differs from the last release, artifact by artifact and entry by entry.
pub fn differences(since: Option<&ReleaseId>, differences: &[Difference]) -> String {
    let Some(since) = since else { return "there is no earlier release to compare with".to_owned() };
    if differences.is_empty() {
        return format!("nothing differs from release {since} but what it is called");
    }
    let mut lines = vec![format!("compared with release {since}:")];
    for Difference { artifact, change, entries, lines: text } in differences {
        let what = match (change, text) {
            (Change::Added, _) => "new".to_owned(),
            (Change::Removed, _) => "gone".to_owned(),
            (Change::Repacked, _) => "the same files, compressed by another tool".to_owned(),
            (Change::Changed, Some((added, removed))) => format!("{added} lines added, {removed} removed"),
            (Change::Changed, None) if entries.is_empty() => "another content".to_owned(),
            (Change::Changed, None) => format!("{} changed", count(entries.len(), "file")),
        };
        lines.push(format!("  {} {}: {what}", mark(*change), clean(artifact)));
        lines.extend(entries.iter().take(LISTED).map(|entry| format!("      {}", line(entry))));
        if entries.len() > LISTED {
            lines.push(format!("      and {} more", entries.len() - LISTED));
        }
    }
    lines.join("\n")
}

fn mark(change: Change) -> String {
    match change {
        Change::Added => styled(GOOD, "+"),
        Change::Removed => styled(BAD, "-"),
        Change::Changed | Change::Repacked => styled(WARN, "~"),
    }
}

fn line(entry: &EntryDifference) -> String {
    let EntryDifference { name, change, before, after, modes } = entry;
    let size = match (before, after) {
        (Some(before), Some(after)) if before == after => bytes(*after),
        (Some(before), Some(after)) => format!("{} > {}", bytes(*before), bytes(*after)),
        (Some(size), None) | (None, Some(size)) => bytes(*size),
        (None, None) => String::new(),
    };
    let modes = modes.map(|(before, after)| format!(", mode {:o} > {:o}", before & 0o7777, after & 0o7777));
    format!("{} {} ({size}{})", mark(*change), clean(name), modes.unwrap_or_default())
}
