//! Where large bodies are kept: a file in memory that the kernel sends from without a copy (`sendfile`).
//!
//! The file is mapped once, as one region of addresses that is larger than all that may be stored; only what is in use
//! takes memory. A body has a range of whole pages, is written once, and is read by everybody through the mapping.
//!
//! **Why no answer can be altered by what comes after it.** What `sendfile` hands to a socket are the pages themselves,
//! which may wait there, or be sent again, long after the last handle of the body is gone. So a range is punched out of
//! the file before it is given to another body: its pages leave the file, and live on, unchanged, for as long as a packet
//! holds them; the other body gets new ones. That needs pages that are as small as the ranges are aligned to, for of a
//! larger one a part would be blanked where it stands: the mapping, through which alone pages come into being, is told to
//! have none (`MADV_NOHUGEPAGE`). If punching fails, the range is never given out again.
#![allow(unsafe_code, reason = "reads and writes the mapping by address; see DESIGN.md")]

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use memmap2::{Advice, MmapOptions, MmapRaw};
use offset_allocator::{Allocation, Allocator};
use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags, fallocate, fcntl_add_seals, ftruncate, memfd_create};

/// Shorter bodies stay on the heap: to send them, one copy is less than one more call of the kernel.
pub const LEAST: usize = 32 << 10;

/// Addresses for each byte that may be stored: what readers still hold, and the gaps between ranges, need some too.
const REGION: u64 = 2;

/// Bodies in a file in memory.
pub struct Arena {
    file: OwnedFd,
    map: MmapRaw,
    page: usize,
    free: Mutex<Allocator>,
}

impl fmt::Debug for Arena {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Arena").field("length", &self.map.len()).finish_non_exhaustive()
    }
}

impl Arena {
    /// An empty one for so many bytes; takes addresses, and no memory.
    ///
    /// # Errors
    /// The system has no such files, or not enough addresses.
    pub fn new(capacity: u64) -> io::Result<Arc<Self>> {
        let page = rustix::param::page_size();
        let pages = capacity.saturating_mul(REGION).div_ceil(page as u64);
        let pages = u32::try_from(pages).unwrap_or(u32::MAX / 2);
        let length = pages as usize * page;
        let fsize = rustix::process::getrlimit(rustix::process::Resource::Fsize);
        if fsize.current.is_some_and(|most| most < length as u64) {
            return Err(io::Error::other("files may not be that large (ulimit -f)"));
        }
        let file = memfd_create("everfresh-bodies", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        ftruncate(&file, length as u64)?;
        // A page that is gone under the mapping would end the process.
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        let map = MmapOptions::new().len(length).no_reserve_swap().map_raw(&file)?;
        map.advise(Advice::NoHugePage)?;
        // Whether this kernel can be asked for pages, and take them back.
        map.advise_range(Advice::PopulateWrite, 0, page)?;
        punch(&file, 0, page)?;
        // At the least, each other range is a gap.
        let most = (length / LEAST).saturating_mul(2).clamp(16, 1 << 22);
        let free = Mutex::new(Allocator::with_max_allocs(pages, most as u32));
        Ok(Arc::new(Self { file, map, page, free }))
    }

    /// The bytes one after the other, copied to where they can be sent from; `None` if there is no room.
    pub fn keep(self: &Arc<Self>, chunks: &[Bytes]) -> Option<Bytes> {
        let length: usize = chunks.iter().map(Bytes::len).sum();
        let pages = length.div_ceil(self.page);
        let taken = self.free.lock().unwrap_or_else(PoisonError::into_inner).allocate(u32::try_from(pages).ok()?)?;
        let at = taken.offset as usize * self.page;
        let body = Body { arena: Arc::clone(self), taken, at, length, pages };
        // All pages at once, and an error here where there is no memory, instead of a signal below.
        self.map.advise_range(Advice::PopulateWrite, at, pages * self.page).ok()?;
        let mut to = at;
        for chunk in chunks {
            debug_assert!(to + chunk.len() <= at + pages * self.page && at + pages * self.page <= self.map.len());
            // SAFETY: within the mapping, which is longer than any range given out; nobody else reads or writes this range,
            // which is `body`'s alone, and `body` has not been handed out.
            unsafe { std::ptr::copy_nonoverlapping(chunk.as_ptr(), self.map.as_mut_ptr().add(to), chunk.len()) };
            to += chunk.len();
        }
        Some(Bytes::from_owner(body))
    }

    /// The bytes of memory that a body of so many takes here.
    pub fn room(&self, length: usize) -> u64 {
        length.next_multiple_of(self.page) as u64
    }

    /// Where in the file these bytes stand, if they are of a body that is kept here.
    pub fn offset_of(&self, bytes: &[u8]) -> Option<u64> {
        let at = (bytes.as_ptr() as usize).checked_sub(self.map.as_ptr() as usize)?;
        (at < self.map.len()).then_some(at as u64)
    }
}

impl AsFd for Arena {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn punch(file: &OwnedFd, at: usize, length: usize) -> io::Result<()> {
    let how = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    loop {
        match fallocate(file, how, at as u64, length as u64) {
            Err(rustix::io::Errno::INTR) => {}
            done => return Ok(done?),
        }
    }
}

/// A range of the mapping that belongs to one body.
struct Body {
    arena: Arc<Arena>,
    taken: Allocation,
    at: usize,
    length: usize,
    pages: usize,
}

impl AsRef<[u8]> for Body {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: within the mapping, which lives as long as `arena`, and filled: a body is handed out once it has been
        // written. Nobody writes there until it is dropped: the range is its alone, and the file is known to nobody else.
        unsafe { std::slice::from_raw_parts(self.arena.map.as_ptr().add(self.at), self.length) }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        match punch(&self.arena.file, self.at, self.pages * self.arena.page) {
            Ok(()) => self.arena.free.lock().unwrap_or_else(PoisonError::into_inner).free(self.taken),
            // Packets may hold these pages: whoever wrote there next would write into them.
            Err(error) => tracing::warn!("memory of a body cannot be given back: {error}"),
        }
    }
}
