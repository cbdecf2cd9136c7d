//! Examples that show what a tenant's application may need beside functions: isolation by attributes, policy stores.

use std::collections::HashMap;
use std::fs;

use cedar_policy::{
    Authorizer, Context, Decision, Entities, EntityUid, PolicyId, PolicySet, Request, SlotId, Template,
};
use serde_json::{Value, json};

use crate::accounts::{RELEASER, admin, taking};
use crate::bed::{Bed, Project, offline, snapshot, tenantry};

const SANDBOX: &str = "222222222222";

/// Returns what the function answers to a request with a verified token of `tenant`.
fn asked(bed: &Bed, function: &str, tenant: &str, owner: &str, shipment: &str) -> Value {
    let event = json!({
        "requestContext": { "authorizer": { "claims": { "TenantID": tenant } } },
        "pathParameters": { "owner": owner, "shipment": shipment },
    });
    let invoke = format!(
        "r = client('lambda').invoke(FunctionName='{function}', Payload=json.dumps({event}))\nprint(r['Payload'].read().decode())"
    );
    serde_json::from_str(&bed.boto3(SANDBOX, &invoke)).unwrap()
}

/// The application's data belongs to tenants of its own, who share a table, a bucket and a function.
#[test]
fn a_session_tagged_with_a_tenant_reaches_the_data_of_no_other() {
    let bed = Bed::with(&["--empty"]);
    let project = Project::of("abac");
    let people = "bootstrap:\n  organization: o-exampleorg1\n  admin-role: OrganizationAccountAccessRole\n  releasers: [\"arn:aws:iam::111111111111:user/alice\"]\n";
    project.replace("tenantry.yaml", "bootstrap:\n", people);
    admin(&bed, &project, &["bootstrap", "tooling", "--yes"]).exits(0);
    admin(&bed, &project, &["bootstrap", "tenant", "sandbox", "--yes"]).exits(0);
    let deploy = || taking("alice", RELEASER, &bed, &project, &["deploy", "--stage", "dev"]).exits(0);
    deploy();

    let data = "outputs = {o['OutputKey']: o['OutputValue'] for s in client('cloudformation').describe_stacks()['Stacks'] for o in s.get('Outputs', [])}\n\
        kms, s3 = client('kms'), client('s3')\n\
        keys = {tenant: kms.create_key(Tags=[{'TagKey': 'TenantID', 'TagValue': tenant}])['KeyMetadata']['Arn'] for tenant in ['yellow', 'blue']}\n\
        for tenant in keys:\n  \
          for shipment, owner in [('s1', tenant), ('s2', 'blue')]:\n    \
            client('dynamodb').put_item(TableName=outputs['Table'], Item={'TenantID': {'S': tenant}, 'ShipmentID': {'S': shipment}, 'ETA': {'S': 'today'}})\n    \
            s3.put_object(Bucket=outputs['Bucket'], Key=f'{tenant}/{shipment}.txt', Body=tenant.encode(), ServerSideEncryption='aws:kms', SSEKMSKeyId=keys[owner])\n\
        print(json.dumps(outputs))";
    let outputs: Value = serde_json::from_str(&bed.boto3(SANDBOX, data)).unwrap();
    let function = outputs["Function"].as_str().unwrap();

    for tenant in ["yellow", "blue"] {
        let answer = asked(&bed, function, tenant, tenant, "s1");
        assert_eq!(
            answer,
            json!({ "statusCode": 200, "body": format!("{{\"eta\": \"today\", \"label\": \"{tenant}\"}}") })
        );
    }
    // The code does not compare whose data the path names: the session cannot have it.
    for (tenant, owner) in [("yellow", "blue"), ("blue", "yellow"), ("green", "blue")] {
        assert_eq!(asked(&bed, function, tenant, owner, "s1")["statusCode"], 403, "{tenant} has what is {owner}'s");
    }
    assert_eq!(asked(&bed, function, "*", "blue", "s1")["statusCode"], 401);

    // What code of the service could try besides: without a tenant, with a tag more, around the keys, under a foreign key.
    project.write("tracking/app.py", &fs::read_to_string(crate::bed::root().join("tests/it/probe.py")).unwrap());
    deploy();
    let probed = asked(&bed, function, "yellow", "blue", "s1");
    snapshot("abac-probed", &serde_json::to_string_pretty(&probed).unwrap());
}

const STORES: &str = "template.yaml";

fn statement(resource: &Value) -> &str {
    resource["Properties"]["Definition"]["Static"]["Statement"].as_str().unwrap_or_default()
}

