//! What IAM decides: the crate `iam-rs`, behind what it leaves out.
//!
//! iam-rs compares statements with requests, and knows neither which principals an account's name stands for, nor that
//! ARN conditions compare part by part, nor variables in conditions, nor how an account's own policies and those of a
//! resource go together. [`specialise`] prepares a policy for one caller and one context, so that only what it does right
//! is left to it; [`Judge`] puts the answers together.
//! Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html>

use iam_rs::{Arn, Context, ContextValue, Decision, IAMPolicy, IAMRequest, Principal, PrincipalId, evaluate_policy};
use serde_json::{Value, json};

/// The caller, in every form a `Principal` element may name it.
pub enum Caller {
    /// `session` is None for a user (then `identity` is the user's ARN).
    Aws {
        account: String,
        identity: String,
        session: Option<String>,
    },
    Service(String),
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Named {
    No,
    /// By the account (`111…` or `…:root`): delegated, an identity policy must allow it too.
    Account,
    /// By its own ARN, by its service, or by `*`.
    Directly,
}

impl Caller {
    pub fn role(account: &str, name: &str) -> Self {
        Caller::Aws {
            account: account.into(),
            identity: format!("arn:aws:iam::{account}:role/{name}"),
            session: Some(format!("arn:aws:sts::{account}:assumed-role/{}/s", name.rsplit('/').next().unwrap_or(name))),
        }
    }

    /// What goes into `IAMRequest::principal`; `specialise` has removed Principal elements by then.
    pub fn principal(&self) -> Principal {
        match self {
            Caller::Aws { identity, .. } => Principal::Aws(PrincipalId::String(identity.clone())),
            Caller::Service(name) => Principal::Service(PrincipalId::String(name.clone())),
        }
    }

    fn named(&self, principal: &Value) -> Named {
        if principal == "*" {
            return Named::Directly;
        }
        let ids = |kind: &str| -> Vec<&str> {
            match &principal[kind] {
                Value::String(s) => vec![s.as_str()],
                Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
                _ => Vec::new(),
            }
        };
        if ids("AWS").contains(&"*") {
            return Named::Directly;
        }
        match self {
            Caller::Service(name) if ids("Service").contains(&name.as_str()) => Named::Directly,
            Caller::Service(_) => Named::No,
            Caller::Aws { account, identity, session } => {
                let ids = ids("AWS");
                let own = |id: &&str| *id == identity || Some(*id) == session.as_deref();
                let root = |id: &&str| {
                    *id == account || id.starts_with("arn:") && id.ends_with(&format!(":iam::{account}:root"))
                };
                if ids.iter().any(own) {
                    Named::Directly
                } else if ids.iter().any(root) {
                    Named::Account
                } else {
                    Named::No
                }
            }
        }
    }

