//! The calls of those who start the daemon without an engine here: mount(8), /etc/fstab, containerd's
//! fuse-overlayfs snapshotter, Apptainer, enroot.

use std::path::Path;
use std::process::Command;

use support::privilege::{Missing, Unprivileged, installed};
use support::{Scratch, require};

use crate::machine::{in_namespaces, ours, said};

/// What each script finds: layers and a mount point, and the program under the names that callers
/// know, in a directory that mount(8) looks into. At its end neither mount nor daemon may be left.
const BEFORE: &str = r#"
mkdir -p lower lower2 upper work mnt bin
echo lower >lower/f; echo below >lower2/g
for name in unionfs fuse-overlayfs; do ln -s "$PROGRAM" bin/$name; done
mount --bind bin /usr/local/bin
export PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
D=$PWD
daemons() {
  local process n=0
  for process in /proc/[0-9]*; do
    [ "$(readlink $process/exe)" != "$PROGRAM" ] || n=$((n + 1))
  done
  echo $n
}
gone() { for _ in $(seq 300); do [ "$(daemons)" != 0 ] || return 0; sleep 0.1; done; echo "a daemon is left" >&2; return 1; }
shown() { awk -v at="$D/mnt" '$2 == at { print $1, $3, $4 }' /proc/self/mounts; }
"#;

const AFTER: &str = r#"
cd /
gone
! grep " $D/mnt" /proc/self/mountinfo >&2
"#;

/// Runs a script with bash in namespaces of its own; returns what it said on standard output, and on
/// standard error.
fn run(scratch: &Scratch, script: &str) -> (String, String) {
    let program = ours().program().expect("a program");
    let out = in_namespaces(&["-p", "--fork", "--kill-child", "--mount-proc"])
        .args(["bash", "-euo", "pipefail", "-c", &format!("{BEFORE}{script}{AFTER}")])
        .current_dir(scratch.path())
        .env("PROGRAM", program.canonicalize().expect("resolve the program"))
        .env_remove("RUST_BACKTRACE")
        .output()
        .expect("start a script");
    (said(&out), String::from_utf8_lossy(&out.stderr).into_owned())
}

/// Asserts what a script says on standard output, and that it says nothing else.
#[track_caller]
fn says(script: &str, expected: &str) {
    let (out, err) = run(&Scratch::new(), script);
    assert_eq!(out, expected, "{err}");
    assert_eq!(err, "", "standard error is clean");
}

