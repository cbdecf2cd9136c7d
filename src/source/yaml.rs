//! Where everything is in a YAML or JSON text.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use super::edit::{Edit, apply};
use granit_parser::{Event, Parser, ScalarStyle, Span, StructureStyle};

/// A text as a tree of places.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    nodes: Vec<Node>,
    /// Which node an anchor names, by the parser's number.
    anchors: HashMap<usize, Id>,
    /// Keys that are aliases, with what they stand for.
    keys: Vec<Edit>,
}

/// A node of a tree, by its number.
pub type Id = usize;

/// A value with its place and that of its key.
#[derive(Debug, Clone)]
pub struct Node {
    /// The bytes of its key, if it has one.
    pub key: Option<Range<usize>>,
    /// Its own bytes. Of a block they are those of its first child, of what is in braces or brackets those of the first.
    pub value: Range<usize>,
    /// The end of its bytes, where it is in braces or brackets, or a scalar.
    pub end: usize,
    /// What it is.
    pub kind: Kind,
    /// Its tag as it is written, as `!Sub`.
    pub tag: Option<String>,
    children: Vec<(String, Id)>,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A text, a number, or nothing.
    Scalar(String, Style),
    /// A list.
    Sequence,
    /// Keys and values; `flow` where they are in braces.
    Mapping {
        /// Whether it is in braces.
        flow: bool,
    },
    /// `*name`: what the anchor names.
    Alias(usize),
}

/// Why a text is not YAML.
#[derive(Debug, Clone)]
pub struct Unreadable {
    /// What is wrong.
    pub why: String,
    /// At which byte.
    pub at: usize,
}

/// How a scalar is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Without quotes.
    Plain,
    /// In `'`.
    Single,
    /// In `"`.
    Double,
    /// After `|` or `>`.
    Block,
}

/// The merge key of YAML 1.1: what is behind it counts as the mapping's own, where the mapping does not say otherwise.
const MERGE: &str = "<<";

/// More than this is no template: CloudFormation takes a mebibyte.
const MOST: usize = 1 << 20;

impl Tree {
    /// Reads a text.
    ///
    /// # Errors
    ///
    /// Says why and where the text is not YAML 1.2, which is stricter than what CloudFormation takes.
    pub fn parse(text: &str) -> Result<Self, Unreadable> {
        let mut tree = Self::default();
        let mut failed = None;
        let mut events = Parser::new_from_str(text)
            .map_while(|event| event.map_err(|error| failed = Some(error)).ok())
            .filter(|(event, _)| is_node(event));
        let complete = events.next().map(|(event, span)| tree.read(event, span, None, &mut events));
        // What comes after the first value is looked at too.
        events.by_ref().for_each(drop);
        drop(events);
        match (failed, complete) {
            (Some(error), _) => {
                let at = error.marker().byte_offset().unwrap_or_default().min(text.len());
                Err(Unreadable { why: error.info(), at })
            }
            (None, Some(None)) => Err(Unreadable { why: "it ends too early".to_owned(), at: text.len() }),
            (None, _) => Ok(tree),
        }
    }

    /// Returns the outermost node.
    pub fn root(&self) -> Option<Id> {
        (!self.nodes.is_empty()).then_some(0)
    }

    /// Returns a node.
    pub fn node(&self, id: Id) -> &Node {
        &self.nodes[id]
    }

    /// Returns the node that is meant: of an alias, what its anchor names.
    pub fn resolve(&self, id: Id) -> Id {
        match self.nodes[id].kind {
            Kind::Alias(anchor) => self.anchors.get(&anchor).copied().unwrap_or(id),
            _ => id,
        }
    }

    /// Returns the entries of a mapping, those that it merges in too, or the items of a list under their numbers.
    pub fn entries(&self, id: Id) -> Vec<(&str, Id)> {
        let id = self.resolve(id);
        let node = &self.nodes[id];
        let mut seen: HashSet<&str> = HashSet::new();
        let mut entries = Vec::with_capacity(node.children.len());
        for (name, child) in node.children.iter().filter(|(name, _)| name != MERGE) {
            seen.insert(name);
            entries.push((name.as_str(), *child));
        }
        // A mapping that is merged may merge others itself; one that merges itself is looked at once.
        let mut visited = HashSet::from([id]);
        let mut waiting = self.merges(id);
        waiting.reverse();
        while let Some(source) = waiting.pop() {
            if !visited.insert(source) {
                continue;
            }
            for (name, child) in self.nodes[source].children.iter().filter(|(name, _)| name != MERGE) {
                if seen.insert(name) {
                    entries.push((name, *child));
                }
            }
            waiting.extend(self.merges(source).into_iter().rev());
        }
        entries
    }

