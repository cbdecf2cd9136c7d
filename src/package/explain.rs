//! Why an artifact is another than before: entry by entry.

use std::collections::BTreeMap;
use std::io::Cursor;

use serde::Serialize;
use similar::{ChangeTag, TextDiff};
use zip::ZipArchive;

/// How something differs from what it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// It was not there.
    Added,
    /// It is not there any more.
    Removed,
    /// It has another content.
    Changed,
    /// It has the same content in the same places, and other bytes: it was compressed by another tool.
    Repacked,
}

/// How one artifact differs from that of another release.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The artifact's name.
    pub artifact: String,
    /// What is different.
    pub change: Change,
    /// Of a zip, which entries.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub entries: Vec<EntryDifference>,
    /// Of a text, how many lines were added and removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lines: Option<(usize, usize)>,
}

/// How an entry of a zip differs.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct EntryDifference {
    /// Its path in the zip.
    pub name: String,
    /// What is different.
    pub change: Change,
    /// Its bytes before, unzipped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
    /// Its bytes now, unzipped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    /// Its mode before and now, where that differs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub modes: Option<(u32, u32)>,
}

/// An entry, as far as it is compared: CRC-32, size and mode.
type Entry = (u32, u64, u32);

/// Compares two artifacts of the same name. Their bytes are known to differ.
pub fn compare(artifact: &str, before: &[u8], after: &[u8]) -> Difference {
    let artifact = artifact.to_owned();
    if let (Some(old), Some(new)) = (entries(before), entries(after)) {
        let mut names: Vec<&String> = old.keys().chain(new.keys()).collect();
        names.sort();
        names.dedup();
        let differs = |name: &&String| old.get(*name) != new.get(*name);
        let entry = |name: &String| {
            let (before, after) = (old.get(name), new.get(name));
            let change = match (before, after) {
                (None, _) => Change::Added,
                (_, None) => Change::Removed,
                _ => Change::Changed,
            };
            let modes = before.zip(after).map(|(before, after)| (before.2, after.2)).filter(|(old, new)| old != new);
            let size = |entry: Option<&Entry>| entry.map(|entry| entry.1);
            EntryDifference { name: name.clone(), change, before: size(before), after: size(after), modes }
        };
        let entries: Vec<_> = names.into_iter().filter(differs).map(entry).collect();
        let change = if entries.is_empty() { Change::Repacked } else { Change::Changed };
        return Difference { artifact, change, entries, lines: None };
    }
    let text = |bytes| std::str::from_utf8(bytes).ok();
    let lines = text(before).zip(text(after)).map(|(before, after)| {
        let diff = TextDiff::from_lines(before, after);
        let count = |tag| diff.iter_all_changes().filter(|change| change.tag() == tag).count();
        (count(ChangeTag::Insert), count(ChangeTag::Delete))
    });
    Difference { artifact, change: Change::Changed, entries: Vec::new(), lines }
}

/// Says that an artifact is there only before, or only now.
pub fn alone(artifact: &str, change: Change) -> Difference {
    Difference { artifact: artifact.to_owned(), change, entries: Vec::new(), lines: None }
}

/// Returns the entries of a zip; none where it is no zip.
fn entries(bytes: &[u8]) -> Option<BTreeMap<String, Entry>> {
    let mut zip = ZipArchive::new(Cursor::new(bytes)).ok()?;
    let mut entries = BTreeMap::new();
    for number in 0..zip.len() {
        let file = zip.by_index_raw(number).ok()?;
        let entry = (file.crc32(), file.size(), file.unix_mode().unwrap_or_default());
        entries.insert(file.name().ok()?.into_owned(), entry);
    }
    Some(entries)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::Packaging;
    use super::*;

    fn zip(files: &[(&str, &str)]) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        Packaging::default().package(folder.path(), &[], &[]).unwrap().bytes.to_vec()
    }

    #[test]
    fn a_zip_is_compared_entry_by_entry() {
        let before = zip(&[("a.py", "one"), ("b.py", "two"), ("same.py", "x")]);
        let after = zip(&[("a.py", "three"), ("c.py", "new"), ("same.py", "x")]);
        let difference = compare("code", &before, &after);
        let told: Vec<_> = difference
            .entries
            .iter()
            .map(|entry| (entry.name.as_str(), entry.change, entry.before, entry.after))
            .collect();
        assert_eq!(
            told,
            [
                ("a.py", Change::Changed, Some(3), Some(5)),
                ("b.py", Change::Removed, Some(3), None),
                ("c.py", Change::Added, None, Some(3)),
            ]
        );
    }

    #[test]
    fn a_text_is_compared_by_lines_and_a_zip_of_the_same_files_was_only_packed_anew() {
        assert_eq!(compare("template", b"a\nb\n", b"a\nc\nd\n").lines, Some((2, 1)));
        let ours = zip(&[("a.py", "one")]);
        let mut other = zip::ZipWriter::new(Cursor::new(Vec::new()));
        let stored = zip::write::SimpleFileOptions::default().unix_permissions(0o644);
        other.start_file("a.py", stored.compression_method(zip::CompressionMethod::Stored)).unwrap();
        std::io::Write::write_all(&mut other, b"one").unwrap();
        let other = other.finish().unwrap().into_inner();
        assert_ne!(ours, other);
        assert_eq!(compare("code", &other, &ours).change, Change::Repacked);
    }
}
