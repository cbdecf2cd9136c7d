//! Reading the SDK's errors into faults: the one table of error codes.

use std::error::Error;

use aws_credential_types::provider::error::CredentialsError;
use aws_smithy_async::future::timeout::TimedOutError;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use aws_types::request_id::RequestId;

use crate::domain::{Fault, FaultKind};

/// Returns what an SDK error means. Only code, message and request id are kept: the raw answer stays here.
pub fn read<E>(operation: &str, error: &SdkError<E, HttpResponse>) -> Fault
where
    E: ProvideErrorMetadata + RequestId + Error + 'static,
{
    match error {
        SdkError::ServiceError(service) => {
            let status = service.raw().status().as_u16();
            let code = service.err().code().unwrap_or_default().to_owned();
            let message = service.err().message().map_or_else(|| format!("HTTP status {status}"), str::to_owned);
            let kind = kind(&code, &message, status);
            let request_id = error.request_id().filter(|id| !id.is_empty()).map(str::to_owned);
            Fault { kind, operation: operation.to_owned(), code, message, request_id }
        }
        SdkError::TimeoutError(_) => Fault::new(FaultKind::Unreachable, operation, "no answer in time"),
        SdkError::ResponseError(_) => Fault::new(FaultKind::Unreachable, operation, "the answer could not be read"),
        other => {
            if let Some(fault) = find::<Fault>(other) {
                // The credentials of a session are renewed in the middle of other calls: the renewal's fault counts.
                return fault.clone();
            }
            let kind =
                if find::<CredentialsError>(other).is_some() { FaultKind::Credentials } else { FaultKind::Unreachable };
            Fault::new(kind, operation, root(other))
        }
    }
}

/// Tells whether a signature was refused that a wrong clock may have made.
/// Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-troubleshooting.html>
pub fn is_of_the_clock(fault: &Fault) -> bool {
    matches!(fault.code.as_str(), "InvalidSignatureException" | "SignatureDoesNotMatch" | "RequestTimeTooSkewed")
}

