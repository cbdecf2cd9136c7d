//! What people and machines see. Reporters hear events and cannot influence the engine.

mod diagnosis;
mod differences;
mod json;
mod lines;
mod mask;
mod plan;
mod progress;
pub mod rollout;
pub mod text;
pub mod traces;
mod views;

pub use diagnosis::diagnosis;
pub use differences::differences;
pub use json::JsonLines;
pub use lines::Lines;
pub use mask::Mask;
pub use plan::{in_markdown as plan_in_markdown, in_text as plan};
pub use progress::Progress;
pub use views::{results, status, table};

use std::io;

use crate::event::Timed;

/// Shows events as they come.
pub trait Reporter: Send {
    /// Shows one event.
    ///
    /// # Errors
    ///
    /// Fails where nothing can be written any more, which ends no rollout.
    fn event(&mut self, event: &Timed) -> io::Result<()>;

    /// Clears away what moves, so that what is written next stands alone.
    fn finish(&mut self) {}
}
