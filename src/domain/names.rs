//! Account ids and regions, checked where they enter.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A twelve-digit AWS account id.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AccountId(String);

/// Not twelve digits.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not an AWS account id: twelve digits are expected")]
pub struct NotAnAccountId(String);

impl AccountId {
    /// Checks and wraps an account id.
    pub fn new(text: impl Into<String>) -> Result<Self, NotAnAccountId> {
        let text = text.into();
        if text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit()) {
            Ok(Self(text))
        } else {
            Err(NotAnAccountId(text))
        }
    }

    /// Returns the twelve digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The code of an AWS region, as `eu-west-1`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Region(String);

/// Not of the form of a region's code.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not an AWS region: a code like `eu-west-1` is expected")]
pub struct NotARegion(String);

impl Region {
    /// Checks and wraps a region's code. Only the form is checked, since regions are added every year.
    pub fn new(text: impl Into<String>) -> Result<Self, NotARegion> {
        let text = text.into();
        let parts: Vec<&str> = text.split('-').collect();
        let well_formed = parts.len() >= 3
            && parts
                .iter()
                .all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()))
            && parts[parts.len() - 1].bytes().all(|byte| byte.is_ascii_digit());
        if well_formed { Ok(Self(text)) } else { Err(NotARegion(text)) }
    }

    /// Returns the region's code.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the partition that the region belongs to, for ARNs.
    /// Source: <https://docs.aws.amazon.com/whitepapers/latest/aws-fault-isolation-boundaries/partitions.html>
    pub fn partition(&self) -> &'static str {
        match () {
            () if self.0.starts_with("cn-") => "aws-cn",
            () if self.0.starts_with("us-gov-") => "aws-us-gov",
            () => "aws",
        }
    }

    /// Returns the domain under which the region's services answer.
    pub fn dns_suffix(&self) -> &'static str {
        if self.0.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" }
    }
}

macro_rules! text_like {
    ($name:ident, $error:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
        impl TryFrom<String> for $name {
            type Error = $error;
            fn try_from(text: String) -> Result<Self, $error> {
                Self::new(text)
            }
        }
        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }
    };
}
text_like!(AccountId, NotAnAccountId);
text_like!(Region, NotARegion);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn account_ids_have_twelve_digits() {
        assert!(AccountId::new("012345678901").is_ok());
        for wrong in ["", "12345678901", "1234567890123", "12345678901x", "１23456789012"] {
            assert!(AccountId::new(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn regions_have_the_form_of_a_code() {
        for right in ["eu-west-1", "us-gov-east-1", "ap-southeast-7", "us-iso-east-1"] {
            assert!(Region::new(right).is_ok(), "{right}");
        }
        for wrong in ["", "euwest1", "eu-west", "EU-WEST-1", "eu-west-1a", "eu--1"] {
            assert!(Region::new(wrong).is_err(), "{wrong}");
        }
        assert_eq!(Region::new("cn-north-1").unwrap().partition(), "aws-cn");
    }
}
