//! Extended headers (pax(1), and GNU's and star's keys in them).

use sys::stat::Time;

use crate::error::{Error, Result};

/// What extended headers say of one entry; nothing where they don't.
#[derive(Clone, Debug, Default)]
pub(super) struct Pax {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) mtime: Option<Time>,
    /// `SCHILY.xattr.NAME`.
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) sparse: SparseKeys,
}

/// `GNU.sparse.*`.
#[derive(Clone, Debug, Default)]
pub(super) struct SparseKeys {
    pub(super) major: Option<u64>,
    pub(super) minor: Option<u64>,
    pub(super) name: Option<Vec<u8>>,
    pub(super) real_size: Option<u64>,
    /// The map of versions 0.0 and 0.1, as alternating offsets and lengths.
    pub(super) map: Vec<u64>,
}

impl Pax {
    /// Reads the records of a header on top of those before it.
    pub(super) fn read(&mut self, data: &[u8]) -> Result<()> {
        // Not by `tar::PaxExtensions`, for which a value ends at a newline.
        let mut rest = data;
        while rest.first().is_some_and(|&b| b != 0) {
            let (record, next) =
                record(rest).ok_or_else(|| bad("a record is not as long as it says"))?;
            let equals = record
                .iter()
                .position(|&b| b == b'=')
                .ok_or_else(|| bad("a record has no value"))?;
            let (key, value) = record.split_at(equals);
            self.set(key, value.get(1..).unwrap_or_default())?;
            rest = next;
        }
        Ok(())
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let bytes = || Some(value.to_vec()).filter(|v| !v.is_empty());
        match key {
            b"path" => self.path = bytes(),
            b"linkpath" => self.link = bytes(),
            b"size" => self.size = Some(number(key, value)?),
            b"uid" => self.uid = Some(number(key, value)?),
            b"gid" => self.gid = Some(number(key, value)?),
            b"mtime" => self.mtime = Some(time(value).ok_or_else(|| no_number(key, value))?),
            b"GNU.sparse.major" => self.sparse.major = Some(number(key, value)?),
            b"GNU.sparse.minor" => self.sparse.minor = Some(number(key, value)?),
            b"GNU.sparse.name" => self.sparse.name = bytes(),
            b"GNU.sparse.size" | b"GNU.sparse.realsize" => {
                self.sparse.real_size = Some(number(key, value)?);
            }
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => {
                self.sparse.map.push(number(key, value)?);
            }
            b"GNU.sparse.map" => {
                let parts = value.split(|&b| b == b',').filter(|p| !p.is_empty());
                self.sparse.map = parts.map(|p| number(key, p)).collect::<Result<_>>()?;
            }
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.xattrs.retain(|(n, _)| n != name);
                    self.xattrs.push((name.to_vec(), value.to_vec()));
                }
            }
        }
        Ok(())
    }
}

/// Takes `LENGTH KEY=VALUE\n` from the start, and returns `KEY=VALUE` and the rest.
fn record(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = data.iter().take(20).position(|&b| b == b' ')?;
    let length = number(b"length", data.get(..space)?).ok()?;
    let (record, rest) = data.split_at_checked(usize::try_from(length).ok()?)?;
    Some((record.get(space + 1..)?.strip_suffix(b"\n")?, rest))
}

fn bad(why: &str) -> Error {
    Error::new("read archive", format!("an extended header is broken: {why}"))
}

fn no_number(key: &[u8], value: &[u8]) -> Error {
    let text = |b: &[u8]| String::from_utf8_lossy(b).chars().take(40).collect::<String>();
    bad(&format!("{}={:?} is no number", text(key), text(value)))
}

pub(super) fn number(key: &[u8], value: &[u8]) -> Result<u64> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    let parsed = std::str::from_utf8(value).ok().and_then(|t| t.parse().ok());
    parsed.filter(|_| digits).ok_or_else(|| no_number(key, value))
}

/// Reads seconds since 1970 with a fraction, which may be negative as a whole.
fn time(value: &[u8]) -> Option<Time> {
    let text = std::str::from_utf8(value).ok()?;
    let (is_negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if whole.is_empty() || !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
        return None;
    }
    let sec: i64 = whole.parse().ok()?;
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let nsec: u32 = digits.parse().ok()?;
    Some(match (is_negative, nsec) {
        (false, _) => Time { sec, nsec },
        (true, 0) => Time { sec: -sec, nsec },
        (true, _) => Time { sec: -sec - 1, nsec: 1_000_000_000 - nsec },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_nanoseconds_and_may_be_before_1970() {
        assert_eq!(time(b"1.5"), Some(Time { sec: 1, nsec: 500_000_000 }));
        assert_eq!(time(b"-1.25"), Some(Time { sec: -2, nsec: 750_000_000 }));
        assert_eq!(time(b"7"), Some(Time { sec: 7, nsec: 0 }));
        for bad in ["", ".5", "1.2.3", "x", "1e3", "--1", "99999999999999999999"] {
            assert_eq!(time(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn records_are_read() {
        let mut pax = Pax::default();
        for bad in ["8 path=a\n", "10 path=a", "11 size=1x\n", "99999 path=a\n", "x", "5 a b\n"] {
            pax.read(bad.as_bytes()).unwrap_err();
        }
        let mut pax = Pax::default();
        pax.read(b"10 path=a\n30 SCHILY.xattr.user.x=a\nb=\0\xff\n").unwrap();
        assert_eq!(pax.xattrs, [(b"user.x".to_vec(), b"a\nb=\0\xff".to_vec())]);
    }
}
