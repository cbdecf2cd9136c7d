//! Whether policies fit: AWS refuses larger ones, and where accounts are listed in them, they grow with every tenant.

use std::fmt;

use serde_json::Value;

use super::{Part, Resolved, Setting, resolve};

/// The size of each policy of a stack, with its limit.
pub type Sizes = Vec<Size>;

/// The size of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Size {
    /// The resource and what of it is meant.
    pub policy: String,
    /// In bytes, as the service counts it.
    pub bytes: usize,
    /// The most that the service takes.
    pub limit: usize,
}

/// Policies that are too large.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overflow {
    /// How many accounts were to be listed.
    pub accounts: usize,
    /// How many can be.
    pub most: usize,
    /// What does not fit first.
    pub size: Size,
}

impl fmt::Display for Overflow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { accounts, most, size: Size { policy, bytes, limit } } = self;
        write!(
            f,
            "{policy} would have {bytes} bytes with {accounts} accounts, and AWS takes {limit}: {most} accounts fit"
        )
    }
}

/// S3 counts a bucket policy as it is sent, KMS a key policy too; IAM leaves white space out.
/// Sources: <https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucket-policies.html>,
/// <https://docs.aws.amazon.com/kms/latest/developerguide/resource-limits.html>,
/// <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html>
const BUCKET_POLICY: usize = 20 * 1024;
const KEY_POLICY: usize = 32 * 1024;
const MANAGED_POLICY: usize = 6_144;
const INLINE_POLICIES: usize = 10_240;
const TRUST_POLICY: usize = 2_048;
/// Source: <https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html>
const PARAMETER: usize = 4_096;

/// Returns the size of every policy of a stack.
pub fn sizes(resources: &Resolved) -> Sizes {
    let mut sizes = Vec::new();
    for (name, resource) in resources {
        let properties = &resource["Properties"];
        let mut add = |what: &str, bytes: usize, limit: usize| {
            sizes.push(Size { policy: format!("{what} of {name}"), bytes, limit });
        };
        match resource["Type"].as_str().unwrap_or_default() {
            "AWS::S3::BucketPolicy" => add("the policy", stored(&properties["PolicyDocument"]), BUCKET_POLICY),
            "AWS::KMS::Key" => add("the key policy", stored(&properties["KeyPolicy"]), KEY_POLICY),
            "AWS::IAM::ManagedPolicy" => add("the policy", bytes(&properties["PolicyDocument"]), MANAGED_POLICY),
            "AWS::IAM::Role" => {
                add("the trust policy", bytes(&properties["AssumeRolePolicyDocument"]), TRUST_POLICY);
                let inline = properties["Policies"].as_array().into_iter().flatten();
                let inline = inline.map(|policy| bytes(&policy["PolicyDocument"])).sum();
                if inline > 0 {
                    add("the inline policies", inline, INLINE_POLICIES);
                }
            }
            _ => {}
        }
    }
    sizes
}

fn bytes(policy: &Value) -> usize {
    policy.to_string().len()
}

