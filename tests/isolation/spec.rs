//! What is meant to be allowed, written down without a look at the policies.

use crate::world::{ACCESS, BUCKET, DEPLOYMENT, GNOME, OTHERS, PLAN, Role, TOOLING, UNICORN};

/// A part of the artifact bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Zone {
    /// What all tenants share.
    Shared,
    /// One account's own.
    Of(&'static str),
    /// A kind of records, which tell of other tenants.
    Record(&'static str),
    /// The binary that builds run.
    Tool,
    /// What machines read when they begin: a configuration.
    Fleet,
    /// What a pipeline hands from action to action.
    Handed,
    /// Elsewhere.
    Other,
}

impl Zone {
    pub fn key(self) -> String {
        match self {
            Self::Shared => "CrossAccountPipeline/shared/Shop/artifacts/a.zip".into(),
            Self::Of(account) => format!("CrossAccountPipeline/{account}/Shop/artifacts/a.zip"),
            Self::Record("digest-key") => "tenantry/Shop/digest-key".into(),
            Self::Record(kind) => format!("tenantry/Shop/{kind}/prod/x.json"),
            Self::Tool => "tenantry/tool/0123".into(),
            Self::Fleet => "tenantry/.fleet/Shop/x.zip".into(),
            Self::Handed => "tenantry-Shop/Built/x".into(),
            Self::Other => "elsewhere/x".into(),
        }
    }

    fn is_tenants(self, account: &str) -> bool {
        self == Self::Shared || self == Self::Of(account_of(account))
    }

    fn is_ours(self) -> bool {
        matches!(self, Self::Shared | Self::Of(_) | Self::Record(_) | Self::Tool | Self::Fleet)
    }
}

fn account_of(account: &str) -> &'static str {
    [TOOLING, GNOME, UNICORN, OTHERS].into_iter().find(|known| *known == account).unwrap_or("none")
}

/// What a write says of its encryption.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encryption {
    /// Under our key.
    Ours,
    /// Under another key.
    Other,
    /// By KMS, without a key: S3 would take its own.
    Unnamed,
    /// By S3's own keys.
    Plain,
    /// Nothing: the bucket's default, which is our key.
    Silent,
}

/// How an object is written, or read.
#[derive(Debug, Clone, Copy)]
pub struct How {
    pub encrypted_connection: bool,
    /// What the request says of encryption.
    pub encryption: Encryption,
    /// Whether it asks that nothing be there.
    pub once: bool,
    /// Whether the object is there afterwards; a part of one is not.
    pub creates: bool,
}

/// What the bucket lets pass, where who asks may do everything.
pub fn bucket(who: Role, action: &str, zone: Zone, how: How) -> bool {
    let here = who.account == TOOLING;
    let reads = ["s3:GetObject", "s3:GetObjectVersion"].contains(&action);
    lets(who, action, zone, how) && (here || (reads && who.is_tenants() && zone.is_tenants(who.account)))
}

/// What the bucket lets pass even where somebody has opened it for everything, by mistake.
pub fn lets(who: Role, action: &str, zone: Zone, how: How) -> bool {
    if !how.encrypted_connection {
        return false;
    }
    let writes = ["s3:Put", "s3:Delete", "s3:Restore", "s3:Replicate"].iter().any(|verb| action.starts_with(verb));
    let is_record = |kind| zone == Zone::Record(kind);
    let here = who.account == TOOLING;
    if writes && !here {
        return false;
    }
    let reads_or_writes = action.starts_with("s3:GetObject") || action.starts_with("s3:PutObject");
    if zone == Zone::Fleet && reads_or_writes && !who.is_below("release") {
        return false;
    }
    match action {
        "s3:PutObject" => {
            [Encryption::Ours, Encryption::Silent].contains(&how.encryption)
                && !(is_written_once(zone) && how.creates && !how.once)
                && (!is_record("approvals") || who.is_below("approve"))
        }
        "s3:PutObjectAcl" => !is_record("approvals") || who.is_below("approve"),
        "s3:DeleteObject" | "s3:DeleteObjectVersion" => {
            !((is_record("approvals") || is_record("uses")) && who.name.starts_with("tenantry/"))
        }
        _ => true,
    }
}

/// What is never written over.
fn is_written_once(zone: Zone) -> bool {
    matches!(zone, Zone::Shared | Zone::Of(_) | Zone::Tool | Zone::Record("approvals" | "uses" | "releases"))
}

