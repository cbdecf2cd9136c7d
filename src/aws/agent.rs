//! Who calls, as CloudTrail shows it.

use aws_runtime::user_agent::UserAgentInterceptor;
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::{
    BeforeSerializationInterceptorContextRef, BeforeTransmitInterceptorContextMut,
};
use aws_smithy_runtime_api::client::interceptors::{Intercept, disable_interceptor, dyn_dispatch_hint};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;
use aws_types::SdkConfig;
use aws_types::sdk_ua_metadata::FrameworkMetadata;

/// Names this program in the user agent that the SDK makes.
pub fn tool() -> FrameworkMetadata {
    FrameworkMetadata::new("tenantry", Some(env!("CARGO_PKG_VERSION"))).expect("letters, digits, points and hyphens")
}

/// Sends a user agent that is made once. The SDK's own is put together for each call anew, from the environment, and sent as
/// two headers of which one is signed: a twentieth of what a call costs.
#[derive(Debug)]
pub struct UserAgent(String);

impl UserAgent {
    /// Names this program and its version, and the application id that the environment or the profile gives.
    /// Source: <https://docs.aws.amazon.com/sdkref/latest/guide/feature-appid.html>
    pub fn new(config: &SdkConfig) -> Self {
        let tool = concat!("tenantry/", env!("CARGO_PKG_VERSION"), " lang/rust");
        Self(config.app_name().map_or_else(|| tool.to_owned(), |name| format!("{tool} app/{name}")))
    }
}

#[dyn_dispatch_hint]
impl Intercept for UserAgent {
    fn name(&self) -> &'static str {
        "UserAgent"
    }

    fn read_before_execution(
        &self,
        _: &BeforeSerializationInterceptorContextRef<'_>,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        config.interceptor_state().store_put(disable_interceptor::<UserAgentInterceptor>("one of our own"));
        Ok(())
    }

    fn modify_before_signing(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        context.request_mut().headers_mut().try_insert("user-agent", self.0.clone())?;
        Ok(())
    }
}
