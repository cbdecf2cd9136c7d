//! Templates as people have them: nested ones, what `sam build` writes, a CDK assembly.

use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::bed::{Bed, Project, command, python, snapshot, tenantry};

/// Writes a configuration without a gate for a template, and two tenants.
fn configure(project: &Project, bed: &Bed, template: &str) {
    project.write(
        "tenantry.yaml",
        &format!(
            "application: shop\ntemplate: {template}\nregions: [eu-west-1]\n\
             store: {{ bucket: {}, kms-key: {} }}\n\
             capabilities: [CAPABILITY_IAM, CAPABILITY_AUTO_EXPAND]\nstages: {{ prod: {{}} }}\n\
             tenants:\n  - {{ name: unicorn, account: \"333333333333\" }}\n  - {{ name: sandbox, account: \"222222222222\" }}\n",
            bed.fact("bucket"),
            bed.fact("kms_key"),
        ),
    );
}

/// Returns the template of a tenant's stack, and of those that it nests, as text.
fn templates(bed: &Bed, account: &str) -> String {
    bed.boto3(
        account,
        "cfn = client('cloudformation')\nfor s in cfn.describe_stacks()['Stacks']:\n  \
         print(s['StackName'], s['StackStatus'], json.dumps(cfn.get_template(StackName=s['StackName'])['TemplateBody']))",
    )
}

/// Returns the text of an object in the store.
fn stored(bed: &Bed, key: &str) -> String {
    let get =
        format!("print(client('s3').get_object(Bucket='{}', Key='{key}')['Body'].read().decode())", bed.fact("bucket"));
    bed.boto3("111111111111", &get)
}

fn outcomes(answer: &Value) -> Vec<&str> {
    let targets = answer["stages"][0]["targets"].as_array().unwrap();
    targets.iter().map(|target| target["outcome"].as_str().unwrap_or_default()).collect()
}

#[test]
fn a_nested_application_goes_to_two_tenants() {
    let (bed, project) = (Bed::start(), Project::empty());
    configure(&project, &bed, "template.yaml");
    project.write(
        "template.yaml",
        "Resources:\n  Queues: {Type: AWS::CloudFormation::Stack, Properties: {TemplateURL: queues/template.yaml}}\n  \
         Hello:\n    Type: AWS::Lambda::Function\n    Properties:\n      Code: hello/\n      Handler: index.handler\n      \
         Runtime: nodejs24.x\n      Role: !Sub 'arn:aws:iam::${AWS::AccountId}:role/hello'\n",
    );
    project.write("hello/index.js", "exports.handler = async () => 1\n");
    project.write(
        "queues/template.yaml",
        "Resources:\n  Work: {Type: AWS::SQS::Queue}\n  \
         Drain:\n    Type: AWS::Lambda::Function\n    Properties:\n      Code: ../drain\n      Handler: index.handler\n      \
         Runtime: nodejs24.x\n      Role: !Sub 'arn:aws:iam::${AWS::AccountId}:role/drain'\n",
    );
    project.write("drain/index.js", "exports.handler = async () => 2\n");
    let answer = tenantry(&bed, &project, &["deploy", "--output", "json"]).exits(0).json();
    assert_eq!(outcomes(&answer), ["deployed", "deployed"], "{answer}");
    for account in ["333333333333", "222222222222"] {
        let stacks = templates(&bed, account);
        assert_eq!(stacks.matches("CREATE_COMPLETE").count(), 2, "{stacks}");
        assert!(
            !stacks.contains("drain\"}") && stacks.contains("CrossAccountPipeline/shared/shop/artifacts/"),
            "{stacks}"
        );
    }
    let again = tenantry(&bed, &project, &["deploy", "--output", "json"]).exits(0).json();
    assert_eq!(again["release"], answer["release"], "the same bytes are the same release");
}

