//! One of several machines that execute a plan together.

use std::fmt;
use std::str::FromStr;

use super::{Digest, TargetId};

/// A part of a plan's targets: the `number`th of `of` parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shard {
    /// Which part, from 1.
    pub number: u32,
    /// How many parts there are.
    pub of: u32,
}

impl Shard {
    /// The largest number of parts: that of the jobs of a matrix in GitHub.
    /// Source: <https://docs.github.com/en/actions/reference/limits>
    pub const MOST: u32 = 256;

    /// Returns all parts.
    pub fn all(of: u32) -> impl Iterator<Item = Self> {
        (1..=of).map(move |number| Self { number, of })
    }

    /// Returns the part of so many that a target belongs to, which depends on nothing but its name.
    pub fn with(target: &TargetId, of: u32) -> Self {
        let hash = Digest::of(target.to_string()).to_string();
        let place = u32::from_str_radix(&hash[..8], 16).unwrap_or_default();
        Self { number: place % of.max(1) + 1, of }
    }

    /// Tells whether a target belongs to this part.
    pub fn has(self, target: &TargetId) -> bool {
        Self::with(target, self.of) == self
    }

    /// Returns this part's share of a whole number. All shares together are the whole.
    pub fn share(self, whole: usize) -> usize {
        let (number, of) = (self.number as usize, self.of.max(1) as usize);
        whole * number / of - whole * (number - 1) / of
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.of)
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('/').and_then(|(number, of)| Some((number.parse().ok()?, of.parse().ok()?)));
        match parts {
            Some((number, of)) if number >= 1 && number <= of && of <= Self::MOST => Ok(Self { number, of }),
            _ => Err(format!("a shard is one of at most {}, as 3/8", Self::MOST)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::Region;

    fn target(number: u32) -> TargetId {
        TargetId { tenant: format!("t{number:04}"), region: Region::new("eu-west-1").unwrap() }
    }

    proptest! {
        #[test]
        fn each_target_belongs_to_exactly_one_shard(number in 0_u32..5000, of in 1_u32..=Shard::MOST) {
            prop_assert_eq!(Shard::all(of).filter(|shard| shard.has(&target(number))).count(), 1);
        }

        #[test]
        fn all_shares_are_the_whole_and_none_is_empty_where_there_is_enough(whole in 1_usize..10_000, of in 1_u32..=Shard::MOST) {
            let shares: Vec<usize> = Shard::all(of).map(|shard| shard.share(whole)).collect();
            prop_assert_eq!(shares.iter().sum::<usize>(), whole);
            prop_assert!(whole < of as usize || !shares.contains(&0));
        }
    }

    #[test]
    fn shards_are_about_even() {
        for shard in Shard::all(8) {
            let size = (0..4000).filter(|number| shard.has(&target(*number))).count();
            assert!((430..570).contains(&size), "{shard} has {size} of 4000");
        }
    }

    #[test]
    fn a_shard_is_written_as_a_fraction() {
        assert_eq!("3/8".parse(), Ok(Shard { number: 3, of: 8 }));
        for wrong in ["0/8", "9/8", "3", "3/", "a/b", "1/257", "-1/3"] {
            assert!(wrong.parse::<Shard>().is_err(), "{wrong}");
        }
    }
}
