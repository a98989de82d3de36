//! Files that the kernel reads and writes by itself (`FOPEN_PASSTHROUGH`, Linux 6.9).

use std::os::fd::OwnedFd;
use std::sync::Arc;

/// A file that the kernel knows for passthrough, for as long as this lives.
#[derive(Debug)]
pub struct Backing {
    /// The connection, which may end before.
    device: Arc<OwnedFd>,
    id: i32,
}

impl Backing {
    pub(crate) fn open(device: &Arc<OwnedFd>, file: &OwnedFd) -> sys::Result<Backing> {
        let id = sys::fuse::open_backing(&**device, file)?;
        Ok(Backing { device: Arc::clone(device), id })
    }

    /// What replies call it.
    pub fn id(&self) -> i32 {
        self.id
    }
}

impl Drop for Backing {
    fn drop(&mut self) {
        if let Err(e) = sys::fuse::close_backing(&*self.device, self.id) {
            log::debug!("close backing file {}: {}", self.id, e.desc());
        }
    }
}