#[test]
fn what_sam_build_writes_goes_to_two_tenants_as_it_is() {
    let (bed, project) = (Bed::start(), Project::empty());
    configure(&project, &bed, ".aws-sam/build/template.yaml");
    project.write(
        "template.yaml",
        "Transform: AWS::Serverless-2016-10-31\nGlobals:\n  Function: {Runtime: python3.11, Handler: app.handler, Timeout: 3}\n\
         Resources:\n  Hello:\n    Type: AWS::Serverless::Function\n    Properties: {CodeUri: hello/}\n  \
         Bye:\n    Type: AWS::Serverless::Function\n    Properties: {CodeUri: bye/}\n",
    );
    for name in ["hello", "bye"] {
        project.write(&format!("{name}/app.py"), &format!("def handler(event, context):\n    return '{name}'\n"));
        project.write(&format!("{name}/requirements.txt"), "");
    }
    let sam = python().ancestors().nth(3).unwrap().join("sam-cli/bin/sam");
    let built = Command::new(sam)
        .arg("build")
        .current_dir(project.path())
        .env("SAM_CLI_TELEMETRY", "0")
        .env("HOME", project.path())
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let template = fs::read_to_string(project.path().join(".aws-sam/build/template.yaml")).unwrap();
    assert!(template.contains("CodeUri: Hello\n"), "{template}");

    let answer = tenantry(&bed, &project, &["deploy", "--output", "json"]).exits(0).json();
    assert_eq!(outcomes(&answer), ["deployed", "deployed"], "{answer}");
    let release = tenantry(&bed, &project, &["package", "--output", "json"]).exits(0).json();
    let packaged = stored(&bed, release["template"]["key"].as_str().unwrap());
    let key = |name: &str| release["artifacts"][format!("./{name}")]["key"].as_str().unwrap().to_owned();
    let expected = ["Hello", "Bye"].iter().fold(template, |template, name| {
        let uri = format!("CodeUri: s3://{}/{}\n", bed.fact("bucket"), key(name));
        template.replace(&format!("CodeUri: {name}\n"), &uri)
    });
    assert_eq!(packaged.trim_end(), expected.trim_end(), "nothing but the two values is different");
}

#[test]
fn a_cdk_assembly_goes_to_two_tenants_stack_by_stack_without_bootstrap() {
    let (bed, project) = (Bed::start(), Project::of("image-recognition"));
    project.replace("tenantry.yaml", "    gate: { approval: required }\n", "    tenants: [unicorn, sandbox]\n");
    project.replace("tenantry.yaml", "  dev:\n    tenants: [sandbox]\n", "");
    let gnome = "  - name: gnome\n    account: \"444444444444\"\n    roles: { external-id: external-id-of-gnome }\n";
    project.replace("tenantry.yaml", gnome, "");
    let deployed = tenantry(&bed, &project, &["deploy", "--stage", "prod"]).exits(0);
    snapshot("cdk", &deployed.stdout);
    // Each stack after those that it depends on, in every tenant.
    let order: Vec<String> = bed
        .actions("ExecuteChangeSet")
        .iter()
        .map(|request| request["StackName"].as_str().unwrap().rsplit("Recognition").next().unwrap().to_owned())
        .collect();
    assert_eq!(order, ["Data", "Data", "Service", "Service"]);
    for account in ["333333333333", "222222222222"] {
        let stacks = templates(&bed, account);
        assert_eq!(stacks.matches(" CREATE_COMPLETE ").count(), 2, "{stacks}");
        for bootstrap in ["cdk-hnb659fds", "BootstrapVersion"] {
            assert!(!stacks.contains(bootstrap), "{bootstrap} in {stacks}");
        }
    }
    // The code that the CDK has staged runs, and knows what the other stack exports.
    let invoke = "l = client('lambda')\nname = next(f['FunctionName'] for f in l.list_functions()['Functions'] if 'ImagesApi' in f['FunctionName'])\n\
                  print(l.invoke(FunctionName=name, Payload=b'{\"httpMethod\": \"POST\"}')['Payload'].read().decode())";
    let answer: Value = serde_json::from_str(&bed.boto3("333333333333", invoke)).unwrap();
    assert_eq!(answer["statusCode"], 201, "{answer}");
    assert!(answer["body"].as_str().unwrap().contains("imagerecognitiondata-images"), "{answer}");
    // The template that was sent is the CDK's with the bucket, the keys and the rule replaced, and nothing else.
    let release = tenantry(&bed, &project, &["package", "--stack", "ImageRecognitionService", "--output", "json"])
        .exits(0)
        .json();
    let sent: Value = serde_json::from_str(&stored(&bed, release["template"]["key"].as_str().unwrap())).unwrap();
    let written = fs::read_to_string(project.path().join("cdk.out/ImageRecognitionService.template.json")).unwrap();
    let mut expected: Value = serde_json::from_str(&written).unwrap();
    expected.as_object_mut().unwrap().remove("Parameters");
    expected.as_object_mut().unwrap().remove("Rules");
    let mut codes = 0;
    for (_, resource) in expected["Resources"].as_object_mut().unwrap() {
        if resource["Type"] == "AWS::Lambda::Function" {
            let name = if resource["Properties"]["Description"].as_str().unwrap().contains("new images") {
                "./Recognise/Code"
            } else {
                "./ImagesApi/Code"
            };
            let key = &release["artifacts"][name]["key"];
            resource["Properties"]["Code"] =
                serde_json::json!({ "S3Bucket": { "Fn::Sub": bed.fact("bucket") }, "S3Key": key });
            codes += 1;
        }
    }
    assert_eq!(codes, 2);
    assert_eq!(sent, expected);
    snapshot("cdk-status", &tenantry(&bed, &project, &["status", "--stage", "prod"]).exits(0).stdout);
    tenantry(&bed, &project, &["plan", "--stage", "prod"]).exits(2);
    tenantry(&bed, &project, &["plan", "--stage", "prod", "--stack", "ImageRecognitionData"]).exits(0);
}

