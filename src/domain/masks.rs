//! Values that nobody may read, and how a text is freed of them.

use aho_corasick::{AhoCorasick, MatchKind};

/// Knows the values that nobody may read; searches for all of them at once, since every tenant may have its own.
#[derive(Debug, Clone, Default)]
pub struct Masks(Option<AhoCorasick>);

impl Masks {
    /// Shorter values would hide half of every line, and are no secrets.
    pub const SHORTEST: usize = 4;

    /// Masks these values and each of their lines, in plain and in JSON's spelling.
    ///
    /// # Panics
    ///
    /// Panics where the values are more than two billion bytes.
    pub fn new(secrets: impl IntoIterator<Item = String>) -> Self {
        let mut all: Vec<String> = Vec::new();
        for secret in secrets {
            for text in std::iter::once(secret.as_str()).chain(secret.lines().map(str::trim)) {
                let quoted = serde_json::Value::from(text).to_string();
                all.extend([quoted.trim_matches('"').to_owned(), text.to_owned()]);
            }
        }
        all.retain(|secret| secret.len() >= Self::SHORTEST);
        all.sort();
        all.dedup();
        if all.is_empty() {
            return Self(None);
        }
        // The longest match counts, lest a part of a secret be left.
        let search = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(&all);
        Self(Some(search.expect("secrets are less than two billion bytes")))
    }

    /// Returns a text with `***` in place of every secret.
    pub fn apply(&self, text: &str) -> String {
        match &self.0 {
            None => text.to_owned(),
            Some(search) => {
                let mut masked = String::with_capacity(text.len());
                search.replace_all_with(text, &mut masked, |_, _, masked| {
                    masked.push_str("***");
                    true
                });
                masked
            }
        }
    }
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
    }
}
