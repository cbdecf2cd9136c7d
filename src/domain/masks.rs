//! Values that nobody may read, and how a text is freed of them.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};

use aho_corasick::{AhoCorasick, MatchKind};

/// Knows the values that nobody may read; searches for all of them at once, since every tenant may have its own. Clones
/// share what they know, so that what is learned late is masked everywhere.
#[derive(Debug, Clone, Default)]
pub struct Masks(Arc<RwLock<Known>>);

#[derive(Debug, Default)]
struct Known {
    spellings: BTreeSet<String>,
    search: Option<AhoCorasick>,
}

impl Masks {
    /// Shorter values would hide half of every line, and are no secrets.
    pub const SHORTEST: usize = 4;

    /// Masks these values and each of their lines, in plain, in JSON's spelling and in that of JSON within JSON.
    pub fn new(secrets: impl IntoIterator<Item = String>) -> Self {
        let masks = Self::default();
        masks.add(secrets);
        masks
    }

    /// Masks these values too, from now on.
    ///
    /// # Panics
    ///
    /// Panics where the values are more than two billion bytes.
    pub fn add(&self, secrets: impl IntoIterator<Item = String>) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let before = known.spellings.len();
        for secret in secrets {
            for text in std::iter::once(secret.as_str()).chain(secret.lines().map(str::trim)) {
                // A document may stand in another one as a text.
                let once = quoted(text);
                let spellings = [quoted(&once), once, text.to_owned()].into_iter();
                // What JSON writes without quotes is no secret, and masking it would leave no JSON.
                let is_secret =
                    |text: &String| text.len() >= Self::SHORTEST && !matches!(text.as_str(), "true" | "false" | "null");
                known.spellings.extend(spellings.filter(is_secret));
            }
        }
        if known.spellings.len() > before {
            // The longest match counts, lest a part of a secret be left.
            let search = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(&known.spellings);
            known.search = Some(search.expect("secrets are less than two billion bytes"));
        }
    }

    /// Returns a text with `***` in place of every secret.
    pub fn apply(&self, text: &str) -> String {
        self.replace(text, |_| "***".to_owned())
    }

    /// Returns a text with something else in place of every secret.
    pub fn replace(&self, text: &str, instead: impl Fn(&str) -> String) -> String {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let Some(search) = &known.search else { return text.to_owned() };
        let mut masked = String::with_capacity(text.len());
        search.replace_all_with(text, &mut masked, |_, found, masked| {
            masked.push_str(&instead(found));
            true
        });
        masked
    }
}

/// Returns a text as JSON spells it, without the quotes around it.
fn quoted(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_secrets_are_replaced_and_short_values_are_none() {
        let masks = Masks::new(["hunter2".to_owned(), "hunter2-long".to_owned(), "abc".to_owned()]);
        assert_eq!(masks.apply("hunter2-long, hunter2, abc"), "***, ***, abc");
        let key = Masks::new(["-----BEGIN\nMIIEpAIB\n".to_owned()]);
        assert_eq!(key.apply("reason: MIIEpAIB is no key"), "reason: *** is no key");
        assert_eq!(Masks::new([]).apply("text"), "text");
        let quotes = Masks::new([r#"pass"word"#.to_owned()]);
        assert_eq!(
            quotes.apply(r#"{"a":"pass\"word","b":"{\"c\":\"pass\\\"word\"}"}"#),
            r#"{"a":"***","b":"{\"c\":\"***\"}"}"#
        );
    }
}
