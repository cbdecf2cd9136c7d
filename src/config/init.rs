//! A first `tenantry.yaml` for the folder it finds.

use std::fmt::Write as _;
use std::path::Path;

use super::template::Template;

/// The folder that `cdk synth` writes.
const ASSEMBLY: &str = "cdk.out";

/// Where templates usually are: what a build has written comes first.
const TEMPLATES: [&str; 9] = [
    ".aws-sam/build/template.yaml",
    ASSEMBLY,
    "template.yaml",
    "template.yml",
    "application.yaml",
    "application.yml",
    "template.json",
    "packaged-template.yml",
    "cloudformation.yaml",
];

/// What parameters for the code's bucket and key are usually called, in lowercase.
const CODE_BUCKETS: [&str; 4] = ["s3bucket", "codebucket", "artifactbucket", "lambdacodebucket"];
const CODE_KEYS: [&str; 4] = ["s3key", "codekey", "artifactkey", "lambdacodekey"];

/// Where code usually is.
const FOLDERS: [&str; 5] = ["src", "lambda", "code", "function", "app"];

/// Returns the text of a starter for a folder, with the template and the code that it has. Whoever reads it has
/// to fill in the accounts: what cannot be known stands in it as a comment or an obvious placeholder.
pub fn starter(folder: &Path) -> String {
    let is_template = |name: &&str| folder.join(name).is_file() || folder.join(name).join("manifest.json").is_file();
    let template = TEMPLATES.into_iter().find(is_template);
    // What a build has written names its code itself.
    let built = template.is_some_and(|name| TEMPLATES[..2].contains(&name));
    let parsed = template
        .and_then(|name| std::fs::read_to_string(folder.join(name)).ok())
        .and_then(|text| Template::parse(&text).ok());
    let name =
        folder.canonicalize().ok().and_then(|path| path.file_name().map(|name| name.to_string_lossy().into_owned()));
    let name: String =
        name.unwrap_or_default().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let name = name.trim_matches('-');
    let code = FOLDERS.into_iter().find(|name| !built && folder.join(name).is_dir());

    let mut text = String::new();
    let _ = write!(
        text,
        "# What Tenantry releases, from where, and to whom. Check it offline with `tenantry check`.

application: {}
template: {}{}

# What is zipped and uploaded. Its place is known as {{artifacts.code.bucket}} and {{artifacts.code.key}}.
{}
# The artifact bucket and its key, in the tooling account: `tenantry bootstrap tooling` makes both and writes them here.
store:
  bucket: my-artifact-bucket
  kms-key: arn:aws:kms:eu-west-1:111111111111:key/00000000-0000-0000-0000-000000000000

# The roles in every tenant's account.
roles:
  access: CodePipelineCrossAccountRole
  deployment: CloudFormationDeploymentRole

stack: \"{}\"
regions: [eu-west-1]
",
        if name.is_empty() { "my-application" } else { name },
        template.unwrap_or("template.yaml"),
        if template.is_some() { "" } else { "  # not there yet" },
        match code {
            Some(folder) =>
                format!("artifacts:\n  code:\n    path: {folder}/\n    exclude: [\"**/*.test.*\", \"**/.git/**\"]\n"),
            None => "# artifacts:\n#   code: { path: src/, exclude: [\"**/*.test.*\"] }\n".to_owned(),
        },
        if template == Some(ASSEMBLY) { "{stack}" } else { "{application}-{tenant}-stack-{region}" },
    );
    text.push_str(match parsed.as_ref().map(|template| template.transformed) {
        Some(false) => "capabilities: [CAPABILITY_IAM]\n",
        _ => "capabilities: [CAPABILITY_IAM, CAPABILITY_AUTO_EXPAND]  # the second for SAM and macros\n",
    });
    parameters(&mut text, parsed.as_ref());
    text.push_str(
        "
# A release passes the stages in this order.
stages:
  dev:
    tenants: [sandbox]
  prod: # all tenants that no other stage names
    gate: { approval: required }  # approvers: 2, four-eyes: true, auto-approve: [no-removals, no-replacements]
    rollout: { max-concurrency: 50, failure-tolerance: 0 }

# The customers, each with an account of its own. `tenants: tenants.yaml` keeps them in a file.
tenants:
  - name: sandbox
    account: \"222222222222\"
  - name: first-customer
    account: \"333333333333\"
    labels: { ring: canary }
",
    );
    text
}

/// Writes the template's parameters: those without a default as values to fill in, the others as comments.
fn parameters(text: &mut String, template: Option<&Template>) {
    let Some(template) = template.filter(|template| !template.parameters.is_empty()) else { return };
    text.push_str(
        "\n# Template parameters; a stage, a tenant and a tenant's region can each say otherwise.\nparameters:\n",
    );
    let mut any = false;
    for (name, parameter) in &template.parameters {
        let lower = name.to_lowercase();
        let value = match () {
            () if CODE_BUCKETS.contains(&lower.as_str()) => Some("\"{artifacts.code.bucket}\""),
            () if CODE_KEYS.contains(&lower.as_str()) => Some("\"{artifacts.code.key}\""),
            () if lower == "applicationname" => Some("\"{application}-{tenant}\""),
            () => None,
        };
        match value {
            Some(value) if !parameter.has_default => {
                any = true;
                let _ = writeln!(text, "  {name}: {value}");
            }
            // What cannot be known is a comment, so that `tenantry check` asks for it.
            Some(value) => _ = writeln!(text, "  # {name}: {value}"),
            None if parameter.has_default => _ = writeln!(text, "  # {name}:  # it has a default"),
            None => _ = writeln!(text, "  # {name}:  # to fill in"),
        }
    }
    if !any {
        let at = text.rfind("parameters:\n").unwrap_or(text.len());
        text.insert_str(at + "parameters:".len(), " {}");
    }
}