/// Returns the size of a resource's policy: there an account is kept as the ARN of its root.
/// Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_principal.html>
fn stored(policy: &Value) -> usize {
    const LONGER: usize = "arn:aws:iam:::root".len();
    let is_account = |value: &&Value| {
        value.as_str().is_some_and(|text| text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let statements = policy["Statement"].as_array().into_iter().flatten();
    let accounts: usize = statements
        .map(|statement| match &statement["Principal"]["AWS"] {
            Value::Array(list) => list.iter().filter(is_account).count(),
            one => usize::from(is_account(&one)),
        })
        .sum();
    bytes(policy) + accounts * LONGER
}

/// Returns how many accounts can be listed in the tooling account's policies, all else as in `setting`, and checks that
/// so many are not too many.
///
/// # Errors
///
/// Says what does not fit.
///
/// # Panics
///
/// Panics where the template cannot be resolved, which tests rule out: it is part of this program.
pub fn most_accounts(setting: &Setting, accounts: usize) -> Result<usize, Overflow> {
    let is_listed = setting.parameters.get("OrganizationId").is_none_or(String::is_empty);
    let mut setting = setting.clone();
    let mut first_overflow = |accounts: usize| {
        if is_listed {
            let list = (0..accounts).map(|number| format!("{number:012}")).collect::<Vec<_>>().join(",");
            setting.parameters.insert("TenantAccounts".into(), list);
        }
        let list = setting.parameters.get("TenantAccounts").map_or(0, String::len);
        let list = Size { policy: "the parameter TenantAccounts".to_owned(), bytes: list, limit: PARAMETER };
        let resources = resolve(Part::Tooling.template(), &setting).expect("the template is part of this program");
        let sizes = sizes(&resources).into_iter().chain([list]);
        sizes.filter(|size| size.bytes > size.limit).max_by_key(|size| size.bytes - size.limit)
    };
    // The largest number without an overflow: found by halving.
    let (mut fits, mut does_not) = (0, 10_000);
    if first_overflow(does_not).is_none() {
        return Ok(usize::MAX);
    }
    while does_not - fits > 1 {
        let middle = usize::midpoint(fits, does_not);
        if first_overflow(middle).is_none() { fits = middle } else { does_not = middle }
    }
    match first_overflow(accounts) {
        None => Ok(fits),
        Some(size) => Err(Overflow { accounts, most: fits, size }),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn setting(parameters: &[(&str, &str)]) -> Setting {
        let parameters = parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Setting { account: "111111111111".into(), region: "eu-west-1".into(), parameters: parameters.collect() }
    }

    #[test]
    fn everything_fits_in_an_organization_whatever_the_number_of_tenants() {
        let setting = setting(&[("OrganizationId", "o-abcdefghij")]);
        let resources = resolve(Part::Tooling.template(), &setting).unwrap();
        for size in sizes(&resources) {
            assert!(size.bytes <= size.limit, "{size:?}");
        }
        assert_eq!(most_accounts(&setting, 10_000).unwrap(), usize::MAX);
    }

    #[test]
    fn where_accounts_are_listed_it_is_said_how_many_fit() {
        let most = most_accounts(&setting(&[]), 2).unwrap();
        assert!((200..600).contains(&most), "{most}");
        assert!(most_accounts(&setting(&[]), most).is_ok());
        let overflow = most_accounts(&setting(&[]), most + 1).unwrap_err();
        assert_eq!((overflow.most, overflow.accounts), (most, most + 1));
    }

    /// `UPDATE_DOCS=1 cargo test` writes it anew.
    #[test]
    fn the_documented_sizes_are_those_of_the_templates() {
        use std::fmt::Write as _;

        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/policy-sizes.md");
        let mut page = "# Sizes of the tooling account's policies\n\nWritten from `infra/tooling.yaml` by a test \
            (`src/infra/limits.rs`), in bytes as each service counts them.\n\n\
            | policy | limit | organization, whatever the number | 2 accounts | 300 | 10,000 |\n|---|---|---|---|---|---|\n"
            .to_owned();
        let of = |accounts: usize| {
            let list = (0..accounts).map(|number| format!("{number:012}")).collect::<Vec<_>>().join(",");
            let setting = match accounts {
                0 => setting(&[
                    ("OrganizationId", "o-abcdefghij"),
                    ("OrganizationPath", "o-abcdefghij/r-abcd/ou-abcd-tenants/*"),
                ]),
                _ => setting(&[("TenantAccounts", &list)]),
            };
            sizes(&resolve(Part::Tooling.template(), &setting).unwrap())
        };
        let columns = [of(0), of(2), of(300), of(10_000)];
        for (number, Size { policy, limit, .. }) in columns[0].iter().enumerate() {
            let cell = |column: &Sizes| {
                let bytes = column[number].bytes;
                if bytes > *limit { format!("{bytes}, too large") } else { bytes.to_string() }
            };
            let cells: Vec<String> = columns.iter().map(cell).collect();
            let _ = writeln!(page, "| {policy} | {limit} | {} |", cells.join(" | "));
        }
        let most = most_accounts(&setting(&[]), 2).unwrap();
        let _ =
            writeln!(page, "\nWhere accounts are listed, {most} fit; `tenantry bootstrap` refuses more and says so.");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, &page).unwrap();
        }
        let documented = std::fs::read_to_string(path).unwrap_or_default();
        assert!(documented == page, "{path} is not what the code says: run UPDATE_DOCS=1 cargo test --lib");
    }

    #[test]
    fn a_tenants_policies_fit() {
        let parameters = BTreeMap::from(
            [
                ("Tenant", "a-tenant-with-a-name-that-is-as-long-as-names-may-be-0123456789ab"),
                ("ToolingAccount", "111111111111"),
                ("OrganizationId", "o-abcdefghijabcdefghij"),
                ("ExternalId", "0123456789abcdef0123456789abcdef"),
                ("Bucket", "tenantry-111111111111-ap-southeast-1"),
                ("KeyArn", "arn:aws:kms:ap-southeast-1:111111111111:key/00000000-1111-2222-3333-444444444444"),
                ("ArtifactRegion", "ap-southeast-1"),
                ("Application", "AnApplicationWithALongName"),
                ("ApplicationLowercase", "anapplicationwithalongname"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned())),
        );
        let setting = Setting { account: "222222222222".into(), region: "ap-southeast-1".into(), parameters };
        let sizes = sizes(&resolve(Part::Tenant.template(), &setting).unwrap());
        for size in &sizes {
            assert!(size.bytes <= size.limit, "{size:?}");
        }
        assert_eq!(sizes.len(), 1 + 3 * 2);
    }
}
