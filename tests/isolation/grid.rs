//! Requests of every kind, with what the specification says of each, and what the policies say.

use iam_rs::{Context, Decision};
use serde_json::{Value, json};

use crate::iam::{Caller, Request, Rule};
use crate::spec::{self, Encryption, How, Wanted, Zone};
use crate::world::{
    ACCESS, ACCESS_POLICY, ACCESS_TRUST, APPROVE_POLICY, APPROVER_TRUST, BOUNDARY, BUCKET, BUCKET_POLICY, DEPLOYMENT,
    DEPLOYMENT_POLICY, DEPLOYMENT_TRUST, EXTERNAL_ID, FLEET, GITHUB_APPROVE_TRUST, GITHUB_PLAN_TRUST,
    GITHUB_RELEASE_TRUST, GNOME, KEY, KEY_POLICY, Mode, ORGANIZATION, OTHERS, OUTSIDE, PIPELINE, PLAN, PLAN_POLICY,
    Place, RELEASE_POLICY, RELEASER_TRUST, ROLES, Role, TENANT_PLAN_POLICY, TENANT_PLAN_TRUST, TOOL_POLICY, TOOL_TRUST,
    TOOLING, UNICORN, World, everything, put, text, texts,
};

/// A request, what is meant to become of it, and what does.
pub struct Case {
    pub label: String,
    pub allowed: bool,
    judge: Box<dyn Fn(&World) -> bool + Send + Sync>,
}

impl Case {
    fn new(label: String, allowed: bool, judge: impl Fn(&World) -> bool + Send + Sync + 'static) -> Self {
        Self { label, allowed, judge: Box::new(judge) }
    }

    pub fn holds(&self, world: &World) -> bool {
        (self.judge)(world) == self.allowed
    }
}

/// Cases that ask some policies.
pub struct Layer {
    pub name: &'static str,
    pub places: Vec<Place>,
    pub cases: Vec<Case>,
}

const ZONES: [Zone; 19] = [
    Zone::Shared,
    Zone::Of(GNOME),
    Zone::Of(UNICORN),
    Zone::Of(OTHERS),
    Zone::Of(OUTSIDE),
    Zone::Record("approvals"),
    Zone::Record("uses"),
    Zone::Record("digest-key"),
    Zone::Record("finished"),
    Zone::Fleet,
    Zone::Record("ledger"),
    Zone::Record("locks"),
    Zone::Record("newest-plan"),
    Zone::Record("plans"),
    Zone::Record("releases"),
    Zone::Record("rollouts"),
    Zone::Tool,
    Zone::Handed,
    Zone::Other,
];

/// All else that KMS can be asked to do with a key.
/// Source: <https://docs.aws.amazon.com/service-authorization/latest/reference/list_awskeymanagementservice.html>
const OTHER_USES: [&str; 19] = [
    "kms:DeleteImportedKeyMaterial",
    "kms:DeriveSharedSecret",
    "kms:GenerateDataKeyPair",
    "kms:GenerateDataKeyPairWithoutPlaintext",
    "kms:GenerateDataKeyWithoutPlaintext",
    "kms:GenerateMac",
    "kms:GetParametersForImport",
    "kms:GetPublicKey",
    "kms:ImportKeyMaterial",
    "kms:ListKeyRotations",
    "kms:ReEncryptTo",
    "kms:ReplicateKey",
    "kms:RetireGrant",
    "kms:RotateKeyOnDemand",
    "kms:Sign",
    "kms:SynchronizeMultiRegionKey",
    "kms:UpdatePrimaryRegion",
    "kms:Verify",
    "kms:VerifyMac",
];

/// The key tells tenants' folders from all else.
const KEY_ZONES: [Zone; 5] =
    [Zone::Shared, Zone::Of(GNOME), Zone::Of(UNICORN), Zone::Record("approvals"), Zone::Handed];

fn flags() -> impl Iterator<Item = bool> + Clone {
    [true, false].into_iter()
}

fn hows() -> Vec<How> {
    let right = How { encrypted_connection: true, encryption: Encryption::Ours, once: true, creates: true };
    let mut all = vec![right, How { encrypted_connection: false, ..right }];
    for encryption in [Encryption::Ours, Encryption::Other, Encryption::Unnamed, Encryption::Plain, Encryption::Silent]
    {
        for once in flags() {
            all.extend(flags().map(|creates| How { encryption, once, creates, ..right }));
        }
    }
    all
}

fn with_how(mut context: Context, how: How, action: &str) -> Context {
    context = context.with_boolean("aws:SecureTransport", how.encrypted_connection);
    if action == "s3:PutObject" {
        context = context.with_boolean("s3:ObjectCreationOperation", how.creates);
        let other = "arn:aws:kms:eu-west-1:111111111111:key/Other";
        let (algorithm, key) = match how.encryption {
            Encryption::Ours => (Some("aws:kms"), Some(KEY)),
            Encryption::Other => (Some("aws:kms"), Some(other)),
            Encryption::Unnamed => (Some("aws:kms"), None),
            Encryption::Plain => (Some("AES256"), None),
            Encryption::Silent => (None, None),
        };
        put(&mut context, "s3:x-amz-server-side-encryption", algorithm);
        put(&mut context, "s3:x-amz-server-side-encryption-aws-kms-key-id", key);
        if how.once {
            context.insert("s3:if-none-match".into(), text("*"));
        }
    }
    context
}

fn object(zone: Zone) -> String {
    format!("arn:aws:s3:::{BUCKET}/{}", zone.key())
}

/// The bucket's policy alone: who asks may do everything; and the same where it was opened for everything.
fn bucket() -> Layer {
    let mut cases = Vec::new();
    let actions = [
        "s3:GetObject",
        "s3:GetObjectVersion",
        "s3:GetObjectAcl",
        "s3:PutObject",
        "s3:PutObjectAcl",
        "s3:DeleteObject",
        "s3:DeleteObjectVersion",
        "s3:RestoreObject",
        "s3:ReplicateObject",
        "s3:ReplicateDelete",
    ];
    for who in ROLES {
        for zone in ZONES {
            for action in actions {
                for (number, how) in hows().into_iter().enumerate() {
                    // Only writes have more than the connection to them: the first two.
                    let matters = action == "s3:PutObject" || number < 2;
                    if !matters {
                        continue;
                    }
                    for opened in flags() {
                        let allowed = if opened {
                            spec::lets(who, action, zone, how)
                        } else {
                            spec::bucket(who, action, zone, how)
                        };
                        let label = format!("bucket, opened {opened}: {who:?} {action} {zone:?} {how:?}");
                        cases.push(Case::new(label, allowed, move |world| {
                            let context = with_how(who.context(), how, action);
                            let request = Request { caller: who.caller(), action, resource: object(zone), context };
                            request.is_allowed(Decision::Allow, &bucket_policy(world, opened), TOOLING, Rule::Either)
                        }));
                    }
                }
            }
        }
        for action in ["s3:ListBucket", "s3:PutBucketPolicy", "s3:GetBucketPolicy"] {
            for (tls, own_rights) in [(true, true), (false, true), (true, false)] {
                let allowed = tls && own_rights && who.account == TOOLING;
                cases.push(Case::new(
                    format!("bucket: {who:?} {action} tls {tls} rights {own_rights}"),
                    allowed,
                    move |world| {
                        let context = who.context().with_boolean("aws:SecureTransport", tls);
                        let request = Request {
                            caller: who.caller(),
                            action,
                            resource: format!("arn:aws:s3:::{BUCKET}"),
                            context,
                        };
                        let identity = if own_rights { Decision::Allow } else { Decision::NotApplicable };
                        request.is_allowed(identity, world.document(&BUCKET_POLICY), TOOLING, Rule::Either)
                    },
                ));
            }
        }
    }
    Layer { name: "bucket", places: vec![BUCKET_POLICY], cases }
}

/// The bucket's policy; opened for everybody and everything, if so asked.
fn bucket_policy(world: &World, opened: bool) -> Value {
    let mut policy = world.document(&BUCKET_POLICY).clone();
    if opened {
        let all = json!({ "Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*" });
        policy["Statement"].as_array_mut().unwrap().push(all);
    }
    policy
}

