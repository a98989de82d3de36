//! Lists and objects as people and programs want them: tables, JSON, and the part of Go's templates that
//! podman's `--format` is used with: `{{.A.B}}`, `{{json .A}}`, `{{"text"}}`, `\t` and `\n`.

use serde_json::Value;

use crate::error::{Error, Result};

/// How to show things.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// A table for people.
    Table,
    /// JSON.
    Json,
    /// A template, with a line of headings first or not.
    Template {
        /// With `table` before it.
        headings: bool,
        /// The template.
        text: String,
    },
}

impl Format {
    /// Reads what `--format` and `--json` say.
    pub(crate) fn of(format: Option<&str>, json: bool) -> Format {
        match format {
            None if json => Format::Json,
            None | Some("table") => Format::Table,
            Some("json") => Format::Json,
            Some(text) => match text.strip_prefix("table ") {
                Some(text) => Format::Template { headings: true, text: text.to_owned() },
                None => Format::Template { headings: false, text: text.to_owned() },
            },
        }
    }

    /// Returns a list as text; `columns` are headings and fields of the table.
    pub(crate) fn list(&self, columns: &[(&str, &str)], rows: &[Value]) -> Result<String> {
        match self {
            Format::Json => Ok(pretty(&Value::Array(rows.to_vec()))),
            Format::Table => {
                let head = columns.iter().map(|(name, _)| (*name).to_owned()).collect();
                let cells = |row: &Value| {
                    columns.iter().map(|(_, field)| plain(row.get(*field))).collect::<Vec<_>>()
                };
                let mut all: Vec<Vec<String>> = vec![head];
                all.extend(rows.iter().map(cells));
                Ok(table(&all))
            }
            Format::Template { headings, text } => {
                let lines = rows.iter().map(|row| render(text, row)).collect::<Result<Vec<_>>>()?;
                if !headings {
                    return Ok(lines.into_iter().map(|l| l + "\n").collect());
                }
                let names =
                    columns.iter().map(|(name, field)| ((*field).to_owned(), (*name).into()));
                let head = render(text, &Value::Object(names.collect()))?;
                let split = |l: &String| l.split('\t').map(str::to_owned).collect::<Vec<_>>();
                let all: Vec<Vec<String>> =
                    std::iter::once(&head).chain(&lines).map(split).collect();
                Ok(table(&all))
            }
        }
    }

    /// Returns objects as `inspect` shows them.
    pub(crate) fn objects(&self, all: Vec<Value>) -> Result<String> {
        match self {
            Format::Table | Format::Json => Ok(pretty(&Value::Array(all))),
            Format::Template { text, .. } => {
                all.iter().map(|v| Ok(render(text, v)? + "\n")).collect()
            }
        }
    }
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).map_or_else(|e| e.to_string(), |s| s + "\n")
}

/// Returns rows with their columns below each other.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |n: usize| rows.iter().filter_map(|r| r.get(n)).map(|c| c.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|n| width(n).unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let mut text = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            text.push_str(cell);
            text.extend(std::iter::repeat_n(' ', width + 2 - cell.chars().count().min(*width)));
        }
        text.trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

/// Fills a template in.
pub(crate) fn render(template: &str, value: &Value) -> Result<String> {
    let template = template.replace("\\t", "\t").replace("\\n", "\n");
    let mut out = String::new();
    let mut rest = template.as_str();
    while let Some((before, after)) = rest.split_once("{{") {
        out.push_str(before);
        let (inside, after) = after
            .split_once("}}")
            .ok_or_else(|| Error::new("--format", "a {{ has no }}").at(&template))?;
        out.push_str(&expression(inside.trim().trim_matches('-').trim(), value)?);
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

fn expression(text: &str, value: &Value) -> Result<String> {
    if let Some(quoted) = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')) {
        return Ok(quoted.to_owned());
    }
    let (as_json, path) = match text.strip_prefix("json ") {
        Some(path) => (true, path.trim()),
        None => (false, text),
    };
    let Some(path) = path.strip_prefix('.') else {
        return Err(Error::new("--format", format!("`{text}` is not understood"))
            .hint("fields, such as {{.Name}}, and {{json .Name}} are"));
    };
    let mut at = value;
    for name in path.split('.').filter(|n| !n.is_empty()) {
        at = find(at, name).ok_or_else(|| {
            let names = value.as_object().map(|o| o.keys().cloned().collect::<Vec<_>>());
            Error::new("--format", format!("there is no field {name}"))
                .hint(format!("there are {}", names.unwrap_or_default().join(", ")))
        })?;
    }
    Ok(if as_json { at.to_string() } else { plain(Some(at)) })
}

/// Finds a field, by its name in letters of any size: podman spells some in two ways.
fn find<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    let object = value.as_object()?;
    let same = |key: &&String| key.eq_ignore_ascii_case(name);
    object.get(name).or_else(|| object.keys().find(same).and_then(|key| object.get(key)))
}

/// Returns a value as text.
fn plain(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(all)) => all.iter().map(|v| plain(Some(v))).collect::<Vec<_>>().join(","),
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn templates_name_fields() {
        let v = json!({"Name": "a", "State": {"Pid": 7}, "List": ["x", "y"]});
        assert_eq!(render("{{.Name}}\\t{{ .State.Pid }}", &v).unwrap(), "a\t7");
        assert_eq!(render("{{json .List}} {{.list}}{{\"!\"}}", &v).unwrap(), "[\"x\",\"y\"] x,y!");
        for bad in ["{{.Nope}}", "{{.Name", "{{range .List}}"] {
            assert!(render(bad, &v).is_err(), "{bad}");
        }
    }

    #[test]
    fn columns_are_below_each_other() {
        let rows = [json!({"A": "long", "B": "x"}), json!({"A": "s", "B": "y"})];
        let text = Format::Table.list(&[("ONE", "A"), ("TWO", "B")], &rows).unwrap();
        assert_eq!(text, "ONE   TWO\nlong  x\ns     y\n");
        let f = Format::of(Some("table {{.B}}\\t{{.A}}"), false);
        assert_eq!(
            f.list(&[("ONE", "A"), ("TWO", "B")], &rows).unwrap().lines().next(),
            Some("TWO  ONE")
        );
    }
}
