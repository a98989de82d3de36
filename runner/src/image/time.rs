//! Points in time as images have them (RFC 3339) and as people read them.

use jiff::Timestamp;

/// Seconds since 1970.
pub(crate) type Seconds = i64;

/// Returns now; `SOURCE_DATE_EPOCH` may say another time, so that equal content makes equal images.
pub(crate) fn now() -> Seconds {
    let given = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|v| v.parse().ok());
    given.unwrap_or_else(clock)
}

fn clock() -> Seconds {
    Timestamp::now().as_second()
}

/// Writes a time in UTC.
pub(crate) fn rfc3339(at: Seconds) -> String {
    Timestamp::from_second(at).unwrap_or_default().to_string()
}

/// Reads a time in any zone; fractions are dropped.
pub(crate) fn parse(text: &str) -> Option<Seconds> {
    text.parse::<Timestamp>().ok().map(Timestamp::as_second)
}

/// Says how long ago a time is, as podman does.
pub(crate) fn ago(at: Seconds) -> String {
    let seconds = clock().saturating_sub(at);
    let units = [
        (31_536_000, "year"),
        (2_592_000, "month"),
        (604_800, "week"),
        (86_400, "day"),
        (3600, "hour"),
        (60, "minute"),
        (1, "second"),
    ];
    match units.iter().find(|(length, _)| seconds >= *length) {
        Some((length, unit)) => {
            let n = seconds / length;
            format!("{n} {unit}{} ago", if n == 1 { "" } else { "s" })
        }
        None => "less than a second ago".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_written() {
        for text in [
            "1970-01-01T00:00:00Z",
            "2000-02-29T23:59:59Z",
            "2026-11-21T14:00:00Z",
            "1969-12-31T23:59:59Z",
        ] {
            assert_eq!(rfc3339(parse(text).unwrap()), text);
        }
        assert_eq!(parse("2026-01-01T01:00:00.123456789+01:00"), parse("2026-01-01T00:00:00Z"));
        assert_eq!(parse("yesterday"), None);
    }
}