/// How the key is kept by those who administer its account: without using it.
pub const KEEPING: [&str; 21] = [
    "kms:CancelKeyDeletion",
    "kms:CreateAlias",
    "kms:DeleteAlias",
    "kms:DescribeKey",
    "kms:DisableKey",
    "kms:DisableKeyRotation",
    "kms:EnableKey",
    "kms:EnableKeyRotation",
    "kms:GetKeyPolicy",
    "kms:GetKeyRotationStatus",
    "kms:ListAliases",
    "kms:ListGrants",
    "kms:ListKeyPolicies",
    "kms:ListResourceTags",
    "kms:PutKeyPolicy",
    "kms:RevokeGrant",
    "kms:ScheduleKeyDeletion",
    "kms:TagResource",
    "kms:UntagResource",
    "kms:UpdateAlias",
    "kms:UpdateKeyDescription",
];

/// What the key lets pass, where who asks may do everything. `via` is the service by which it is asked; `object` the
/// object that is encrypted, if it is one of our bucket.
pub fn key(who: Role, action: &str, via: Option<&str>, object: Option<Zone>) -> bool {
    let through_s3 = via == Some("s3.eu-west-1.amazonaws.com");
    let works_here = ["plan", "release", "approve", "pipeline", "tool"].into_iter().any(|path| who.is_below(path));
    match action {
        "kms:Decrypt" => {
            (works_here && through_s3 && object.is_some())
                || (who.is_tenants() && through_s3 && object.is_some_and(|zone| zone.is_tenants(who.account)))
        }
        "kms:GenerateDataKey" => works_here && through_s3 && object.is_some(),
        // Whoever may do everything keeps the key, and can neither use it nor let others.
        _ => KEEPING.contains(&action) && who.account == TOOLING,
    }
}

/// Whose own rights reach which objects, whatever the bucket says.
pub fn objects(path: &str, action: &str, zone: Zone) -> bool {
    let planned = ["digest-key", "newest-plan", "plans", "releases"];
    let released = ["finished", "ledger", "locks", "rollouts", "uses"];
    match (action, path) {
        ("s3:GetObject" | "s3:PutObject" | "s3:AbortMultipartUpload" | "s3:ListMultipartUploadParts", "tool") => {
            zone == Zone::Tool
        }
        ("s3:GetObject", _) => zone.is_ours(),
        ("s3:PutObject" | "s3:AbortMultipartUpload" | "s3:ListMultipartUploadParts", "plan" | "release") => {
            match zone {
                Zone::Shared | Zone::Of(_) => true,
                Zone::Fleet => path == "release",
                Zone::Record(kind) => planned.contains(&kind) || (path == "release" && released.contains(&kind)),
                _ => false,
            }
        }
        ("s3:PutObject", "approve") => zone == Zone::Record("approvals"),
        _ => false,
    }
}

/// Which roles may be assumed by whose own rights.
pub fn enters(path: &str, role: &str, is_a_tenants: bool) -> bool {
    let wanted = match path {
        "plan" => role == PLAN,
        "release" => role == ACCESS || role == PLAN,
        _ => false,
    };
    wanted && is_a_tenants
}

/// A session as it is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    pub tenant: Option<&'static str>,
    pub other_tag: bool,
    pub name: &'static str,
    pub external_id: Option<&'static str>,
}

/// Whether a tenant's role lets somebody in. `paths` are those whose roles may.
pub fn trusts(who: Role, paths: &[&str], action: &str, wanted: Wanted) -> bool {
    let who = paths.iter().any(|path| who.is_below(path));
    match action {
        "sts:AssumeRole" => {
            who && wanted.tenant == Some("gnome")
                && wanted.name.starts_with("tenantry-")
                && wanted.external_id == Some(crate::world::EXTERNAL_ID)
        }
        "sts:TagSession" | "sts:SetSourceIdentity" => who && !wanted.other_tag,
        _ => false,
    }
}

