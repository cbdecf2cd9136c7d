//! Variables in braces, as `{tenant}`.

use std::ops::Range;

/// A variable that is not known, or a brace without its partner.
#[derive(Debug, PartialEq, Eq)]
pub struct BadVariable {
    /// What stands between the braces.
    pub name: String,
    /// Where it stands in the text.
    pub bytes: Range<usize>,
    /// Whether the closing brace is missing.
    pub is_open: bool,
}

/// Replaces every `{name}` by what `lookup` returns for it. Doubled braces and what is between them stay as they
/// are, since CloudFormation's dynamic references (`{{resolve:ssm:...}}`) look like that.
pub fn expand(text: &str, lookup: impl Fn(&str) -> Option<String>) -> Result<String, BadVariable> {
    let mut result = String::with_capacity(text.len());
    let mut at = 0;
    while let Some(open) = text[at..].find('{').map(|found| at + found) {
        result.push_str(&text[at..open]);
        if text[open..].starts_with("{{") {
            let end = text[open..].find("}}").map_or(text.len(), |found| open + found + 2);
            result.push_str(&text[open..end]);
            at = end;
            continue;
        }
        let close = text[open..].find('}').map(|found| open + found);
        let (name, end) = match close {
            Some(close) => (&text[open + 1..close], close + 1),
            None => (&text[open + 1..], text.len()),
        };
        let value = close.and_then(|_| lookup(name)).ok_or_else(|| BadVariable {
            name: name.to_owned(),
            bytes: open..end,
            is_open: close.is_none(),
        })?;
        result.push_str(&value);
        at = end;
    }
    result.push_str(&text[at..]);
    Ok(result)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn known(name: &str) -> Option<String> {
        (name == "tenant").then(|| "unicorn".to_owned())
    }

    #[test]
    fn variables_are_replaced_and_dynamic_references_stay() {
        let text = "a-{tenant}-{{resolve:ssm:/{tenant}/x}}-{tenant}";
        assert_eq!(expand(text, known).unwrap(), "a-unicorn-{{resolve:ssm:/{tenant}/x}}-unicorn");
    }

    #[test]
    fn unknown_variables_are_told_with_their_place() {
        assert_eq!(
            expand("a-{tenent}", known),
            Err(BadVariable { name: "tenent".into(), bytes: 2..10, is_open: false })
        );
        assert_eq!(expand("a-{tenant", known), Err(BadVariable { name: "tenant".into(), bytes: 2..9, is_open: true }));
    }

    proptest! {
        #[test]
        fn text_without_braces_is_left_alone(text in "[^{}]*") {
            prop_assert_eq!(expand(&text, known).unwrap(), text);
        }

        #[test]
        fn nothing_panics(text in "[{}a-zü]*") {
            let _ = expand(&text, known);
        }
    }
}
