//! What is known of images, for lists and `inspect`.

use serde_json::{Value, json};

use crate::error::Result;
use crate::image::config::{CONFIG_MAX, Document};
use crate::image::digest::Digest;
use crate::image::index::Index;
use crate::image::store::ImageStore;
use crate::image::time;

/// Returns a row for each name of each image, the newest image first; fields are podman's.
pub(crate) fn rows(index: &Index) -> Vec<Value> {
    let mut all: Vec<_> = index.images.iter().collect();
    let made = |created: &str| time::parse(created).unwrap_or(0);
    all.sort_by_key(|(_, record)| std::cmp::Reverse(made(&record.created)));
    let mut rows = Vec::new();
    for (id, record) in all {
        let names = index.names_of(id);
        let split = names.iter().map(|n| n.rsplit_once(':').unwrap_or((n, "latest")));
        let mut pairs: Vec<(&str, &str)> = split.collect();
        if pairs.is_empty() {
            pairs.push(("<none>", "<none>"));
        }
        let digest = record.manifest.as_ref().map(ToString::to_string);
        for (repository, tag) in pairs {
            rows.push(json!({
                "Id": id.hex(),
                "ID": id.short(),
                "Repository": repository,
                "Tag": tag,
                "Names": names,
                "Digest": digest.clone().unwrap_or_else(|| "<none>".into()),
                "RepoDigests": record.repo_digests,
                "Created": time::ago(made(&record.created)),
                "CreatedAt": record.created,
                "Size": size(index.size_of(record)),
                "Bytes": index.size_of(record),
                "Layers": record.layers.len(),
                "Dangling": names.is_empty(),
            }));
        }
    }
    rows
}

/// Returns all that is known of an image, with podman's field names.
pub(crate) fn inspect(store: &ImageStore, index: &Index, id: &Digest) -> Result<Value> {
    let record = index.image(id)?;
    let document = Document::parse(&store.read_blob(id, CONFIG_MAX)?)?;
    let value = document.value();
    let layers: Vec<String> = record.layers.iter().map(ToString::to_string).collect();
    let dirs: Vec<_> =
        record.layers.iter().rev().map(|l| store.layer(l).to_string_lossy().into_owned()).collect();
    let history = document.history();
    let last = |key: &str| {
        history.last().and_then(|h| h.get(key)).and_then(Value::as_str).unwrap_or("").to_owned()
    };
    Ok(json!({
        "Id": id.hex(),
        "Digest": record.manifest,
        "RepoTags": index.names_of(id),
        "RepoDigests": record.repo_digests,
        "Created": record.created,
        "Author": document.text("author"),
        "Comment": last("comment"),
        "Architecture": document.text("architecture"),
        "Os": document.text("os"),
        "Config": value.get("config").cloned().unwrap_or_else(|| json!({})),
        "Labels": document.config().labels,
        "User": document.config().user,
        "RootFS": {"Type": "layers", "Layers": layers},
        "GraphDriver": {"Name": "overlay", "Data": {"LowerDir": dirs.join(":")}},
        "Size": index.size_of(record),
        "VirtualSize": index.size_of(record),
        "History": history,
    }))
}

/// Returns the steps by which an image came to be, the last one first.
pub(crate) fn history(store: &ImageStore, index: &Index, id: &Digest) -> Result<Vec<Value>> {
    let record = index.image(id)?;
    let document = Document::parse(&store.read_blob(id, CONFIG_MAX)?)?;
    let mut layers = record.layers.iter();
    let mut rows = Vec::new();
    for step in document.history() {
        let text = |key: &str| step.get(key).and_then(Value::as_str).unwrap_or("").to_owned();
        let is_empty = step.get("empty_layer").and_then(Value::as_bool).unwrap_or(false);
        let layer = if is_empty { None } else { layers.next() };
        let bytes = layer.and_then(|l| index.layers.get(l)).map_or(0, |l| l.size);
        let created = text("created");
        rows.push(json!({
            "ID": "<missing>",
            "Created": time::parse(&created).map_or_else(String::new, time::ago),
            "CreatedAt": created,
            "CreatedBy": text("created_by"),
            "Comment": text("comment"),
            "Size": size(bytes),
            "Bytes": bytes,
            "Layer": layer.map(ToString::to_string),
        }));
    }
    rows.reverse();
    if let Some(first) = rows.first_mut().and_then(Value::as_object_mut) {
        first.insert("ID".into(), id.short().into());
    }
    Ok(rows)
}

/// Returns a number of bytes as podman shows it: in powers of ten, three digits.
pub(crate) fn size(bytes: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    let name = units.get(unit).copied().unwrap_or("B");
    match value {
        _ if unit == 0 => format!("{bytes} {name}"),
        v if v < 9.995 => format!("{v:.2} {name}"),
        v if v < 99.95 => format!("{v:.1} {name}"),
        v => format!("{v:.0} {name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits() {
        let rows = [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.00 kB"),
            (12_340, "12.3 kB"),
            (206_000_000, "206 MB"),
            (999_900, "1.00 MB"),
        ];
        for (bytes, text) in rows {
            assert_eq!(size(bytes), text);
        }
    }
}
