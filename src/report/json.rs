//! One JSON object a line and event, for machines.

use std::io::{self, Write};

use super::Reporter;
use crate::event::Timed;

/// Writes every event as a line of JSON.
pub struct JsonLines<W>(pub W);

impl<W: Write + Send> Reporter for JsonLines<W> {
    fn event(&mut self, event: &Timed) -> io::Result<()> {
        serde_json::to_writer(&mut self.0, event)?;
        writeln!(self.0)?;
        self.0.flush()
    }
}
