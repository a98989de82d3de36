//! From the identity that a layer gives an object to the inode number that the union shows.

use parking_lot::RwLock;

/// Number of an inode, which is also its FUSE node id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ino(pub u64);

/// The node id of the root, fixed by the protocol.
pub const ROOT: Ino = Ino(1);

/// Bits left to a file system's own numbers; the ones above tell the file systems apart, as with
/// overlayfs's `xino`.
const OWN_BITS: u32 = 48;
/// Set in numbers that had to be hashed, as they didn't fit.
const HASHED: u64 = 1 << 63;

/// Gives each file system below the union an index, and each object a number from it.
#[derive(Debug, Default)]
pub struct Numbers {
    /// By their indices. There are few.
    devices: RwLock<Vec<u64>>,
}

/// One file system, whose objects get numbers.
#[derive(Clone, Copy, Debug)]
pub struct Device {
    index: u64,
}

impl Numbers {
    /// Knows the devices in this order, so that numbers are the same at each mount.
    pub fn new(devices: impl IntoIterator<Item = u64>) -> Numbers {
        let numbers = Numbers::default();
        for d in devices {
            numbers.index(d);
        }
        numbers
    }

    fn index(&self, dev: u64) -> u64 {
        let position = |all: &[u64]| all.iter().position(|d| *d == dev);
        let known = position(&self.devices.read());
        let index = known.unwrap_or_else(|| {
            let mut all = self.devices.write();
            position(&all).unwrap_or_else(|| {
                all.push(dev);
                all.len() - 1
            })
        });
        index as u64
    }

    /// Returns the file system with this device number.
    pub fn device(&self, dev: u64) -> Device {
        Device { index: self.index(dev) }
    }

    /// Returns the number of the object `ino` on the device `dev`.
    pub fn of(&self, dev: u64, ino: u64) -> u64 {
        self.device(dev).number(ino)
    }
}

impl Device {
    /// Returns the number of its object `ino`.
    pub fn number(self, ino: u64) -> u64 {
        let Device { index } = self;
        let fits = ino < 1 << OWN_BITS && index < 1 << (63 - OWN_BITS);
        let number = index << OWN_BITS | ino;
        // 0 means a negative entry, and 1 the root.
        if fits && number > ROOT.0 { number } else { hashed(index.rotate_left(32) ^ ino) }
    }
}

/// Returns another number for an object whose first choice is taken by another object.
pub fn next_choice(taken: Ino) -> Ino {
    Ino(hashed(taken.0.wrapping_add(0x9e37_79b9_7f4a_7c15)))
}

/// Mixes all bits (the finalizer of SplitMix64) and marks the result as hashed.
fn hashed(x: u64) -> u64 {
    let x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    (x ^ x >> 31) | HASHED
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_file_system_keeps_its_numbers() {
        let n = Numbers::new([7, 9]);
        assert_eq!(n.of(7, 1234), 1234);
        assert_eq!(n.of(9, 1234), 1234 | 1 << OWN_BITS);
    }

    #[test]
    fn reserved_and_large_numbers_are_hashed() {
        let n = Numbers::new([7]);
        for ino in [0, 1, 1 << OWN_BITS, u64::MAX] {
            assert!(n.of(7, ino) & HASHED != 0, "{ino}");
        }
        assert_ne!(n.of(7, 0), n.of(7, 1));
    }

    #[test]
    fn further_choices_differ() {
        let a = Ino(5);
        let b = next_choice(a);
        assert_ne!(a, b);
        assert_ne!(b, next_choice(b));
    }
}
