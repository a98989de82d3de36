//! What the page says besides the table of bodies: where ours is better, what was proven on ours
//! alone, and which test stands for each defect that was measured in other unions.

/// Where ours does more than the kernel's overlayfs, by design.
pub(super) const BETTER: &str = "
## Where unionfs does better than the kernel's overlayfs

- A mapping made before a copy-up sees what is written after it
  (`large::a_mapping_from_before_the_copy_up_sees_new_data`). The kernel's shows the old data for ever.
- Opening for reading and writing copies nothing; the first write does
  (`copyup::opening_for_writing_without_writing_copies_nothing`).
- With `metacopy=on`, a file whose metadata alone was copied keeps its modification time until it is written
  (`large::a_file_of_metadata_alone_keeps_its_time_when_opened_for_writing`); the kernel's gives it the present
  when it is opened.
- Whiteouts and opaque directories of every dialect are read in every layer.
- The mount can have idmapped copies (Linux 6.12, `owners::an_idmapped_copy_of_the_mount_maps_owners`).
- A layer may contain the mount point or the upper layer.
";

/// Limits that depend on the surroundings.
pub(super) const LIMITS: &str = "
## Known limits of unionfs

No row above has `yes` for the kernel with everything on and `no` for ours. Two limits depend on where it
runs:

- Where the upper layer takes only attributes of the user (no privileges: a user namespace), symlinks, FIFOs,
  sockets and devices can't carry a mark. One that was copied up has its number as long as the union is mounted,
  and its upper layer's own after a remount; the kernel's `userxattr` mounts do the same.
- With `xattr_permissions=2`, an upper layer that unionfs begins carries `user.containers.override_stat`, as
  podman's storage does. fuse-overlayfs 1.10 looks for `user.fuseoverlayfs.override_stat`; an upper layer that it
  began is continued under that name by both
  (`owners::fuse_overlayfs_and_we_read_each_others_owners_in_attributes`).
";

/// Tests that ours is alone in; `FILE::NAME`.
pub(super) const ALONE: &[&str] = &[
    "crash::a_kill_at_any_step_leaves_before_or_after",
    "crash::an_error_at_any_step_undoes_everything",
    "lifecycle::a_killed_daemon_leaves_layers_that_mount_again",
    "lifecycle::in_the_foreground_it_stays_until_it_is_unmounted",
    "lifecycle::mount_8_finds_it_by_its_type",
    "lifecycle::parallel_mounts_do_not_disturb_each_other",
    "formats::we_read_what_the_kernel_wrote",
    "formats::the_kernel_reads_what_we_wrote",
    "formats::the_layer_goes_to_and_fro",
    "formats::we_follow_the_kernels_redirects_and_metacopies",
    "formats::an_upper_of_a_kernel_mount_becomes_our_lower",
    "formats::we_read_what_fuse_overlayfs_wrote",
    "formats::an_unprivileged_kernel_mount_and_we_read_each_other",
    "formats::five_hundred_layers_are_mounted",
    "formats::colons_commas_and_backslashes_in_paths_are_escaped",
    "rename::with_redirects_we_move_lower_directories",
    "memory::what_the_kernel_forgets_is_forgotten",
    "owners::fuse_overlayfs_and_we_read_each_others_owners_in_attributes",
    "owners::fuse_overlayfs_reads_the_owners_of_an_upper_that_we_began",
    "owners::an_idmapped_copy_of_the_mount_maps_owners",
    "namespaced::every_body_that_can_holds_in_a_user_namespace",
    "sqlite::databases_survive_copy_up_under_many_processes",
    "rootless::in_a_user_namespace_everything_works",
    "rootless::with_subordinate_ids_owners_are_kept",
    "rootless::whiteouts_of_an_unprivileged_mount_last",
    "differential::every_operation_does_what_the_kernel_does",
    "differential::with_redirects_and_metacopies_too",
    "differential::a_layer_that_goes_to_and_fro_keeps_tree_and_inode_numbers",
    "differential::an_upper_layer_means_the_same_to_us_and_to_the_kernel",
];