    /// NotPrincipal with Deny spares a caller only where its account, its identity and its session
    /// are all listed.
    fn spared(&self, not_principal: &Value) -> bool {
        match self {
            Caller::Service(_) => self.named(not_principal) != Named::No,
            Caller::Aws { account, identity, session } => {
                let chain = [Some(format!("arn:aws:iam::{account}:root")), Some(identity.clone()), session.clone()];
                let listed = |id: &str| match &not_principal["AWS"] {
                    Value::String(s) => s == id || (s == account && id.ends_with(":root")),
                    Value::Array(l) => l.iter().any(|s| s == id || (s == account && id.ends_with(":root"))),
                    _ => false,
                };
                not_principal == "*" || chain.iter().flatten().all(|id| listed(id))
            }
        }
    }
}

/// The policy as it stands for this caller, this action and this context: statements about other actions or other callers
/// are gone, Principal elements too, ARN conditions are decided, variables in text conditions replaced. `direct_only`
/// leaves out what is allowed to no more than the caller's account.
fn specialise(
    policy: &Value,
    caller: &Caller,
    action: &str,
    context: &Context,
    direct_only: bool,
) -> Result<IAMPolicy, String> {
    if policy["Version"] != "2012-10-17" {
        return Err("variables need Version 2012-10-17; iam-rs would replace them".into());
    }
    let statements = match &policy["Statement"] {
        Value::Array(list) => list.as_slice(),
        one => std::slice::from_ref(one),
    };
    // Most statements are about something else: they need not be copied.
    let mut statements: Vec<Value> =
        statements.iter().filter(|statement| is_about(statement, action)).cloned().collect();
    if statements.is_empty() {
        let nothing = json!({ "Effect": "Deny", "Action": "none:None", "Resource": "arn:aws:none:::none" });
        statements.push(nothing);
    }
    statements.retain_mut(|s| {
        let allow = s["Effect"] == "Allow";
        let s = s.as_object_mut().expect("a statement is an object");
        if let Some(principal) = s.remove("Principal") {
            match caller.named(&principal) {
                Named::No => return false,
                Named::Account if allow && direct_only => return false,
                _ => {}
            }
        }
        if s.remove("NotPrincipal").is_some_and(|not| caller.spared(&not)) {
            return false;
        }
        // A trust policy names no resource: it is its own role.
        if !s.contains_key("Resource") && !s.contains_key("NotResource") {
            s.insert("Resource".into(), json!("*"));
        }
        // A variable without a value: the statement does not apply.
        for element in ["Resource", "NotResource"] {
            if let Some(v) = s.get_mut(element)
                && !each_string(v, &mut |t| {
                    let full = complete_arn(t);
                    substitute(&full, context).is_some().then_some(full)
                })
            {
                return false;
            }
        }
        if let Some(Value::Object(condition)) = s.get_mut("Condition") {
            for (operator, keys) in condition.iter_mut() {
                if operator.ends_with(":Bool") {
                    // The set forms of Bool take JSON booleans only.
                    for v in keys.as_object_mut().into_iter().flat_map(|m| m.values_mut()) {
                        if let Some(b) = v.as_str().and_then(|s| s.parse().ok()) {
                            *v = Value::Bool(b);
                        }
                    }
                } else {
                    stringify(keys);
                }
                if (operator.contains("String") || operator.contains("Arn"))
                    && !each_string(keys, &mut |t| substitute(t, context))
                {
                    return false;
                }
            }
            // Arn operators are decided here: iam-rs compares whole strings.
            let mut holds = true;
            condition.retain(|operator, keys| {
                if !operator.contains("Arn") {
                    return true;
                }
                for (key, patterns) in keys.as_object().into_iter().flatten() {
                    holds &= arn_condition(operator, context.get(key), patterns);
                }
                false
            });
            if !holds {
                return false;
            }
        }
        true
    });
    let policy = json!({ "Version": "2012-10-17", "Statement": statements });
    serde_json::from_value(policy).map_err(|error| error.to_string())
}

/// Whether a statement's actions are those of a request, in whatever case.
fn is_about(statement: &Value, action: &str) -> bool {
    let lists = |element: &str| {
        let patterns = match &statement[element] {
            Value::Array(list) => list.as_slice(),
            one => std::slice::from_ref(one),
        };
        let texts = patterns.iter().filter_map(Value::as_str);
        texts.map(str::to_lowercase).any(|pattern| Arn::wildcard_match(&action.to_lowercase(), &pattern))
    };
    if statement["NotAction"].is_null() { lists("Action") } else { !lists("NotAction") }
}

fn each_string(value: &mut Value, change: &mut dyn FnMut(&str) -> Option<String>) -> bool {
    match value {
        Value::String(s) => match change(s) {
            Some(new) => {
                *s = new;
                true
            }
            None => false,
        },
        Value::Array(list) => list.iter_mut().all(|v| each_string(v, change)),
        Value::Object(map) => map.values_mut().all(|v| each_string(v, change)),
        _ => true,
    }
}

/// Condition values may be JSON numbers and booleans; iam-rs takes them in few places.
fn stringify(value: &mut Value) {
    match value {
        Value::Array(list) => list.iter_mut().for_each(stringify),
        Value::Object(map) => map.values_mut().for_each(stringify),
        Value::Number(_) | Value::Bool(_) => *value = Value::String(value.to_string()),
        _ => {}
    }
}

fn arn_condition(operator: &str, present: Option<&ContextValue>, patterns: &Value) -> bool {
    let patterns: Vec<&str> = match patterns {
        Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
        one => one.as_str().into_iter().collect(),
    };
    let values: Vec<&str> = match present {
        Some(ContextValue::String(s)) => vec![s],
        Some(ContextValue::StringList(list)) => list.iter().map(String::as_str).collect(),
        _ => Vec::new(),
    };
    let negated = operator.contains("ArnNot");
    let one = |value: &&str| patterns.iter().any(|p| arn_like(value, p)) != negated;
    if operator.starts_with("ForAllValues:") {
        values.iter().all(one)
    } else if operator.starts_with("ForAnyValue:") {
        values.iter().any(one) || (values.is_empty() && operator.ends_with("IfExists"))
    } else if values.is_empty() {
        negated || operator.ends_with("IfExists")
    } else if negated {
        values.iter().all(one)
    } else {
        values.iter().any(one)
    }
}

/// Six parts, each by itself; the last runs to the end.
fn arn_like(value: &str, pattern: &str) -> bool {
    let (v, p): (Vec<&str>, Vec<&str>) = (value.splitn(6, ':').collect(), pattern.splitn(6, ':').collect());
    v.len() == 6 && p.len() == 6 && v.iter().zip(&p).all(|(v, p)| Arn::wildcard_match(v, p))
}

/// What is AWS's own has `aws` for an account, which iam-rs refuses.
fn of_aws(arn: &str) -> String {
    match arn.strip_prefix("arn:aws:") {
        Some(rest) => format!("arn:aws:{}", rest.replacen(":aws:", ":000000000000:", 1)),
        None => arn.to_owned(),
    }
}

/// `arn:aws:sqs` stands for `arn:aws:sqs:*:*:*`; iam-rs refuses the first.
fn complete_arn(arn: &str) -> String {
    let colons = arn.matches(':').count();
    if arn.starts_with("arn:") && colons < 5 {
        return format!("{arn}{}", ":*".repeat(5 - colons));
    }
    of_aws(arn)
}

/// None where a variable without a default has no single value. iam-rs itself would put "" there.
fn substitute(text: &str, context: &Context) -> Option<String> {
    let mut rest = text;
    let mut out = String::new();
    while let Some(start) = rest.find("${") {
        out.push_str(&rest[..start]);
        let end = start + rest[start..].find('}')?;
        let inner = &rest[start + 2..end];
        let (key, default) = match inner.split_once(',') {
            Some((key, d)) => (key, Some(d.trim().trim_matches('\''))),
            None => (inner, None),
        };
        match (context.get(key.trim()), default) {
            (Some(ContextValue::String(s)), _) => out.push_str(s),
            (Some(ContextValue::Boolean(b)), _) => out.push_str(&b.to_string()),
            (Some(ContextValue::Number(n)), _) => out.push_str(&n.to_string()),
            (_, Some(d)) => out.push_str(d),
            _ => return None,
        }
        rest = &rest[end + 1..];
    }
    out.push_str(rest);
    Some(out)
}

/// A request: who does what to what, and under which circumstances.
pub struct Request {
    pub caller: Caller,
    pub action: &'static str,
    pub resource: String,
    pub context: Context,
}

impl Request {
    /// What one policy says of it. `direct` leaves out statements that name no more than the caller's account.
    fn by(&self, policy: &Value, direct: bool) -> Decision {
        let specialised =
            specialise(policy, &self.caller, self.action, &self.context, direct).unwrap_or_else(|why| panic!("{why}"));
        let resource = Arn::parse(&of_aws(&self.resource)).unwrap_or_else(|error| panic!("{}: {error}", self.resource));
        let request =
            IAMRequest::new_with_context(self.caller.principal(), self.action, resource, self.context.clone());
        evaluate_policy(&specialised, &request).unwrap_or_else(|error| panic!("{error}: {} of {policy}", self.resource))
    }

