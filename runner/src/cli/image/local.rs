//! Images here: images, rmi, tag, untag, history, inspect, prune.

use super::args::{HistoryArgs, ListArgs, PruneArgs, RemoveArgs, TagArgs, UntagArgs};
use super::{container, each, line};
use serde_json::Value;

use crate::cli::format::Format;
use crate::cli::print;
use crate::error::{Error, Result};
use crate::image::{self, ImageStore, Leftover, Reference, Removed, SIZE_MAX, inside};
use crate::store::Store;

pub(super) fn list(args: &ListArgs, store: &Store) -> Result<u8> {
    let images = ImageStore::of(store);
    let index = images.index()?;
    let mut rows = image::rows(&index);
    if let Some(word) = &args.image {
        let names: Vec<String> =
            Reference::candidates(word).iter().map(Reference::repository).collect();
        let tag = Reference::candidates(word).first().and_then(|r| r.tag.clone());
        let has_tag = word.rsplit('/').next().is_some_and(|last| last.contains(':'));
        let text =
            |row: &Value, key: &str| row.get(key).and_then(Value::as_str).unwrap_or("").to_owned();
        rows.retain(|r| {
            let same_tag = !has_tag || tag.as_deref() == Some(&text(r, "Tag"));
            names.contains(&text(r, "Repository")) && same_tag
        });
    }
    for filter in &args.filter {
        rows = filtered(rows, filter)?;
    }
    if args.no_trunc {
        for row in rows.iter_mut().filter_map(Value::as_object_mut) {
            let id = row.get("Id").and_then(Value::as_str).map(|id| format!("sha256:{id}"));
            row.insert("ID".into(), id.into());
        }
    }
    if args.quiet {
        let mut seen = std::collections::BTreeSet::new();
        let ids = rows.iter().filter_map(|r| r.get("ID")?.as_str()).filter(|id| seen.insert(*id));
        print(&ids.map(|id| format!("{id}\n")).collect::<String>())?;
        return Ok(0);
    }
    let mut columns = vec![("REPOSITORY", "Repository"), ("TAG", "Tag")];
    if args.digests {
        columns.push(("DIGEST", "Digest"));
    }
    columns.extend([("IMAGE ID", "ID"), ("CREATED", "Created"), ("SIZE", "Size")]);
    let text = Format::of(args.format.as_deref(), args.json).list(&columns, &rows)?;
    let text = match args.noheading && args.format.is_none() && !args.json {
        true => text.split_once('\n').map_or("", |(_, rest)| rest).to_owned(),
        false => text,
    };
    print(&text)?;
    Ok(0)
}

fn filtered(rows: Vec<Value>, filter: &str) -> Result<Vec<Value>> {
    let wrong = |what: &str| Error::new(format!("--filter {filter}"), what);
    let (key, value) = filter.split_once('=').ok_or_else(|| wrong("write KEY=VALUE"))?;
    match key {
        "dangling" => {
            let wanted = value.parse::<bool>().map_err(|_| wrong("it is true or false"))?;
            Ok(rows
                .into_iter()
                .filter(|r| r.get("Dangling") == Some(&Value::Bool(wanted)))
                .collect())
        }
        "reference" => {
            let text =
                |r: &Value, key: &str| r.get(key).and_then(Value::as_str).unwrap_or("").to_owned();
            let matches = |r: &Value| {
                let (repository, tag) = (text(r, "Repository"), text(r, "Tag"));
                let last = repository.rsplit('/').next().unwrap_or("").to_owned();
                let whole =
                    [format!("{repository}:{tag}"), format!("{last}:{tag}"), repository, last];
                whole.iter().any(|name| glob(value.as_bytes(), name.as_bytes()))
            };
            Ok(rows.into_iter().filter(matches).collect())
        }
        _ => Err(wrong("there is no such filter").hint("there are dangling and reference")),
    }
}

/// Whether a pattern with `*` and `?` is the whole text.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), None) => glob(rest, text),
        (Some((b'*', rest)), Some((_, after))) => glob(rest, text) || glob(pattern, after),
        (Some((b'?', rest)), Some((_, after))) => glob(rest, after),
        (Some((p, rest)), Some((t, after))) if p == t => glob(rest, after),
        _ => false,
    }
}

