//! The runner as a user drives it, as root and as somebody else.
#![forbid(unsafe_code)]

mod bare;
mod day;
mod errors;
mod escape;
mod fixture;
mod image_fixture;
mod images;
mod images_commit;
mod images_hostile;
mod images_registry;
mod kill;
mod left;
mod life;
mod limits;
mod network;
mod oci;
mod oci_config;
mod oci_containerd;
mod oci_fixture;
mod oci_podman;
mod oci_rights;
mod process;
mod programs;
mod root;
mod running;
mod safety;
mod shim;
mod terminal;
mod users;
mod volumes;
