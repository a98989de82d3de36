//! `unionfs` under the engines that people use: podman, buildah, mount(8), and the exact calls of
//! containerd's snapshotter and of Apptainer.
//!
//! No registry is asked: images are made of a busybox. Each engine runs in namespaces of its own
//! (`scripts/boot.sh`), which is a machine that can be rebooted, and in which what is left shows.
#![forbid(unsafe_code)]

mod archive;
mod buildah;
mod calls;
mod layers;
mod machine;
mod podman;
