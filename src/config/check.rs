//! What can be known to be wrong without asking AWS.

use std::cell::LazyCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use globset::Glob;

use super::project::{ArtifactSource, Place, Project, Resolved, StageConfig, TEMPLATE};
use super::schema::{self, Approval, Gate, Rollout};
use crate::domain::Quota;
use crate::package;
use crate::source::Problem;

/// Limits of CloudFormation and STS.
/// Source: <https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html>
mod limit {
    pub const TEMPLATE_BYTES: usize = 1 << 20;
    pub const PARAMETERS: usize = 200;
    pub const RESOURCES: usize = 500;
    pub const OUTPUTS: usize = 200;
    pub const TAGS: usize = 50;
    pub const TAG_KEY: usize = 128;
    pub const TAG_VALUE: usize = 256;
    pub const STACK_NAME: usize = 128;
}

const CONFIG: usize = 0;
/// Alarms that CloudFormation watches of one stack.
/// Source: <https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_RollbackConfiguration.html>
const MOST_TRIGGERS: usize = 5;
const CAPABILITIES: [&str; 3] = ["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"];

/// Returns everything that is wrong with a project.
pub(super) fn check(project: &Project) -> Vec<Problem> {
    let mut problems = Vec::new();
    names(project, &mut problems);
    foreign_names(project, &mut problems);
    if project.is_source {
        artifacts(project, &mut problems);
        problems.extend(project.unpackable.iter().cloned());
    }
    if project.has_template {
        template(project, &mut problems);
    }
    membership(project, &mut problems);
    stages(project, &mut problems);
    notify(project, &mut problems);
    let release = project.release_to_come();
    let mut all: Vec<Resolved> = Vec::new();
    for stage in &project.stages {
        let resolved = project.resolve(stage, &release, &mut problems);
        // A list that AWS keeps need not have anybody yet for the stage that has all the others.
        let may_be_empty = project.is_kept() && project.file.stages[&stage.name].tenants.is_none();
        if resolved.is_empty() && problems.is_empty() && !may_be_empty {
            let place = project.documents[CONFIG].key(&["stages", &stage.name]);
            let problem = Problem::new(format!("stage `{}` has no tenant", stage.name)).at(CONFIG, place);
            problems
                .push(problem.hint("name its tenants, or leave `tenants` out to mean all that no other stage names"));
        }
        all.extend(resolved);
    }
    targets(project, &all, &mut problems);
    if project.has_template {
        parameters(project, &all, &mut problems);
    }
    problems
}

/// Somebody who is told has an address, and a webhook's is a secret.
fn notify(project: &Project, problems: &mut Vec<Problem>) {
    let config = &project.documents[CONFIG];
    for (number, notify) in project.notify.iter().enumerate() {
        let number = number.to_string();
        let value = |key: &str| config.value(&["notify", &number, key]);
        match (&notify.topic, &notify.webhook) {
            (Some(topic), None) => {
                let parts: Vec<&str> = topic.split(':').collect();
                if parts.len() != 6 || parts[0] != "arn" || parts[2] != "sns" {
                    let problem = Problem::new(format!("`{topic}` is no topic of SNS")).at(CONFIG, value("topic"));
                    problems.push(problem.hint("write its ARN, as arn:aws:sns:eu-west-1:111111111111:releases"));
                }
            }
            (None, Some(variable)) => {
                let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
                if variable.is_empty() || !variable.chars().all(fits) {
                    let problem =
                        Problem::new("a webhook is given by the name of a variable").at(CONFIG, value("webhook"));
                    let hint =
                        "its URL is a secret: put it into the environment, as SLACK_WEBHOOK_URL, and name that here";
                    problems.push(problem.hint(hint));
                }
            }
            _ => {
                let problem = Problem::new("somebody is told by a `topic` or by a `webhook`");
                problems.push(problem.at(CONFIG, config.value(&["notify", &number])).hint("write one entry for each"));
            }
        }
    }
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
}

