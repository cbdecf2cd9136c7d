//! Asking a stack whether somebody has changed its resources by hand.

use super::Stop;
use super::pace::Pace;
use super::patience::patiently;
use crate::domain::{Drift, Failure, Fault};
use crate::ports::TenantAccount;

/// How many looks a detection has to end: about a quarter of an hour.
const LOOKS: u32 = 200;

/// Lets CloudFormation compare a stack's resources with its template, and waits for the result.
pub async fn drift(account: &dyn TenantAccount, stack: &str, stop: &Stop) -> Result<Drift, Failure> {
    let failed = |fault: Fault| Failure::because(fault.to_string());
    let detection = patiently(stop, || account.detect_drift(stack)).await.map_err(failed)?;
    let mut pace = Pace::new();
    for _ in 0..LOOKS {
        pace.pause().await;
        if let Some(drift) = patiently(stop, || account.drift(stack, &detection)).await.map_err(failed)? {
            return Ok(drift);
        }
    }
    Err(Failure::because("CloudFormation is still looking for drift; it was given up"))
}