pub(super) fn remove(args: &RemoveArgs, store: &Store) -> Result<u8> {
    let images = ImageStore::of(store);
    let in_use = container::in_use(store)?;
    inside(SIZE_MAX, |_| {
        let words: Vec<String> = match args.all {
            true => images.index()?.images.keys().map(|id| id.hex().to_owned()).collect(),
            false => args.images.clone(),
        };
        each(&words, |word| {
            if args.ignore && images.index()?.find(word).is_err() {
                return Ok(());
            }
            for removed in image::remove(&images, word, args.force || args.all, &in_use)? {
                match removed {
                    Removed::Name(name) => line(format_args!("Untagged: {name}"))?,
                    Removed::Image(id) => line(format_args!("Deleted: {}", id.hex()))?,
                }
            }
            Ok(())
        })
    })
}

pub(super) fn prune(args: &PruneArgs, store: &Store) -> Result<u8> {
    let images = ImageStore::of(store);
    let in_use = container::in_use(store)?;
    let which = if args.all { Leftover::Unused } else { Leftover::Nameless };
    inside(SIZE_MAX, |_| {
        let (gone, bytes) = image::prune(&images, which, &in_use)?;
        for id in gone {
            line(id.hex())?;
        }
        line(format_args!("Total reclaimed space: {}", image::size(bytes)))?;
        Ok(0)
    })
}

pub(super) fn tag(args: &TagArgs, store: &Store) -> Result<u8> {
    let names = args.names.iter().map(|n| Reference::local(n)).collect::<Result<Vec<_>>>()?;
    let images = ImageStore::of(store);
    let _held = images.use_lock()?;
    images.change(|index| {
        let found = index.find(&args.image)?;
        for name in names {
            index.names.insert(name.to_string(), found.id.clone());
        }
        Ok(0)
    })
}

pub(super) fn untag(args: &UntagArgs, store: &Store) -> Result<u8> {
    ImageStore::of(store).change(|index| {
        let found = index.find(&args.image)?;
        let have = index.names_of(&found.id);
        let mut names = Vec::new();
        for name in &args.names {
            let candidates = Reference::candidates(name);
            let own = candidates.iter().map(ToString::to_string).find(|c| have.contains(c));
            names.push(
                own.ok_or_else(|| Error::new("untag", format!("the image is not called {name}")))?,
            );
        }
        for name in if names.is_empty() { have } else { names } {
            index.names.remove(&name);
        }
        Ok(0)
    })
}

pub(super) fn history(args: &HistoryArgs, store: &Store) -> Result<u8> {
    let images = ImageStore::of(store);
    let index = images.index()?;
    let found = index.find(&args.image)?;
    let mut rows = image::history(&images, &index, &found.id)?;
    if !args.no_trunc && !args.json && args.format.is_none() {
        for row in rows.iter_mut().filter_map(Value::as_object_mut) {
            let by = row.get("CreatedBy").and_then(Value::as_str).unwrap_or("").to_owned();
            if by.chars().count() > 45 {
                let short: String = by.chars().take(42).chain("...".chars()).collect();
                row.insert("CreatedBy".into(), short.into());
            }
        }
    }
    let columns = [
        ("ID", "ID"),
        ("CREATED", "Created"),
        ("CREATED BY", "CreatedBy"),
        ("SIZE", "Size"),
        ("COMMENT", "Comment"),
    ];
    print(&Format::of(args.format.as_deref(), args.json).list(&columns, &rows)?)?;
    Ok(0)
}

/// Shows all that is known of images.
pub(super) fn inspect(words: &[String], format: Option<&str>, store: &Store) -> Result<u8> {
    let images = ImageStore::of(store);
    let index = images.index()?;
    let mut all = Vec::new();
    for word in words {
        let found = index.find(word)?;
        all.push(image::inspect(&images, &index, &found.id)?);
    }
    print(&Format::of(format, false).objects(all)?)?;
    Ok(0)
}

pub(super) fn exists(word: &str, store: &Store) -> Result<u8> {
    Ok(u8::from(ImageStore::of(store).index()?.find(word).is_err()))
}

#[cfg(test)]
mod tests {
    use super::glob;

    #[test]
    fn patterns_match_whole_texts() {
        for (pattern, text, same) in [
            ("*", "", true),
            ("a*c", "abc", true),
            ("a?", "a", false),
            ("b*", "abc", false),
            ("x/*:1", "x/y:1", true),
        ] {
            assert_eq!(glob(pattern.as_bytes(), text.as_bytes()), same, "{pattern} {text}");
        }
    }
}
