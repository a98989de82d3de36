//! Times as people and other programs write them.

use jiff::Timestamp;

/// Nanoseconds of a second.
const SECOND: u64 = 1_000_000_000;

/// Returns a time, in nanoseconds since 1970, as RFC 3339 has it, in UTC.
pub(crate) fn rfc3339(time: u64) -> String {
    let time = Timestamp::from_nanosecond(i128::from(time)).unwrap_or_default();
    format!("{time:.9}")
}

/// Returns how long something takes, as podman's lists have it: "5 seconds", "About a minute", "3 hours".
pub(crate) fn span(nanoseconds: u64) -> String {
    let seconds = nanoseconds / SECOND;
    let many = |n: u64, unit: &str| format!("{n} {unit}");
    match seconds {
        0 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..60 => many(seconds, "seconds"),
        60..120 => "About a minute".to_owned(),
        120..3600 => many(seconds / 60, "minutes"),
        3600..7200 => "About an hour".to_owned(),
        7200..172_800 => many(seconds / 3600, "hours"),
        172_800..1_209_600 => many(seconds / 86400, "days"),
        1_209_600..5_184_000 => many(seconds / 604_800, "weeks"),
        5_184_000..63_072_000 => many(seconds / 2_592_000, "months"),
        _ => many(seconds / 31_536_000, "years"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_dates() {
        let rows = [
            (0, "1970-01-01T00:00:00.000000000Z"),
            (951_782_400, "2000-02-29T00:00:00.000000000Z"),
            (1_709_251_199, "2024-02-29T23:59:59.000000000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000000000Z"),
        ];
        for (seconds, text) in rows {
            assert_eq!(rfc3339(seconds * SECOND), text);
        }
        assert_eq!(rfc3339(1), "1970-01-01T00:00:00.000000001Z");
    }

    #[test]
    fn spans_are_rough() {
        assert_eq!(span(5 * SECOND), "5 seconds");
        assert_eq!(span(7300 * SECOND), "2 hours");
    }
}