/// The key's policy alone: who asks may do everything, or has no rights of its own.
fn key() -> Layer {
    let mut cases = Vec::new();
    let mut ask = |who: Role, action: &'static str, via: Option<&'static str>, zone: Option<Zone>, own_rights: bool| {
        let allowed = own_rights && spec::key(who, action, via, zone);
        let label = format!("key: {who:?} {action} via {via:?} {zone:?} rights {own_rights}");
        cases.push(Case::new(label, allowed, move |world| {
            let mut context = who.context();
            put(&mut context, "kms:ViaService", via);
            let elsewhere = || "arn:aws:s3:::another-bucket/CrossAccountPipeline/shared/a".to_owned();
            context.insert("kms:EncryptionContext:aws:s3:arn".into(), text(&zone.map_or_else(elsewhere, object)));
            let request = Request { caller: who.caller(), action, resource: KEY.to_owned(), context };
            let identity = if own_rights { Decision::Allow } else { Decision::NotApplicable };
            request.is_allowed(identity, world.document(&KEY_POLICY), TOOLING, Rule::Both)
        }));
    };
    let s3 = Some("s3.eu-west-1.amazonaws.com");
    for who in ROLES {
        for action in OTHER_USES {
            ask(who, action, s3, Some(Zone::Shared), true);
            ask(who, action, None, None, true);
        }
        for action in ["kms:Decrypt", "kms:GenerateDataKey", "kms:Encrypt", "kms:CreateGrant", "kms:ReEncryptFrom"] {
            for via in [None, s3, Some("s3.us-east-1.amazonaws.com"), Some("lambda.eu-west-1.amazonaws.com")] {
                for zone in KEY_ZONES.into_iter().map(Some).chain([None]) {
                    ask(who, action, via, zone, true);
                    ask(who, action, via, zone, false);
                }
            }
        }
        for action in spec::KEEPING {
            ask(who, action, None, None, true);
            ask(who, action, s3, Some(Zone::Shared), false);
        }
    }
    Layer { name: "key", places: vec![KEY_POLICY], cases }
}

/// What the tooling account's roles may do by themselves, whatever buckets, keys and tenants say.
fn tooling(path: &'static str, who: Role, policy: Place, mode: Mode) -> Layer {
    let mut cases = Vec::new();
    let mut ask = |label: String, allowed: bool, action: &'static str, resource: String, context: Context| {
        cases.push(Case::new(format!("{path}: {label}"), allowed, move |world| {
            let request =
                Request { caller: who.caller(), action, resource: resource.clone(), context: context.clone() };
            request.by_identity(&[world.document(&policy)], None) == Decision::Allow
        }));
    };
    for zone in ZONES {
        for action in [
            "s3:GetObject",
            "s3:PutObject",
            "s3:AbortMultipartUpload",
            "s3:ListMultipartUploadParts",
            "s3:DeleteObject",
            "s3:PutObjectAcl",
        ] {
            ask(format!("{action} {zone:?}"), spec::objects(path, action, zone), action, object(zone), who.context());
        }
        let elsewhere = format!("arn:aws:s3:::another-bucket/{}", zone.key());
        for action in ["s3:GetObject", "s3:PutObject"] {
            ask(format!("{action} another bucket {zone:?}"), false, action, elsewhere.clone(), who.context());
        }
    }
    for (bucket, here) in [(BUCKET, true), ("another-bucket", false)] {
        for action in ["s3:ListBucket", "s3:ListBucketMultipartUploads", "s3:DeleteBucket", "s3:PutBucketPolicy"] {
            let allowed =
                here && (action == "s3:ListBucket" || (action == "s3:ListBucketMultipartUploads" && path != "approve"));
            ask(format!("{action} {bucket}"), allowed, action, format!("arn:aws:s3:::{bucket}"), who.context());
        }
    }
    for via in [None, Some("s3.eu-west-1.amazonaws.com"), Some("lambda.eu-west-1.amazonaws.com")] {
        for (key, ours) in [(KEY, true), ("arn:aws:kms:eu-west-1:111111111111:key/Other", false)] {
            for action in ["kms:Decrypt", "kms:GenerateDataKey", "kms:ScheduleKeyDeletion", "kms:PutKeyPolicy"] {
                let allowed = ours
                    && via == Some("s3.eu-west-1.amazonaws.com")
                    && ["kms:Decrypt", "kms:GenerateDataKey"].contains(&action);
                let mut context = who.context();
                put(&mut context, "kms:ViaService", via);
                ask(format!("{action} {key} via {via:?}"), allowed, action, key.to_owned(), context);
            }
        }
    }
    for account in [TOOLING, GNOME, UNICORN, OTHERS, OUTSIDE] {
        for name in [ACCESS, PLAN, DEPLOYMENT, "Admin", "OrganizationAccountAccessRole"] {
            for action in ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity", "sts:AssumeRoleWithSAML"] {
                let theirs = match mode {
                    Mode::Organization => account != OUTSIDE,
                    Mode::Listed => [GNOME, UNICORN].contains(&account),
                };
                let mut context = who.context();
                context.insert("aws:ResourceAccount".into(), text(account));
                let organization = if account == OUTSIDE { "o-zzzzzzzzzz" } else { ORGANIZATION };
                context.insert("aws:ResourceOrgID".into(), text(organization));
                let role = format!("arn:aws:iam::{account}:role/{name}");
                ask(
                    format!("{action} {role}"),
                    action != "sts:AssumeRoleWithSAML" && spec::enters(path, name, theirs),
                    action,
                    role,
                    context,
                );
            }
        }
    }
    for (name, account, ours) in
        [("tenantry/tenants", TOOLING, true), ("tenantry/tenants", GNOME, false), ("database/password", TOOLING, false)]
    {
        let parameter = format!("arn:aws:ssm:eu-west-1:{account}:parameter/{name}");
        let ours = ours && path != "tool";
        ask(format!("parameter {name} of {account}"), ours, "ssm:GetParameter", parameter.clone(), who.context());
        for action in ["ssm:PutParameter", "ssm:GetParameters", "ssm:DeleteParameter"] {
            ask(format!("{action} {name} of {account}"), false, action, parameter.clone(), who.context());
        }
    }
    for (kind, id) in [("account", GNOME), ("ou", "ou-aaaa-tenants"), ("policy", "service_control_policy/p-x")] {
        for organization in [ORGANIZATION, "o-zzzzzzzzzz"] {
            let arn = format!("arn:aws:organizations::999999999999:{kind}/{organization}/{id}");
            for (action, reads) in [
                ("organizations:DescribeAccount", true),
                ("organizations:ListAccountsForParent", true),
                ("organizations:ListOrganizationalUnitsForParent", true),
                ("organizations:ListTagsForResource", true),
                ("organizations:CloseAccount", false),
                ("organizations:MoveAccount", false),
                ("organizations:TagResource", false),
            ] {
                let asks = path != "tool" && mode == Mode::Organization;
                let ours = asks && organization == ORGANIZATION && kind != "policy";
                ask(format!("{action} {arn}"), reads && ours, action, arn.clone(), who.context());
            }
        }
    }
    for action in ["iam:CreateRole", "iam:PassRole", "cloudformation:CreateStack", "lambda:InvokeFunction"] {
        ask(action.to_owned(), false, action, format!("arn:aws:iam::{TOOLING}:role/x"), who.context());
    }
    for (account, here) in [(TOOLING, true), (GNOME, false)] {
        let alarm = format!("arn:aws:cloudwatch:eu-west-1:{account}:alarm:x");
        ask(format!("delete alarms of {account}"), false, "cloudwatch:DeleteAlarms", alarm.clone(), who.context());
        // It is judged on all alarms, whichever are asked for.
        let _ = here;
        ask(format!("alarms of {account}"), path == "release", "cloudwatch:DescribeAlarms", alarm, who.context());
    }
    for (machine, account, ours) in
        [("tenantry-Shop", TOOLING, true), ("tenantry-Shop", GNOME, false), ("other", TOOLING, false)]
    {
        let arn = format!("arn:aws:states:eu-west-1:{account}:stateMachine:{machine}");
        for (action, needed) in [
            ("states:StartExecution", true),
            ("states:ListExecutions", false),
            ("states:StartSyncExecution", false),
            ("states:UpdateStateMachine", false),
            ("states:DeleteStateMachine", false),
        ] {
            let allowed = ours && needed && path == "release";
            ask(format!("{action} {machine} of {account}"), allowed, action, arn.clone(), who.context());
        }
        let arn = format!("arn:aws:states:eu-west-1:{account}:execution:{machine}:x");
        for (action, needed) in [
            ("states:DescribeExecution", true),
            ("states:StopExecution", true),
            ("states:GetExecutionHistory", false),
            ("states:RedriveExecution", false),
        ] {
            let allowed = ours && needed && path == "release";
            ask(format!("{action} {machine} of {account}"), allowed, action, arn.clone(), who.context());
        }
    }
    let name = match path {
        "plan" => "rights to plan",
        "tool" => "rights to put the binary",
        "release" => "rights to release",
        _ => "rights to approve",
    };
    Layer { name, places: vec![policy], cases }
}

