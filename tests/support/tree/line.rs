//! One line of a tree literal: parsed, and escaped bytes.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

/// Type of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `d`
    Dir,
    /// `f`
    File,
    /// `l`
    Symlink,
    /// `h`
    HardLink,
    /// `p`
    Fifo,
    /// `s`
    Socket,
    /// `c`
    Char,
    /// `b`
    Block,
    /// `w`
    Whiteout,
    /// `o`
    Opaque,
}

/// What a file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// These bytes.
    Bytes(Vec<u8>),
    /// This many bytes of [`super::pattern`].
    Pattern(u64),
    /// This many bytes without data.
    Hole(u64),
}

/// One object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Type.
    pub kind: Kind,
    /// Path below the root of the tree.
    pub path: PathBuf,
    /// Permission bits.
    pub mode: Option<u32>,
    /// Owner and group.
    pub owner: (u32, u32),
    /// Content of a file.
    pub content: Content,
    /// Content of a symlink, or other name of a hard link.
    pub target: OsString,
    /// Numbers of a device.
    pub device: (u64, u64),
    /// Modification time.
    pub mtime: i64,
    /// Extended attributes.
    pub xattrs: Vec<(OsString, Vec<u8>)>,
}

/// Parses a literal.
///
/// # Panics
/// It has a mistake; the message shows the line.
pub fn parse(literal: &str) -> Vec<Line> {
    let lines = literal.lines().map(str::trim);
    lines.filter(|l| !l.is_empty() && !l.starts_with('#')).map(parse_line).collect()
}

fn parse_line(text: &str) -> Line {
    let mut words = words(text).into_iter();
    let mut next = || words.next().unwrap_or_else(|| panic!("incomplete line `{text}`"));
    let kind = match next().as_str() {
        "d" => Kind::Dir,
        "f" => Kind::File,
        "l" => Kind::Symlink,
        "h" => Kind::HardLink,
        "p" => Kind::Fifo,
        "s" => Kind::Socket,
        "c" => Kind::Char,
        "b" => Kind::Block,
        "w" => Kind::Whiteout,
        "o" => Kind::Opaque,
        other => panic!("unknown kind `{other}` in `{text}`"),
    };
    let mut line = Line {
        kind,
        path: PathBuf::from(unescape(&next())),
        mode: None,
        owner: (0, 0),
        content: Content::Bytes(Vec::new()),
        target: OsString::new(),
        device: (0, 0),
        mtime: super::OLD,
        xattrs: Vec::new(),
    };
    for word in words {
        if !apply(&mut line, &word) {
            panic!("can't read `{word}` in `{text}`");
        }
    }
    line
}

/// Applies one word to a line; returns whether it means anything.
fn apply(line: &mut Line, word: &str) -> bool {
    let pair = |text: &str| {
        let (a, b) = text.split_once(':')?;
        Some((a.parse::<u64>().ok()?, b.parse::<u64>().ok()?))
    };
    if let Some(text) = word.strip_prefix('"').and_then(|w| w.strip_suffix('"')) {
        line.content = Content::Bytes(unescape(text).into_vec());
    } else if let Some(target) = word.strip_prefix("->").or_else(|| word.strip_prefix('=')) {
        line.target = unescape(target);
    } else if let Some(n) = word.strip_prefix("size=").and_then(|n| n.parse().ok()) {
        line.content = Content::Pattern(n);
    } else if let Some(n) = word.strip_prefix("hole=").and_then(|n| n.parse().ok()) {
        line.content = Content::Hole(n);
    } else if let Some(n) = word.strip_prefix("mtime=").and_then(|n| n.parse().ok()) {
        line.mtime = n;
    } else if let Some(device) = word.strip_prefix("dev=").and_then(pair) {
        line.device = device;
    } else if let Some((name, value)) = word.strip_prefix("x:").and_then(|w| w.split_once('=')) {
        line.xattrs.push((unescape(name), unescape(value).into_vec()));
    } else if let Some((uid, gid)) = pair(word) {
        line.owner = (uid as u32, gid as u32);
    } else if let Ok(mode) = u32::from_str_radix(word, 8) {
        line.mode = Some(mode);
    } else {
        return false;
    }
    true
}

/// Splits at blanks, except inside quotes.
fn words(text: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut word = String::new();
    let mut quoted = false;
    for c in text.chars() {
        if c == '"' {
            quoted = !quoted;
        }
        if c.is_whitespace() && !quoted {
            all.extend((!word.is_empty()).then(|| std::mem::take(&mut word)));
        } else {
            word.push(c);
        }
    }
    all.extend((!word.is_empty()).then_some(word));
    all
}

/// Returns bytes as a word of a literal.
pub fn escape(bytes: &[u8]) -> String {
    let mut out = String::new();
    for &b in bytes {
        match b {
            b'\\' | b'"' => out.push_str(&format!("\\x{b:02x}")),
            b'!'..=b'~' => out.push(char::from(b)),
            _ => out.push_str(&format!("\\x{b:02x}")),
        }
    }
    out
}

/// Returns the bytes that a word of a literal stands for.
pub fn unescape(word: &str) -> OsString {
    let mut out = Vec::new();
    let mut rest = word.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = tail.strip_prefix(b"x").and_then(|t| t.get(..2));
        let byte = hex.and_then(|h| u8::from_str_radix(&String::from_utf8_lossy(h), 16).ok());
        match byte {
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
    OsStr::from_bytes(&out).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_everything() {
        let lines = parse(r#"f a/b\x20c 4755 1:2 "two words" mtime=5 x:user.n=v\x00"#);
        let [line] = &lines[..] else { panic!("one line") };
        assert_eq!((line.kind, line.path.as_os_str()), (Kind::File, OsStr::new("a/b c")));
        assert_eq!((line.mode, line.owner, line.mtime), (Some(0o4755), (1, 2), 5));
        assert_eq!(line.content, Content::Bytes(b"two words".to_vec()));
        assert_eq!(line.xattrs, [("user.n".into(), b"v\0".to_vec())]);
    }

    #[test]
    fn any_byte_survives_escaping() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(unescape(&escape(&all)).as_bytes(), all);
    }
}