/// A global policy is changed once, for all tenants.
#[test]
fn a_global_policy_goes_to_the_stores_of_all_tenants_as_one_release() {
    let (bed, project) = (Bed::start(), Project::of("policy-stores"));
    project.replace("tenantry.yaml", "    gate: { approval: required }\n", "    tenants: [unicorn, gnome]\n");
    tenantry(&bed, &project, &["deploy"]).exits(0);
    let outputs = "print([o for s in client('cloudformation').describe_stacks()['Stacks'] for o in s['Outputs']])";
    let stores = ["222222222222", "333333333333", "444444444444"].map(|account| bed.boto3(account, outputs));
    assert!(stores.iter().all(|outputs| outputs.contains("'PS") && outputs.contains("'PT")), "{stores:?}");

    // What does not fit the schema leaves this machine for no tenant.
    bed.forget();
    project.replace(STORES, "resource.owner == principal", "resource.creator == principal");
    let refused = tenantry(&bed, &project, &["deploy"]).exits(2);
    assert!(refused.stderr.contains("attribute `creator` on entity type `DocumentsAPI::Document` not found"));
    bed.assert_untouched();

    project.replace(STORES, "resource.creator == principal", "resource.owner == principal && context.mfa");
    let refused = offline(&project, &["check"]).exits(2);
    assert!(refused.stderr.contains("template.yaml:81:46"), "{}", refused.stderr);
    project.replace(STORES, " && context.mfa && resource.type == \"document\"", "");
    let plan = tenantry(&bed, &project, &["plan", "--stage", "prod"]).exits(0);
    snapshot("policy-stores-plan", &plan.stdout);
    tenantry(&bed, &project, &["deploy", "--stage", "prod"]).exits(0);
    assert_eq!(bed.actions("ExecuteChangeSet").len(), 2);
    // That is the policy of both stores now, and the store of the sandbox has its own until it is released to.
    let template = "print(client('cloudformation').get_template(StackName=client('cloudformation').describe_stacks()['Stacks'][0]['StackName'])['TemplateBody'])";
    let has_changed = ["222222222222", "333333333333", "444444444444"]
        .map(|account| !bed.boto3(account, template).contains("resource.type == \"document\""));
    assert_eq!(has_changed, [false, true, true]);
}

/// The policies of the example mean what their descriptions say.
#[test]
fn the_policies_of_the_example_decide_as_they_say() {
    let text = fs::read_to_string(crate::bed::root().join("examples/policy-stores").join(STORES)).unwrap();
    // Tags of functions are of no matter here.
    let template: Value = serde_yaml::from_str(&text.replace("!Ref ", "").replace("!GetAtt ", "")).unwrap();
    let resources = template["Resources"].as_object().unwrap();
    let mut policies = PolicySet::new();
    for (name, resource) in resources.iter().filter(|(_, resource)| !statement(resource).is_empty()) {
        policies.add(cedar_policy::Policy::parse(Some(PolicyId::new(name)), statement(resource)).unwrap()).unwrap();
    }
    let share = resources["ShareTemplate"]["Properties"]["Statement"].as_str().unwrap();
    policies.add_template(Template::parse(Some(PolicyId::new("share")), share).unwrap()).unwrap();
    let uid = |kind: &str, id: &str| -> EntityUid { format!("DocumentsAPI::{kind}::\"{id}\"").parse().unwrap() };
    // Ann owns the plan, and has shared it with Bob. Eve administers.
    let shared =
        HashMap::from([(SlotId::principal(), uid("User", "bob")), (SlotId::resource(), uid("Document", "plan"))]);
    policies.link(PolicyId::new("share"), PolicyId::new("shared"), shared).unwrap();
    let entity = |kind: &str, id: &str, parents: Value, attributes: Value| json!({ "uid": { "type": format!("DocumentsAPI::{kind}"), "id": id }, "parents": parents, "attrs": attributes });
    let admins = json!([{ "type": "DocumentsAPI::Group", "id": "admins" }]);
    let owner = json!({ "owner": { "__entity": { "type": "DocumentsAPI::User", "id": "ann" } }, "type": "document" });
    let entities = json!([
        entity("User", "eve", admins, json!({})),
        entity("Document", "plan", json!([]), owner),
        entity("Application", "documents", json!([]), json!({})),
    ]);
    let entities = Entities::from_json_value(entities, None).unwrap();
    let may = |user: &str, action: &str| {
        let resource = if action == "addDocument" { uid("Application", "documents") } else { uid("Document", "plan") };
        let request = Request::new(uid("User", user), uid("Action", action), resource, Context::empty(), None).unwrap();
        Authorizer::new().is_authorized(&request, &policies, &entities).decision() == Decision::Allow
    };
    let actions = ["addDocument", "accessDocument", "shareDocument", "deleteDocument"];
    let of = |user: &str| actions.map(|action| may(user, action));
    assert_eq!(of("ann"), [true; 4], "the owner");
    assert_eq!(of("bob"), [true, true, false, false], "with whom it was shared");
    assert_eq!(of("eve"), [true; 4], "an administrator");
    assert_eq!(of("mallory"), [true, false, false, false], "anybody else of the tenant");
}