fn session(mut context: Context, wanted: Wanted) -> Context {
    let mut keys = Vec::new();
    if let Some(tenant) = wanted.tenant {
        context.insert("aws:RequestTag/TenantID".into(), text(tenant));
        keys.push("TenantID");
    }
    if wanted.other_tag {
        context.insert("aws:RequestTag/Admin".into(), text("yes"));
        keys.push("Admin");
    }
    if !keys.is_empty() {
        context.insert("aws:TagKeys".into(), texts(&keys));
    }
    if let Some(id) = wanted.external_id {
        context.insert("sts:ExternalId".into(), text(id));
    }
    context.insert("sts:RoleSessionName".into(), text(wanted.name));
    context
}

fn wanteds() -> Vec<Wanted> {
    let mut all = Vec::new();
    for tenant in [Some("gnome"), Some("unicorn"), None] {
        for other_tag in flags() {
            for name in ["tenantry-1", "someone"] {
                let ids = [Some(EXTERNAL_ID), Some("another-external-id"), None];
                all.extend(ids.map(|external_id| Wanted { tenant, other_tag, name, external_id }));
            }
        }
    }
    all
}

/// A trust policy of a tenant's role alone: who asks may assume everything.
fn tenant_trust(name: &'static str, place: Place, paths: &'static [&'static str], mode: Mode) -> Layer {
    let mut cases = Vec::new();
    for who in ROLES {
        for action in ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity", "sts:AssumeRoleWithWebIdentity"] {
            for wanted in wanteds() {
                let allowed = spec::trusts(who, paths, action, wanted);
                let label = format!("{name}: {who:?} {action} {wanted:?}");
                cases.push(Case::new(label, allowed, move |world| {
                    let context = session(who.context(), wanted);
                    let resource = format!("arn:aws:iam::{GNOME}:role/{ACCESS}");
                    let request = Request { caller: who.caller(), action, resource, context };
                    request.is_allowed(Decision::Allow, world.document(&place), GNOME, Rule::Both)
                }));
            }
        }
    }
    // The tooling account itself has left the organization; where there is none, nobody looks.
    for organization in ["o-zzzzzzzzzz", ""] {
        let who = ROLES[0];
        let allowed = mode == Mode::Listed;
        cases.push(Case::new(format!("{name}: from organization `{organization}`"), allowed, move |world| {
            let wanted =
                Wanted { tenant: Some("gnome"), other_tag: false, name: "tenantry-1", external_id: Some(EXTERNAL_ID) };
            let mut context = session(who.context(), wanted);
            context.insert("aws:PrincipalOrgID".into(), text(organization));
            let resource = format!("arn:aws:iam::{GNOME}:role/{ACCESS}");
            let request = Request { caller: who.caller(), action: "sts:AssumeRole", resource, context };
            request.is_allowed(Decision::Allow, world.document(&place), GNOME, Rule::Both)
        }));
    }
    Layer { name, places: vec![place], cases }
}

/// Entering a tenant as a whole: whose own rights reach which role, and whether that lets them in.
fn entry() -> Layer {
    let mut cases = Vec::new();
    let ours =
        [(ROLES[0], RELEASE_POLICY, "release"), (ROLES[1], PLAN_POLICY, "plan"), (ROLES[2], APPROVE_POLICY, "approve")];
    let roles = [(ACCESS, ACCESS_TRUST, &["release"][..]), (PLAN, TENANT_PLAN_TRUST, &["plan", "release"][..])];
    for (who, policy, path) in ours {
        for (role, trust, paths) in roles {
            for account in [GNOME, OUTSIDE] {
                for wanted in wanteds() {
                    let theirs = account == GNOME;
                    let allowed =
                        spec::enters(path, role, theirs) && spec::trusts(who, paths, "sts:AssumeRole", wanted);
                    let label = format!("entry: {who:?} {role} of {account} {wanted:?}");
                    cases.push(Case::new(label, allowed, move |world| {
                        let mut context = session(who.context(), wanted);
                        context.insert("aws:ResourceAccount".into(), text(account));
                        let organization = if account == OUTSIDE { "o-zzzzzzzzzz" } else { ORGANIZATION };
                        context.insert("aws:ResourceOrgID".into(), text(organization));
                        let resource = format!("arn:aws:iam::{account}:role/{role}");
                        let request = Request { caller: who.caller(), action: "sts:AssumeRole", resource, context };
                        let identity = request.by_identity(&[world.document(&policy)], None);
                        request.is_allowed(identity, world.document(&trust), account, Rule::Both)
                    }));
                }
            }
        }
    }
    Layer { name: "entry", places: Vec::new(), cases }
}

/// The trust policies of the tooling account's own roles, and of the role that CloudFormation uses.
fn other_trusts() -> Layer {
    let mut cases = Vec::new();
    let people = |name: &'static str| Role { account: TOOLING, name };
    let callers: Vec<Role> = ROLES
        .into_iter()
        .chain([people("People"), people("Approvers"), Role { account: GNOME, name: "People" }])
        .collect();
    // The role that puts the binary is for whomever the account's own policies let.
    for who in callers.clone() {
        for (action, own_rights) in [("sts:AssumeRole", true), ("sts:AssumeRole", false), ("sts:TagSession", true)] {
            let allowed = who.account == TOOLING && own_rights && action == "sts:AssumeRole";
            cases.push(Case::new(format!("tool role: {who:?} {action} rights {own_rights}"), allowed, move |world| {
                let resource = format!("arn:aws:iam::{TOOLING}:role/tenantry/tool/TenantryTool");
                let request = Request { caller: who.caller(), action, resource, context: who.context() };
                let identity = if own_rights { Decision::Allow } else { Decision::NotApplicable };
                request.is_allowed(identity, world.document(&TOOL_TRUST), TOOLING, Rule::Both)
            }));
        }
    }
    for (place, name) in [(RELEASER_TRUST, "People"), (APPROVER_TRUST, "Approvers")] {
        for who in callers.clone() {
            for action in ["sts:AssumeRole", "sts:SetSourceIdentity", "sts:TagSession"] {
                for own_rights in flags() {
                    let allowed =
                        own_rights && who.account == TOOLING && who.name == name && action != "sts:TagSession";
                    cases.push(Case::new(
                        format!("{name} role: {who:?} {action} rights {own_rights}"),
                        allowed,
                        move |world| {
                            let resource = format!("arn:aws:iam::{TOOLING}:role/x");
                            let request = Request { caller: who.caller(), action, resource, context: who.context() };
                            let identity = if own_rights { Decision::Allow } else { Decision::NotApplicable };
                            request.is_allowed(identity, world.document(&place), TOOLING, Rule::Both)
                        },
                    ));
                }
            }
        }
    }
    for who in callers {
        cases.push(Case::new(format!("deployment role: {who:?}"), false, move |world| {
            let resource = format!("arn:aws:iam::{GNOME}:role/{DEPLOYMENT}");
            let request = Request { caller: who.caller(), action: "sts:AssumeRole", resource, context: who.context() };
            request.is_allowed(Decision::Allow, world.document(&DEPLOYMENT_TRUST), GNOME, Rule::Both)
        }));
    }
    for service in ["cloudformation.amazonaws.com", "lambda.amazonaws.com", "codebuild.amazonaws.com"] {
        for account in [GNOME, UNICORN] {
            for action in ["sts:AssumeRole", "sts:TagSession"] {
                let allowed = service == "cloudformation.amazonaws.com" && action == "sts:AssumeRole";
                cases.push(Case::new(
                    format!("deployment role: {service} of {account} {action}"),
                    allowed,
                    move |world| {
                        let context = Context::new().with_string("aws:SourceAccount", account);
                        let resource = format!("arn:aws:iam::{GNOME}:role/{DEPLOYMENT}");
                        let request = Request { caller: Caller::Service(service.into()), action, resource, context };
                        request.is_allowed(Decision::Allow, world.document(&DEPLOYMENT_TRUST), GNOME, Rule::Both)
                    },
                ));
            }
        }
    }
    Layer {
        name: "trust in people and CloudFormation",
        places: vec![RELEASER_TRUST, APPROVER_TRUST, DEPLOYMENT_TRUST, TOOL_TRUST],
        cases,
    }
}

