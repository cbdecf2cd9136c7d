//! Taking secrets out of everything that is written.

use std::io::{self, Write};

use crate::domain::Masks;

/// A writer that masks line by line, whoever put a secret there: CloudFormation's reasons can repeat a parameter.
pub struct Mask<W> {
    inner: W,
    masks: Masks,
    line: Vec<u8>,
}

impl<W: Write> Mask<W> {
    /// Writes to `inner`.
    pub fn new(inner: W, masks: Masks) -> Self {
        Self { inner, masks, line: Vec::new() }
    }

    fn write_line(&mut self) -> io::Result<()> {
        let text = self.masks.apply(&String::from_utf8_lossy(&self.line));
        self.line.clear();
        self.inner.write_all(text.as_bytes())
    }
}

impl<W: Write> Write for Mask<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(part);
            if part.ends_with(b"\n") {
                self.write_line()?;
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.write_line()?;
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_masked_across_writes_and_in_json() {
        let mut written = Vec::new();
        let masks = Masks::new(["hunter2".to_owned(), "a\"b\\c".to_owned(), "abc".to_owned()]);
        let mut mask = Mask::new(&mut written, masks);
        write!(mask, "the password is hun").unwrap();
        writeln!(mask, "ter2, abc is not").unwrap();
        write!(mask, "{}", serde_json::json!({"reason": "bad: a\"b\\c"})).unwrap();
        mask.flush().unwrap();
        drop(mask);
        assert_eq!(String::from_utf8(written).unwrap(), "the password is ***, abc is not\n{\"reason\":\"bad: ***\"}");
    }
}
