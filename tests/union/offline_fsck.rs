//! Layers that are damaged, mended; and layers in another dialect.

use std::path::{Path, PathBuf};

use support::process::shell;
use support::tree::{Show, Tree, assert_same};
use support::{Union, require};
use unionfs::layer::marks::Prefix;
use unionfs::offline::{Finding, Form, Layers, Repair, Wanted, convert, fsck};

use crate::subjects::ours;

const LOWER: &str = "
    f a \"a\"
    h a2 =a
    f d/f \"f\"
    f d/g \"g\"
    f e/x \"x\"
    f o/old \"old\"
";

fn check(u: &Union, repair: Repair) -> Result<Vec<Finding>, String> {
    let lowers: Vec<PathBuf> = (0..u.layers().lowers.len()).map(|i| u.lower(i, "")).collect();
    let (upper, work) = (u.upper(""), u.work(""));
    fsck(&Layers { upper: &upper, work: Some(&work), lowers: &lowers }, repair)
        .map_err(|e| e.to_string())
}

fn lines(found: &[Finding]) -> Vec<String> {
    let mut all: Vec<String> =
        found.iter().map(|f| format!("{} {}", f.kind.name(), f.path.display())).collect();
    all.sort();
    all
}

fn mount_and_change(script: &str) -> Union {
    let mut u =
        Union::on(&ours()).layer(LOWER).option("redirect_dir=on").option("metacopy=on").mount();
    shell(u.root(), script);
    u.unmount();
    u
}

#[test]
fn a_sound_upper_has_no_findings() {
    require!("a_sound_upper_has_no_findings", ours().usable());
    let u = mount_and_change(
        "echo y >> a; mv d z; chmod 600 z/f; rm e/x; rm -r o; mkdir o; mv z/g z/h; ln a a3",
    );
    assert_eq!(lines(&check(&u, Repair::No).expect("check")), Vec::<String>::new());
}

#[test]
fn damage_is_found_and_mended() {
    require!("damage_is_found_and_mended", ours().usable());
    let mut u = mount_and_change("echo y >> a; mv d z; touch z/own; chmod 600 e/x; rm o/old");
    let (upper, work, lower) = (u.upper(""), u.work(""), u.lower(0, ""));
    shell(&lower, "rm -r d o/old");
    shell(&upper, "mknod useless c 0 0; setfattr -n trusted.overlay.nlink -v U-9 a");
    shell(&work, "mkdir -p work/left/over; touch index/00fb0badbad");
    let found = check(&u, Repair::No).expect("check");
    let expected = [
        "dangling-origin /z",
        "dangling-redirect /z",
        "orphan-index /index/00fb0badbad",
        "useless-whiteout /d",
        "useless-whiteout /o/old",
        "useless-whiteout /useless",
        concat!("work-leftover /", "work", "/left"),
        "wrong-links /a",
    ];
    assert_eq!(lines(&found), expected);
    assert!(found.iter().all(|f| !f.mended));
    let mended = check(&u, Repair::Yes).expect("repair");
    assert!(mended.iter().all(|f| f.mended), "{mended:?}");
    assert_eq!(lines(&mended), expected);
    assert_eq!(lines(&check(&u, Repair::No).expect("check again")), Vec::<String>::new());
    u.mount();
    assert!(u.path("z/own").exists() && !u.path("useless").exists());
}

#[test]
fn data_that_is_gone_is_reported_and_nothing_is_done() {
    require!("data_that_is_gone_is_reported", ours().usable());
    let u = mount_and_change("chmod 600 e/x");
    shell(&u.lower(0, ""), "rm e/x");
    let found = check(&u, Repair::Yes).expect("check");
    let missing: Vec<_> = found.iter().filter(|f| f.kind.name() == "missing-data").collect();
    assert_eq!(missing.len(), 1, "{found:?}");
    assert!(!missing[0].mended && missing[0].path == Path::new("/e/x"));
}

#[test]
fn what_is_mounted_is_refused() {
    require!("what_is_mounted_is_refused", ours().usable());
    let u = Union::on(&ours()).layer(LOWER).mount();
    let why = check(&u, Repair::No).expect_err("it is mounted");
    assert!(why.contains("in use by a mount"), "{why}");
    let upper = u.upper("");
    let lowers: [PathBuf; 0] = [];
    let unlocked = Layers { upper: &upper, work: None, lowers: &lowers };
    let why = fsck(&unlocked, Repair::Yes).expect_err("no work directory").to_string();
    assert!(why.contains("--work"), "{why}");
    let kernel = support::Subject::Kernel(support::subject::KernelFeatures::Contract);
    require!("what_is_mounted_is_refused", kernel.usable());
    let u = Union::on(&kernel).layer(LOWER).mount();
    let why = convert(&u.upper(""), None, Wanted { form: Some(Form::DotWh), prefix: None })
        .expect_err("mounted");
    assert!(why.to_string().contains("overlayfs has it mounted"), "{why}");
}

#[test]
fn a_layer_means_the_same_in_every_dialect() {
    require!("a_layer_means_the_same_in_every_dialect", ours().usable());
    let mut u = Union::on(&ours()).layer(LOWER).mount();
    shell(
        u.root(),
        "rm d/f; rm -r o; mkdir o; touch o/new; echo y >> d/g; rm -r e; touch -d @1234567 d",
    );
    let seen = Tree::read(u.root()).text(&Show::default());
    u.unmount();
    let (upper, work) = (u.upper(""), u.work(""));
    let forms =
        [Form::DotWh, Form::Attribute, Form::Device, Form::Attribute, Form::DotWh, Form::Device];
    for form in forms {
        let done = convert(&upper, Some(&work), Wanted { form: Some(form), prefix: None })
            .expect("convert");
        assert_eq!(done.whiteouts, 2, "{form:?}: d/f and e");
        let again = convert(&upper, Some(&work), Wanted { form: Some(form), prefix: None })
            .expect("convert");
        assert_eq!(again.whiteouts, 0, "{form:?}: nothing is left to do");
        let as_layer =
            Union::on(&ours()).lower_at(&upper).lower_at(&u.lower(0, "")).read_only().mount();
        assert_same(
            &format!("{form:?}"),
            &seen,
            &Tree::read(as_layer.root()).text(&Show::default()),
        );
    }
    for prefix in [Prefix::User, Prefix::Trusted] {
        let done = convert(&upper, Some(&work), Wanted { form: None, prefix: Some(prefix) })
            .expect("convert");
        assert!(done.marks > 0, "{prefix:?}: {done:?}");
        let as_layer =
            Union::on(&ours()).lower_at(&upper).lower_at(&u.lower(0, "")).read_only().mount();
        assert_same(
            &format!("{prefix:?}"),
            &seen,
            &Tree::read(as_layer.root()).text(&Show::default()),
        );
    }
}
