//! A YAML file with the place of everything in it, and problems that point there.

use std::collections::HashSet;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use serde::de::DeserializeOwned;

use super::yaml::{Id, Tree, Unreadable};
use crate::domain::Masks;

/// A path into a document: keys of mappings and, as decimal numbers, places in sequences.
pub type Keys<'a> = &'a [&'a str];

/// A file that was read.
#[derive(Debug, Clone)]
pub struct Document {
    /// As the user named it, for messages.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
    /// Where everything is in it.
    pub tree: Tree,
    /// Why its places are not known, where they are not.
    pub unreadable: Option<Unreadable>,
    /// Whether its lines are not to be shown: it may have secrets, and be in no file of whoever reads.
    pub is_private: bool,
}

/// Something that is wrong with the input.
#[derive(Debug, Clone)]
pub struct Problem {
    message: String,
    hint: Option<String>,
    /// Which document, and which bytes of it.
    place: Option<(usize, Range<usize>)>,
}

/// Problems beyond so many are counted.
const SHOWN: usize = 20;

/// What anchors and aliases may hold, in bytes: ten thousand tenants with fifty kilobytes each.
const MOST_TEXT: usize = 512 * 1024 * 1024;

/// All problems of a project, rendered with the lines that they are about.
#[derive(Debug)]
pub struct Problems(Vec<String>);

impl Problem {
    /// A problem of the project as a whole.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, place: None }
    }

    /// Points at bytes of a document, given by its number in the project.
    #[must_use]
    pub fn at(mut self, document: usize, bytes: Range<usize>) -> Self {
        self.place = Some((document, bytes));
        self
    }

    /// Gives the problem's document another number, where those of several parts of a project are put together.
    #[must_use]
    pub fn renumbered(mut self, number: impl Fn(usize) -> usize) -> Self {
        self.place = self.place.map(|(document, bytes)| (number(document), bytes));
        self
    }

    /// Adds what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the name that was probably meant, if there is one close enough.
    #[must_use]
    pub fn did_you_mean<'a>(self, wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        match closest(wrong, known) {
            Some(name) => self.hint(format!("did you mean `{name}`?")),
            None => self,
        }
    }

    /// Adds the same out of all tenants, who are all looked at for it: to no more problems than are shown. `before` is how many
    /// problems there are already.
    #[must_use]
    pub fn did_you_mean_tenant<'a>(self, wrong: &str, known: impl IntoIterator<Item = &'a str>, before: usize) -> Self {
        if before < SHOWN { self.did_you_mean(wrong, known) } else { self }
    }

    fn render(&self, documents: &[Document]) -> String {
        if self.place.is_none() {
            let hint = self.hint.as_ref().map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
            let bad = anstyle::AnsiColor::BrightRed.on_default().bold();
            return format!("{bad}error{bad:#}: {}{hint}", self.message);
        }
        if let Some((document, bytes)) = self
            .place
            .as_ref()
            .and_then(|(number, bytes)| Some((documents.get(*number).filter(|document| document.is_private)?, bytes)))
        {
            let before = &document.text[..bytes.start.min(document.text.len())];
            let line = before.matches('\n').count() + 1;
            let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
            let place = format!("{} ({}:{line}:{column})", self.message, document.path.display());
            return Self { message: place, hint: self.hint.clone(), place: None }.render(documents);
        }
        let title = Level::ERROR.primary_title(&self.message);
        let group = match self.place.as_ref().and_then(|(number, bytes)| Some((documents.get(*number)?, bytes.clone())))
        {
            Some((document, bytes)) => title.element(
                Snippet::source(&document.text)
                    .path(document.path.to_string_lossy())
                    .annotation(AnnotationKind::Primary.span(bytes)),
            ),
            None => annotate_snippets::Group::with_title(title),
        };
        let hint = self
            .hint
            .as_ref()
            .map(|hint| annotate_snippets::Group::with_title(Level::HELP.with_name("hint").secondary_title(hint)));
        let report: Vec<_> = std::iter::once(group).chain(hint).collect();
        Renderer::styled().render(&report)
    }
}

/// Returns the known name that is closest to a wrong one, if one is close.
pub fn closest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let scored =
        known.into_iter().map(|name| (strsim::jaro_winkler(&wrong.to_lowercase(), &name.to_lowercase()), name));
    scored.filter(|(score, _)| *score > 0.8).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, name)| name)
}

impl Problems {
    /// Renders problems of these documents: each once, and no more than a person reads.
    pub fn new(documents: &[Document], problems: impl IntoIterator<Item = Problem>) -> Self {
        let mut seen = HashSet::new();
        let mut all: Vec<Problem> = problems.into_iter().collect();
        all.retain(|problem| seen.insert((problem.message.clone(), problem.place.clone())));
        let more = all.len().saturating_sub(SHOWN);
        let mut rendered: Vec<String> = all.iter().take(SHOWN).map(|problem| problem.render(documents)).collect();
        if more > 0 {
            rendered.push(format!("and {more} more problems"));
        }
        Self(rendered)
    }