    /// Returns a child by its key or number.
    pub fn child(&self, id: Id, name: &str) -> Option<Id> {
        let node = &self.nodes[self.resolve(id)];
        // A list may be as long as there are tenants.
        if matches!(node.kind, Kind::Sequence) {
            let number: usize = name.parse().ok()?;
            return node.children.get(number).filter(|(key, _)| key == name).map(|(_, child)| *child);
        }
        let own = node.children.iter().find(|(key, _)| key == name).map(|(_, child)| *child);
        let merges = || node.children.iter().any(|(key, _)| key == MERGE);
        own.or_else(|| {
            let mut all = if merges() { self.entries(id) } else { Vec::new() };
            all.drain(..).find(|(key, _)| *key == name).map(|(_, child)| child)
        })
    }

    /// Returns a text that stands for itself: without a tag that makes a function of it, and not nothing.
    pub fn text(&self, id: Id) -> Option<&str> {
        let node = &self.nodes[self.resolve(id)];
        match &node.kind {
            Kind::Scalar(text, _) if node.tag.is_none() && !self.is_null(id) => Some(text),
            _ => None,
        }
    }

    /// Tells whether a value is nothing: left out, `null` or `~`.
    pub fn is_null(&self, id: Id) -> bool {
        let node = &self.nodes[self.resolve(id)];
        matches!(&node.kind, Kind::Scalar(text, Style::Plain) if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
            && node.tag.is_none()
    }

    /// Tells whether a value has a tag, which makes a function of it.
    pub fn is_tagged(&self, id: Id) -> bool {
        self.nodes[self.resolve(id)].tag.is_some()
    }

    /// Returns the aliases and merges of a text written out, or none where it has none: CloudFormation takes neither.
    ///
    /// # Errors
    ///
    /// Returns the place of an alias that is within what it names, or of one that makes the text larger than any template.
    pub fn expanded(&self, text: &str) -> Result<Option<String>, Range<usize>> {
        let mut edits = self.keys.clone();
        let mut most = MOST;
        for node in &self.nodes {
            for (name, child) in &node.children {
                let Kind::Alias(_) = self.nodes[*child].kind else { continue };
                let place = self.nodes[*child].value.clone();
                if name != MERGE {
                    edits.push(Edit { text: self.flow(text, *child, &mut Vec::new(), &mut most)?, place });
                }
            }
            if let Some(edit) = self.merged(text, node, &mut most)? {
                edits.push(edit);
            }
        }
        if edits.is_empty() {
            return Ok(None);
        }
        // A mapping that is merged may have aliases itself, which are in the text that it becomes.
        edits.sort_by_key(|edit| (edit.place.start, std::cmp::Reverse(edit.place.end)));
        let mut end = 0;
        edits.retain(|edit| {
            let is_outer = edit.place.start >= end;
            end = end.max(edit.place.end);
            is_outer
        });
        apply(text, edits).map(Some)
    }

    /// Returns the mappings that a mapping merges in, in their order.
    fn merges(&self, id: Id) -> Vec<Id> {
        let merges = self.nodes[id].children.iter().filter(|(name, _)| name == MERGE);
        merges.flat_map(|(_, merge)| self.sources(*merge)).collect()
    }

    /// Writes out what a mapping merges in, in the place of the merge. That has to be on one line, as `<<: *name`: the end
    /// of a block is not known.
    fn merged(&self, text: &str, node: &Node, most: &mut usize) -> Result<Option<Edit>, Range<usize>> {
        let mut merges = node.children.iter().filter(|(name, _)| name == MERGE);
        let (Some((_, merge)), Kind::Mapping { flow }) = (merges.next(), &node.kind) else { return Ok(None) };
        let own: HashSet<&str> = node.children.iter().map(|(name, _)| name.as_str()).collect();
        let id = *merge;
        let merge = &self.nodes[id];
        let key = merge.key.clone().unwrap_or_default();
        if !matches!(merge.kind, Kind::Alias(_)) && !matches!(text.as_bytes().get(merge.value.start), Some(b'[' | b'{'))
        {
            return Err(key);
        }
        let mut entries = Vec::new();
        let mut seen = own;
        let mut sources = self.sources(id);
        // One that is named again has nothing more to say.
        let mut visited = HashSet::new();
        sources.retain(|source| visited.insert(*source));
        for source in sources {
            for (name, child) in self.entries(source) {
                if seen.insert(name) {
                    let value = self.flow(text, child, &mut Vec::new(), most)?;
                    entries.push(format!("{}: {value}", quoted(name)));
                }
            }
        }
        let line = text[..key.start].rfind('\n').map_or(0, |at| at + 1);
        let between =
            if *flow { ", ".to_owned() } else { format!("\n{}", " ".repeat(text[line..key.start].chars().count())) };
        if !entries.is_empty() {
            return Ok(Some(Edit { place: key.start..merge.end, text: entries.join(&between) }));
        }
        // It adds nothing, and goes with what separates it from the next; behind the last there may be anything.
        let at = node.children.iter().position(|(_, child)| *child == id).unwrap_or_default();
        let next = node.children.get(at + 1).and_then(|(_, child)| self.nodes[*child].key.clone());
        match (next, node.children.len()) {
            (Some(next), _) => Ok(Some(Edit { place: key.start..next.start, text: String::new() })),
            (None, 1) if !flow => Ok(Some(Edit { place: key.start..merge.end, text: "{}".to_owned() })),
            (None, 1) => Ok(Some(Edit { place: key.start..merge.end, text: String::new() })),
            (None, _) => Err(key),
        }
    }

    /// Returns the mappings that a merge names.
    fn sources(&self, merge: Id) -> Vec<Id> {
        let source = self.resolve(merge);
        match self.nodes[source].kind {
            Kind::Sequence => self.nodes[source].children.iter().map(|(_, id)| self.resolve(*id)).collect(),
            _ => vec![source],
        }
    }

    /// Writes a value on one line.
    fn flow(&self, text: &str, id: Id, way: &mut Vec<Id>, most: &mut usize) -> Result<String, Range<usize>> {
        let place = self.nodes[id].value.clone();
        let id = self.resolve(id);
        let node = &self.nodes[id];
        if way.contains(&id) {
            return Err(place);
        }
        way.push(id);
        let value = match &node.kind {
            _ if self.is_null(id) => "null".to_owned(),
            Kind::Scalar(_, Style::Plain) if is_plain(&text[node.value.clone()]) => text[node.value.clone()].to_owned(),
            Kind::Scalar(text, _) => quoted(text),
            Kind::Alias(_) => return Err(place),
            Kind::Sequence => {
                let items: Result<Vec<_>, _> =
                    node.children.iter().map(|(_, child)| self.flow(text, *child, way, most)).collect();
                format!("[{}]", items?.join(", "))
            }
            Kind::Mapping { .. } => {
                let entries: Result<Vec<_>, Range<usize>> = self
                    .entries(id)
                    .into_iter()
                    .map(|(name, child)| Ok(format!("{}: {}", quoted(name), self.flow(text, child, way, most)?)))
                    .collect();
                format!("{{{}}}", entries?.join(", "))
            }
        };
        way.pop();
        *most = most.checked_sub(value.len()).ok_or(place)?;
        Ok(match &node.tag {
            Some(tag) => match tag.strip_prefix("tag:yaml.org,2002:") {
                Some(standard) => format!("!!{standard} {value}"),
                None => format!("{tag} {value}"),
            },
            None => value,
        })
    }

    /// Calls `visit` with every scalar below a node.
    pub fn scalars<'a>(&'a self, id: Id, visit: &mut impl FnMut(Id, &'a str)) {
        if let Kind::Scalar(text, _) = &self.nodes[id].kind {
            visit(id, text);
        }
        for (_, child) in &self.nodes[id].children {
            self.scalars(*child, visit);
        }
    }

    /// Reads a node that begins with an event, and returns its number; none where the text ends too early.
    fn read<'a>(
        &mut self,
        event: Event<'a>,
        span: Span,
        key: Option<Range<usize>>,
        rest: &mut impl Iterator<Item = (Event<'a>, Span)>,
    ) -> Option<Id> {
        let bytes = span.byte_range()?;
        let (kind, anchor, tag) = match event {
            Event::Scalar(text, style, anchor, tag) => (Kind::Scalar(text.into_owned(), style.into()), anchor, tag),
            Event::MappingStart(style, anchor, tag) => {
                (Kind::Mapping { flow: style == StructureStyle::Flow }, anchor, tag)
            }
            Event::SequenceStart(_, anchor, tag) => (Kind::Sequence, anchor, tag),
            Event::Alias(anchor) => (Kind::Alias(anchor), 0, None),
            _ => return None,
        };
        let id = self.nodes.len();
        if anchor != 0 {
            self.anchors.insert(anchor, id);
        }
        let tag = tag.map(|tag| tag.to_string());
        let (is_mapping, is_sequence) = (matches!(kind, Kind::Mapping { .. }), kind == Kind::Sequence);
        self.nodes.push(Node { key, end: bytes.end, value: bytes.clone(), kind, tag, children: Vec::new() });
        let (mut children, mut end) = (Vec::new(), bytes.end);
        if is_mapping {
            loop {
                let (event, span) = rest.next()?;
                let (name, place) = match event {
                    Event::MappingEnd => {
                        end = span.byte_range()?.end;
                        break;
                    }
                    Event::Scalar(name, style, anchor, _) => {
                        let place = span.byte_range()?;
                        if anchor != 0 {
                            self.anchors.insert(anchor, self.nodes.len());
                            self.nodes.push(Node {
                                key: None,
                                end: place.end,
                                value: place.clone(),
                                kind: Kind::Scalar(name.to_string(), style.into()),
                                tag: None,
                                children: Vec::new(),
                            });
                        }
                        (name.into_owned(), place)
                    }
                    Event::Alias(anchor) => {
                        let place = span.byte_range()?;
                        let named = self.anchors.get(&anchor).map(|id| &self.nodes[*id].kind);
                        let Some(Kind::Scalar(name, _)) = named else { return None };
                        let name = name.clone();
                        self.keys.push(Edit { place: place.clone(), text: quoted(&name) });
                        (name, place)
                    }
                    other => {
                        let key = self.read(other, span, None, rest)?;
                        (String::new(), self.nodes[key].value.clone())
                    }
                };
                let (event, span) = rest.next()?;
                children.push((name, self.read(event, span, Some(place), rest)?));
            }
        }
        if is_sequence {
            for number in 0.. {
                match rest.next()? {
                    (Event::SequenceEnd, span) => {
                        end = span.byte_range()?.end;
                        break;
                    }
                    (event, span) => children.push((number.to_string(), self.read(event, span, None, rest)?)),
                }
            }
        }
        // The start of a block is an empty span: its first child is where the reader looks.
        if let Some((_, child)) = children.first().filter(|_| bytes.is_empty()) {
            let child = &self.nodes[*child];
            self.nodes[id].value = child.key.clone().unwrap_or_else(|| child.value.clone());
        }
        self.nodes[id].children = children;
        self.nodes[id].end = end;
        Some(id)
    }
}

/// Returns a text in quotes.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Tells whether a plain scalar can stand between braces as it is.
fn is_plain(text: &str) -> bool {
    let is_safe = |c: char| c.is_alphanumeric() || "/._-+~".contains(c);
    let is_word = text.starts_with(|c: char| c.is_alphanumeric() || c == '/' || c == '~') && text.chars().all(is_safe);
    is_word || text.parse::<f64>().is_ok()
}

/// Leaves out what is no part of a value: frames of streams and documents, anchors, comments.
fn is_node(event: &Event<'_>) -> bool {
    use Event::{Alias, MappingEnd, MappingStart, Scalar, SequenceEnd, SequenceStart};
    matches!(event, Scalar(..) | SequenceStart(..) | SequenceEnd | MappingStart(..) | MappingEnd | Alias(..))
}

impl From<ScalarStyle> for Style {
    fn from(style: ScalarStyle) -> Self {
        match style {
            ScalarStyle::Plain => Self::Plain,
            ScalarStyle::SingleQuoted => Self::Single,
            ScalarStyle::DoubleQuoted => Self::Double,
            ScalarStyle::Literal | ScalarStyle::Folded => Self::Block,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
base: &base
  path: src/   # a comment
  tagged: !Sub '${A}/b'
one: {<<: *base, path: \"other\"}
two:
  <<: [*base]
three: *base
none:
block: |
  text
";

    fn at<'a>(tree: &'a Tree, keys: &[&str]) -> (Id, &'a Node) {
        let id = keys.iter().fold(tree.root().unwrap(), |id, key| tree.child(id, key).unwrap());
        (id, tree.node(id))
    }

    #[test]
    fn places_styles_and_tags_are_known() {
        let tree = Tree::parse(TEXT).unwrap();
        let (id, node) = at(&tree, &["base", "path"]);
        assert_eq!((tree.text(id), &TEXT[node.value.clone()]), (Some("src/"), "src/"));
        let (id, node) = at(&tree, &["base", "tagged"]);
        assert_eq!((tree.text(id), node.tag.as_deref()), (None, Some("!Sub")));
        assert!(tree.is_tagged(id));
        let (_, node) = at(&tree, &["one", "path"]);
        assert_eq!(
            (&TEXT[node.value.clone()], &node.kind),
            ("\"other\"", &Kind::Scalar("other".into(), Style::Double))
        );
        assert!(tree.is_null(at(&tree, &["none"]).0));
        assert!(matches!(at(&tree, &["block"]).1.kind, Kind::Scalar(_, Style::Block)));
    }

    #[test]
    fn aliases_and_merges_lead_to_what_they_name() {
        let tree = Tree::parse(TEXT).unwrap();
        let base = at(&tree, &["base", "path"]).0;
        assert_eq!(at(&tree, &["two", "path"]).0, base);
        assert_eq!(at(&tree, &["three", "path"]).0, base);
        let names: Vec<&str> = tree.entries(at(&tree, &["one"]).0).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["path", "tagged"]);
    }

    #[test]
    fn what_is_not_yaml_has_a_place() {
        assert!(Tree::parse("").unwrap().root().is_none());
        let error = Tree::parse("a: 1\nb: [-, c]\n").unwrap_err();
        assert_eq!(error.at, 9, "{}", error.why);
        assert!(Tree::parse("a: [").is_err());
    }

    #[test]
    fn aliases_and_merges_are_written_out() {
        use serde_yaml::Value;
        let all = "\
Base: &base
  Handler: &h app.handler
  Code: src/
  Text: |
    of two
    lines
  Env: {A: !Sub '${X}', \"B\": [1, yes, ~, \"quoted: {}\"]}
One:
  <<: *base
  Code: other
Two: {<<: [*base, {More: 1}], Handler: x}
Three: *base
List:
  - *h
  - <<: *base
";
        let tree = Tree::parse(all).unwrap();
        let expanded = tree.expanded(all).unwrap().unwrap();
        assert!(!expanded.contains("*base") && !expanded.contains("<<"), "{expanded}");
        let mut before: Value = serde_yaml::from_str(all).unwrap();
        before.apply_merge().unwrap();
        assert_eq!(serde_yaml::from_str::<Value>(&expanded).unwrap(), before, "{expanded}");
        for (text, expected) in [
            ("A: &a {X: 1}\nB: &b {<<: *a, Y: 2}\nC: &c {<<: *b}\nD:\n  <<: *c\n", "D:\n  \"Y\": 2\n  \"X\": 1\n"),
            ("A: &a\n  Z:\nR: *a\n", "R: {\"Z\": null}\n"),
            ("A: &a {H: 1}\nB: {<<: *a, H: 2}\n", "B: {H: 2}\n"),
            ("A: &a {H: 1}\nB:\n  <<: *a\n  H: 2\n", "B:\n  H: 2\n"),
            ("A: &a !!str 12\nB: *a\n", "B: !!str 12\n"),
            ("A: &a [-1, .5, 12:30, '1']\nB: *a\n", "B: [-1, .5, \"12:30\", \"1\"]\n"),
            ("&k A: 1\nB: *k\n", "B: A\n"),
            ("A: &k x\n*k : 1\n", "\"x\" : 1\n"),
        ] {
            let expanded = Tree::parse(text).unwrap().expanded(text).unwrap().unwrap();
            assert!(expanded.ends_with(expected), "{expanded}");
        }
        let block = "A: &a {X: 1}\nL:\n  - <<:\n      - *a\n  - b\n";
        assert!(Tree::parse(block).unwrap().expanded(block).is_err(), "its end is not known");
        assert!(expanded.starts_with(&all[..all.find("One:").unwrap()]), "what has none stays");
        assert_eq!(Tree::parse(TEXT.split("one:").next().unwrap()).unwrap().expanded("").unwrap(), None);
        let endless = "a: &a {b: *a}";
        assert_eq!(Tree::parse(endless).unwrap().expanded(endless), Err(10..12));
    }
}