/// GitHub's tokens: what they say of a job decides which role it gets.
fn github() -> Layer {
    let mut cases = Vec::new();
    let subjects = [
        "repo:owner/name:ref:refs/heads/main",
        "repo:owner/name:pull_request",
        "repo:owner/name:environment:production",
        "repo:owner/name:environment:production-approval",
        "repo:owner/name:ref:refs/heads/other",
        "repo:owner/other:environment:production",
        "repo:owner/name:environment:productions",
    ];
    let roles = [
        (GITHUB_PLAN_TRUST, &subjects[..2]),
        (GITHUB_RELEASE_TRUST, &subjects[2..3]),
        (GITHUB_APPROVE_TRUST, &subjects[3..4]),
    ];
    for (place, known) in roles {
        let known: Vec<&str> = known.to_vec();
        for subject in subjects {
            for audience in ["sts.amazonaws.com", "https://github.com/owner"] {
                for action in ["sts:AssumeRoleWithWebIdentity", "sts:AssumeRole"] {
                    let allowed = known.contains(&subject)
                        && audience == "sts.amazonaws.com"
                        && action == "sts:AssumeRoleWithWebIdentity";
                    cases.push(Case::new(
                        format!("github: {place:?} {subject} {audience} {action}"),
                        allowed,
                        move |world| {
                            let mut context = Context::new();
                            context.insert("token.actions.githubusercontent.com:sub".into(), text(subject));
                            context.insert("token.actions.githubusercontent.com:aud".into(), text(audience));
                            // What the provider is called stands where a service does; the engine compares both alike.
                            let mut document = world.document(&place).clone();
                            for statement in document["Statement"].as_array_mut().unwrap() {
                                let federated = statement["Principal"]["Federated"].take();
                                statement["Principal"] = serde_json::json!({ "Service": federated });
                            }
                            let provider =
                                format!("arn:aws:iam::{TOOLING}:oidc-provider/token.actions.githubusercontent.com");
                            let resource = format!("arn:aws:iam::{TOOLING}:role/x");
                            let request = Request { caller: Caller::Service(provider), action, resource, context };
                            request.is_allowed(Decision::Allow, &document, TOOLING, Rule::Both)
                        },
                    ));
                }
            }
        }
    }
    Layer {
        name: "trust in GitHub",
        places: vec![GITHUB_PLAN_TRUST, GITHUB_RELEASE_TRUST, GITHUB_APPROVE_TRUST],
        cases,
    }
}

/// Asks whether a service becomes a role, for something of its own.
fn becomes(cases: &mut Vec<Case>, trust: Place, service: &'static str, source: &str, allowed: bool) {
    for action in ["sts:AssumeRole", "sts:TagSession"] {
        let source = source.to_owned();
        let label = format!("{trust:?} for {service} of {source} {action}");
        cases.push(Case::new(label, allowed && action == "sts:AssumeRole", move |world| {
            let context = Context::new().with_string("aws:SourceArn", source.clone());
            let resource = format!("arn:aws:iam::{TOOLING}:role/x");
            let request = Request { caller: Caller::Service(service.into()), action, resource, context };
            request.is_allowed(Decision::Allow, world.document(&trust), TOOLING, Rule::Both)
        }));
    }
}

/// Returns what asks whether somebody may do something by some rights alone.
fn may(cases: &mut Vec<Case>, who: Role, rights: Place) -> impl FnMut(bool, &'static str, String, Context) {
    move |allowed, action, resource, context| {
        cases.push(Case::new(format!("{rights:?} {action} {resource}"), allowed, move |world| {
            let (resource, context) = (resource.clone(), context.clone());
            let request = Request { caller: who.caller(), action, resource, context };
            request.by_identity(&[world.document(&rights)], None) == Decision::Allow
        }));
    }
}

