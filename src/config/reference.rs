//! docs/configuration.md, written from the schema.

use std::collections::VecDeque;
use std::fmt::Write as _;

use serde_json::Value;

use super::schema;

/// Returns the name of the definition that a part of the schema stands for.
fn definition(part: &Value) -> Option<&str> {
    part["$ref"].as_str()?.strip_prefix("#/$defs/")
}

/// Says what a value is: `text`, `list of text`, or a section further down.
fn kind(part: &Value, sections: &mut VecDeque<String>) -> String {
    if let Some(name) = definition(part) {
        sections.push_back(name.to_owned());
        return format!("[{name}](#{})", name.to_lowercase());
    }
    if let Some(choices) = part["enum"].as_array() {
        return choices
            .iter()
            .filter_map(Value::as_str)
            .map(|choice| format!("`{choice}`"))
            .collect::<Vec<_>>()
            .join(", ");
    }
    for choices in ["anyOf", "oneOf"] {
        if let Some(parts) = part[choices].as_array() {
            let mut kinds: Vec<String> = Vec::new();
            for one in parts.iter().filter(|one| one["type"] != "null") {
                kinds.push(match one["const"].as_str() {
                    Some(constant) => format!("`{constant}`"),
                    None => kind(one, sections),
                });
            }
            return kinds.join(" or ");
        }
    }
    let types: Vec<&str> = match &part["type"] {
        Value::String(one) => vec![one],
        Value::Array(all) => all.iter().filter_map(Value::as_str).filter(|one| *one != "null").collect(),
        _ => vec!["anything"],
    };
    let names = types.into_iter().map(|name| match name {
        "string" => "text".to_owned(),
        "integer" | "number" => "number".to_owned(),
        "boolean" => "`true` or `false`".to_owned(),
        "array" => format!("list of {}", kind(&part["items"], sections)),
        "object" if part["additionalProperties"].is_object() => {
            format!("map of {}", kind(&part["additionalProperties"], sections))
        }
        "object" if part["properties"].is_object() => {
            let keys = part["properties"].as_object().into_iter().flatten();
            let keys: Vec<String> = keys.map(|(key, part)| format!("`{key}:` {}", kind(part, sections))).collect();
            keys.join(", ")
        }
        "object" => "map".to_owned(),
        other => other.to_owned(),
    });
    names.collect::<Vec<_>>().join(" or ")
}

fn line(text: &str) -> String {
    text.replace('\n', " ").replace('|', "\\|")
}

/// Writes a table of keys.
fn keys(page: &mut String, part: &Value, sections: &mut VecDeque<String>) {
    let required: Vec<&str> = part["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    page.push_str("| key | value | |\n|---|---|---|\n");
    for (key, value) in part["properties"].as_object().into_iter().flatten() {
        let what = line(value["description"].as_str().unwrap_or_default());
        let standard = match &value["default"] {
            Value::String(text) if !text.is_empty() => format!(" Default: `{text}`."),
            Value::Bool(true) => " Default: `true`.".to_owned(),
            Value::Number(number) => format!(" Default: `{number}`."),
            _ => String::new(),
        };
        let needed = if required.contains(&key.as_str()) { " **Required.**" } else { "" };
        let _ = writeln!(page, "| `{key}` | {} | {what}{needed}{standard} |", kind(value, sections));
    }
}

/// Returns the page.
fn reference() -> String {
    let schema: Value = serde_json::from_str(&schema::json()).expect("the schema is JSON");
    let mut page = "# Configuration\n\nWritten from the schema of `tenantry.yaml` (`src/config/schema.rs`) by a test. Editors read \
                    [schema/tenantry.schema.json](../schema/tenantry.schema.json). `tenantry check` tells mistakes with their place.\n\n"
        .to_owned();
    let mut sections = VecDeque::new();
    let mut told: Vec<String> = Vec::new();
    keys(&mut page, &schema, &mut sections);
    while let Some(name) = sections.pop_front() {
        if told.contains(&name) {
            continue;
        }
        let part = &schema["$defs"][&name];
        let _ = write!(page, "\n## {name}\n\n{}\n\n", line(part["description"].as_str().unwrap_or_default()));
        if part["properties"].is_object() {
            keys(&mut page, part, &mut sections);
        } else {
            let all = ["oneOf", "anyOf"].iter().find_map(|choices| part[*choices].as_array());
            let described = |one: &&Value| one["description"].is_string();
            let choices: Vec<&Value> = all.into_iter().flatten().filter(described).collect();
            if choices.is_empty() {
                let _ = writeln!(page, "{}", kind(part, &mut sections));
            }
            for one in choices {
                let what = line(one["description"].as_str().unwrap_or_default());
                let value =
                    one["const"].as_str().map_or_else(|| kind(one, &mut sections), |constant| format!("`{constant}`"));
                let _ = writeln!(page, "- {value}: {what}");
            }
        }
        told.push(name);
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `UPDATE_DOCS=1 cargo test` writes it anew.
    #[test]
    fn the_documented_configuration_is_this_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md");
        let page = reference();
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, &page).unwrap();
        }
        let documented = std::fs::read_to_string(path).unwrap_or_default();
        assert!(documented == page, "{path} is not what the code says: run UPDATE_DOCS=1 cargo test --lib");
    }
}
