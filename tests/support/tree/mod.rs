//! Directory trees as text, for setup and for comparison.
//!
//! One line an object: `KIND PATH [MODE] [UID:GID] [KEY=VALUE …]`, `#` starts a comment.
//!
//! | kind | object | what may follow |
//! |---|---|---|
//! | `d` | directory | |
//! | `f` | file | `"text"`, or `size=N` for N bytes of a fixed pattern, or `hole=N` for N bytes without data |
//! | `l` | symlink | `->TARGET` |
//! | `h` | hard link | `=PATH` of the other name |
//! | `p` `s` | FIFO, socket | |
//! | `c` `b` | device | `dev=MAJOR:MINOR` |
//! | `w` | whiteout of overlayfs: a character device 0:0 | |
//! | `o` | opaque directory of overlayfs | |
//!
//! Further keys: `mtime=SECONDS`, `x:NAME=VALUE` for an extended attribute. `\xNN` stands for any
//! byte. Missing parents are made, missing modes are 0755 and 0644, missing owners 0:0, and missing
//! times [`OLD`], so that a time that a copy-up lost shows.

mod diff;
mod line;
mod read;
mod write;

pub use diff::{assert_looks_like, assert_same, difference};
pub use line::{Content, Kind, Line, escape, parse, unescape};
pub use read::{Node, Show, Tree, listing_agrees_with_stat};
pub use write::{pattern, write};

/// Modification time of everything that is laid out without another one: 2001-09-09.
pub const OLD: i64 = 1_000_000_000;

/// Undoes the `\040` notation of /proc/self/mountinfo.
pub fn unescape_octal(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        let code = tail.get(..3).and_then(|d| std::str::from_utf8(d).ok());
        match code.and_then(|d| u8::from_str_radix(d, 8).ok()) {
            Some(byte) if *first == b'\\' => {
                out.push(byte);
                rest = &tail[3..];
            }
            _ => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    out
}
