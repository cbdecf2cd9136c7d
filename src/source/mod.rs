//! Files that people write: where everything is in them, problems that point there, and edits that leave all else alone.

mod document;
pub mod edit;
pub mod yaml;

pub use document::{Document, Problem, Problems, closest};
