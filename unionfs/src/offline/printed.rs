//! Names for people and their scripts: one line each, whatever bytes strangers chose.

use std::fmt::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Prints a path with `\ooo` for control characters, backslashes and what is no UTF-8, as
/// /proc/self/mountinfo does: nothing in a name can end a line or steer a terminal, and each name
/// can be had back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Printed<'a>(pub(super) &'a Path);

impl fmt::Display for Printed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let octal = |f: &mut fmt::Formatter<'_>, bytes: &[u8]| {
            bytes.iter().try_for_each(|b| write!(f, "\\{b:03o}"))
        };
        for chunk in self.0.as_os_str().as_bytes().utf8_chunks() {
            for c in chunk.valid().chars() {
                match c {
                    c if c.is_control() || c == '\\' => {
                        octal(f, c.encode_utf8(&mut [0; 4]).as_bytes())?;
                    }
                    c => f.write_char(c)?,
                }
            }
            octal(f, chunk.invalid())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_on_their_line() {
        let printed =
            |bytes: &[u8]| Printed(Path::new(std::ffi::OsStr::from_bytes(bytes))).to_string();
        assert_eq!(printed("/a b/é".as_bytes()), "/a b/é");
        assert_eq!(printed(b"/a\nD /etc"), r"/a\012D /etc");
        assert_eq!(printed(b"/\x1b[2J\\\xff"), r"/\033[2J\134\377");
        assert_eq!(printed("/\u{9b}".as_bytes()), r"/\302\233");
    }
}
