//! Packaging equals that of `aws cloudformation package` and, for what only SAM knows, of `sam package`: the same values
//! are rewritten, in the same form, and name objects with the same content.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tenantry::package::Packaging;
use tenantry::package::properties::{Content, Form, PROPERTIES, Property};

use crate::bed::{Bed, Project, python, root, tenantry};

/// Which tool is the measure of a case.
#[derive(Clone, Copy, PartialEq)]
enum Tool {
    AwsCli,
    SamCli,
}

struct Case {
    name: String,
    template: String,
    tool: Tool,
    /// How many values are rewritten.
    rewritten: usize,
}

impl Case {
    /// Returns the name of the template's file.
    fn file(&self) -> &'static str {
        if self.template.starts_with('{') { "template.json" } else { "template.yaml" }
    }
}

/// Rows that the AWS CLI leaves local; the SAM CLI is their measure.
const SAM_ONLY: [(&str, &str); 9] = [
    ("AWS::Serverless::WebFunction", "CodeUri"),
    ("AWS::Serverless::HttpApi", "DefinitionUri"),
    ("AWS::Serverless::GraphQLApi", "SchemaUri"),
    ("AWS::CloudFormation::StackSet", "TemplateURL"),
    ("AWS::CloudFormation::ModuleVersion", "ModulePackage"),
    ("AWS::CloudFormation::ResourceVersion", "SchemaHandlerPackage"),
    ("AWS::ApiGatewayV2::Api", "BodyS3Location"),
    ("AWS::AppSync::Resolver", "CodeS3Location"),
    ("AWS::AppSync::FunctionConfiguration", "CodeS3Location"),
];

