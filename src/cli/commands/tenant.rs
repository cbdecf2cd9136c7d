//! `tenantry tenant`: taking tenants up, and letting them go.

use crate::cli::args::{Args, TenantCommand};
use crate::cli::error::CommandError;
use crate::domain::Exit;

/// Takes a tenant up or lets one go.
pub async fn tenant(_args: &Args, _command: TenantCommand) -> Result<Exit, CommandError> {
    todo!()
}