/// What a release or a plan may do in a tenant's account. `stack` begins with the application's name or does not.
pub fn in_a_tenant(
    releases: bool,
    action: &str,
    ours: bool,
    change_set: Option<&str>,
    url: Option<&str>,
    by_role: Option<&str>,
) -> bool {
    let named = change_set.is_some_and(|name| name.starts_with("tenantry-"));
    let from = |folder: &str| {
        url.is_some_and(|url| {
            url.starts_with(&format!("https://{BUCKET}.s3.eu-west-1.amazonaws.com/CrossAccountPipeline/{folder}/"))
        })
    };
    let deployment = by_role == Some(&format!("arn:aws:iam::{GNOME}:role/{DEPLOYMENT}"));
    ours && match action {
        "cloudformation:CreateChangeSet" => named && deployment && (from("shared") || from(GNOME)),
        "cloudformation:DescribeChangeSet" | "cloudformation:DeleteChangeSet" => named,
        "cloudformation:ExecuteChangeSet" => releases && named,
        "cloudformation:DeleteStack" | "cloudformation:ContinueUpdateRollback" => releases && deployment,
        "cloudformation:DescribeStacks" | "cloudformation:DescribeStackEvents" | "cloudformation:GetTemplate" => true,
        "cloudformation:DetectStackDrift"
        | "cloudformation:SetStackPolicy"
        | "cloudformation:UpdateTerminationProtection" => releases,
        _ => false,
    }
}

/// What CloudFormation may do with resources of a kind.
pub struct Kind {
    /// The application's: `A` stands for the tenant's account, `B` for another one.
    pub ours: &'static str,
    pub others: &'static [&'static str],
    /// Actions by their service, without which applications cannot be deployed.
    pub may: &'static [&'static str],
    /// And some that no deployment needs.
    pub may_not: &'static [&'static str],
}