/// What every project of these tests has.
fn files(folder: &Path) {
    let nested = "Resources:\n  Inner:\n    Type: AWS::Lambda::Function\n    Properties: {Code: inner/, Role: r}\n";
    let twice =
        "Resources:\n  Deeper: {Type: AWS::CloudFormation::Stack, Properties: {TemplateURL: ../child/template.yaml}}\n";
    for (name, text) in [
        ("code/app.py", "def handler(event, context): pass\n"),
        ("code/lib/deep.py", "x = 1\n"),
        ("code/.hidden", "kept\n"),
        ("one.py", "def handler(event, context): return 1\n"),
        ("file.yaml", "openapi: 3.0.1\ninfo: {title: t, version: '1'}\npaths: {}\n"),
        ("schema.graphql", "type Query { hello: String }\n"),
        ("resolver.js", "export function request() {}\n"),
        ("snippet.yaml", "Timeout: 3\n"),
        ("README.md", "# Read me\n"),
        ("LICENSE", "free\n"),
        ("child/template.yaml", nested),
        ("child/inner/in.py", "y = 2\n"),
        ("grand/template.yaml", twice),
    ] {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let zip = Packaging::default().package(&folder.join("code"), &[], &[]).unwrap();
    fs::write(folder.join("packed.zip"), zip.bytes).unwrap();
}

/// Writes a template with one resource, in YAML or JSON.
fn template(property: &Property, value: &str, json: bool) -> String {
    let quoted = |text: &str| if json { format!("\"{text}\"") } else { text.to_owned() };
    let mut inner = quoted(value);
    if value.starts_with('{') {
        value.clone_into(&mut inner);
    }
    for key in property.path.iter().rev() {
        inner = format!("{{{}: {inner}}}", quoted(key));
    }
    // What SAM's translator wants beside.
    let beside = match property.resource {
        "AWS::Serverless::Function" => "Handler: app.handler, Runtime: python3.12, ",
        "AWS::Serverless::GraphQLApi" => "Auth: {Type: AWS_IAM}, ",
        "AWS::Serverless::StateMachine" => "Role: 'arn:aws:iam::111111111111:role/r', ",
        "AWS::Serverless::Api" => "StageName: v1, ",
        _ => "",
    };
    let beside = if json {
        beside.split(", ").filter(|part| !part.is_empty()).fold(String::new(), |mut all, part| {
            let (key, value) = part.split_once(": ").unwrap();
            let _ = write!(
                all,
                "\"{key}\": {}, ",
                if value.starts_with('{') {
                    "{\"Type\": \"AWS_IAM\"}".to_owned()
                } else {
                    format!("\"{}\"", value.trim_matches('\''))
                }
            );
            all
        })
    } else {
        beside.to_owned()
    };
    let properties = format!("{{{beside}{}", &inner[1..]);
    if json {
        let kind = property.resource;
        format!("{{\"Resources\": {{\"One\": {{\"Type\": \"{kind}\",\n  \"Properties\": {properties}}}}}}}\n")
    } else {
        let transform =
            if property.resource.contains("Serverless") { "Transform: AWS::Serverless-2016-10-31\n" } else { "" };
        format!(
            "{transform}# a comment\nResources:\n  One:\n    Type: {}\n    Properties: {properties} # another\n",
            property.resource
        )
    }
}

/// The cases of every row: local in YAML, local in JSON, and named by S3 or by a function already.
fn rows() -> Vec<Case> {
    let mut cases = Vec::new();
    for property in PROPERTIES {
        let key = property.path[property.path.len() - 1];
        let tool = if SAM_ONLY.contains(&(property.resource, key)) { Tool::SamCli } else { Tool::AwsCli };
        let (first, second) = match property.content {
            Content::Code | Content::Zip => ("code", "./packed.zip"),
            Content::File => ("file.yaml", "./code/"),
            Content::Template => ("child/template.yaml", "./grand/template.yaml"),
            Content::RawTemplate => ("child/template.yaml", "./child/template.yaml"),
        };
        let name = format!("{}.{}", property.resource.replace("::", "-"), property.path.join("."));
        let depth = |value: &str| match value {
            _ if property.content != Content::Template => 1,
            "child/template.yaml" => 2,
            _ => 3,
        };
        cases.push(Case {
            name: format!("{name}.yaml"),
            template: template(property, first, false),
            tool,
            rewritten: depth(first),
        });
        if tool == Tool::AwsCli {
            let named = "{\"Fn::Sub\": \"${AWS::Region}-x\"}";
            cases.push(Case {
                name: format!("{name}.json"),
                template: template(property, second, true),
                tool,
                rewritten: depth(second),
            });
            cases.push(Case {
                name: format!("{name}.function"),
                template: template(property, named, true),
                tool,
                rewritten: 0,
            });
            if !matches!(property.form, Form::Url) {
                let there = "s3://elsewhere/a/b.zip";
                cases.push(Case {
                    name: format!("{name}.s3"),
                    template: template(property, there, false),
                    tool,
                    rewritten: 0,
                });
            }
        }
    }
    cases
}

/// What no row says.
fn others() -> Vec<Case> {
    let function =
        "Type: AWS::Serverless::Function\n    Properties:\n      Handler: app.handler\n      Runtime: python3.12\n";
    let sam = "Transform: AWS::Serverless-2016-10-31\n";
    let all = [
        ("include", Tool::AwsCli, 1, "Resources:\n  T:\n    Type: AWS::SNS::Topic\n    Properties:\n      Fn::Transform: {Name: AWS::Include, Parameters: {Location: snippet.yaml}}\n".to_owned()),
        ("include-in-a-list", Tool::AwsCli, 1, "Resources:\n  T:\n    Type: AWS::SNS::Topic\n    Properties:\n      Tags:\n        - Fn::Transform: {Name: AWS::Include, Parameters: {Location: ./snippet.yaml}}\n".to_owned()),
        ("include-by-its-short-form", Tool::AwsCli, 1, "Resources:\n  T:\n    Type: AWS::SNS::Topic\n    Properties: !Transform {Name: AWS::Include, Parameters: {Location: snippet.yaml}}\n".to_owned()),
        ("include-elsewhere", Tool::AwsCli, 0, "Resources:\n  T:\n    Type: AWS::SNS::Topic\n    Properties:\n      Fn::Transform: {Name: AWS::Include, Parameters: {Location: 's3://b/k'}}\n".to_owned()),
        ("another-macro", Tool::AwsCli, 0, "Resources:\n  T:\n    Type: AWS::SNS::Topic\n    Properties:\n      Fn::Transform: {Name: Own, Parameters: {Location: snippet.yaml}}\n".to_owned()),
        ("repository", Tool::AwsCli, 2, "Metadata:\n  AWS::ServerlessRepo::Application:\n    Name: n\n    ReadmeUrl: README.md\n    LicenseUrl: ./LICENSE\nResources:\n  T: {Type: AWS::SNS::Topic}\n".to_owned()),
        ("loop", Tool::AwsCli, 1, "Transform: AWS::LanguageExtensions\nResources:\n  Fn::ForEach::Each:\n    - Name\n    - [A, B]\n    - \"F${Name}\":\n        Type: AWS::Lambda::Function\n        Properties: {Code: code, Role: !Ref R}\n".to_owned()),
        ("loop-in-a-loop", Tool::AwsCli, 1, "Transform: AWS::LanguageExtensions\nResources:\n  Fn::ForEach::Each:\n    - Name\n    - [A, B]\n    - Fn::ForEach::Inner:\n        - Other\n        - [C]\n        - \"F${Name}${Other}\":\n            Type: AWS::Lambda::Function\n            Properties: {Code: code}\n".to_owned()),
        ("a-file-for-code", Tool::AwsCli, 1, "Resources:\n  F: {Type: AWS::Lambda::Function, Properties: {Code: one.py}}\n".to_owned()),
        ("a-layer-of-a-file", Tool::AwsCli, 1, format!("{sam}Resources:\n  L: {{Type: AWS::Serverless::LayerVersion, Properties: {{ContentUri: ./one.py}}}}\n")),
        ("code-in-the-template", Tool::AwsCli, 0, "Resources:\n  F:\n    Type: AWS::Lambda::Function\n    Properties:\n      Code:\n        ZipFile: |\n          def handler(event, context):\n            pass\n".to_owned()),
        ("the-folder-by-default", Tool::AwsCli, 1, format!("{sam}Resources:\n  F:\n    {function}")),
        ("the-folder-by-default-in-json", Tool::AwsCli, 1, "{\"Resources\": {\"F\": {\"Type\": \"AWS::Lambda::Function\", \"Properties\": {\"Role\": \"r\"}}}}".to_owned()),
        ("the-folder-by-its-name", Tool::AwsCli, 1, format!("{sam}Resources:\n  F:\n    {function}      CodeUri: .\n")),
        ("versions", Tool::AwsCli, 0, "Resources:\n  A: {Type: AWS::ApiGateway::RestApi, Properties: {BodyS3Location: 's3://b/k?versionId=7'}}\n  L: {Type: AWS::Lambda::LayerVersion, Properties: {Content: 's3://b/k?versionId=7'}}\n".to_owned()),
        ("short-tags", Tool::AwsCli, 1, format!("{sam}Parameters:\n  P: {{Type: String, Default: x}}\nResources:\n  F:\n    {function}      CodeUri: code/ # here\n      Role: !GetAtt R.Arn\n      Environment:\n        Variables: {{A: !Sub '${{P}}-x', B: !Join ['-', [a, !Ref P]], C: !If [X, 1, 2]}}\n  R:\n    Type: AWS::IAM::Role\n    Condition: X\nConditions:\n  X: !Equals [!Ref P, x]\n")),
        ("anchors", Tool::AwsCli, 2, "Resources:\n  A:\n    Type: AWS::Lambda::Function\n    Properties: &same\n      Code: code\n      Role: r\n  B:\n    Type: AWS::Lambda::Function\n    Properties: *same\n".to_owned()),
        ("texts-of-several-lines", Tool::AwsCli, 1, "Description: >-\n  one\n  two\nResources:\n  F:\n    Type: AWS::Lambda::Function\n    Properties:\n      Description: |\n        a: b\n          c\n\n      Code: \"code\"\n".to_owned()),
        ("windows-line-ends", Tool::AwsCli, 1, "Resources:\r\n  F:\r\n    Type: AWS::Lambda::Function\r\n    Properties:\r\n      Code: 'code'\r\n      Role: r\r\n".to_owned()),
        ("twice-the-same", Tool::AwsCli, 3, "Resources:\n  F: {Type: AWS::Lambda::Function, Properties: {Code: code}}\n  G: {Type: AWS::Lambda::Function, Properties: {Code: ./code/}}\n  L: {Type: AWS::Lambda::LayerVersion, Properties: {Content: code}}\n".to_owned()),
        ("parameters-and-paths", Tool::AwsCli, 1, "Parameters:\n  Bucket: {Type: String, Default: b}\n  Key: {Type: String, Default: k}\nResources:\n  F: {Type: AWS::Lambda::Function, Properties: {Code: {S3Bucket: !Ref Bucket, S3Key: !Ref Key}}}\n  G: {Type: AWS::Lambda::Function, Properties: {Code: code}}\n".to_owned()),
        ("graphql", Tool::SamCli, 3, format!("{sam}Resources:\n  G:\n    Type: AWS::Serverless::GraphQLApi\n    Properties:\n      Auth: {{Type: AWS_IAM}}\n      SchemaUri: ./schema.graphql\n      Functions:\n        f: {{CodeUri: resolver.js, DataSource: NONE, Runtime: {{Name: APPSYNC_JS, Version: 1.0.0}}}}\n      Resolvers:\n        Query:\n          hello: {{CodeUri: ./resolver.js, Pipeline: [f], Runtime: {{Name: APPSYNC_JS, Version: 1.0.0}}}}\n")),
        ("sam-function", Tool::SamCli, 1, format!("{sam}Resources:\n  F:\n    {function}      CodeUri: code/\n")),
        ("sam-inline", Tool::SamCli, 0, format!("{sam}Resources:\n  F:\n    {function}      InlineCode: |\n        def handler(event, context):\n          pass\n")),
    ];
    all.into_iter()
        .map(|(name, tool, rewritten, template)| Case { name: name.into(), template, tool, rewritten })
        .collect()
}

/// Runs `parity.py` with a tool's own Python, and returns what it says.
fn parity(venv: &str, bed: &Bed, arguments: &[&str], folders: &[PathBuf]) -> String {
    let python = python().ancestors().nth(3).unwrap().join(venv).join("bin/python");
    assert!(python.exists(), "{} is not there: run `make cli`", python.display());
    let output = Command::new(python)
        .arg(root().join("tests/bed/parity.py"))
        .args(arguments)
        .args(folders)
        .envs(bed.variables())
        .env("AWS_DEFAULT_REGION", "eu-west-1")
        // Anybody's root may write beside ours.
        .env("AWS_ACCESS_KEY_ID", "111111111111")
        .env("AWS_SECRET_ACCESS_KEY", "root")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn what_is_packaged_equals_what_the_aws_cli_and_the_sam_cli_package() {
    let bed = Bed::start();
    // SAM wants a bucket with versions for a WebFunction.
    bed.boto3(
        "111111111111",
        "s3 = client('s3')\n\
         s3.create_bucket(Bucket='theirs', CreateBucketConfiguration={'LocationConstraint': 'eu-west-1'})\n\
         s3.put_bucket_versioning(Bucket='theirs', VersioningConfiguration={'Status': 'Enabled'})",
    );
    let cases: Vec<Case> = rows().into_iter().chain(others()).collect();
    let home = Project::empty();
    let mut folders: BTreeMap<bool, Vec<PathBuf>> = BTreeMap::new();
    for case in &cases {
        let folder = home.path().join(&case.name);
        fs::create_dir_all(&folder).unwrap();
        files(&folder);
        let name = case.file();
        fs::write(folder.join(name), &case.template).unwrap();
        folders.entry(case.tool == Tool::SamCli).or_default().push(folder);
    }
    // Theirs first: a template whose folder is packaged must hold the same files for both.
    parity("aws-cli", &bed, &["cli", "theirs"], &folders[&false]);
    parity("sam-cli", &bed, &["sam", "theirs"], &folders[&true]);
    for case in &cases {
        let folder = home.path().join(&case.name);
        let name = case.file();
        let config = format!(
            "application: parity\ntemplate: {0}/{name}\ncapabilities: [CAPABILITY_AUTO_EXPAND]\nregions: [eu-west-1]\n\
             store: {{ bucket: {1}, kms-key: {2} }}\nstages: {{ prod: {{}} }}\n\
             tenants:\n  - {{ name: unicorn, account: \"333333333333\" }}\n",
            case.name,
            bed.fact("bucket"),
            bed.fact("kms_key"),
        );
        home.write("tenantry.yaml", &config);
        let theirs = fs::read(folder.join("theirs.yaml")).unwrap();
        fs::remove_file(folder.join("theirs.yaml")).unwrap();
        let release = tenantry(&bed, &home, &["package", "--output", "json"]).exits(0).json();
        fs::write(folder.join("theirs.yaml"), theirs).unwrap();
        let key = release["template"]["key"].as_str().unwrap();
        fs::write(folder.join("ours.txt"), format!("{} {key}", bed.fact("bucket"))).unwrap();
    }
    let all: Vec<PathBuf> = cases.iter().map(|case| home.path().join(&case.name)).collect();
    let said = parity("aws-cli", &bed, &["same"], &all);
    let expected: String = cases.iter().fold(String::new(), |mut all, case| {
        let _ = writeln!(all, "{} {}", case.name, case.rewritten);
        all
    });
    assert_eq!(said, expected);
    assert!(cases.len() >= 60, "{}", cases.len());
}