/// Defects that were measured in fuse-overlayfs 1.10, 1.17 and 2.0.
pub(super) const DEFECTS: &[(&str, &str)] = &[
    (
        "Writes to two names of a lower file are lost",
        "identity::writes_to_one_name_are_read_by_all",
    ),
    (
        "Link counts before any write",
        "identity::lower_hard_links_have_one_inode_and_the_right_count",
    ),
    (
        "Count and inode of a new name of a lower file",
        "identity::a_new_name_of_a_lower_file_counts",
    ),
    (
        "Deleted files come back after `rm -r` and `mkdir`",
        "whiteout::a_removed_tree_stays_removed_when_its_directory_is_made_again",
    ),
    (
        "`fstat`, `ftruncate`, `fchmod`, `fchown`, `futimens` of an unlinked open file",
        "unlinked::a_copied_up_file_works_on",
    ),
    ("The umask is ignored", "metadata::the_umask_is_taken_off"),
    (
        "Modes 0700, 2775, 1777 of a directory after copy-up",
        "copyup::directories_keep_mode_owner_and_time_when_a_child_is_copied_up",
    ),
    (
        "A set-group-id directory's group isn't inherited",
        "metadata::a_setgid_directory_gives_its_group",
    ),
    ("The set-user-id bit is lost by copy-up", "copyup::the_suid_bit_survives_a_change_of_times"),
    ("Owner and time of a symlink are lost by copy-up", "copyup::a_symlink_keeps_owner_and_time"),
    (
        "EIO from `link` or `chown` of a lower FIFO or device",
        "copyup::fifos_and_devices_can_be_linked_and_changed",
    ),
    (
        "The set-user-id bit stays after a stranger's write",
        "metadata::a_users_write_clears_set_id_bits",
    ),
    ("O_TMPFILE", "nameless::o_tmpfile_makes_a_nameless_file"),
    ("Rename of a lower directory", "rename::a_directory_with_a_lower_part_gives_exdev"),
    ("The same with `redirect_dir=on`", "rename::with_redirects_we_move_lower_directories"),
    (
        "Old content in a re-created directory that is moved away",
        "whiteout::moving_away_a_directory_that_was_made_again_shows_nothing_old",
    ),
    (
        "A deleted file is back after a directory is moved over an emptied one",
        "whiteout::a_directory_moved_over_an_emptied_one_hides_it",
    ),
    ("ENOENT from RENAME_EXCHANGE of two lower files", "rename::two_lower_files_are_exchanged"),
    (
        "EEXIST from RENAME_NOREPLACE onto a deleted name",
        "rename::noreplace_replaces_nothing_but_takes_a_deleted_name",
    ),
    ("A file `.wh.foo` hides `foo`", "whiteout::a_file_called_like_a_whiteout_hides_nothing"),
    ("`mknod c 0 0` makes a whiteout", "whiteout::nobody_can_make_a_whiteout_device"),
    ("EIO from `lsattr`", "xattr::file_flags_can_be_read_and_set"),
    (
        "Inode numbers change with copy-up and remount",
        "identity::inode_numbers_survive_copy_up_rename_and_remount",
    ),
    ("A default ACL isn't inherited", "metadata::default_acls_are_inherited_instead_of_the_umask"),
    ("EINVAL for attribute names that aren't UTF-8", "xattr::any_bytes_may_be_in_names_and_values"),
    ("Attributes of a dangling symlink", "xattr::attributes_of_a_dangling_symlink_are_its_own"),
    ("A sparse file of 200 MiB takes 200 MiB after copy-up", "copyup::holes_stay_holes"),
    ("A full disk leaves a temporary file", "copyup::a_full_disk_leaves_the_file_as_it_was"),
    (
        "Stale temporary files get into the next copy-up",
        "copyup::leftovers_of_a_crash_in_the_work_directory_do_no_harm",
    ),
    (
        "`rm -r` leaves entries in the work directory",
        "whiteout::nothing_is_left_in_the_work_directory",
    ),
    (
        "`stat` waits while another file is copied up",
        "large::other_files_are_served_while_one_is_copied_up",
    ),
    ("The kernel's overlayfs on top", "formats::overlayfs_can_lie_on_it"),
    ("The kernel's overlayfs as a lower layer", "formats::it_can_lie_on_overlayfs_and_on_itself"),
    ("Mount point `/dev/fd/N`", "lifecycle::the_mount_point_given_as_a_descriptor_is_served"),
    ("SIGTERM leaves a dead mount", "lifecycle::sigterm_and_sigint_unmount"),
    ("Nothing is freed when the kernel forgets", "memory::what_the_kernel_forgets_is_forgotten"),
    ("`rm` of a lower file copies it up first", "copyup::removing_copies_nothing_up"),
    ("A name of 255 bytes kills the daemon", "metadata::names_may_have_255_bytes_and_no_more"),
    ("A descriptor for each mapped file", "large::ten_thousand_mapped_files_hold_few_descriptors"),
    (
        "`chmod` of a lower file of 300 MiB with `metacopy=on` copies 300 MiB",
        "large::chmod_with_metacopy_writes_little",
    ),
    (
        "A mapping made before copy-up sees new data",
        "large::a_mapping_from_before_the_copy_up_sees_new_data",
    ),
];
