//! Taking out of a value what differs from tenant to tenant, so that equal changes look equal.

use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use fancy_regex::Regex;

use super::TargetContent;

/// Shorter values would be found in half of all words.
const SHORTEST: usize = 3;

/// Ids that CloudFormation and AWS make up: a stack's suffix on a name, and UUIDs. What has digits alone is an account.
static MADE_UP: LazyLock<Regex> = LazyLock::new(|| {
    let uuid = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}";
    let suffix = r"(?<=-)(?=[A-Z]*[0-9])(?=[0-9]*[A-Z])[A-Z0-9]{12,13}(?![A-Za-z0-9])";
    Regex::new(&format!("{uuid}|{suffix}")).expect("the pattern is constant")
});

/// What stands for a secret value, which each tenant may have otherwise.
static SECRET: LazyLock<Regex> =
    LazyLock::new(|| Regex::new("hmac-sha256:[0-9a-f]{64}").expect("the pattern is constant"));

/// Knows the values of one target that others have otherwise, and what stands for each.
pub struct Placeholders {
    search: Option<AhoCorasick>,
    names: Vec<String>,
}

impl Placeholders {
    /// Collects account, region, tenant, stack, parameters and the names that resources have in the account.
    pub fn of(target: &TargetContent) -> Self {
        let mut known: Vec<(&str, String)> = vec![
            (target.account.as_str(), "{account}".to_owned()),
            (target.target.region.as_str(), "{region}".to_owned()),
            (&target.target.tenant, "{tenant}".to_owned()),
            (&target.stack, "{stack}".to_owned()),
        ];
        let texts = target.parameters.iter().filter_map(|(name, value)| Some((value.text()?, format!("{{{name}}}"))));
        known.extend(texts);
        let physical = target
            .intent
            .changes()
            .iter()
            .filter_map(|change| Some((change.physical_id.as_deref()?, format!("{{{}}}", change.logical_id))));
        known.extend(physical);
        // Of two names for one value, the first counts: the same one for every target.
        let (mut values, mut names) = (Vec::new(), Vec::new());
        for (value, name) in known {
            if value.len() >= SHORTEST && !values.contains(&value) {
                values.push(value);
                names.push(name);
            }
        }
        // Little is searched with each, so that it has to be built soon.
        let kind = Some(AhoCorasickKind::NoncontiguousNFA);
        let search = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).kind(kind).build(&values).ok();
        Self { search, names }
    }

    /// Returns a value with placeholders for what is this target's own. Only whole words count.
    pub fn apply(&self, text: &str) -> String {
        let mut replaced = String::with_capacity(text.len());
        let mut from = 0;
        for found in self.search.iter().flat_map(|search| search.find_iter(text)) {
            let word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
            if word(text[..found.start()].chars().next_back()) || word(text[found.end()..].chars().next()) {
                continue;
            }
            replaced.push_str(&text[from..found.start()]);
            replaced.push_str(&self.names[found.pattern().as_usize()]);
            from = found.end();
        }
        replaced.push_str(&text[from..]);
        let replaced = SECRET.replace_all(&replaced, "{secret}");
        MADE_UP.replace_all(&replaced, "{id}").into_owned()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Intent;
    use super::super::tests::{change, target};
    use super::*;

    fn placeholders(tenant: &str, size: &str) -> Placeholders {
        let mut function = change("Function");
        function.physical_id = Some(format!("fn-{tenant}-x"));
        let mut target = target(tenant, Intent::of(false, vec![function]));
        target.parameters.insert("Size".into(), size.into());
        Placeholders::of(&target)
    }

    #[test]
    fn what_differs_from_tenant_to_tenant_is_replaced() {
        let text = |tenant: &str, id: &str| {
            format!("arn:aws:lambda:eu-west-1:222222222222:function:fn-{tenant}-x app-{tenant}-Role-{id} {tenant}s")
        };
        let one = placeholders("gnome", "512").apply(&text("gnome", "1ABCDEFGHIJKL"));
        assert_eq!(one, "arn:aws:lambda:{region}:{account}:function:{Function} {stack}-Role-{id} gnomes");
        let other = placeholders("unicorn", "1024").apply(&text("unicorn", "ZZ9ABCDEFGHI"));
        assert_eq!(other.replace("unicorns", "gnomes"), one);
        assert_eq!(placeholders("gnome", "512").apply("512, 5120"), "{Size}, 5120");
        let uuid = "key/0f8fad5b-d9cb-469f-a165-70867728950e";
        assert_eq!(placeholders("gnome", "512").apply(uuid), "key/{id}");
        for kept in ["UPPERCASEWORD-ABCDEFGHIJKLM", "logs-999999999999"] {
            assert_eq!(placeholders("gnome", "512").apply(kept), kept, "somebody else's account has to be seen");
        }
    }

    proptest! {
        #[test]
        fn any_text_can_be_normalised(text in any::<String>(), tenant in "[a-z]{3,8}", size in "[0-9]{3,5}") {
            let one = placeholders(&tenant, &size).apply(&text);
            prop_assert_eq!(placeholders(&tenant, &size).apply(&text), one);
        }
    }
}
