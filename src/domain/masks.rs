//! Values that nobody may read, and how a text is freed of them.

/// Knows the values that nobody may read.
#[derive(Debug, Clone, Default)]
pub struct Masks(Vec<String>);

/// Shorter values would hide half of every line, and are no secrets.
const SHORTEST: usize = 4;

impl Masks {
    /// Masks these values, in plain and in JSON's spelling.
    pub fn new(secrets: impl IntoIterator<Item = String>) -> Self {
        let mut all: Vec<String> = Vec::new();
        for secret in secrets.into_iter().filter(|secret| secret.len() >= SHORTEST) {
            let quoted = serde_json::Value::from(secret.as_str()).to_string();
            all.extend([quoted.trim_matches('"').to_owned(), secret]);
        }
        // The longest first, lest a part of it be replaced before.
        all.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        all.dedup();
        Self(all)
    }

    /// Returns a text with `***` in place of every secret.
    pub fn apply(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, secret| text.replace(secret, "***"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_secrets_are_replaced_and_short_values_are_none() {
        let masks = Masks::new(["hunter2".to_owned(), "hunter2-long".to_owned(), "abc".to_owned()]);
        assert_eq!(masks.apply("hunter2-long, hunter2, abc"), "***, ***, abc");
    }
}