/// What every build does: it writes its log, and reports into a group of its own.
fn writes(mut ask: impl FnMut(bool, &'static str, String), logs: &[(&str, bool)], reports: &[(&str, bool)]) {
    for (group, ours) in logs {
        let stream = format!("arn:aws:logs:eu-west-1:{TOOLING}:log-group:/tenantry/{group}:log-stream:x");
        for (action, needed) in
            [("logs:CreateLogStream", true), ("logs:PutLogEvents", true), ("logs:GetLogEvents", false)]
        {
            ask(*ours && needed, action, stream.clone());
        }
    }
    for (project, ours) in reports {
        let group = format!("arn:aws:codebuild:eu-west-1:{TOOLING}:report-group/Shop-{project}-rollouts");
        for (action, needed) in [
            ("codebuild:CreateReportGroup", true),
            ("codebuild:CreateReport", true),
            ("codebuild:UpdateReport", true),
            ("codebuild:BatchPutTestCases", true),
            ("codebuild:DeleteReportGroup", false),
            ("codebuild:PutResourcePolicy", false),
        ] {
            ask(*ours && needed, action, group.clone());
        }
    }
}

/// The machines' roles: who becomes them, and what they may do beside releasing.
fn fleet() -> Layer {
    let mut cases = Vec::new();
    let who = Role { account: TOOLING, name: "tenantry/pipeline/Shop-machines" };
    let project = |name: &str| format!("arn:aws:codebuild:eu-west-1:{TOOLING}:project/Shop-{name}");
    let machine = |name: &str| format!("arn:aws:states:eu-west-1:{TOOLING}:stateMachine:{name}");
    let sources = [
        ("codebuild.amazonaws.com", project("fleet"), Some(0)),
        ("states.amazonaws.com", machine("tenantry-Shop"), Some(1)),
        ("states.amazonaws.com", machine("tenantry-Shop/Shards"), Some(1)),
        ("codebuild.amazonaws.com", project("release"), None),
        ("states.amazonaws.com", machine("tenantry-Shop2"), None),
        ("states.amazonaws.com", machine("other"), None),
        ("codebuild.amazonaws.com", machine("tenantry-Shop"), None),
        ("lambda.amazonaws.com", project("fleet"), None),
    ];
    for (number, (trust, rights)) in FLEET.into_iter().enumerate() {
        for (service, source, whose) in &sources {
            becomes(&mut cases, trust, service, source, *whose == Some(number));
        }
        let (builds, starts) = (number == 0, number == 1);
        let mut may = may(&mut cases, who, rights);
        let mut ask = |allowed, action, resource| may(allowed, action, resource, who.context());
        for zone in ZONES {
            let source = builds && zone == Zone::Fleet;
            ask(source, "s3:GetObject", object(zone));
            ask(source, "s3:GetObjectVersion", object(zone));
            ask(false, "s3:PutObject", object(zone));
            ask(false, "s3:GetObject", format!("arn:aws:s3:::another-bucket/{}", zone.key()));
        }
        for (bucket, ours) in [(BUCKET, true), ("another-bucket", false)] {
            ask(ours && builds, "s3:GetBucketAcl", format!("arn:aws:s3:::{bucket}"));
            ask(ours && builds, "s3:GetBucketLocation", format!("arn:aws:s3:::{bucket}"));
            ask(false, "s3:PutBucketVersioning", format!("arn:aws:s3:::{bucket}"));
        }
        writes(&mut ask, &[("Shop-fleet", builds), ("Shop", false)], &[("fleet", builds), ("release", false)]);
        for (name, ours) in [("fleet", true), ("release", false)] {
            for (action, needed) in [
                ("codebuild:StartBuild", true),
                ("codebuild:StopBuild", true),
                ("codebuild:BatchGetBuilds", true),
                ("codebuild:UpdateProject", false),
            ] {
                ask(ours && starts && needed, action, project(name));
            }
        }
        for (name, ours) in [("tenantry-Shop", true), ("tenantry-Shop2", false), ("other", false)] {
            ask(ours && starts, "states:StartExecution", machine(name));
            ask(false, "states:UpdateStateMachine", machine(name));
            for run in ["", "/Shards"] {
                let execution = format!("arn:aws:states:eu-west-1:{TOOLING}:execution:{name}{run}:x");
                for (action, needed) in [
                    ("states:DescribeExecution", true),
                    ("states:StopExecution", true),
                    ("states:RedriveExecution", false),
                ] {
                    ask(ours && starts && needed, action, execution.clone());
                }
            }
        }
        for (rule, ours) in [("StepFunctionsGetEventForCodeBuildStartBuildRule", true), ("other", false)] {
            let rule = format!("arn:aws:events:eu-west-1:{TOOLING}:rule/{rule}");
            for (action, needed) in [
                ("events:DescribeRule", true),
                ("events:PutRule", true),
                ("events:PutTargets", true),
                ("events:DeleteRule", false),
                ("events:RemoveTargets", false),
            ] {
                ask(ours && starts && needed, action, rule.clone());
            }
        }
    }
    let places = FLEET.into_iter().flat_map(|(trust, rights)| [trust, rights]).collect();
    Layer { name: "machines", places, cases }
}

/// The pipeline's roles: who becomes them, and what they may do beside planning, releasing and approving.
fn pipeline() -> Layer {
    let mut cases = Vec::new();
    let who = Role { account: TOOLING, name: "tenantry/pipeline/Shop-pipeline" };
    let project = |name: &str| format!("arn:aws:codebuild:eu-west-1:{TOOLING}:project/Shop-{name}");
    let sources = [
        ("codebuild.amazonaws.com", project("plan")),
        ("codebuild.amazonaws.com", project("release")),
        ("codebuild.amazonaws.com", project("approve")),
        ("codepipeline.amazonaws.com", format!("arn:aws:codepipeline:eu-west-1:{TOOLING}:tenantry-Shop")),
        ("codebuild.amazonaws.com", project("other")),
        ("codepipeline.amazonaws.com", format!("arn:aws:codepipeline:eu-west-1:{TOOLING}:other")),
        ("lambda.amazonaws.com", project("plan")),
    ];
    for (number, (trust, rights)) in PIPELINE.into_iter().enumerate() {
        for (place, (service, source)) in sources.iter().enumerate() {
            becomes(&mut cases, trust, service, source, place == number);
        }
        let mut ask = may(&mut cases, who, rights);
        let (plans, builds, records, runs) = (number == 0, number < 3, number == 2, number == 3);
        for zone in ZONES {
            let handed = zone == Zone::Handed;
            ask(handed, "s3:GetObject", object(zone), who.context());
            ask(handed, "s3:GetObjectVersion", object(zone), who.context());
            ask(handed && (plans || runs), "s3:PutObject", object(zone), who.context());
            ask(handed && runs, "s3:PutObjectAcl", object(zone), who.context());
            ask(false, "s3:DeleteObject", object(zone), who.context());
            ask(false, "s3:GetObject", format!("arn:aws:s3:::another-bucket/{}", zone.key()), who.context());
        }
        let reports = ["plan", "release", "approve", "other"];
        let reports: Vec<_> = (0..).zip(reports).map(|(place, name)| (name, builds && place == number)).collect();
        let own = |allowed, action, resource| ask(allowed, action, resource, who.context());
        writes(own, &[("Shop", builds), ("Other", false)], &reports);
        for (name, ours) in [("tenantry-Shop", true), ("other", false)] {
            let pipeline = format!("arn:aws:codepipeline:eu-west-1:{TOOLING}:{name}");
            ask(ours && records, "codepipeline:ListActionExecutions", pipeline.clone(), who.context());
            ask(false, "codepipeline:PutApprovalResult", pipeline, who.context());
        }
        for (name, ours) in [("plan", true), ("release", true), ("approve", true), ("other", false)] {
            ask(ours && runs, "codebuild:StartBuild", project(name), who.context());
            ask(ours && runs, "codebuild:BatchGetBuilds", project(name), who.context());
            ask(false, "codebuild:UpdateProject", project(name), who.context());
        }
        for (id, ours) in [("x", true), ("y", false)] {
            let connection = format!("arn:aws:codeconnections:eu-west-1:{TOOLING}:connection/{id}");
            for (action, needed) in [
                ("codeconnections:UseConnection", true),
                ("codestar-connections:UseConnection", true),
                ("codeconnections:DeleteConnection", false),
                ("codestar-connections:DeleteConnection", false),
            ] {
                ask(ours && runs && needed, action, connection.clone(), who.context());
            }
        }
        for (bucket, ours) in [(BUCKET, true), ("another-bucket", false)] {
            ask(ours, "s3:GetBucketAcl", format!("arn:aws:s3:::{bucket}"), who.context());
            ask(ours, "s3:GetBucketLocation", format!("arn:aws:s3:::{bucket}"), who.context());
            ask(ours && runs, "s3:GetBucketVersioning", format!("arn:aws:s3:::{bucket}"), who.context());
            ask(false, "s3:PutBucketVersioning", format!("arn:aws:s3:::{bucket}"), who.context());
        }
        for (key, ours) in [(KEY, true), ("arn:aws:kms:eu-west-1:111111111111:key/Other", false)] {
            for via in ["s3.eu-west-1.amazonaws.com", "lambda.eu-west-1.amazonaws.com"] {
                for (action, needed) in
                    [("kms:Decrypt", true), ("kms:GenerateDataKey", true), ("kms:ScheduleKeyDeletion", false)]
                {
                    let mut context = who.context();
                    context.insert("kms:ViaService".into(), text(via));
                    ask(ours && runs && needed && via.starts_with("s3."), action, key.to_owned(), context);
                }
            }
        }
    }
    let places = PIPELINE.into_iter().flat_map(|(trust, rights)| [trust, rights]).collect();
    Layer { name: "the pipeline", places, cases }
}

/// What releases and plans may do in a tenant's account.
fn in_a_tenant(releases: bool) -> Layer {
    let (place, who) = if releases {
        (ACCESS_POLICY, Role { account: GNOME, name: ACCESS })
    } else {
        (TENANT_PLAN_POLICY, Role { account: GNOME, name: PLAN })
    };
    let name = if releases { "releases in a tenant" } else { "plans in a tenant" };
    let mut cases = Vec::new();
    let mut ask = |label: String, allowed: bool, action: &'static str, resource: String, context: Context| {
        cases.push(Case::new(format!("{name}: {label}"), allowed, move |world| {
            let request =
                Request { caller: who.caller(), action, resource: resource.clone(), context: context.clone() };
            request.by_identity(&[world.document(&place)], None) == Decision::Allow
        }));
    };
    let base = format!("https://{BUCKET}.s3.eu-west-1.amazonaws.com/CrossAccountPipeline");
    let urls = [
        None,
        Some(format!("{base}/shared/Shop/templates/a.yaml")),
        Some(format!("{base}/{GNOME}/a.yaml")),
        Some(format!("{base}/{UNICORN}/a.yaml")),
        Some("https://another-bucket.s3.eu-west-1.amazonaws.com/CrossAccountPipeline/shared/a.yaml".to_owned()),
        Some(format!("https://{BUCKET}.s3.eu-west-1.amazonaws.com/tenantry/Shop/a.yaml")),
    ];
    let deployment = format!("arn:aws:iam::{GNOME}:role/{DEPLOYMENT}");
    let roles = [None, Some(deployment.clone()), Some(format!("arn:aws:iam::{GNOME}:role/Admin"))];
    let stacks = [
        (format!("arn:aws:cloudformation:eu-west-1:{GNOME}:stack/Shop-gnome-stack-eu-west-1/id"), true),
        (format!("arn:aws:cloudformation:eu-west-1:{GNOME}:stack/Shopping/id"), false),
        (format!("arn:aws:cloudformation:eu-west-1:{GNOME}:stack/tenantry-tenant/id"), false),
        (format!("arn:aws:cloudformation:eu-west-1:{UNICORN}:stack/Shop-unicorn/id"), false),
    ];
    let actions = [
        "CreateChangeSet",
        "DescribeChangeSet",
        "DeleteChangeSet",
        "ExecuteChangeSet",
        "DeleteStack",
        "ContinueUpdateRollback",
        "DescribeStacks",
        "DescribeStackEvents",
        "GetTemplate",
        "DetectStackDrift",
        "SetStackPolicy",
        "UpdateTerminationProtection",
        "CreateStack",
        "UpdateStack",
        "CancelUpdateStack",
        "CreateStackSet",
    ];
    for action in actions {
        let action: &'static str = format!("cloudformation:{action}").leak();
        for (stack, ours) in &stacks {
            for change_set in [None, Some("tenantry-1"), Some("mine")] {
                for url in &urls {
                    for role in &roles {
                        let allowed =
                            spec::in_a_tenant(releases, action, *ours, change_set, url.as_deref(), role.as_deref());
                        let mut context = who.context();
                        put(&mut context, "cloudformation:ChangeSetName", change_set);
                        put(&mut context, "cloudformation:TemplateUrl", url.as_deref());
                        put(&mut context, "cloudformation:RoleArn", role.as_deref());
                        ask(
                            format!("{action} {stack} {change_set:?} {url:?} {role:?}"),
                            allowed,
                            action,
                            stack.clone(),
                            context,
                        );
                    }
                }
            }
        }
    }
    for (transform, allowed) in [
        ("Serverless-2016-10-31", true),
        ("Include", true),
        ("LanguageExtensions", true),
        ("SecretsManager-2020-07-23", false),
    ] {
        let arn = format!("arn:aws:cloudformation:eu-west-1:aws:transform/{transform}");
        ask(format!("stack of transform {transform}"), false, "cloudformation:CreateStack", arn.clone(), who.context());
        ask(format!("transform {transform}"), allowed, "cloudformation:CreateChangeSet", arn, who.context());
    }
    for role in [DEPLOYMENT, ACCESS, "Admin", "Shop-function"] {
        for service in [Some("cloudformation.amazonaws.com"), Some("lambda.amazonaws.com"), None] {
            let allowed = role == DEPLOYMENT && service == Some("cloudformation.amazonaws.com");
            let mut context = who.context();
            put(&mut context, "iam:PassedToService", service);
            let arn = format!("arn:aws:iam::{GNOME}:role/{role}");
            ask(
                format!("delete {role}, passing to {service:?}"),
                false,
                "iam:DeleteRole",
                arn.clone(),
                context.clone(),
            );
            ask(format!("pass {role} to {service:?}"), allowed, "iam:PassRole", arn, context);
        }
    }
    for zone in ZONES {
        for action in ["s3:GetObject", "s3:GetObjectVersion", "s3:PutObject", "s3:DeleteObject"] {
            let allowed = action.starts_with("s3:Get") && (zone == Zone::Shared || zone == Zone::Of(GNOME));
            ask(format!("{action} {zone:?}"), allowed, action, object(zone), who.context());
        }
        ask(
            format!("read another bucket {zone:?}"),
            false,
            "s3:GetObject",
            format!("arn:aws:s3:::another-bucket/{}", zone.key()),
            who.context(),
        );
    }
    for (key, ours) in [(KEY, true), ("arn:aws:kms:eu-west-1:111111111111:key/Other", false)] {
        for via in [None, Some("s3.eu-west-1.amazonaws.com"), Some("s3.us-east-1.amazonaws.com")] {
            for action in ["kms:Decrypt", "kms:GenerateDataKey"] {
                let allowed = ours && action == "kms:Decrypt" && via == Some("s3.eu-west-1.amazonaws.com");
                let mut context = who.context();
                put(&mut context, "kms:ViaService", via);
                ask(format!("{action} {key} via {via:?}"), allowed, action, key.to_owned(), context);
            }
        }
    }
    let others = [
        (
            "cloudformation:DescribeStackDriftDetectionStatus",
            format!("arn:aws:cloudformation:eu-west-1:{GNOME}:x"),
            releases,
        ),
        ("cloudformation:DescribeAccountLimits", format!("arn:aws:cloudformation:eu-west-1:{GNOME}:x"), releases),
        ("cloudformation:ListStacks", format!("arn:aws:cloudformation:eu-west-1:{GNOME}:stack/other/x"), releases),
        ("lambda:GetAccountSettings", format!("arn:aws:lambda:eu-west-1:{GNOME}:x"), releases),
        ("lambda:ListFunctions", format!("arn:aws:lambda:eu-west-1:{GNOME}:x"), false),
        ("cloudformation:DescribeEvents", stacks[0].0.clone(), true),
        ("cloudformation:ListChangeSets", stacks[0].0.clone(), true),
        ("cloudformation:DescribeStackResources", stacks[0].0.clone(), releases),
        ("cloudformation:DescribeStackResourceDrifts", stacks[0].0.clone(), releases),
        ("cloudformation:DetectStackResourceDrift", stacks[0].0.clone(), releases),
        ("lambda:InvokeFunction", format!("arn:aws:lambda:eu-west-1:{GNOME}:function:Shop-gnome"), releases),
        ("lambda:InvokeFunction", format!("arn:aws:lambda:eu-west-1:{GNOME}:function:Other"), false),
        ("lambda:UpdateFunctionCode", format!("arn:aws:lambda:eu-west-1:{GNOME}:function:Shop-gnome"), false),
        (
            "cloudwatch:DescribeAlarms",
            format!("arn:aws:cloudwatch:eu-west-1:{GNOME}:alarm:Shop-gnome-errors"),
            releases,
        ),
        ("cloudwatch:DescribeAlarms", format!("arn:aws:cloudwatch:eu-west-1:{GNOME}:alarm:other"), releases),
        ("cloudwatch:DeleteAlarms", format!("arn:aws:cloudwatch:eu-west-1:{GNOME}:alarm:Shop-gnome-errors"), false),
        ("ssm:GetParameters", "arn:aws:ssm:eu-west-1::parameter/aws/service/x".to_owned(), true),
        ("ssm:GetParameters", format!("arn:aws:ssm:eu-west-1:{GNOME}:parameter/Shop/x"), true),
        ("ssm:GetParameters", format!("arn:aws:ssm:eu-west-1:{GNOME}:parameter/other"), false),
        ("ssm:PutParameter", format!("arn:aws:ssm:eu-west-1:{GNOME}:parameter/Shop/x"), false),
        ("iam:CreateRole", format!("arn:aws:iam::{GNOME}:role/Shop-x"), false),
        ("sts:AssumeRole", format!("arn:aws:iam::{GNOME}:role/Admin"), false),
        ("dynamodb:GetItem", format!("arn:aws:dynamodb:eu-west-1:{GNOME}:table/Shop-orders"), false),
        ("secretsmanager:GetSecretValue", format!("arn:aws:secretsmanager:eu-west-1:{GNOME}:secret:x"), false),
    ];
    for (action, resource, allowed) in others {
        ask(format!("{action} {resource}"), allowed, action, resource, who.context());
    }
    Layer { name, places: vec![place], cases }
}

