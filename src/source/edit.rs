//! Changing values in a text, and not one byte else.

use std::ops::Range;

use super::yaml::{Id, Kind, Node, Style, Tree};

/// Bytes of a text that become others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// Which bytes; none are replaced where it is empty.
    pub place: Range<usize>,
    /// What stands there afterwards.
    pub text: String,
}

/// A value to be written: a text, or texts under keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A text.
    Text(String),
    /// Texts under keys.
    Object(Vec<(&'static str, String)>),
}

/// Edits a text. Edits that say the same of the same place count once.
///
/// # Errors
///
/// Returns the place where two edits contradict each other.
pub fn apply(text: &str, mut edits: Vec<Edit>) -> Result<String, Range<usize>> {
    edits.sort_by(|a, b| (a.place.start, a.place.end, &a.text).cmp(&(b.place.start, b.place.end, &b.text)));
    edits.dedup();
    let mut edited = String::with_capacity(text.len() + edits.len() * 64);
    let mut at = 0;
    for Edit { place, text: new } in edits {
        if place.start < at {
            return Err(place);
        }
        edited.push_str(&text[at..place.start]);
        edited.push_str(&new);
        at = place.end;
    }
    edited.push_str(&text[at..]);
    Ok(edited)
}

/// Returns the edit that takes an entry out of a mapping in braces, with what separates it from the others; a mapping
/// that would be left empty goes too, as an entry of the one around it.
pub fn without(tree: &Tree, way: &[Id]) -> Option<Edit> {
    let (entry, above) = way.split_last()?;
    let around = *above.last()?;
    let entries = tree.entries(around);
    let place = entries.iter().position(|(_, child)| child == entry)?;
    if entries.len() == 1 && above.len() > 1 {
        return without(tree, above);
    }
    let node = tree.node(*entry);
    let place = match (place.checked_sub(1), entries.get(place + 1)) {
        (Some(before), _) => tree.node(entries[before].1).end..node.end,
        (None, Some((_, next))) => node.key.clone()?.start..tree.node(*next).key.clone()?.start,
        (None, None) => node.key.clone()?.start..node.end,
    };
    Some(Edit { place, text: String::new() })
}

/// Returns the edit that takes a scalar out of a list, with what separates it from the others.
pub fn without_item(text: &str, tree: &Tree, list: Id, number: usize) -> Option<Edit> {
    let places: Vec<Range<usize>> =
        tree.entries(list).into_iter().map(|(_, item)| tree.node(item).value.start..tree.node(item).end).collect();
    let own = places.get(number)?.clone();
    let is_flow = text[tree.node(list).value.start..].starts_with('[');
    let place = match (is_flow, number.checked_sub(1), places.get(number + 1)) {
        (true, _, Some(next)) => own.start..next.start,
        (true, Some(before), None) => places[before].end..own.end,
        (true, None, None) => own,
        (false, ..) => {
            let start = text[..own.start].rfind('\n').map_or(0, |end| end + 1);
            let end = text[own.end..].find('\n').map_or(text.len(), |end| own.end + end + 1);
            text[start..].trim_start().starts_with("- ").then_some(start..end)?
        }
    };
    Some(Edit { place, text: String::new() })
}

impl Value {
    /// Writes the value as what it replaces was written, on one line that is YAML, and JSON where JSON is asked for.
    pub fn written(&self, style: Style) -> String {
        let safe = |text: &str| {
            let is_safe = |c: char| c.is_ascii_alphanumeric() || "/._-:".contains(c);
            text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.chars().all(is_safe) && !text.ends_with(':')
        };
        let quote = |text: &str| match style {
            Style::Plain if safe(text) => text.to_owned(),
            Style::Single if safe(text) => format!("'{text}'"),
            _ => serde_json::Value::from(text).to_string(),
        };
        match self {
            Self::Text(text) => quote(text),
            Self::Object(entries) => {
                let entry = |(key, value): &(&str, String)| match style {
                    Style::Double => format!("\"{key}\": {}", quote(value)),
                    _ => format!("{key}: {}", quote(value)),
                };
                format!("{{{}}}", entries.iter().map(entry).collect::<Vec<_>>().join(", "))
            }
        }
    }

    /// Returns the edit that puts this value in the place of a node; none where the node's form leaves no place for it.
    pub fn instead_of(&self, node: &Node) -> Option<Edit> {
        let style = match &node.kind {
            Kind::Scalar(_, style @ (Style::Plain | Style::Single | Style::Double)) => *style,
            Kind::Alias(_) => Style::Plain,
            Kind::Scalar(_, Style::Block) | Kind::Sequence | Kind::Mapping { .. } => return None,
        };
        (node.tag.is_none() && !node.value.is_empty())
            .then(|| Edit { place: node.value.clone(), text: self.written(style) })
    }

    /// Returns the edit that adds this value under a new key, before the first key of a mapping; none where something
    /// else, as an anchor, stands before that key.
    pub fn before(&self, first: &Range<usize>, flow: bool, key: &str, text: &str) -> Option<Edit> {
        let quoted = text[first.clone()].starts_with('"');
        let style = if quoted { Style::Double } else { Style::Plain };
        let entry = match style {
            Style::Double => format!("\"{key}\": {}", self.written(style)),
            _ => format!("{key}: {}", self.written(style)),
        };
        let line = text[..first.start].rfind('\n').map_or(0, |at| at + 1);
        let indent = &text[line..first.start];
        let is_blank = |c: char| c == ' ' || c == '\t' || (!flow && c == '-');
        let is_first = flow && text[..first.start].trim_end().ends_with('{');
        if !is_first && !indent.chars().all(is_blank) {
            return None;
        }
        let end = if text[first.end..].find('\n').is_some_and(|at| text[..first.end + at].ends_with('\r')) {
            "\r\n"
        } else {
            "\n"
        };
        let new = match (flow, indent.trim().is_empty()) {
            (true, false) => format!("{entry}, "),
            (true, true) => format!("{entry},{end}{indent}"),
            // A block may begin behind the dash of a list.
            (false, _) => format!("{entry}{end}{}", " ".repeat(indent.chars().count())),
        };
        Some(Edit { place: first.start..first.start, text: new })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_yaml::Value as Yaml;

    use super::*;

    fn replace(text: &str, keys: &[&str], value: &Value) -> String {
        let tree = Tree::parse(text).unwrap();
        let id = keys.iter().fold(tree.root().unwrap(), |id, key| tree.child(id, key).unwrap());
        apply(text, vec![value.instead_of(tree.node(id)).unwrap()]).unwrap()
    }

    fn object() -> Value {
        Value::Object(vec![("S3Bucket", "b".into()), ("S3Key", "k/x.zip".into())])
    }

    #[test]
    fn values_are_written_as_those_they_replace() {
        let uri = Value::Text("s3://b/k".into());
        assert_eq!(replace("a: src/ # why\nb: 1\n", &["a"], &uri), "a: s3://b/k # why\nb: 1\n");
        assert_eq!(replace("a: 'src'\r\n", &["a"], &uri), "a: 's3://b/k'\r\n");
        assert_eq!(
            replace("{\"a\":\"src\"}", &["a"], &object()),
            "{\"a\":{\"S3Bucket\": \"b\", \"S3Key\": \"k/x.zip\"}}"
        );
        assert_eq!(replace("a: src\n", &["a"], &object()), "a: {S3Bucket: b, S3Key: k/x.zip}\n");
        assert_eq!(replace("a: {b: src, c: d}", &["a", "b"], &uri), "a: {b: s3://b/k, c: d}");
        assert_eq!(replace("x: &x src\na: *x\n", &["a"], &uri), "x: &x src\na: s3://b/k\n");
        assert_eq!(replace("a: src\n", &["a"], &Value::Text("s3://b/a b#".into())), "a: \"s3://b/a b#\"\n");
    }

    #[test]
    fn what_has_another_form_is_not_touched_and_contradictions_are_found() {
        let tree = Tree::parse("a: |\n  src\nb: !Sub x\nc: [d]\n").unwrap();
        for key in ["a", "b", "c"] {
            let node = tree.node(tree.child(tree.root().unwrap(), key).unwrap());
            assert_eq!(object().instead_of(node), None, "{key}");
        }
        let edit = |place: Range<usize>, text: &str| Edit { place, text: text.into() };
        assert_eq!(apply("abc", vec![edit(1..2, "x"), edit(1..2, "x")]), Ok("axc".into()));
        assert_eq!(apply("abc", vec![edit(1..2, "x"), edit(1..2, "y")]), Err(1..2));
    }

    #[test]
    fn a_key_is_added_before_the_first() {
        for (text, expected) in [
            ("p:\n  a: 1\n  b: 2\n", "p:\n  K: v\n  a: 1\n  b: 2\n"),
            ("p:\r\n  a: 1\r\n", "p:\r\n  K: v\r\n  a: 1\r\n"),
            ("p: {a: 1}", "p: {K: v, a: 1}"),
            ("{\"p\": {\"a\": 1}}", "{\"p\": {\"K\": \"v\", \"a\": 1}}"),
            ("{\n \"p\": {\n  \"a\": 1\n }\n}\n", "{\n \"p\": {\n  \"K\": \"v\",\n  \"a\": 1\n }\n}\n"),
        ] {
            let tree = Tree::parse(text).unwrap();
            let id = tree.child(tree.root().unwrap(), "p").unwrap();
            let first = tree.node(tree.entries(id)[0].1).key.clone().unwrap();
            let flow = matches!(tree.node(id).kind, Kind::Mapping { flow: true });
            let edit = Value::Text("v".into()).before(&first, flow, "K", text).unwrap();
            assert_eq!(apply(text, vec![edit]).unwrap(), expected);
        }
    }

    #[test]
    fn an_entry_is_taken_out_with_its_comma() {
        for (text, way, expected) in [
            ("{\"a\": 1, \"b\": {}, \"c\": 3}", vec!["b"], "{\"a\": 1, \"c\": 3}"),
            ("{\n \"a\": {\"x\": 1},\n \"b\": 2\n}", vec!["a"], "{\n \"b\": 2\n}"),
            ("{\"a\": 1, \"b\": {\"x\": {}}, \"c\": 3}", vec!["b", "x"], "{\"a\": 1, \"c\": 3}"),
            ("{\"a\": {\"x\": 1, \"y\": [2, {}]}}", vec!["a", "y"], "{\"a\": {\"x\": 1}}"),
        ] {
            let tree = Tree::parse(text).unwrap();
            let mut ids = vec![tree.root().unwrap()];
            for key in way {
                ids.push(tree.child(ids[ids.len() - 1], key).unwrap());
            }
            assert_eq!(apply(text, vec![without(&tree, &ids).unwrap()]).unwrap(), expected);
        }
    }

    /// A mapping of texts to texts, lists and mappings, in some style, with comments where they can be.
    fn yaml(depth: u32) -> BoxedStrategy<(Yaml, bool)> {
        let text = "[a-z äß#:,'\"\\\\{}\\[\\]&*!|>%@-]{0,12}".prop_map(Yaml::from);
        let leaf = prop_oneof![text, any::<i16>().prop_map(Yaml::from), any::<bool>().prop_map(Yaml::from)];
        let value = leaf.prop_recursive(depth, 24, 4, |inner| {
            let entries = prop::collection::vec(("[A-Za-z]{1,6}", inner.clone()), 1..4);
            let mapping = entries.prop_map(|entries| {
                Yaml::Mapping(entries.into_iter().map(|(key, value)| (Yaml::from(key), value)).collect())
            });
            prop_oneof![prop::collection::vec(inner, 1..4).prop_map(Yaml::Sequence), mapping]
        });
        (value, any::<bool>()).boxed()
    }

    proptest! {
        /// What is parsed after the edit is what was parsed before, with the value replaced; all other bytes are equal.
        #[test]
        fn an_edit_changes_its_value_and_nothing_else(
            (before, json) in yaml(4), (after, _) in yaml(4), path in "[a-z/._-]{1,12}",
            comment in "[a-z ]{0,8}", key in "[a-z]{1,8}", bucket in "[a-z 0-9#:'\"-]{1,12}", as_object in any::<bool>(),
        ) {
            let mut root = serde_yaml::Mapping::new();
            root.insert("Before".into(), before);
            root.insert("Code".into(), Yaml::from(path.clone()));
            root.insert("After".into(), after);
            let mut text = if json {
                serde_json::to_string_pretty(&root).unwrap()
            } else {
                let text = serde_yaml::to_string(&root).unwrap();
                text.replacen("\nCode: ", &format!("\n# {comment}\nCode:  "), 1)
            };
            if !json {
                text = text.replacen("\nAfter:", &format!(" # {comment}\n\nAfter:"), 1);
            }
            let parsed: Yaml = serde_yaml::from_str(&text).unwrap();
            prop_assert_eq!(parsed.get("Code").unwrap(), &Yaml::from(path));

            let (value, expected) = if as_object {
                let mut object = serde_yaml::Mapping::new();
                object.insert("S3Bucket".into(), bucket.clone().into());
                object.insert("S3Key".into(), key.clone().into());
                (Value::Object(vec![("S3Bucket", bucket), ("S3Key", key)]), Yaml::Mapping(object))
            } else {
                (Value::Text(format!("s3://{bucket}/{key}")), Yaml::from(format!("s3://{bucket}/{key}")))
            };
            let tree = Tree::parse(&text).unwrap();
            let node = tree.node(tree.child(tree.root().unwrap(), "Code").unwrap());
            let Some(edit) = value.instead_of(node) else { return Err(TestCaseError::reject("a block")) };
            let edited = apply(&text, vec![edit.clone()]).unwrap();

            let mut wanted = parsed;
            *wanted.get_mut("Code").unwrap() = expected;
            prop_assert_eq!(serde_yaml::from_str::<Yaml>(&edited).unwrap(), wanted.clone());
            if json {
                let read: Yaml = serde_json::from_str(&edited).unwrap();
                prop_assert_eq!(read, wanted);
            }
            prop_assert_eq!(&edited[..edit.place.start], &text[..edit.place.start]);
            prop_assert_eq!(&edited[edit.place.start + edit.text.len()..], &text[edit.place.end..]);
        }
    }
}
