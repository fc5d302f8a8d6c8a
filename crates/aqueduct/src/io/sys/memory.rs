//! Memory that two processes share: mapping it, its control words, and copying.
//!
//! One process writes a mapping and the other only reads it, so all accesses to the peer's memory are
//! loads. No reference to the peer's bytes leaves this module by safe code: control words are atomics,
//! and data is copied out, or loaded byte by byte, before anything looks at it.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::ReadBuf;

/// One mapping, until it is dropped.
#[derive(Debug)]
struct Map {
    at: NonNull<u8>,
    len: usize,
}

// SAFETY: a mapping belongs to the process, not to a thread. Its words are accessed as atomics, its
// data by `Room`, which is one per mapping and writes by `&mut self`, and by opaque copies.
unsafe impl Send for Map {}
// SAFETY: as above.
unsafe impl Sync for Map {}

impl Map {
    fn new(fd: impl AsFd, len: usize, protection: libc::c_int) -> io::Result<Self> {
        // SAFETY: a new mapping at an address that the kernel chooses touches no memory of ours; the
        // descriptor is open for the whole call.
        let at = unsafe {
            let fd = fd.as_fd().as_raw_fd();
            libc::mmap(
                std::ptr::null_mut(),
                len,
                protection,
                libc::MAP_SHARED,
                fd,
                0,
            )
        };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let at = NonNull::new(at.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { at, len })
    }

    fn word(&self, offset: usize) -> &AtomicU64 {
        assert!(offset.is_multiple_of(8) && offset + 8 <= self.len);
        // SAFETY: the word is inside of the mapping, which is page-aligned and lives as long as
        // `self`, and every access of this process to it is atomic. Where the mapping is read-only it
        // is only loaded, with `Relaxed`, which atomics permit (`std::sync::atomic`, "Atomic
        // accesses to read-only memory").
        unsafe { &*self.at.as_ptr().add(offset).cast::<AtomicU64>() }
    }

    fn data(&self, offset: usize, len: usize) -> *mut u8 {
        assert!(offset <= self.len && len <= self.len - offset);
        // SAFETY: inside of the mapping, or one past its end if `len` is 0.
        unsafe { self.at.as_ptr().add(offset) }
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: this is the mapping that `new` made, and nothing borrows it any more.
        unsafe { libc::munmap(self.at.as_ptr().cast(), self.len) };
    }
}

/// The words of memory that this process alone writes.
#[derive(Debug)]
pub(crate) struct Own(Arc<Map>);

/// The data of memory that this process alone writes: one for each [`Own`].
#[derive(Debug)]
pub(crate) struct Room {
    map: Arc<Map>,
    from: usize,
}

impl Own {
    /// Maps `len` bytes of a file for writing; the data begins at `data`.
    pub(crate) fn map(fd: impl AsFd, len: usize, data: usize) -> io::Result<(Self, Room)> {
        let map = Arc::new(Map::new(fd, len, libc::PROT_READ | libc::PROT_WRITE)?);
        let room = Room {
            map: Arc::clone(&map),
            from: data,
        };
        Ok((Self(map), room))
    }

    #[inline]
    pub(crate) fn store(&self, offset: usize, value: u64, ordering: Ordering) {
        self.0.word(offset).store(value, ordering);
    }
}

impl Room {
    /// Writes bytes at an offset into the data.
    #[inline]
    pub(crate) fn write(&mut self, at: usize, bytes: &[u8]) {
        let to = self.map.data(self.from + at, bytes.len());
        // SAFETY: `data` has checked the range, and within this process only `self`, which is
        // borrowed for this call, accesses it.
        unsafe { to.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
    }

    /// Lends two ranges of the data, which must not overlap.
    pub(crate) fn parts(&mut self, spans: [(usize, usize); 2]) -> (&mut [u8], &mut [u8]) {
        let [(a, a_len), (b, b_len)] = spans;
        let (a_at, b_at) = (
            self.map.data(self.from + a, a_len),
            self.map.data(self.from + b, b_len),
        );
        assert!(a + a_len <= b || b + b_len <= a || b_len == 0);
        // SAFETY: `data` has checked both ranges and the line above that they are disjoint. The bytes
        // are initialised, as those of every mapping are; no other process may write them, and within
        // this one only `self`, which is borrowed for as long as the slices live, accesses them.
        unsafe {
            let a = std::slice::from_raw_parts_mut(a_at, a_len);
            (a, std::slice::from_raw_parts_mut(b_at, b_len))
        }
    }
}

/// Memory that another process writes, at any moment and with any content.
#[derive(Debug)]
pub(crate) struct Theirs {
    map: Map,
    from: usize,
}

impl Theirs {
    /// Maps `len` bytes of a file for reading; the data begins at `data`. The file must never become
    /// shorter, or a later access raises `SIGBUS`.
    pub(crate) fn map(fd: impl AsFd, len: usize, data: usize) -> io::Result<Self> {
        let map = Map::new(fd, len, libc::PROT_READ)?;
        Ok(Self { map, from: data })
    }