/// What CloudFormation may do with a tenant's account.
fn deployment() -> Layer {
    let who = Role { account: GNOME, name: DEPLOYMENT };
    let mut cases = Vec::new();
    let mut ask = |label: String, allowed: bool, action: &'static str, resource: String, context: Context| {
        cases.push(Case::new(format!("deployment: {label}"), allowed, move |world| {
            let request =
                Request { caller: who.caller(), action, resource: resource.clone(), context: context.clone() };
            request.by_identity(&[world.document(&DEPLOYMENT_POLICY)], None) == Decision::Allow
        }));
    };
    let boundary = format!("arn:aws:iam::{GNOME}:policy/tenantry/TenantryBoundary");
    let boundaries = [Some(boundary), None, Some("arn:aws:iam::aws:policy/AdministratorAccess".to_owned())];
    let bounded = [
        "AttachRolePolicy",
        "CreateRole",
        "DeleteRolePolicy",
        "DetachRolePolicy",
        "PutRolePermissionsBoundary",
        "PutRolePolicy",
    ];
    let free = [
        "DeleteRole",
        "GetRole",
        "GetRolePolicy",
        "ListAttachedRolePolicies",
        "ListRolePolicies",
        "TagRole",
        "UntagRole",
        "UpdateAssumeRolePolicy",
        "UpdateRole",
        "UpdateRoleDescription",
    ];
    let never = [
        "DeleteRolePermissionsBoundary",
        "CreateUser",
        "CreateAccessKey",
        "CreateLoginProfile",
        "UpdateLoginProfile",
        "CreateOpenIDConnectProvider",
        "CreateSAMLProvider",
        "CreatePolicyVersion",
        "SetDefaultPolicyVersion",
    ];
    for role in ["Shop-function", "Other", DEPLOYMENT, ACCESS, PLAN, "path/Shop-function"] {
        let ours = role == "Shop-function";
        for (list, kind) in [(&bounded[..], 0), (&free[..], 1), (&never[..], 2)] {
            for action in list {
                let action: &'static str = format!("iam:{action}").leak();
                for given in &boundaries {
                    let allowed = ours
                        && match kind {
                            0 => given.as_deref().is_some_and(|arn| arn.ends_with("TenantryBoundary")),
                            1 => true,
                            _ => false,
                        };
                    let mut context = who.context();
                    put(&mut context, "iam:PermissionsBoundary", given.as_deref());
                    ask(
                        format!("{action} {role} bounded by {given:?}"),
                        allowed,
                        action,
                        format!("arn:aws:iam::{GNOME}:role/{role}"),
                        context,
                    );
                }
            }
        }
        for service in [
            "lambda.amazonaws.com",
            "states.amazonaws.com",
            "events.amazonaws.com",
            "scheduler.amazonaws.com",
            "apigateway.amazonaws.com",
            "ec2.amazonaws.com",
            "cloudformation.amazonaws.com",
        ] {
            let allowed = ours && !["ec2.amazonaws.com", "cloudformation.amazonaws.com"].contains(&service);
            let mut context = who.context();
            context.insert("iam:PassedToService".into(), text(service));
            let arn = format!("arn:aws:iam::{GNOME}:role/{role}");
            ask(
                format!("profile of {role} for {service}"),
                false,
                "iam:AddRoleToInstanceProfile",
                arn,
                context.clone(),
            );
            ask(
                format!("pass {role} to {service}"),
                allowed,
                "iam:PassRole",
                format!("arn:aws:iam::{GNOME}:role/{role}"),
                context,
            );
        }
    }
    for action in ["iam:CreatePolicyVersion", "iam:DeletePolicy", "iam:SetDefaultPolicyVersion", "iam:GetPolicy"] {
        let boundary = format!("arn:aws:iam::{GNOME}:policy/tenantry/TenantryBoundary");
        ask(format!("{action} of the boundary"), false, action, boundary, who.context());
    }
    for zone in ZONES {
        for action in ["s3:GetObject", "s3:GetObjectVersion", "s3:PutObject", "s3:DeleteObject"] {
            let allowed = action.starts_with("s3:Get") && (zone == Zone::Shared || zone == Zone::Of(GNOME));
            ask(format!("{action} {zone:?}"), allowed, action, object(zone), who.context());
        }
        ask(
            format!("read another bucket {zone:?}"),
            false,
            "s3:GetObject",
            format!("arn:aws:s3:::another-bucket/{}", zone.key()),
            who.context(),
        );
    }
    for (key, ours) in [(KEY, true), ("arn:aws:kms:eu-west-1:111111111111:key/Other", false)] {
        for via in [None, Some("s3.eu-west-1.amazonaws.com"), Some("s3.us-east-1.amazonaws.com")] {
            for action in ["kms:Decrypt", "kms:GenerateDataKey"] {
                let allowed = ours && action == "kms:Decrypt" && via == Some("s3.eu-west-1.amazonaws.com");
                let mut context = who.context();
                put(&mut context, "kms:ViaService", via);
                ask(format!("{action} {key} via {via:?}"), allowed, action, key.to_owned(), context);
            }
        }
    }
    for (action, resource) in [
        ("cloudwatch:DescribeAlarms", format!("arn:aws:cloudwatch:eu-west-1:{GNOME}:alarm:Other")),
        ("logs:DescribeLogGroups", format!("arn:aws:logs:eu-west-1:{GNOME}:log-group:Other")),
        ("lambda:GetLayerVersion", "arn:aws:lambda:eu-west-1:017000801446:layer:Powertools".to_owned()),
    ] {
        ask(format!("{action} {resource}"), true, action, resource, who.context());
    }
    for (action, resource) in [
        ("logs:DeleteLogGroup", format!("arn:aws:logs:eu-west-1:{GNOME}:log-group:Other")),
        ("cloudwatch:DeleteAlarms", format!("arn:aws:cloudwatch:eu-west-1:{GNOME}:alarm:Other")),
        ("lambda:PublishLayerVersion", "arn:aws:lambda:eu-west-1:017000801446:layer:Powertools".to_owned()),
        ("lambda:GetLayerVersion", format!("arn:aws:lambda:eu-west-1:{GNOME}:function:Other")),
    ] {
        ask(format!("{action} {resource}"), false, action, resource, who.context());
    }
    let arn = |text: &str| {
        format!("arn:aws:{}", text.replace(":A:", &format!(":{GNOME}:")).replace(":B:", &format!(":{UNICORN}:")))
    };
    for kind in &spec::KINDS {
        for action in kind.may {
            ask(format!("{action} {}", kind.ours), true, action, arn(kind.ours), who.context());
            for other in kind.others {
                ask(format!("{action} {other}"), false, action, arn(other), who.context());
            }
        }
        for action in kind.may_not {
            ask(format!("{action} {}", kind.ours), false, action, arn(kind.ours), who.context());
        }
    }
    for (resource, action) in
        [("apigateway:eu-west-1::/apis/x", "apigateway:POST"), ("apigateway:eu-west-1::/tags/x", "apigateway:PUT")]
    {
        ask(format!("{action} {resource}"), true, action, arn(resource), who.context());
    }
    for action in ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"] {
        ask(format!("{action} in its own bucket"), false, action, "arn:aws:s3:::shop-x/a".to_owned(), who.context());
    }
    for function in ["Shop-x", "Other"] {
        for action in [
            "lambda:CreateEventSourceMapping",
            "lambda:UpdateEventSourceMapping",
            "lambda:DeleteEventSourceMapping",
            "lambda:UpdateFunctionCode",
        ] {
            let mut context = who.context();
            context.insert(
                "lambda:FunctionArn".into(),
                text(&format!("arn:aws:lambda:eu-west-1:{GNOME}:function:{function}")),
            );
            let mapping = format!("arn:aws:lambda:eu-west-1:{GNOME}:event-source-mapping:x");
            ask(
                format!("{action} for {function}"),
                function == "Shop-x" && action != "lambda:UpdateFunctionCode",
                action,
                mapping,
                context,
            );
        }
    }
    for transform in ["Serverless-2016-10-31", "Include", "LanguageExtensions", "Other"] {
        let transformed = format!("arn:aws:cloudformation:eu-west-1:aws:transform/{transform}");
        ask(
            format!("stack of transform {transform}"),
            false,
            "cloudformation:CreateStack",
            transformed.clone(),
            who.context(),
        );
        ask(
            format!("transform {transform}"),
            transform != "Other",
            "cloudformation:CreateChangeSet",
            transformed,
            who.context(),
        );
    }
    let never = [
        ("organizations:LeaveOrganization", "arn:aws:organizations::222222222222:x"),
        ("sts:AssumeRole", "arn:aws:iam::111111111111:role/tenantry/release/TenantryReleaser"),
        ("ec2:RunInstances", "arn:aws:ec2:eu-west-1:222222222222:instance/x"),
        ("kms:ScheduleKeyDeletion", KEY),
        ("lambda:InvokeFunction", "arn:aws:lambda:eu-west-1:222222222222:function:Other"),
    ];
    for (action, resource) in never {
        ask(format!("{action} {resource}"), false, action, resource.to_owned(), who.context());
    }
    Layer { name: "CloudFormation in a tenant", places: vec![DEPLOYMENT_POLICY], cases }
}

