//! Telling somebody something: by a topic, by a webhook, or as spans.

use std::time::Duration;

use aws_sdk_sns::types::MessageAttributeValue;

use super::{Tooling, fault, http};
use crate::domain::{Fault, FaultKind};

/// For how long a webhook may take.
const PATIENCE: Duration = Duration::from_secs(10);

impl Tooling {
    /// Publishes a message in a topic, with attributes that subscriptions can filter by.
    /// Source: <https://docs.aws.amazon.com/sns/latest/api/API_Publish.html>
    ///
    /// # Errors
    ///
    /// Returns SNS's fault.
    pub async fn publish(
        &self,
        topic: &str,
        subject: &str,
        message: &str,
        attributes: &[(&str, &str)],
    ) -> Result<(), Fault> {
        // The topic may be in another region than the bucket.
        let region = topic.split(':').nth(3).unwrap_or_default().to_owned();
        let config = aws_sdk_sns::config::Builder::from(&self.config).region(aws_sdk_sns::config::Region::new(region));
        let sns = aws_sdk_sns::Client::from_conf(config.build());
        let mut request = sns.publish().topic_arn(topic).subject(subject).message(message);
        for (name, value) in attributes {
            let value = MessageAttributeValue::builder().data_type("String").string_value(*value).build();
            request = request.message_attributes(
                *name,
                value.map_err(|error| Fault::new(FaultKind::Invalid, "Publish", error.to_string()))?,
            );
        }
        request.send().await.map(drop).map_err(|error| fault::read("Publish", &error))
    }

    /// Sends spans to a collector of OpenTelemetry, in OTLP's JSON.
    ///
    /// # Errors
    ///
    /// Fails where there is no answer, or one that says that they were not taken.
    pub async fn trace(&self, url: &str, json: String, headers: &[(String, String)]) -> Result<(), Fault> {
        taken(http::post(&self.http, url, json, headers, PATIENCE).await?)
    }

    /// Sends a text to a webhook, in the form that Slack has made common.
    /// Source: <https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks>
    ///
    /// # Errors
    ///
    /// Fails where there is no answer, or one that says that the text was not taken.
    pub async fn tell(&self, url: &str, text: &str) -> Result<(), Fault> {
        let json = serde_json::json!({ "text": text }).to_string();
        taken(http::post(&self.http, url, json, &[], PATIENCE).await?)
    }
}

fn taken(status: u16) -> Result<(), Fault> {
    if (200..300).contains(&status) {
        return Ok(());
    }
    Err(Fault::new(FaultKind::Invalid, "POST", format!("the URL answers with status {status}")))
}