fn names(project: &Project, problems: &mut Vec<Problem>) {
    let config = &project.documents[CONFIG];
    let name = |problems: &mut Vec<Problem>, what: &str, text: &str, document: usize, bytes| {
        if !is_name(text) || text.len() > 64 {
            let message =
                format!("`{text}` cannot name {what}: up to 64 letters, digits and hyphens, a letter or digit first");
            problems.push(Problem::new(message).at(document, bytes));
        }
    };
    name(problems, "an application", &project.application, CONFIG, config.value(&["application"]));
    for stage in &project.stages {
        name(problems, "a stage", &stage.name, CONFIG, config.key(&["stages", &stage.name]));
    }
    for artifact in project.artifacts.keys() {
        name(problems, "an artifact", artifact, CONFIG, config.key(&["artifacts", artifact]));
    }
    let mut seen = BTreeSet::new();
    for (number, tenant) in project.tenants.iter().enumerate() {
        let bytes = project.tenant_key(number, &["name"]);
        name(problems, "a tenant", &tenant.name, project.tenants_document(), bytes.clone());
        if !seen.insert(&tenant.name) {
            problems.push(
                Problem::new(format!("there is another tenant `{}`", tenant.name))
                    .at(project.tenants_document(), bytes),
            );
        }
    }
    for (number, capability) in project.file.capabilities.iter().enumerate() {
        if !CAPABILITIES.contains(&capability.as_str()) {
            let bytes = config.value(&["capabilities", &number.to_string()]);
            problems.push(
                Problem::new(format!("unknown capability `{capability}`"))
                    .at(CONFIG, bytes)
                    .did_you_mean(capability, CAPABILITIES),
            );
        }
    }
}

/// Alarms that CloudFormation cannot watch, and options that it would refuse.
fn stack_options(project: &Project, name: &str, stage: &schema::Stage, problems: &mut Vec<Problem>) {
    let config = &project.documents[CONFIG];
    let rolls_back = (0..).zip(&stage.rollout.alarms).filter(|(_, alarm)| alarm.roll_back);
    for (place, (number, alarm)) in rolls_back.enumerate() {
        let number: usize = number;
        let bytes = config.value(&["stages", name, "rollout", "alarms", &number.to_string(), "roll-back"]);
        if alarm.account == schema::AlarmAccount::Tooling {
            let problem = Problem::new("CloudFormation cannot watch an alarm of the tooling account");
            problems.push(problem.at(CONFIG, bytes).hint("only alarms in the tenants' accounts roll stacks back"));
        } else if place >= MOST_TRIGGERS {
            let problem = Problem::new(format!("CloudFormation watches at most {MOST_TRIGGERS} alarms of a stack"));
            problems.push(problem.at(CONFIG, bytes));
        }
    }
    let option = |key: &str| config.value(&["stages", name, "stack-options", key]);
    let options = &stage.stack_options;
    if options.monitoring_minutes.is_some_and(|minutes| minutes > 180) {
        let problem = Problem::new("CloudFormation watches alarms for 180 minutes at most");
        problems.push(problem.at(CONFIG, option("monitoring-minutes")));
    }
    if options.monitoring_minutes.is_some() && !stage.rollout.alarms.iter().any(|alarm| alarm.roll_back) {
        let problem = Problem::new("there is no alarm that CloudFormation would watch");
        let hint = "give `rollout.alarms` one with `roll-back: true`";
        problems.push(problem.at(CONFIG, option("monitoring-minutes")).hint(hint));
    }
    if options.stack_policy.as_ref().is_some_and(|policy| policy.get("Statement").is_none()) {
        let problem = Problem::new("a stack policy has a `Statement`");
        problems.push(problem.at(CONFIG, option("stack-policy")));
    }
}