/// The same where somebody has attached AdministratorAccess: what is denied for good is denied then, too.
fn administered() -> Layer {
    let who = Role { account: GNOME, name: DEPLOYMENT };
    let mut cases = Vec::new();
    let mut ask = |action: &'static str, resource: String, allowed: bool, boundary: Option<&'static str>| {
        cases.push(Case::new(format!("administered: {action} {resource} {boundary:?}"), allowed, move |world| {
            let all = everything();
            let mut context = who.context();
            put(&mut context, "iam:PermissionsBoundary", boundary);
            let request = Request { caller: who.caller(), action, resource: resource.clone(), context };
            request.by_identity(&[&all, world.document(&DEPLOYMENT_POLICY)], None) == Decision::Allow
        }));
    };
    let never = [
        "iam:CreateAccessKey",
        "iam:CreateLoginProfile",
        "iam:CreateOpenIDConnectProvider",
        "iam:CreateSAMLProvider",
        "iam:CreateUser",
        "iam:DeleteRolePermissionsBoundary",
    ];
    for action in never {
        ask(action, format!("arn:aws:iam::{GNOME}:role/Shop-x"), false, None);
    }
    for role in [ACCESS, PLAN, DEPLOYMENT, "Shop-x", "Other"] {
        let is_ours = [ACCESS, PLAN, DEPLOYMENT].contains(&role);
        for action in ["iam:UpdateAssumeRolePolicy", "iam:DeleteRole", "sts:AssumeRole"] {
            ask(action, format!("arn:aws:iam::{GNOME}:role/{role}"), !is_ours, None);
        }
        ask("iam:PassRole", format!("arn:aws:iam::{GNOME}:role/{role}"), role == "Shop-x", None);
        for action in ["iam:AttachRolePolicy", "iam:CreateRole", "iam:PutRolePermissionsBoundary", "iam:PutRolePolicy"]
        {
            let arn = format!("arn:aws:iam::{GNOME}:role/{role}");
            ask(action, arn.clone(), false, None);
            ask(action, arn.clone(), false, Some("arn:aws:iam::aws:policy/AdministratorAccess"));
            ask(action, arn, !is_ours, Some("arn:aws:iam::222222222222:policy/tenantry/TenantryBoundary"));
        }
        for action in ["iam:GetRole", "iam:ListRolePolicies"] {
            ask(action, format!("arn:aws:iam::{GNOME}:role/{role}"), true, None);
        }
    }
    for (policy, allowed) in [("tenantry/TenantryBoundary", false), ("Shop", true)] {
        for action in ["iam:CreatePolicyVersion", "iam:SetDefaultPolicyVersion", "iam:DeletePolicy"] {
            ask(action, format!("arn:aws:iam::{GNOME}:policy/{policy}"), allowed, None);
        }
        ask("iam:GetPolicy", format!("arn:aws:iam::{GNOME}:policy/{policy}"), true, None);
    }
    ask("ec2:RunInstances", format!("arn:aws:ec2:eu-west-1:{GNOME}:instance/x"), true, None);
    Layer { name: "CloudFormation with administrator's rights", places: vec![DEPLOYMENT_POLICY], cases }
}

