//! Sources as tidy sees them: found, and stripped of comments, literals and unit tests.

use std::path::{Path, PathBuf};

/// A Rust file.
#[derive(Debug)]
pub(crate) struct Source {
    /// Path below the workspace.
    pub(crate) path: PathBuf,
    /// Content.
    pub(crate) text: String,
    /// Content with comments and literals blanked; lines and columns stay.
    pub(crate) code: String,
    /// [`Source::code`] with `#[cfg(test)]` items blanked too.
    pub(crate) shipped: String,
}

/// Returns the workspace's directory.
pub(crate) fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package is in a workspace")
}

/// Returns every Rust file of the workspace's packages.
pub(crate) fn sources() -> Vec<Source> {
    let mut files = Vec::new();
    for member in ["sys", "daemon", "unionfs", "procfs-shim", "runner", "tests", "bench"] {
        collect(&workspace().join(member), &mut files);
    }
    assert!(files.len() > 20, "the sources are found");
    files.sort();
    files.into_iter().map(|f| read(&f)).collect()
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display())) {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
}

fn read(file: &Path) -> Source {
    let text = std::fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let path = file.strip_prefix(workspace()).expect("a file of the workspace").to_path_buf();
    let code = blank_comments_and_literals(&text);
    let shipped = blank_unit_tests(&code);
    Source { path, text, code, shipped }
}

impl Source {
    /// Returns the package's directory.
    pub(crate) fn package(&self) -> &str {
        self.component(0)
    }

    /// Returns the room: the directory or file right below `src`, without extension.
    pub(crate) fn room(&self) -> Option<&str> {
        (self.component(1) == "src").then(|| self.component(2).trim_end_matches(".rs"))
    }

    fn component(&self, n: usize) -> &str {
        self.path.iter().nth(n).and_then(|c| c.to_str()).unwrap_or("")
    }

    /// Whether all of it is test code.
    pub(crate) fn is_test(&self) -> bool {
        self.package() == "tests" || self.path.ends_with("tests.rs")
    }
}

/// Returns `text` with everything but code replaced by blanks.
pub(crate) fn blank_comments_and_literals(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let before = at.checked_sub(1).map(|i| bytes[i]);
        let skip = comment(rest).or_else(|| literal(rest, before));
        match skip {
            Some(n) => {
                out.extend(rest[..n].iter().map(|b| if *b == b'\n' { b'\n' } else { b' ' }));
                at += n;
            }
            None => {
                out.push(rest[0]);
                at += 1;
            }
        }
    }
    String::from_utf8(out).expect("whole characters stay or go")
}

/// Returns the length of the comment that `rest` begins with.
fn comment(rest: &[u8]) -> Option<usize> {
    if rest.starts_with(b"//") {
        return Some(rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len()));
    }
    if !rest.starts_with(b"/*") {
        return None;
    }
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        match &rest[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    Some(at)
}

/// Returns the length of the string or character that `rest` begins with.
fn literal(rest: &[u8], before: Option<u8>) -> Option<usize> {
    if before.is_some_and(is_word) {
        return None;
    }
    let prefix = rest.iter().take_while(|b| matches!(b, b'b' | b'c' | b'r')).count();
    if prefix <= 2 && rest[..prefix].contains(&b'r') {
        let hashes = rest[prefix..].iter().take_while(|b| **b == b'#').count();
        if rest.get(prefix + hashes) == Some(&b'"') {
            let end: Vec<u8> = std::iter::once(b'"').chain(vec![b'#'; hashes]).collect();
            let body = &rest[prefix + hashes + 1..];
            let n = body.windows(end.len()).position(|w| w == end).unwrap_or(body.len());
            return Some((prefix + hashes + 1 + n + end.len()).min(rest.len()));
        }
    }
    match rest {
        [b'b' | b'c', b'"' | b'\'', ..] => literal(&rest[1..], None).map(|n| n + 1),
        [b'"', ..] => Some(quoted(rest, b'"')),
        [b'\'', b'\\', ..] => Some(quoted(rest, b'\'')),
        // A character, which may take several bytes, and not a lifetime.
        [b'\'', ..] => {
            let text = std::str::from_utf8(&rest[1..rest.len().min(6)]);
            let text = text.unwrap_or_else(|e| {
                std::str::from_utf8(&rest[1..1 + e.valid_up_to()]).unwrap_or("")
            });
            let first = text.chars().next()?.len_utf8();
            (rest.get(1 + first) == Some(&b'\'')).then_some(2 + first)
        }
        _ => None,
    }
}

fn quoted(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != quote {
        at += if rest[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

fn is_word(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'_'
}

/// Returns `code` with each item behind `#[cfg(test)]` blanked.
fn blank_unit_tests(code: &str) -> String {
    let mut out = code.as_bytes().to_vec();
    for (start, _) in code.match_indices("#[cfg(test)]") {
        let end = end_of_item(code.as_bytes(), start);
        for b in out[start..end].iter_mut().filter(|b| **b != b'\n') {
            *b = b' ';
        }
    }
    String::from_utf8(out).expect("code is blanked by whole items")
}

/// Returns where the item that starts at `start` ends: after its block, or its semicolon.
pub(crate) fn end_of_item(code: &[u8], start: usize) -> usize {
    let mut depth = 0;
    for (at, b) in code.iter().enumerate().skip(start) {
        match b {
            b'{' => depth += 1,
            b'}' => {
                depth -= 1;
                if depth == 0 {
                    return at + 1;
                }
            }
            b';' if depth == 0 && !inside_brackets(&code[start..at]) => return at + 1,
            _ => {}
        }
    }
    code.len()
}

/// Whether a bracket or parenthesis is open, as in `fn f(a: [u8; 4])`.
fn inside_brackets(code: &[u8]) -> bool {
    let count = |c: u8| code.iter().filter(|b| **b == c).count();
    count(b'(') > count(b')') || count(b'[') > count(b']')
}

/// Returns where `word` stands in `code` as a whole word.
pub(crate) fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let bytes = code.as_bytes();
    code.match_indices(word).map(|(at, _)| at).filter(move |&at| {
        let before = at.checked_sub(1).map(|i| bytes[i]);
        let after = bytes.get(at + word.len()).copied();
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

/// Returns the number of the line that holds the byte `at`, from 1.
pub(crate) fn line_number(code: &str, at: usize) -> usize {
    code[..at].matches('\n').count() + 1
}

#[test]
fn comments_and_literals_are_blanked_and_code_stays() {
    let text = "a(\"// \\\" unsafe\"); 'x' '\\'' 'ä' &'static str /* a /* b */ unsafe */ r#\"\"unsafe\"# b\"u\" // unsafe\nfor";
    let code = blank_comments_and_literals(text);
    assert_eq!(code.len(), text.len());
    let kept: Vec<_> = code.split_whitespace().collect();
    assert_eq!(kept, ["a(", ");", "&'static", "str", "for"]);
}

#[test]
fn unit_tests_are_no_shipped_code() {
    let code = "fn a(x: [u8; 2]) { x }\n#[cfg(test)]\nmod tests {\n fn b() {}\n}\nfn c() {}\n";
    let shipped = blank_unit_tests(code);
    assert!(shipped.contains("fn a") && shipped.contains("fn c") && !shipped.contains("fn b"));
    assert_eq!(end_of_item(code.as_bytes(), 0), code.find('\n').unwrap_or(0));
}