    /// Loads a word; `Relaxed`.
    #[inline]
    pub(crate) fn load(&self, offset: usize) -> u64 {
        self.map.word(offset).load(Ordering::Relaxed)
    }

    /// Loads one byte of the data.
    #[inline]
    pub(crate) fn byte(&self, at: usize) -> u8 {
        let from = self.map.data(self.from + at, 1);
        // SAFETY: `data` has checked that it is inside of the mapping. The load is volatile, so it
        // happens once, whatever the peer writes meanwhile.
        unsafe { from.read_volatile() }
    }

    /// The data itself.
    ///
    /// # Safety
    ///
    /// The peer must not write it for as long as the slice lives.
    pub(crate) unsafe fn slice(&self, at: usize, len: usize) -> &[u8] {
        let from = self.map.data(self.from + at, len);
        // SAFETY: `data` has checked the range, which is mapped for as long as `self` lives; that
        // nothing writes it is the caller's promise.
        unsafe { std::slice::from_raw_parts(from, len) }
    }

    /// Copies data into the unfilled part of `buf`, which must have room for it.
    #[inline]
    pub(crate) fn read(&self, at: usize, len: usize, buf: &mut ReadBuf<'_>) {
        let from = self.map.data(self.from + at, len);
        // SAFETY: only initialised bytes are written, so nothing is ever de-initialised.
        let to = unsafe { buf.unfilled_mut() };
        assert!(len <= to.len());
        // SAFETY: `data` has checked the source and the line above the target, which is ours alone.
        // The first `len` unfilled bytes are written before they count.
        unsafe {
            copy_out(from, to.as_mut_ptr().cast(), len);
            buf.assume_init(len);
        }
        buf.advance(len);
    }
}

/// Copies bytes that another process may be writing.
///
/// The loads are in assembly: the compiler knows nothing of them, so it can neither repeat one nor
/// assume that two of them agree.
///
/// # Safety
///
/// `from` must be valid for reads and `to` for writes of `len` bytes, and they must not overlap.
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline]
unsafe fn copy_out(from: *const u8, to: *mut u8, len: usize) {
    use std::arch::asm;

    /// Copies one piece of 1, 2, 4 or 8 bytes.
    macro_rules! piece {
        ($from:expr, $to:expr, $register:ident, $size:literal) => {{
            let (from, to): (*const u8, *mut u8) = ($from, $to);
            asm!(
                concat!("mov {t:", $size, "}, [{s}]"),
                concat!("mov [{d}], {t:", $size, "}"),
                s = in(reg) from, d = in(reg) to, t = out($register) _,
                options(nostack, preserves_flags),
            );
        }};
    }
    // SAFETY: every load and store is within the `len` bytes at `from` and `to`: the whole pieces in
    // order, then one that ends with the last byte, where it overlaps the one before.
    unsafe {
        match len {
            0 => {}
            16.. => {
                let (mut s, mut d, mut n) = (from, to, len);
                if n >= 64 {
                    asm!(
                        "2:",
                        "movdqu {a}, [{s}]",
                        "movdqu {b}, [{s} + 16]",
                        "movdqu {c}, [{s} + 32]",
                        "movdqu {e}, [{s} + 48]",
                        "movdqu [{d}], {a}",
                        "movdqu [{d} + 16], {b}",
                        "movdqu [{d} + 32], {c}",
                        "movdqu [{d} + 48], {e}",
                        "add {s}, 64",
                        "add {d}, 64",
                        "sub {n}, 64",
                        "cmp {n}, 64",
                        "jae 2b",
                        s = inout(reg) s, d = inout(reg) d, n = inout(reg) n,
                        a = out(xmm_reg) _, b = out(xmm_reg) _,
                        c = out(xmm_reg) _, e = out(xmm_reg) _,
                        options(nostack),
                    );
                }
                while n > 0 {
                    // The last one may overlap what is already copied.
                    let back = 16_usize.saturating_sub(n);
                    let (from, to) = (s.sub(back), d.sub(back));
                    asm!(
                        "movdqu {a}, [{s}]",
                        "movdqu [{d}], {a}",
                        s = in(reg) from, d = in(reg) to, a = out(xmm_reg) _,
                        options(nostack, preserves_flags),
                    );
                    let step = n.min(16);
                    (s, d, n) = (s.add(step), d.add(step), n - step);
                }
            }
            8.. => {
                piece!(from, to, reg, "r");
                piece!(from.add(len - 8), to.add(len - 8), reg, "r");
            }
            4.. => {
                piece!(from, to, reg, "e");
                piece!(from.add(len - 4), to.add(len - 4), reg, "e");
            }
            _ => {
                for i in 0..len {
                    to.add(i).write(from.add(i).read_volatile());
                }
            }
        }
    }
}

