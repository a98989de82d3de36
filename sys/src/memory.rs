//! Memory that an idle process can do without.

use std::ffi::{c_int, c_void};

use crate::{Errno, Result};

/// Gives back what can be had again when it is needed: the pages of code and constants of this program and
/// of its libraries, which stay in the kernel's cache of their files, and free memory of the heap. What is
/// used again costs a minor fault for each 64 KiB. Some microseconds of work: for a process that has
/// nothing to do.
///
/// A process that is traced keeps all, as the debugger's breakpoints are in such pages. Those of uprobes
/// are lost.
///
/// # Errors
/// What `madvise(2)` answers: `EINVAL` where memory is locked. Nothing is lost.
pub fn give_back() -> Result<()> {
    if is_traced() { Ok(()) } else { give_back_at_once() }
}

/// As [`give_back`], without a look into /proc, which may be somebody else's to make: breakpoints are lost.
///
/// # Errors
/// As [`give_back`].
pub fn give_back_at_once() -> Result<()> {
    let mut outcome: Result<()> = Ok(());
    // SAFETY: the callback is called before this returns, never by another thread, with the pointer that
    // is given here, which nothing else uses meanwhile.
    unsafe { libc::dl_iterate_phdr(Some(give_back_object), (&raw mut outcome).cast()) };
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim(3) may be called by any thread; what is allocated stays where it is.
    unsafe {
        libc::malloc_trim(0)
    };
    outcome
}

/// Whether a debugger is attached; also where /proc can't tell.
fn is_traced() -> bool {
    std::fs::read_to_string("/proc/self/status")
        .map_or(true, |status| !status.lines().any(|line| line == "TracerPid:\t0"))
}

/// Gives back the pages of one object that are as its file has them.
///
/// # Safety
/// `info` is what dl_iterate_phdr(3) hands out; `outcome` leads to a [`Result`] that nobody else uses.
unsafe extern "C" fn give_back_object(
    info: *mut libc::dl_phdr_info,
    _size: usize,
    outcome: *mut c_void,
) -> c_int {
    // SAFETY: the loader's record is there while the callback runs.
    let info = unsafe { &*info };
    // SAFETY: it tells where the program headers are, and how many.
    let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()) };
    let base = info.dlpi_addr as usize;
    // SAFETY: getauxval(3) takes no pointer.
    let page = unsafe { libc::getauxval(libc::AT_PAGESZ) } as usize;
    // SAFETY: as above.
    let vdso = unsafe { libc::getauxval(libc::AT_SYSINFO_EHDR) } as usize;
    let dynamic = headers.iter().find(|h| h.p_type == PT_DYNAMIC);
    let relocated = dynamic.is_some_and(|h| {
        // SAFETY: the object is loaded, and this is where its dynamic section is.
        unsafe { has_text_relocations((base + h.p_vaddr as usize) as *const Dynamic) }
    });
    // The kernel's own object is no file.
    if relocated || page == 0 || base == vdso {
        return 0;
    }
    let pristine =
        headers.iter().filter(|h| h.p_type == libc::PT_LOAD && h.p_flags & libc::PF_W == 0);
    for header in pristine {
        let start = base + header.p_vaddr as usize;
        let end = (start + header.p_filesz as usize) / page * page;
        let start = start.next_multiple_of(page);
        // SAFETY: these are whole pages of a segment of this object, which is mapped while the callback
        // runs: the loader's lock keeps it there. It was mapped from the file, privately, without the
        // right to be written, and no relocation is in it, so each of its pages is as the file has it, and
        // is read from there again when it is touched. The kernel does the same at any moment at which
        // memory is short: nothing can depend on its not being done.
        let r = unsafe {
            libc::madvise(start as *mut c_void, end.saturating_sub(start), libc::MADV_DONTNEED)
        };
        if let Err(e) = Errno::result(r) {
            // SAFETY: as the caller promises.
            unsafe { *outcome.cast::<Result<()>>() = Err(e) };
        }
    }
    0
}

/// `Elf64_Dyn` and `Elf32_Dyn` of elf(5).
#[repr(C)]
struct Dynamic {
    tag: isize,
    value: usize,
}

/// `PT_DYNAMIC` of elf(5).
const PT_DYNAMIC: u32 = 2;

/// Whether the loader has written into what is else only read: `DT_TEXTREL`, or the flag for it.
///
/// # Safety
/// A dynamic section of a loaded object begins at `entry`; its last entry is `DT_NULL`.
unsafe fn has_text_relocations(mut entry: *const Dynamic) -> bool {
    const NULL: isize = 0;
    const TEXTREL: isize = 22;
    const FLAGS: isize = 30;
    const DF_TEXTREL: usize = 4;
    loop {
        // SAFETY: the section goes on until the entry that ends it.
        let Dynamic { tag, value } = unsafe { entry.read() };
        match tag {
            NULL => return false,
            TEXTREL => return true,
            FLAGS if value & DF_TEXTREL != 0 => return true,
            // SAFETY: this was not the last one.
            _ => entry = unsafe { entry.add(1) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of the program's file that are mapped here now.
    fn mapped() -> u64 {
        let text = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
        let field = |name| text.lines().find_map(|l| l.strip_prefix(name)).unwrap_or_default();
        let number = |text: &str| text.trim().trim_end_matches(" kB").parse::<u64>().unwrap();
        number(field("Rss:")) - number(field("Anonymous:"))
    }

    #[test]
    fn what_is_given_back_is_there_again_when_it_is_used() {
        let constants: &[&str] = &["here", "and", "there"];
        let kept = vec![7u8; 1 << 16];
        let before = mapped();
        give_back().unwrap();
        let after = mapped();
        // Other tests use the program meanwhile, and get pages back.
        assert!(after + 512 < before, "{before} kB were mapped, now {after}");
        assert_eq!(constants.join(" "), "here and there");
        assert!(kept.iter().all(|b| *b == 7));
    }
}
