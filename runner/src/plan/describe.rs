//! Says what would be done, for `--dry-run`.

use std::ffi::OsStr;
use std::path::Path;

use crate::plan::Planned;
use crate::spec::{Base, Identity, Range, Upper};

/// Returns the plan as text, a line a thing.
pub(crate) fn describe(planned: &Planned) -> String {
    let spec = &planned.spec;
    let mut lines = vec![format!("container {} in {}", spec.id, planned.store.display())];
    lines.push(match &spec.identity {
        Identity::Host => "users: the host's".to_owned(),
        Identity::Mapped(maps) => {
            let all: Vec<String> = maps.uids.iter().map(range).collect();
            format!("users: {} of the host", all.join(", "))
        }
    });
    for group in &planned.cgroup.groups {
        lines.push(format!("cgroup {}", group.path.display()));
        lines.extend(group.writes.iter().map(|w| format!("  {} = {}", w.file, w.value)));
    }
    match &spec.root {
        Base::Directory { path, .. } => lines.push(format!("root: {}", show(path))),
        Base::Layers(root) => {
            lines.push(format!("root: {:?}", root.driver));
            lines.extend(root.layers.iter().map(|layer| format!("  layer {}", show(layer))));
            lines.push(match &root.upper {
                Upper::Scratch => format!("  changes are thrown away ({:?})", root.scratch),
                Upper::Kept { upper, .. } => format!("  changes in {}", show(upper)),
            });
        }
    }
    for (n, v) in spec.volumes.iter().enumerate() {
        let (from, to) = (show(&v.source), show(&v.target));
        lines.push(format!("volume {n}: {from} at {to}, {:?}", v.access));
    }
    lines.extend(spec.steps.iter().enumerate().map(|(n, step)| format!("{:2}. {step}", n + 1)));
    let args: Vec<_> = spec.process.args.iter().map(|a| a.to_string_lossy()).collect();
    lines.push(format!("run {args:?} in {}", show(&spec.process.cwd)));
    lines.join("\n") + "\n"
}

fn range(r: &Range) -> String {
    let last = r.count.saturating_sub(1);
    format!("{}-{} are {}-{}", r.inside, r.inside + last, r.outside, r.outside + last)
}

fn show(path: &OsStr) -> String {
    Path::new(path).display().to_string()
}