pub const KINDS: [Kind; 14] = [
    Kind {
        ours: "lambda:eu-west-1:A:function:Shop-x",
        others: &["lambda:eu-west-1:A:function:Other", "lambda:eu-west-1:B:function:Shop-x"],
        may: &[
            "lambda:CreateFunction",
            "lambda:GetFunction",
            "lambda:DeleteFunction",
            "lambda:InvokeFunction",
            "lambda:UpdateFunctionCode",
            "lambda:UpdateFunctionConfiguration",
            "lambda:GetFunctionConfiguration",
            "lambda:CreateAlias",
            "lambda:GetAlias",
            "lambda:UpdateAlias",
            "lambda:DeleteAlias",
            "lambda:PutFunctionConcurrency",
            "lambda:DeleteFunctionConcurrency",
            "lambda:CreateFunctionUrlConfig",
            "lambda:UpdateFunctionUrlConfig",
            "lambda:PutProvisionedConcurrencyConfig",
            "lambda:AddPermission",
            "lambda:RemovePermission",
            "lambda:GetPolicy",
            "lambda:GetFunctionCodeSigningConfig",
            "lambda:GetFunctionRecursionConfig",
            "lambda:GetFunctionScalingConfig",
            "lambda:GetRuntimeManagementConfig",
            "lambda:ListTags",
            "lambda:ListVersionsByFunction",
            "lambda:PublishVersion",
            "lambda:PutFunctionEventInvokeConfig",
            "lambda:GetFunctionEventInvokeConfig",
            "lambda:DeleteFunctionEventInvokeConfig",
            "lambda:TagResource",
            "lambda:UntagResource",
        ],
        may_not: &["lambda:InvokeAsync", "lambda:EnableReplication", "lambda:PutRuntimeManagementConfig"],
    },
    Kind {
        ours: "lambda:eu-west-1:A:layer:Shop-x",
        others: &["lambda:eu-west-1:A:layer:Other"],
        may: &["lambda:PublishLayerVersion", "lambda:DeleteLayerVersion"],
        may_not: &["lambda:AddLayerVersionPermission"],
    },
    Kind {
        ours: "lambda:eu-west-1:A:event-source-mapping:x",
        others: &["lambda:eu-west-1:B:event-source-mapping:x"],
        may: &["lambda:GetEventSourceMapping", "lambda:ListTags", "lambda:TagResource", "lambda:UntagResource"],
        may_not: &["lambda:CreateEventSourceMapping"],
    },
    Kind {
        ours: "dynamodb:eu-west-1:A:table/Shop-x",
        others: &["dynamodb:eu-west-1:A:table/Other", "dynamodb:eu-west-1:B:table/Shop-x"],
        may: &["dynamodb:CreateTable", "dynamodb:DeleteTable", "dynamodb:UpdateContinuousBackups"],
        may_not: &[],
    },
    Kind {
        ours: "events:eu-west-1:A:rule/Shop-x",
        others: &["events:eu-west-1:A:rule/Other"],
        may: &[
            "events:PutRule",
            "events:DeleteRule",
            "events:PutTargets",
            "events:RemoveTargets",
            "events:ListTagsForResource",
            "events:ListTargetsByRule",
            "events:TagResource",
            "events:UntagResource",
        ],
        may_not: &["events:PutEvents", "events:PutPermission"],
    },
    Kind {
        ours: "logs:eu-west-1:A:log-group:/aws/lambda/Shop-x",
        others: &["logs:eu-west-1:A:log-group:/aws/lambda/Other"],
        may: &["logs:CreateLogGroup", "logs:PutRetentionPolicy"],
        may_not: &[],
    },
    Kind {
        ours: "logs:eu-west-1:A:log-group:Shop-x",
        others: &["logs:eu-west-1:A:log-group:Other"],
        may: &["logs:DeleteLogGroup"],
        may_not: &[],
    },
    Kind {
        ours: "sns:eu-west-1:A:Shop-x",
        others: &["sns:eu-west-1:A:Other"],
        may: &["sns:CreateTopic", "sns:Subscribe"],
        may_not: &[],
    },
    Kind {
        ours: "sqs:eu-west-1:A:Shop-x",
        others: &["sqs:eu-west-1:A:Other"],
        may: &["sqs:CreateQueue", "sqs:SetQueueAttributes"],
        may_not: &[],
    },
    Kind {
        ours: "states:eu-west-1:A:stateMachine:Shop-x",
        others: &["states:eu-west-1:A:stateMachine:Other"],
        may: &["states:CreateStateMachine", "states:DeleteStateMachine"],
        may_not: &[],
    },
    Kind {
        ours: "cloudwatch:eu-west-1:A:alarm:Shop-x",
        others: &["cloudwatch:eu-west-1:A:alarm:Other"],
        may: &[
            "cloudwatch:PutMetricAlarm",
            "cloudwatch:DeleteAlarms",
            "cloudwatch:ListTagsForResource",
            "cloudwatch:TagResource",
            "cloudwatch:UntagResource",
        ],
        may_not: &["cloudwatch:SetAlarmState"],
    },
    Kind {
        ours: "apigateway:eu-west-1::/restapis/x",
        others: &["apigateway:eu-west-1::/domainnames", "apigateway:eu-west-1::/account"],
        may: &["apigateway:GET", "apigateway:POST", "apigateway:PUT", "apigateway:PATCH", "apigateway:DELETE"],
        may_not: &["apigateway:AddCertificateToDomain", "apigateway:SetWebACL"],
    },
    Kind {
        ours: "cloudformation:eu-west-1:A:stack/Shop-x/id",
        others: &["cloudformation:eu-west-1:A:stack/tenantry-tenant/id"],
        may: &[
            "cloudformation:CreateStack",
            "cloudformation:UpdateStack",
            "cloudformation:DeleteStack",
            "cloudformation:DescribeStacks",
            "cloudformation:DescribeStackEvents",
        ],
        may_not: &["cloudformation:CreateChangeSet", "cloudformation:SetStackPolicy"],
    },
    Kind {
        ours: "s3:::shop-x",
        others: &["s3:::other", "s3:::tenantry-111111111111-eu-west-1"],
        may: &[
            "s3:CreateBucket",
            "s3:DeleteBucket",
            "s3:PutBucketPolicy",
            "s3:DeleteBucketPolicy",
            "s3:GetBucketPolicy",
            "s3:PutBucketTagging",
            "s3:PutEncryptionConfiguration",
            "s3:GetEncryptionConfiguration",
            "s3:GetLifecycleConfiguration",
            "s3:PutLifecycleConfiguration",
            "s3:ListBucket",
            "s3:ListTagsForResource",
            "s3:TagResource",
            "s3:UntagResource",
        ],
        may_not: &["s3:BypassGovernanceRetention", "s3:PutObject"],
    },
];

/// What the application's roles may do at most, on anything that is not denied for good.
pub const APPLICATION: [&str; 15] = [
    "dynamodb:PutItem",
    "logs:PutLogEvents",
    "xray:PutTraceSegments",
    "s3:GetObject",
    "sqs:SendMessage",
    "sns:Publish",
    "events:PutEvents",
    "states:StartExecution",
    "lambda:InvokeFunction",
    "kms:Decrypt",
    "kms:GenerateDataKey",
    "secretsmanager:GetSecretValue",
    "ssm:GetParameter",
    "ssm:GetParameters",
    "cloudwatch:PutMetricData",
];

/// And what they may not.
pub const NO_APPLICATION: [&str; 9] = [
    "lambda:UpdateFunctionCode",
    "ec2:RunInstances",
    "kms:ScheduleKeyDeletion",
    "secretsmanager:PutSecretValue",
    "ssm:PutParameter",
    "cloudwatch:DeleteAlarms",
    "sts:AssumeRole",
    "rekognition:DetectLabels",
    "backup:StartBackupJob",
];