    /// What an account's own policies say: one of them allows, none denies, and each boundary allows too.
    pub fn by_identity(&self, policies: &[&Value], boundary: Option<&Value>) -> Decision {
        let all: Vec<Decision> = policies.iter().map(|policy| self.by(policy, false)).collect();
        let bounded = boundary.map_or(Decision::Allow, |boundary| self.by(boundary, false));
        if all.contains(&Decision::Deny) || bounded == Decision::Deny {
            Decision::Deny
        } else if all.contains(&Decision::Allow) && bounded == Decision::Allow {
            Decision::Allow
        } else {
            Decision::NotApplicable
        }
    }

    /// Whether it is allowed by an account's own policies and the policy of a resource. Those of buckets may each allow
    /// what happens within one account (`Either`); keys and roles ask for their own policy whoever comes (`Both`).
    pub fn is_allowed(&self, identity: Decision, resource: &Value, owner: &str, rule: Rule) -> bool {
        let by_resource = self.by(resource, false);
        if identity == Decision::Deny || by_resource == Decision::Deny {
            return false;
        }
        let identity = identity == Decision::Allow;
        match &self.caller {
            Caller::Service(_) => by_resource == Decision::Allow,
            Caller::Aws { account, .. } if account == owner => match rule {
                Rule::Either => identity || self.by(resource, true) == Decision::Allow,
                // A statement that names the account leaves it to the account's own policies.
                Rule::Both => {
                    by_resource == Decision::Allow && (identity || self.by(resource, true) == Decision::Allow)
                }
            },
            Caller::Aws { .. } => identity && by_resource == Decision::Allow,
        }
    }
}

/// How a resource's policy goes together with those of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    Either,
    Both,
}
