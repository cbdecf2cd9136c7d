//! Where everything is in a YAML or JSON text.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use granit_parser::{Event, Parser, ScalarStyle, Span, StructureStyle};

/// A text as a tree of places.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    nodes: Vec<Node>,
    /// Which node an anchor names, by the parser's number.
    anchors: HashMap<usize, Id>,
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

impl Tree {
    /// Reads a text; empty where it is not YAML, which reading it as a value explains.
    pub fn parse(text: &str) -> Self {
        let mut tree = Self::default();
        let mut events = Parser::new_from_str(text).map_while(Result::ok).filter(|(event, _)| is_node(event));
        let complete = events.next().and_then(|(event, span)| tree.read(event, span, None, &mut events));
        if complete.is_some() { tree } else { Self::default() }
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
        let node = &self.nodes[self.resolve(id)];
        let mut seen: HashSet<&str> = HashSet::new();
        let mut entries = Vec::with_capacity(node.children.len());
        for (name, child) in node.children.iter().filter(|(name, _)| name != MERGE) {
            seen.insert(name);
            entries.push((name.as_str(), *child));
        }
        for (_, merged) in node.children.iter().filter(|(name, _)| name == MERGE) {
            let source = self.resolve(*merged);
            let sources = match self.nodes[source].kind {
                Kind::Sequence => self.nodes[source].children.iter().map(|(_, id)| self.resolve(*id)).collect(),
                _ => vec![source],
            };
            for (name, child) in sources.into_iter().flat_map(|source| &self.nodes[source].children) {
                if name != MERGE && seen.insert(name) {
                    entries.push((name, *child));
                }
            }
        }
        entries
    }

    /// Returns a child by its key or number.
    pub fn child(&self, id: Id, name: &str) -> Option<Id> {
        let node = &self.nodes[self.resolve(id)];
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
            Kind::Scalar(text, Style::Plain) if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL") => None,
            Kind::Scalar(text, _) if node.tag.is_none() => Some(text),
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
                    Event::Scalar(name, ..) => (name.into_owned(), span.byte_range()?),
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
        let tree = Tree::parse(TEXT);
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
        let tree = Tree::parse(TEXT);
        let base = at(&tree, &["base", "path"]).0;
        assert_eq!(at(&tree, &["two", "path"]).0, base);
        assert_eq!(at(&tree, &["three", "path"]).0, base);
        let names: Vec<&str> = tree.entries(at(&tree, &["one"]).0).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["path", "tagged"]);
    }

    #[test]
    fn what_is_not_yaml_is_an_empty_tree() {
        assert!(Tree::parse("a: [").root().is_none());
        assert!(Tree::parse("").root().is_none());
    }
}