/// Copies bytes that another process may be writing, by volatile loads.
///
/// # Safety
///
/// `from` must be valid for reads and `to` for writes of `len` bytes, and they must not overlap.
#[cfg(any(not(target_arch = "x86_64"), miri))]
unsafe fn copy_out(from: *const u8, to: *mut u8, len: usize) {
    let mut done = 0;
    // SAFETY: every load and store is within the `len` bytes at `from` and `to`; words are loaded
    // where they are aligned, and stored as they lie.
    unsafe {
        while done < len {
            let at = from.add(done);
            if at.cast::<u64>().is_aligned() && len - done >= 8 {
                let word = at.cast::<u64>().read_volatile();
                to.add(done).cast::<u64>().write_unaligned(word);
                done += 8;
            } else {
                to.add(done).write(at.read_volatile());
                done += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_and_offset_is_copied_exactly() {
        let source: Vec<u8> = (0..400_usize).map(|i| (i * 7 + 3) as u8).collect();
        let lengths: Vec<usize> = if cfg!(miri) {
            vec![0, 1, 3, 7, 8, 9, 15, 16, 17, 64, 100]
        } else {
            (0..300).collect()
        };
        for len in lengths {
            for (skip, into) in [(0, 0), (1, 0), (0, 3), (7, 5), (15, 9)] {
                let mut target = vec![0xAA_u8; 400];
                // SAFETY: both ranges are within their vectors.
                unsafe {
                    let to = target.as_mut_ptr().add(into);
                    copy_out(source.as_ptr().add(skip), to, len);
                }
                assert_eq!(target[into..into + len], source[skip..skip + len]);
                let around = target[..into].iter().chain(&target[into + len..]);
                assert!(around.into_iter().all(|it| *it == 0xAA), "{len}");
            }
        }
    }

    #[test]
    #[cfg(not(miri))]
    fn words_and_data_written_here_are_read_there() {
        let file = tempfile::tempfile().expect("a file");
        file.set_len(8192).expect("it grows");
        let (own, mut room) = Own::map(&file, 8192, 4096).expect("it is mapped");
        let theirs = Theirs::map(&file, 8192, 4096).expect("it is mapped");
        own.store(128, 42, Ordering::Release);
        assert_eq!(theirs.load(128), 42);
        room.write(1000, b"hello");
        let mut bytes = [0; 8];
        let mut buf = ReadBuf::new(&mut bytes);
        theirs.read(1000, 5, &mut buf);
        assert_eq!(buf.filled(), b"hello");
    }

    #[test]
    #[should_panic]
    #[cfg(not(miri))]
    fn a_range_beyond_the_mapping_panics() {
        let file = tempfile::tempfile().expect("a file");
        file.set_len(8192).expect("it grows");
        let theirs = Theirs::map(&file, 8192, 4096).expect("it is mapped");
        let mut bytes = [0; 8];
        theirs.read(4090, 8, &mut ReadBuf::new(&mut bytes));
    }
}
