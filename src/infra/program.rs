//! Whether a file is a program that a build can run: static, for Linux on x86-64.

/// The number of x86-64 in an ELF header.
const X86_64: usize = 62;
/// The kind of a program header that names the dynamic linker.
const INTERPRETER: usize = 3;

/// Checks the headers of a program.
/// Source: <https://refspecs.linuxfoundation.org/elf/gabi4+/ch4.eheader.html>
///
/// # Errors
///
/// Says why a build could not run it.
pub fn check_program(bytes: &[u8]) -> Result<(), &'static str> {
    let number = |at: usize, length: usize| {
        let field = bytes.get(at..at.checked_add(length)?)?;
        Some(field.iter().rev().fold(0_usize, |sum, byte| (sum << 8) | usize::from(*byte)))
    };
    if !bytes.starts_with(b"\x7fELF\x02\x01") || number(18, 2) != Some(X86_64) {
        return Err("is not for Linux on x86-64");
    }
    let (Some(headers), Some(size), Some(count)) = (number(32, 8), number(54, 2), number(56, 2)) else {
        return Err("is cut off");
    };
    let kind = |place: usize| number(headers.checked_add(place * size)?, 4);
    if (0..count).any(|place| kind(place) == Some(INTERPRETER)) { Err("is not static") } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dynamic_program_and_a_script_are_refused() {
        let mut program = b"\x7fELF\x02\x01\x01".to_vec();
        program.resize(64 + 56, 0);
        (program[18], program[32], program[54], program[56]) = (62, 64, 56, 1);
        assert_eq!(check_program(&program), Ok(()));
        program[64] = 3;
        assert_eq!(check_program(&program), Err("is not static"));
        assert!(check_program(&program[..40]).is_err());
        assert!(check_program(b"#!/bin/sh\n").is_err());
    }
}