/// Waves that select nobody, and limits under which nothing could go on.
fn rollout(project: &Project, stage: &str, policy: &Rollout, problems: &mut Vec<Problem>) {
    let config = &project.documents[CONFIG];
    let value = |keys: &[&str]| config.value(&[&["stages", stage, "rollout"], keys].concat());
    for (number, size) in policy.waves.iter().enumerate() {
        if matches!(size.0, Quota::Count(0) | Quota::Percent(0)) {
            let problem = Problem::new("a wave has at least one target");
            problems.push(problem.at(CONFIG, value(&["waves", &number.to_string()])));
        }
    }
    if policy.deadline.is_some_and(|deadline| deadline.0.is_zero()) {
        let problem = Problem::new("a deadline of nothing would let go of every target at once");
        problems.push(problem.at(CONFIG, value(&["deadline"])));
    }
    if policy.breaker == Some(0) {
        let problem = Problem::new("a breaker of 0 would stop every rollout at its beginning");
        problems.push(problem.at(CONFIG, value(&["breaker"])).hint("leave it out where it is not wanted"));
    }
    if policy.bake.is_some() && policy.canary.is_none() && policy.waves.is_empty() {
        let problem = Problem::new("there is nothing to wait for: all targets are one wave");
        problems.push(problem.at(CONFIG, value(&["bake"])).hint("give the stage a `canary` or `waves`"));
    }
    let Some(canary) = &policy.canary else { return };
    if let Some(label) = canary.label.as_ref().filter(|label| !label.contains('=')) {
        let problem = Problem::new(format!("`{label}` is no label: it is written as key=value"));
        problems.push(problem.at(CONFIG, value(&["canary", "label"])));
        return;
    }
    let members = || project.stages.iter().filter(|other| other.name == stage).flat_map(StageConfig::members);
    for (number, name) in canary.tenants.iter().enumerate() {
        let known = || members().map(|tenant| project.tenants[*tenant].name.as_str());
        if !known().any(|known| known == name) {
            let problem = Problem::new(format!("tenant `{name}` is not in stage `{stage}`"));
            let bytes = value(&["canary", "tenants", &number.to_string()]);
            problems.push(problem.at(CONFIG, bytes).did_you_mean_tenant(name, known(), problems.len()));
        }
    }
    if !members().any(|tenant| project.is_canary(policy, *tenant)) && problems.is_empty() {
        let bytes = config.key(&["stages", stage, "rollout", "canary"]);
        let problem = Problem::new(format!("no tenant of stage `{stage}` is in the canary")).at(CONFIG, bytes);
        problems.push(problem.hint("name its tenants, or give some of them its label"));
    }
}

/// A tenant belongs to one stage: in two, the one without a gate would be a way around the other's.
fn membership(project: &Project, problems: &mut Vec<Problem>) {
    let config = &project.documents[CONFIG];
    let mut home: BTreeMap<usize, &str> = BTreeMap::new();
    for stage in &project.stages {
        let mut told = false;
        for number in stage.members() {
            let tenant = &project.tenants[*number].name;
            match home.insert(*number, &stage.name) {
                Some(other) if other == stage.name => {
                    let bytes = config.key(&["stages", &stage.name, "tenants"]);
                    problems
                        .push(Problem::new(format!("stage `{other}` names tenant `{tenant}` twice")).at(CONFIG, bytes));
                }
                Some(other) if !told => {
                    told = true;
                    let message = format!("tenant `{tenant}` is in stage `{other}` and in stage `{}`", stage.name);
                    let problem = Problem::new(message).at(CONFIG, config.key(&["stages", &stage.name]));
                    problems.push(
                        problem
                            .hint("only one stage can leave `tenants` out, which means all that no other stage names"),
                    );
                }
                _ => {}
            }
        }
    }
    for (number, tenant) in project.tenants.iter().enumerate() {
        let at =
            |problem: Problem, keys: &[&str]| problem.at(project.tenants_document(), project.tenant_key(number, keys));
        let is_id =
            |pin: &str| pin.len() == 12 && pin.chars().all(|c| c.is_ascii_hexdigit() && !c.is_ascii_uppercase());
        if let Some(pin) = tenant.pin.as_ref().filter(|pin| !is_id(&pin.0)) {
            let problem = Problem::new(format!("`{}` is not a release: twelve hexadecimal digits are expected", pin.0));
            problems.push(at(problem.hint("`tenantry releases` lists them"), &["pin"]));
        }
        for name in tenant.artifacts.keys().filter(|name| !project.artifacts.contains_key(*name)) {
            let problem =
                Problem::new(format!("there is no artifact `{name}` that `{}` could have its own of", tenant.name));
            let known = project.artifacts.keys().map(String::as_str);
            problems.push(at(problem.did_you_mean(name, known), &["artifacts", name]));
        }
        if !home.contains_key(&number) && tenant.closed.is_none() {
            problems.push(at(Problem::new(format!("tenant `{}` is in no stage", tenant.name)), &["name"]));
        }
        let regions: Vec<&String> =
            if tenant.regions.is_empty() { &project.file.regions } else { &tenant.regions }.iter().collect();
        for region in tenant.region_parameters.keys().filter(|region| !regions.contains(region)) {
            let problem = Problem::new(format!("tenant `{}` is not in region {region}", tenant.name));
            let known = regions.iter().map(|region| region.as_str());
            problems.push(at(problem.did_you_mean(region, known), &["region-parameters", region]));
        }
        let repeated = (1..regions.len()).find(|place| regions[..*place].contains(&regions[*place]));
        if let Some(place) = repeated {
            problems.push(at(
                Problem::new(format!("region {} is named twice for tenant `{}`", regions[place], tenant.name)),
                &["regions"],
            ));
        }
    }
}

