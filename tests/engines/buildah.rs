//! buildah without a Containerfile: an image from nothing, mounted and written from outside.

use support::require;

use crate::archive;
use crate::machine::{Driver, Machine, Who, engines, rootless};

/// Makes an image of the base's files by mounting an empty one, changes it in a container and through
/// the mount, and saves it.
const FROM_SCRATCH: &str = r#"
c=$(buildah from scratch)
m=$(buildah mount "$c")
tar -C "$m" --xattrs --xattrs-include='*' -xf "$D/base.tar"
buildah umount "$c" >/dev/null
buildah config --cmd /bin/sh --env PATH=/bin:/sbin "$c"
buildah commit -q "$c" localhost/from-scratch >/dev/null
buildah rm "$c" >/dev/null

c=$(buildah from localhost/from-scratch)
buildah run "$c" -- sh -eu <"$D/changes.sh"
buildah copy -q "$c" "$D/changes.sh" /usr/share/emptied/ >/dev/null
m=$(buildah mount "$c")
rm -r "$m/usr/share/moved/below"
ln "$m/usr/share/renamed" "$m/usr/share/linked-outside"
buildah umount "$c" >/dev/null
buildah commit -q "$c" localhost/changed >/dev/null
buildah rm "$c" >/dev/null
for image in from-scratch changed; do
  buildah push -q "localhost/$image" "docker-archive:$D/out/$image.tar:localhost/$image"
done
buildah rmi -a -f >/dev/null
buildah ps -q
buildah images -q
"#;

type Layers = Vec<Vec<Vec<String>>>;

fn layers(driver: Driver, who: &Who) -> Layers {
    let machine = Machine::new(driver, who);
    let script = match who {
        Who::Root => FROM_SCRATCH.to_owned(),
        // A user's mounts are in the engine's own namespaces.
        Who::User(_) => {
            format!("buildah unshare bash -euo pipefail <<'INSIDE'\n{FROM_SCRATCH}INSIDE\n")
        }
    };
    machine.boot(&script);
    machine.assert_empty();
    ["from-scratch", "changed"]
        .into_iter()
        .flat_map(|image| archive::images(&machine.path(&format!("out/{image}.tar"))).into_values())
        .collect()
}

fn an_image_from_nothing_is_the_kernels(who: &Who) {
    let (ours, kernels) = (layers(Driver::Ours, who), layers(Driver::Kernel, who));
    assert_eq!(ours.iter().map(Vec::len).collect::<Vec<_>>(), [1, 2]);
    for (ours, kernels) in ours.iter().flatten().zip(kernels.iter().flatten()) {
        crate::podman::same("buildah", kernels, ours);
        println!("{} entries, digest {}", ours.len(), archive::digest(ours));
    }
    assert_eq!(ours, kernels);
}

#[test]
fn as_root_buildah_makes_the_same_image_as_with_the_kernels() {
    require!("as_root_buildah_makes_the_same_image", engines());
    an_image_from_nothing_is_the_kernels(&Who::Root);
}

#[test]
fn as_a_user_buildah_makes_the_same_image_as_with_the_kernels() {
    let user = rootless();
    require!("as_a_user_buildah_makes_the_same_image", user.clone().map(drop));
    an_image_from_nothing_is_the_kernels(&user.expect("found above"));
}
