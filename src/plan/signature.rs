//! What failures of many targets have in common.

use std::sync::LazyLock;

use fancy_regex::Regex;

use super::TargetContent;
use super::placeholders::Placeholders;
use crate::domain::Failure;

/// Numbers and made-up ids that differ from target to target.
static OWN: LazyLock<Regex> = LazyLock::new(|| {
    let pattern = r"(?<![A-Za-z0-9])(?:[0-9a-f]{16,}|(?=[A-Za-z]*[0-9])[A-Z0-9]{12,}|[0-9]{3,})(?![A-Za-z0-9])";
    Regex::new(pattern).expect("the pattern is constant")
});

/// Returns the type of the resource that failed and the reason, without what is the target's own: failures with the
/// same signature have the same cause.
pub fn signature(target: &TargetContent, failure: &Failure) -> String {
    let reason = Placeholders::of(target).apply(&failure.reason);
    let reason = OWN.replace_all(&reason, "{id}");
    match &failure.resource_type {
        Some(kind) => format!("{kind}: {reason}"),
        None => reason.into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Intent;
    use super::super::tests::target;
    use super::*;

    #[test]
    fn the_same_cause_has_the_same_signature_in_every_target() {
        let of = |tenant: &str, account: &str, id: &str| {
            let failure = Failure {
                resource: Some("Bucket".into()),
                resource_type: Some("AWS::S3::Bucket".into()),
                reason: format!(
                    "Resource handler returned message: \"app-{tenant}-data already exists in {account}\" (RequestToken: {id}, HandlerErrorCode: AlreadyExists, after 1{account} ms)"
                ),
                hint: None,
            };
            signature(&target(tenant, Intent::Unchanged), &failure)
        };
        let one = of("gnome", "222222222222", "0f8fad5b-d9cb-469f-a165-70867728950e");
        assert_eq!(one, of("unicorn", "222222222222", "1f8fad5b-d9cb-469f-a165-70867728950e"));
        assert!(one.starts_with("AWS::S3::Bucket: ") && one.contains("HandlerErrorCode: AlreadyExists"), "{one}");
        let other = Failure::because("Access denied");
        assert_eq!(signature(&target("gnome", Intent::Unchanged), &other), "Access denied");
    }
}
