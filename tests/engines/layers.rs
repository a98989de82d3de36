//! What `unionctl export` writes is a layer to engines: podman loads it, and its containers have what
//! users of the union saw.

use support::require;

use crate::archive;
use crate::machine::{Driver, Machine, Who, engines, ours};

/// Changes a union of the base's files, exports what was changed, and has podman make an image of
/// the base and that layer.
const FLOW: &str = r#"
mkdir base upper work mnt
tar -C base --xattrs --xattrs-include='*' -xf "$D/base.tar"
"$D/unionfs" -o "redirect_dir=on,metacopy=on,lowerdir=base,upperdir=upper,workdir=work" mnt
chroot mnt /bin/sh -eu <"$D/changes.sh"
(cd mnt && tar --sort=name --xattrs --xattrs-include='*' --numeric-owner -cf "$D/out/seen.tar" -- *)
umount mnt
"$D/unionctl" export --upper upper --lower base -o layer.tar

digest() { sha256sum "$1" | cut -d' ' -f1; }
cp "$D/base.tar" base.layer.tar
layers=$(printf '"sha256:%s","sha256:%s"' "$(digest base.layer.tar)" "$(digest layer.tar)")
echo '{"architecture":"amd64","os":"linux","config":{"Cmd":["/bin/sh"],"Env":["PATH=/bin:/sbin"]},"rootfs":{"type":"layers","diff_ids":['"$layers"']}}' >config.json
echo '[{"Config":"config.json","RepoTags":["localhost/stacked:1"],"Layers":["base.layer.tar","layer.tar"]}]' >manifest.json
tar -cf image.tar manifest.json config.json base.layer.tar layer.tar
podman load -q -i image.tar >/dev/null
podman create --name c --net=none localhost/stacked:1 true >/dev/null
podman export c -o "$D/out/loaded.tar"
podman rm c >/dev/null
podman run --rm --net=none localhost/stacked:1 sh -euc 'cat /etc/lower /etc/replaced; ls /usr/share/again /usr/share/moved /usr/share/emptied; getcap /bin/tool'
podman rmi -a -f >/dev/null
"#;

#[test]
fn an_exported_layer_is_one_to_podman() {
    require!("an_exported_layer_is_one_to_podman", engines());
    let machine = Machine::new(Driver::Kernel, &Who::Root);
    let unionctl = std::path::Path::new(env!("CARGO_BIN_EXE_unionctl-under-test"));
    support::process::copy_program(&ours().program().expect("a program"), &machine.path("unionfs"));
    support::process::copy_program(unionctl, &machine.path("unionctl"));
    let said = machine.boot(FLOW);
    assert_eq!(
        said,
        "a lower\nchanged\nnew\n/usr/share/again:\nnew\n\n/usr/share/emptied:\n\n\
         /usr/share/moved:\nbelow\nf\nl\n/bin/tool cap_net_raw=ep\n"
    );
    let tree = |name: &str| archive::tree(&machine.path("out").join(name));
    let (seen, loaded) = (tree("seen.tar"), tree("loaded.tar"));
    assert!(seen.len() > 300, "{} entries", seen.len());
    crate::podman::same("loaded", &seen, &loaded);
    machine.assert_empty();
}