#[test]
fn what_of_an_assembly_cannot_be_released_is_told() {
    let project = Project::of("image-recognition");
    let cases = [
        (
            "one-account",
            "manifest.json",
            "\"environment\": \"aws://unknown-account/unknown-region\"",
            "\"environment\": \"aws://111122223333/eu-west-1\"",
        ),
        (
            "image",
            "ImageRecognitionService.assets.json",
            "\"dockerImages\": {}",
            "\"dockerImages\": {\"abc\": {\"displayName\": \"Api/Image\", \"source\": {}, \"destinations\": {}}}",
        ),
        (
            "no-asset",
            "ImageRecognitionService.assets.json",
            "asset.36d55b1a49c973d83e76d55ae14912407cbc133697553e4516067fc91505a00f\",",
            "asset.gone\",",
        ),
        ("lookups", "manifest.json", "{\n  \"version\"", "{\n  \"missing\": [{\"key\": \"vpc\"}],\n  \"version\""),
        (
            "circle",
            "manifest.json",
            "\"dependencies\": [\n        \"ImageRecognitionData.assets\"\n",
            "\"dependencies\": [\n        \"ImageRecognitionData.assets\", \"ImageRecognitionService\"\n",
        ),
    ];
    let mut told = String::new();
    for (name, file, from, to) in cases {
        let path = project.path().join("cdk.out").join(file);
        let before = fs::read_to_string(&path).unwrap();
        assert!(before.contains(from), "{name}");
        fs::write(&path, before.replace(from, to)).unwrap();
        let ran = crate::bed::ran(command(&project, None, &["check", "--stack", "ImageRecognitionService"])).exits(2);
        let _ = writeln!(told, "=== {name}\n{}", ran.stderr);
        fs::write(&path, before).unwrap();
    }
    snapshot("cdk-mistakes", &told);
}

#[test]
fn parameters_and_paths_are_mixed_and_explain_says_what_changed() {
    let (bed, project) = (Bed::start(), Project::hello());
    project.replace(
        "application.yaml",
        "Resources:\n",
        "Resources:\n  Second:\n    Type: AWS::Lambda::Function\n    Properties:\n      Code: second\n      Handler: index.handler\n      \
         Runtime: nodejs24.x\n      Role: !GetAtt SampleApplicationRole.Arn\n",
    );
    project.write("second/index.js", "exports.handler = async () => 1\n");
    project.write("second/old.js", "old\n");
    snapshot("explain-first", &tenantry(&bed, &project, &["package", "--explain"]).exits(0).stdout);
    let first = tenantry(&bed, &project, &["package", "--output", "json", "--cache", "cache"]).exits(0).json();
    let cached = fs::read_dir(project.path().join("cache")).unwrap().count();
    assert_eq!(cached, 4, "a zip and an index for each of two folders");
    let again = tenantry(&bed, &project, &["package", "--output", "json", "--cache", "cache"]).exits(0).json();
    assert_eq!(first["id"], again["id"], "a cache changes nothing");
    project.write("second/index.js", "exports.handler = async () => 22\n");
    project.write("second/new.js", "new\n");
    fs::remove_file(project.path().join("second/old.js")).unwrap();
    snapshot("explain", &tenantry(&bed, &project, &["package", "--explain", "--cache", "cache"]).exits(0).stdout);
}