fn stages(project: &Project, problems: &mut Vec<Problem>) {
    let config = &project.documents[CONFIG];
    for (name, stage) in &project.file.stages {
        let max = stage.rollout.max_concurrency.map(|amount| amount.0);
        if matches!(max, Some(Quota::Count(0) | Quota::Percent(0))) {
            let bytes = config.value(&["stages", name, "rollout", "max-concurrency"]);
            problems
                .push(Problem::new("with a max-concurrency of 0 no target would ever be started").at(CONFIG, bytes));
        }
        rollout(project, name, &stage.rollout, problems);
        stack_options(project, name, stage, problems);
        if stage.gate.approvers == Some(0) {
            let bytes = config.value(&["stages", name, "gate", "approvers"]);
            let problem = Problem::new("a gate without approvers is open").at(CONFIG, bytes);
            problems.push(problem.hint("leave `approval: required` out, or name `auto-approve` rules"));
        }
        if matches!(stage.gate.approval, Approval::None) && stage.gate != Gate::default() {
            let bytes = config.key(&["stages", name, "gate"]);
            let problem =
                Problem::new("this gate is open, and what is said about approvals is not used").at(CONFIG, bytes);
            problems.push(problem.hint("add `approval: required`"));
        }
        for (number, check) in stage.verify.iter().enumerate() {
            let outputs = &project.template.outputs;
            let is_missing =
                |output: &&String| project.has_template && !output.contains('{') && !outputs.contains(*output);
            if let Some(output) = check.fetch.as_ref().filter(is_missing) {
                let bytes = config.value(&["stages", name, "verify", &number.to_string(), "fetch"]);
                let problem = Problem::new(format!("the template has no output `{output}`")).at(CONFIG, bytes);
                problems.push(problem.did_you_mean(output, outputs.iter().map(String::as_str)));
            }
        }
    }
}

/// Names as S3, KMS and IAM have them.
/// Sources: <https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html>,
/// <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html>
fn foreign_names(project: &Project, problems: &mut Vec<Problem>) {
    let config = &project.documents[CONFIG];
    let bucket = &project.store.bucket;
    let of_bucket = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    if !(3..=63).contains(&bucket.len()) || !bucket.chars().all(of_bucket) {
        let message = format!("`{bucket}` cannot name a bucket: 3 to 63 lowercase letters, digits, hyphens and dots");
        problems.push(Problem::new(message).at(CONFIG, config.value(&["store", "bucket"])));
    }
    let of_role = |c: char| c.is_ascii_alphanumeric() || "_+=,.@-/".contains(c);
    let roles = &project.file.roles;
    for (key, role) in [("access", &roles.access), ("deployment", &roles.deployment)] {
        let Some(role) = role else { continue };
        let name = role.split_once(":role/").map_or(role.as_str(), |(_, name)| name);
        if name.is_empty() || !name.chars().all(of_role) || (role.starts_with("arn:") && !role.contains(":role/")) {
            let bytes = config.value(&["roles", key]);
            problems
                .push(Problem::new(format!("`{role}` is neither the name nor the ARN of a role")).at(CONFIG, bytes));
        }
    }
}

fn artifacts(project: &Project, problems: &mut Vec<Problem>) {
    for (name, source) in &project.artifacts {
        let keys = vec!["artifacts".to_owned(), name.clone()];
        artifact(project, name, source, &(CONFIG, keys), problems);
    }
    let numbers = LazyCell::new(|| {
        let numbered = project.tenants.iter().enumerate().map(|(number, tenant)| (tenant.name.as_str(), number));
        numbered.collect::<BTreeMap<_, _>>()
    });
    let variants = project.variants();
    for (tenant, _, sources) in &variants {
        let number = numbers[tenant.as_str()];
        for (name, source) in sources {
            artifact(project, name, source, &project.tenant_place(number, &["artifacts", name]), problems);
        }
    }
}