    /// Takes secrets out of the lines that are shown.
    #[must_use]
    pub fn masked(self, masks: &Masks) -> Self {
        Self(self.0.iter().map(|text| masks.apply(text)).collect())
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n\n"))
    }
}

impl std::error::Error for Problems {}

impl Document {
    /// Reads a file.
    pub fn read(path: &Path, what: &str) -> Result<Self, Problem> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            let why = if error.kind() == std::io::ErrorKind::NotFound {
                "it does not exist".to_owned()
            } else {
                error.to_string()
            };
            Problem::new(format!("cannot read {what} {}: {why}", path.display()))
        })?;
        Ok(Self::new(path, text))
    }

    /// Takes a text as that of a file.
    pub fn new(path: &Path, text: String) -> Self {
        let (tree, unreadable) = match Tree::parse(&text) {
            Ok(tree) => (tree, None),
            Err(unreadable) => (Tree::default(), Some(unreadable)),
        };
        Self { path: path.to_owned(), text, tree, unreadable, is_private: false }
    }

    /// Writes out aliases and merges, which CloudFormation does not take.
    pub fn expanded(self, number: usize) -> Result<Self, Problem> {
        match self.tree.expanded(&self.text) {
            Ok(None) => Ok(self),
            Ok(Some(text)) => Ok(Self::new(&self.path, text)),
            Err(place) => Err(Problem::new("this alias or merge cannot be written out, and CloudFormation takes none")
                .at(number, place)),
        }
    }

    /// Reads the text as a value of a type; `number` is the document's number in the project.
    pub fn parse<T: DeserializeOwned>(&self, number: usize) -> Result<T, Problem> {
        // A list of ten thousand tenants is no attack, nor is one anchor for all of them. What aliases stand for is bounded by
        // what was written all the same, in the parser's events: they multiply.
        let by_alias = (20 * self.text.len()).clamp(250_000, 10_000_000);
        let options = serde_saphyr::options! {
            budget: serde_saphyr::budget! {
                max_events: usize::MAX,
                max_nodes: usize::MAX,
                max_anchors: usize::MAX,
                max_aliases: usize::MAX,
                max_merge_keys: usize::MAX,
                max_total_scalar_bytes: MOST_TEXT,
                max_recorded_anchor_bytes: MOST_TEXT,
                max_recorded_anchor_events: by_alias,
                enforce_alias_anchor_ratio: false,
            },
            alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: by_alias },
        };
        serde_saphyr::from_str_with_options(&self.text, options)
            .map_err(|error| self.explain(number, error.without_snippet()))
    }

    fn explain(&self, number: usize, error: &serde_saphyr::Error) -> Problem {
        use serde_saphyr::Error as E;
        use serde_saphyr::budget::BudgetBreach as Breach;
        let mut cause = error;
        while let E::AliasError { error, .. } = cause {
            cause = error;
        }
        let problem = match cause {
            E::SerdeUnknownField { field, expected, .. } => {
                let problem = Problem::new(format!("unknown key `{field}`"));
                match closest(field, expected.iter().copied()) {
                    Some(_) => problem.did_you_mean(field, expected.iter().copied()),
                    None => problem.hint(format!("known here: {}", expected.join(", "))),
                }
            }
            E::SerdeUnknownVariant { variant, expected, .. } => {
                Problem::new(format!("unknown value `{variant}`")).hint(format!("one of: {}", expected.join(", ")))
            }
            E::AliasReplayLimitExceeded { .. }
            | E::Budget {
                breach:
                    Breach::RecordedAnchorEvents { .. } | Breach::RecordedAnchorBytes { .. } | Breach::ScalarBytes { .. },
                ..
            } => Problem::new("anchors and aliases hold too much for a file of this length")
                .hint("write out what they name, or name less with each"),
            E::SerdeMissingField { field, .. } => Problem::new(format!("the key `{field}` is missing")),
            other => {
                let text = other.to_string();
                let text = text.lines().next().unwrap_or_default();
                if text.contains("null into string") {
                    return self.placed(number, error, Problem::new("there is no value here, a text is expected"));
                }
                Problem::new(text.split(" at line ").next().unwrap_or(text).to_owned())
            }
        };
        self.placed(number, error, problem)
    }

    /// Points at the place of an error.
    fn placed(&self, number: usize, error: &serde_saphyr::Error, problem: Problem) -> Problem {
        match error.location() {
            Some(location) => {
                let start = self.offset(location.line(), location.column());
                problem.at(number, start..self.word_end(start))
            }
            None => problem,
        }
    }

    fn offset(&self, line: u64, column: u64) -> usize {
        let line_start: usize = self
            .text
            .split_inclusive('\n')
            .take(usize::try_from(line.saturating_sub(1)).unwrap_or(0))
            .map(str::len)
            .sum();
        let rest = &self.text[line_start.min(self.text.len())..];
        let within = rest
            .char_indices()
            .nth(usize::try_from(column.saturating_sub(1)).unwrap_or(0))
            .map_or(rest.len(), |(at, _)| at);
        line_start + within
    }

    fn word_end(&self, start: usize) -> usize {
        let rest = &self.text[start.min(self.text.len())..];
        let length = rest.find(|c: char| c == ':' || c == ',' || c.is_whitespace()).unwrap_or(rest.len());
        start + length.max(usize::from(!rest.is_empty()))
    }

    /// Returns the bytes of a value, or of the nearest thing around it that there is.
    pub fn value(&self, keys: Keys<'_>) -> Range<usize> {
        self.find(keys).map_or(0..0, |id| self.tree.node(id).value.clone())
    }

    /// Returns the bytes of a key, or of the nearest thing around it that there is.
    pub fn key(&self, keys: Keys<'_>) -> Range<usize> {
        self.find(keys).map_or(0..0, |id| self.place(id))
    }

    /// Returns the bytes of a node's key, or of the node where it has none.
    pub fn place(&self, id: Id) -> Range<usize> {
        let node = self.tree.node(id);
        node.key.clone().unwrap_or_else(|| node.value.clone())
    }

    fn find(&self, keys: Keys<'_>) -> Option<Id> {
        let mut id = self.tree.root()?;
        for key in keys {
            match self.tree.child(id, key) {
                Some(child) => id = child,
                None => break,
            }
        }
        Some(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# comment\na: 1\nb:\n  - c: zwölf\n    d: [x, y]\n  - !Sub 'text'\n";

    fn document() -> Document {
        Document::new(Path::new("f.yaml"), TEXT.into())
    }

    #[test]
    fn keys_and_values_are_found_by_their_path() {
        let document = document();
        let text = |range: Range<usize>| &TEXT[range];
        assert_eq!(text(document.value(&["a"])), "1");
        assert_eq!(text(document.key(&["b", "0", "c"])), "c");
        assert_eq!(text(document.value(&["b", "0", "c"])), "zwölf");
        assert_eq!(text(document.value(&["b", "0", "d", "1"])), "y");
        assert_eq!(text(document.key(&["b", "0", "missing"])), "c");
    }

    fn read(text: String) -> Result<serde_json::Value, String> {
        let document = Document::new(Path::new("f.yaml"), text);
        document.parse(0).map_err(|problem: Problem| problem.message)
    }

    #[test]
    fn one_anchor_serves_ten_thousand_tenants() {
        let tenants = "- {<<: *all, labels: *gold, name: another}\n".repeat(10_001);
        let text = format!("- &all {{name: first, labels: &gold {{tier: gold}}, regions: [a, b]}}\n{tenants}");
        let list = read(text).unwrap();
        assert_eq!((&list[10_001]["labels"]["tier"], &list[10_001]["regions"][1]), (&"gold".into(), &"b".into()));
    }

    #[test]
    fn an_anchor_may_hold_all_of_a_tenants_parameters() {
        let parameters: Vec<String> = (0..20).map(|number| format!("P{number}: {}", "x".repeat(4_000))).collect();
        let parameters = parameters.join(", ");
        let tenants = "- {parameters: *all}\n".repeat(1_000);
        let list = read(format!("- parameters: &all {{{parameters}}}\n{tenants}")).unwrap();
        assert_eq!(list.as_array().unwrap().len(), 1_001);
    }

    #[test]
    fn what_an_alias_brings_along_is_explained_where_it_is() {
        #[derive(Debug, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Named {
            #[allow(dead_code, reason = "it is read")]
            name: String,
        }
        #[derive(Debug, serde::Deserialize)]
        struct Two {
            #[allow(dead_code, reason = "it is read")]
            a: std::collections::BTreeMap<String, String>,
            #[allow(dead_code, reason = "it is read")]
            b: Named,
        }
        let document = Document::new(Path::new("f.yaml"), "a: &a {nmae: x}\nb: *a\n".to_owned());
        let problem = document.parse::<Two>(0).unwrap_err();
        assert_eq!(
            (problem.message.as_str(), problem.hint.as_deref()),
            ("unknown key `nmae`", Some("did you mean `name`?"))
        );
        assert_eq!(problem.place.map(|(_, bytes)| bytes.start), Some(19));
    }

    #[test]
    fn a_file_is_as_long_as_it_is() {
        let list = read(format!("[{}]", vec!["x"; 300_000].join(","))).unwrap();
        assert_eq!(list.as_array().unwrap().len(), 300_000);
    }

    #[test]
    fn aliases_that_multiply_are_refused() {
        let level = |level: u32| format!("a{level}: &a{level} [{}]\n", vec![format!("*a{}", level - 1); 10].join(", "));
        let levels: String = (1..10).map(level).collect();
        let refused = read(format!("a0: &a0 [x]\n{levels}")).unwrap_err();
        assert!(refused.contains("aliases hold too much"), "{refused}");
    }

    #[test]
    fn a_problem_shows_its_line() {
        let document = document();
        let place = document.value(&["b", "0", "c"]);
        let problem = Problem::new("not a number").at(0, place).hint("write digits");
        let text = anstream::adapter::strip_str(&problem.render(&[document])).to_string();
        insta::assert_snapshot!(text, @r"
        error: not a number
         --> f.yaml:4:8
          |
        4 |   - c: zwölf
          |        ^^^^^
          |
        hint: write digits
        ");
    }
}