/// Finds an error of a type in the chain of sources.
fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// Returns the last and most telling words of the chain of sources. That something timed out says less than what it was.
fn root(error: &(dyn Error + 'static)) -> String {
    let mut last = error;
    while let Some(source) = last.source().filter(|source| !source.is::<TimedOutError>()) {
        last = source;
    }
    // Some errors go on with a list of all that was tried.
    let text = last.to_string();
    text.lines().next().unwrap_or_default().trim_end_matches(". Attempted:").to_owned()
}

/// Sorts an error code. Sources: the common errors and the errors of each operation in the API references of
/// CloudFormation, STS, S3 and Lambda.
fn kind(code: &str, message: &str, status: u16) -> FaultKind {
    match code {
        "Throttling"
        | "ThrottlingException"
        | "ThrottledException"
        | "RequestThrottled"
        | "RequestThrottledException"
        | "TooManyRequestsException"
        | "ProvisionedThroughputExceededException"
        | "TransactionInProgressException"
        | "EC2ThrottledException"
        | "RequestLimitExceeded"
        | "BandwidthLimitExceeded"
        | "SlowDown"
        | "PriorRequestNotComplete"
        // S3's answer to two conditional writes at once: neither need have won, both may try again.
        | "ConditionalRequestConflict" | "OperationAborted" => FaultKind::Throttled,
        "ExpiredToken"
        | "ExpiredTokenException"
        | "RequestExpired"
        | "InvalidToken"
        | "InvalidClientTokenId"
        | "InvalidAccessKeyId"
        | "UnrecognizedClientException"
        | "SignatureDoesNotMatch"
        | "InvalidSignatureException"
        | "MissingAuthenticationToken"
        | "RequestTimeTooSkewed" => FaultKind::Credentials,
        "AccessDenied"
        | "OptInRequired"
        | "AccessDeniedException"
        | "AllAccessDisabled"
        | "UnauthorizedOperation"
        | "Forbidden"
        | "NotAuthorized"
        | "KMSAccessDeniedException" => FaultKind::Denied,
        "NoSuchKey"
        | "NoSuchBucket"
        | "NotFound"
        | "ChangeSetNotFound"
        | "ChangeSetNotFoundException"
        | "ResourceNotFoundException"
        | "StackNotFoundException" => FaultKind::NotFound,
        // DescribeStacks and its like have no code of their own for a stack that is not there.
        "ValidationError" if message.ends_with("does not exist") => FaultKind::NotFound,
        "AlreadyExistsException" | "PreconditionFailed" => FaultKind::Conflict,
        // S3 answers so with status 400.
        "RequestTimeout" | "RequestTimeoutException" => FaultKind::Unreachable,
        _ if status >= 500 || status == 408 => FaultKind::Unreachable,
        _ if status == 429 => FaultKind::Throttled,
        _ if code.is_empty() && status == 403 => FaultKind::Denied,
        _ if code.is_empty() && status == 404 => FaultKind::NotFound,
        _ if code.is_empty() && status == 412 => FaultKind::Conflict,
        _ => FaultKind::Invalid,
    }
}

#[cfg(test)]
mod tests {
    use aws_runtime::retries::classifiers::{THROTTLING_ERRORS, TRANSIENT_ERRORS};
    use aws_sdk_sts::operation::get_caller_identity::GetCallerIdentityError;
    use aws_smithy_runtime_api::client::result::ConnectorError;

    use super::*;

    /// As the SDK's client of HTTP wraps it.
    #[derive(Debug, thiserror::Error)]
    #[error("HTTP connect timeout occurred after 5s")]
    struct Late(#[source] TimedOutError);

    #[tokio::test(start_paused = true)]
    async fn what_did_not_come_in_time_is_told() {
        let sleep = tokio::time::sleep(std::time::Duration::from_secs(5));
        let late =
            aws_smithy_async::future::timeout::Timeout::new(std::future::pending::<()>(), sleep).await.unwrap_err();
        let error = ConnectorError::timeout(Late(late).into());
        let fault =
            read("GetCallerIdentity", &SdkError::<GetCallerIdentityError, HttpResponse>::dispatch_failure(error));
        assert_eq!(fault.message, "HTTP connect timeout occurred after 5s");
    }

    /// Safety rule 5: what passes must be told from what lasts.
    #[test]
    fn codes_are_sorted_by_what_they_mean() {
        let cases = [
            ("Throttling", "Rate exceeded", 400, FaultKind::Throttled),
            ("TooManyRequestsException", "", 429, FaultKind::Throttled),
            ("ExpiredToken", "", 403, FaultKind::Credentials),
            ("AccessDenied", "", 403, FaultKind::Denied),
            ("ValidationError", "Stack with id app does not exist", 400, FaultKind::NotFound),
            ("ValidationError", "Parameters: [X] do not exist in the template", 400, FaultKind::Invalid),
            ("AlreadyExistsException", "", 400, FaultKind::Conflict),
            ("PreconditionFailed", "", 412, FaultKind::Conflict),
            ("ConditionalRequestConflict", "", 409, FaultKind::Throttled),
            ("InternalFailure", "", 500, FaultKind::Unreachable),
            ("", "HTTP status 404", 404, FaultKind::NotFound),
            ("", "HTTP status 403", 403, FaultKind::Denied),
        ];
        for (code, message, status, expected) in cases {
            assert_eq!(kind(code, message, status), expected, "{code} {message} {status}");
        }
    }

    /// What the SDK tries again by itself passes, also once it has given up.
    #[test]
    fn what_the_sdk_tries_again_passes() {
        // CloudFormation means by this one that there are too many stacks.
        for code in THROTTLING_ERRORS.iter().filter(|code| **code != "LimitExceededException") {
            assert_eq!(kind(code, "", 400), FaultKind::Throttled, "{code}");
        }
        for code in TRANSIENT_ERRORS {
            assert_eq!(kind(code, "", 400), FaultKind::Unreachable, "{code}");
        }
        for code in ["InvalidSignatureException", "SignatureDoesNotMatch", "RequestTimeTooSkewed", "RequestExpired"] {
            assert_eq!(kind(code, "", 403), FaultKind::Credentials, "{code}");
        }
    }
}