/// Checks a folder or a zip that is named at a place.
fn artifact(project: &Project, name: &str, source: &ArtifactSource, place: &Place, problems: &mut Vec<Problem>) {
    let document = &project.documents[place.0];
    let keys = |rest: &[&'static str]| -> Vec<&str> {
        place.1.iter().map(String::as_str).chain(rest.iter().copied()).collect()
    };
    let is_zip =
        source.path.is_file() && source.path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("zip"));
    if !source.path.is_dir() && !is_zip {
        let what = if source.path.exists() { "neither a folder nor a .zip file" } else { "not there" };
        let message = format!("artifact `{name}`: {} is {what}", source.path.display());
        problems.push(Problem::new(message).at(place.0, document.value(&keys(&["path"]))));
    }
    for (list, globs) in [("include", &source.include), ("exclude", &source.exclude)] {
        for (number, glob) in globs.iter().enumerate() {
            if let Err(error) = Glob::new(glob) {
                let number = number.to_string();
                let mut keys = keys(&[list]);
                keys.push(&number);
                let problem = Problem::new(format!("`{glob}` is not a glob: {}", error.kind()));
                problems.push(problem.at(place.0, document.value(&keys)));
            }
        }
    }
    if source.path.is_dir()
        && let Err(error) = package::entries(&source.path, &source.include, &source.exclude)
        // Each glob is told with its own place.
        && !matches!(error, package::Error::Glob(_))
    {
        problems.push(Problem::new(format!("artifact `{name}`: {error}")).at(place.0, document.key(&keys(&[]))));
    }
    if is_zip && !(source.include.is_empty() && source.exclude.is_empty()) {
        let message = format!("artifact `{name}` is a zip already: `include` and `exclude` are for folders");
        problems.push(Problem::new(message).at(place.0, document.key(&keys(&[]))));
    }
}

fn template(project: &Project, problems: &mut Vec<Problem>) {
    let document = &project.documents[TEMPLATE];
    let template = &project.template;
    let mut limit = |what: &str, keys: &[&str], count: usize, limit: usize| {
        if count > limit {
            problems.push(
                Problem::new(format!("the template has {count} {what}, CloudFormation allows {limit}"))
                    .at(TEMPLATE, document.key(keys)),
            );
        }
    };
    limit("bytes", &[], document.text.len(), limit::TEMPLATE_BYTES);
    limit("parameters", &["Parameters"], template.parameters.len(), limit::PARAMETERS);
    limit("resources", &["Resources"], template.resources, limit::RESOURCES);
    limit("outputs", &["Outputs"], template.outputs.len(), limit::OUTPUTS);
    if template.transformed && !project.file.capabilities.iter().any(|name| name == "CAPABILITY_AUTO_EXPAND") {
        let problem = Problem::new("the template has a Transform, which needs CAPABILITY_AUTO_EXPAND")
            .at(TEMPLATE, document.key(&["Transform"]));
        problems.push(problem.hint("add it to `capabilities` in the configuration"));
    }
    for (number, document) in project.templates() {
        problems.extend(super::cedar::check(document, number));
    }
}

fn targets(project: &Project, all: &[Resolved], problems: &mut Vec<Problem>) {
    let config = &project.documents[CONFIG];
    if let Some(made_for) = &project.cdk_region
        && let Some(other) = all.iter().map(|one| &one.target.id.region).find(|region| region.as_str() != made_for)
    {
        let message = format!("the CDK has made this stack for {made_for} alone, and a target is in {other}");
        let problem = Problem::new(message).at(CONFIG, config.value(&["template"]));
        problems.push(problem.hint("leave the region out where the stack is made"));
    }
    let mut seen: HashMap<(String, String, String), String> = HashMap::new();
    for Resolved { target, tenant: number, .. } in all {
        let at_tenant =
            |problem: Problem| problem.at(project.tenants_document(), project.tenant_key(*number, &["account"]));
        let key = (target.account.to_string(), target.id.region.to_string(), target.stack.clone());
        match seen.get(&key) {
            Some(other) if other != &target.id.tenant => {
                let message = format!(
                    "`{}` and `{other}` are the same stack {} in account {} and region {}",
                    target.id.tenant, key.2, key.0, key.1
                );
                problems.push(
                    at_tenant(Problem::new(message))
                        .hint("two tenants need two accounts, or {tenant} in the name of the stack"),
                );
            }
            _ => _ = seen.insert(key, target.id.tenant.clone()),
        }
        let stack_name = target.stack.starts_with(|c: char| c.is_ascii_alphabetic()) && is_name(&target.stack);
        if !stack_name || target.stack.len() > limit::STACK_NAME {
            let message = format!(
                "`{}` cannot name a stack: up to 128 letters, digits and hyphens, a letter first",
                target.stack
            );
            problems.push(Problem::new(message).at(CONFIG, config.value(&["stack"])));
        }
        for role in [Some(&target.access_role), target.plan_role.as_ref(), target.deployment_role.as_ref()]
            .into_iter()
            .flatten()
        {
            let account = role.split(':').nth(4).unwrap_or_default();
            if account != target.account.as_str() {
                let message =
                    format!("{role} is not a role in account {} of tenant `{}`", target.account, target.id.tenant);
                problems.push(at_tenant(Problem::new(message)).hint("a tenant's roles are in the tenant's account"));
            }
        }
        tags(project, target, problems);
    }
}

