//! Where decisions on a plan come from. Each way ends in decisions, which are recorded and weighed alike
//! (`plan::judge`): none of them opens the way by itself.

mod codepipeline;
mod github;
mod terminal;

pub use codepipeline::answered;
pub use github::Run;
pub use terminal::{Ask, confirmed};

use jiff::Timestamp;

use crate::domain::Identity;
use crate::plan::Decision;

/// What somebody has decided, and by which way it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided {
    /// What.
    pub decision: Decision,
    /// Who.
    pub by: Identity,
    /// `command`, `terminal`, `codepipeline` or `github`.
    pub via: &'static str,
    /// Which answer it was there, where one could be read twice.
    pub source: Option<String>,
    /// When, where that is known to be another time than now.
    pub at: Option<Timestamp>,
    /// What they had to say.
    pub comment: Option<String>,
}
