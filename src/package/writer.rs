//! The zip format, as far as it is written here: entries without times, in the order they come, Zip64 where it is
//! needed. Source: <https://pkware.cachefly.net/webdocs/APPNOTE/APPNOTE-6.3.10.TXT>

use std::ops::Range;

use sha2::{Digest as _, Sha256};

use crate::domain::Digest;

/// Header signatures.
const LOCAL: u32 = 0x0403_4b50;
const CENTRAL: u32 = 0x0201_4b50;
const END: u32 = 0x0605_4b50;
const END_64: u32 = 0x0606_4b50;
const LOCATOR_64: u32 = 0x0706_4b50;

/// Versions of the format: with folders and deflate, and with Zip64.
const VERSION: u16 = 20;
const VERSION_64: u16 = 45;
/// Made on Unix, which is why modes mean something.
const UNIX: u16 = 3 << 8;
/// Names are UTF-8.
const UTF8: u16 = 1 << 11;
/// 1980-01-01, where the format's time begins.
const DATE: u16 = (1 << 5) | 1;
const ZIP64_EXTRA: u16 = 1;

/// From here on a number does not fit into its field.
const FULL_32: u64 = u32::MAX as u64;
const FULL_16: u64 = u16::MAX as u64;

/// What an entry turned out to be.
#[derive(Debug, Clone, Copy)]
pub struct Content {
    /// CRC-32 of the bytes as they were.
    pub crc: u32,
    /// Their number.
    pub size: u64,
    /// Whether they are deflated.
    pub deflated: bool,
}

/// An entry that was begun.
#[derive(Debug)]
pub struct Open {
    name: String,
    mode: u32,
    header: usize,
    data: usize,
    large: bool,
}

/// A zip that is being written into memory, and hashed on the way.
pub struct Writer {
    bytes: Vec<u8>,
    central: Vec<u8>,
    entries: u64,
    hash: Sha256,
    hashed: usize,
}

/// The numbers of a header, one after the other.
struct Fields<'a>(&'a mut Vec<u8>);

impl Fields<'_> {
    fn u16(&mut self, number: u16) -> &mut Self {
        self.0.extend(number.to_le_bytes());
        self
    }

    fn u32(&mut self, number: u32) -> &mut Self {
        self.0.extend(number.to_le_bytes());
        self
    }

    fn u64(&mut self, number: u64) -> &mut Self {
        self.0.extend(number.to_le_bytes());
        self
    }

    /// Writes what fits, or that the true number is in the Zip64 field.
    fn u32_or_full(&mut self, number: u64) -> &mut Self {
        self.u32(u32::try_from(number).unwrap_or(u32::MAX))
    }

    fn u16_or_full(&mut self, number: u64) -> &mut Self {
        self.u16(u16::try_from(number).unwrap_or(u16::MAX))
    }
}

impl Writer {
    /// Begins a zip of about so many bytes. Memory that is not written to is not taken.
    pub fn new(capacity: usize) -> Self {
        Self { bytes: Vec::with_capacity(capacity), central: Vec::new(), entries: 0, hash: Sha256::new(), hashed: 0 }
    }

    /// Begins an entry. Its name has at most 65,535 bytes, which is more than any system's path.
    pub fn begin(&mut self, name: &str, mode: u32, size: u64) -> Open {
        let header = self.bytes.len();
        // Deflated blocks that do not pay have some bytes more than the file.
        let large = size + size / 1000 + 1024 >= FULL_32;
        self.header(name, large, Content { crc: 0, size: 0, deflated: false }, 0);
        Open { name: name.to_owned(), mode, header, data: self.bytes.len(), large }
    }

