//! CloudWatch alarms, in a tenant's account or in the tooling account.

use aws_sdk_cloudwatch::Client;
use aws_sdk_cloudwatch::config::Builder;
use aws_sdk_cloudwatch::types::{AlarmType, StateValue};

use super::fault;
use crate::domain::{AlarmState, Fault};

/// Names that one request may ask for.
/// Source: <https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_DescribeAlarms.html>
const MOST: usize = 100;

/// Returns those of some alarms that exist, composite ones included.
pub async fn read(config: Builder, names: &[String]) -> Result<Vec<AlarmState>, Fault> {
    let client = Client::from_conf(config.build());
    let mut found = Vec::new();
    for names in names.chunks(MOST) {
        let request = client.describe_alarms().set_alarm_names(Some(names.to_vec())).max_records(100);
        let request = request.alarm_types(AlarmType::MetricAlarm).alarm_types(AlarmType::CompositeAlarm);
        let answer = request.send().await.map_err(|error| fault::read("DescribeAlarms", &error))?;
        let state = |name: Option<&str>, state: Option<&str>, reason: Option<&str>| AlarmState {
            name: name.unwrap_or_default().to_owned(),
            state: state.unwrap_or_default().to_owned(),
            reason: reason.unwrap_or_default().to_owned(),
        };
        found.extend(
            answer.metric_alarms().iter().map(|alarm| {
                state(alarm.alarm_name(), alarm.state_value().map(StateValue::as_str), alarm.state_reason())
            }),
        );
        found.extend(
            answer.composite_alarms().iter().map(|alarm| {
                state(alarm.alarm_name(), alarm.state_value().map(StateValue::as_str), alarm.state_reason())
            }),
        );
    }
    Ok(found)
}
