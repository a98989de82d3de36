//! What the verbs on images take.

use std::path::PathBuf;

use clap::{ArgAction, Args};

use crate::cli::values;
use crate::image::{Compression, Form, SIZE_MAX};

/// Bounds for archives that nobody vouches for.
#[derive(Debug, Args)]
pub(super) struct Bounds {
    /// Refuse a layer whose files have more than SIZE bytes (suffix k, M, G)
    #[arg(long, value_name = "SIZE", value_parser = values::size, default_value_t = SIZE_MAX, hide_default_value = true,
          long_help = "Refuse a layer whose files have more than SIZE bytes (suffix k, M, G) [default: 64G]")]
    pub(super) max_size: u64,
}

/// How a registry is spoken to.
#[derive(Debug, Args)]
pub(super) struct RegistryArgs {
    /// Check the registry's certificate; without, plain HTTP will do as well
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = true,
          default_missing_value = "true", action = ArgAction::Set)]
    pub(super) tls_verify: bool,
    /// File with passwords [default: those of podman and docker]
    #[arg(long, value_name = "FILE")]
    pub(super) authfile: Option<PathBuf>,
    /// User and password
    #[arg(long, value_name = "USER:PASSWORD")]
    pub(super) creds: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct PullArgs {
    #[command(flatten)]
    pub(super) registry: RegistryArgs,
    #[command(flatten)]
    pub(super) bounds: Bounds,
    /// Print the id only
    #[arg(short, long)]
    pub(super) quiet: bool,
    /// Name, such as docker.io/library/debian:12; may be repeated
    #[arg(required = true, value_name = "IMAGE")]
    pub(super) images: Vec<String>,
}

/// How layers are compressed on their way out.
#[derive(Debug, Args)]
pub(super) struct CompressionArgs {
    /// Compress layers in this way [default: as they came, and gzip for those made here]
    #[arg(long, value_name = "FORMAT", value_enum)]
    pub(super) compression_format: Option<Compression>,
    /// Level of the compression: gzip 1 to 9, zstd 1 to 20
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=20))]
    pub(super) compression_level: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct PushArgs {
    #[command(flatten)]
    pub(super) registry: RegistryArgs,
    #[command(flatten)]
    pub(super) compression: CompressionArgs,
    /// Write the manifest's digest to FILE
    #[arg(long, value_name = "FILE")]
    pub(super) digestfile: Option<PathBuf>,
    /// Print nothing
    #[arg(short, long)]
    pub(super) quiet: bool,
    /// Name or id of the image here
    pub(super) image: String,
    /// Where it goes [default: where its name says]
    pub(super) destination: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct LoadArgs {
    #[command(flatten)]
    pub(super) bounds: Bounds,
    /// Archive (plain, gzip or zstd) or directory with an OCI layout [default: standard input]
    #[arg(short, long, value_name = "FILE")]
    pub(super) input: Option<PathBuf>,
    /// Print the names only
    #[arg(short, long)]
    pub(super) quiet: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SaveArgs {
    #[command(flatten)]
    pub(super) compression: CompressionArgs,
    /// What is written
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Form::DockerArchive)]
    pub(super) format: Form,
    /// File, or directory for oci-dir [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub(super) output: Option<PathBuf>,
    /// Print nothing
    #[arg(short, long)]
    pub(super) quiet: bool,
    /// Names or ids
    #[arg(required = true, value_name = "IMAGE")]
    pub(super) images: Vec<String>,
}