/// The most that a role of the application can do, whatever its own policies allow.
fn bounded() -> Layer {
    let who = Role { account: GNOME, name: "Shop-function" };
    let mut cases = Vec::new();
    let mut ask = |action: &'static str, resource: String, allowed: bool| {
        cases.push(Case::new(format!("boundary: {action} {resource}"), allowed, move |world| {
            let all = everything();
            let request = Request { caller: who.caller(), action, resource: resource.clone(), context: who.context() };
            request.by_identity(&[&all], Some(world.document(&BOUNDARY))) == Decision::Allow
        }));
    };
    for action in spec::APPLICATION {
        ask(action, "arn:aws:s3:::shop-x/a".into(), true);
    }
    for action in spec::NO_APPLICATION {
        ask(action, format!("arn:aws:iam::{GNOME}:role/Shop-x"), false);
    }
    ask("ssm:GetParametersByPath", format!("arn:aws:ssm:eu-west-1:{GNOME}:parameter/x"), true);
    for zone in ZONES {
        ask("s3:GetObject", object(zone), false);
        ask("s3:PutObject", object(zone), false);
    }
    ask("s3:ListBucket", format!("arn:aws:s3:::{BUCKET}"), false);
    ask("s3:ListBucket", "arn:aws:s3:::shop-x".into(), true);
    for action in ["iam:CreateRole", "iam:PassRole", "iam:GetRole", "iam:AttachRolePolicy"] {
        ask(action, format!("arn:aws:iam::{GNOME}:role/Shop-x"), false);
    }
    ask("organizations:LeaveOrganization", format!("arn:aws:organizations::{GNOME}:x"), false);
    ask("account:CloseAccount", format!("arn:aws:account::{GNOME}:account"), false);
    ask("cloudformation:CreateStack", format!("arn:aws:cloudformation:eu-west-1:{GNOME}:stack/x/id"), false);
    for role in [
        format!("arn:aws:iam::{TOOLING}:role/x"),
        format!("arn:aws:iam::{GNOME}:role/Shop-x"),
        format!("arn:aws:iam::{GNOME}:role/{ACCESS}"),
    ] {
        ask("sts:AssumeRole", role, false);
    }
    Layer { name: "boundary", places: vec![BOUNDARY], cases }
}

/// The same where the boundary was opened for everything: what it denies it denies then, too.
fn opened() -> Layer {
    let who = Role { account: GNOME, name: "Shop-function" };
    let mut cases = Vec::new();
    let mut ask = |action: &'static str, resource: String, allowed: bool| {
        cases.push(Case::new(format!("opened boundary: {action} {resource}"), allowed, move |world| {
            let all = everything();
            let mut boundary = world.document(&BOUNDARY).clone();
            let application =
                boundary["Statement"].as_array_mut().unwrap().iter_mut().find(|one| one["Sid"] == "Application");
            if let Some(one) = application {
                one["Action"] = "*".into();
            }
            let request = Request { caller: who.caller(), action, resource: resource.clone(), context: who.context() };
            request.by_identity(&[&all], Some(&boundary)) == Decision::Allow
        }));
    };
    for action in ["iam:CreateRole", "iam:PassRole", "iam:DeleteRolePermissionsBoundary"] {
        ask(action, format!("arn:aws:iam::{GNOME}:role/Shop-x"), false);
    }
    ask("organizations:LeaveOrganization", format!("arn:aws:organizations::{GNOME}:x"), false);
    ask("account:CloseAccount", format!("arn:aws:account::{GNOME}:account"), false);
    ask("cloudformation:CreateStack", format!("arn:aws:cloudformation:eu-west-1:{GNOME}:stack/x/id"), false);
    ask("ec2:RunInstances", format!("arn:aws:ec2:eu-west-1:{GNOME}:instance/x"), true);
    ask("sts:AssumeRole", format!("arn:aws:iam::{GNOME}:role/Shop-x"), true);
    ask("sts:GetCallerIdentity", format!("arn:aws:iam::{GNOME}:role/x"), true);
    for role in [
        format!("arn:aws:iam::{TOOLING}:role/x"),
        format!("arn:aws:iam::{GNOME}:role/{ACCESS}"),
        format!("arn:aws:iam::{UNICORN}:role/Shop-x"),
    ] {
        ask("sts:AssumeRole", role, false);
    }
    ask("sts:AssumeRoleWithWebIdentity", format!("arn:aws:iam::{GNOME}:role/{ACCESS}"), false);
    for zone in [Zone::Shared, Zone::Of(GNOME), Zone::Record("plans")] {
        ask("s3:GetObject", object(zone), false);
    }
    ask("s3:ListBucket", format!("arn:aws:s3:::{BUCKET}"), false);
    Layer { name: "opened boundary", places: vec![BOUNDARY], cases }
}

/// All layers together: what each of our roles can do to an object, with bucket and key.
fn whole() -> Layer {
    let mut cases = Vec::new();
    let ours: [(Role, Place); 6] = [
        (ROLES[0], RELEASE_POLICY),
        (ROLES[1], PLAN_POLICY),
        (ROLES[2], APPROVE_POLICY),
        (Role { account: GNOME, name: ACCESS }, ACCESS_POLICY),
        (Role { account: GNOME, name: PLAN }, TENANT_PLAN_POLICY),
        (Role { account: GNOME, name: DEPLOYMENT }, DEPLOYMENT_POLICY),
    ];
    for (who, policy) in ours {
        let path = ["release", "plan", "approve"].into_iter().find(|path| who.is_below(path));
        for zone in ZONES {
            for action in ["s3:GetObject", "s3:PutObject"] {
                for how in hows() {
                    let by_itself = match path {
                        Some(path) => spec::objects(path, action, zone),
                        None => action == "s3:GetObject" && (zone == Zone::Shared || zone == Zone::Of(GNOME)),
                    };
                    let encrypts = if action == "s3:GetObject" { "kms:Decrypt" } else { "kms:GenerateDataKey" };
                    let allowed = by_itself
                        && spec::bucket(who, action, zone, how)
                        && spec::key(who, encrypts, Some("s3.eu-west-1.amazonaws.com"), Some(zone));
                    let label = format!("whole: {who:?} {action} {zone:?} {how:?}");
                    cases.push(Case::new(label, allowed, move |world| {
                        let identity = [world.document(&policy)];
                        let context = with_how(who.context(), how, action);
                        let request = Request { caller: who.caller(), action, resource: object(zone), context };
                        let first = request.by_identity(&identity, None);
                        let mut context = who.context();
                        context.insert("kms:ViaService".into(), text("s3.eu-west-1.amazonaws.com"));
                        context.insert("kms:EncryptionContext:aws:s3:arn".into(), text(&object(zone)));
                        let second =
                            Request { caller: who.caller(), action: encrypts, resource: KEY.to_owned(), context };
                        let by_key = second.by_identity(&identity, None);
                        request.is_allowed(first, world.document(&BUCKET_POLICY), TOOLING, Rule::Either)
                            && second.is_allowed(by_key, world.document(&KEY_POLICY), TOOLING, Rule::Both)
                    }));
                }
            }
        }
    }
    Layer { name: "all together", places: Vec::new(), cases }
}

/// All cases of a mode.
pub fn layers(mode: Mode) -> Vec<Layer> {
    let mut layers = vec![bucket(), key()];
    layers.push(tooling("plan", ROLES[1], PLAN_POLICY, mode));
    layers.push(tooling("release", ROLES[0], RELEASE_POLICY, mode));
    layers.push(tooling("approve", ROLES[2], APPROVE_POLICY, mode));
    layers.push(tooling("tool", ROLES[4], TOOL_POLICY, mode));
    layers.push(entry());
    layers.push(tenant_trust("trust of the access role", ACCESS_TRUST, &["release"], mode));
    layers.push(tenant_trust("trust of the plan role", TENANT_PLAN_TRUST, &["plan", "release"], mode));
    layers.extend([
        other_trusts(),
        github(),
        in_a_tenant(true),
        in_a_tenant(false),
        deployment(),
        administered(),
        pipeline(),
        fleet(),
        bounded(),
        opened(),
        whole(),
    ]);
    layers
}
