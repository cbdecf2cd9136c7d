//! Deflate. What comes out depends on what goes in and on nothing of this machine: not on its processor, and not on the
//! number of its threads.

use std::ops::Range;

use flate2::{Compress, Compression, FlushCompress, Status};
use libdeflater::{CompressionLvl, Compressor};

/// The level at which more work no longer pays, and the one that still does in files of some hundred KiB: there it takes
/// less time for each byte that it saves than anywhere else.
const LEVELS: [i32; 2] = [6, 7];
const MIDDLE: Range<usize> = 128 << 10..512 << 10;
/// The level of parts.
const PARTS: u32 = 6;

/// How far back deflate looks (RFC 1951).
pub const WINDOW: usize = 32 << 10;

/// Deflates whole files. A thread keeps one for all of its files.
pub struct Deflate {
    most: Compressor,
    middle: Compressor,
    scratch: Vec<u8>,
}

impl Deflate {
    /// Takes the memory that is needed.
    pub fn new() -> Self {
        let [most, middle] = LEVELS.map(|level| Compressor::new(CompressionLvl::new(level).unwrap_or_default()));
        Self { most, middle, scratch: Vec::new() }
    }

    /// Deflates a file as a whole; none where that does not make it smaller.
    pub fn whole(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        // With less room than the file itself, the library gives up as soon as it does not pay.
        if self.scratch.len() < bytes.len() {
            self.scratch.resize(bytes.len(), 0);
        }
        let compressor = if MIDDLE.contains(&bytes.len()) { &mut self.middle } else { &mut self.most };
        let packed = compressor.deflate_compress(bytes, &mut self.scratch[..bytes.len()]).ok()?;
        (packed < bytes.len()).then(|| self.scratch[..packed].to_vec())
    }
}

/// Deflates a part of a file, knowing the end of the part before it. All parts one after the other are one stream, as
/// pigz makes them.
pub fn part(before: &[u8], bytes: &[u8], is_last: bool) -> Vec<u8> {
    let mut stream = Compress::new(Compression::new(PARTS), false);
    if !before.is_empty() {
        // It fails for streams with a header only.
        let _ = stream.set_dictionary(before);
    }
    let flush = if is_last { FlushCompress::Finish } else { FlushCompress::Sync };
    let mut packed = Vec::with_capacity(bytes.len() / 2 + 1024);
    loop {
        let taken = usize::try_from(stream.total_in()).unwrap_or(usize::MAX).min(bytes.len());
        let status = stream.compress_vec(&bytes[taken..], &mut packed, flush);
        let has_room = packed.len() < packed.capacity();
        match status {
            Ok(Status::StreamEnd) => break,
            // A flush is complete when it leaves room.
            Ok(_) | Err(_) if has_room && !is_last => break,
            Ok(_) | Err(_) => packed.reserve(bytes.len() / 4 + 1024),
        }
    }
    packed
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::DeflateDecoder;
    use proptest::prelude::*;

    use super::*;

    fn inflate(packed: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        DeflateDecoder::new(packed).read_to_end(&mut bytes).unwrap();
        bytes
    }

    proptest! {
        #[test]
        fn whole_files_come_back_or_are_not_worth_it(bytes in prop::collection::vec(0_u8..8, 0..5000)) {
            if let Some(packed) = Deflate::new().whole(&bytes) {
                prop_assert!(packed.len() < bytes.len());
                prop_assert_eq!(inflate(&packed), bytes);
            }
        }

        #[test]
        fn parts_are_one_stream(bytes in prop::collection::vec(0_u8..255, 1..5000), size in 200_usize..3000, same in any::<bool>()) {
            let (bytes, size) = if same { (vec![7; bytes.len() * 100], size * 100) } else { (bytes, size) };
            let count = bytes.len().div_ceil(size);
            let mut packed = Vec::new();
            for (number, chunk) in bytes.chunks(size).enumerate() {
                let start = number * size;
                packed.extend(part(&bytes[start.saturating_sub(WINDOW)..start], chunk, number + 1 == count));
            }
            prop_assert_eq!(inflate(&packed), bytes);
        }
    }

    #[test]
    fn what_does_not_pay_is_left_alone() {
        let mut random = fastrand::Rng::with_seed(1);
        let noise: Vec<u8> = (0..10_000).map(|_| random.u8(..)).collect();
        assert_eq!(Deflate::new().whole(&noise), None);
        assert_eq!(Deflate::new().whole(b""), None);
        assert_eq!(inflate(&part(b"", &noise, true)), noise);
    }
}