#[test]
fn containers_storage_calls_with_what_it_joins_by_commas() {
    require!("containers_storage_calls", ours().usable());
    // Three words, in the directory of all layers; lowers are links there; generic options were taken
    // away and left their commas; `force_mask` has it ask for attributes with the owners.
    says(
        r#"
mkdir -p l id/diff id/work id/merged id/empty low/diff; ln -s ../low/diff l/AAAA; ln -s ../lower2 l/BBBB
echo in >low/diff/f; chmod 700 low/diff/f; chown 0:0 low/diff/f
setfattr -n user.containers.override_stat -v 0:0:0755 low/diff
setfattr -n user.containers.override_stat -v 5:6:0640 low/diff/f
S=$D/id
call() { unionfs -o "$1" "$S/merged" </dev/null; }
at() { stat -c '%n %a %u:%g' "$S/merged/$1" | sed "s#$S/##"; }
end() { fusermount3 -u "$S/merged"; gone; rm -rf id/work/work; }

call "lowerdir=$D/l/AAAA:$D/l/BBBB,upperdir=$S/diff,workdir=$S/work,,volatile"; cat id/merged/f id/merged/g; at f; end
call ",,lowerdir=l/AAAA:l/BBBB,upperdir=$S/diff,workdir=$S/work,"; echo x >id/merged/x; end
call "lowerdir=$D/l/AAAA,upperdir=$S/diff,workdir=$S/work,,volatile,context=\"system_u:object_r:container_file_t:s0:c1,c2\",uidmapping=:0:1000:10,gidmapping=:0:2000:10"
at f; touch id/merged/new; at new; end
stat -c '%n %u:%g' id/diff/new; rm id/diff/*
call "lowerdir=$D/l/AAAA,upperdir=$S/diff,workdir=$S/work,,xattr_permissions=2"
at f; chown 7:8 id/merged/f; chmod 4711 id/merged/f; at f; end
stat -c '%n %u:%g' id/diff/f; getfattr --only-values -n user.containers.override_stat id/diff/f; echo
call "lowerdir=$S/diff:$S/empty"; at f; ! touch id/merged/x 2>/dev/null; end
"#,
        "in\nbelow\nmerged/f 640 5:6\nmerged/f 640 1005:2006\nmerged/new 644 1000:2000\nid/diff/new 0:0\n\
         merged/f 640 5:6\nmerged/f 4711 7:8\nid/diff/f 0:0\n7:8:04711\nmerged/f 4711 7:8\n",
    );
}

#[test]
fn capabilities_of_layers_hold_beside_owners_in_attributes() {
    let usable = ours().usable().and_then(|()| installed("setcap"));
    require!("capabilities_of_layers_hold_beside_owners_in_attributes", usable);
    // With `force_mask`, containers/storage puts owners into attributes, and capabilities where they are
    // always; what is changed through the mount is kept under a name that needs no right.
    says(
        r#"
cp /bin/busybox lower/a; cp /bin/busybox lower/b
setfattr -n user.containers.override_stat -v 0:0:0755 lower
setcap cap_net_raw+ep lower/a; setcap cap_net_raw+ep lower/b
unionfs -o "lowerdir=$D/lower,upperdir=$D/upper,workdir=$D/work,,xattr_permissions=2" "$D/mnt"
getcap mnt/a; chown 5:6 mnt/a; getcap mnt/a; setcap cap_chown+ep mnt/a; getcap mnt/a
getfattr -m security.capability mnt/a mnt/b | grep -c capability
setcap -r mnt/b; getcap mnt/b; getfattr -m . mnt/b; setcap -r mnt/a; getcap mnt/a; ! setcap -r mnt/a 2>/dev/null
setcap cap_kill+ep mnt/a; umount mnt; gone
getfattr -d -m . upper/a upper/b | cut -d= -f1 | grep -v -e override_stat -e trusted.overlay
"#,
        "mnt/a cap_net_raw=ep\nmnt/a cap_chown=ep\n2\n# file: upper/a\nuser.containers.override_security.capability\n\n# file: upper/b\n\n",
    );
}

#[test]
fn containerds_snapshotter_mounts_through_mount_fuse3() {
    require!("containerds_snapshotter_mounts", ours().usable());
    // Its mounts have the type fuse3.fuse-overlayfs, for which containerd starts this helper; at
    // start it tries whether two lowers can be mounted.
    says(
        r#"
mount.fuse3 overlay "$D/mnt" -o "lowerdir=$D/lower:$D/lower2" -t fuse-overlayfs
cat mnt/f mnt/g; ! touch mnt/x 2>/dev/null; shown | cut -d, -f1; umount mnt; gone
mount.fuse3 overlay "$D/mnt" -o "workdir=$D/work" -o "upperdir=$D/upper" -o "lowerdir=$D/lower:$D/lower2" -t fuse-overlayfs
rm mnt/g; echo new >mnt/n; shown | cut -d, -f1; umount mnt; gone
stat -c '%F %n' upper/*
mount.fuse3 overlay "$D/mnt" -o uidmapping=0:1000:10,gidmapping=0:1000:10 -o "lowerdir=$D/lower" -t fuse-overlayfs
stat -c %u:%g mnt/f; umount mnt
"#,
        "lower\nbelow\noverlay fuse.fuse-overlayfs ro\noverlay fuse.fuse-overlayfs rw\n\
         character special file upper/g\nregular file upper/n\n1000:1000\n",
    );
}

#[test]
fn containerds_diff_looks_at_the_upper_of_a_running_container() {
    require!("containerds_diff_looks_at_the_upper", ours().usable());
    // The container's root by its shim; the diff service mounts parents and snapshot beside it.
    says(
        r#"
mkdir root parents snapshot
mount.fuse3 overlay "$D/root" -o "workdir=$D/work" -o "upperdir=$D/upper" -o "lowerdir=$D/lower:$D/lower2" -t fuse-overlayfs
echo new >root/n; rm root/g
mount.fuse3 overlay "$D/parents" -o "lowerdir=$D/lower:$D/lower2" -o ro -t fuse-overlayfs
mount.fuse3 overlay "$D/snapshot" -o "workdir=$D/work" -o "upperdir=$D/upper" -o "lowerdir=$D/lower:$D/lower2" -o ro -t fuse-overlayfs
diff -r parents snapshot || true
! touch snapshot/x 2>/dev/null
fusermount3 -u "$D/snapshot"; fusermount3 -u "$D/parents"
echo more >>root/n; cat root/n; echo more >>root/f
! mount.fuse3 overlay "$D/snapshot" -o "workdir=$D/work" -o "upperdir=$D/upper" -o "lowerdir=$D/lower" -t fuse-overlayfs 2>refused
grep -o "in use by another.*" refused
fusermount3 -u "$D/root"; gone
ls upper work/work
"#,
        "Only in parents: g\nOnly in snapshot: n\nnew\nmore\n\
         in use by another unionfs: unmount that one first, or give each mount its own, or -o ro to look at it\n\
         upper:\nf\ng\nn\n\nwork/work:\n",
    );
}

#[test]
fn mount_8_knows_both_names() {
    require!("mount_8_knows_both_names", ours().usable());
    says(
        r#"
O="lowerdir=$D/lower,upperdir=$D/upper,workdir=$D/work"
for type in fuse.unionfs fuse.fuse-overlayfs; do
  mount -t $type -o "$O,nodev,noexec" overlay mnt
  cat mnt/f; shown | cut -d, -f1-3; umount mnt; gone
done
"#,
        "lower\noverlay fuse.unionfs rw,nodev,noexec\nlower\noverlay fuse.fuse-overlayfs rw,nodev,noexec\n",
    );
}

#[test]
fn it_is_a_helper_of_mount_8_itself() {
    require!("it_is_a_helper_of_mount_8", ours().usable());
    // mount(8) looks for these in /sbin, which is one directory of a private root here.
    says(
        r#"
O="lowerdir=$D/lower,upperdir=$D/upper,workdir=$D/work"
mkdir sbin; cp -a /sbin/. sbin/
for name in mount.unionfs mount.fuse.fuse-overlayfs; do ln -sf "$PROGRAM" sbin/$name; done
mount --bind sbin "$(readlink -f /sbin)"
mount -f -t unionfs -o "$O" none mnt; shown
mount -t unionfs -s -n -o "$O" none mnt
cat mnt/f; shown | cut -d, -f1; umount mnt; gone
mount -t fuse.fuse-overlayfs -o "$O" none mnt; shown | cut -d, -f1; umount mnt; gone
! mount -t unionfs -o "lowerdir=$D/absent" none mnt 2>refused; grep -c absent refused
umount "$(readlink -f /sbin)"
"#,
        "lower\nnone fuse.unionfs rw\nnone fuse.fuse-overlayfs rw\n1\n",
    );
}

#[test]
fn lines_of_etc_fstab_are_mounted_once() {
    require!("lines_of_etc_fstab_are_mounted_once", ours().usable());
    says(
        r#"
cat >fstab <<T
merged $D/mnt fuse.unionfs lowerdir=$D/lower,upperdir=$D/upper,workdir=$D/work,nofail,x-systemd.requires=/usr,nosuid,_netdev,user 0 0
unused $D/absent fuse.unionfs noauto,lowerdir=$D/lower 0 0
T
mount -a -T fstab
mount -a -T fstab
shown | cut -d, -f1-3; echo new >mnt/n; cat mnt/f
! mount -o remount,ro -T fstab "$D/mnt" 2>refused; grep -o 'can.t be changed' refused
umount mnt; gone; ls upper
"#,
        "merged fuse.unionfs rw,nosuid,nodev\nlower\ncan't be changed\nn\n",
    );
}

#[test]
fn apptainer_is_served_as_it_expects() {
    require!("apptainer_is_served_as_it_expects", ours().usable());
    // In the foreground; it looks for the mount, ends it by SIGTERM, kills a second later, and shows
    // its users each line on standard error. `timeout` ends the wait without a figure to compare.
    says(
        r#"
fuse-overlayfs -f -o "allow_other,lowerdir=$D/lower:$D/lower2,upperdir=$D/upper,workdir=$D/work,noacl" "$D/mnt" &
until grep -q " $D/mnt " /proc/self/mountinfo; do sleep 0.025; done
shown | cut -d, -f1; mkdir mnt/usr; touch mnt/usr/.apptainer; cat mnt/g
exec 5<mnt/f
kill -TERM $!
code=0; wait $! || code=$?
echo "ended $code"; shown; exec 5<&-
fuse-overlayfs -f -o "allow_other,ro,lowerdir=$D/lower,upperdir=$D/upper,workdir=$D/work,noacl" "$D/mnt" &
until grep -q " $D/mnt " /proc/self/mountinfo; do sleep 0.025; done
! touch mnt/x 2>/dev/null; sync -f mnt; umount mnt; wait $!
ls -A upper
"#,
        "fuse-overlayfs fuse.fuse-overlayfs rw\nbelow\nended 0\nusr\n",
    );
}

#[test]
fn apptainer_gives_its_setuid_mount_as_a_descriptor() {
    require!("apptainer_gives_its_setuid_mount", ours().usable());
    says(
        r#"
exec 9<>/dev/fuse
mount -i -t fuse -o fd=9,rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions fuse mnt
fuse-overlayfs -f -o "allow_other,lowerdir=$D/lower,upperdir=$D/upper,workdir=$D/work,noacl" /dev/fd/9 &
exec 9<&-
cat mnt/f; echo new >mnt/n
sync -f mnt; umount mnt; wait $!; ls upper
exec 9<>/dev/fuse
mount -i -t fuse -o fd=9,rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions fuse mnt
fuse-overlayfs -f -o "allow_other,lowerdir=$D/lower,upperdir=$D/upper,workdir=$D/work,noacl" /dev/fd/9 &
exec 9<&-
cat mnt/n
kill -TERM $!; wait $!; umount mnt
"#,
        "lower\nn\nnew\n",
    );
}

/// Says what is missing for calls of an unprivileged user, and returns a script that begins with `$U`
/// and `$G` set to that user, to whom the layers belong.
fn of_a_user(script: &str) -> Result<String, Missing> {
    ours().usable()?;
    let user = Unprivileged::find()?;
    let (uid, gid) = (user.uid(), user.gid());
    Ok(format!("U={uid} G={gid}\nchown -R $U:$G .; chmod 755 . mnt lower lower2\n{script}"))
}

#[test]
fn apptainer_mounts_as_a_user_with_two_capabilities() {
    // In a user namespace with this one user, who isn't root there: CAP_SYS_ADMIN and CAP_SYS_PTRACE
    // are ambient. It makes a file in /usr/bin, and unmounts by itself.
    let script = of_a_user(
        r#"
chown -h 0:0 lower2/g; chmod 600 lower2/g; mkdir -p lower/usr/bin; chown -R $U:$G lower
cat >inside <<'I'
keep=-all,+sys_admin,+sys_ptrace
setpriv --inh-caps=$keep --ambient-caps=$keep fuse-overlayfs -f \
  -o "allow_other,lowerdir=$D/lower:$D/lower2,upperdir=$D/upper,workdir=$D/work,noacl" "$D/mnt" >said 2>&1 &
until grep -q " $D/mnt " /proc/self/mountinfo; do sleep 0.025; done
awk -v at="$D/mnt" '$2 == at { print $3, $4 }' /proc/self/mounts | cut -d, -f1
f=$(mktemp mnt/usr/bin/.tmpXXXX); rm "$f"
mkdir -m 555 mnt/usr/closed; stat -c '%n %a %u' mnt/usr/closed
echo more >>mnt/f; cat mnt/f
cat mnt/g 2>/dev/null || echo "not root's"
sync -f mnt; umount mnt
code=0; wait $! || code=$?
echo "ended $code"; cat said
I
export D
setpriv --reuid=$U --regid=$G --clear-groups unshare --user --map-current-user --mount --keep-caps bash -euo pipefail inside
stat -c '%n %u' upper/f; ls -A work/work
"#,
    );
    require!(
        "apptainer_mounts_as_a_user_with_two_capabilities",
        script.as_ref().map(drop).map_err(Clone::clone)
    );
    let user = Unprivileged::find().expect("found before");
    let expected = format!(
        "fuse.fuse-overlayfs rw\nmnt/usr/closed 555 {}\nlower\nmore\nnot root's\nended 0\nupper/f {}\n",
        user.uid(),
        user.uid()
    );
    says(&script.expect("checked above"), &expected);
}

#[test]
fn apptainers_hybrid_mode_serves_roots_mount_from_a_users_namespace() {
    // Root mounts; the daemon enters the container's user namespace and nothing else.
    let script = of_a_user(
        r#"
setpriv --reuid=$U --regid=$G --clear-groups unshare --user --map-root-user sleep 1000 &
container=$!
until [ "$(cat /proc/$container/comm)" = sleep ]; do sleep 0.025; done
exec 9<>/dev/fuse
mount -i -t fuse -o fd=9,rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions fuse mnt
nsenter --user=/proc/$container/ns/user -F fuse-overlayfs -f \
  -o "allow_other,lowerdir=$D/lower,upperdir=$D/upper,workdir=$D/work,noacl" /dev/fd/9 &
daemon=$!
exec 9<&-
cat mnt/f; echo new >mnt/n; cat mnt/n
sync -f mnt; umount mnt; wait $daemon; ls upper
kill $container; wait $container 2>/dev/null || true
"#,
    );
    require!("apptainers_hybrid_mode", script.as_ref().map(drop).map_err(Clone::clone));
    says(&script.expect("checked above"), "lower\nnew\nn\n");
}

#[test]
fn mount_fuse3_can_drop_privileges_before_it_starts_us() {
    require!("mount_fuse3_can_drop_privileges", ours().usable());
    says(
        r#"
mount -t fuse.unionfs -o "drop_privileges,allow_other,lowerdir=$D/lower" overlay mnt
cat mnt/f; umount mnt
"#,
        "lower\n",
    );
}

#[test]
fn enroots_layers_lie_below_its_mount_point() {
    require!("enroots_layers_lie_below", ours().usable());
    says(
        r#"
mkdir mnt/lower mnt/upper mnt/work; echo lower >mnt/lower/f; echo 2 >mnt/lower/g
FUSE_OVERLAYFS_DISABLE_OVL_WHITEOUT=y fuse-overlayfs -f -o "lowerdir=$D/mnt/lower,upperdir=$D/mnt/upper,workdir=$D/mnt/work" "$D/mnt" &
until grep -q " $D/mnt " /proc/self/mountinfo; do sleep 0.025; done
rm mnt/f; ls mnt; umount mnt; wait $!
ls -A mnt/upper
"#,
        "g\n.wh.f\n",
    );
}

#[test]
fn each_option_of_fuse_overlayfs_is_taken_in_silence() {
    require!("each_option_of_fuse_overlayfs_is_taken", ours().usable());
    let (out, err) = run(
        &Scratch::new(),
        r#"
for option in squash_to_root squash_to_uid=5 squash_to_gid=6 timeout=0 timeout=1000000000 threaded=0 threaded=1 \
  fsync=0 fsync=1 volatile fast_ino=0 fast_ino=1 writeback=0 writeback=1 noxattrs=0 noxattrs=1 noxattrs plugins= \
  xattr_permissions=0 static_nlink noacl xino=off xino=auto xino=on redirect_dir=off \
  'context="system_u:object_r:container_file_t:s0:c1,c2"' uidmapping=:0:1:5000 gidmapping=0:1:5000:5000:6000:1 \
  allow_root default_permissions allow_other suid nosuid dev nodev exec noexec atime noatime diratime nodiratime \
  splice_write splice_read splice_move kernel_cache max_write=131072 ro rw \
  lazytime metacopy=on userxattr index=off sync async relatime; do
  fuse-overlayfs -o "$option,lowerdir=$D/lower,upperdir=$D/upper,workdir=$D/work," "$D/mnt" || echo "$option is refused"
  [ "$(cat mnt/f)" = lower ] || echo "$option: no file"
  umount mnt; gone
  rm -rf work/work
  n=$((${n:-0} + 1))
done
echo "$n options"
"#,
    );
    assert_eq!((out.as_str(), err.as_str()), ("55 options\n", ""));
}

#[test]
fn a_caller_that_dies_before_the_mount_is_live_leaves_none() {
    require!("a_caller_that_dies_before_the_mount", ours().usable());
    // The work directory is in use for a moment, which holds the daemon up until its caller is dead.
    says(
        r#"
exec 8<work; flock 8
fuse-overlayfs -o "lowerdir=$D/lower,upperdir=$D/upper,workdir=$D/work" "$D/mnt" 8<&- &
until [ "$(daemons)" = 2 ]; do :; done
kill -KILL $!; wait $! 2>/dev/null || true
exec 8<&-
gone
shown; ls -A work
fuse-overlayfs -o "lowerdir=$D/lower,upperdir=$D/upper,workdir=$D/work" "$D/mnt"
cat mnt/f; umount mnt
"#,
        "index\nwork\nlower\n",
    );
}

#[test]
fn an_engine_that_is_killed_keeps_its_mounts() {
    require!("an_engine_that_is_killed_keeps_its_mounts", ours().usable());
    says(
        r#"
{ setsid sh -c 'fuse-overlayfs -o "lowerdir=$0/lower,upperdir=$0/upper,workdir=$0/work" "$0/mnt"; echo live; kill -KILL 0' "$D" || true; } 2>/dev/null
cat mnt/f; echo new >mnt/n; umount mnt; gone; cat upper/n
"#,
        "live\nlower\nnew\n",
    );
}

#[test]
fn options_are_explained_without_a_mount() {
    let program = ours().program().expect("a program");
    let help = |word: &str| said(&Command::new(&program).arg(word).output().expect("run it"));
    let (version, help) = (help("--version"), help("--help"));
    assert_eq!(version, format!("unionfs {}\n", env!("CARGO_PKG_VERSION")));
    for option in ["lowerdir", "upperdir", "workdir", "volatile", "FUSE_OVERLAYFS_DISABLE"] {
        assert!(help.contains(option), "{option}: {help}");
    }
    assert!(Path::new(&program).is_absolute());
}

#[test]
fn noacl_leaves_the_decision_to_modes() {
    require!(
        "noacl_leaves_the_decision_to_modes",
        ours().usable().and_then(|()| installed("setfacl"))
    );
    // Two objects on the way, whose ACLs say more than their modes: 5 is let in and 6 shut out.
    let look = r#"
chmod 755 . mnt; chmod 600 lower/f; chmod 644 lower2/g; setfacl -m u:5:rw lower/f; setfacl -m u:6:- lower2/g
reads() { setpriv --reuid=$1 --regid=$1 --clear-groups cat mnt/$2 2>/dev/null || echo "$1 may not read $2"; }
fuse-overlayfs -o "$O,allow_other,lowerdir=$D/lower:$D/lower2,upperdir=$D/upper,workdir=$D/work" "$D/mnt"
reads 5 f; reads 6 g
echo more >>mnt/f; getfacl -cn mnt/f 2>/dev/null | grep user:5
setfacl -m u:7:r mnt/g; umount mnt; gone
getfacl -cn upper/f upper/g 2>/dev/null | grep user:[0-9]
"#;
    let kept = "user:5:rw-\nuser:5:rw-\nuser:6:---\nuser:7:r--\n";
    let says = |options: &str, expected: &str| says(&format!("O={options}\n{look}"), expected);
    says("noacl", &format!("5 may not read f\nbelow\n{kept}"));
    says("suid", &format!("lower\n6 may not read g\n{kept}"));
}

#[test]
fn static_nlink_shows_one_link_for_each_directory() {
    require!("static_nlink_shows_one_link", ours().usable());
    let look = r#"
mkdir -p lower/d/sub lower/both lower2/both; ln lower/f lower/f2
fuse-overlayfs -o "$O,lowerdir=$D/lower:$D/lower2,upperdir=$D/upper,workdir=$D/work" "$D/mnt"
mkdir -p mnt/new/sub; stat -c '%n %h' mnt/d mnt/both mnt/new mnt/f; umount mnt
"#;
    let says = |options: &str, expected: &str| says(&format!("O={options}\n{look}"), expected);
    says("static_nlink", "mnt/d 1\nmnt/both 1\nmnt/new 1\nmnt/f 2\n");
    says("suid", "mnt/d 3\nmnt/both 1\nmnt/new 3\nmnt/f 2\n");
}
