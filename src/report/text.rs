//! Text from tenants' accounts, made harmless; styles; columns.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};

/// What failed.
pub const BAD: Style = AnsiColor::Red.on_default().bold();
/// What is done.
pub const GOOD: Style = AnsiColor::Green.on_default();
/// What wants a look.
pub const WARN: Style = AnsiColor::Yellow.on_default();
/// What is beside the point.
pub const DIM: Style = Style::new().dimmed();
/// What the eye looks for.
pub const BOLD: Style = Style::new().bold();

/// Returns a text in a style.
pub fn styled(style: Style, text: impl std::fmt::Display) -> String {
    format!("{style}{text}{style:#}")
}

/// Makes untrusted text fit for one line of a terminal or a CI log (safety rule 7): no control characters, hence
/// no terminal escapes and no new lines, and nothing that a GitHub runner would read as a command.
pub fn clean(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\r' | '\t' => line.push(' '),
            // What reorders that which a person reads, and what is no character, which XML refuses.
            '\u{202a}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}'
            | '\u{200e}'
            | '\u{200f}'
            | '\u{61c}'
            | '\u{fffe}'
            | '\u{ffff}' => {}
            c if c.is_control() => _ = write!(line, "{}", c.escape_default()),
            c => line.push(c),
        }
    }
    if line.trim_start().starts_with("::") {
        line = line.replacen("::", ":\u{200b}:", 1);
    }
    line.replace("##[", "##\u{200b}[")
}

/// Returns at most `most` characters of a text.
pub fn shorten(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

/// Returns at most `most` characters of a text, without its middle: keys and ARNs differ at their ends.
pub fn elide(text: &str, most: usize) -> String {
    let length = text.chars().count();
    if length <= most {
        return text.to_owned();
    }
    let half = most.saturating_sub(1) / 2;
    text.chars().take(half).chain(['…']).chain(text.chars().skip(length - half)).collect()
}

/// Returns a number of bytes for people.
pub fn bytes(count: u64) -> String {
    indicatif::BinaryBytes(count).to_string()
}

/// Returns a number with its noun, in the plural where it belongs.
pub fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// Returns a length of time as people say it: `1h 30m`.
pub fn span(seconds: u64) -> String {
    let span = jiff::SignedDuration::from_secs(seconds.try_into().unwrap_or(i64::MAX));
    format!("{span:#}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn workflow_commands_and_escapes_are_made_harmless() {
        assert_eq!(clean("\n::error::b\u{1b}[31m"), " :\u{200b}:error::b\\u{1b}[31m");
        assert_eq!(clean("AWS::Lambda::Function"), "AWS::Lambda::Function");
        assert_eq!(clean("x ##[add-mask]y"), "x ##\u{200b}[add-mask]y");
        assert_eq!(clean("abc\u{202e}def"), "abcdef");
    }

    proptest! {
        #[test]
        fn clean_text_is_one_line_without_commands(text in any::<String>()) {
            let line = clean(&text);
            prop_assert!(!line.trim_start().starts_with("::") && !line.contains("##["));
            prop_assert!(!line.chars().any(char::is_control));
        }

        #[test]
        fn shortened_text_fits(text in any::<String>(), most in 1usize..20) {
            prop_assert!(shorten(&text, most).chars().count() <= most);
        }
    }
}
