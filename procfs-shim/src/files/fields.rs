//! Files taken apart into fields: for `explain`.

use crate::cgroup::{MemoryStat, Version};

/// Puts v1's keys of `memory.stat` in the place of v2's, where it has them.
pub fn in_words_of(version: Version, formula: &str) -> String {
    if version == Version::V2 {
        return formula.to_owned();
    }
    let word = |word: &str| {
        let key = MemoryStat::KEYS.iter().find(|(name, _)| *name == word);
        key.and_then(|(_, v1)| *v1).unwrap_or(word).to_owned()
    };
    let words: Vec<String> = formula.split(' ').map(word).collect();
    words.join(" ")
}

/// Takes a file's text apart into fields and their values.
pub fn split<'a>(path: &str, text: &'a str) -> Vec<(&'a str, &'a str)> {
    let words = |names: &[&'static str]| {
        names.iter().copied().zip(text.split_ascii_whitespace()).collect::<Vec<_>>()
    };
    match path {
        "proc/uptime" => words(&["uptime", "idle"]),
        "proc/loadavg" => words(&["1min", "5min", "15min", "threads", "last_pid"]),
        "proc/meminfo" => pairs(text, ':'),
        "proc/cpuinfo" => pairs(text, ':'),
        "proc/stat" | "proc/vmstat" => pairs(text, ' '),
        "proc/slabinfo" => pairs(text, ' '),
        "proc/partitions" => {
            let of = |line: &'a str| (line.split_ascii_whitespace().last(), line.trim());
            let named = text.lines().skip(2).map(of);
            named.filter_map(|(name, line)| Some((name?, line))).collect()
        }
        "proc/swaps" => pairs(text, '\t'),
        "proc/diskstats" => text.lines().map(|line| (name_of_device(line), line.trim())).collect(),
        _ if path.starts_with("proc/pressure/") => pairs(text, ' '),
        _ => vec![("value", text.trim())],
    }
}

fn pairs(text: &str, between: char) -> Vec<(&str, &str)> {
    let pair = text.lines().filter_map(|line| line.split_once(between));
    pair.map(|(name, value)| (name.trim(), value.trim())).collect()
}

fn name_of_device(line: &str) -> &str {
    line.split_ascii_whitespace().nth(2).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formulas_name_the_keys_that_are_read() {
        let formula = "active_anon + active_file";
        assert_eq!(in_words_of(Version::V2, formula), formula);
        assert_eq!(in_words_of(Version::V1, formula), "total_active_anon + total_active_file");
    }

    #[test]
    fn each_field_has_a_name_and_a_value() {
        assert_eq!(split("proc/uptime", "1.00 2.00\n"), [("uptime", "1.00"), ("idle", "2.00")]);
        assert_eq!(split("proc/meminfo", "MemTotal:   5 kB\n"), [("MemTotal", "5 kB")]);
        assert_eq!(split("proc/stat", "cpu  1 2\nbtime 7\n"), [("cpu", "1 2"), ("btime", "7")]);
        assert_eq!(split("proc/diskstats", "   8  0 sda 1 2\n"), [("sda", "8  0 sda 1 2")]);
        assert_eq!(split("sys/devices/system/cpu/online", "0-1\n"), [("value", "0-1")]);
    }
}