    /// Writes bytes of the entry that was begun last.
    pub fn write(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Returns how many bytes an entry has so far.
    pub fn written(&self, open: &Open) -> u64 {
        (self.bytes.len() - open.data) as u64
    }

    /// Returns where an entry's bytes are.
    pub fn place(&self, open: &Open) -> Range<u64> {
        open.data as u64..self.bytes.len() as u64
    }

    /// Takes back what was written of the entry.
    pub fn rewind(&mut self, open: &Open) {
        self.bytes.truncate(open.data);
    }

    /// Ends an entry.
    pub fn end(&mut self, open: &Open, content: Content) {
        let packed = self.written(open);
        let data = self.bytes.len();
        self.header(&open.name, open.large, content, packed);
        let header = self.bytes.split_off(data);
        self.bytes[open.header..open.header + header.len()].copy_from_slice(&header);

        let offset = open.header as u64;
        let sizes = open.large || content.size >= FULL_32 || packed >= FULL_32;
        let mut extra = Vec::new();
        if sizes || offset >= FULL_32 {
            let mut numbers = Vec::new();
            if sizes {
                Fields(&mut numbers).u64(content.size).u64(packed);
            }
            if offset >= FULL_32 {
                Fields(&mut numbers).u64(offset);
            }
            Fields(&mut extra).u16(ZIP64_EXTRA).u16_or_full(numbers.len() as u64);
            extra.extend(numbers);
        }
        let version = if extra.is_empty() { VERSION } else { VERSION_64 };
        let full = |number| if sizes { FULL_32 } else { number };
        Fields(&mut self.central).u32(CENTRAL).u16(UNIX | version);
        Self::common(&mut self.central, version, &open.name, content);
        Fields(&mut self.central)
            .u32_or_full(full(packed))
            .u32_or_full(full(content.size))
            .u16_or_full(open.name.len() as u64)
            .u16_or_full(extra.len() as u64)
            // No comment, disk 0, no internal attributes.
            .u16(0)
            .u16(0)
            .u16(0)
            .u32(open.mode << 16)
            .u32_or_full(offset);
        self.central.extend(open.name.as_bytes());
        self.central.extend(extra);
        self.entries += 1;
        self.update_hash();
    }

    /// Writes the directory, and returns the zip with its sha256.
    pub fn finish(mut self) -> (Vec<u8>, Digest) {
        let (start, size) = (self.bytes.len() as u64, self.central.len() as u64);
        self.bytes.extend(&self.central);
        let end = self.bytes.len() as u64;
        let mut fields = Fields(&mut self.bytes);
        if self.entries >= FULL_16 || start >= FULL_32 || size >= FULL_32 {
            fields.u32(END_64).u64(44).u16(UNIX | VERSION_64).u16(VERSION_64).u32(0).u32(0);
            fields.u64(self.entries).u64(self.entries).u64(size).u64(start);
            fields.u32(LOCATOR_64).u32(0).u64(end).u32(1);
        }
        fields.u32(END).u16(0).u16(0).u16_or_full(self.entries).u16_or_full(self.entries);
        fields.u32_or_full(size).u32_or_full(start).u16(0);
        self.update_hash();
        (self.bytes, Digest::from_bytes(self.hash.finalize().into()))
    }

    fn update_hash(&mut self) {
        self.hash.update(&self.bytes[self.hashed..]);
        self.hashed = self.bytes.len();
    }

    /// Writes a local header: its length depends on name and `large` alone, so that it can be written again.
    fn header(&mut self, name: &str, large: bool, content: Content, packed: u64) {
        Fields(&mut self.bytes).u32(LOCAL);
        Self::common(&mut self.bytes, if large { VERSION_64 } else { VERSION }, name, content);
        let full = |number| if large { FULL_32 } else { number };
        let mut fields = Fields(&mut self.bytes);
        fields.u32_or_full(full(packed)).u32_or_full(full(content.size)).u16_or_full(name.len() as u64);
        fields.u16(if large { 20 } else { 0 });
        self.bytes.extend(name.as_bytes());
        if large {
            Fields(&mut self.bytes).u16(ZIP64_EXTRA).u16(16).u64(content.size).u64(packed);
        }
    }

    /// Writes what both headers have: version, flags, method, time, date and CRC.
    fn common(bytes: &mut Vec<u8>, version: u16, name: &str, content: Content) {
        let flags = if name.is_ascii() { 0 } else { UTF8 };
        let method = if content.deflated { 8 } else { 0 };
        Fields(bytes).u16(version).u16(flags).u16(method).u16(0).u16(DATE).u32(content.crc);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Read as _};

    use zip::ZipArchive;

    use super::*;

    fn stored(writer: &mut Writer, name: &str, bytes: &[u8], claimed: u64) {
        let open = writer.begin(name, 0o100_644, claimed);
        writer.write(bytes);
        writer.end(&open, Content { crc: crc32fast::hash(bytes), size: bytes.len() as u64, deflated: false });
    }

    #[test]
    fn what_is_written_is_read_by_a_library_and_its_digest_is_that_of_the_bytes() {
        let mut writer = Writer::new(0);
        stored(&mut writer, "a", b"one", 3);
        stored(&mut writer, "zwölf", b"", 0);
        // A size that needs Zip64 fields, although the bytes are few.
        stored(&mut writer, "large", b"three", FULL_32);
        let (bytes, sha256) = writer.finish();
        assert_eq!(sha256, Digest::of(&bytes));
        let mut zip = ZipArchive::new(Cursor::new(&bytes)).unwrap();
        assert_eq!(zip.file_names().map(Result::unwrap).collect::<Vec<_>>(), ["a", "zwölf", "large"]);
        let mut text = String::new();
        zip.by_name("large").unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "three");
    }

    #[test]
    fn more_entries_than_sixteen_bits_count() {
        let mut writer = Writer::new(0);
        for number in 0..70_000 {
            stored(&mut writer, &number.to_string(), b"x", 1);
        }
        let (bytes, _) = writer.finish();
        assert_eq!(ZipArchive::new(Cursor::new(&bytes)).unwrap().len(), 70_000);
    }
}