/// What a new image says of itself.
#[derive(Debug, Args)]
pub(super) struct AboutArgs {
    /// Change the configuration by an instruction of a Containerfile (CMD, ENTRYPOINT, ENV, EXPOSE,
    /// LABEL, STOPSIGNAL, USER, VOLUME, WORKDIR); may be repeated
    #[arg(short, long, value_name = "INSTRUCTION")]
    pub(super) change: Vec<String>,
    /// Why it was made
    #[arg(short, long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub(super) message: String,
}

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    #[command(flatten)]
    pub(super) about: AboutArgs,
    #[command(flatten)]
    pub(super) bounds: Bounds,
    /// Print the id only
    #[arg(short, long)]
    pub(super) quiet: bool,
    /// Archive (plain, gzip or zstd), directory, or - for standard input
    pub(super) from: PathBuf,
    /// Name of the image
    #[arg(value_name = "NAME")]
    pub(super) name: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct CommitArgs {
    #[command(flatten)]
    pub(super) about: AboutArgs,
    /// Who made it
    #[arg(short, long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub(super) author: String,
    /// Pause the container meanwhile
    #[arg(short, long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = true,
          default_missing_value = "true", action = ArgAction::Set)]
    pub(super) pause: bool,
    /// Write the image's id to FILE
    #[arg(long, value_name = "FILE")]
    pub(super) iidfile: Option<PathBuf>,
    /// Print the id only
    #[arg(short, long)]
    pub(super) quiet: bool,
    /// Name or id of the container
    pub(super) container: String,
    /// Name of the image
    #[arg(value_name = "NAME")]
    pub(super) name: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    /// Print a JSON list
    #[arg(long)]
    pub(super) json: bool,
    /// Print by a template, or `json`
    #[arg(long, value_name = "TEMPLATE")]
    pub(super) format: Option<String>,
    /// Name or id of the container
    pub(super) container: String,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Print ids only
    #[arg(short, long)]
    pub(super) quiet: bool,
    /// Print whole ids
    #[arg(long)]
    pub(super) no_trunc: bool,
    /// Print digests of manifests too
    #[arg(long)]
    pub(super) digests: bool,
    /// No line of headings
    #[arg(short, long)]
    pub(super) noheading: bool,
    /// Only some: dangling=BOOL, reference=PATTERN
    #[arg(short, long, value_name = "FILTER")]
    pub(super) filter: Vec<String>,
    /// Print a JSON list
    #[arg(long)]
    pub(super) json: bool,
    /// Print by a template, such as '{{.Repository}}:{{.Tag}}', or `json`
    #[arg(long, value_name = "TEMPLATE")]
    pub(super) format: Option<String>,
    /// Only those of this name
    pub(super) image: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct RemoveArgs {
    /// All images
    #[arg(short, long, conflicts_with = "images")]
    pub(super) all: bool,
    /// Also where an image has several names
    #[arg(short, long)]
    pub(super) force: bool,
    /// No failure where there is no such image
    #[arg(short, long)]
    pub(super) ignore: bool,
    /// Names or ids
    #[arg(required_unless_present = "all", value_name = "IMAGE")]
    pub(super) images: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct PruneArgs {
    /// All that no container uses, not only those without a name
    #[arg(short, long)]
    pub(super) all: bool,
    /// Accepted for scripts: nothing is asked
    #[arg(short, long)]
    pub(super) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// Print by a template, such as '{{.Config.Cmd}}', or `json`
    #[arg(short, long, value_name = "TEMPLATE")]
    pub(super) format: Option<String>,
    /// Names or ids
    #[arg(required = true, value_name = "IMAGE")]
    pub(super) images: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct HistoryArgs {
    /// Whole lines
    #[arg(long)]
    pub(super) no_trunc: bool,
    /// Print a JSON list
    #[arg(long)]
    pub(super) json: bool,
    /// Print by a template, or `json`
    #[arg(long, value_name = "TEMPLATE")]
    pub(super) format: Option<String>,
    /// Name or id
    pub(super) image: String,
}

#[derive(Debug, Args)]
pub(crate) struct TagArgs {
    /// Name or id
    pub(super) image: String,
    /// New names
    #[arg(required = true, value_name = "NAME")]
    pub(super) names: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct UntagArgs {
    /// Name or id
    pub(super) image: String,
    /// Names to take away [default: all]
    #[arg(value_name = "NAME")]
    pub(super) names: Vec<String>,
}