fn tags(project: &Project, target: &crate::domain::Target, problems: &mut Vec<Problem>) {
    let config = &project.documents[CONFIG];
    let mut problem = |message: String| problems.push(Problem::new(message).at(CONFIG, config.key(&["tags"])));
    if target.tags.len() > limit::TAGS {
        problem(format!("{} has {} tags, CloudFormation allows {}", target.id, target.tags.len(), limit::TAGS));
    }
    for (key, value) in &target.tags {
        if key.is_empty() || key.chars().count() > limit::TAG_KEY || value.chars().count() > limit::TAG_VALUE {
            problem(format!(
                "tag `{key}`: a key has 1 to {} characters, a value at most {}",
                limit::TAG_KEY,
                limit::TAG_VALUE
            ));
        }
        if key.to_lowercase().starts_with("aws:") {
            problem(format!("tag `{key}`: the prefix aws: is kept for AWS"));
        }
    }
}

fn parameters(project: &Project, all: &[Resolved], problems: &mut Vec<Problem>) {
    let known = &project.template.parameters;
    let mut missing: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let mut told: BTreeMap<(usize, usize), (Problem, String, usize)> = BTreeMap::new();
    for Resolved { target, parameters_at, .. } in all {
        for (name, place) in parameters_at {
            let keys: Vec<&str> = place.1.iter().map(String::as_str).collect();
            let (message, bytes) = match known.get(name) {
                None => (format!("the template has no parameter `{name}`"), project.documents[place.0].key(&keys)),
                Some(parameter) => match target.parameters[name].text().and_then(|value| parameter.refuses(value)) {
                    None => continue,
                    Some(why) => (format!("parameter `{name}`: {why}"), project.value_at(place)),
                },
            };
            // One line of configuration is one problem, however many tenants it is about.
            let entry = told.entry((place.0, bytes.start)).or_insert_with(|| {
                let problem = Problem::new(&message).at(place.0, bytes);
                let others = known.keys().map(String::as_str).filter(|known| known != name);
                let problem = if known.contains_key(name) { problem } else { problem.did_you_mean(name, others) };
                (problem, message.clone(), 0)
            });
            entry.2 += usize::from(entry.1 != message);
        }
        let without =
            known.iter().filter(|(name, parameter)| !parameter.has_default && !target.parameters.contains_key(*name));
        for (name, _) in without {
            missing.entry(name).or_default().push(target.id.to_string());
        }
    }
    problems.extend(told.into_values().map(|(problem, _, more)| match more {
        0 => problem,
        more => problem.hint(format!("the same holds for {more} more targets, with their own values")),
    }));
    for (name, targets) in missing {
        let whom = match targets.as_slice() {
            targets if targets.len() == all.len() => String::new(),
            [one] => format!(" for {one}"),
            [first, ..] => format!(" for {} targets, the first is {first}", targets.len()),
            [] => continue,
        };
        let bytes = project.documents[TEMPLATE].key(&["Parameters", name]);
        let problem = Problem::new(format!("the template's parameter `{name}` has no default and no value{whom}"))
            .at(TEMPLATE, bytes);
        problems.push(problem.hint("give it one under `parameters`: at the top, in a stage or in a tenant"));
    }
}
